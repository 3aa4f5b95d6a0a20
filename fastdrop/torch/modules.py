"""torch.nn's dropout modules with fastdrop's masks and an optional generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar, cast

import torch.fx
from torch import Generator, Tensor, nn

from . import functional as F  # noqa: N812

__all__ = [
    "AlphaDropout",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
    "convert",
]

_is_scripting: Final = torch.jit.is_scripting  # type: ignore[attr-defined]

AnyModule = TypeVar("AnyModule", bound=nn.Module)


class _WithGenerator(nn.modules.dropout._DropoutNd):
    """What the modules add to torch's: the generator of the masks."""

    # TorchScript knows no generators. As a constant, only None is valid.
    __constants__ = ["p", "inplace", "generator"]  # noqa: RUF012

    def __init__(
        self, p: float = 0.5, inplace: bool = False, *, generator: Generator | None = None
    ) -> None:
        super().__init__(p, inplace)
        self.generator = generator

    def _by(self, function: Callable[..., Tensor], input: Tensor, inplace: bool = False) -> Tensor:
        if isinstance(input, torch.fx.Proxy) and hasattr(input.tracer, "path_of_module"):
            # In a graph it stays a module, because it has a mode and a generator.
            path = input.tracer.path_of_module(self)
            return input.tracer.create_proxy("call_module", path, (input,), {})
        return function(input, self.p, self.training, inplace, generator=self.generator)


class Dropout(_WithGenerator, nn.Dropout):
    """`torch.nn.Dropout` with fastdrop's masks.

    Parameters
    ----------
    p : float, optional
        Drop probability, 0 <= p <= 1.
    inplace : bool, optional
        Write into the input.
    generator : torch.Generator, optional
        The generator of the masks; torch's default CPU generator if None.

    Raises
    ------
    ValueError
        If `p` is outside [0, 1].

    References
    ----------
    G. E. Hinton, N. Srivastava, A. Krizhevsky, I. Sutskever, R. R.
    Salakhutdinov, "Improving neural networks by preventing co-adaptation of
    feature detectors", arXiv:1207.0580, 2012.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> layer = fastdrop.torch.Dropout(p=0.2)
    >>> layer(torch.ones(2, 3)).shape
    torch.Size([2, 3])
    >>> layer
    Dropout(p=0.2, inplace=False)
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return `input` with elements dropped; `input` itself in eval mode."""
        if _is_scripting():
            return nn.functional.dropout(input, self.p, self.training, self.inplace)
        else:  # TorchScript leaves this branch out
            return self._by(F.dropout, input, self.inplace)


class Dropout1d(_WithGenerator, nn.Dropout1d):
    """`torch.nn.Dropout1d` with fastdrop's masks: whole channels of (N, C, L) or (C, L)."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `input` with channels dropped; `input` itself in eval mode."""
        if _is_scripting():
            return nn.functional.dropout1d(input, self.p, self.training, self.inplace)
        else:  # TorchScript leaves this branch out
            return self._by(F.dropout1d, input, self.inplace)


class Dropout2d(_WithGenerator, nn.Dropout2d):
    """`torch.nn.Dropout2d` with fastdrop's masks: whole channels of (N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `input` with channels dropped; `input` itself in eval mode."""
        if _is_scripting():
            return nn.functional.dropout2d(input, self.p, self.training, self.inplace)
        else:  # TorchScript leaves this branch out
            return self._by(F.dropout2d, input, self.inplace)


class Dropout3d(_WithGenerator, nn.Dropout3d):
    """`torch.nn.Dropout3d` with fastdrop's masks: channels of (N, C, D, H, W) or (C, D, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `input` with channels dropped; `input` itself in eval mode."""
        if _is_scripting():
            return nn.functional.dropout3d(input, self.p, self.training, self.inplace)
        else:  # TorchScript leaves this branch out
            return self._by(F.dropout3d, input, self.inplace)


class AlphaDropout(_WithGenerator, nn.AlphaDropout):
    """`torch.nn.AlphaDropout` with fastdrop's masks: keeps mean 0 and variance 1 after SELU."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `input` with elements saturated; `input` itself in eval mode."""
        # torch's own modules of this kind ignore `inplace` too.
        if _is_scripting():
            return nn.functional.alpha_dropout(input, self.p, self.training)
        else:  # TorchScript leaves this branch out
            return self._by(F.alpha_dropout, input)


class FeatureAlphaDropout(_WithGenerator, nn.FeatureAlphaDropout):
    """`torch.nn.FeatureAlphaDropout` with fastdrop's masks: `AlphaDropout` of whole channels."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `input` with channels saturated; `input` itself in eval mode."""
        if _is_scripting():
            return nn.functional.feature_alpha_dropout(input, self.p, self.training)
        else:  # TorchScript leaves this branch out
            return self._by(F.feature_alpha_dropout, input)


CONVERTED: Final[dict[type[nn.Module], type[_WithGenerator]]] = {
    nn.Dropout: Dropout,
    nn.Dropout1d: Dropout1d,
    nn.Dropout2d: Dropout2d,
    nn.Dropout3d: Dropout3d,
    nn.AlphaDropout: AlphaDropout,
    nn.FeatureAlphaDropout: FeatureAlphaDropout,
}


def convert(model: AnyModule, *, generator: Generator | None = None) -> AnyModule:
    """Change torch's dropout modules inside a model into fastdrop's, in place.

    The modules stay the same objects, with their hooks and modes. Subclasses
    of torch's modules do not change, nor do dropouts that are not modules,
    such as the ones inside `torch.nn.MultiheadAttention` and `torch.nn.LSTM`.
    `fastdrop.torch.enable` replaces those too.

    Parameters
    ----------
    model : torch.nn.Module
    generator : torch.Generator, optional
        The generator of all their masks.

    Returns
    -------
    torch.nn.Module
        `model` itself.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> model = fastdrop.torch.convert(torch.nn.Sequential(torch.nn.Dropout(0.1)))
    >>> type(model[0]).__module__
    'fastdrop.torch.modules'
    """
    for module in model.modules():
        converted = CONVERTED.get(type(module))
        if converted is not None:
            module.__class__ = converted
            cast(_WithGenerator, module).generator = generator
    return model

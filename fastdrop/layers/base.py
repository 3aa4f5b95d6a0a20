"""What every layer has: a mode, a generator, a mask that survives, and state that does."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

from .. import backends
from ..arrays import Array, check_array, identity, prepare
from ..backends import Draw
from ..backends.form import SCALE, Form
from ..checks import is_same, shown
from ..mask_format import FORMAT, Rate, rate
from ..masks.mask import Mask, apply_draw
from ..rng import AnyRNG, as_rng, default_rng
from ..rng.numpy_adapter import NumpyRNG
from ..sharing import Strides, c_strides, mask_strides

if TYPE_CHECKING:
    from ..rng import RNGLike

Drawn = tuple[Any, ...]  # what a layer's `_mask_of` makes a mask of
Shape = tuple[int, ...]


class Layer(ABC):
    """A layer with train and eval mode that owns its generator.

    A subclass names its settings, each an attribute: `repr` and `state_dict` go by
    them. And it says what it draws, what it writes, and what evaluates that again;
    when, and what the backward pass does with it, is said here.

    A user's subclass may have a constructor of its own, and a `forward`, which
    calls run and whose ``super().forward(x)`` drops.
    """

    _settings: ClassVar[tuple[str, ...]] = ("inplace", "always")
    _takes_complex: ClassVar[bool] = True
    _own_forward: ClassVar[bool] = False  # whether a user wrote what a call runs
    _newest: Drawn | None  # None before the first forward and after an identity
    _passed: Shape | None  # the newest identity's

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Have calls run the nearest `forward`: itself, so that looking for it costs nothing."""
        super().__init_subclass__(**kwargs)
        nearest = next(c.__dict__ for c in cls.__mro__ if {"__call__", "forward"} & {*c.__dict__})
        if nearest.get("__call__") is not nearest.get("forward"):
            cls._own_forward = True
        if "__call__" not in nearest:
            cls.__call__ = cls.forward  # type: ignore[method-assign]

    def __init__(self, inplace: bool, always: bool, rng: RNGLike) -> None:
        self.inplace = bool(inplace)
        self.always = bool(always)
        self.training = True
        self._rng: AnyRNG | None = None if rng is None else as_rng(rng)
        self._forget()

    @property
    def rng(self) -> AnyRNG:
        """The generator that random numbers are drawn from."""
        return self._rng or default_rng()

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode, or to eval mode with ``mode=False``; return self."""
        self.training = bool(mode)
        return self

    def eval(self) -> Self:
        """Switch to eval mode; return self."""
        return self.train(False)

    # What a subclass provides.

    @abstractmethod
    def _is_identity(self) -> bool:
        """Return whether there is nothing to do in training mode."""

    def _noise_shape(self, shape: Shape) -> Shape:
        """Return the shape to draw random numbers over for x of `shape`, or raise."""
        return shape

    @abstractmethod
    def _draw(self, noise_shape: Shape, x: Array, out: Array) -> Drawn:
        """Write the output for x, checked arrays, and return what the mask is made of."""

    @abstractmethod
    def _nothing(self, shape: Shape) -> Drawn:
        """Return the same for an identity."""

    @abstractmethod
    def _mask_of(self, drawn: Drawn) -> Any:
        """Return the mask: its `apply` makes the gradient of x of one of the output."""

    # What it gets.

    @property
    def mask(self) -> Any:
        """The newest forward's mask; None before the first and after an identity."""
        newest = self._newest  # read once: another thread's forward may replace it
        return None if newest is None else self._mask_of(newest)

    def forward(self, x: Array, out: Array | None = None) -> Array:
        """Return the layer's output for `x`, or `x` itself in eval mode and for p = 0.

        Parameters
        ----------
        x : ndarray
            Dtypes as for `dropout`.
        out : ndarray, optional
            Where to write: of x's shape and dtype; `x` itself, or no overlap.

        Returns
        -------
        ndarray
            `out`, or `x` if `inplace`, or a new array in x's layout.
        """
        return self._run(x, out)[0]

    __call__ = forward

    def forward_mask(self, x: Array, out: Array | None = None) -> tuple[Array, Any]:
        """Return ``self(x, out)`` and its mask, for a backward of its own.

        ``mask.apply(grad)`` is that forward's `backward`, whatever forwards come
        in between, also from other threads; after an identity the mask keeps all.
        Of a subclass with its own `forward` it is the mask that this drew last.

        Examples
        --------
        >>> import numpy as np, fastdrop
        >>> layer = fastdrop.Dropout(p=0.5, rng=0)
        >>> y1, mask1 = layer.forward_mask(np.ones(4))
        >>> y2, mask2 = layer.forward_mask(np.ones(4))
        >>> bool((mask1.apply(np.ones(4)) == y1).all())
        True
        """
        if self._own_forward:
            return self._call_alone(x, out)
        y, drawn = self._run(x, out)
        return y, self._mask_of(self._nothing(x.shape) if drawn is None else drawn)

    def _call_alone(self, x: Array, out: Array | None) -> tuple[Array, Any]:
        """Return what a call returns, and its mask."""
        # A copy is called, for whose newest mask it is no other thread can change.
        alone = copy.copy(self)
        alone._forget()
        before = dict(vars(alone))
        y = alone(x) if out is None else alone(x, out)
        vars(self).update(
            (name, value) for name, value in vars(alone).items() if before.get(name) is not value
        )
        drawn = alone._newest
        if drawn is None:
            if alone._passed is None:
                raise RuntimeError(
                    f"{type(self).__name__}.forward must call its base's forward for a mask, "
                    "but did not"
                )
            drawn = self._nothing(alone._passed)
        return y, self._mask_of(drawn)

    def backward(self, grad: Array, out: Array | None = None) -> Array:
        """Return the gradient with respect to the newest forward's input.

        The forward's mask is evaluated again: ``grad * scale`` where it kept,
        +0.0 elsewhere, and `grad` itself after an identity.

        Parameters
        ----------
        grad : ndarray
            Gradient with respect to the output, of its shape.
        out : ndarray, optional
            Where to write; `grad` itself is allowed.
        """
        newest = self._newest  # read once: another thread's forward may replace it
        if newest is not None:
            return self._mask_of(newest).apply(grad, out)  # type: ignore[no-any-return]
        shape = self._passed
        if shape is None:
            raise RuntimeError("backward needs a forward before it, but there was none")
        check_array(grad, "grad")
        if grad.shape != shape:
            raise ValueError(f"grad must have the forward's shape {shape}, but got {grad.shape}")
        return identity(grad, False, out)

    def _check(self, x: Array) -> None:
        """Raise an error unless x is an array that the layer takes."""
        check_array(x)
        if not self._takes_complex and x.dtype.kind == "c":
            raise TypeError(
                f"x must be of a real dtype for {type(self).__name__}, but got {x.dtype}"
            )

    def _run(self, x: Array, out: Array | None) -> tuple[Array, Drawn | None]:
        self._check(x)
        noise_shape = self._noise_shape(x.shape)
        if not self._draws():
            return self._pass(x, out), None
        y = prepare(x, self.inplace, out)
        drawn = self._draw(noise_shape, x, y)
        self._newest = drawn
        return y, drawn

    def _draws(self) -> bool:
        """Return whether a forward draws random numbers now."""
        return (self.training or self.always) and not self._is_identity()

    def _mask_ahead(self, shape: Shape) -> tuple[Any, Form | None]:
        """Return the mask of a forward of x of `shape`, and the form that it writes, if one.

        Random numbers are taken as that forward takes them.
        """
        noise_shape = self._noise_shape(shape)
        if not self._draws():
            self._passed, self._newest = shape, None
            return self._mask_of(self._nothing(shape)), None
        drawn, form = self._ahead(noise_shape, shape)
        self._newest = drawn
        return self._mask_of(drawn), form

    def _ahead(self, noise_shape: Shape, shape: Shape) -> tuple[Drawn, Form | None]:
        """Return what `_draw` returns for x of `shape`, and what would be written."""
        raise NotImplementedError

    def _pass(self, x: Array, out: Array | None) -> Array:
        y = identity(x, self.inplace, out)
        self._passed, self._newest = x.shape, None
        return y

    def _forget(self) -> None:
        """Forget the newest forward."""
        self._newest = self._passed = None

    def reset(self, seed: Any = None) -> Self:
        """Start over with a generator of its own, of the kind it had; return self.

        Parameters
        ----------
        seed : None, int, sequence of int, or numpy.random.SeedSequence, optional
            None draws fresh entropy. Layers that shared the generator keep it.
        """
        rng = self.rng
        if isinstance(rng, NumpyRNG):
            self._rng = NumpyRNG(type(rng.bit_generator)(seed))
        else:
            self._rng = type(rng)(seed)
        self._forget()
        return self

    def spawn(self, n: int) -> list[Self]:
        """Return n layers with these settings and independent generators.

        The same come each time a program runs, and others from each further call.
        """
        children = []
        for rng in self.rng.spawn(n):
            child = copy.copy(self)
            child._rng = rng
            child._forget()
            children.append(child)
        return children

    def state_dict(self) -> dict[str, Any]:
        """Return what an exact resume needs: settings, mode, and the generator's state.

        JSON can hold it, except that of a NumPy bit generator whose own state has arrays.
        """
        settings = {name: getattr(self, name) for name in self._settings}
        for name, value in settings.items():
            if isinstance(value, tuple):
                settings[name] = list(value)  # as JSON will give it back
        return {
            "layer": type(self).__name__,
            "mask_format": FORMAT,
            **settings,
            "training": self.training,
            "rng": self.rng.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a `state_dict`: the next mask is the one that would have come.

        A layer on the default generator sets the default generator's state.

        Raises
        ------
        TypeError
            If `state` is no dictionary, or a setting in it of a type that the
            layer's constructor refuses.
        ValueError
            If its entries are not this layer's or out of range, or it comes from
            another layer, mask format or RNG.

        The layer is then what it was, and so is its generator.
        """
        if not isinstance(state, dict):
            raise TypeError(f"state must be a dictionary, but got {type(state).__name__}")
        needed = {"layer", "mask_format", "training", "rng", *self._settings}
        for fault, names in (("lacks", needed - set(state)), ("also has", set(state) - needed)):
            if names:
                raise ValueError(
                    "state must have the entries of state_dict(), "
                    f"but {fault} {sorted(names, key=str)}"
                )
        if not is_same(state["mask_format"], FORMAT):
            raise ValueError(
                f"state must be of mask format {FORMAT}, but got {shown(state['mask_format'])}"
            )
        if not is_same(state["layer"], type(self).__name__):
            raise ValueError(
                f"state must be one of {type(self).__name__}, "
                f"but got one of {shown(state['layer'])}"
            )
        loaded = copy.copy(self)
        for name in ("training", *self._settings):
            _load_setting(loaded, name, state[name])
        self.rng.state = state["rng"]
        self.__dict__.update(loaded.__dict__)
        self._forget()

    def __repr__(self) -> str:
        settings = ", ".join(
            f"{name}={getattr(self, name)!r}"
            for name in self._settings
            if name in ("p", "inplace") or getattr(self, name) != _default_of(type(self), name)
        )
        return f"{type(self).__name__}({settings})"


def _default_of(layer: type[Layer], name: str) -> Any:
    """Return a setting's default, of the nearest constructor that takes it: a user's may not."""
    import inspect  # some milliseconds that import fastdrop need not take

    for cls in layer.__mro__:
        parameter = inspect.signature(cls).parameters.get(name)
        if parameter is not None:
            return parameter.default
    return inspect.Parameter.empty


def _load_setting(layer: Layer, name: str, value: Any) -> None:
    """Set a setting from a state, or raise TypeError or ValueError."""
    kind = type(getattr(layer, name))
    if kind in (bool, int) and type(value) is not kind:  # those have no setter that checks
        raise ValueError(f"state's {name} must be of type {kind.__name__}, but got {shown(value)}")
    try:
        setattr(layer, name, value)
    except (TypeError, ValueError, OverflowError) as error:
        raised = TypeError if isinstance(error, TypeError) else ValueError
        raise raised(f"state's {name}: {error}") from error


class RateLayer(Layer):
    """A layer with a drop probability."""

    _settings: ClassVar[tuple[str, ...]] = ("p", "inplace", "always")

    def __init__(self, p: float, inplace: bool, always: bool, rng: RNGLike) -> None:
        super().__init__(inplace, always, rng)
        self.p = p

    @property
    def p(self) -> float:
        """Drop probability."""
        return self._rate.p

    @p.setter
    def p(self, p: float) -> None:
        self._rate = rate(p)

    def _is_identity(self) -> bool:
        return self._rate.p == 0.0


class MaskLayer(RateLayer):
    """A layer whose output is a `Form` of its input under a `Mask`.

    A subclass says which elements share, what is written, and with which scale.
    """

    @property
    def mask(self) -> Mask | None:
        """The newest forward's mask; None before the first and after an identity."""
        newest = self._newest  # read once: another thread's forward may replace it
        return None if newest is None else self._mask_of(newest)

    def _scaled(self, rate: Rate) -> Rate:
        """Return the rate with the scale that kept elements get."""
        return rate

    def _form(self, rate: Rate) -> Form:
        """Return what is written."""
        return SCALE

    def _draw(self, noise_shape: Shape, x: Array, out: Array) -> Drawn:
        shape, form = x.shape, self._form(self._rate)
        scaled, strides = self._scaled(self._rate), mask_strides(shape, noise_shape)
        with backends.reserved(self.rng, scaled, math.prod(noise_shape)) as draw:
            if strides is None and form is SCALE:
                backends.apply(draw, x, out)
            else:
                walk = c_strides(shape) if strides is None else strides
                backends.evaluate(draw, walk, form, x, out)
        return draw.stream, draw.position, scaled, shape, 0, strides

    def _ahead(self, noise_shape: Shape, shape: Shape) -> tuple[Drawn, Form | None]:
        rate = self._rate  # read once: another thread may assign p
        form, scaled = self._form(rate), self._scaled(rate)
        drawn = self.rng.reserve(scaled.words(math.prod(noise_shape)))
        return (*drawn, scaled, shape, 0, mask_strides(shape, noise_shape)), form

    def _nothing(self, shape: Shape) -> Drawn:
        return *self.rng.reserve(0), rate(0.0), shape, 0, None

    def _mask_of(self, drawn: Drawn) -> Mask:
        draw, shape, strides = _draw_of(drawn)
        return Mask(draw, shape, strides)

    def backward(self, grad: Array, out: Array | None = None) -> Array:
        """Return the gradient with respect to the newest forward's input: see `Layer.backward`."""
        newest = self._newest
        if newest is None:
            return super().backward(grad, out)
        draw, shape, strides = _draw_of(newest)
        if strides is None:  # small arrays would feel the time that a Mask takes to make
            return apply_draw(draw, shape, grad, out)
        return Mask(draw, shape, strides).apply(grad, out)


def _draw_of(drawn: Drawn) -> tuple[Draw, Shape, Strides | None]:
    # Flat, and in this order, as pickles of layers have it: a forward need not make a Draw.
    stream, position, rate, shape, first, strides = drawn
    return Draw(stream, position, rate, first), shape, strides

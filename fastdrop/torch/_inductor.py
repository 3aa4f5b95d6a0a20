"""How Inductor compiles `fastdrop::masked`: as a mask of numbers, and a product in its own loops.

As an operator of its own, a mask would cost a pass over memory. So Inductor multiplies by
the numbers where it reads the input or uses the output anyway.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import Node
from torch.utils.checkpoint import CheckpointPolicy

from ._internals import UNKNOWN


def prepare() -> None:
    """Register with Inductor, if it is imported, before it compiles a graph with the operator."""
    lowering = sys.modules.get("torch._inductor.lowering")
    if lowering is not None:
        _register(lowering)


@cache
def _register(lowering: Any) -> None:
    try:
        for operator in _masked(), torch.ops.fastdrop.keep.default:
            lowering.make_fallback(operator, warn=False)
        _register_patterns()
    except (AttributeError, ImportError, TypeError) as error:  # the interface is not public
        UNKNOWN.append(f"torch._inductor ({error})")


def _masked() -> Any:
    return torch.ops.fastdrop.masked.default


def _register_patterns() -> None:
    matcher = import_module("torch._inductor.pattern_matcher")
    passes = import_module("torch._inductor.fx_passes.joint_graph")
    call, any_of, aten = matcher.CallFunction, matcher.KeywordArg, torch.ops.aten
    masks = [any_of(name) for name in ("key", "p", "scale")]
    numbers = [any_of(name) for name in ("shift", "dropped")]
    patterns = (
        (
            call(
                aten.where.self,
                call(aten.le.Scalar, any_of("activation"), 0),
                any_of("zero"),
                call(_masked(), any_of("grad"), *masks),
            ),
            _is_after_relu,
            _by_sign,
        ),
        (call(_masked(), any_of("x"), *masks), _is_lowered, _by_bytes),
        (call(_masked(), any_of("x"), *masks, *numbers), _is_lowered, _by_bytes),
    )
    for pattern, check, handler in patterns:
        register = matcher.register_graph_pattern(
            pattern, extra_check=check, pass_dict=passes.patterns
        )
        register(handler)


def _is_lowered(match: Any) -> bool:
    x = match.kwargs["x"].meta["val"]
    return not x.is_complex() and x.device.type == "cpu"


def _by_bytes(match: Any, x: Node, key: Node, **numbers: float) -> None:
    """Replace an operator that Inductor does not know by operators that it knows."""

    def masked(x: Tensor, key: Tensor) -> Tensor:
        return _masked_by_bytes(x, key, **numbers)

    match.replace_by_example(masked, [x, key])
    # The backward pass makes the numbers again. Saved, they would take half the input's memory.
    for user in key.users:
        if user.target is torch.ops.fastdrop.keep.default:
            user.meta["recompute"] = CheckpointPolicy.PREFER_RECOMPUTE


def _masked_by_bytes(
    x: Tensor, key: Tensor, p: float, scale: float, shift: float = 0.0, dropped: float = 0.0
) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    kept = torch.ops.fastdrop.keep(key, x.shape, p).to(wide)
    if shift:
        return torch.where(kept > 0.5, x * scale + shift, dropped)
    # In Inductor's loops, selecting by a mask takes three times as long as a product. With
    # a mask of bool they would branch for each element.
    y: Tensor = x * (kept * scale)
    return y.to(x.dtype)


# Dropout's output is 0 where relu gave 0 and where dropout dropped. So the joint backward pass
# of both uses its sign. It needs neither the mask nor relu's result, which the graph would
# otherwise keep as bool.


def _is_after_relu(match: Any) -> bool:
    return _output_of_relu(**match.kwargs) is not None


def _output_of_relu(
    activation: Node, key: Node, p: float, scale: float, **_: object
) -> Node | None:
    """Return dropout's output if its input is a relu's output, under this mask."""
    while activation.target is torch.ops.aten.alias.default:
        activation = activation.args[0]  # type: ignore[assignment]
    if activation.target is not torch.ops.aten.relu.default:
        return None
    how = activation, key, p, scale
    return next((n for n in activation.users if n.target is _masked() and n.args == how), None)


def _by_sign(match: Any, zero: Node, grad: Node, scale: float, **mask: Any) -> None:
    whole, output = match.output_node(), _output_of_relu(scale=scale, **mask)
    aten: Final = torch.ops.aten
    with whole.graph.inserting_before(whole):
        none = whole.graph.call_function(aten.le.Scalar, (output, 0))
        scaled = whole.graph.call_function(aten.mul.Tensor, (grad, scale))
    none.meta["val"] = output.meta["val"] <= 0  # type: ignore[union-attr]
    scaled.meta["val"] = whole.meta["val"]
    whole.args = (none, zero, scaled)
    match.erase_nodes()

"""One multiplier of a model: which of its places to use, putting it there, taking it away."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch.nn import Conv1d, Conv2d, Conv3d, Linear

from tensorprog.dims import Dim
from tensorprog.errors import TensorProgError
from tensorprog.torch.changes import (
    Absorb,
    Attribute,
    Changes,
    ConfigField,
    InputHook,
    MultiplierChange,
    OutputHook,
    Place,
)  # fmt: skip
from tensorprog.torch.groups import shifts
from tensorprog.torch.hooks import MultiplyInput, MultiplyOutput
from tensorprog.torch.rescale import Range

Module = Any


@dataclass(frozen=True)
class PlacedMultiplier:
    """One multiplier that was put somewhere. `factor`: what the present value was multiplied with; `before`: the number
    that an attribute or a field held; `handle`: that of a hook."""

    change: MultiplierChange
    place: Place
    factor: float
    before: float | None = None
    handle: Any = None


def place_of(m: MultiplierChange, model: Module, changes: Changes, clip: float | None, absorb: bool) -> Place:
    """The cheapest of the multiplier's places that this model has and that is allowed. Raises TensorProgError where
    there is none."""
    places = sorted(m.places, key=lambda place: _cost(model, place, absorb))
    why = "no place in the model is known where it could be put"
    for place in places:
        match place:
            case Absorb(param, axis):
                change = changes.parameter(param)
                if clip is not None:
                    why = ("absorbing it into a weight changes that weight's gradient, and so the global gradient "
                           "norm, which is clipped")  # fmt: skip
                elif axis is not None and any(shifts(change.row).values()):
                    rows = f"{place.start} to {place.stop} (of axis {axis})"
                    why = f"absorbed into `{param}`, rows {rows} would need another learning rate than the others"
                else:
                    return place
            case ConfigField(name):
                if _is_number(getattr(getattr(model, "config", None), name, None)):
                    return place
            case Attribute(module, name):
                if _is_number(getattr(model.get_submodule(module), name, None)):
                    return place
            case _ if clip is not None and m.kind == "range":
                why = f"dividing a range of `{m.param}` changes the global gradient norm, which is clipped"
            case _:
                return place
    where = f"`{m.module}`" if m.module else "the model"
    raise TensorProgError(f"the multiplier {m.name} must scale like {m.needed}, and scales like {m.now}", why=why,
                          fix=f'change it in the code of {where}, or keep=["{m.name}"]')  # fmt: skip


def _cost(model: Module, place: Place, absorb: bool) -> tuple[int, int]:
    """What a place costs in every step: numbers nothing, hooks what they multiply (per token, known for linear layers).
    Absorbing costs nothing, but is wanted only where asked for."""
    match place:
        case Attribute() | ConfigField():
            return 1, 0
        case OutputHook(module) | InputHook(module):
            layer = model.get_submodule(module)
            output = isinstance(place, OutputHook)
            return 2, getattr(layer, "out_features" if output else "in_features", sys.maxsize)
        case Absorb():
            return 0 if absorb else 3, 0


def channel_axis(module: Module, otherwise: int) -> int:
    """The axis, from the end, of the channels in what a module gives; of a linear layer or convolution of PyTorch it is
    known (a graph has no axes of size 1, and may tell positions apart that are one axis)."""
    if isinstance(module, Conv1d | Conv2d | Conv3d):
        return -1 - len(module.kernel_size)
    return -1 if isinstance(module, Linear) else otherwise


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def range_of(place: Absorb | OutputHook | InputHook, sizes: Mapping[str, int]) -> Range:
    """The part of a tensor that a place is, at these sizes."""
    if place.axis is None or place.start is None or place.stop is None:
        return Range()
    blocks = place.blocks if isinstance(place, OutputHook) else Dim.of(1)
    return Range(place.axis, *(int(dim.evaluate(sizes)) for dim in (place.start, place.stop, blocks)))


def put(model: Module, m: MultiplierChange, place: Place, k: float, sizes: Mapping[str, int]) -> PlacedMultiplier:
    """Puts a multiplier into a model: its present value there times k."""
    return PlacedMultiplier(m, place, k, *install(model, place, k, sizes))


def take_away(model: Module, multiplier: PlacedMultiplier) -> None:
    """Removes one multiplier from where it was put (an absorbed one stays where it is)."""
    uninstall(model, multiplier.place, multiplier.before, multiplier.handle)


def install(model: Module, place: Place, k: float, sizes: Mapping[str, int]) -> tuple[float | None, Any]:
    """Multiplies what is at a place by k; what to undo it with: the number that was there, the handle of a hook. An
    absorbed factor goes in with the initial values."""
    match place:
        case Attribute(_, name, power) | ConfigField(name, power):
            holder = _holder(model, place)
            before = getattr(holder, name)
            setattr(holder, name, before * k ** float(1 / power))
            return before, None
        case OutputHook(module, output):
            where = range_of(place, sizes)
            hook = MultiplyOutput(k, output, where.axis, where.start, where.stop, where.blocks)
            return None, model.get_submodule(module).register_forward_hook(hook)
        case InputHook(module, argument):
            owner, where = model.get_submodule(module), range_of(place, sizes)
            names = [*inspect.signature(owner.forward).parameters]
            name = names[argument] if argument < len(names) else ""
            multiply = MultiplyInput(k, argument, where.axis, where.start, where.stop, name)
            return None, owner.register_forward_pre_hook(multiply, with_kwargs=True)
        case Absorb():
            return None, None


def uninstall(model: Module, place: Place, before: float | None, handle: Any) -> None:
    """Undoes `install`."""
    if isinstance(place, Attribute | ConfigField):
        setattr(_holder(model, place), place.name, before)
    elif handle is not None:
        handle.remove()


def _holder(model: Module, place: Attribute | ConfigField) -> Any:
    return model.get_submodule(place.module) if isinstance(place, Attribute) else model.config

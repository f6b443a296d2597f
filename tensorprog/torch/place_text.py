"""Places of multipliers, as text and as data."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from tensorprog.dims import Dim
from tensorprog.torch.changes import Absorb, Attribute, ConfigField, InputHook, OutputHook, Place


def place_text(place: Place) -> str:
    """A place, in one line."""
    match place:
        case Attribute(module, name, power):
            return f"attribute {'.'.join(filter(None, (module, name)))}{_to(power)}"
        case ConfigField(name, power):
            return f"config field {name}{_to(power)}"
        case OutputHook(module, _, axis, start, stop, blocks):
            part = "" if axis is None else f"[.., {start}:{stop}{', :' * (-1 - axis)}]"
            return f"hook on the output of {module or 'the model'}{part}{each_text(blocks)}"
        case InputHook(module, argument, axis, start, stop):
            part = "" if axis is None else f"[.., {start}:{stop}]"
            return f"hook on the input of {module or 'the model'}{part}" + (
                f" (argument {argument})" if argument else ""
            )
        case Absorb(param, _, _, _):
            return f"absorbed into {param}"


def each_text(blocks: Dim) -> str:
    """Of how many equal parts of an axis each has such a range, where there are several."""
    return "" if blocks == Dim.of(1) else f" in each of {blocks} equal parts"


def _to(power: Fraction) -> str:
    return "" if power == 1 else f" (to the power {power})"


def place_json(place: Place) -> dict[str, Any]:
    """A place, as data."""
    kind = type(place).__name__
    fields = {key: getattr(place, key) for key in place.__dataclass_fields__}
    return {"kind": kind, **{k: v if isinstance(v, str | int | bool | None) else str(v) for k, v in fields.items()}}

"""The result of reading and deriving in terms of the model: its changes, as data, as a table, as JSON."""

from __future__ import annotations

from dataclasses import replace
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from tensorprog import tables
from tensorprog.derivation import SCHEMA, Derivation
from tensorprog.dims import Dim
from tensorprog.exponents import Power
from tensorprog.optimizers import OPTIMIZERS, Optimizer
from tensorprog.parametrization import ParamExponents
from tensorprog.torch.changes import UNIT, Changes, MultiplierChange, ParameterChange, Part
from tensorprog.torch.place_text import place_json, place_text
from tensorprog.torch.places import multiplier_changes
from tensorprog.torch.present import StartLaw

if TYPE_CHECKING:
    from tensorprog.torch.model import ImportedDerivation
    from tensorprog.torch.reading import Reading

HEADERS = ("parameter", "shape", "init now", "init needed", "lr", "weight decay", "eps")


def changes_of(reading: Reading, derivation: Derivation) -> Changes:
    """Per parameter and per multiplier of the model: what it is now, and what it must be."""
    parameters = tuple(_parameter(reading, derivation, name) for name in reading.aliases)
    traced = {s: reading.points[0][s] for s in reading.symbols}
    multipliers = multiplier_changes(reading, derivation, parameters)
    return Changes(reading.symbols, derivation.optimizer, parameters, multipliers, derivation.gradient_norm, traced)


def _parameter(reading: Reading, derivation: Derivation, name: str) -> ParameterChange:
    start = reading.starts.get(name, StartLaw("constant", 0.0, Power()))
    shape = shape_of(reading, name)
    parts = reading.lowered.parts.get(name, ())
    graph_names = [part.name for part in parts] or ([name] if name in derivation.params else [])
    aliases = reading.aliases[name]
    if not graph_names:
        unchanged = ParamExponents(UNIT, start.power, None, None, None)
        why = "frozen" if not reading.trained[name] else "no gradient reaches it"
        usual = derivation.optimizer
        return ParameterChange(name, aliases, shape, start.kind, start.power, unchanged, usual, frozen=True,
                               reasons={"lr": why}, own=_own(derivation, usual))  # fmt: skip
    first = graph_names[0]
    needed = derivation.params[first]
    reasons = derivation.reasons[first]
    found = tuple(
        Part(
            _whole_axis(shape, part.axis),
            part.start,
            part.stop,
            start.power,
            derivation.params[part.name],
            derivation.reasons[part.name],
        )
        for part in parts
    )
    found = _joined(found)
    if len(found) <= 1:
        found = ()
    optimizer = derivation.solution.solver.optimizers[first].name
    table = start.kind == "constant" and not start.exact and needed.init_std is not None and not found
    return ParameterChange(name, aliases, shape, start.kind, start.power, needed, optimizer,
                           frozen=needed.lr is None, parts=found, reasons=reasons,
                           own=_own(derivation, optimizer),
                           measured=table and (start.logarithmic or start.power != needed.init_std))  # fmt: skip


def _own(derivation: Derivation, name: str) -> Optimizer | None:
    """The optimizer of that name, if it is not the table's."""
    found = (o for o in derivation.solution.solver.optimizers.values() if o.name == name)
    return next((o for o in found if o is not OPTIMIZERS.get(name)), None)


def _joined(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Neighbouring ranges with the same exponents as one."""
    result: list[Part] = []
    for part in parts:
        last = result[-1] if result else None
        if last is not None and last.stop == part.start and _numbers(last.needed) == _numbers(part.needed):
            result[-1] = replace(last, stop=part.stop)
        else:
            result.append(part)
    return tuple(result)


def _whole_axis(shape: tuple[Dim, ...], axis: int) -> int:
    """The axis of a parameter, from its number among those not of size 1."""
    return [k for k, dim in enumerate(shape) if dim.constant != 1][axis]


def _numbers(e: ParamExponents) -> tuple[Power | None, ...]:
    return (e.init_std, e.lr, e.weight_decay, e.eps)


def shape_of(reading: Reading, name: str) -> tuple[Dim, ...]:
    """The sizes of a parameter, as laws."""
    shapes = [reading.shapes[k][name] for k in range(len(reading.shapes))]
    return tuple(reading.size_law(tuple(s[axis] for s in shapes), name) for axis in range(len(shapes[0])))


# --- for people ---------------------------------------------------------------------------------------


def table(result: ImportedDerivation, *, color: bool = False) -> str:
    """Every parameter: what it is now and what it must be; multipliers and where to put them; why."""
    changes = result.changes
    lines = tables.align(_rows(changes), HEADERS)
    if color:
        lines[0] = f"\x1b[1m{lines[0]}\x1b[0m"
    reading = result.reading
    title = f"{reading.name}: muP for {changes.optimizer}, sizes in {', '.join(changes.symbols)}"
    sections = [
        [title],
        lines,
        *_multiplier_section(changes),
        _notes(result),
        tables.reason_lines(result.derivation, without=("multiplier",)),
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _rows(changes: Changes) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for p in changes.parameters:
        shape = "[" + ", ".join(map(str, p.shape)) + "]"
        name = p.name if not p.aliases else f"{p.name} = {', '.join(p.aliases)}"
        for part in p.parts or (None,):
            e = part.needed if part else p.needed
            where = f"{name} rows {part.start} to {part.stop}" if part and part.axis == 0 else name
            if part and part.axis:
                where = f"{name} axis {part.axis}, {part.start} to {part.stop}"
            now = tables.power_text(p.init_now, "0")
            rows.append((where, shape, now, tables.power_text(e.init_std, "0"), tables.power_text(e.lr),
                         tables.power_text(e.weight_decay), tables.power_text(e.eps)))  # fmt: skip
    names = [row[0] for row in rows]
    return [(shown, *rows[k][1:]) for shown, k in tables.collapse(names, [row[1:] for row in rows])]


def _multiplier_section(changes: Changes) -> list[list[str]]:
    moved = [m for m in changes.multipliers if m.factor != UNIT]
    if not moved:
        return []
    content = [(str(m.now), str(m.needed), _where(m, general=True)) for m in moved]
    lines = tables.align(
        [(shown, *content[k]) for shown, k in tables.collapse([m.name for m in moved], content)],
        ("multiplier", "now", "needed", "where to put it"),
    )
    return [lines]


def _where(m: MultiplierChange, *, general: bool) -> str:
    if not m.places:
        return "in the model's code: no place outside it was found to work"
    text = place_text(m.places[0])
    if general:
        import re

        text = re.sub(r"\.\d+\.", ".*.", text)
    return text


def _notes(result: ImportedDerivation) -> list[str]:
    changes = result.changes
    lines = [f"global gradient norm = {tables.power_text(changes.gradient_norm)}"]
    if not changes.needed:
        lines.append("the model is already in muP for this optimizer: nothing to change")
    if len(changes.symbols) > 1:
        lines.append("widths in proportion: what --emit-tp writes derives for other orders, too (`regime`)")
    measured = [f"`{p.name}` starts at numbers whose size follows no power: it gets the size that they have at the base"
                for p in changes.parameters if p.measured]  # fmt: skip
    for note in (*result.reading.lowered.notes, *measured):
        lines += wrap(f"note: {note}", tables.LINE_WIDTH, subsequent_indent="  ")
    return lines


# --- for programs ---------------------------------------------------------------------------------------


def to_json(result: ImportedDerivation) -> dict[str, Any]:
    """`Derivation.to_json` of the graph, and `model`: the parameters and multipliers of the module itself."""
    changes, symbols = result.changes, result.changes.symbols

    def exponent(power: Power | None) -> dict[str, str] | None:
        return None if power is None else power.as_json(symbols)

    def numbers(e: ParamExponents) -> dict[str, Any]:
        return {"init_std": exponent(e.init_std), "lr": exponent(e.lr),
                "weight_decay": exponent(e.weight_decay), "eps": exponent(e.eps)}  # fmt: skip

    model = {
        p.name: {
            "aliases": list(p.aliases),
            "shape": [str(d) for d in p.shape],
            "init": p.init_kind,
            "init_now": exponent(p.init_now),
            "needed": numbers(p.needed),
            "trained": not p.frozen,
            "parts": [{"axis": part.axis, "start": str(part.start), "stop": str(part.stop),
                       "needed": numbers(part.needed)} for part in p.parts],
        }
        for p in changes.parameters
    }  # fmt: skip
    sites = {
        m.name: {"kind": m.kind, "module": m.module, "now": exponent(m.now), "needed": exponent(m.needed),
                 "places": [place_json(place) for place in m.places], "shared_with": m.shared_with or None}
        for m in changes.multipliers
    }  # fmt: skip
    return {**result.derivation.to_json(), "model": {"schema": SCHEMA, "parameters": model, "multipliers": sites,
                                                     "notes": list(result.reading.lowered.notes)}}  # fmt: skip

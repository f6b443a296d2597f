"""A classification for people, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from tensorprog.classify.classification import Classification, Moves
from tensorprog.classify.regime import SGD_ONLY
from tensorprog.derivation import SCHEMA
from tensorprog.exponents import Power
from tensorprog.programme.region import REACH
from tensorprog.tables import align, collapse, fold, latex_cell, power_text

HEADERS = ("parameter", "shape", "multiplier", "init std", "lr", "own update")


def table(found: Classification, *, color: bool = False) -> str:
    """The verdict, what each parameter's update does, and how fast each hidden tensor moves."""
    sections = [[_title(found)], [fold(line) for line in verdict_lines(found)]]
    rows = parameter_rows(found)
    for header, content in ((HEADERS, rows), (("tensor", "start", "moves"), feature_rows(found))):
        lines = align(content, header)
        if color:
            lines[0] = f"\x1b[1m{lines[0]}\x1b[0m"
        sections.append(lines)
    if found.alignment is not None:
        sections.append([fold(line) for line in alignment_lines(found)])
    sections += [lines for lines in (region_lines(found), constraint_lines(found)) if lines]
    sections.append([fold(line) for line in [*rate_lines(found), *change_lines(found)]])
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _title(found: Classification) -> str:
    rate = "" if found.global_rate is None else f", global lr {_width(found, found.global_rate)}"
    return f"{found.architecture.file}: {found.parametrization.name} for {found.optimizer}{rate}"


def _width(found: Classification, exponent: Fraction) -> str:
    return str(Power.of({found.architecture.graph.widths[0]: exponent}))


def verdict_lines(found: Classification) -> list[str]:
    """Stable or not; trivial; kernel or feature learning; maximal; r."""
    lines = []
    g = found.growth
    if g is not None:
        when = "at initialisation" if g.step == 0 else f"at step {g.step}"
        lines.append(f"unstable: `{g.tensor}` (line {g.line}) grows like {g.exponent} {when}")
    elif not found.settled:
        lines.append(f"unstable: sizes still grow after {found.seen} steps")
    else:
        lines.append("stable: nothing exceeds Theta(1), at initialisation or at any step")
    until = "" if found.stable else f", up to step {found.seen}"
    fastest = max((f.change for f in found.features if f.change is not None), key=found.degrees, default=None)
    speed = "exactly zero" if fastest is None else f"at most {fastest}"
    if not found.stable:
        first = next((f for f in found.features if found.moves_by_one(f)), None)
        what = f"move by {speed}" if first is None else f"move: the first is `{first.tensor}`, by {first.change}"
        lines.append(f"feature learning: hidden tensors {what}{until}" if first else f"the features {what}{until}")
    elif found.trivial:
        lines.append(f"trivial: the outputs do not move{until}; the features move by {speed}")
    elif found.feature_learning:
        first = next(f for f in found.features if found.moves_by_one(f))
        lines.append(f"feature learning: hidden tensors move, the first is `{first.tensor}`, by {first.change}{until}")
    else:
        lines.append(f"kernel regime: the outputs move{until}, the features by {speed}")
    if found.maximal:
        lines.append("maximal: the update of every parameter moves its layer's output by Theta(1)")
    elif found.stable:
        slow = [name for name, c in found.trained.items() if c is None or found.sign(c) < 0]
        lines.append(f"not maximal: the own updates of {_listed(slow)} vanish")
    lines += [f"the start of `{m.tensor}` vanishes, like {m.initial}: Tensor Programs IV would call this unstable too"
              for m in found.vanishing]  # fmt: skip
    if isinstance(found.r, Fraction):
        lines.append(f"r = {found.r} (the features that the outputs read move by n^-r)")
    elif found.r != SGD_ONLY:
        lines.append(f"r is not defined: {found.r}")
    if found.caveat:
        lines.append(f"not certain: {found.caveat}")
    return lines


def _listed(names: Sequence[str], few: int = 6) -> str:
    shown = [name for name, _ in collapse(list(names), [0] * len(names))]
    return ", ".join(shown[:few]) + (f" and {len(shown) - few} more" if len(shown) > few else "")


def parameter_rows(found: Classification) -> list[tuple[str, ...]]:
    """One row per parameter; the layers of a repeat share one if they agree."""
    graph, params = found.architecture.graph, found.parametrization.params
    names = list(params)
    content = [(tuple(str(a.dim) for a in graph.parameters[n].axes), params[n], found.contributions.get(n))
               for n in names]  # fmt: skip
    rows: list[tuple[str, ...]] = []
    for shown, k in collapse(names, content):
        shape, e, own = content[k]
        moved = power_text(own, "0") if e.lr is not None else "-"
        rows.append((shown, "[" + ", ".join(shape) + "]", power_text(e.multiplier), power_text(e.init_std, "0"),
                     power_text(e.lr), moved))  # fmt: skip
    return rows


def feature_rows(found: Classification) -> list[tuple[str, ...]]:
    """One row per hidden tensor with a name, and per output."""
    moves = [*(f for f in found.features if " " not in f.tensor), *found.outputs]
    rows: list[tuple[str, ...]] = []
    for shown, k in collapse([m.tensor for m in moves], [(m.initial, m.change) for m in moves]):
        rows.append((shown, power_text(moves[k].initial, "0"), power_text(moves[k].change, "0")))
    return rows


def rate_lines(found: Classification) -> list[str]:
    """The largest stable learning rate."""
    if found.rate_factor is None:
        return ["no learning rate is stable" + (f": `{found.rate_binding}` grows" if found.rate_binding else "")]
    above = "above it" if found.rate_attained else "there"
    because = f"; {above} `{found.rate_binding}` grows" if found.rate_binding else ""
    at_least = "less than " if not found.rate_attained else "" if found.rate_sharp else "at least "
    if found.global_rate is not None:
        largest = _width(found, found.global_rate + found.rate_factor)
        return [f"largest stable global learning rate: {at_least}{largest}{because}"]
    factor = _width(found, found.rate_factor)
    return [f"largest stable common factor of the learning rates: {at_least}{factor}{because}"]


def change_lines(found: Classification) -> list[str]:
    """What to change, and no more than needed, to make it maximal."""
    if isinstance(found.changes, str):
        return [f"no maximal parametrization is known: {found.changes}"]
    if not found.changes:
        return []
    rows = []
    for shown, k in collapse([c.name for c in found.changes], [(c.quantity, c.before, c.after) for c in found.changes]):
        c = found.changes[k]
        if c.quantity == "use":
            what = f"multiplier of {shown.replace('@', ' at its use ')}" if "@" in shown else f"?{shown}"
        else:
            what = f"{c.quantity.replace('_', ' ')} of {shown}"
        rows.append(f"  {what}: {c.after} instead of {c.before}")
    return ["to make it maximal, change", *rows]


def alignment_lines(found: Classification) -> list[str]:
    """What was assumed, and where the derived alignment differs."""
    lines = [f"assumed alignment: {found.alignment}; gradients of their initial size"]
    what = {"alpha": "change of {} with {}", "omega": "{} with change of {}", "u": "changes of {} and {}"}
    if not found.disagreements:
        return [*lines, "the derived alignment is the same"]
    until = "" if found.differs_until is None else f", up to step {found.differs_until},"
    lines.append(f"the derived alignment differs{until} at")
    return lines + [
        f"  `{d.tensor}` (line {d.line}), {what[d.part].format(d.param, f'`{d.other}`')} ({d.part}): "
        f"assumed {d.assumed}, derived {d.derived}: {d.because}"
        for d in found.disagreements
    ]


def region_lines(found: Classification) -> list[str]:
    """The stable polygon."""
    r = found.region
    if r is None:
        return []
    x, y = r.labels
    if not r.vertices:
        return [f"nothing within n^{REACH} is stable in the plane of {x} and {y}"]
    degrees = " (total degrees)" if len(found.architecture.graph.widths) > 1 else ""
    lines = [f"stable in the plane of {x} (x) and {y} (y){degrees}, within n^{REACH} of ({r.here[0]}, {r.here[1]}):"]
    for k, (vertex, edge) in enumerate(zip(r.vertices, r.edges, strict=True)):
        after = r.vertices[(k + 1) % len(r.vertices)]
        why = "edge of the picture" if edge.text == "frame" else f"{edge.text} (line {edge.line})"
        lines.append(f"  ({vertex[0]}, {vertex[1]}) to ({after[0]}, {after[1]}): {why}")
    if not r.exact:
        lines.append("  not certified: some edges hold only while the same terms rule a division")
    return lines


def constraint_lines(found: Classification) -> list[str]:
    """The linear constraints."""
    if found.constraints is None:
        return []
    rows = [(c.text(), f"{c.what} (line {c.line})") for c in found.constraints]
    widest = max((len(text) for text, _ in rows), default=0)
    head = "constraints (multiplier n^-a, init std n^-b, lr n^-c), those of learning rates for this start"
    if len(found.architecture.graph.widths) > 1:
        head += "; a, b, c are total degrees"
    return [head, *(f"  {text.ljust(widest)}  {what}" for text, what in rows)]


def as_latex(found: Classification) -> str:
    """The constraints as an align* environment (needs amsmath)."""
    rows = [f"  {c.latex()} && \\text{{{latex_cell(c.what.replace('`', ''))}}}" for c in found.constraints or ()]
    return "\\begin{align*}\n" + " \\\\\n".join(row.replace(r" \ge ", r" &\ge ") for row in rows) + "\n\\end{align*}\n"


def as_json(found: Classification) -> str:
    """The machine-readable result (documented in docs/reference/json-schema.md)."""
    symbols = found.architecture.graph.widths

    def exponent(power: Power | None) -> dict[str, str] | None:
        return None if power is None else power.as_json(symbols)

    def moves(items: Sequence[Moves]) -> list[dict[str, Any]]:
        return [{"tensor": m.tensor, "init": exponent(m.initial), "change": exponent(m.change)} for m in items]

    g = found.growth
    data = {
        "schema": SCHEMA,
        "file": found.architecture.file,
        "optimizer": found.optimizer,
        "parametrization": found.parametrization.name,
        "stable": found.stable,
        "exceeds": None if g is None else {"tensor": g.tensor, "exponent": exponent(g.exponent), "step": g.step,
                                           "line": g.line},
        "trivial": found.trivial,
        "feature_learning": found.feature_learning,
        "regime": found.regime,
        "maximal": found.maximal,
        **({"caveat": found.caveat} if found.caveat else {}),
        "alignment": None if found.alignment is None else {
            "alpha": str(found.alignment.alpha), "omega": str(found.alignment.omega), "u": str(found.alignment.u)},
        "disagreements": [
            {"tensor": d.tensor, "line": d.line, "part": d.part, "parameter": d.param, "other": d.other,
             "assumed": str(d.assumed), "derived": str(d.derived), "because": d.because} for d in found.disagreements],
        "region": None if found.region is None else {
            "axes": list(found.region.labels), "here": [str(v) for v in found.region.here],
            "vertices": [[str(x), str(y)] for x, y in found.region.vertices],
            "edges": [{"x": e.first, "y": e.second, "at_most": str(e.bound), "what": e.text, "line": e.line or None}
                      for e in found.region.edges],
            "exact": found.region.exact},
        "constraints": None if found.constraints is None else [
            {"text": c.text(), "latex": c.latex(), "what": c.what, "line": c.line, "sound": c.sound}
            for c in found.constraints],
        "steps": None if found.stable else found.seen,
        "r": str(found.r) if isinstance(found.r, Fraction) else None,
        "r_undefined": None if isinstance(found.r, Fraction) else found.r,
        "largest_lr_factor": None if found.rate_factor is None else str(found.rate_factor),
        "largest_lr": None if found.rate_factor is None or found.global_rate is None
        else str(found.global_rate + found.rate_factor),
        "largest_lr_is_sharp": found.rate_sharp,
        "largest_lr_is_attained": found.rate_attained,
        "changes": None if isinstance(found.changes, str) else [
            {"name": c.name, "quantity": "multiplier" if c.quantity == "use" else c.quantity,
             "from": exponent(c.before), "to": exponent(c.after)} for c in found.changes],
        "parameters": {
            name: {"multiplier": exponent(e.multiplier), "init_std": exponent(e.init_std), "lr": exponent(e.lr),
                   "own_update": exponent(found.contributions.get(name))}
            for name, e in found.parametrization.params.items()
        },
        "features": moves(found.features),
        "outputs": moves(found.outputs),
        "vanishing": moves(found.vanishing),
    }  # fmt: skip
    return json.dumps(data, indent=2) + "\n"

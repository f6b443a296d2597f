"""A completion for people, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tensorprog.exponents import Power
from tensorprog.programme.completion import Completion
from tensorprog.programme.stages import Constraint, Lost
from tensorprog.programme.unknowns import Unknowns
from tensorprog.tables import align, collapse, fold, latex, markdown, power_text

SCHEMA = 1
HEADERS = ("parameter", "shape", "multiplier", "init std", "lr", "weight decay", "eps", "own update")


def render(found: Completion, format: str, *, color: bool = False) -> str:
    """As `table`, `json`, `markdown` or `latex`."""
    rows = parameter_rows(found)
    match format:
        case "table":
            lines = align(rows, HEADERS)
            if color:
                lines[0] = f"\x1b[1m{lines[0]}\x1b[0m"
            sections = [[title(found)], lines, [fold(line) for line in notes(found)]]
            return "\n\n".join("\n".join(section) for section in sections if section) + "\n"
        case "json":
            return json.dumps(to_json(found), indent=2) + "\n"
        case "markdown":
            return markdown(rows, HEADERS, title(found)) + "\n" + "".join(f"- {n.strip()}\n" for n in notes(found))
        case "latex":
            return latex(rows, HEADERS)
        case _:
            raise ValueError(f"unknown format {format!r}")


def title(found: Completion) -> str:
    """What was completed, in one line."""
    fixed = ", ".join(fix.text for fix in found.fixes)
    return f"{found.architecture.file}: best stable completion of {fixed} for {found.optimizer}, form {found.form}"


def parameter_rows(found: Completion) -> list[tuple[str, ...]]:
    """One row per parameter; the layers of a repeat share one if they agree."""
    graph, params = found.architecture.graph, found.parametrization.params
    names = list(params)
    content = [(tuple(str(a.dim) for a in graph.parameters[n].axes), params[n], found.contribution(n)) for n in names]
    rows: list[tuple[str, ...]] = []
    for shown, k in collapse(names, content):
        shape, e, own = content[k]
        rows.append((shown, "[" + ", ".join(shape) + "]", power_text(e.multiplier), power_text(e.init_std, "0"),
                     power_text(e.lr), power_text(e.weight_decay), power_text(e.eps),
                     power_text(own, "0") if e.lr is not None else "-"))  # fmt: skip
    return rows


def notes(found: Completion) -> list[str]:
    """Multipliers; what is lost and which constraints allow no more; how sure that is."""
    completed, graph = found.completed, found.architecture.graph
    lines = [f"?{name} = {power}" for name, power in found.parametrization.unknowns.items()
             if graph.unknowns[name].kind == "multiplier"]  # fmt: skip
    lines += [f"multiplier of {affine_name} = {found.parametrization.unknowns[use]}"
              for use in completed.unknowns.use for affine_name in [use.replace("@", " at its use ")]]  # fmt: skip
    if not completed.lost:
        lines.append("nothing is lost: the update of every parameter moves its layer's output by Theta(1)")
    for lost in completed.lost:
        names = [name for name, _ in collapse(list(lost.params), [0] * len(lost.params))]
        what = "update of" if len(names) == 1 else "updates of"
        lines.append(f"the own {what} {', '.join(names)} vanish{'es' if len(names) == 1 else ''}, "
                     f"like {_power(found, lost)}, because of")  # fmt: skip
        lines += [f"  {line}" for line in binding_lines(found, lost)]
    lines += [f"the start of `{tensor}` vanishes, like {power}" for tensor, power in vanishing(found).items()]
    if completed.lost:
        lines.append("no stable completion has larger updates: each of these constraints holds for all exponents, as "
                     "far as the calculus goes" if completed.certified else
                     "not certified to be the best: some of these constraints hold only as long as the same terms rule "
                     "a norm or a normalised gradient")  # fmt: skip
    return lines


def vanishing(found: Completion) -> dict[str, Power]:
    """Hidden arguments of nonlinearities whose initial value vanishes."""
    from tensorprog.classify.regime import vanishing_starts

    return {m.tensor: m.initial for m in vanishing_starts(found.completed.unknowns.trainer, found.solution.snapshot)
            if m.initial is not None}  # fmt: skip


def _power(found: Completion, lost: Lost) -> Power:
    return Power.of({found.architecture.graph.widths[0]: lost.exponent})


def binding_lines(found: Completion, lost: Lost) -> list[str]:
    """The constraints that bind, those of tensors with their line and their form."""
    fixed = list(dict.fromkeys(c.text for c in lost.binding if c.kind == "fix"))
    lines = [", ".join(fixed)] if fixed else []
    nodes = found.architecture.graph.nodes
    for c in lost.binding:
        if c.kind == "stability":
            terms = shown_terms(found.completed.unknowns, found.completed.point, c)
            lines.append(f"{c.text} (line {nodes[c.node].span.line}) at most Theta(1): {terms}")
    return lines


def shown_terms(unknowns: Unknowns, point: tuple[Any, ...], constraint: Constraint) -> str:
    """`init[V] + lr[W] <= -2`; multipliers that are 0 are left out."""
    terms: Mapping[int, int] = {j: int(c) for j, c in constraint.row.coefficients.items()
                                if point[j] or not unknowns.names[j].startswith("multiplier")}  # fmt: skip
    return f"{unknowns.text(terms)} <= {constraint.row.bound}"


def to_json(found: Completion) -> dict[str, Any]:
    """The machine-readable result (documented in docs/reference/json-schema.md)."""
    symbols, completed = found.architecture.graph.widths, found.completed

    def exponent(power: Power | None) -> dict[str, str] | None:
        return None if power is None else power.as_json(symbols)

    nodes = found.architecture.graph.nodes
    return {
        "schema": SCHEMA,
        "file": found.architecture.file,
        "optimizer": found.optimizer,
        "form": found.form,
        "fixed": [fix.text for fix in found.fixes],
        "maximal": found.maximal,
        "certified": completed.certified,
        "parameters": {
            name: {"multiplier": exponent(e.multiplier), "init_std": exponent(e.init_std), "lr": exponent(e.lr),
                   "weight_decay": exponent(e.weight_decay), "eps": exponent(e.eps),
                   "own_update": exponent(found.contribution(name))}
            for name, e in found.parametrization.params.items()
        },
        "multipliers": {name: exponent(power) for name, power in found.parametrization.unknowns.items()
                        if name in completed.unknowns.scale or name in completed.unknowns.use},
        "lost": [
            {"parameters": list(lost.params), "exponent": exponent(_power(found, lost)),
             "fixed": list(dict.fromkeys(c.text for c in lost.binding if c.kind == "fix")),
             "binding": [{"what": c.text, "line": nodes[c.node].span.line, "sound": c.sound,
                          "terms": {completed.unknowns.names[j]: str(v) for j, v in c.row.coefficients.items()},
                          "at_most": str(c.row.bound)} for c in lost.binding if c.kind == "stability"]}
            for lost in completed.lost
        ],
    }  # fmt: skip

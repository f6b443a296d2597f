"""Tables of results: aligned text, Markdown, LaTeX (booktabs) and HTML, from one list of rows."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from html import escape
from textwrap import wrap
from typing import Any

from tensorprog.derivation import QUANTITIES, SCHEMA, Derivation
from tensorprog.exponents import Power
from tensorprog.optimizers.policies import DEFAULT_POLICY, POLICIES

LINE_WIDTH = 118  # of what is printed in a terminal
FEW_NAMES = 6  # more names than that are not repeated before a reason that most parameters share
WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
HEADERS = ("parameter", "shape", "multiplier", "init std", "lr", "weight decay", "eps")


def power_text(power: Power | None, none: str = "-") -> str:
    """`n^-1/2`, or `none` where there is no such quantity."""
    return none if power is None else str(power)


def collapse(names: Sequence[str], same: Sequence[object]) -> list[tuple[str, int]]:
    """Names that differ only in a layer number and have equal content, as one: (shown name, index of the first)."""
    groups: dict[tuple[str, object], list[int]] = {}
    for k, name in enumerate(names):
        groups.setdefault((re.sub(r"\.\d+\.", ".*.", name), same[k]), []).append(k)
    shown = [(_common([names[k] for k in members]), members[0]) for members in groups.values()]
    patterns = [p for p, _ in shown]
    return [(p if patterns.count(p) == 1 else names[k], k) for p, k in shown]


def _common(names: Sequence[str]) -> str:
    """One name for several: `*` for the parts in which they differ."""
    parts = zip(*(name.split(".") for name in names), strict=True)
    return ".".join(part[0] if len(set(part)) == 1 else "*" for part in parts)


def grouped(derivation: Derivation) -> list[tuple[str, str]]:
    """The rows of the table: (shown name, the parameter of that name or in the first of the layers that agree)."""
    graph, params, own = derivation.architecture.graph, derivation.params, derivation.own_updates or {}
    names, optimizers = list(params), derivation.solution.solver.optimizers
    content = [(tuple(str(a.dim) for a in graph.parameters[n].axes), params[n], optimizers[n].name, own.get(n))
               for n in names]  # fmt: skip
    return [(shown, names[k]) for shown, k in collapse(names, content)]


def parameter_rows(derivation: Derivation) -> list[tuple[str, ...]]:
    """One row per parameter; the layers of a repeat share one if they agree."""
    mixed, own = headers(derivation)[-1] == "optimizer", derivation.own_updates
    rows: list[tuple[str, ...]] = []
    for shown, name in grouped(derivation):
        shape = ", ".join(str(axis.dim) for axis in derivation.architecture.graph.parameters[name].axes)
        e, optimizer = derivation.params[name], derivation.solution.solver.optimizers[name].name
        rows.append((shown, f"[{shape}]", power_text(e.multiplier), power_text(e.init_std, "0"),
                     power_text(e.lr), power_text(e.weight_decay), power_text(e.eps),
                     *(power_text(dict(e.others).get(other)) for other in other_quantities(derivation)),
                     *((power_text(own[name], "0") if e.lr is not None else "-",) if own is not None else ()),
                     *((optimizer if e.lr is not None else "-",) if mixed else ())))  # fmt: skip
    return rows


def other_quantities(derivation: Derivation) -> list[str]:
    """The names of further hyperparameters that scale, of any parameter's optimizer."""
    return list(dict.fromkeys(name for exponents in derivation.params.values() for name, _ in exponents.others))


def headers(derivation: Derivation) -> tuple[str, ...]:
    """The heads of the columns of `parameter_rows`."""
    named = any(parameter.optimizer for parameter in derivation.architecture.graph.parameters.values())
    mixed = named or derivation.choice.vectors is not None or bool(derivation.choice.rules)
    own = derivation.own_updates is not None
    return (*HEADERS, *other_quantities(derivation), *(("own update",) if own else ()),
            *(("optimizer",) if mixed else ()))  # fmt: skip


def align(rows: Sequence[Sequence[str]], header: Sequence[str]) -> list[str]:
    """Columns padded with spaces; a rule under the header."""
    lines = columns([header, *rows])
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, their columns padded with spaces."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def title(derivation: Derivation) -> str:
    """What was derived, in one line."""
    return f"{derivation.architecture.file}: {derivation.what} for {derivation.choice.title}, form {derivation.form}"


def notes(derivation: Derivation) -> list[str]:
    """Multipliers, the gradient norm, and what becomes of the depth."""
    lines = [f"{_multiplier(derivation, name)} = {power}" for name, power in derivation.multipliers.items()]
    if derivation.decay_policy != DEFAULT_POLICY:
        lines.append(f"weight decay: {derivation.decay_policy} ({POLICIES[derivation.decay_policy].says})")
    lines.append(f"global gradient norm = {power_text(derivation.gradient_norm)}")
    lines += _other_regimes(derivation)
    graph = derivation.architecture.graph
    depths = [symbol for symbol in derivation.symbols if symbol not in graph.widths]
    lines += [f"depth {symbol}: a symbol; it grows after the widths" for symbol in depths]
    lines += [f"depths {', '.join(depths)}: their exponents hold where they grow in proportion"] * (len(depths) > 1)
    lines += [f"depth {symbol}: unrolled at {count} (exponents are those of the width)"
              for symbol, count in graph.depths]  # fmt: skip
    return [*lines, *([derivation.note] if derivation.note else []), *derivation.remarks]


def _multiplier(derivation: Derivation, name: str) -> str:
    """`?name`, or in words that of one use of a parameter."""
    if "@" not in name:
        return f"?{name}"
    unknown, number = derivation.architecture.graph.unknowns[name], name.rsplit("@", 1)[1]
    line = f" (line {unknown.span.line})" if unknown.span.line else ""
    return f"multiplier of {unknown.param} at its use {number}{line}"


def _other_regimes(derivation: Derivation) -> list[str]:
    """What is otherwise where the widths do not grow in proportion."""
    found: dict[str, dict[str, list[str]]] = {}
    for order, other in derivation.other_regimes().items():
        regime = " << ".join(order)
        for name, here in derivation.params.items():
            for label, quantity in (("multiplier", "multiplier"), ("init std", "init_std"), ("lr", "lr")):
                there = getattr(other.params[name], quantity)
                if there != getattr(here, quantity):
                    found.setdefault(f"{label} of {name}", {}).setdefault(power_text(there, "0"), []).append(regime)
        for name, power in derivation.multipliers.items():
            if other.multipliers.get(name, power) != power:
                found.setdefault(f"?{name}", {}).setdefault(str(other.multipliers[name]), []).append(regime)
    if not found:
        return []
    lines = ["widths in proportion (`regime` declares another order); otherwise"]
    return lines + [f"  {what} = " + ", ".join(f"{power} if {' or '.join(orders)}" for power, orders in cases.items())
                    for what, cases in found.items()]  # fmt: skip


def reason_lines(derivation: Derivation, without: Collection[str] = ()) -> list[str]:
    """Why each number is what it is, by quantity (`without`: not these); parameters that share one share a line."""
    names = list(derivation.params)
    groups: dict[str, dict[str, list[str]]] = {}
    for shown, k in collapse(names, [(derivation.params[n], tuple(derivation.reasons[n].items())) for n in names]):
        for quantity, reason in derivation.reasons[names[k]].items():
            if quantity not in without:
                groups.setdefault(quantity, {}).setdefault(reason, []).append(shown)
    lines = ["why"]
    for quantity, reasons in groups.items():
        lines.append(f"  {quantity.replace('_', ' ')}")
        for shown, reason in _named(reasons):
            lines += wrap(f"    {shown}: {reason}", LINE_WIDTH, subsequent_indent="      ", **WHOLE_WORDS)
    return lines


def _named(reasons: Mapping[str, list[str]]) -> list[tuple[str, str]]:
    """(names, reason); the names of the largest group are left out if they are many, and it comes last."""
    largest = max(reasons, key=lambda reason: len(reasons[reason]))
    if len(reasons[largest]) <= FEW_NAMES:
        return [(", ".join(names), reason) for reason, names in reasons.items()]
    others = [(", ".join(names), reason) for reason, names in reasons.items() if reason != largest]
    return [*others, ("all others" if others else "all", largest)]


def counted(number: int, word: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{number} {word}" + "s" * (number != 1)


def fold(line: str, width: int = LINE_WIDTH) -> str:
    """A long line broken between words, its continuation further indented."""
    indent = " " * (len(line) - len(line.lstrip()))
    return "\n".join(wrap(line, max(width, 40), subsequent_indent=indent + "    ", **WHOLE_WORDS)) or line


def as_json(derivation: Derivation) -> dict[str, Any]:
    """The machine-readable result (documented in docs/reference/json-schema.md)."""
    graph, symbols = derivation.architecture.graph, derivation.symbols

    def exponent(power: Power | None) -> dict[str, str] | None:
        return None if power is None else power.as_json(symbols)

    parameters = {}
    for name, exponents in derivation.params.items():
        entry: dict[str, Any] = {"shape": [str(axis.dim) for axis in graph.parameters[name].axes]}
        for quantity in QUANTITIES:
            entry[quantity] = exponent(getattr(exponents, quantity))
        entry |= {name: exponent(power) for name, power in exponents.others}
        entry["optimizer"] = derivation.solution.solver.optimizers[name].name
        entry["reasons"] = derivation.reasons[name]
        parameters[name] = entry
    tensors = {}
    for node in graph.nodes:
        if node.name and node.name not in tensors:
            initial, change = derivation.sizes(node.id)
            tensors[node.name] = {"init": exponent(initial), "change": exponent(change)}
    return {
        "schema": SCHEMA,
        "file": derivation.architecture.file,
        "optimizer": derivation.optimizer,
        "form": derivation.form,
        "decay_policy": derivation.decay_policy,
        "depths": dict(graph.depths),
        "gradient_norm": exponent(derivation.gradient_norm),
        "parameters": parameters,
        "multipliers": {name: exponent(power) for name, power in derivation.multipliers.items()},
        "tensors": tensors,
        "vanishing": {name: exponent(power) for name, power in derivation.vanishing.items()},
    }


def render_derivation(derivation: Derivation, format: str, *, color: bool = False) -> str:
    """The derivation as `table`, `markdown`, `latex` or `html`."""
    rows = parameter_rows(derivation)
    match format:
        case "table":
            lines = align(rows, headers(derivation))
            if color:
                lines[0] = f"\x1b[1m{lines[0]}\x1b[0m"
            sections = [[title(derivation)], lines, notes(derivation), reason_lines(derivation)]
            return "\n\n".join("\n".join(section) for section in sections) + "\n"
        case "markdown":
            return (
                markdown(rows, headers(derivation), title(derivation))
                + "\n"
                + "".join(f"- {n}\n" for n in notes(derivation))
            )
        case "latex":
            header = headers(derivation)
            factors = [[_multiplier(derivation, name), "", str(power), *[""] * (len(header) - 3)]
                       for name, power in derivation.multipliers.items()]  # fmt: skip
            return latex(rows, header, factors)
        case "html":
            return html(rows, headers(derivation), title(derivation), notes(derivation))
        case _:
            raise ValueError(f"unknown format {format!r}")


def markdown(rows: Sequence[Sequence[str]], header: Sequence[str], caption: str) -> str:
    """A pipe table."""
    lines = [f"**{caption}**", "", "| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(f"`{c}`" for c in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


_LATEX = {"\\": r"\textbackslash{}", "_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#", "$": r"\$",
          "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}  # fmt: skip


def latex_cell(cell: str, column: str = "") -> str:
    """A cell in LaTeX: powers and shapes as mathematics, parameters in typewriter, everything else escaped."""
    if not cell:
        return ""
    if column == "parameter":
        return r"\texttt{" + _escaped(cell) + "}"
    if column == "shape":
        return "$" + r" \times ".join(map(_math, cell.strip("[]").split(", "))) + "$" if cell != "[]" else "scalar"
    if cell == "-":
        return "--"
    if re.fullmatch(r"\w+(\^-?\d+(/\d+)?)?( \w+(\^-?\d+(/\d+)?)?)*", cell) and ("^" in cell or len(cell) == 1):
        return "$" + _math(cell) + "$"
    return _escaped(cell)


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in text)


def _math(text: str) -> str:
    """`4 n`, `n / 16`, `width^-1/2` inside of mathematics."""
    words = re.sub(r"[A-Za-z]\w+", lambda word: r"\mathit{" + _escaped(word[0]) + "}", text.replace(" / ", "/"))
    return re.sub(r"\^(-?\d+(?:/\d+)?)", r"^{\1}", words).replace(" ", r"\,")


def latex(rows: Sequence[Sequence[str]], header: Sequence[str], more: Sequence[Sequence[str]] = ()) -> str:
    """A booktabs tabular (needs \\usepackage{booktabs}); `more` rows stand below a rule."""
    lines = [r"\begin{tabular}{" + "l" * len(header) + "}", r"\toprule", " & ".join(map(latex_cell, header)) + r" \\",
             r"\midrule"]  # fmt: skip
    for k, row in enumerate((*rows, *more)):
        lines += [r"\midrule"] * (k == len(rows)) + [" & ".join(map(latex_cell, row, header)) + r" \\"]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def html(rows: Sequence[Sequence[str]], header: Sequence[str], caption: str, below: Sequence[str] = ()) -> str:
    """An HTML table, for notebooks."""
    head = "".join(f"<th>{escape(h)}</th>" for h in header)
    body = "".join("<tr>" + "".join(f"<td>{_sup(escape(c))}</td>" for c in row) + "</tr>" for row in rows)
    foot = "".join(f"<div>{_sup(escape(n))}</div>" for n in below)
    head = f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
    return f"<table>{head}<tbody>{body}</tbody></table>{foot}"


def _sup(text: str) -> str:
    return re.sub(r"\^(-?\d+(?:/\d+)?)", r"<sup>\1</sup>", text)

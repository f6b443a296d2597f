"""What the page says, as data that the template lays out."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tensorprog.calculus.forms import FORMS, SOURCES, parametrize
from tensorprog.derivation import Derivation
from tensorprog.errors import TensorProgError
from tensorprog.tables import grouped, headers, notes, parameter_rows

PACKAGES = ("tensorprog", "numpy", "sympy", "networkx", "lark", "matplotlib", "Jinja2", "Pygments")


@dataclass(frozen=True, slots=True)
class Row:
    """A parameter of the derived table (or the layers of a repeat that agree): its cells by column, one reason per
    quantity, and the whole chain behind them ("" where only the reasons are told)."""

    name: str
    cells: tuple[tuple[str, str], ...]
    reasons: tuple[tuple[str, str], ...]
    chain: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """One of the equivalent ways of writing the answer. `refused`: why it has none."""

    name: str
    meaning: str
    source: str
    headers: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    refused: str = ""
    latex: str = ""
    markdown: str = ""


def all_forms(derivation: Derivation) -> tuple[Form, ...]:
    """The derivation's own form first, with whole chains; then the others."""
    order = [derivation.form, *(name for name in FORMS if name != derivation.form)]
    return tuple(_form(derivation, name) for name in order)


def _form(derivation: Derivation, name: str) -> Form:
    try:
        parametrization = parametrize(derivation.solution, name, derivation.decay_policy)
    except TensorProgError as error:
        return Form(name, FORMS[name], SOURCES[name], (), (), (), refused=f"{error.message}: {error.why}")
    restated = replace(derivation, form=name, parametrization=parametrization)
    return Form(
        name, FORMS[name], SOURCES[name], headers(restated), _rows(restated, chains=name == derivation.form),
        tuple(notes(restated)), latex=restated.render("latex"), markdown=restated.render("markdown"),
    )  # fmt: skip


def _rows(derivation: Derivation, *, chains: bool) -> tuple[Row, ...]:
    """As `tables.parameter_rows`, with reasons."""
    heads, rows = headers(derivation), []
    for (shown, name), cells in zip(grouped(derivation), parameter_rows(derivation), strict=True):
        told = tuple((quantity.replace("_", " "), reason) for quantity, reason in derivation.reasons[name].items())
        chain = derivation.explain(name) if chains else ""
        rows.append(Row(shown, tuple(zip(heads, cells, strict=True)), told, chain))
    return tuple(rows)


def facts(derivation: Derivation) -> tuple[tuple[str, str], ...]:
    """What the page is about, in a few words each."""
    graph = derivation.architecture.graph
    found = [
        ("width", ", ".join(graph.widths)),
        ("parameters", str(len(graph.parameters))),
        ("operations", str(len(graph.nodes))),
        ("optimizer", derivation.choice.title),
        ("form", derivation.form),
    ]
    found += [(f"depth {symbol}", str(count)) for symbol, count in graph.depths]
    return tuple(found)


def provenance(derivation: Derivation, extra: Sequence[str] = ()) -> tuple[tuple[str, str], ...]:
    """Versions, and a hash of the file: what one needs to see whether one has the same."""
    source = derivation.architecture.source
    found = [("SHA-256 of the file", hashlib.sha256(source.encode()).hexdigest()),
             ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")]  # fmt: skip
    for package in (*PACKAGES, *extra):
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            found.append((package, "not installed as a package"))
    return tuple(found)


def file_name(derivation: Derivation) -> str:
    """The last part of the file's path."""
    return Path(derivation.architecture.file).name

"""The page: every section from its result, one template, everything inline."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from tensorprog.coordcheck.report import CheckReport, Row
from tensorprog.coordcheck.show import worst
from tensorprog.derivation import Derivation
from tensorprog.hptransfer.report import TransferReport
from tensorprog.hptransfer.show import cost, curves, findings, origin, setting
from tensorprog.plots.forest import LINES, slope_forest
from tensorprog.plots.ladder import coordinate_check
from tensorprog.plots.network import computation_graph
from tensorprog.plots.select import chosen, counts, groups
from tensorprog.plots.style import DARK, LIGHT, WORDS
from tensorprog.plots.sweep import transfer_curves
from tensorprog.report.content import all_forms, facts, file_name, provenance
from tensorprog.report.pictures import Pictures, theme_colors

CODE_STYLES = ("xcode", "github-dark")  # of Pygments, for light and dark
PANELS = 20  # tensors whose sizes are drawn, at most
MOST = 12  # parts of tensors that do not agree are listed, at the step that agrees least; the whole table has all
SIGNS = {"agrees": "\N{BLACK CIRCLE}", "inconclusive": "\N{BLACK DIAMOND}", "disagrees": "\N{HEAVY MULTIPLICATION X}"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure for wide screens and one for narrow ones (the same, if one serves both)."""

    wide: Markup
    narrow: Markup | None = None


def report_page(
    derivation: Derivation,
    code: str,
    check: CheckReport | None = None,
    transfers: Sequence[TransferReport] = (),
    commands: Mapping[str, str] | None = None,
) -> str:
    """The page as HTML. `code`: the emitted program. `check`, `transfers`: what was measured; without them their
    sections are left out. `commands`: what to type to get each part again, by name."""
    pictures = Pictures()
    title = file_name(derivation)
    network = pictures.svg(lambda theme: computation_graph(derivation, theme, heading=False), f"The graph of {title}")
    transferred = [_transferred(transfer, pictures) for transfer in transfers]
    checked = None if check is None else _checked(check, pictures)
    environment = Environment(
        loader=PackageLoader("tensorprog.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"powers": powers, "signed": signed, "breakable": breakable}
    return environment.get_template("page.html.j2").render(
        title=title, file=derivation.architecture.file, optimizer=derivation.choice.title,
        widths=derivation.widths, facts=facts(derivation), source=derivation.architecture.source.rstrip("\n"),
        network=network, forms=all_forms(derivation), code=_highlighted(code), check=check, checked=checked,
        transferred=transferred, commands=dict(commands or {}), signs=SIGNS,
        provenance=provenance(derivation, ("torch",) if transfers or (check and check.backend == "torch") else ()),
        colors={"light": theme_colors(LIGHT), "dark": theme_colors(DARK)}, mixes=pictures.variables,
        code_styles=_code_styles(),
    )  # fmt: skip


# --- sections -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Checked:
    """The section about the check."""

    sizes: Picture
    slopes: Picture
    counts: str
    shown: str
    listed: str
    not_agreeing: tuple[Row, ...]
    more: int
    table: str


def _checked(check: CheckReport, pictures: Pictures) -> Checked:
    def sizes(columns: int) -> Markup:
        return pictures.svg(lambda theme: coordinate_check(check, theme, columns=columns, limit=PANELS, heading=False),
                            "Sizes of the tensors against the width")  # fmt: skip

    def slopes(narrow: bool) -> Markup:
        return pictures.svg(lambda theme: slope_forest(check, theme, narrow=narrow, heading=False),
                            "Measured slopes beside the predicted exponents")  # fmt: skip

    others = [row for row in check.rows if row.verdict != "agrees"]
    first = sorted(worst(others), key=lambda row: WORDS.index(row.verdict))[:MOST]
    return Checked(
        Picture(sizes(5), sizes(2)), Picture(slopes(False), slopes(True)),
        counts(check), _shown(check, PANELS), _shown(check, LINES), tuple(first),
        len(others) - len(first), check.render(every=True),
    )  # fmt: skip


def _shown(check: CheckReport, limit: int) -> str:
    shown, tensors = len(chosen(check, limit)), len(groups(check))
    if shown == tensors:
        return ""
    return f"Shown are {shown} of {tensors} tensors: those that do not agree, then others all over the network."


@dataclass(frozen=True, slots=True)
class Transferred:
    """The section about one transfer experiment. `verdict`: in the words of a check, and `said` in its own. `findings`:
    of every parametrization, how its optimum moves, then what that means."""

    title: str
    what: str
    verdict: str
    said: str
    setting: str
    findings: list[list[str]]
    cost: str
    curves: Picture
    table: str
    origin: str


def _transferred(report: TransferReport, pictures: Pictures) -> Transferred:
    sweep = curves(report)

    def drawn(columns: int) -> Markup:
        return pictures.svg(lambda theme: transfer_curves(sweep, theme, columns=columns, heading=False), sweep.title)

    verdict = {"transfers": "agrees", "drifts": "disagrees"}.get(report.verdict, "inconclusive")
    return Transferred(
        sweep.title, f"{sweep.quantity} along {sweep.size}", verdict, report.verdict, setting(report),
        findings(report), cost(report), Picture(drawn(3), drawn(1)), report.render(), origin(report),
    )  # fmt: skip


# --- text ---------------------------------------------------------------------------------------------


def powers(text: str) -> Markup:
    """Escaped text, its `^-1/2` set as superscripts and names between backquotes as code."""
    named = re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\^(-?\d+(?:/\d+)?)", r"<sup>\1</sup>", named).replace("<sup>-", "<sup>&minus;"))


def breakable(name: str) -> Markup:
    """Escaped text that may be broken after a dot or an underscore."""
    return Markup(re.sub(r"([._])", r"\1<wbr>", str(escape(name))))


def signed(value: float | None) -> str:
    """`+0.50`, or a dash."""
    return "-" if value is None else f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def _highlighted(code: str) -> Markup:
    return Markup(highlight(code, PythonLexer(), HtmlFormatter(cssclass="code", wrapcode=True)))


def _code_styles() -> dict[str, Markup]:
    """CSS of the code's colours, without its ground."""
    found = {}
    for theme, style in zip(("light", "dark"), CODE_STYLES, strict=True):
        lines = HtmlFormatter(style=style, nobackground=True).get_style_defs(".code").splitlines()
        found[theme] = Markup("\n".join(line for line in lines if re.match(r"\.code \.\w+ ", line)))
    return found

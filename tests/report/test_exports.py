"""Tables for papers: LaTeX that compiles and Markdown whose cells are the table's, for every shipped example."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tensorprog.architecture import parse
from tensorprog.derivation import Derivation
from tensorprog.tables import headers, parameter_rows
from tests.shared import derive

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.tp"))
STRANGE = """
width n_1, outer
axis i: 3, j: n_1, k: outer, c: 2
input x[i]
param W_a_b[j,i], V[k,j], E[c,k]
param g = ones
h[j] = tanh(W_a_b[j,i] x[i])
output f[c] = g * (E[c,k] tanh(V[k,j] h[j]))
loss mse(f)
"""


@cache
def derivations() -> list[Derivation]:
    """The examples, and a network whose names would be commands or subscripts in LaTeX."""
    return [*(derive(path, "adam") for path in EXAMPLES), derive(parse(STRANGE, "a_b%&#.tp"), "sgd")]


@pytest.mark.slow
def test_latex_says_what_the_table_says() -> None:
    for derivation in derivations():
        rows = parameter_rows(derivation)
        first, *lines, last = derivation.render("latex").splitlines()
        assert (first, last) == (r"\begin{tabular}{" + "l" * len(headers(derivation)) + "}", r"\end{tabular}")
        body = [line.removesuffix(r" \\").split(" & ") for line in lines if line.endswith(r" \\")]
        assert lines[0] == r"\toprule" and lines[2] == r"\midrule" and lines[-1] == r"\bottomrule"
        cells = [[plain(cell) for cell in row] for row in body[1:]]
        assert cells[: len(rows)] == [[spaced(cell) for cell in row] for row in rows]
        factors = {row[0].removeprefix("?"): row[2] for row in cells[len(rows) :] if row[0].startswith("?")}
        own = {name: str(power) for name, power in derivation.multipliers.items() if "@" not in name}
        assert factors == {name: power.replace(" ", "") for name, power in own.items()}


def plain(cell: str) -> str:
    """A cell as the terminal shows it, without spaces."""
    cell = "[" + cell[1:-1].replace(r" \times ", ",") + "]" if r"\times" in cell else cell
    cell = re.sub(r"\\(texttt|mathit)\{((?:[^{}])*)\}", r"\2", cell).replace(r"\_", "_").replace(r"\,", "")
    return re.sub(r"[${}\s]", "", "-" if cell == "--" else cell)


def spaced(cell: str) -> str:
    cell = cell.strip("[]") if cell.startswith("[") and "," not in cell else cell
    return "scalar" if cell == "" else cell.replace(" ", "")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None,
                    reason="pdflatex is not installed: apt-get install texlive-latex-recommended")  # fmt: skip
def test_latex_compiles_without_a_complaint(tmp_path: Path) -> None:
    tables = [derivation.render("latex") for derivation in derivations()]
    document = [r"\documentclass{article}", r"\usepackage[landscape,margin=1cm]{geometry}", r"\usepackage{booktabs}",
                r"\begin{document}", r"\footnotesize", "\n\n\\newpage\n".join(tables), r"\end{document}"]  # fmt: skip
    (tmp_path / "table.tex").write_text("\n".join(document))
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "table.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout[-2000:]
    assert "Overfull \\hbox" not in result.stdout
    assert (tmp_path / "table.pdf").read_bytes().startswith(b"%PDF")
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", "-layout", "table.pdf", "-"], cwd=tmp_path, capture_output=True, text=True)
        assert "layers.*.attention.Wq" in text.stdout and "n\N{MINUS SIGN}1/2" in text.stdout.replace(" ", "")


@pytest.mark.slow
def test_markdown_is_a_table_with_as_many_cells_in_every_row() -> None:
    for derivation in derivations():
        title, blank, head, rule, *rest = derivation.render("markdown").splitlines()
        assert title.startswith("**") and title.endswith("**") and blank == ""
        rows = rest[: rest.index("")]
        count = len(headers(derivation))
        assert head == "| " + " | ".join(headers(derivation)) + " |"
        assert rule == "|" + " --- |" * count
        cells = [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows]
        assert cells == [list(row) for row in parameter_rows(derivation)]
        assert all(note.startswith("- ") for note in rest[len(rows) + 1 :])

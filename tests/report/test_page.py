"""The page is whole by itself, says what derivation and check say, and takes nothing from the file as markup."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import escape
from pathlib import Path

import pytest

for _package in ("matplotlib", "jinja2", "pygments"):
    pytest.importorskip(_package)

from tensorprog.api import emit
from tensorprog.architecture import parse
from tensorprog.calculus.forms import FORMS
from tensorprog.cli import main
from tensorprog.coordcheck.report import CheckReport
from tensorprog.derivation import Derivation
from tensorprog.hptransfer.report import TransferReport
from tensorprog.report import report_page
from tensorprog.tables import HEADERS, parameter_rows
from tests.cli.error_table import ROWS, whole
from tests.report.pages import EXAMPLES, TRANSFER, Page, checked, page_of
from tests.shared import derive, python

MLP = EXAMPLES / "mlp.tp"


@pytest.fixture(scope="module")
def page() -> str:
    """Everything: a check that disagrees here and there, and a transfer sweep."""
    derivation = derive(MLP, "adam")
    return report_page(derivation, emit(derivation), disagreeing(derivation), [TRANSFER], {"This": "tpcalc"})


def disagreeing(derivation: Derivation) -> CheckReport:
    """A check of the standard parametrization, its rows of three tensors."""
    report = checked(derivation, parametrization="sp")
    return replace(report, rows=tuple(row for row in report.rows if row.tensor in ("W2", "h2", "f")))


@pytest.mark.slow
def test_the_page_is_well_formed_and_needs_nothing_else(page: str) -> None:
    seen = Page(page)
    assert seen.wrong == []
    ids = seen.having("id")
    assert len(ids) == len(set(ids))
    links = [*seen.having("href"), *seen.having("xlink:href"), *seen.having("src")]
    assert all(link == "data:," or link.removeprefix("#") in ids for link in links)
    assert set(re.findall(r"url\(#([^)]*)\)", page)) <= set(ids)
    addresses = set(re.findall(r"https?://[\w./-]*", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in page and "url(" not in re.sub(r"url\(#", "", page)


@pytest.mark.slow
def test_figures_take_their_colours_from_the_page(page: str) -> None:
    """In light and in dark: no colour is written into a figure, and every variable is defined in both."""
    figures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(figures) == 7
    light, dark = page.split("prefers-color-scheme: dark")[:2]
    for figure in figures:
        assert not re.search(r"[:\"]\s*#[0-9a-fA-F]{3,8}\b", figure)
        for name in set(re.findall(r"var\(--([\w]+)\)", figure)):
            assert f"--{name}: #" in light and f"--{name}: #" in dark


@pytest.mark.slow
def test_every_form_is_there_with_the_numbers_of_the_table() -> None:
    shown = [" ".join(text.split()) for text in Page(page_of()).texts[".row"]]
    for form in FORMS:
        for row in parameter_rows(derive(MLP, "adam", form)):
            name, shape, *numbers = (cell.replace("^-", "\N{MINUS SIGN}").replace("^", "") for cell in row)
            cells = (f"{head} {number}" for head, number in zip(HEADERS[2:], numbers, strict=True))
            assert " ".join((name, shape, *cells)) in shown, form


@pytest.mark.slow
def test_every_row_unfolds_to_its_reasons_and_the_chain() -> None:
    derivation = derive(MLP, "adam")
    reasons, chains = Page(page_of()).texts[".why"], Page(page_of()).texts[".chain"]
    assert len(chains) == len(derivation.params)
    assert len(reasons) == len(FORMS) * len(derivation.params)
    for why, (name, told) in zip(reasons, derivation.reasons.items(), strict=False):
        for reason in told.values():
            assert re.sub(r"\^-?", "", reason) in why.replace("\N{MINUS SIGN}", ""), name
    assert "the sum over j (n terms) is aligned, law of large numbers" in chains[1]


@pytest.mark.slow
def test_the_check_is_told_row_by_row_and_what_disagrees_comes_first(page: str) -> None:
    derivation = derive(MLP, "adam")
    report = disagreeing(derivation)
    seen = Page(page)
    assert any(report.render(every=True).strip() in text for text in seen.texts["pre"])
    assert report.fault is not None and report.control is not None
    told = " ".join(seen.texts["p"]).replace("\N{MINUS SIGN}", "-")
    for sentence in (report.fault, report.control):
        assert re.sub(r"[`^]", "", str(sentence))[1:] in told
    wrong = [row for row in report.rows if row.verdict == "disagrees"]
    listed = next(text for text in seen.texts["ul"] if "measured" in text)
    assert wrong and all(re.search(rf"disagrees\s+{re.escape(row.tensor)}, {row.part}", listed) for row in wrong[:12])
    assert report.verdict == "disagrees" and "check: disagrees" in page


@pytest.mark.slow
@pytest.mark.slow
def test_the_transfer_is_told_with_its_protocol_and_findings(page: str) -> None:
    seen = Page(page)
    section, head, last = (" ".join(text.split()) for text in (seen.texts["section"][-2], *seen.texts["header"],
                                                               seen.texts["section"][-1]))  # fmt: skip
    assert "transfer: transfers" in head and "lr along n" in head
    assert "data digits; 50 steps of 8 examples, 2 seeds; base n = 32" in section
    for finding in ("moves by +0.01 [-0.04, +0.06] octaves per doubling of n: transfers", "with the best lr of n = 32",
                    "worse 5 (most at 0.1, from 32 to 64)", "saves a factor of 4"):  # fmt: skip
        assert finding in section
    assert "derived, sp at n = 32, 64" in last and "torch 2" in last


def test_sections_without_a_result_are_left_out() -> None:
    bare = Page(page_of())
    assert set(bare.having("id")) & {"check", "transfer"} == set()
    assert {"architecture", "derived", "code", "again"} <= set(bare.having("id"))
    assert "#check" not in bare.having("href")


@pytest.mark.slow
def test_same_input_same_bytes(page: str) -> None:
    derivation = derive(MLP, "adam")
    again = report_page(derivation, emit(derivation), disagreeing(derivation), [TRANSFER], {"This": "tpcalc"})
    assert again == page
    assert not re.search(r"20\d\d-\d\d-\d\d", page)  # no date of making


def test_a_form_without_an_answer_says_why() -> None:
    row = next(row for row in ROWS if row.form == "table3")
    derivation = derive(parse(whole(row.bad)), "adam")
    assert str(escape(row.message)) in report_page(derivation, emit(derivation))


EVIL = """# </pre><script>alert('a')</script> <img src=x onerror=alert(1)> {{ 7 * 7 }} {% raw %}
width n  # ]]> --> &lt;
axis i: 4, j: n, c: 3
input x[i]
param W[j,i], V[c,j]
output f[c] = V[c,j] tanh(W[j,i] x[i])
loss mse(f)
"""


@pytest.mark.slow
def test_nothing_in_the_file_becomes_markup() -> None:
    derivation = derive(parse(EVIL, '<b onclick="x()">&amp;$x$.tp'), "adam")
    text = report_page(derivation, emit(derivation), commands={"<i>": "tpcalc '<u>'"})
    seen, plain = Page(text), Page(page_of())
    assert seen.wrong == []
    for attribute in ("onerror", "onclick", "src"):
        assert seen.having(attribute) == []
    tags = [tag for tag, _ in seen.elements]
    assert tags.count("script") == 1 and tags.count("img") == 0 and tags.count("u") == 0
    assert set(tags) <= {tag for tag, _ in plain.elements} | {"dl", "dt", "dd"}
    assert EVIL.strip() in seen.texts["pre"][0]
    assert '<b onclick="x()">&amp;$x$.tp' in seen.texts["h1"][0]


# --- the command line ---------------------------------------------------------------------------------

QUICK = ["--widths", "32,64", "--seeds", "2", "--max-seeds", "2", "--steps", "1", "--batch", "8"]


@pytest.mark.slow
def test_report_writes_one_file_and_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "transfer.json"
    results.write_text(TRANSFER.render("json"))
    assert TransferReport.from_json(json.loads(results.read_text())) == TRANSFER
    out = tmp_path / "report.html"
    small = tmp_path / "evil.tp"
    small.write_text(EVIL)
    assert main(["report", str(small), "-o", str(out), *QUICK, "--transfer", str(results), "--base-width", "64"]) == 0
    assert capsys.readouterr() == ("", "")
    text = out.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.tp", "report.html", "transfer.json"]
    assert "tpcalc report" in text and "BASE" in text and TRANSFER.render().splitlines()[-1] in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "no/such/report.html"], "cannot write no/such/report.html: No such file or directory"),
        (["-o", "."], "cannot write .: Is a directory"),
        (["-o", "r.html", "--transfer", "no.json"], "cannot read no.json: No such file or directory"),
        (["-o", "r.html", "--transfer", "list.json"], "list.json holds no result of a transfer experiment"),
        (["-o", "r.html", "--transfer", "text.json"], "text.json holds no result of a transfer experiment"),
        (["-o", "r.html", "--form", "table7"], "unknown form `table7`"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("list.json").write_text("[1, 2]")
    Path("text.json").write_text("no json")
    assert main(["report", str(MLP), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err
    assert not Path("r.html").exists()


@pytest.mark.slow
def test_without_its_packages_the_message_says_what_to_install(tmp_path: Path) -> None:
    code = f"""
import sys
from tensorprog.cli import main
for package in ("jinja2", "pygments", "matplotlib"):
    sys.modules[package] = None
    assert main(["report", {str(MLP)!r}, "-o", "r.html", "--no-check"]) == 2
    for name in [name for name in sys.modules if name.startswith((package, "tensorprog.report", "tensorprog.plots"))]:
        del sys.modules[name]
"""
    result = python("-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for package in ("jinja2", "pygments", "matplotlib"):
        assert f"error: a report needs {package}" in result.stderr
    assert result.stderr.count("pip install 'tensorprog[report]'") == 3
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_saturated_or_lost_row_is_shown_without_numbers() -> None:
    derivation = derive(MLP, "adam")
    report = checked(derivation)
    lost = {"measured": None, "low": None, "high": None, "rms": ((1.0, None, 1.0),) * 3}
    row = replace(report.rows[3], verdict="disagrees", reason="overflows at width 64", **lost)
    text = report_page(derivation, "pass\n", replace(report, rows=(row, *report.rows[4:6])))
    assert "overflows at width 64" in text and Page(text).wrong == []

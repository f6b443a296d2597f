"""The command line: exit codes, what goes where, the JSON output, whole files, the same bytes for the same input."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shlex
import stat
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import networkx
import pytest

import tensorprog
from tensorprog import TensorProgError, parse
from tensorprog.cli import main, parser
from tensorprog.cli.arguments import EXAMPLES
from tensorprog.cli.terminal import write_whole
from tensorprog.errors import InternalError
from tensorprog.export import to_networkx
from tensorprog.files import OTHERWISE, READING, WRITING, unreadable, unwritable
from tests.cli.error_table import FILES, ROWS, FileRow, Row, fill, run, whole
from tests.shared import ROOT, derive, python, tiers

MLP = str(ROOT / "examples" / "mlp.tp")
GPT = str(ROOT / "examples" / "gpt.tp")
QUICK = ["--widths", "32,64", "--seeds", "2", "--max-seeds", "2", "--steps", "2", "--batch", "8"]

TWO_WIDTHS = """\
width n, m
axis i: 4, j: n, k: m, c: 3
input x[i]
param U[j,i], W[k,j], V[c,k]
param b[k] = zeros
param s[k] = ones frozen
h[j] = U[j,i] x[i]
g[k] = ?scale * relu(W[k,j] h[j]) + s[k] * b[k]
output f[c] = V[c,k] g[k]
loss mse(f)
"""


@pytest.fixture
def two_widths(tmp_path: Path) -> str:
    file = tmp_path / "net.tp"
    file.write_text(TWO_WIDTHS)
    return str(file)


# --- commands and exit codes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "begins"),
    [
        (["derive", MLP], f"{MLP}: muP for adam, form table8\n"),
        (["derive", MLP, "--optimizer", "sgd", "--form", "table3"], f"{MLP}: muP for sgd, form table3\n"),
        (["derive", MLP, "--format", "json"], "{\n"),
        (["derive", MLP, "--format", "markdown"], f"**{MLP}: muP for adam, form table8**\n"),
        (["derive", MLP, "--format", "latex"], r"\begin{tabular}{lllllll}" + "\n" + r"\toprule"),
        (["derive", GPT, "--depth", "L=1"], f"{GPT}: muP for adam"),
        (["explain", MLP, "W3"], "W3 [c: 10, k: n]   optimizer adam, form table8\n\nmultiplier  n^-1\n"),
        (["explain", MLP, "W3", "lr"], "W3 [c: 10, k: n]   optimizer adam, form table8\n\nlr  1\n"),
        pytest.param(["explain", GPT, "?branch"], "?branch  L^-1\n", marks=pytest.mark.slow),
        pytest.param(["explain", GPT, "branch"], "?branch  L^-1\n", marks=pytest.mark.slow),
        (["emit", MLP], '"""'),
        (["graph", MLP], "digraph"),
        (["graph", MLP, "--format", "mermaid"], "flowchart"),
        (["graph", MLP, "--format", "json"], "{"),
        (["fmt", MLP], Path(MLP).read_text()[:40]),
    ],
    ids=lambda v: " ".join(v).replace(f"{ROOT}/examples/", "") if isinstance(v, list) else "",
)
def test_command_prints_its_result_and_nothing_else(
    arguments: list[str], begins: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert out.startswith(begins)
    assert out.endswith("\n")
    assert err == ""


@pytest.mark.slow
@pytest.mark.parametrize("example", tiers(sorted((ROOT / "examples").glob("*.tp")), ("mlp", "gpt")))
def test_no_line_of_a_derivation_is_longer_than_a_terminal(example: Path) -> None:
    for optimizer in ("adam", "muon"):
        derivation = derive(example, optimizer)
        lines = [*derivation.render().splitlines()[1:], *derivation.explain(next(iter(derivation.params))).splitlines()]
        assert max(map(len, lines)) <= 120


def test_check_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", MLP, *QUICK, "--parametrization", "sp"]) == 1
    out, err = capsys.readouterr()
    assert "disagrees" in out
    assert err == ""
    assert main(["check", MLP, "--widths", "64,128,256", "--steps", "1"]) == 0
    assert " 0 disagrees" in capsys.readouterr().out


def test_fmt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.tp"
    file.write_text("width   n\n")
    assert main(["fmt", "--check", str(file)]) == 1
    assert main(["fmt", str(file)]) == 0
    assert capsys.readouterr() == ("width n\n", "")
    assert file.read_text() == "width   n\n"
    assert main(["fmt", "-w", str(file)]) == 0
    assert main(["fmt", "--check", str(file)]) == 0
    assert capsys.readouterr() == ("", "")
    assert file.read_text() == "width n\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["drive", MLP], "invalid choice: 'drive'"),
        (["derive"], "the following arguments are required: FILE"),
        (["derive", MLP, "--format", "xml"], "invalid choice: 'xml'"),
        (["derive", MLP, "--depth", "L"], "'L': write a depth symbol and a number up to 1024, such as L=4"),
        (["derive", GPT, "--depth", "L=0"], "'L=0': write a depth symbol"),
        (["emit", MLP, "--base-width", "0"], "'0': write a width such as 256, or n=256"),
        (["emit", MLP, "--framework", "jax"], "invalid choice: 'jax'"),
        (["check", MLP, "--widths", "64,,128"], "write increasing widths"),
        (["check", MLP, "--widths", "64,1000000"], "a width above 65536"),
        (["check", MLP, "--seeds", "0"], "'0': write a whole number from 1"),
        (["check", MLP, "--steps", "-1"], "'-1': write a whole number from 1"),
        (["check", MLP, "--batch", "two"], "'two': write a whole number from 1"),
        (["check", MLP, "--lr", "nan"], "'nan': write a positive number"),
        (["check", MLP, "--lr", "0"], "'0': write a positive number"),
        (["check", MLP, "--lr-exponent", "half"], "'half': write a rational number"),
        (["check", MLP, "--lr-exponent", "1e999999999"], "'1e999999999': write a rational number"),
        (["classify", MLP, "--lr", "1e999999999"], "'1e999999999': write a rational number"),
        (["check", GPT, "--depths", "4,2000"], "'4,2000': write increasing depths up to 1024"),
        (["derive", MLP, "--optimizer", ""], "argument --optimizer: the value is empty"),
        (["derive", MLP, "--form="], "argument --form: the value is empty"),
        (["emit", MLP, "-o", ""], "argument -o/--output: the value is empty"),
        (["fmt", "-w", "--check", MLP], "argument --check: not allowed with argument -w/--write"),
    ],
    ids=lambda v: " ".join(v).replace(f"{ROOT}/examples/", "") if isinstance(v, list) else "",
)
def test_bad_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert second.startswith("  see `tpcalc ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["derive", ""], "error: the name of the file is empty\n"),
        (["derive", MLP, "--optimizer", "adm"], "error: unknown optimizer `adm`\n"),
        (["derive", MLP, "--form", "table7"], "error: unknown form `table7`\n"),
        (["derive", MLP, "--depth", "L=3"], f"{MLP}: error: the file has no depth `L`\n"),
        (["explain", MLP, "W9"], f"{MLP}: error: no parameter or multiplier `W9`\n"),
        (["explain", MLP, "W1", "size"], "error: no quantity `size`\n"),
        (["emit", MLP, "--base-width", "m=64"], "error: no width symbol `m`\n"),
        (["check", MLP, "--widths", "64"], f"{MLP}: error: the widths must be at least two, increasing\n"),
        (["check", MLP, "--widths", "64,32"], f"{MLP}: error: the widths must be at least two, increasing\n"),
        (
            ["check", MLP, "--seeds", "6", "--max-seeds", "4"],
            f"{MLP}: error: 6 seeds to begin with are more than the 4 allowed at most\n",
        ),
        pytest.param(
            ["check", GPT, "--widths", "60,100"],
            f"{GPT}: error: the size n / 16 is 15/4 at n = 60\n",
            marks=pytest.mark.slow,
        ),
        (["check", MLP, "--parametrization", "pmu"], f"{MLP}: error: unknown parametrization `pmu`\n"),
        (["check", MLP, "--plot", "slopes"], "error: --plot is about a picture\n"),
        (["classify", MLP, "--theme", "dark"], "error: --theme is about a picture\n"),
        (["graph", MLP, "--theme", "dark"], "error: --theme is about a picture\n"),
        (["check", GPT, "--depths", "8,4"], f"{GPT}: error: the depths must be at least two, increasing\n"),
        (["explain", MLP, "W1", ""], "error: no quantity ``\n"),
        (
            ["classify", MLP, "--lr", "1000000"],
            f"{MLP}: error: a global learning rate ~ n^1000000 is out of the ordinary\n",
        ),
        (
            ["check", MLP, "--parametrization", "sp", "--lr-exponent", "400"],
            f"{MLP}: error: a global learning rate ~ n^400 is out of the ordinary\n",
        ),
        (["check", MLP, "--set", "lr[W1]=1e999999999"], f"{MLP}: error: `lr[W1]=1e999999999` sets no exponent\n"),
        (["check", MLP, "--lr-exponent=-1"], "error: --lr-exponent has no meaning for the derived parametrization\n"),
    ],
    ids=lambda v: " ".join(v).replace(f"{ROOT}/examples/", "") if isinstance(v, list) else "",
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{err.splitlines()[0]}\n" == message
    assert "\n  why: " in err and "\n  write instead: " in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "net.tp: error: the file has no output"),
        (b"# nothing\n", "net.tp: error: the file has no output"),
        (b"\xff\xfe\x00", "error: cannot read net.tp: it is not UTF-8 text"),
        (b"width n\x00", "net.tp:1:8: error: the character U+0000 does not belong here"),
        (b"widht n", "net.tp:1:1: error: `widht` begins no statement"),
    ],
)
@pytest.mark.parametrize("command", ["derive", "emit", "check", "graph"])
def test_files_that_are_no_architectures(
    command: str, content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("net.tp").write_bytes(content)
    assert main([command, "net.tp"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0] == message


# --- mistakes that only the derivation finds --------------------------------------------------------

ROW_IDS = [f"{k}: {row.message}" for k, row in enumerate(ROWS)]


@pytest.mark.parametrize("row", ROWS, ids=ROW_IDS)
def test_mistake_is_named_at_its_place(row: Row) -> None:
    with pytest.raises(TensorProgError) as caught:
        derive(parse(whole(row.bad), "net.tp"), "adam", row.form or None)
    error = caught.value
    assert error.message == row.message
    assert error.render().startswith(f"net.tp:{row.place}: error: {row.message}\n")
    assert "^" in error.render()
    assert error.why and error.fix


@pytest.mark.parametrize("row", ROWS, ids=ROW_IDS)
def test_mended_text_derives(row: Row) -> None:
    assert derive(parse(whole(row.mended)), "adam", row.form or None).params


# --- files that cannot be read or written -----------------------------------------------------------

FILE_IDS = [row.bad for row in FILES]


@pytest.mark.parametrize("row", FILES, ids=FILE_IDS)
def test_file_that_cannot_be_used_is_named_before_anything_is_trained(
    row: FileRow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(TensorProgError) as caught:
        run(row.bad)
    assert caught.value.message == row.message
    assert caught.value.why and caught.value.fix
    assert capsys.readouterr() == ("", "")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("row", [row for row in FILES if row.cheap], ids=[row.bad for row in FILES if row.cheap])
def test_mended_command_runs(row: FileRow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run(row.mended) == 0


@pytest.mark.parametrize("said", [unreadable, unwritable])
@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EIO])
def test_whatever_the_system_says_of_a_file_has_a_reason_and_a_way_out(said: Any, code: int) -> None:
    known = {unreadable: READING, unwritable: WRITING}[said]
    error = said("a/net.tp", OSError(code, os.strerror(code)), *(("a .tp file",) if said is unreadable else ()))
    assert error.message == f"cannot {'read' if said is unreadable else 'write'} a/net.tp: {os.strerror(code)}"
    assert error.why == known.get(code, OTHERWISE)[0]
    assert error.fix and "{" not in error.fix


# --- the JSON output --------------------------------------------------------------------------------


def is_exponent(value: Any, symbols: set[str]) -> bool:
    return set(value) == symbols and all(str(Fraction(v)) == v for v in value.values())


def test_json_of_derive(two_widths: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["derive", two_widths, "--format", "json"]) == 0
    result = json.loads(capsys.readouterr().out)
    keys = {"schema", "file", "optimizer", "form", "parameters", "multipliers", "tensors"}
    assert keys <= set(result) <= keys | {"depths", "gradient_norm", "decay_policy", "vanishing"}
    assert (result["schema"], result["file"]) == (1, two_widths)
    assert (result["optimizer"], result["form"]) == ("adam", "table8")
    symbols = {"n", "m"}
    assert list(result["parameters"]) == ["U", "W", "V", "b", "s"]
    quantities = ["multiplier", "init_std", "lr", "weight_decay", "eps"]
    for parameter in result["parameters"].values():
        assert list(parameter) == ["shape", *quantities, "optimizer", "reasons"]
        assert all(parameter[q] is None or is_exponent(parameter[q], symbols) for q in quantities)
        assert set(parameter["reasons"]) <= set(quantities)
        assert all(parameter[q] is None or q in parameter["reasons"] for q in ("multiplier", "init_std", "lr"))
    assert result["parameters"]["U"]["shape"] == ["n", "4"]
    assert result["parameters"]["b"]["init_std"] is None  # exactly zero
    assert result["parameters"]["s"]["lr"] is None  # frozen
    assert sum(map(Fraction, result["parameters"]["W"]["init_std"].values())) == Fraction(-1, 2)
    assert set(result["multipliers"]) == {"scale"}
    assert is_exponent(result["multipliers"]["scale"], symbols)
    for tensor in result["tensors"].values():
        assert set(tensor) == {"init", "change"}
        assert all(v is None or is_exponent(v, symbols) for v in tensor.values())
    assert result["tensors"]["h"] == {"init": {"n": "0", "m": "0"}, "change": {"n": "0", "m": "0"}}
    assert result["tensors"]["x"]["change"] is None


def test_json_of_graph_is_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", MLP, "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data.pop("schema") == 1
    read = networkx.node_link_graph(data, edges="edges")
    own = to_networkx(tensorprog.load(MLP).graph)
    assert dict(read.nodes(data="op")) == dict(own.nodes(data="op"))
    assert sorted(read.edges(data="position")) == sorted(own.edges(data="position"))


def test_json_of_check(capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", MLP, *QUICK, "--format", "json"])
    result = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)  # no NaN, no Infinity
    assert result["schema"] == 1
    assert (result["widths"], result["seeds"], result["steps"]) == ([32, 64], 2, 2)
    verdicts = {"agrees", "disagrees", "inconclusive"}
    assert result["verdict"] in verdicts
    seen = set()
    for row in result["rows"]:
        assert {"tensor", "step", "part", "predicted", "measured", "low", "high", "verdict"} <= set(row)
        assert row["part"] == "change" if row["step"] else row["part"] in ("init", "gradient")
        assert row["predicted"] is None or str(Fraction(row["predicted"])) == row["predicted"]
        assert row["verdict"] in verdicts
        assert [len(sizes) for sizes in row["rms"]] == [2, 2]
        if None not in (row["low"], row["measured"], row["high"]):
            assert row["low"] <= row["measured"] <= row["high"]
        seen.add((row["tensor"], row["step"], row["part"]))
    assert len(seen) == len(result["rows"])
    assert {
        ("f", 0, "init"),
        ("f", 1, "change"),
        ("f", 2, "change"),
        ("W1", 0, "gradient"),
        ("b1", 2, "change"),
    } <= seen
    assert result["control"]["derived"] != result["control"]["trained"] and result["fault"] is None


# --- files ------------------------------------------------------------------------------------------


def test_emit_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["emit", MLP]) == 0
    printed = capsys.readouterr().out
    assert main(["emit", MLP, "-o", str(tmp_path / "model.py")]) == 0
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "model.py").read_text() == printed
    assert [p.name for p in tmp_path.iterdir()] == ["model.py"]


def test_write_whole_keeps_mode_and_links(tmp_path: Path) -> None:
    real, link = tmp_path / "real.py", tmp_path / "link.py"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    write_whole(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    old = os.umask(0o027)
    try:
        write_whole(tmp_path / "fresh.py", "text")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "fresh.py").stat().st_mode) == 0o640


def test_write_whole_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "model.py"
    target.write_text("old")

    def refuse(self: Path, other: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(TensorProgError, match="No space left on device"):
        write_whole(target, "new")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.py"]


def test_write_whole_leaves_nothing_when_it_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Path, mode: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "chmod", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "model.py", "new")
    assert list(tmp_path.iterdir()) == []


def test_write_whole_writes_into_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True) as reader:
        write_whole(pipe, "text")
        assert reader.communicate(timeout=20)[0] == "text"
    assert pipe.is_fifo()


@pytest.mark.parametrize("name", ["derive", "fmt", "emit", "classify"])
def test_a_dash_is_standard_input(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--parametrization", "sp"] if name == "classify" else []
    assert main([name, MLP, *more]) == 0
    expected = capsys.readouterr().out.replace(MLP, "<stdin>").replace("Mlp", "Stdin").replace("mlp.tp", "?stdin?")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(MLP).read_bytes())))
    assert main([name, "-", *more]) == 0
    assert capsys.readouterr().out == expected


# --- the process ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_same_input_same_bytes() -> None:
    """Whatever the order of sets in the process."""
    commands = [
        ["derive", GPT, "--format", "json"],
        ["emit", GPT],
        ["derive", MLP],
        ["explain", MLP, "W2"],
        ["graph", MLP],
        ["check", MLP, *QUICK, "--format", "json"],
    ]
    code = f"from tensorprog.cli import main\nfor c in {commands!r}: print('==', *c, flush=True); main(c)"
    one, two = (python("-c", code, PYTHONHASHSEED=seed).stdout for seed in ("0", "1"))
    assert one == two
    assert len(one.split("\n==")) == len(commands) and len(one) > 20_000


def test_color_is_for_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    main(["derive", MLP])
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    main(["derive", MLP])
    colored = capsys.readouterr().out
    assert "\x1b[1m" in colored
    monkeypatch.setenv("NO_COLOR", "1")
    main(["derive", MLP])
    assert capsys.readouterr().out == re.sub(r"\x1b\[\d*m", "", colored)


@pytest.mark.slow
def test_reader_that_stops_early_is_no_error() -> None:
    command = f"{sys.executable} -m tensorprog.cli derive {MLP} --format json"
    result = subprocess.run(
        ["bash", "-c", f"{command} | true; exit ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full")
def test_full_disk_is_one_message() -> None:
    result = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m tensorprog.cli derive {MLP} > /dev/full"],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr.splitlines()[:2] == [
        "error: cannot write the output: No space left on device",
        "  why: the disk is full",
    ]


def test_interrupt_is_one_word(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tensorprog.api.check", interrupted)
    assert main(["check", MLP]) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


def test_out_of_memory_is_one_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("tensorprog.api.check", exhausted)
    assert main(["check", MLP]) == 2
    assert capsys.readouterr().err.startswith("error: out of memory\n")


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (KeyError("x"), "KeyError: 'x' (cli/check.py:"),
        (InternalError("an odd node"), "an odd node"),
    ],
)
def test_fault_of_the_tool_is_one_message_of_its_own(
    raised: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("tensorprog.api.check", broken)
    assert main(["check", MLP]) == 3
    written = capsys.readouterr().err.splitlines()
    assert written[0].startswith(f"error: fault in tensorprog: {said}")
    assert [line.split(":")[0] for line in written[1:]] == ["  why", "  write instead"]


@pytest.mark.parametrize(
    ("words", "message", "fix"),
    [
        (["--optimzer", "adam"], "`tpcalc derive` has no option `--optimzer`", "--optimizer"),
        (["--", "--x"], "`tpcalc derive` has no option `--x`", "one of `tpcalc derive --help`"),
        (["--colour=always"], "`tpcalc derive` has no option `--colour`", "one of `tpcalc derive --help`"),
        ([MLP], f"`{MLP}` is one argument too many", "one network at a time, and quotes around what holds spaces"),
    ],
)
def test_word_that_no_option_takes_is_named(
    words: list[str], message: str, fix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["derive", MLP, *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0] == f"error: {message}"
    assert err.splitlines()[1].startswith("  why: ")
    assert err.splitlines()[2:] == [f"  write instead: {fix}"]


@pytest.mark.parametrize("command", EXAMPLES)
def test_help_shows_examples_that_parse(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = capsys.readouterr().out.partition("examples:\n")[2].splitlines()
    assert len(shown) == len(EXAMPLES[command]) > 0
    for line in shown:
        assert parser().parse_args(shlex.split(line)[1:]).command == command


def test_every_command_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE)
    assert sorted(commands) == sorted(EXAMPLES)


@pytest.mark.slow
def test_verbs_stay_functions_once_their_submodules_are_imported() -> None:
    program = (
        "import tensorprog.coordcheck.run, tensorprog.derivation, tensorprog.emission\nimport tensorprog as tp\n"
        f"for _ in range(2): tp.emit(tp.derive({MLP!r}))\n"
        f"print(tp.check({MLP!r}, widths=(16, 32), seeds=1, max_seeds=1, steps=1, batch=4).steps)"
    )
    result = python("-c", program)
    assert (result.stdout, result.stderr) == ("1\n", "")
    assert tensorprog.derive is tensorprog.api.derive


def test_prose_fits_a_narrow_terminal_and_is_not_changed_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", MLP, "W3"]) == 0
    wide = capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["explain", MLP, "W3"]) == 0
    narrow = capsys.readouterr().out
    assert max(map(len, narrow.splitlines())) <= 60 < max(map(len, wide.splitlines()))
    assert narrow.split() == wide.split()

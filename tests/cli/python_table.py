"""Mistakes that only Python can make, and errors behind limits that no short text reaches: (message, call)."""

# ruff: noqa: E501

from __future__ import annotations

import argparse
import io
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import tensorprog as tp
from tensorprog import emission
from tensorprog.calculus.forms import parametrize
from tensorprog.classify.regime import classify
from tensorprog.cli import _superfluous, parser
from tensorprog.cli.arguments import program
from tensorprog.cli.terminal import show
from tensorprog.graph import Map
from tensorprog.hptransfer.store import Store
from tensorprog.optimizers import OPTIMIZERS, Optimizer
from tensorprog.parser import parse as parse_text
from tensorprog.steps import rule_of

NET = "width n\naxis i: 4, j: n, c: 3\ninput x[i]\nparam V[c,j], U[j,i]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nloss mse(f)"
DEEP = "width n\ndepth L\naxis i: 4\ninput x[i]\nh = linear(x, n)\nrepeat L { h = linear(h, n) }\noutput f = readout(h, 3)\nloss mse(f)"

TABLE = "width n\naxis t: 4, i: 4, j: n, c: 3\ninput x[i]\nparam P[t,j], V[c,j], U[j,i]\nh[j] = U[j,i] x[i] + P[0,j]\ng[j] = relu(h[j]) + P[1,j]\noutput f[c] = V[c,j] g[j]\nloss mse(f)"


class PythonRow(NamedTuple):
    """`torch`: whether it needs PyTorch."""

    message: str
    call: Callable[[], Any]
    torch: bool = False


def _net() -> tp.Architecture:
    return tp.parse(NET, "net.tp")


def _limited(limit: str, value: Any, call: Callable[[], Any]) -> Callable[[], Any]:
    """The call with a limit of the tool lowered (a name in a module)."""

    def limited() -> Any:
        with mock.patch(f"tensorprog.{limit}", value):
            return call()

    return limited


def _own(name: str, **more: Any) -> Optimizer:
    return replace(OPTIMIZERS["sgd"], name=name, torch=None, **more)


def _old_store() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "old.sqlite"
        connection = sqlite3.connect(path)
        connection.execute("create table runs (key)")
        connection.commit()
        connection.close()
        try:
            Store(path)
        except tp.TensorProgError as error:
            error.message = error.message.replace(folder, "..")
            raise


def _closed_store(*, written: bool) -> None:
    job: Any = mock.MagicMock(sizes=())
    outcome: Any = mock.MagicMock(loss=1.0, initial=2.0)
    store = Store(None)
    store._connection.close()
    if written:
        store.put("key", "derived", "data", job, outcome)
    else:
        store.get("key")


def _bytes_on_standard_input() -> Any:
    with mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(b"width \xff"))):
        return program(argparse.Namespace(file="-"))


def _unknown_function() -> Any:
    known = tp.parse(NET.replace("V[c,j] h[j]", "V[c,j] relu(h[j])"))
    nodes = known.graph.nodes
    known.__dict__["graph"] = replace(
        known.graph, nodes=tuple(replace(n, op=Map("nothing")) if isinstance(n.op, Map) else n for n in nodes)
    )
    return tp.derive(known)


def _no_grammar(*_: Any) -> Any:
    raise RecursionError("maximum recursion depth exceeded")


def _drawn() -> Any:
    from tensorprog.plots import style

    return style.render(None, "gif")  # type: ignore[arg-type]


def _plane() -> Any:
    from tensorprog.plots.regions import stable_plane

    return stable_plane(classify(_net(), "sp"))


ROWS = (
    PythonRow("a base width must be at least 1", lambda: tp.emit(_net(), base_width=0)),
    PythonRow("there is no emission for 'jax'", lambda: tp.emit(_net(), framework="jax")),
    PythonRow(
        "there is no base width for n",
        lambda: emission.emit(_net().model, tp.derive(_net()).parametrization, {}, source_name="net.tp"),
    ),
    PythonRow(
        "the optimizer `mine` cannot be emitted", lambda: tp.emit(_net(), _own("mine", step=lambda stepper, w, g: None))
    ),
    PythonRow(
        "two optimizers are called `mine`",
        lambda: tp.emit(tp.derive(_net(), _own("mine"), optimizer_for={"U": _own("mine", decay="none")})),
    ),
    PythonRow('the optimizer mine has normalisation "rms"', lambda: Optimizer("mine", "rms")),
    PythonRow("the optimizer `mine` has no NumPy step", lambda: rule_of(_own("mine"))),
    PythonRow("one definition of an optimizer is wanted", lambda: tp.optimizer("width n")),
    PythonRow("unknown form `table4`", lambda: parametrize(tp.derive(_net()).solution, "table4")),
    PythonRow("the depth L = -1 is not between 0 and 1024", lambda: tp.derive(tp.parse(DEEP, depths={"L": -1}))),
    PythonRow("the calculus does not cover `nothing(h)`", _unknown_function),
    PythonRow("cannot write None: Cannot operate on a closed database.", partial(_closed_store, written=True)),
    PythonRow("cannot read None: Cannot operate on a closed database.", partial(_closed_store, written=False)),
    PythonRow(
        "the calculus does not cover `d P`", _limited("calculus.regions.MOST", 0, lambda: tp.derive(tp.parse(TABLE)))
    ),
    PythonRow("cannot read standard input: it is not UTF-8 text", _bytes_on_standard_input),
    PythonRow(
        "cannot write the output: standard output is closed",
        _limited("cli.terminal.sys.stdout", None, lambda: show("x")),
    ),
    PythonRow(
        "the file has no width",
        lambda: tp.derive(tp.parse("axis i: 4\ninput x[i]\noutput f = readout(x, 3)\nloss mse(f)")),
    ),
    PythonRow("seeds and steps must be at least 1", lambda: tp.check(_net(), seeds=0)),
    PythonRow("unknown backend `jax`", lambda: tp.check(_net(), backend="jax", widths=(8, 16), steps=1)),
    PythonRow("steps, batch, seeds and jobs must be at least 1", lambda: tp.transfer(_net(), seeds=0), torch=True),
    PythonRow(
        "there is no parametrization to train",
        lambda: tp.transfer(
            tp.parse(NET.replace("i: 4", "i: 64").replace("c: 3", "c: 10").replace("mse", "cross_entropy"), "net.tp"),
            data="digits",
            parametrizations=(),
        ),
        torch=True,
    ),
    PythonRow("../old.sqlite holds no results of this version", _old_store),
    PythonRow("cannot draw a `gif` file", _drawn),
    PythonRow("there is no plane to draw", _plane),
    PythonRow("`here` is one argument too many", lambda: _superfluous("derive", "here", parser())),
    PythonRow("`tpcalc derive` has no option `--hepl`", lambda: _superfluous("derive", "--hepl", parser())),
    PythonRow(
        "too many indices have no declared size",
        _limited("elaborate.MAX_ATTEMPTS", 0, lambda: tp.derive(_net())),
    ),
    PythonRow(
        "the blocks of this file expand too far",
        _limited("elaborate.blocks.MAX_MODULES", 1, lambda: tp.derive(tp.parse(DEEP))),
    ),
    PythonRow(
        "the file cannot be read: maximum recursion depth exceeded",
        _limited("parser.grammar", _no_grammar, lambda: parse_text("width n")),
    ),
    PythonRow(
        "the exponents of `V` do not settle",
        _limited("calculus.solver.MAX_SWEEPS", 0, lambda: tp.derive(_net())),
    ),
    PythonRow(
        "this network has too many constraints to list",
        _limited("programme.polyhedron.MAX_LOOKS", 0, lambda: classify(_net(), "mup", constraints=True)),
    ),
)

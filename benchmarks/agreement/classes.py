"""What is known of the networks that disagree: the first of a few classes that one belongs to, told from its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any
from unittest.mock import patch

from benchmarks.agreement import evidence
from benchmarks.agreement.parametrizations import perturbed
from benchmarks.agreement.row import CANCELS, OVERFLOWS, ZERO
from benchmarks.agreement.trial import STEPS
from tensorprog.architecture import parse
from tensorprog.coordcheck.predict import Predictor
from tensorprog.coordcheck.probes import probes
from tensorprog.deriving import derive

Line = dict[str, Any]
EXACT = {CANCELS, ZERO, "should be exactly zero", OVERFLOWS}
_MADE = re.compile(r"= \w+\(\w+\[\w+,\w+\]\) \* \w+\[\w+,\w+\]")  # sigmoid(V[k,j]) * W[k,j]
_SUM = re.compile(r"\[[\w.]+\]( #\d)?|\[\w+\([\w.]+\)\]")  # [x3], [x3] #2, [tanh(x3)]


def disagreeing(line: Line) -> list[Line]:
    """The rows of a network that disagree."""
    return [row for row in line["rows"] if row["verdict"] == "disagrees"]


def lifted(line: Line) -> bool:
    """Whether the predictions of all rows that disagree are smaller if small parts of a gradient are not lifted by an
    orthogonalised step: they are not, where the larger parts have the rank of the batch already."""
    if line["optimizer"] != "muon":
        return False
    with patch("tensorprog.calculus.analysis.lifted", lambda *_: 0):
        derivation = derive(parse(line["source"]), line["optimizer"])
        used = perturbed(derivation, line["number"])[0] if line["wrong"] else derivation.parametrization
        predictor = Predictor(derivation, used, STEPS)
    found = {(probe.name, probe.kind): probe for probe in probes(derivation)}
    for row in disagreeing(line):
        size = predictor.at(found[row["tensor"], row["kind"]], row["step"]).exponent
        if size is None or row["predicted"] == "zero" or size.degree >= Fraction(row["predicted"]):
            return False
    return True


CLASSES: tuple[tuple[str, Callable[[Line], bool]], ...] = (
    (
        "something is exactly zero, or predicted to be",
        lambda line: any(r["reason"] in EXACT for r in disagreeing(line)),
    ),
    ("grows faster than predicted", lambda line: any(r["reason"] == evidence.FASTER for r in disagreeing(line))),
    ("not lifted by Muon, and predicted to be", lifted),
    ("a weight made of two random matrices", lambda line: bool(_MADE.search(line["source"]))),
    ("sums over coordinates alone", lambda line: all(_SUM.fullmatch(r["tensor"]) for r in disagreeing(line))),
    (
        "what a router reads or makes alone",
        lambda line: all(r["tensor"].lstrip("[").startswith("moe") for r in disagreeing(line)),
    ),
    ("something else", lambda _: True),
)


def classified(lines: Iterable[Line]) -> dict[str, list[Line]]:
    """The networks that disagree, by class; every one is in the first that fits."""
    result: dict[str, list[Line]] = {name: [] for name, _ in CLASSES}
    for line in lines:
        result[next(name for name, fits in CLASSES if fits(line))].append(line)
    return result

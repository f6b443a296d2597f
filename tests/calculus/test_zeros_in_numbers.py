"""What the calculus takes for exactly zero is so in numbers: sums, what masks leave, what parts of gradients lack."""

from __future__ import annotations

import operator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.calculus.cuts import Cuts
from tensorprog.calculus.regions import _Reader
from tensorprog.calculus.vanishing import Vanishing
from tensorprog.calculus.ways import INSIDE, Ways
from tensorprog.graph import Const
from tensorprog.interpret import Interpreter
from tests.calculus.test_regions import MASKED

FOUND = sorted((Path(__file__).parent / "found").glob("*.tp"))
COMPARE = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}
STRICT = """width n
dim d = 8, classes = 5, T = 5
axis i: d, j: n, k: n, c: classes, t: T, u: T
input x[t,i]
param P[t,j] = normal(1), E[j,i], V[c,j], Q[k,j], K[k,j]
e[t,j] = E[j,i] x[t,i] + P[t,j]
q[t,k] = Q[k,j] e[t,j]
y[t,j] = softmax[u | u < t](n^(-1) * q[t,k] (K[k,j] e[u,j])) e[u,j]
m[t,j] = tanh(y[t,j] - mean[batch,t](y[t,j]))
s[] = mean[j](y[4,j])
f0[j] = mean[t](m[t,j]) + n^(-1/2) * (mean[t](m[t,j]) * tanh(s[]))
output f[c] = V[c,j] f0[j]
loss cross_entropy(f)
"""


class Numbers:
    """A program with random parameters, at the widths at which entries are told apart."""

    def __init__(self, text: str) -> None:
        architecture = tp.parse(text)
        derivation = tp.derive(architecture, "adam").unrolled()
        architecture, self.program = derivation.architecture, derivation.architecture.program
        self.cuts = Cuts(self.program)
        self.sums = Vanishing(self.program, self.cuts)
        known = self.cuts._widths
        widths = {symbol: known.get(symbol, 7) for symbol in self.program.forward.widths}
        self.interpreter = Interpreter(self.program, widths, widths, derivation.parametrization, batch=4,
                                       functions=architecture.functions)  # fmt: skip
        rng = np.random.default_rng(1)
        self.interpreter.set_params({name: rng.normal(size=w.shape) / 2 for name, w in self.interpreter.params.items()})
        self.values = self.interpreter.run()

    def wrong_sums(self) -> list[str]:
        """Sums that are not zero, entries that are not alike, and those that a mask does not make zero."""
        wrong = []
        for node in self.program.nodes:
            x = self.values[node.id]
            if x is None or self.interpreter.compact(node.id) or np.ndim(x) != len(node.axes):
                continue
            size = np.abs(x).max(initial=0) + 1e-13
            wrong += [f"{node.id}: a sum over {axes}" for axes in map(tuple, self.sums.zeros[node.id])
                      if np.abs(x.sum(axis=axes)).max() > 1e-9 * np.abs(x).sum(axis=axes).max() + 1e-13]  # fmt: skip
            wrong += [f"{node.id}: unlike along {k}" for k in self.sums.alike[node.id]
                      if np.ptp(x, axis=k).max() > 1e-12 * size]  # fmt: skip
            if node.id in self.cuts.masked:
                key, compare, query = self.cuts.masked[node.id]
                at = np.indices(x.shape, sparse=True)
                if np.any(x * ~COMPARE[compare](at[key], at[query])):
                    wrong.append(f"{node.id}: not zero where masked")
        return wrong

    def wrong_parts(self) -> list[str]:
        """Parts of gradients that are not what the gradient is at their places."""
        reader = _Reader(self.program, self.cuts, self.sums)
        grads = {name: (k, ()) for name, k in self.program.grads.items()}
        regions, zero, wrong = reader.regions(grads), len(self.program.nodes), []
        made = [*self.values, *[None] * (len(regions.nodes) - len(self.values))]
        for part, whole in sorted(regions.of.items()):
            operands = zip(regions.nodes[part].args, self.program.nodes[whole].args, strict=True)
            args = [np.zeros_like(self.values[of], dtype=float) if a == zero else made[a] for a, of in operands]
            made[part] = self.interpreter.apply(whole, *args)
        known = reader._known(zero)
        known.update(zip(sorted((p for p in reader.made if known[p] < 0), key=lambda p: p[0]), sorted(regions.of),
                         strict=True))  # fmt: skip
        for name, (k, _) in grads.items() if regions.of else ():
            for region in reader._regions(k, ()):
                places = {axis: at for axis, at in region[1] if isinstance(at, int)}
                if not reader._is_apart(region) or len(places) < len(region[1]) or INSIDE in places:
                    continue
                gradient = self.values[k]
                found = np.zeros_like(gradient) if known[region] == zero else made[known[region]]
                at = tuple(places.get(axis, slice(None)) for axis in range(gradient.ndim))
                if np.abs(gradient[at] - found[at]).max(initial=0) > 1e-9 * np.abs(gradient).max() + 1e-13:
                    wrong.append(f"{name} at {places}")
        return wrong


@pytest.mark.parametrize("text", [MASKED, STRICT, *[pytest.param(f.read_text(), id=f.stem) for f in FOUND]])
def test_what_is_taken_for_zero_is_zero(text: str) -> None:
    numbers = Numbers(text)
    assert numbers.wrong_sums() == []
    assert numbers.wrong_parts() == []


def test_what_is_not_zero_is_found() -> None:
    """The control: constants are taken for zero, and masks for their opposites."""
    with patch.object(Vanishing, "_zeros", lambda self, node: [frozenset()] if isinstance(node.op, Const) else []):
        assert any("a sum" in wrong for wrong in Numbers(MASKED).wrong_sums())
    strict = Cuts(tp.parse(STRICT).program).masked
    assert strict
    with patch.object(Ways, "masked", {k: (key, ">", query) for k, (key, _, query) in strict.items()}):
        assert any("masked" in wrong for wrong in Numbers(STRICT).wrong_sums())


def test_a_part_that_lacks_too_much_is_found() -> None:
    """The control: what a mask leaves is taken for what it does not."""
    allowed = Ways.allowed

    def opposite(self: Ways, node: int, axis: int) -> np.ndarray | None:
        found = allowed(self, node, axis)
        return None if found is None else ~found

    with patch.object(Ways, "allowed", opposite):
        assert Numbers(STRICT).wrong_parts()

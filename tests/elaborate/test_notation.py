"""Index notation means what NumPy's einsum means: graphs evaluated and compared with the plain formula."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.elaborate.numeric_reference import Array, Run

HEAD = """width n
dim d = 5, T = 6
axis i: n, j: n, k: n, t: T, s: T, c: d, h: 2, e: n / 2
input x[i], z[t,i], v[c]
"""
TAIL = "\nloss mse(y) + 0 * mean(x) + 0 * mean(z) + 0 * mean(v)\n"

Formula = Callable[[Run], Array]


def _p(run: Run, name: str) -> Array:
    return run.params[name]


def _in(run: Run, name: str) -> Array:
    return run.inputs[name]


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def _causal(run: Run) -> Array:
    scores = np.einsum("bti,bsi->bts", _in(run, "z"), _in(run, "z"))
    return _softmax(np.where(np.tril(np.ones((6, 6))) > 0, scores, -np.inf))


# (what it shows, statements, formula)
CASES: list[tuple[str, str, Formula]] = [
    ("matrix product", "param W[j,i]\noutput y[j] = W[j,i] x[i]", lambda r: _in(r, "x") @ _p(r, "W").T),
    ("factor order does not matter", "param W[j,i]\noutput y[j] = x[i] W[j,i]", lambda r: _in(r, "x") @ _p(r, "W").T),
    ("chain", "param A[k,j], B[j,i]\noutput y[k] = A[k,j] B[j,i] x[i]",
     lambda r: _in(r, "x") @ _p(r, "B").T @ _p(r, "A").T),
    ("a diagonal between", "param A[k,j], g[j], B[j,i]\noutput y[k] = A[k,j] g[j] B[j,i] x[i]",
     lambda r: (_in(r, "x") @ _p(r, "B").T * _p(r, "g")) @ _p(r, "A").T),
    ("quadratic form", "param A[i,j]\noutput y[c] = v[c] * (x[i] A[i,j] x[j])",
     lambda r: _in(r, "v") * np.einsum("bi,ij,bj->b", _in(r, "x"), _p(r, "A"), _in(r, "x"))[:, None]),
    ("broadcast terms", "param b[t], a[i]\noutput y[t,i] = z[t,i] + b[t] - 2 a[i] + 1",
     lambda r: _in(r, "z") + _p(r, "b")[:, None] - 2 * _p(r, "a") + 1),
    ("each term sums its own", "param b[t], a[i]\noutput y[t] = z[t,i] a[i] + b[t]",
     lambda r: _in(r, "z") @ _p(r, "a") + _p(r, "b")),
    ("a sum in brackets", "param W[j,i], a[i]\noutput y[j] = W[j,i] (x[i] + a[i])",
     lambda r: (_in(r, "x") + _p(r, "a")) @ _p(r, "W").T),
    ("a call sums inside", "param W[j,i]\noutput y[j] = relu(W[j,i] x[i]) / 2",
     lambda r: np.maximum(_in(r, "x") @ _p(r, "W").T, 0) / 2),
    ("a call keeps what its product needs", "param W[j,i]\noutput y[j] = W[j,i] tanh(x[i])",
     lambda r: np.tanh(_in(r, "x")) @ _p(r, "W").T),
    ("elementwise", "output y[t,i] = z[t,i] * x[i]", lambda r: _in(r, "z") * _in(r, "x")[:, None]),
    ("powers", "output y[t] = z[t,i]^2", lambda r: (_in(r, "z") ** 2).sum(-1)),
    ("renaming", "param U[s,t]\nw[s,i] = z[t,i] U[s,t]\noutput y[t,i] = w[t,i]",
     lambda r: np.einsum("bti,st->bsi", _in(r, "z"), _p(r, "U"))),
    ("transposition", "output y[i,t] = z[t,i]", lambda r: _in(r, "z").transpose(0, 2, 1)),
    ("split and merge", "q[h,t,e] = z[t,(h e)]\noutput y[t,(e h)] = q[h,t,e]",
     lambda r: _in(r, "z").reshape(3, 6, 2, 2).transpose(0, 1, 3, 2).reshape(3, 6, 4)),
    ("one position", "output y[i] = z[2,i]", lambda r: _in(r, "z")[:, 2]),
    ("last position", "output y[i] = z[T - 1,i]", lambda r: _in(r, "z")[:, 5]),
    ("slice", "axis p: n / 2\noutput y[p] = x[p + n / 2]", lambda r: _in(r, "x")[:, 2:]),
    ("first part", "axis p: n / 2\noutput y[p] = x[p + 0]", lambda r: _in(r, "x")[:, :2]),
    ("shift fills with zero", "output y[t,i] = z[t - 1,i]",
     lambda r: np.concatenate([np.zeros((3, 1, 4)), _in(r, "z")[:, :-1]], 1)),
    ("stride", "axis u: 3\noutput y[u,i] = z[2 u,i]", lambda r: _in(r, "z")[:, ::2]),
    ("convolution", "axis u: 3, a: 3\nparam K[j,i,a]\noutput y[u,j] = K[j,i,a] z[2 u + a - 1,i]",
     lambda r: np.stack([np.einsum("jia,bai->bj", _p(r, "K"),
                                   np.pad(_in(r, "z"), ((0, 0), (1, 1), (0, 0)))[:, 2 * u : 2 * u + 3])
                         for u in range(3)], 1)),
    ("dilation", "axis u: 2, a: 3\nparam K[a]\noutput y[u,i] = K[a] z[u + 2 a,i]",
     lambda r: np.stack([np.einsum("a,bai->bi", _p(r, "K"), _in(r, "z")[:, u : u + 5 : 2]) for u in range(2)], 1)),
    ("the tap may come first", "axis u: 4, a: 3\nparam K[a]\noutput y[u,i] = z[a + u,i] K[a]",
     lambda r: np.stack([np.einsum("a,bai->bi", _p(r, "K"), _in(r, "z")[:, u : u + 3]) for u in range(4)], 1)),
    ("transposed convolution", "axis u: d, a: 3\nparam K[a]\noutput y[2 u + a] = K[a] v[u]",
     lambda r: np.stack([np.convolve(np.insert(row, [1, 2, 3, 4], 0.0), _p(r, "K")) for row in _in(r, "v")])),
    ("max pooling", "axis u: 3, a: 2\noutput y[u,i] = max[a](z[2 u + a,i])",
     lambda r: _in(r, "z").reshape(3, 3, 2, 4).max(2)),
    ("max over two", "output y[c] = v[c] * max[t,i](z[t,i])", lambda r: _in(r, "v") * _in(r, "z").max((1, 2))[:, None]),
    ("mean", "output y[i] = mean[t](z[t,i])", lambda r: _in(r, "z").mean(1)),
    ("mean of a product", "output y[i] = mean[t](z[t,i] * x[i])", lambda r: _in(r, "z").mean(1) * _in(r, "x")),
    ("mean with a constant term", "output y[i] = mean[t](z[t,i] + 1)", lambda r: _in(r, "z").mean(1) + 1),
    ("mean of a call", "output y[i] = mean[t](relu(z[t,i]))", lambda r: np.maximum(_in(r, "z"), 0).mean(1)),
    ("mean beside its own index", "output y[t,i] = z[t,i] - mean[i](z[t,i])",
     lambda r: _in(r, "z") - _in(r, "z").mean(-1, keepdims=True)),
    ("batch mean", "output y[i] = x[i] - mean[batch](x[i])", lambda r: _in(r, "x") - _in(r, "x").mean(0)),
    ("rms", "output y[i] = x[i] * rms_scale[i](x[i], eps = 0.5)",
     lambda r: _in(r, "x") / np.sqrt((_in(r, "x") ** 2).mean(-1, keepdims=True) + 0.5)),
    ("softmax", "output y[t,i] = softmax[i](z[t,i])", lambda r: _softmax(_in(r, "z"))),
    ("causal softmax", "output y[t,s] = softmax[s | s <= t](z[t,i] z[s,i])", _causal),
    ("the condition reads both ways", "output y[t,s] = softmax[s | t >= s](z[t,i] z[s,i])", _causal),
    ("softmax in a product", "output y[t,i] = softmax[s | s <= t](z[t,j] z[s,j]) z[s,i]",
     lambda r: _causal(r) @ _in(r, "z")),
    ("top-k", "output y[c] = topk[c](v[c], 2) * v[c]",
     lambda r: np.where(_in(r, "v") >= np.sort(_in(r, "v"))[:, -2:-1], _in(r, "v"), 0)),
    ("concat", "axis q: 2 n\nparam a[i]\noutput y[q] = concat[q](x[i], a[i])",
     lambda r: np.concatenate([_in(r, "x"), np.broadcast_to(_p(r, "a"), (3, 4))], 1)),
    ("concat infers its size", "output y[t,q] = concat[q](z[t,i], z[t,j])",
     lambda r: np.concatenate([_in(r, "z"), _in(r, "z")], 2)),
    ("concat not last", "axis p: 2\nw[p,i] = z[p + 1,i]\noutput y[q,i] = concat[q](z[t,i], w[p,i])",
     lambda r: np.concatenate([_in(r, "z"), _in(r, "z")[:, 1:3]], 1)),
    ("ellipsis", "param W[j,i]\noutput y[..,j] = W[j,i] z[..,i]", lambda r: _in(r, "z") @ _p(r, "W").T),
    ("trailing ellipsis", "param U[s,t]\noutput y[s,..] = U[s,t] z[t,..]",
     lambda r: np.einsum("st,bti->bsi", _p(r, "U"), _in(r, "z"))),
    ("whole tensors", "w = tanh(z)\noutput y = z + 0.5 * w * w - w", lambda r: _tanh_mix(_in(r, "z"))),
    ("scalars of sizes", "output y[i] = n^(-1/2) * x[i] / d", lambda r: _in(r, "x") / 2 / 5),
    ("a whole block in an indexed statement", "param b[j]\noutput y[t,j] = linear(z, n, bias = false) + b[j]",
     lambda r: _in(r, "z") @ _p(r, "linear.W").T + _p(r, "b")),
    ("an indexed block argument", "output y[t,c] = linear(z[t,i], d, bias = false)",
     lambda r: np.einsum("bti,ci->btc", _in(r, "z"), _p(r, "linear.W"))),
    ("stop_gradient is the identity", "output y[i] = stop_gradient(x[i])", lambda r: _in(r, "x")),
]  # fmt: skip


@pytest.mark.parametrize(("what", "text", "formula"), CASES, ids=[case[0] for case in CASES])
def test_graph_computes_the_formula(what: str, text: str, formula: Formula) -> None:
    run = Run(HEAD + text + TAIL)
    expected = formula(run)
    assert run.outputs["y"].shape == expected.shape
    np.testing.assert_allclose(run.outputs["y"], expected, rtol=1e-10, atol=1e-12)


def _tanh_mix(z: Array) -> Array:
    w = np.tanh(z)
    return np.asarray(z + 0.5 * w * w - w)


def test_embedding_looks_rows_up() -> None:
    run = Run("width n\naxis i: n\ninput tokens[t] in 7\nparam E[v,i], P[t,i]\naxis t: 5\n"
              "output y[t,i] = E[tokens[t],i] + P[t,i]\nloss mse(y)")  # fmt: skip
    np.testing.assert_allclose(run.outputs["y"], run.params["E"][run.inputs["tokens"]] + run.params["P"])


def test_tied_embedding_is_one_parameter_with_two_uses() -> None:
    text = ("width n\naxis i: n, v: 7, t: 5\ninput tokens[t] in 7\nparam E[v,i]\nx[t,i] = E[tokens[t],i]\n"
            "output f[t,v] = E[v,i] x[t,i]\nloss cross_entropy(f)")  # fmt: skip
    run = Run(text)
    assert list(run.graph.parameters) == ["E"]
    assert sorted(run.graph.unknowns) == ["E@1", "E@2"]
    assert run.graph.parameters["E"].fan_in is None, "the look-up comes first"
    np.testing.assert_allclose(run.outputs["f"], run.params["E"][run.inputs["tokens"]] @ run.params["E"].T)


def test_sizes_that_later_lines_tell_are_learned_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three passes are enough however many there are: one to learn them, one that knows them."""
    monkeypatch.setattr("tensorprog.elaborate.MAX_ATTEMPTS", 3)
    lines = [f"param W{k}[j{k},i]\nh{k}[j{k}] = W{k}[j{k},i] y{k}[i]\ny{k + 1} = y{k} + tanh(h{k})" for k in range(30)]
    run = Run("width n\naxis i: n\ninput x[i]\ny0 = x\n" + "\n".join(lines) + "\noutput f = y30\nloss mse(f)")
    assert {w.shape for w in run.params.values()} == {(4, 4)}


def test_right_nested_contractions_never_multiply_matrices() -> None:
    run = Run(HEAD + "param A[k,j], B[j,i]\noutput y[k] = A[k,j] B[j,i] x[i]" + TAIL)
    for node in run.graph.nodes:
        assert sum(axis.dim.grows for axis in node.axes) < 2 or node.args in ((), (node.id - 1,)), node

"""repeat and scan: fresh or shared parameters, carried states, tensors collected over time."""

from __future__ import annotations

import numpy as np

from tests.elaborate.graphs import graph_of
from tests.elaborate.numeric_reference import Array, Run

SEQUENCE = "width n\naxis t: 4, i: 3\ninput x[t,i]\n"
END = "\noutput f = readout(y, 2)\nloss mse(f)\n"


def test_repeat_has_fresh_parameters_per_layer() -> None:
    run = Run("width n\ndepth L = 3\ninput x[i]\naxis i: n\n"
              "repeat L { param W[j,i]\nh[j] = W[j,i] x[i]\nx = tanh(h) }\n"
              "output y = x\nloss mse(y)")  # fmt: skip
    assert list(run.params) == ["layers.0.W", "layers.1.W", "layers.2.W"]
    x = run.inputs["x"]
    for k in range(3):
        x = np.tanh(x @ run.params[f"layers.{k}.W"].T)
    np.testing.assert_allclose(run.outputs["y"], x)
    assert run.graph.depths == (("L", 3),)
    assert "layers.1.h" in run.named
    assert set(run.graph.unknowns) == {f"layers.{k}.W@1" for k in range(3)}


def test_shared_repeat_has_one_parameter_and_one_use() -> None:
    run = Run("width n\ninput x[i]\naxis i: n\nrepeat 3 shared { x = tanh(linear(x, n)) }\noutput y = x\nloss mse(y)")
    assert set(run.params) == {"layers.linear.W", "layers.linear.b"}
    x = run.inputs["x"]
    for _ in range(3):
        x = np.tanh(x @ run.params["layers.linear.W"].T + run.params["layers.linear.b"])
    np.testing.assert_allclose(run.outputs["y"], x)
    assert set(run.graph.unknowns) == {"layers.linear.W@1", "layers.linear.b@1"}


def test_a_parameter_from_outside_is_shared_by_all_layers() -> None:
    run = Run("width n\ninput x[i]\naxis i: n, j: n\nparam W[j,i]\nrepeat 2 { h[j] = W[j,i] x[i]; x = h }\n"
              "output y = x\nloss mse(y)")  # fmt: skip
    assert list(run.graph.unknowns) == ["W@1"]
    np.testing.assert_allclose(run.outputs["y"], run.inputs["x"] @ run.params["W"].T @ run.params["W"].T)


def test_rnn_unrolls_over_time() -> None:
    run = Run(SEQUENCE + "y = rnn(x, n)" + END)
    state = np.zeros((3, 4))
    x, u, w, b = run.inputs["x"], *(run.params[f"rnn.{name}"] for name in "UWb")
    for t in range(4):
        state = np.tanh(x[:, t] @ u.T + state @ w.T + b)
        np.testing.assert_allclose(run.named[f"rnn.scan.{t}.state"], state)
        np.testing.assert_allclose(run.named["y"][:, t], state)
    assert [p for p in run.graph.parameters if p.startswith("rnn")] == ["rnn.U", "rnn.W", "rnn.b"]


def test_lstm_matches_its_equations() -> None:
    run = Run(SEQUENCE + "y = lstm(x, n)" + END)

    def gate(name: str, x: Array, s: Array) -> Array:
        p = run.params
        return np.asarray(x @ p[f"lstm.U{name}"].T + s @ p[f"lstm.W{name}"].T + p[f"lstm.b{name}"])

    def sigmoid(z: Array) -> Array:
        return np.asarray(1 / (1 + np.exp(-z)))

    s = c = np.zeros((3, 4))
    for t in range(4):
        x = run.inputs["x"][:, t]
        a, f, o, g = (gate(name, x, s) for name in "afog")
        c = sigmoid(f) * c + sigmoid(a) * np.tanh(g)
        s = sigmoid(o) * np.tanh(c)
        np.testing.assert_allclose(run.named["y"][:, t], s)


def test_scan_over_tokens_and_blocks_inside() -> None:
    run = Run("width n\ninput tokens[t] in 5\naxis t: 4, j: n\nparam E[v,j]\nstate[j] = 0\n"
              "scan t { state[j] = tanh(E[tokens[t],j] + linear(state, n)); y[j,t] = state[j] }\n"
              "output f[t,j] = y[j,t]\nloss mse(f)")  # fmt: skip
    state = np.zeros((3, 4))
    for t in range(4):
        rows = run.params["E"][run.inputs["tokens"][:, t]]
        state = np.tanh(rows + state @ run.params["scan.linear.W"].T + run.params["scan.linear.b"])
        np.testing.assert_allclose(run.outputs["f"][:, t], state)


def test_scan_of_scalars_is_stacked() -> None:
    run = Run("width n\ninput x[t,i]\naxis t: 4, i: n\nparam w[i]\nscan t { y[t] = x[t,i] w[i] }\n"
              "output f[i] = w[i] * mean[t](y[t])\nloss mse(f)")  # fmt: skip
    np.testing.assert_allclose(run.named["y"], run.inputs["x"] @ run.params["w"])


def test_nested_loops_capture_through_both() -> None:
    run = Run("width n\ninput x[t,i]; input z[i]\naxis t: 3, i: n\nparam g[i]\ns[i] = 0\n"
              "repeat 2 { scan t { s[i] = tanh(s[i] + g[i] * x[t,i] + z[i]) } }\n"
              "output y = s\nloss mse(y)")  # fmt: skip
    s = np.zeros((3, 4))
    for _ in range(2):
        for t in range(3):
            s = np.tanh(s + run.params["g"] * run.inputs["x"][:, t] + run.inputs["z"])
    np.testing.assert_allclose(run.outputs["y"], s)
    assert list(run.graph.unknowns) == ["g@1"]


def test_depth_can_be_chosen() -> None:
    text = "width n\ndepth L = 3\ninput x[i]\naxis i: n\nrepeat L { x = linear(x, n) }\noutput y = x\nloss mse(y)"
    assert len(graph_of(text, depths={"L": 5}).parameters) == 10
    assert len(graph_of(text.replace(" = 3", "")).parameters) == 4

"""Every standard block, used once, is a legal graph; names, unknown multipliers and flags are as documented."""

from __future__ import annotations

import ast
import json
from fractions import Fraction

import pytest

from tensorprog.dims import Dim
from tensorprog.elaborate import elaborate, standard_block, standard_names
from tensorprog.elaborate.library import LIBRARY
from tensorprog.export import FORMATS, export, to_networkx
from tensorprog.graph import Graph, Input, Loss, Map, Param
from tensorprog.legality import assert_legal
from tensorprog.parameters import Init
from tensorprog.parser import parse
from tensorprog.resources import read_grammar
from tensorprog.statements import Block
from tests.elaborate.graphs import graph_of

SEQUENCE = "width n\naxis t: 6, i: 5, k: n\ninput x0[t,i]\nparam A[k,i]\nx[t,k] = A[k,i] x0[t,i]\n"
IMAGE = "width n\naxis c: 3, h: 8, w: 8\ninput x0[c,h,w]\nx = conv(x0, n)\n"
END = "\noutput f = readout(y, 10)\nloss mse(f)\n"
POOL = "\nz[o] = mean[u,v](y[o,u,v])\noutput f = readout(z, 10)\nloss mse(f)\n"

USES = {
    "linear": SEQUENCE + "y = linear(x, 2 n)" + END,
    "lora": SEQUENCE + "y = lora(x, n, 4)" + END,
    "readout": SEQUENCE + "y = x" + END,
    "layernorm": SEQUENCE + "y = layernorm(x)" + END,
    "rmsnorm": SEQUENCE + "y = rmsnorm(x, affine = false)" + END,
    "mlp": SEQUENCE + "y = mlp(x, 4 n, relu)" + END,
    "gated_mlp": SEQUENCE + "y = gated_mlp(x, 4 n)" + END,
    "moe": SEQUENCE + "y = moe(x, 4 n, 8, best = 2)" + END,
    "attention": SEQUENCE + "y = attention(x, n / 4, 4, causal)" + END,
    "grouped_query_attention": SEQUENCE + "y = grouped_query_attention(x, n / 4, n / 8, 4, causal)" + END,
    "cross_attention": SEQUENCE + "c[t,k] = 2 x[t,k]\ny = cross_attention(x, c, n / 4, 4, scale = 1 / 4)" + END,
    "transformer_block": SEQUENCE + "y = transformer_block(x, n / 4, 4, 4 n, causal, branch = ?)" + END,
    "transformer_block_post": SEQUENCE + "y = transformer_block_post(x, n / 4, 4, 4 n)" + END,
    "rnn": SEQUENCE + "y = rnn(x, n)" + END,
    "lstm": SEQUENCE + "y = lstm(x, n)" + END,
    "gru": SEQUENCE + "y = gru(x, n)" + END,
    "ssm": SEQUENCE + "y = ssm(x)" + END,
    "selective_ssm": SEQUENCE + "y = selective_ssm(x, states = 4, rank = 2)" + END,
    "adaptive_layernorm": SEQUENCE + "param c[k]\ny = adaptive_layernorm(x, c)" + END,
    "adaptive_block": SEQUENCE + "param c[k]\ny = adaptive_block(x, c, n / 4, 4, 4 n)" + END,
    "embedding": "width n\ninput tokens[t] in 17\ny = embedding(tokens, n) + positions(8, n)" + END,
    "positions": "width n\ninput tokens[t] in 17\ny = embedding(tokens, n) + positions(8, n)" + END,
    "batchnorm": IMAGE + "y = batchnorm(x)" + POOL,
    "groupnorm": IMAGE + "y = groupnorm(x, n / 4)" + POOL,
    "conv": IMAGE + "y = conv(x, 2 n, size = 2, stride = 2, pad = 0, bias)" + POOL,
    "conv_transpose": IMAGE + "y = conv_transpose(x, 2 n, bias = true)" + POOL,
    "conv_block": IMAGE + "y = conv_block(x, n)" + POOL,
    "basic_block": IMAGE + "y = basic_block(x, 2 n, stride = 2, project)" + POOL,
    "bottleneck_block": IMAGE + "y = bottleneck_block(x, n, 4 n, project)" + POOL,
}

GPT = """
# gpt.tp
width n
depth L
dim vocab = 65, context = 64, d_head = 32, heads = n / d_head, d_ff = 4 n

input tokens[t] in vocab

x = embedding(tokens, n) + positions(context, n)
repeat L {
  x = x + ?branch * attention(layernorm(x), heads = heads, head_dim = d_head, scale = ?, causal)
  x = x + ?branch * mlp(layernorm(x), hidden = d_ff, act = gelu)
}
output logits = readout(layernorm(x), vocab)
loss cross_entropy(logits)
"""

MLP = """
# mlp.tp
width n                                    # goes to infinity
dim d = 64, classes = 10                   # stay finite
axis i: d, j: n, k: n, c: classes

input x[i]
param W1[j,i], W2[k,j], W3[c,k]
param b1[j] = zeros

h1[j] = W1[j,i] x[i] + b1[j]
x1[j] = relu(h1[j])
h2[k] = W2[k,j] x1[j]
x2[k] = relu(h2[k])
output f[c] = W3[c,k] x2[k]

loss cross_entropy(f)
"""


def test_every_standard_block_has_a_use_here() -> None:
    assert set(standard_names()) == set(USES)


def test_standard_blocks_are_parsed_one_by_one_as_they_stand_in_their_file() -> None:
    whole = [b for b in parse(read_grammar("blocks.tp"), LIBRARY).statements if isinstance(b, Block)]
    blocks = [standard_block(name) for name in standard_names()]
    assert blocks == list(whole)
    assert [(block.span, block.body[-1].span) for block in blocks] == [(b.span, b.body[-1].span) for b in whole]


@pytest.mark.parametrize("name", USES)
def test_standard_block_is_legal(name: str) -> None:
    assert_legal(graph_of(USES[name]))


def names(graph: Graph, kind: str = "multiplier") -> list[str]:
    return [unknown.name for unknown in graph.unknowns.values() if unknown.kind == kind]


def test_mlp_sketch() -> None:
    graph = graph_of(MLP)
    assert_legal(graph)
    assert [node.name for node in graph.nodes if node.name] == ["x", "h1", "x1", "h2", "x2", "f", "f_target", "loss"]
    assert {p.name: str(p.fan_in) for p in graph.parameters.values()} == {
        "W1": "64", "W2": "n", "W3": "n", "b1": "None",
    }  # fmt: skip
    assert graph.parameters["b1"].init == Init("zeros")


def test_gpt_sketch() -> None:
    graph = graph_of(GPT, depths={"L": 3})
    assert_legal(graph)
    assert names(graph) == ["branch", "scale"]
    assert graph.unknowns["scale"].base.powers == ((Dim.of(32), Fraction(-1, 2)),), "head_dim^(-1/2)"
    assert graph.parameters["layers.2.attention.Wq"].fan_in == Dim.of("n")
    assert graph.parameters["embedding.E"].fan_in is None
    assert {"layers.0.x", "layers.2.x#2", "layers.1.attention.scores", "logits"} <= {node.name for node in graph.nodes}
    assert graph.unknowns["layers.1.mlp.W1@1"].param == "layers.1.mlp.W1"
    assert graph.depths == (("L", 3),)
    tokens = next(node for node in graph.nodes if node.op == Input("tokens", "tokens"))
    assert [str(axis.dim) for axis in tokens.axes] == ["batch", "64", "65"], "told by the positions"


def test_an_unknown_inside_a_block_is_shared_over_layers() -> None:
    text = GPT.replace("scale = ?, ", "")
    assert names(graph_of(text)) == ["branch", "layers.attention.scale"]


def test_a_second_anonymous_unknown_is_named_after_its_use() -> None:
    text = SEQUENCE + "y = attention(x, n / 4, 4, scale = ?) + attention(x, n / 4, 4, scale = ?)" + END
    assert names(graph_of(text)) == ["scale", "attention_2.scale"]


def test_a_named_unknown_of_a_block_has_the_path_of_the_use() -> None:
    text = SEQUENCE + "block b(x[.., i]) { return ?gain{1 / i} * x }\ny = b(x) + b(2 * x)" + END
    graph = graph_of(text)
    assert names(graph) == ["b.gain", "b_2.gain"]
    assert graph.unknowns["b.gain"].base.powers == ((Dim.of("n"), Fraction(-1)),)


def test_a_parameter_passed_to_two_blocks_has_two_uses() -> None:
    text = (
        "width n\naxis i: n, j: n\ninput x[i]\nparam W[j,i]\nblock b(W[j,i], x[i]) { y[j] = W[j,i] x[i]; return y }\n"
    )
    graph = graph_of(text + "h = b(W, x)\ny = b(W, h)" + END)
    assert names(graph, "use")[:2] == ["W@1", "W@2"]
    assert graph.parameters["W"].fan_in == Dim.of("n"), "known although the contraction is inside the block"
    assert sum(node.op == Param("W") for node in graph.nodes) == 1


def test_functions_are_passed_by_name_and_user_functions_recorded() -> None:
    text = SEQUENCE + "fn swoosh(z) = z * sigmoid(2 z)\ny = mlp(x, n, act = swoosh)" + END
    model = elaborate(parse(text))
    assert [name for name, _, _ in model.functions] == ["swoosh"]
    assert any(node.op == Map("swoosh") for node in graph_of(text).nodes)


def test_a_block_sees_sizes_of_its_file_but_no_tensors() -> None:
    block = "dim m = 4\nblock b(x[.., i]) { axis j: m; param W[j,i]; y[..,j] = W[j,i] x[..,i]; return y }\n"
    assert_legal(graph_of(SEQUENCE + block + "y = b(x)" + END))
    with pytest.raises(Exception, match="`x0` is not known inside of a block"):
        graph_of(SEQUENCE + "block b(x[.., i]) { return x + x0 }\ny = b(x)" + END)


def test_a_block_of_the_file_hides_the_standard_one() -> None:
    text = SEQUENCE + "block layernorm(x[.., i]) { return tanh(x) }\ny = layernorm(x)" + END
    assert not any(name.startswith("layernorm") for name in graph_of(text).parameters)


def test_losses_are_weighted_and_targets_are_inputs() -> None:
    graph = graph_of(SEQUENCE + "y = x\noutput f = readout(y, 10)\noutput g = readout(y, 5)\n"
                     "loss cross_entropy(f) + 0.1 * mse(g) - mean(f) / 2")  # fmt: skip
    assert_legal(graph)
    targets = {n.op.name: n for n in graph.nodes if isinstance(n.op, Input) and n.op.kind == "target"}
    assert {name: len(node.axes) for name, node in targets.items()} == {"f_target": 2, "g_target": 3}
    assert [n.op.kind for n in graph.nodes if isinstance(n.op, Loss)] == ["cross_entropy", "mse", "mean"]
    assert [name for name, _ in graph.outputs] == ["f", "g"]


def test_optimizer_and_regime_are_kept() -> None:
    text = "width n, m\nregime n << m\noptimizer adam(beta1 = 0.8)\naxis i: n, j: m\ninput x[i]\n"
    text += "param W[j,i] = orthogonal(2) optimizer muon\nh[j] = W[j,i] x[i]\noutput f = readout(h, 3)\nloss mse(f)"
    model = elaborate(parse(text))
    assert model.regime == (("n", "m"), "<<")
    assert (model.optimizer, model.optimizer_options) == ("adam", (("beta1", Fraction(4, 5)),))
    assert model.top.parameters[0].optimizer == "muon"
    assert model.top.parameters[0].init == Init("orthogonal", 2.0)


@pytest.mark.parametrize("form", FORMATS)
def test_graph_is_exported(form: str) -> None:
    graph = graph_of(MLP)
    text = export(graph, form)
    assert "W1" in text
    view = to_networkx(graph)
    assert view.number_of_edges() == sum(len(node.args) for node in graph.nodes)
    if form == "json":
        data = json.loads(text)
        assert len(data["nodes"]) == len(graph.nodes)
        assert data["nodes"][0]["name"] == "x"


def test_unrolling_is_linear_in_depth() -> None:
    """A layer costs the same number of nodes at every depth."""
    sizes = [len(graph_of(GPT, depths={"L": depth}).nodes) for depth in (1, 2, 5)]
    assert sizes[2] - sizes[1] == 3 * (sizes[1] - sizes[0])


def test_front_end_imports_nothing_heavy() -> None:
    """networkx is imported by the functions that need it, not with the module."""
    import tensorprog.export

    with open(str(tensorprog.export.__file__), encoding="utf-8") as file:
        tree = ast.parse(file.read())
    imported = [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
    assert "networkx" not in imported

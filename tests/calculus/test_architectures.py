"""Parts that architectures are made of: each is derived, or refused with the node's name and the reason."""

from __future__ import annotations

from fractions import Fraction

import pytest

import tensorprog as tp


def exponents(source: str, optimizer: str = "adam") -> dict[str, tuple[str, str, str]]:
    """Parameter -> (multiplier, initial spread, learning rate), form table 8."""
    found = tp.derive(tp.parse(source), optimizer).params
    return {
        name: (str(e.multiplier), "0" if e.init_std is None else str(e.init_std), str(e.lr))
        for name, e in found.items()
    }


VECTOR, MATRIX, READOUT = ("1", "1", "1"), ("1", "n^-1/2", "n^-1"), ("n^-1", "1", "1")
HEAD = """
width n
dim d = 8, T = 4, S = 3, classes = 5, side = 4
axis i: d, t: T, s: S, j: n, k: n, c: classes
"""


def test_learned_temperatures_are_scalars_that_need_no_scaling() -> None:
    """A trained number: its gradient sums over finitely many logits, so nothing about it depends on the width."""
    found = exponents(HEAD + """
input x[i]
param U[j,i], V[c,j], temperature[] = ones
h[j] = tanh(U[j,i] x[i])
output f[c] = temperature[] * (V[c,j] h[j])
loss cross_entropy(f)
""")  # fmt: skip
    assert found == {"U": VECTOR, "V": READOUT, "temperature": VECTOR}


def test_a_learned_temperature_of_attention() -> None:
    """One number per head on the scores, as in cosine attention: like a bias with a finite axis."""
    found = exponents(HEAD + """
input x[t,i]
param U[j,i], Q[k,j], K[k,j], V[c,j], temperature[] = ones
h[t,j] = U[j,i] x[t,i]
q[t,k] = Q[k,j] h[t,j]
p[t,k] = K[k,j] h[t,j]
axis u: T
cosine[t,u] = ?scale * (q[t,k] p[u,k])
scores[t,u] = temperature[] * cosine[t,u]
a[t,u] = softmax[u](scores[t,u])
y[t,j] = a[t,u] h[u,j]
output f[t,c] = V[c,j] y[t,j]
loss cross_entropy(f)
""")  # fmt: skip
    assert found["temperature"] == VECTOR
    assert found["Q"] == MATRIX


@pytest.mark.parametrize("shared", [True, False])
def test_shared_experts(shared: bool) -> None:
    """An expert that sees every token is a feed-forward layer; whether there is one changes nothing for the others."""
    more = " + gated_mlp(h, hidden = 2 n)" if shared else ""
    found = exponents(HEAD + f"""
input x[t,i]
h = linear(x, n)
y = h + moe(h, hidden = n, experts = 3, best = 2){more}
output f = readout(y, classes)
loss cross_entropy(f)
""")  # fmt: skip
    assert found["moe.R"] == READOUT
    assert found["moe.W1"] == found["moe.W2"] == MATRIX
    assert ("gated_mlp.Wg" in found) == shared
    assert all(e == MATRIX for name, e in found.items() if name.startswith("gated_mlp"))


def test_a_router_over_a_growing_number_of_experts_is_refused() -> None:
    with pytest.raises(tp.CalculusError, match=r"moe\.p.*(\n.*)*an axis that grows") as caught:
        exponents(HEAD + """
input x[t,i]
h = linear(x, n)
y = h + moe(h, hidden = n, experts = n / 4)
output f = readout(y, classes)
loss cross_entropy(f)
""")  # fmt: skip
    assert "finite" in caught.value.fix


@pytest.mark.parametrize(("heads", "size", "scale"), [("n / 4", "4", "1"), ("2", "n / 2", "n^-1")])
def test_cross_attention(heads: str, size: str, scale: str) -> None:
    """Keys and values from another sequence: matrices as in self-attention; the scale depends on what grows."""
    source = f"""{HEAD}
input x[t,i]
input m[s,i]
h = linear(x, n)
g = linear(m, n)
y = h + cross_attention(h, g, heads = {heads}, head_dim = {size})
output f = readout(y, classes)
loss cross_entropy(f)
"""
    found = exponents(source)
    assert {found[f"cross_attention.{w}"] for w in ("Wq", "Wk", "Wv", "Wo")} == {MATRIX}
    assert str(tp.derive(tp.parse(source), "adam").multipliers["cross_attention.scale"]) == scale


@pytest.mark.parametrize(("groups", "heads"), [("n / 16", "n / 4"), ("2", "n / 4"), ("1", "n / 4")])
def test_grouped_queries(groups: str, heads: str) -> None:
    """However many queries share a key: with finitely many groups, keys and values have a finite width, and their maps
    are readouts; the values' way back is an input weight."""
    source = f"""{HEAD}
input x[t,i]
h = linear(x, n)
y = h + grouped_query_attention(h, heads = {heads}, groups = {groups}, head_dim = 4)
output f = readout(y, classes)
loss cross_entropy(f)
"""
    found = exponents(source)
    finite = groups in ("1", "2")
    assert found["grouped_query_attention.Wq"] == MATRIX
    assert found["grouped_query_attention.Wk"] == (READOUT if finite else MATRIX)


def test_depthwise_and_transposed_convolutions() -> None:
    """Depthwise: nothing that grows is summed, a vector. Transposed, overlapping or not: a matrix, like any other."""
    found = exponents("""
width n
dim d = 3, side = 4, classes = 5
axis p: d, r: side, q: side, j: n, k: n, o: n, a: 3, b: 3, c: classes
input x[p,r,q]
param U[j,p], D[j,a,b], W[k,j,a,b], V[c,o]
h[j,r,q] = relu(U[j,p] x[p,r,q])
g[j,r,q] = relu(D[j,a,b] h[j, r + a - 1, q + b - 1])
up[k, 2 r + a - 1, 2 q + b - 1] = W[k,j,a,b] g[j,r,q]
more = relu(conv_transpose(relu(up), n))
m[o] = mean[y,z](more[o,y,z])
output f[c] = V[c,o] m[o]
loss cross_entropy(f)
""")  # fmt: skip
    assert found["D"] == VECTOR
    assert found["W"] == found["conv_transpose.W"] == MATRIX


@pytest.mark.parametrize("block", ["rnn", "lstm", "gru"])
def test_recurrent_cells(block: str) -> None:
    """Input maps and biases are vectors, maps of the state matrices, at every gate."""
    found = exponents(HEAD + f"""
input x[t,i]
s = {block}(x, n)
output f = readout(s[(T - 1),j], classes)
loss cross_entropy(f)
""")  # fmt: skip
    for name, e in found.items():
        stem = name.split(".")[1][0]
        if name.startswith("readout"):
            assert e == READOUT
        else:
            assert e == {"U": VECTOR, "W": MATRIX, "b": ("1", "0", "1")}[stem], name


def test_several_outputs_and_losses() -> None:
    """Two heads on one trunk, one of them weighted: each is a readout, and the trunk is not changed by them."""
    found = exponents(HEAD + """
input x[i]
h1 = relu(linear(x, n))
h2 = relu(linear(h1, n))
output f = readout(h2, classes)
output g = linear(h1, 3)
loss cross_entropy(f) + 0.1 * mse(g)
""")  # fmt: skip
    assert found["linear_2.W"] == MATRIX
    assert found["readout.W"] == found["linear_3.W"] == READOUT
    assert found["linear_3.b"] == ("1", "0", "1")


def test_a_sum_that_a_multiplier_scales_may_grow_before_it() -> None:
    """?scale * (a + b): only the product has to stay Theta(1)."""
    source = f"""{HEAD}
input x[i]
param U[j,i], V[c,j]
h[j] = relu(U[j,i] x[i])
s[] = ?scale * (h[j] h[j] + mean[j](h[j]))
output f[c] = V[c,j] (tanh(s[]) * h[j])
loss mse(f)
"""
    assert str(tp.derive(tp.parse(source), "adam").multipliers["scale"]) == "n^-1"


def test_positional_tables_learned_and_fixed() -> None:
    """A learned table is an embedding; a frozen table of phases turns queries and keys, and scales nothing."""
    found = exponents(HEAD + """
axis e: 2
input tokens[t] in classes
param phase[t] = normal(1) frozen, Q[k,j], K[k,j]
x = embedding(tokens, n) + positions(T, n)
q[t,k] = Q[k,j] x[t,j]
p[t,k] = K[k,j] x[t,j]
a[t,h,e] = q[t,(h e)]
b[t,h,e] = p[t,(h e)]
axis h: n / 2, u: T
ar[t,h] = cos(phase[t]) * a[t,h,0] - sin(phase[t]) * a[t,h,1]
ai[t,h] = sin(phase[t]) * a[t,h,0] + cos(phase[t]) * a[t,h,1]
br[t,h] = cos(phase[t]) * b[t,h,0] - sin(phase[t]) * b[t,h,1]
bi[t,h] = sin(phase[t]) * b[t,h,0] + cos(phase[t]) * b[t,h,1]
scores[t,u] = ?scale * (ar[t,h] br[u,h] + ai[t,h] bi[u,h])
w[t,u] = softmax[u](scores[t,u])
y[t,j] = x[t,j] + w[t,u] x[u,j]
output g[t,c] = V[c,j] y[t,j]
param V[c,j]
loss cross_entropy(g)
""")  # fmt: skip
    assert found["positions.P"] == found["embedding.E"] == VECTOR
    assert found["Q"] == found["K"] == MATRIX


STATES = """
width n
dim d = 4, T = 3, classes = 5
axis i: d, t: T, c: classes
input x[t,i]
h = linear(x, n)
y = {block}(h, states = {states})
output f[t,c] = V[c,j] y[t,j]
axis j: n
param V[c,j]
loss cross_entropy(f)
"""


@pytest.mark.parametrize("block", ["ssm", "selective_ssm"])
def test_a_diagonal_state_space_of_finite_state(block: str) -> None:
    """What belongs to a channel and a state is a vector; maps from the channels to the states are readouts."""
    found = exponents(STATES.format(block=block, states=4))
    for name in ("A", "D", *(("B", "C") if block == "ssm" else ("Wd", "bd"))):
        multiplier, _, lr = found[f"{block}.{name}"]
        assert (multiplier, lr) == ("1", "1"), name
    if block == "selective_ssm":
        assert {found[f"{block}.{w}"] for w in ("Wb", "Wc", "Wr")} == {READOUT}


@pytest.mark.parametrize("order", ["", "regime m << n\n", "regime n << m\n"])
def test_a_selective_scan_whose_state_grows_is_refused_by_name(order: str) -> None:
    """Its read-out sums over the states, each with a mean that is not zero: it grows like their number."""
    text = STATES.format(block="selective_ssm", states="m").replace("width n\n", "width n, m\n") + order
    with pytest.raises(tp.TensorProgError, match=r"`selective_ssm\.scan\.0\.z` grows like m"):
        tp.derive(tp.parse(text), "adam")


def conditional(gates: str) -> str:
    return f"""{HEAD}
input x[t,i]
input level[i]
h = linear(x, n)
c = silu(linear(level, n))
param G[k,j] = {gates}, W1[k,j], W2[j,k]
g[j] = G[j,k] c[k]
z = layernorm(h, affine = false)
m[t,j] = z[t,j] + g[j] z[t,j]
u[t,j] = h[t,j] + W2[j,k] relu(W1[k,i1] m[t,i1])
axis i1: n
output f = readout(layernorm(u), classes)
loss mse(f)
"""


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
def test_conditional_scaling_starting_at_zero_has_the_same_learning_rate(optimizer: str) -> None:
    zero, normal = (tp.derive(tp.parse(conditional(g)), optimizer).params for g in ("zeros", "normal()"))
    assert zero["G"].init_std is None
    assert str(normal["G"].init_std) == "n^-1/2"
    assert {name: e.lr for name, e in zero.items()} == {name: e.lr for name, e in normal.items()}


@pytest.mark.slow
def test_low_rank_adapters_on_a_random_base_learn_at_rates_n_apart() -> None:
    """LoRA+ (arXiv:2402.12354): whatever the rank, lr of B over lr of A is n under Adam and n^2 under SGD."""
    source = """{head}
input x[i]
h = relu(linear(x, n))
y = lora(h, n, rank = {rank})
output f = readout(relu(y), classes)
loss cross_entropy(f)
"""
    for rank in (1, 16):
        for optimizer, ratio in (("adam", 1), ("sgd", 2)):
            params = tp.derive(tp.parse(source.format(head=HEAD, rank=rank)), optimizer, "table3").params
            a, b = params["lora.A"].lr, params["lora.B"].lr
            assert a is not None and b is not None
            assert (b / a)["n"] == Fraction(ratio)

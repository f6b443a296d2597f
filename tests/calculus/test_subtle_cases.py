"""Networks in which a table of layer types gives the wrong answer."""

from __future__ import annotations

import pytest

import tensorprog as tp
from tensorprog.interpret import Interpreter
from tests.shared import derive, load, n, tiers


def exponent(power: tp.Power | None) -> str:
    return "zero" if power is None else str(power["n"])


def attention(dims: str, extra: str = "", keys: str = "Wk") -> str:
    return f"""
width n
dim T = 6, {dims}, d = 8, classes = 5
axis t: T, s: T, i: d, m: n, h: heads, e: size, o: heads * size, c: classes
input x[t,i]
param E[m,i], Wq[o,m], Wk[o,m], Wv[o,m], Wo[m,o], R[c,m]
z[t,m] = E[m,i] x[t,i]
q[t,o] = Wq[o,m] z[t,m]
k[t,o] = {keys}[o,m] z[t,m]
v[t,o] = Wv[o,m] z[t,m]
qh[t,h,e] = q[t,(h e)]
kh[t,h,e] = k[t,(h e)]
vh[t,h,e] = v[t,(h e)]
{extra}
scores[h,t,s] = ?scale * (qh[t,h,e] kh[s,h,e])
a[h,t,s] = softmax[s](scores[h,t,s])
y[t,h,e] = a[h,t,s] vh[s,h,e]
m1[t,(h e)] = y[t,h,e]
u[t,m] = Wo[m,o] m1[t,o]
output f[t,c] = R[c,m] u[t,m]
loss cross_entropy(f)
"""


def test_attention_scale_is_one_over_d_when_the_head_grows() -> None:
    """After one update q and k are correlated: the law of large numbers (Tensor Programs V, definition 4.1)."""
    found = tp.derive(tp.parse(attention("heads = 2, size = n / 2")), "adam")
    assert exponent(found.multipliers["scale"]) == "-1"


def test_attention_needs_no_scale_when_the_number_of_heads_grows() -> None:
    found = tp.derive(tp.parse(attention("heads = n / 4, size = 4")), "adam")
    assert exponent(found.multipliers["scale"]) == "0"


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
def test_query_and_key_sharing_one_weight(optimizer: str) -> None:
    """q . k is aligned from the start (q_t . k_t is a squared norm); the scale is n^-1 all the same."""
    source = attention("heads = 2, size = n / 2", keys="Wq").replace(", Wk[o,m]", "")
    found = tp.derive(tp.parse(source), optimizer)
    assert exponent(found.multipliers["scale"]) == "-1"
    assert exponent(found.tensor("scores")[0]) == "0"  # not -1/2, as with independent q and k


def test_independent_query_and_key_start_with_vanishing_scores() -> None:
    found = tp.derive(tp.parse(attention("heads = 2, size = n / 2")), "adam")
    assert exponent(found.tensor("scores")[0]) == "-1/2"
    assert exponent(found.tensor("scores")[1]) == "0"


def net(body: str, params: str = "", more: str = "") -> str:
    return f"""
width n
dim d = 8, classes = 5
axis i: d, j: n, k: n, c: classes
{more}
input x[i]
param U[j,i], V[c,j]{params}
{body}
loss cross_entropy(f)
"""


@pytest.mark.parametrize(
    ("act", "mean"), [("tanh", "-1/2"), ("cos", "0"), ("relu", "0"), ("square", "0"), ("abs", "0")]
)
def test_the_mean_of_features_feels_their_parity(act: str, mean: str) -> None:
    """An odd nonlinearity of a symmetric pre-activation averages to zero (central limit), others do not."""
    source = net(f"z[j] = {act}(U[j,i] x[i])\nm = mean[j](z[j])\noutput f[c] = V[c,j] z[j]")
    source = source.replace("output", "g[j] = z[j] * m\noutput").replace("V[c,j] z[j]", "V[c,j] g[j]")
    found = tp.derive(tp.parse(source), "adam")
    assert exponent(found.tensor("m")[0]) == mean


def test_mixed_parity_by_formula() -> None:
    """z + z^2 / 4 is neither odd nor even: its mean over features is Theta(1)."""
    source = net("z[j] = swoosh(U[j,i] x[i])\nm = mean[j](z[j])\ng[j] = z[j] * m\noutput f[c] = V[c,j] g[j]",
                 more="fn swoosh(z) = z + z^2 / 4")  # fmt: skip
    assert exponent(tp.derive(tp.parse(source), "adam").tensor("m")[0]) == "0"


@pytest.mark.slow
def test_a_zero_initialised_readout_has_the_same_learning_rate() -> None:
    plain = net("z[j] = relu(U[j,i] x[i])\noutput f[c] = V[c,j] z[j]")
    zero = plain.replace("V[c,j]\n", "V[c,j] = zeros\n", 1)
    for optimizer in ("sgd", "adam", "muon"):
        a, b = (tp.derive(tp.parse(s), optimizer) for s in (plain, zero))
        assert b.params["V"].init_std is None
        assert a.params["V"].lr == b.params["V"].lr and a.params["V"].multiplier == b.params["V"].multiplier
        assert a.params["U"].lr == b.params["U"].lr
        assert b.tensor("f") == (None, tp.Power())


def test_an_elementwise_gate_is_a_vector() -> None:
    """A gate g[j] multiplies; nothing is summed, so it is sized and trained like a bias."""
    source = net("z[j] = tanh(U[j,i] x[i])\ny[j] = g[j] z[j]\noutput f[c] = V[c,j] y[j]", ", g[j] = ones")
    for optimizer, lr in (("sgd", "1"), ("adam", "0")):
        e = tp.derive(tp.parse(source), optimizer, "table3").params["g"]
        assert exponent(e.lr) == lr and exponent(e.init_std) == "0"


def test_a_depthwise_convolution_has_finite_fan_in() -> None:
    """Its weight has one growing axis, which is not summed: no n^-1/2, and Adam's learning rate does not scale."""
    source = """
width n
dim d = 3, side = 8, taps = 3, classes = 5
axis p: d, u: side, a: taps, ch: n, co: n, c: classes
input x[p,u]
param S[ch,p], D[ch,a], P[co,ch], V[c,co]
z[ch,u] = relu(S[ch,p] x[p,u])
y[ch,u] = D[ch,a] z[ch, u + a - 1]
q[co,u] = relu(P[co,ch] y[ch,u])
m[co] = mean[u](q[co,u])
output f[c] = V[c,co] m[co]
loss cross_entropy(f)
"""
    found = tp.derive(tp.parse(source), "adam", "table3").params
    assert (exponent(found["D"].init_std), exponent(found["D"].lr)) == ("0", "0")
    assert (exponent(found["P"].init_std), exponent(found["P"].lr)) == ("-1/2", "-1")


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
def test_a_recurrent_weight_is_a_hidden_weight(optimizer: str) -> None:
    """Used at every step, on states that depend on it: still n^-1/2 and the learning rate of a hidden matrix."""
    source = """
width n
dim d = 4, T = 4, classes = 5
axis i: d, t: T, j: n, k: n, c: classes
input x[t,i]
param U[j,i], W[j,k], V[c,j]
s[j] = 0
scan t {
  h[j] = U[j,i] x[t,i] + W[j,k] s[k]
  s[j] = relu(h[j])
}
output f[c] = V[c,j] s[j]
loss cross_entropy(f)
"""
    e = tp.derive(tp.parse(source), optimizer, "table3").params["W"]
    assert exponent(e.init_std) == "-1/2"
    assert exponent(e.lr) == {"sgd": "0", "adam": "-1", "muon": "0"}[optimizer]


TIED = """
width n
dim vocab = 7, T = 4
axis v: vocab, t: T, i: n, j: n
input tokens[t] in vocab
param E[v,i] = normal(1), W[j,i]
x[t,i] = E[tokens[t], i]
h[t,j] = relu(W[j,i] x[t,i])
output f[t,v] = {multiplier}(E[v,j] h[t,j])
loss cross_entropy(f)
"""


def test_a_tied_embedding_keeps_its_size_and_the_output_multiplier_is_one_over_n() -> None:
    found = tp.derive(tp.parse(TIED.format(multiplier="?output * ")), "adam")
    e = found.params["E"]
    assert (exponent(e.init_std), exponent(e.lr), exponent(e.multiplier)) == ("0", "0", "0")
    assert exponent(found.multipliers["output"]) == "-1"


def test_a_tied_embedding_starts_as_the_use_asks_that_no_multiplier_serves() -> None:
    """The reason for its size is the embedding, not the readout, where ?output takes care of the size."""
    found = tp.derive(tp.parse(TIED.format(multiplier="?output * ")), "adam")
    assert found.reasons["E"]["init_std"] == "its use sums nothing that grows: gain 1"
    assert "multiplier * std * 1 = Theta(1)" in found.explain("E", "init")


def test_a_tied_embedding_without_a_multiplier_gets_one_per_use() -> None:
    """The uses demand different sizes: forms with multipliers answer, the one without refuses and says why."""
    found = tp.derive(tp.parse(TIED.format(multiplier="")), "adam")
    assert sorted(exponent(p) for name, p in found.multipliers.items() if name.startswith("E@")) == ["-1", "0"]
    with pytest.raises(tp.CalculusError, match="table3"):
        tp.derive(tp.parse(TIED.format(multiplier="")), "adam", "table3")


def test_a_fixed_attention_scale_is_refused_by_name() -> None:
    """1/sqrt(d) with a growing head: the scores blow up after one update, and no exponent can repair it."""
    source = attention("heads = 2, size = n / 2").replace("?scale", "size^(-1/2)")
    with pytest.raises(tp.CalculusError, match="scores"):
        tp.derive(tp.parse(source), "adam")


HADAMARD = """
width n
dim d = 8, classes = 4
axis i: d, j: n, k: n, o: classes
input x[i]
param U[j,i], R[k,j] frozen, W[k,j], V[o,k]
h[j] = relu(U[j,i] x[i])
g[k] = relu(W[k,j] R[k,j] h[j])
output f[o] = V[o,k] g[k]
loss mse(f)
"""


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", "-1"), ("sgd", "0")])
def test_a_product_along_both_axes_is_not_bounded_by_a_norm(optimizer: str, lr: str) -> None:
    """The update of W contains R entry by entry, so its sum with R over j is aligned: each row is a sum of its own,
    and no singular value couples the rows."""
    found = tp.derive(tp.parse(HADAMARD), optimizer, "table3").params["W"]
    assert (exponent(found.init_std), exponent(found.lr)) == ("-1/2", lr)


def test_muon_refuses_a_gradient_whose_rank_grows() -> None:
    """The gradient of W is an entrywise product with R: orthogonalised, it has n singular values 1, not a few."""
    with pytest.raises(tp.CalculusError, match="rank of the gradient of `W`"):
        tp.derive(tp.parse(HADAMARD), "muon")


def test_what_never_moves_has_no_learning_rate() -> None:
    """Both factors of a product start at zero: their gradients are exactly zero, for ever."""
    source = net("h[j] = tanh(U[j,i] x[i])\nz[j] = A[j] * B[j]\ny[j] = h[j] + z[j]\noutput f[c] = V[c,j] y[j]",
                 ", A[j] = zeros, B[j] = zeros")  # fmt: skip
    found = tp.derive(tp.parse(source), "adam").params
    assert found["A"].lr is None
    assert found["B"].lr is None


GENERATED = """
width n
axis i: 8, j: n, k: n, z: 4
input x[i]
input code[z]
param E[j,i], H[k,j,z]
h[j] = relu(E[j,i] x[i])
W[k,j] = {}(H[k,j,z] code[z])
g[k] = relu(W[k,j] h[j])
output f = readout(g, 5)
loss cross_entropy(f)
"""


def test_a_multiplier_of_weights_alone_is_left_to_their_exponents() -> None:
    """`?gen` and the size of H do the same; the answer is that of the file without it."""
    plain, free = (tp.derive(tp.parse(GENERATED.format(text)), "adam") for text in ("", "?gen * "))
    assert exponent(free.multipliers["gen"]) == "0"
    assert [exponent(p.init_std) for p in free.params.values()] == [exponent(p.init_std) for p in plain.params.values()]
    assert [exponent(p.lr) for p in free.params.values()] == [exponent(p.lr) for p in plain.params.values()]
    assert exponent(free.params["H"].init_std) == "-1/2"


NORMALISED = """
width n
axis i: 8, j: n, k: n
input x[i]
param E[j,i], W[k,j], gain[k] = ones
h[j] = relu(E[j,i] x[i])
{}
y[k] = v[k,j] h[j]
g[k] = relu(gain[k] y[k])
output f = readout(g, 5)
loss cross_entropy(f)
"""


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", "-1/2"), ("sgd", "1")])
@pytest.mark.parametrize(
    "normalise",
    ["v[k,j] = W[k,j] * rms_scale[j](W[k,j])",
     "c[k,j] = W[k,j] - mean[j](W[k,j])\nv[k,j] = c[k,j] * rms_scale[j](c[k,j])"],
    ids=["weight normalisation", "weight standardisation"],
)  # fmt: skip
def test_a_normalised_weight_has_no_scale_but_a_speed(normalise: str, optimizer: str, lr: str) -> None:
    """v has entries 1 whatever W's are, v h is n^1/2, and the gain must take that away. At w = n^1/2 W a hidden matrix
    has initial size 1 and these learning rates (Lemma J.1 of Tensor Programs V)."""
    found = tp.derive(tp.parse(NORMALISED.format(normalise)), optimizer)
    assert exponent(found.params["W"].init_std) == "0"
    assert exponent(found.params["W"].lr) == lr
    assert exponent(found.params["gain"].multiplier) == "-1/2"
    assert found.reasons["W"]["init_std"] == "it is divided by its own root mean square: any would do"


@pytest.mark.parametrize(("function", "trains"), [("identity", True), ("leaky_relu", True), ("tanh", True),
                                                  ("relu", False), ("abs", False)])  # fmt: skip
def test_what_starts_at_exactly_zero_is_trained_through_a_slope_that_is_not_zero_there(
    function: str, trains: bool
) -> None:
    """At 0 the slope of a kink is PyTorch's. Derived, and measured: the first gradient of g."""
    source = f"""
width n
dim d = 8, classes = 5
axis i: d, j: n, c: classes
input x[i]
param E[j,i], g[j] = zeros, V[c,j]
z[j] = E[j,i] x[i] * g[j]
y[j] = {function}(z[j])
output f[c] = V[c,j] y[j]
loss cross_entropy(f)
"""
    found = tp.derive(tp.parse(source), "adam")
    assert (found.params["g"].lr is not None) is trains
    network = Interpreter(found.architecture.program, {"n": 16}, {"n": 16}, found.parametrization)
    gradient = network.run()[found.architecture.program.grads["g"]]
    assert bool(gradient.any()) is trains


def test_learned_queries_are_matrix_products_like_any_other() -> None:
    """Queries and keys made of parameters alone (DETR) have biases added to them, so each is of order 1, and not only
    their scores are."""
    found = tp.derive(tp.parse("""
width n
dim T = 5, classes = 7, size = 8, d = 3
axis t: T, s: T, m: n, h: n, e: size, c: classes, i: d
input x[i]
param E[t,m], Q[h,e,m], K[h,e,m], b[h,e], k0[h,e], V[s,h,i], R[c,h]
q[t,h,e] = Q[h,e,m] E[t,m] + b[h,e]
k[t,h,e] = K[h,e,m] E[t,m] + k0[h,e]
scores[h,t,s] = q[t,h,e] k[s,h,e]
a[h,t,s] = softmax[s](scores[h,t,s])
v[s,h] = V[s,h,i] x[i]
y[t,h] = a[h,t,s] v[s,h]
output f[t,c] = R[c,h] y[t,h]
loss cross_entropy(f)
"""), "adam")  # fmt: skip
    assert [found.tensor(name)[0] for name in ("q", "k", "scores")] == [tp.Power()] * 3
    assert [exponent(found.params[name].init_std) for name in ("E", "Q", "K")] == ["0", "-1/2", "-1/2"]


def test_a_short_window_slides_along_an_axis_that_grows() -> None:
    """Neighbouring coordinates are as random as one; of a product with the coordinate itself nothing cancels (ECA)."""
    body = "z[j] = tanh(U[j,i] x[i])\ny[j] = w[a] z[j + a]\nm = mean[j](y[j])\nq = mean[j](y[j] * z[j])\n"
    body += "g[j] = z[j] * y[j] + m + q\noutput f[c] = V[c,j] g[j]"
    source = net(body, ", w[a]", "dim taps = 3\naxis a: taps")
    found = tp.derive(tp.parse(source), "adam")
    assert [exponent(found.tensor(name)[0]) for name in ("y", "m", "q")] == ["0", "-1/2", "0"]
    assert [exponent(found.tensor(name)[1]) for name in ("y", "m", "q")] == ["0", "0", "0"]
    assert exponent(found.params["w"].lr) == "0"


@pytest.mark.parametrize("optimizer", tiers(["adam", "sgd", "muon"], ["adam"]))
def test_a_tied_embedding_that_starts_at_zero_learns_like_one_that_starts_at_random(optimizer: str) -> None:
    """Its learning rate is that of the lookup, whose update is to be Theta(1); what the readout makes of it, n times as
    much, is for ?output to take. (The readout's update would be Theta(1) with ?output = 1 and a rate n^-1 smaller,
    too, and the lookup would not move.)"""
    text = load("examples/gpt_tied.tp").source
    random, zero = (
        derive(load("examples/gpt_tied.tp"), optimizer),
        tp.derive(tp.parse(text.replace("normal(1)", "zeros")), optimizer),
    )
    assert zero.params["E"].init_std is None
    assert zero.multipliers == random.multipliers and zero.multipliers["output"] == n(-1)
    assert zero.params["E"].lr == random.params["E"].lr


def test_a_scalar_keeps_its_start_and_the_norm_of_the_gradient_stays_bounded() -> None:
    """A learned temperature T in front of a sum over n terms must be n^-1: in the default form that is its multiplier,
    while T starts at 1, moves by 1 and has a gradient of order 1."""
    text = """
width n
axis i: 8, j: n, k: n, t: 4, s: 4
input x[t,i]
param Q[j,i], K[j,i], T[] = ones, R[c,j]
axis c: 3
q[t,j] = Q[j,i] x[t,i]
k[t,j] = K[j,i] x[t,i]
a[t,s] = softmax[s](T[] q[t,j] k[s,j])
z[t,j] = a[t,s] q[s,j]
output f[t,c] = R[c,j] z[t,j]
loss cross_entropy(f)
"""
    found = tp.derive(tp.parse(text), "adam")
    temperature = found.params["T"]
    assert (temperature.multiplier, temperature.init_std, temperature.lr) == (n(-1), n(0), n(0))
    assert (temperature.eps, found.gradient_norm) == (n(0), n(0))
    without = tp.derive(tp.parse(text), "adam", "table3")
    assert (without.params["T"].init_std, without.params["T"].lr) == (n(-1), n(-1))

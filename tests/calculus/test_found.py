"""Programs that random networks were reduced to: each was once refused, or predicted wrongly.

The first line of a file names the optimizer and says what was wrong. All of them derive, settle on the same exponents
however often they are asked, and no tensor disagrees with training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

import tensorprog as tp
from benchmarks.agreement import trial
from benchmarks.agreement.family import Look
from tensorprog.api import derive
from tensorprog.calculus.analysis import largest
from tensorprog.coordcheck.predict import Predictor
from tensorprog.coordcheck.probes import probes
from tensorprog.exponents import Power
from tensorprog.graph import InvRms
from tensorprog.initial import make_data
from tensorprog.parametrization import Parametrization

HERE = Path(__file__).parent
BOUNDS = sorted((HERE / "bounds").glob("*.tp"))  # classes in which the calculus is known to overestimate
FOUND = sorted((HERE / "found").glob("*.tp"))
LOOKS = (Look(8), Look(24), Look(16, 0.25), Look(16, 4.0), Look(16, 16.0))


def optimizer(path: Path) -> str:
    return path.read_text().removeprefix("# ").split(".")[0]


@pytest.mark.parametrize("path", FOUND, ids=lambda p: p.stem)
def test_reduced_programs_derive(path: Path) -> None:
    """Every trained parameter contributes Theta(1) where it is used, and nothing that is consumed grows."""
    found = derive(path, optimizer(path))
    for _, node in found.architecture.graph.outputs:
        assert largest(found.solution.snapshot.change[node]) == 0
    assert all(found.params[name].lr is not None for name in found.architecture.program.updates)


@pytest.mark.slow
@pytest.mark.parametrize("path", FOUND, ids=lambda p: p.stem)
def test_reduced_programs_agree_with_training(path: Path) -> None:
    derivation = derive(path, optimizer(path))
    found = trial.judged(derivation, derivation.parametrization, looks=LOOKS)
    assert not found.counts["disagrees"], [row for row in found.rows if row.verdict == "disagrees"]
    assert found.counts["agrees"] > 4 * found.counts["inconclusive"]


@pytest.mark.slow
@pytest.mark.parametrize("path", BOUNDS, ids=lambda p: p.stem)
def test_known_overestimates_are_bounds(path: Path) -> None:
    """Nothing grows faster than predicted; something grows more slowly, or the file belongs elsewhere."""
    derivation = derive(path, optimizer(path))
    found = trial.judged(derivation, derivation.parametrization, looks=(Look(16),))
    assert all(row.low <= row.target + 0.2 for row in found.rows)
    assert any(row.high < row.target - 0.1 for row in found.rows)


def test_a_circle_of_demands_ends_in_the_larger_one() -> None:
    """A may start at n^-1 only: once the adapter's B is trained, E's steps carry A, and A meets them aligned."""
    path = next(p for p in FOUND if p.stem == "tied_below_an_adapter")
    params = derive(path, "sgd", "table8").params
    assert str(params["A"].multiplier) == "n^-1"
    assert str(params["E"].lr) == "n"


@pytest.mark.parametrize(("which", "lrs"), [("sgd", ["1", "n"]), ("adam", ["n^-1", "n^-1/2"])])
def test_a_matrix_behind_a_function_moves_as_far_as_the_product_allows(which: str, lrs: list[str]) -> None:
    """(tanh(B) * A) z: B starts at 1 and A at n^-1/2, so that A times the step of B is one of a hidden matrix, n^-1."""
    params = derive(next(p for p in FOUND if p.stem == "weight_made_of_two_matrices"), which).params
    assert [str(params[name].init_std) for name in "AB"] == ["n^-1/2", "1"]
    assert [str(params[name].lr) for name in "AB"] == lrs


def test_a_normalised_tensor_never_grows() -> None:
    """u = y * rms_scale(y) has entries of order 1 before and after y grows, so what reads it is a readout, n^-1."""
    found = derive(next(p for p in FOUND if p.stem == "norm_of_a_small_start"), "muon")
    assert [str(size) for size in found.tensor("u")] == ["1", "1"]
    assert str(found.params["V"].multiplier) == "n^-1"


def test_what_a_fallen_inverse_norm_multiplied_is_gone() -> None:
    """E moves by Theta(1) in its first step or never: later gradients are those behind the small inverse norm."""
    found = derive(next(p for p in FOUND if p.stem == "what_an_inverse_norm_lost"), "sgd")
    assert str(found.params["E"].lr) == "n"
    assert [str(size) for size in found.tensor("z")] == ["1", "1"]


def test_an_inverse_norm_shrinks_when_its_argument_outgrows_its_start() -> None:
    """The gradient at z is n^1/2 n^-1/2 at the start and 1 times 1 afterwards, never n^1/2 times 1. The inverse norm
    itself still changes by what it loses, n^1/2."""
    path = next(p for p in FOUND if p.stem == "norm_of_what_outgrows_its_start")
    found = derive(path, "sgd")
    assert {str(found.params[name].lr) for name in "UABV"} == {"n"}
    norm = next(node.id for node in found.architecture.graph.nodes if isinstance(node.op, InvRms))
    solver, snapshot = found.solution.solver, found.solution.snapshot
    assert str(solver.units.unpack(largest(snapshot.change[norm]) or 0)) == "n^1/2"


def test_a_gain_behind_a_norm_needs_no_multiplier() -> None:
    """x * r * g, with r = rms_scale(x), is (x * r) * g: in x * (r * g) a trained x would meet the r of its start."""
    found = derive(next(p for p in FOUND if p.stem == "gain_behind_a_norm_of_a_small_start"), "muon")
    assert [str(size) for size in found.tensor("u")] == ["1", "1"]
    assert str(found.params["g"].multiplier) == "1"


def test_an_inverse_norm_of_zero_changes_by_what_epsilon_made_it() -> None:
    """m is zero until g has moved and of order n afterwards: from epsilon^-1/2, the inverse norm falls to n^-1."""
    source = "width n\ndim d = 8, classes = 3\naxis i: d, j: n, c: classes\ninput x[i]\nparam E[j,i], g[j] = zeros\n"
    source += "param V[c,j]\nm[j] = g[j] * relu(E[j,i] x[i])\nu[j] = m[j] * rms_scale[j](m[j])\n"
    found = derive(tp.parse(source + "output f[c] = V[c,j] u[j]\nloss mse(f)"), "adam")
    params = {**found.params, "g": replace(found.params["g"], lr=Power.of({"n": Fraction(1)}))}
    snapshot = Predictor(found, replace(found.parametrization, params=params), 1).snapshots[1]
    units = found.solution.solver.units
    norm = next(node.id for node in found.architecture.graph.nodes if isinstance(node.op, InvRms))
    assert [str(units.unpack(largest(snapshot.change[k]) or 0)) for k in (norm - 1, norm, norm + 1)] == ["n", "1", "1"]


def test_data_are_symmetric_only_along_finite_axes() -> None:
    """A sum over a growing axis of an odd network's inputs is of order n, as predicted, because they have a mean."""
    source = "width n\naxis i: n, t: 8\ninput x[t]\ninput y[i]\nparam W[i]\ns[] = W[i] y[i]\n"
    source += "output f[t] = s[] x[t]\nloss mse(f)"
    data = make_data(tp.parse(source).graph, {"n": 4000}, batch=500)
    assert abs(data["y"].mean() - 1) < 0.1 > abs(data["x"].mean())


BILINEAR = """width n
dim d = 16, classes = 3
axis i: d, p: n, q: n, o: classes
input x[i]
param A[p,i], B[q,i], W[o,p,q]
u[p] = relu(A[p,i] x[i])
v[q] = relu(B[q,i] x[i])
"""


@pytest.mark.parametrize(
    ("written", "start"),
    [
        ("m[p,q] = u[p] v[q]\noutput f[o] = W[o,p,q] m[p,q]", "n^-3/2"),
        ("output f[o] = W[o,p,q] u[p] v[q]", "n^-3/2"),
        ("m[p,q] = u[p] v[q] + v[p] u[q]\noutput f[o] = W[o,p,q] m[p,q]", "n^-3/2"),
        ("m[p,q] = tanh(u[p] v[q])\noutput f[o] = W[o,p,q] m[p,q]", "n^-2"),
    ],
)
def test_a_random_tensor_meets_outer_products_with_its_norm_on_them(written: str, start: str) -> None:
    """As if summed over one axis after the other. What is no finite sum of them may be aligned with all of W."""
    found = derive(tp.parse(f"{BILINEAR}{written}\nloss cross_entropy(f)"), "adam", "table3")
    assert str(found.params["W"].init_std) == start


def predicted(stem: str, tensor: str, change: Mapping[str, Power] | None = None) -> list[str]:
    """The sizes of a tensor at the start and of its changes at three steps, after some initial sizes were changed."""
    path = next(p for p in FOUND if p.stem == stem)
    found = derive(path, optimizer(path))
    params = {name: replace(e, init_std=(change or {}).get(name, e.init_std)) for name, e in found.params.items()}
    predictor = Predictor(found, replace(found.parametrization, params=params), 3)
    probe = next(p for p in probes(found) if p.name == tensor and p.kind == "value")
    return [str(predictor.at(probe, step).exponent) for step in range(4)]


def test_what_a_small_argument_is_multiplied_with_does_not_depend_on_it() -> None:
    """softplus(D low + b) with low of size n^-1/2: its slope moves with b, not with D, and W's gradient stays a sum of
    independent terms."""
    assert predicted("bias_beside_a_bottleneck", "W") == ["1", "n^-1/2", "n^-1/2", "n^-1/2"]


def test_relu_is_an_odd_function_plus_an_even_one() -> None:
    """E is independent of both parts of relu(W z), as long as nothing moved."""
    assert predicted("tied_over_relu", "f")[:2] == ["n^-1/2", "1"]


def test_centring_takes_away_what_is_alike_along_the_axis() -> None:
    start = {"E": Power.of({"n": Fraction(-1, 2)})}
    assert predicted("centred_sigmoid", "h", start)[0] == "1"
    assert predicted("centred_sigmoid", "m", start)[0] == "n^-1/2"
    assert predicted("centred_sigmoid", "m")[0] == "1"


def test_a_weight_whose_transpose_meets_centred_gradients_alone_moves_no_mean() -> None:
    """B B^T y is y, which is centred, and something random: so the mean of x moves by n^-1/2 in the first step."""
    assert predicted("mean_of_a_stream_before_its_norm", "[x] #2")[:2] == ["n^-1/2", "n^-1/2"]


def test_what_is_made_entry_by_entry_of_a_matrix_is_reflected_with_it() -> None:
    """M gates W and stays, W and V flip, and so does a coordinate of h, at every step."""
    assert predicted("mean_of_functions_of_a_made_weight", "[h] #2") == ["n^-1/2"] * 4


def test_sigmoid_is_odd_but_for_a_constant() -> None:
    """Its mean over coordinates, in a stream that nothing else breaks the symmetry of, moves at order n^-1/2 only."""
    assert predicted("centred_sigmoid", "[h] #2") == ["1", "n^-1/2", "n^-1/2", "n^-1/2"]


def test_a_spectral_step_lifts_what_is_small_all_the_way_up_from_where_it_arises() -> None:
    """The mean's part of z's gradient is n^-1/2 of V's; there is one V, and eight directions of x."""
    assert predicted("lifted_behind_a_single_target", "m") == ["n^-1/2", "1", "1", "1"]


def test_an_orthogonalised_step_mixes_parts_that_meet_along_one_side() -> None:
    """V y^T + U (y + z)^T: in the step V meets z, n^1/2 more than if it did not."""
    assert predicted("mixed_by_orthogonalisation", "s") == ["n^-1/2", "1", "1", "1"]


def test_an_entrywise_step_is_a_function_of_the_sum_of_the_parts_of_a_gradient() -> None:
    assert predicted("product_of_three_parts", "s") == ["n^-1/2", "1", "1", "1"]


def looked_up() -> tuple[tp.Derivation, Parametrization]:
    """An embedding whose other use, a mean, has a gradient that is n^-1/2 of that of the lookup; only 8 of its 64 rows
    are looked up."""
    source = """
width n
dim d = 64, T = 2, classes = 5
axis i: d, j: n, c: classes, t: T
input tokens[t] in d
input y[i]
param E[j,i], V[c,j]
h[j] = mean[t](tanh(E[j,tokens[t]]))
s[i] = mean[j](E[j,i])
output g[i] = s[i] * y[i]
output f[c] = V[c,j] h[j]
loss cross_entropy(f) + mse(g)
"""
    found = derive(tp.parse(source), "adam")
    one = Power()
    rule = replace(found.params["E"], multiplier=one, lr=one)
    unknowns = {**found.parametrization.unknowns, "E@1": one, "E@2": one}
    used = replace(found.parametrization, params={**found.params, "E": rule}, unknowns=unknowns)
    return found, used


def test_what_is_small_in_the_gradient_of_an_embedding_is_all_there_is_for_tokens_that_the_batch_lacks() -> None:
    """So the mean moves by as much as the entries do, and not by n^-1/2 of that, as it would without absent tokens."""
    found, used = looked_up()
    predictor = Predictor(found, used, 1)
    at = {p.name: str(predictor.at(p, 1).exponent) for p in probes(found) if p.kind == "value"}
    assert (at["h"], at["s"]) == ("1", "1")


@pytest.mark.slow
def test_so_it_moves_when_it_is_trained() -> None:
    assert not trial.judged(*looked_up(), looks=(Look(8),)).counts["disagrees"]

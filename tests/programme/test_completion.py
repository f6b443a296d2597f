"""The best stable completion of fixed exponents: against the local solver, exhaustive search and hand calculations."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from random import Random

import pytest

import tensorprog as tp
from tensorprog.calculus.exponents import Exponents
from tensorprog.classify import classify
from tensorprog.classify.regime import trainer_for
from tensorprog.exponents import Power
from tensorprog.fixing import read_requirement
from tensorprog.optimizers.choice import choose
from tensorprog.programme import completion, search
from tensorprog.programme.complete import solve
from tensorprog.programme.completion import complete
from tensorprog.programme.fixes import resolve
from tensorprog.programme.refusals import ConflictError
from tensorprog.programme.seen import Seen
from tensorprog.programme.trajectory import Trainer
from tests.shared import load, n, tiers

HALF, THIRD, QUARTER = Fraction(1, 2), Fraction(1, 3), Fraction(1, 4)
MLP = load("examples/mlp.tp")
ATTENTION = tp.parse("""
width n
axis t: 4, s: 4, i: 4, j: n, e: n, c: 3
input x[t,i]
param U[j,i], Q[e,j], K[e,j], V[e,j], R[c,e]
h[t,j] = U[j,i] x[t,i]
q[t,e] = Q[e,j] h[t,j]
k[t,e] = K[e,j] h[t,j]
v[t,e] = V[e,j] h[t,j]
scores[t,s] = ?scale{n^(-1/2)} * (q[t,e] k[s,e])
y[t,e] = softmax[s](scores[t,s]) v[s,e]
output f[t,c] = R[c,e] y[t,e]
loss mse(f)
""")


CASES = product(("mlp", "rnn", "gpt_tied", "lstm", "resnet", "gpt", "bert"), ("sgd", "adam", "muon"))
QUICK = ("mlp-sgd", "mlp-adam", "mlp-muon", "rnn-adam")


@pytest.mark.parametrize(("example", "optimizer"), tiers(CASES, QUICK))
def test_with_nothing_fixed_it_is_what_the_local_solver_derives(example: str, optimizer: str) -> None:
    """Two ways to the same exponents: read off locally in graph order, and a global linear programme; and the same
    multipliers between the uses of a tied weight. The programme starts from zero exponents, which know nothing."""
    architecture = load(f"examples/{example}.tp")
    trainer = completion.trainer_for(architecture, choose(optimizer))
    found = solve(trainer, [], trainer.exponents)
    derived = completion.derived_or_zero(architecture, choose(optimizer), found.unknowns.trainer)
    assert found.exponents == derived
    assert not found.lost and found.trajectory.stable


def stable_and_updates(trainer: Trainer, exponents: Exponents) -> list[Fraction] | None:
    """The exponents of all own updates, smallest first; None if unstable."""
    if not trainer.run(exponents).stable:
        return None
    sizes = [trainer.contribution(name) for name in trainer.program.updates]
    return sorted(trainer.units.degree(size) for size in sizes if size is not None)


ONE_LAYER = tp.parse("""
width n
axis i: 4, j: n, k: n, c: 3
input x[i]
param U[j,i], W[k,j], V[c,k]
h[j] = tanh(U[j,i] x[i])
g[k] = tanh(W[k,j] h[j])
output f[c] = V[c,k] g[k]
loss mse(f)
""")


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("init", tiers(["sp", "mup"], ["sp"]))
def test_no_learning_rates_on_a_grid_do_better(optimizer: str, init: str) -> None:
    """Exhaustive: for a fixed start, of all learning rates that are multiples of n^1/2, none is stable and has larger
    updates in the order of the programme (the smallest first)."""
    found = complete(ONE_LAYER, [f"init = {init}"], optimizer)
    trainer = trainer_for(ONE_LAYER, optimizer)
    unit = trainer.units.denominator // 2
    finer = trainer.units.denominator // found.completed.unknowns.trainer.units.denominator
    start = {name: value * finer for name, value in found.completed.exponents.A.items()}
    best = max(
        updates
        for rates in product(range(-3, 4), repeat=3)
        if (updates := stable_and_updates(
            trainer, Exponents(start, dict(zip("UWV", (unit * r for r in rates), strict=True)),
                               dict.fromkeys(trainer.exponents.M, 0)))) is not None
    )  # fmt: skip
    assert sorted(found.completed.contributions.values()) == best
    assert found.maximal == (init == "mup")


@pytest.mark.parametrize("optimizer", tiers(["sgd", "adam"], ["adam"]))
def test_attention_with_the_scale_of_the_standard_transformer(optimizer: str) -> None:
    """With 1/sqrt(d) fixed, d^1/2 |q| |k| must stay Theta(1) for q0 . dk, dq . k0 and dq . dk, all aligned: the best
    that treats queries and keys alike has all four of size n^-1/4. (Tensor Programs V, definition 4.1, takes 1/d.)"""
    found = complete(ATTENTION, ["?scale = -1/2"], optimizer)
    assert {name: found.contribution(name) for name in "UVR"} == dict.fromkeys("UVR", Power())
    assert found.contribution("Q") == found.contribution("K") == n(-QUARTER)
    (lost,) = found.completed.lost
    assert set(lost.params) == {"Q", "K"}
    assert any(c.text == "the change of `scores`" for c in lost.binding)
    assert any(c.text == "?scale = -1/2" for c in lost.binding)
    assert complete(ATTENTION, ["?scale = n^-1"], optimizer).maximal


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_one_global_learning_rate_costs_nothing_with_multipliers(optimizer: str) -> None:
    """Tensor Programs V, Table 9, for SGD; for Adam multipliers do the same."""
    found = complete(MLP, ["lr = global"], optimizer)
    assert found.maximal
    assert len({e.lr for e in found.parametrization.params.values()}) == 1
    if optimizer == "sgd":
        assert found.parametrization.params == tp.derive(MLP, "sgd", "table9").parametrization.params


def test_the_standard_start_with_one_rate_is_the_largest_stable_rate_of_sp() -> None:
    """Two ways to one number: the linear programme over one global rate, and Newton's method of the classifier."""
    for optimizer in ("sgd", "adam"):
        found = complete(MLP, ["init = sp", "lr = global", "no multipliers"], optimizer)
        rate = classify(MLP, "sp", optimizer)
        assert rate.global_rate is not None and rate.rate_factor is not None
        assert {e.lr for e in found.parametrization.params.values()} == {n(rate.global_rate + rate.rate_factor)}


def test_a_completion_is_what_the_classifier_sees() -> None:
    """What is lost is what the classifier measures of the same parametrization; what is fixed is kept."""
    found = complete(MLP, ["init = sp", "no multipliers"], "adam")
    seen = classify(MLP, found.parametrization, "adam")
    assert seen.stable and not seen.maximal
    assert seen.contributions == {name: found.contribution(name) for name in seen.contributions}
    sp = classify(MLP, "sp", "adam").parametrization
    for name, e in found.parametrization.params.items():
        assert (e.multiplier, e.init_std) == (sp.params[name].multiplier, sp.params[name].init_std)


@pytest.mark.parametrize(
    ("fixes", "kept"),
    [
        (["init = sp", "lr = 0", "no multipliers"], 2),
        pytest.param(["init = sp", "lr[W3] = 0", "no multipliers", "lr[b1] = 0"], 3, marks=pytest.mark.slow),
        (["lr[W1] = 0", "lr[W1] = 1"], 2),
        (["lr = global", "init[W1] = 1"], 1),
    ],
)
def test_a_conflict_names_requirements_none_of_which_can_be_left_out(fixes: list[str], kept: int) -> None:
    """An irreducible infeasible subset: without any one of the named requirements a completion exists."""
    with pytest.raises(ConflictError) as caught:
        complete(MLP, fixes, "adam")
    named = [fix for fix in fixes if f"--fix {fix!r}" in caught.value.message]
    assert len(named) == kept
    for left_out in named:
        rest = [fix for fix in named if fix != left_out]
        assert complete(MLP, rest, "adam").completed.trajectory.stable


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr", "`lr` fixes nothing"),
        ("rate = 0", "`rate` is nothing to fix"),
        ("lr[W9] = 0", "there is no such parameter"),
        ("lr = fast", "`fast` is no exponent"),
        ("?scale = 0", "the program has no multiplier `?scale`"),
        ("init[b1] = 0", "`b1` starts at exactly zero"),
    ],
)
def test_a_requirement_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(tp.TensorProgError) as caught:
        resolve(trainer_for(MLP), read_requirement(text))
    assert message in caught.value.message and caught.value.fix


@pytest.mark.parametrize(
    ("text", "part"), [("lr[Q] = 0", "Q"), ("lr[*] = m^-1", "m^-1"), ("?scale = 0", "?scale"), ("init[b1] = 0", "b1")]
)
def test_what_is_wrong_with_a_requirement_of_the_command_line_is_under_the_caret(text: str, part: str) -> None:
    with pytest.raises(tp.TensorProgError) as caught:
        complete(MLP, [text])
    _, shown, caret, *_ = caught.value.render().splitlines()
    assert shown.endswith(text) and shown[caret.index("^") : caret.rindex("^") + 1] == part


LORA = load("examples/lora.tp")  # under SGD no start of the second adapter is in balance: to let it learn costs others


@pytest.mark.slow
@pytest.mark.parametrize("fix", ["lr[lora_2.A] = 0", "lr[*] = 0", "lr[readout.W] = 0"])
def test_what_grows_with_every_step_is_bounded_at_once(fix: str) -> None:
    """Each step of a pair of adapters enlarges their product by one and the same factor. Later and later steps bound
    it by n^1/2, n^1/3, n^1/4, ...; that it must be at most 1 is one constraint, and binds."""
    found = complete(LORA, [fix], "sgd")
    assert sorted(found.completed.contributions.values()) == [-HALF, 0, 0, 0, 0]
    assert any("the growth of" in c.text for lost in found.completed.lost for c in lost.binding)
    assert not found.completed.certified  # starts are open, and with them the sizes of gradients


@pytest.mark.slow
def test_without_that_constraint_the_answer_is_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control; and what was not followed to its end is not called the best."""
    monkeypatch.setattr(Seen, "growing", lambda _: ())
    found = complete(LORA, ["lr[lora_2.A] = 0"], "sgd").completed
    assert min(found.contributions.values()) < -HALF and found.trajectory.stable
    assert not found.certified


@pytest.mark.slow
def test_a_prediction_far_from_balance_is_not_followed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Terms of different sizes are not merged, and multiply: their number is bounded, and what is then not known to be
    the best is not called so."""
    monkeypatch.setattr(completion, "MOST_TERMS", 8)
    found = complete(LORA, ["lr[lora_2.A] = 0"], "sgd").completed
    assert found.trajectory.stable and not found.certified


def test_a_search_that_finds_nothing_says_that_there_may_be_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MAX_ROUNDS", 1)
    monkeypatch.setattr(search, "SMALLER", ())
    with pytest.raises(tp.TensorProgError, match="was found in 1 rounds") as caught:
        complete(MLP, ["init = sp", "lr[W1] = -1"], "adam")
    assert caught.value.why and "is not shown" in caught.value.why and caught.value.fix


@pytest.mark.slow
def test_no_neighbour_of_the_completion_does_better() -> None:
    """A second witness: of 400 exponents around the answer, chosen at random, none is stable and has larger updates."""
    found = complete(LORA, ["lr[lora_2.A] = 0"], "sgd")
    trainer = trainer_for(LORA, "sgd")
    finer = trainer.units.denominator // found.completed.unknowns.trainer.units.denominator
    best, draw, stable = sorted(found.completed.contributions.values()), Random(1), 0
    exponents = found.completed.exponents
    for _ in range(400):
        A, C = ({name: value * finer + draw.choice((-1, 0, 0, 1)) * trainer.units.denominator // 8
                 for name, value in part.items()} for part in (exponents.A, exponents.C))  # fmt: skip
        updates = stable_and_updates(trainer, Exponents(A, C, {m: v * finer for m, v in exponents.M.items()}))
        stable += updates is not None
        assert updates is None or updates <= best
    assert stable > 4


@pytest.mark.slow
@pytest.mark.parametrize("example", ["gpt", "unet"])
def test_the_completion_of_a_transformer_with_the_standard_start_is_certified(example: str) -> None:
    """Behind norms there are many sides to look at, and two at most where one does not do."""
    found = complete(load(f"examples/{example}.tp"), ["init = sp"], "adam").completed
    assert found.trajectory.stable and found.certified
    assert {one.exponent for one in found.lost} == {-HALF}


def begins(example: str) -> set[Fraction]:
    """The own updates at the stable point where the search for one global rate without multipliers begins."""
    architecture = load(f"examples/{example}.tp")
    trainer = completion.trainer_for(architecture, choose("adam"))
    start = completion.derived_or_zero(architecture, choose("adam"), trainer)
    fixes = [resolve(trainer, read_requirement(text)) for text in ("lr = global", "no multipliers")]
    found = search.Search(trainer, fixes, start)
    found.begin(found.root())
    assert found.best is not None
    return set(found.best.reached[0])


@pytest.mark.slow
def test_with_one_learning_rate_it_begins_with_starts_that_shrink_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate of n^-2/3 for all under Adam, behind gains of n^-2/3. With starts as derived it would be n^-1."""
    assert begins("gpt_tied") == {-2 * THIRD, -THIRD, 0}
    monkeypatch.setattr(search, "SMALLER", [pair for pair in search.SMALLER if not pair[1]])
    assert begins("gpt_tied") == {-1, 0}


@pytest.mark.slow
def test_with_learning_rates_fixed_it_begins_with_smaller_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transformer under SGD with the learning rate 1 and no multipliers is stable if it starts small enough."""
    fixes = ["lr = 0", "no multipliers"]
    found = complete(load("examples/gpt.tp"), fixes, "sgd").completed
    assert found.trajectory.stable and not found.certified
    monkeypatch.setattr(search, "SMALLER", search.SMALLER[:1])
    monkeypatch.setattr(search, "MAX_EFFORT", 400_000)
    with pytest.raises(tp.TensorProgError, match="no stable completion of lr = 0, no multipliers was found") as caught:
        complete(load("examples/gpt.tp"), fixes, "sgd")
    assert caught.value.span.line > 7  # what grew, not the first line of the network

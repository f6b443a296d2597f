"""Random networks as judges: the machinery, negative controls, and a sample of the campaign."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from benchmarks.agreement import __main__ as main
from benchmarks.agreement import evidence, family, rows, shrink
from benchmarks.agreement.__main__ import finished
from benchmarks.agreement.campaign import campaign_program
from benchmarks.agreement.family import EACH, NORMED, ONE, RAISED, WIDER, Look, idle
from benchmarks.agreement.parametrizations import perturbed
from benchmarks.agreement.raised import carriers
from benchmarks.agreement.row import CANCELS, Row
from benchmarks.agreement.trial import LOOKS, control, heard, judged, opened, posed, prepared, trial
from tensorprog.api import derive
from tensorprog.architecture import parse
from tensorprog.coordcheck.judge import UNBOUNDED
from tensorprog.coordcheck.predict import Predictor
from tensorprog.coordcheck.probes import probes
from tensorprog.coordcheck.run import CheckReport, check
from tensorprog.exponents import Power

WIDTHS = np.array([64.0, 128.0, 256.0, 512.0])


def sizes(power: float, transient: float = 0.0, noise: float = 0.1, seeds: int = 16) -> evidence.Floats:
    """r^2 = n^(2 power) (1 + transient n^-1/2), times noise and a constant of every seed."""
    rng = np.random.default_rng(0)
    clean = WIDTHS**power * np.sqrt(1 + transient / np.sqrt(WIDTHS))
    return np.asarray(clean[:, None] * np.exp(noise * rng.standard_normal((4, seeds)) + rng.standard_normal(seeds)))


def verdict(power: float, predicted: float, **shape: float) -> str:
    return evidence.judge(WIDTHS, sizes(power, **shape), predicted, bound=False).verdict


@pytest.mark.parametrize("power", [-1.0, -0.5, 0.0, 0.5])
def test_a_clean_power_agrees_with_itself_only(power: float) -> None:
    assert verdict(power, power) == "agrees"
    assert verdict(power, power + 0.5) == "disagrees"
    assert verdict(power, power - 0.5) == "disagrees"


def test_a_transient_is_not_a_smaller_power() -> None:
    assert verdict(0.0, 0.0, transient=30.0) == "agrees"
    assert verdict(0.0, -0.5, transient=30.0) != "agrees"


def test_what_bends_late_is_not_taken_for_a_smaller_power() -> None:
    """A large part that falls like n^-2 hides one that stays; the same slope without a bend disagrees."""
    noise = 0.02 * np.random.default_rng(0).standard_normal((4, 16))
    hidden = (1 + 30 * (64 / WIDTHS) ** 2)[:, None] * np.exp(noise)
    slope = float(np.polyfit(np.log(WIDTHS), np.log(hidden).mean(axis=1), 1)[0])
    assert slope < -0.5
    assert evidence.judge(WIDTHS, hidden, 0.0, bound=False).verdict == "inconclusive"
    assert evidence.judge(WIDTHS, (WIDTHS**slope)[:, None] * np.exp(noise), 0.0, bound=False).verdict == "disagrees"


def test_noise_is_inconclusive_and_bounds_hold_from_above_only() -> None:
    assert verdict(0.0, 0.5, noise=3.0) == "inconclusive"
    for power, expected in ((-1.0, "agrees"), (0.5, "disagrees")):
        found = evidence.judge(WIDTHS, sizes(power), 0.0, bound=True)
        assert found.verdict == expected


def drawn(rng: np.random.Generator, power: float, seeds: int) -> evidence.Floats:
    """Sizes [width, seed] of a law with parts that vanish like n^-1/2 and n^-1, of either sign, and 5 to 50% noise."""
    while True:
        square = 1 + rng.uniform(-0.9, 3) * np.sqrt(64 / WIDTHS) + rng.uniform(-0.9, 3) * 64 / WIDTHS
        if square.min() > 0.05:
            noise = rng.choice([0.05, 0.2, 0.5]) * rng.standard_normal((len(WIDTHS), seeds))
            return np.asarray((WIDTHS**power * np.sqrt(square))[:, None] * np.exp(noise))


def test_how_often_the_judge_is_wrong() -> None:
    """A wrong exponent agrees in at most 3% of cases, a true one never disagrees; half a power off is never silent:
    what does not disagree at once is inconclusive, mostly as a miss."""
    rng = np.random.default_rng(0)
    for seeds in (8, 24):
        shares = {}
        for power in (-0.5, 0.0, 0.5):
            found = [evidence.judge(WIDTHS, drawn(rng, power, seeds), 0.0, bound=False) for _ in range(120)]
            shares[power] = {v: sum(e.verdict == v for e in found) / 120 for v in ("agrees", "disagrees")}
        assert shares[0.0]["disagrees"] == 0 and shares[0.0]["agrees"] > 0.6
        assert max(shares[-0.5]["agrees"], shares[0.5]["agrees"]) <= 0.03
        assert seeds < 24 or min(shares[-0.5]["disagrees"], shares[0.5]["disagrees"]) > 0.25


SIX = np.array([64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0])


def beside(rng: np.random.Generator, share: float, seeds: int = 24) -> evidence.Floats:
    """Sizes at six widths of a part that stays and an independent one that falls like n^-1/2: at 64 it is so much of
    the mean square that `share` is left for the one that stays. None stays (0): transients of the next power."""
    square = share + (1 - share) * 64 / SIX
    if not share:
        square = 64 / SIX * (1 + rng.uniform(-0.5, 3) * np.sqrt(64 / SIX))
    return np.asarray(np.sqrt(square)[:, None] * np.exp(0.1 * rng.standard_normal((6, seeds))))


def test_what_hides_on_the_ladder_is_seen_at_larger_widths() -> None:
    """A part of 1 to 5% of the mean square at width 64 is taken for the next power on the ladder, where it disagrees;
    at larger widths it does so no longer in four cases of five, and where nothing lasts the disagreement stays."""
    rng = np.random.default_rng(0)
    count = {"hidden": [0, 0], "nothing": [0, 0]}
    for name in count:
        for _ in range(60):
            found = beside(rng, rng.uniform(0.01, 0.05) if name == "hidden" else 0.0)
            if evidence.judge(WIDTHS, found[:4], 0.0, bound=False).verdict == "disagrees":
                count[name][0] += 1
                count[name][1] += evidence.judge_wider(SIX, found[:, :8], 0.0, bound=False).verdict == "disagrees"
    assert min(count["hidden"][0], count["nothing"][0]) > 45
    assert count["hidden"][1] < 0.2 * count["hidden"][0]
    assert count["nothing"][1] > 0.9 * count["nothing"][0]


def test_a_wrong_exponent_does_not_agree_at_larger_widths_either() -> None:
    rng = np.random.default_rng(0)
    for power in (-0.5, 0.5):
        law = SIX**power * np.sqrt(1 + rng.uniform(-0.9, 3) * np.sqrt(64 / SIX))
        found = [evidence.judge_wider(SIX, law[:, None] * np.exp(0.2 * rng.standard_normal((6, 8))), 0.0, bound=False)
                 for _ in range(100)]  # fmt: skip
        assert sum(e.verdict == "agrees" for e in found) <= 3


@pytest.mark.parametrize(("p", "degrees", "t"), [(0.05, 5, 2.5706), (0.05, 15, 2.1314), (0.001, 15, 4.0728),
                                                 (0.01, 1, 63.657), (0.01, 2, 9.9248)])  # fmt: skip
def test_students_quantiles(p: float, degrees: int, t: float) -> None:
    assert math.isclose(evidence.student(p, degrees), t, rel_tol=1e-3)


def test_networks_and_parametrizations_follow_from_their_number() -> None:
    texts = [campaign_program(k) for k in range(100)]
    assert texts == [campaign_program(k) for k in range(100)]
    assert len(set(texts)) == len(texts)
    found = derive(parse(texts[0]), "sgd")
    assert perturbed(found, 5) == perturbed(found, 5)
    assert perturbed(found, 5)[0] != found.parametrization


@pytest.mark.slow
def test_shrinking_keeps_the_finding_and_drops_the_rest() -> None:
    """What is kept: a refusal for the given reason."""
    source = """
width n
dim d = 8, classes = 5, T = 3
axis i: d, j: n, k: n, c: classes, t: T
input x[t,i]
param E[j,i], W[k,j], M[k,j], g[j] = ones, V[c,j]
z[t,j] = gelu(E[j,i] x[t,i])
h[k,j] = sigmoid(M[k,j]) * W[k,j]
y[t,k] = z[t,k] + h[k,j] z[t,j]
u[t,j] = y[t,j] * g[j]
m[j] = mean[t](u[t,j])
output f[c] = V[c,j] m[j]
loss cross_entropy(f)
"""
    why = "an orthogonalised update is sized for a finite sum of outer products of vectors"
    small = shrink.shrink(source, shrink.refused("muon", why))
    assert shrink.refused("muon", why)(small)
    assert len(small.splitlines()) < len(source.strip().splitlines())
    assert "g[j]" not in small and "gelu" not in small and "W[" not in small


def measured(slope: float, width: float = 0.1, verdict: str = "inconclusive") -> Row:
    return Row("x", "value", 1, "0", slope, slope - width, slope + width, verdict, "", ())


@pytest.mark.parametrize(
    ("at_4", "at_16", "confirmed"),
    [
        (-0.5, -0.5, True),  # it stays where it is
        (-0.5, -0.36, False),  # it moves: twice as much again, and it would agree
        (-0.4, -0.5, True),  # the largest rate counts
        (-0.5, None, True),  # or the largest at which it is well known
        (None, None, False),  # nothing is known at larger rates
        (-0.5, 0.0, False),  # it agrees there
    ],
)
def test_a_disagreement_must_stay_at_larger_learning_rates(
    at_4: float | None, at_16: float | None, confirmed: bool
) -> None:
    """Predicted 0, measured -1/2 at the rate of a check, and so on; None: with an error of 1/2."""
    larger = {r: measured(s) if s is not None else measured(-0.5, 0.5) for r, s in ((4.0, at_4), (16.0, at_16))}
    assert rows.confirmed(measured(-0.5, verdict="disagrees"), larger) is confirmed


@pytest.mark.parametrize(
    ("before", "at_larger_widths", "after"),
    [
        ("disagrees", ("agrees", ""), ("agrees", rows.AT_WIDER)),
        ("disagrees", ("disagrees", ""), ("disagrees", "before")),
        ("disagrees", ("inconclusive", evidence.MOVES), ("inconclusive", evidence.MOVES)),
        ("disagrees", ("inconclusive", evidence.NOISE), ("inconclusive", rows.UNSURE)),
        ("inconclusive", ("agrees", ""), ("agrees", rows.AT_WIDER)),
        ("inconclusive", ("disagrees", ""), ("inconclusive", "before")),
        ("agrees", ("agrees", ""), ("agrees", "before")),
        ("agrees", ("inconclusive", evidence.NOISE), ("agrees", "before")),
        ("agrees", ("inconclusive", evidence.MISSES), ("inconclusive", rows.NARROW)),
        ("agrees", ("disagrees", ""), ("inconclusive", rows.NARROW)),
    ],
)
def test_a_disagreement_must_stay_at_larger_widths(
    before: str, at_larger_widths: tuple[str, str], after: tuple[str, str]
) -> None:
    """What disagrees does so at larger widths, too; nothing disagrees there alone."""
    row, (verdict, reason) = replace(measured(-0.5, verdict=before), reason="before"), at_larger_widths
    found = rows.at_wider(row, replace(measured(-0.4, verdict=verdict), reason=reason))
    assert (found.verdict, found.reason) == after


def test_what_grows_faster_must_do_so_at_smaller_learning_rates_too() -> None:
    row = replace(measured(0.5, verdict="disagrees"), reason=evidence.FASTER)
    missed = replace(measured(0.5), reason=evidence.MISSES)
    assert rows.confirmed(row, {0.25: missed, 16.0: measured(0.5)})
    assert not rows.confirmed(row, {0.25: measured(0.1), 16.0: measured(0.5)})


def test_a_norm_of_what_the_same_norm_made_has_nothing_to_measure() -> None:
    """Its inverse changes by epsilon alone, and so it does if the mean of what has none is taken off between, and so
    does the length, and the product of two that differ by their norms alone. With a gain, or a mean, between, or other
    axes, it changes."""
    source = """
    width n
    axis i: 4, t: 3, j: n
    input x[t,i]
    param W[j,i], g[j] = ones
    h[t,j] = W[j,i] x[t,i]
    y[t,j] = 2 * (h[t,j] * rms_scale[j](h[t,j]))
    idle[t] = rms_scale[j](y[t,j] + y[t,j])
    gained[t] = rms_scale[j](g[j] * y[t,j])
    across = rms_scale[t,j](y[t,j])
    late[t] = rms_scale[j](y[t,j] - mean[j](y[t,j]))
    m[t,j] = y[t,j] - mean[j](y[t,j])
    u[t,j] = 3 * m[t,j] * rms_scale[j](m[t,j])
    again[t] = rms_scale[j](u[t,j] - mean[j](u[t,j]))
    length[t] = cos(y[t,j] y[t,j])
    mixed[t] = y[t,j] h[t,j]
    product[t] = y[t,j] (y[t,j] * rms_scale[j](y[t,j]))
    others[t] = y[t,j] u[t,j]
    output f[t] = idle[t] * gained[t] * across * late[t] * again[t] * length[t] * mixed[t] * product[t] * others[t]
    loss mse(f)
    """
    nodes = parse(source).graph.nodes
    assert {nodes[k].name for k in idle(nodes)} - {""} == {"idle", "again", "length", "product"}


def test_the_control_asks_only_where_the_two_predictions_are_different_powers() -> None:
    """Two widths grow in proportion: n^(1/2) for m^(1/2) is no wrong exponent, n for m^(1/2) is one."""
    source = """
width n, m
regime n, m: proportional
dim d = 8, classes = 4
axis i: d, j: n, k: m, c: classes
input x[i]
param W[j,i], U[k,j], V[c,k]
z[j] = W[j,i] x[i]
h[k] = relu(U[k,j] z[j])
output f[c] = V[c,k] h[k]
loss cross_entropy(f)
"""
    found = derive(parse(source), "sgd")
    places = [p for p in probes(found) if p.kind == "value"]
    for power, count in (
        (Power.of({"n": Fraction(1, 2), "m": Fraction(-1, 2)}), 0),
        (Power.of({"n": Fraction(1, 2)}), 1),
    ):
        wrong = replace(found.params["U"], init_std=found.params["U"].init_std * power)
        used = replace(found.parametrization, params={**found.params, "U": wrong})
        everything = [(k, t) for k in range(len(places)) for t in range(2)]
        own = rows.Case(places, Predictor(found, used, 3), 4, everything)
        assert min(len(control(found, own).pending), 1) == count


missing = measured(-0.5, verdict="disagrees")
HIDDEN = """
width n
dim d = 8, classes = 4
axis i: d, j: n, k: n, c: classes
input x[i]
param E[j,i], W[k,j], V[c,k]
z[j] = E[j,i] x[i]
s[] = mean[j](square(z[j]))
h[k] = W[k,j] z[j]
output f[c] = V[c,k] (h[k] * tanh(s[]))
loss mse(f)
"""


def test_the_calculus_knows_whose_updates_carry_a_prediction() -> None:
    """|z|^2 moves with E; after one update h does with E or with W, and the output with all."""
    carried = {"s": {"E"}, "h": {"E", "W"}, "f": {"E", "W", "V"}}
    found = derive(parse(HIDDEN), "adam")
    places = [p for p in probes(found) if p.kind == "value" and p.name in carried]
    case = rows.Case(places, Predictor(found, found.parametrization, 1), 2, [])
    case.rows = {(k, 1): replace(missing, reason=evidence.SLOWER) for k in range(3)}
    assert {places[k].name: set(names) for (k, _), names in carriers(found, case).items()} == carried
    case.rows = {(k, 1): replace(missing, reason=evidence.FASTER) for k in range(3)}
    assert not carriers(found, case)


@pytest.mark.slow
@pytest.mark.parametrize(("power", "verdict"), [(0, "inconclusive"), (Fraction(-1, 2), "disagrees")])
def test_what_a_small_learning_rate_hides_is_seen_when_it_alone_is_raised(power: Fraction, verdict: str) -> None:
    """s moves by order 1 with E, and is seen to if E's rate is raised, be it 1/64 of what shows. If E learns too slowly
    by n^(1/2), it is not seen at any rate."""
    found = derive(parse(HIDDEN), "adam")
    slow = replace(found.params["E"], lr=found.params["E"].lr * Power.of({"n": power}))
    used = replace(found.parametrization, params={**found.params, "E": slow})
    hearing = prepared(found, used, expected=found.parametrization)
    case, family = hearing.cases[0], hearing.family
    family.__dict__["rates"] = {**family.rates, "E": family.rates["E"] / 64}
    key = next((k, 1) for k, p in enumerate(case.places) if (p.name, p.kind) == ("s", "value"))
    case.rows, case.pending = {key: replace(missing, reason=evidence.SLOWER)}, []
    heard(hearing, [Look(8, raised=EACH)])
    assert case.verdicts()[0].verdict == verdict
    assert verdict == "disagrees" or case.verdicts()[0].reason == RAISED


@pytest.mark.parametrize(("output", "verdict"), [(100.0, "inconclusive"), (10.0, "disagrees")])
def test_a_first_output_that_outweighs_the_targets_decides_nothing(output: float, verdict: str) -> None:
    """Of size 100 n^-1/2, it is larger than they are at width 512; a squared error's derivative falls as it does."""
    source = "width n\ndim d = 4, classes = 3\naxis i: d, j: n, c: classes\ninput x[i]\nparam U[j,i], V[c,j]\n"
    found = derive(parse(source + "output f[c] = V[c,j] relu(U[j,i] x[i])\nloss mse(f)"), "sgd")
    places = [p for p in probes(found) if (p.name, p.kind) in (("f", "value"), ("U", "gradient"))]
    case = rows.Case(places, Predictor(found, found.parametrization, 1), 2, [(0, 0), (1, 0)])
    values = np.stack([scale * sizes(power)[None] for scale, power in ((output, -0.5), (1.0, -1.5))])
    case.hear(Look(16), [(0, 0), (1, 0)], values, "float32")
    assert [row.verdict for row in case.verdicts()] == ["agrees", verdict]


@pytest.mark.parametrize(
    ("argument", "slope", "verdict"),
    [(30.0, -0.5, "inconclusive"), (3.0, -0.5, "disagrees"), (30.0, 0.0, "disagrees")],
    ids=["large", "small", "not seen to vanish"],
)
def test_what_a_function_makes_of_an_argument_that_is_still_large_decides_nothing(
    argument: float, slope: float, verdict: str
) -> None:
    """tanh(z) with z = 30 n^-1/2 is 0.9 at width 512; it does not fall yet."""
    source = "width n\ndim d = 4, classes = 3\naxis i: d, j: n, c: classes\ninput x[i]\nparam U[j,i], V[c,j]\n"
    found = derive(parse(source + "z[j] = U[j,i] x[i]\noutput f[c] = V[c,j] tanh(z[j])\nloss mse(f)"), "sgd")
    small = replace(found.params["U"], init_std=Power.of({"n": Fraction(-1, 2)}))
    used = replace(found.parametrization, params={**found.params, "U": small})
    places = [p for p in probes(found) if p.kind == "value" and p.name in ("z", "[tanh(z)]")]
    case = rows.Case(places, Predictor(found, used, 1), 2, [(0, 0), (1, 0)])
    values = np.stack([sizes(slope)[None] * argument, sizes(0.0)[None]])
    case.hear(Look(16), [(0, 0), (1, 0)], values, "float32")
    assert case.verdicts()[1].verdict == verdict


def test_what_cancels_exactly_is_told_from_what_is_small() -> None:
    """sin^2 + cos^2 does not change, in double precision either; a bias of size 1e-6 does."""
    source = """
width n
dim d = 8, classes = 4
axis i: d, j: n, c: classes
input x[i]
param W[j,i], b[j] = normal(1e-6), V[c,j]
z[j] = tanh(W[j,i] x[i]) + b[j]
s[j] = square(sin(z[j])) + square(cos(z[j]))
output f[c] = V[c,j] (s[j] * z[j])
loss cross_entropy(f)
"""
    found = derive(parse(source), "sgd")
    cancels = [row for row in judged(found, found.parametrization, looks=LOOKS[:1]).rows if row.reason == CANCELS]
    assert {(row.tensor, row.verdict) for row in cancels} == {("s", "disagrees")}


@pytest.mark.slow
def test_what_a_norm_cancels_exactly_follows_its_prediction_with_an_epsilon() -> None:
    """A trained number in front of a norm; beside it, squares of a sine and a cosine add up to 1 with any epsilon."""
    source = """
width n
dim d = 8, classes = 4
axis i: d, j: n, c: classes
input x[i]
param W[j,i], T[] = ones, V[c,j]
z[j] = W[j,i] x[i]
s[j] = square(sin(z[j])) + square(cos(z[j]))
y[j] = T[] * relu(z[j])
output f[c] = V[c,j] (s[j] * y[j] * rms_scale[j](y[j]))
loss cross_entropy(f)
"""
    found = derive(parse(source), "sgd")
    normed = Look(48, epsilon=ONE)
    for looks, missing in ((LOOKS[:1], {"T", "s"}), ((LOOKS[0], normed), {"s"})):
        verdicts = judged(found, found.parametrization, looks=looks)
        assert {row.tensor for row in verdicts.rows if row.verdict == "disagrees"} == missing
    assert verdicts.how[NORMED] > 0


def test_a_campaign_that_was_killed_goes_on(tmp_path: Path) -> None:
    """A line that was cut off is taken away; whole ones stay."""
    out = tmp_path / "out.jsonl"
    out.write_text('{"number": 1}\n{"number": 2}\n{"numb')
    assert [line["number"] for line in finished(out)] == [1, 2]
    assert out.read_text() == '{"number": 1}\n{"number": 2}\n'


def test_the_digest_of_predictions_knows_every_exponent_that_is_trained() -> None:
    found = derive(parse(campaign_program(0)), "sgd")
    name = next(n for n, e in found.params.items() if e.lr is not None)
    slower = replace(found.params[name], lr=found.params[name].lr * Power.of({"n": Fraction(-1)}))
    other = replace(found.parametrization, params={**found.params, name: slower})
    first, second = (prepared(found, used).predicted for used in (found.parametrization, other))
    assert first == prepared(derive(parse(campaign_program(0)), "sgd"), found.parametrization).predicted != second


def test_only_what_is_predicted_otherwise_is_judged_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three networks one is known with the present digest, one with another, one not at all."""
    out = tmp_path / "out.jsonl"
    known = [
        {"number": number, "predicted": digest, "counts": {}}
        for number, digest in ((5, opened(5, *posed(5)).predicted), (6, "other"))
    ]
    out.write_text("".join(json.dumps(line) + "\n" for line in known))
    monkeypatch.setattr(main, "run", lambda number, looks: {"number": number, "crashed": "not run here"})
    monkeypatch.setattr(sys, "argv", ["", "--networks", "3", "--seed", "5", "--again", "--out", str(out)])
    monkeypatch.setattr(main, "summary", lambda lines: "")
    assert main.main() == 1
    assert [line for line in finished(out) if "crashed" not in line] == known[:1]
    assert [line["number"] for line in finished(out) if "crashed" in line] == [6, 7]


@pytest.mark.slow
def test_a_wrong_exponent_disagrees() -> None:
    """Negative control: a network judged against the exponents of another parametrization, at larger widths, too."""
    found = derive(parse(campaign_program(0)), "sgd")
    name = next(n for n, e in found.params.items() if e.init_std is not None and e.lr is not None)
    wrong = replace(found.params[name], init_std=found.params[name].init_std * Power.of({"n": Fraction(1, 2)}))
    used = replace(found.parametrization, params={**found.params, name: wrong})
    looks = (Look(24), Look(4, widths=WIDER))
    assert judged(found, used, looks=looks, expected=found.parametrization).counts["disagrees"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 3, 4, 6, 7, 9, 10])
def test_a_sample_of_the_campaign(number: int) -> None:
    """No tensor of these networks, in derived and in wrong parametrizations, disagrees, but for what cancels exactly;
    wrong exponents do."""
    found = trial(number, LOOKS[:1])
    assert not found.refused
    assert not [row for row in found.rows if row.verdict == "disagrees" and row.reason != CANCELS]
    assert found.counts["agrees"] > 0.7 * (found.counts["agrees"] + found.counts["inconclusive"])
    assert not found.wrong or not found.control or found.control.get("disagrees")


SWITCHED = """
width n
dim d = 8, classes = 3, T = 3
axis i: d, j: n, c: classes, t: T
input a[t,i]
param E[j,i], G[j], V[c,j]
z[t,j] = E[j,i] a[t,i]
s[t] = ?scale * (G[j] z[t,j])
y[t,j] = z[t,j] * sigmoid(s[t])
u[t,j] = y[t,j] * rms_scale[j](y[t,j])
output f[c] = V[c,j] mean[t](u[t,j])
loss mse(f)
"""


def test_behind_the_inverse_norm_of_what_a_saturated_gate_made_no_bound_is_known() -> None:
    """With a scale that is n too large, the gate is exp(-n^1/2) at some times, and the inverse norm there is one over
    that. What it normalises has entries of order 1 all the same, and with the derived scale all is predicted."""
    found = derive(parse(SWITCHED), "sgd")
    large = {**found.parametrization.unknowns, "scale": found.parametrization.unknowns["scale"] * Power.of({"n": 1})}
    used = replace(found.parametrization, unknowns=large)
    wrong, right = (Predictor(found, p, 0) for p in (used, found.parametrization))
    names = {p.name for p in probes(found) if p.kind in ("value", "gradient") and p.node in wrong.unbounded(0)}
    assert names == {"[invrms(y)]", "E", "G"}
    assert not right.unbounded(0)
    hearing = prepared(found, used)
    seen = {hearing.cases[0].places[k].name: k for k, t in hearing.cases[0].pending if t == 0}
    assert "u" in seen
    assert "[invrms(y)]" not in seen
    inverse = next(k for k, place in enumerate(hearing.family.places) if place.name == "[invrms(y)]")
    sizes = hearing.family.sizes(Look(8), [(inverse, 0)])[inverse, 0]
    assert evidence.judge(WIDTHS, sizes, 0.0, bound=True).low > 0.2  # so it would be said to grow faster
    assert heard(prepared(found, used), (Look(4),)).counts["left out"] >= len(names)


GROWING_STATE = """
width n
dim d = 8, T = 3
axis i: d, j: n, k: n, c: d, t: T
input a[t,i]
param E[j,i], W[j,k], U[j,k], V[c,j]
z[t,j] = E[j,i] a[t,i]
h[j] = 0
scan t {
  h[j] = W[j,k] z[t,k] + U[j,k] h[k]
  y[t,j] = h[j]
}
u[t,j] = y[t,j] * rms_scale[j](y[t,j])
output f[c] = V[c,j] mean[t](u[t,j])
loss mse(f)
"""


def test_behind_norms_of_parts_that_start_at_different_sizes_no_bound_is_known() -> None:
    """A state that starts at n^-1/2 and is multiplied by n^1/2 at each time is largest at the last, its inverse norm at
    the first. Exponents under which it starts so are not refused, as derived ones would be."""
    found = derive(parse(GROWING_STATE), "sgd")
    params = dict(found.parametrization.params)
    half = Power.of({"n": Fraction(1, 2)})
    params |= {"E": replace(params["E"], init_std=params["E"].init_std / half),
               "U": replace(params["U"], init_std=params["U"].init_std * half)}  # fmt: skip
    used = replace(found.parametrization, params=params)
    wrong, right = (Predictor(found, p, 0) for p in (used, found.parametrization))
    names = {p.name for p in probes(found) if p.kind in ("value", "gradient") and p.node in wrong.unbounded(0)}
    assert names == {"[invrms(y)]", "E", "W", "U"}
    assert not right.unbounded(0)
    family = prepared(found, used).family
    inverse = next(k for k, place in enumerate(family.places) if place.name == "[invrms(y)]")
    predicted = wrong.at(family.places[inverse], 0).exponent
    assert predicted is not None
    sizes = family.sizes(Look(8), [(inverse, 0)])[inverse, 0]
    assert evidence.judge(WIDTHS, sizes, float(predicted.degree), bound=False).reason == evidence.FASTER


def test_check_does_not_judge_what_has_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same under `tpcalc check --parametrization`. Control: were nothing known to be unbounded, the inverse norm
    would disagree with the calculus."""
    found = derive(parse(GROWING_STATE), "sgd")
    params = dict(found.parametrization.params)
    half = Power.of({"n": Fraction(1, 2)})
    params |= {"E": replace(params["E"], init_std=params["E"].init_std / half),
               "U": replace(params["U"], init_std=params["U"].init_std * half)}  # fmt: skip
    used = replace(found.parametrization, name="mine", params=params)

    def checked() -> CheckReport:
        return check(found, parametrization=used, widths=(64, 128, 256, 512), seeds=6, steps=1, control=False)

    seen = {(row.tensor, row.part): row for row in checked().rows}
    inverse = "[invrms(y)]", "init"
    assert {seen[at].calculus_verdict for at in (inverse, ("E", "gradient"))} == {"inconclusive"}
    assert seen[inverse].reason == f"calculus: {UNBOUNDED}"
    assert seen["u", "init"].calculus_verdict == "agrees"
    monkeypatch.setattr(Predictor, "unbounded", lambda *_: set())
    assert {row.calculus_verdict for row in checked().rows if (row.tensor, row.part) == inverse} == {"disagrees"}


@pytest.mark.parametrize(("smallest", "agrees"), [(family.ADAM, True), (Fraction(1, 10**7), False)])
def test_steps_of_muon_do_not_depend_on_how_small_a_gradient_is(
    smallest: Fraction, agrees: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W starts so small that V's gradient vanishes like n^-6, far below the smallest norm of PyTorch's Muon, which is
    the negative control."""
    monkeypatch.setattr(family, "ADAM", smallest)
    source = "width n\ndim d = 8, classes = 3\naxis i: d, j: n, k: n, c: classes\ninput x[i]\n"
    source += "param E[j,i], W[k,j], V[c,k]\noutput f[c] = V[c,k] square(W[k,j] tanh(E[j,i] x[i]))\nloss mse(f)"
    found = derive(parse(source), "muon")
    tiny = replace(found.params["W"], init_std=found.params["W"].init_std * Power.of({"n": Fraction(-3)}))
    hearing = prepared(found, replace(found.parametrization, params={**found.params, "W": tiny}))
    own = hearing.cases[0]
    key = next((k, t) for k, t in own.pending if t == 1 and (own.places[k].name, own.places[k].kind) == ("V", "value"))
    row = evidence.judge(WIDTHS, hearing.family.sizes(Look(8), [key])[key], 0.5, bound=False)
    predicted = own.predictor.at(own.places[key[0]], 1).exponent
    assert predicted is not None
    assert (abs(row.slope - float(predicted.degree)) < 0.1) == agrees


def test_what_overflows_in_single_precision_alone_is_trained_in_double() -> None:
    """Gradients through norms of what is exactly zero, without epsilon: 10^15 for each of three."""
    source = "width n\ndim d = 8, classes = 3\naxis i: d, j: n, c: classes\ninput x[i]\n"
    source += "param E[j,i], g[j] = zeros, V[c,j]\nz[j] = g[j] * (E[j,i] x[i])\nu[j] = z[j] * rms_scale[j](z[j])\n"
    source += "v[j] = u[j] * rms_scale[j](u[j])\nw[j] = v[j] * rms_scale[j](v[j])\n"
    found = derive(parse(source + "output f[c] = V[c,j] w[j]\nloss mse(f)"), "muon")
    hearing = prepared(found, found.parametrization)
    own = hearing.cases[0]
    key = next((k, t) for k, t in own.pending if (own.places[k].name, own.places[k].kind) == ("g", "gradient"))
    assert np.isinf(hearing.family.sizes(Look(4), [key])[key]).all()
    assert not judged(found, found.parametrization, looks=(Look(8),)).counts["disagrees"]

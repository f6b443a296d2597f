"""Applying a parametrization to a model: what changes, what does not, and what survives."""

from __future__ import annotations

import copy
import io
import warnings

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from tensorprog.errors import TensorProgError  # noqa: E402
from tensorprog.torch.apply import AppliedWarning, applied, apply, remove  # noqa: E402
from tensorprog.torch.fold import fold  # noqa: E402
from tests.torch_apply import by_hand, models  # noqa: E402

pytestmark = pytest.mark.torch
BASE, WIDE = 8, 24  # a ratio that is no power of two


def gpt(n=WIDE, seed=0, **options):
    torch.manual_seed(seed)
    return models.nanogpt(n, std=0.02, **options)


def applied_gpt(n=WIDE, **options):
    module, inputs, loss = gpt(n)
    groups = apply(by_hand.nanogpt(std=True), module, BASE, lr=1e-3, weight_decay=0.1, **options)
    return module, inputs, loss, groups


def train(module, inputs, loss, optimizer, steps=4):
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(module(*inputs))
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


# --- at the base width -------------------------------------------------------------------------------


def test_at_the_base_width_nothing_changes_to_the_last_bit():
    """Weights, outputs and the trajectory of training are those of the unmodified model."""
    plain, inputs, loss = gpt(BASE)
    module, _, _, groups = applied_gpt(BASE)
    assert same(plain, module) and torch.equal(plain(*inputs), module(*inputs))
    ours = train(module, inputs, loss, torch.optim.AdamW(groups))
    theirs = train(plain, inputs, loss, torch.optim.AdamW(plain.parameters(), lr=1e-3, weight_decay=0.1))
    assert ours == theirs and same(plain, module)
    assert len(groups) == 1 and not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


# --- what is changed at another width ------------------------------------------------------------------


def test_weights_multipliers_and_groups_scale_as_derived():
    plain, *_ = gpt()
    module, _, _, groups = applied_gpt()
    ratio = WIDE / BASE
    mine, theirs = dict(module.named_parameters()), dict(plain.named_parameters())
    assert torch.equal(mine["wte.weight"], theirs["wte.weight"])  # the spread of a tied embedding must not grow
    torch.testing.assert_close(mine["h.1.up.weight"], theirs["h.1.up.weight"] * ratio**-0.5)
    by_name = {name: g for g in groups for name in g["param_names"]}
    assert by_name["h.0.up.weight"]["lr"] == pytest.approx(1e-3 / ratio)
    assert by_name["h.0.up.weight"]["weight_decay"] == pytest.approx(0.1 * ratio)
    assert by_name["wte.weight"]["lr"] == 1e-3 and by_name["wte.weight"]["eps"] == pytest.approx(1e-8 / ratio)
    assert len(groups) == 2 and sum(len(g["params"]) for g in groups) == len(mine)
    assert sorted(by_name) == sorted(mine) and "lm_head.weight" not in by_name
    hidden = torch.randn(2, WIDE)
    torch.testing.assert_close(module.lm_head(hidden), hidden @ mine["wte.weight"].T / ratio)
    qkv = module.h[0].attn.c_attn
    expected = nn.functional.linear(hidden, qkv.weight, qkv.bias) * torch.tensor([ratio**-0.5, 1, 1]).repeat_interleave(
        WIDE
    )
    torch.testing.assert_close(qkv(hidden), expected)
    assert sum("times" in line for line in groups.done) == 4 * 2 + 3


def test_sgd_learning_rates_follow_table_3():
    module, *_ = models.mlp(WIDE)
    groups = apply(by_hand.mlp("sgd"), module, BASE, lr=0.1)
    by_name = {name: g for g in groups for name in g["param_names"]}
    rates = {name: g["lr"] for name, g in by_name.items()}
    assert rates == pytest.approx({"first.weight": 0.3, "first.bias": 0.3, "hidden.weight": 0.1, "hidden.bias": 0.3,
                                   "readout.weight": 0.1 / 3, "readout.bias": 0.1})  # fmt: skip
    assert "eps" not in groups[0]


def test_settings_may_depend_on_the_parameter():
    """A user's own choice of what decays keeps its sense; its width law is the derived one."""
    module, *_ = gpt()
    groups = apply(by_hand.nanogpt(std=True), module, BASE, lr=1e-3,
                   weight_decay=lambda name, p: 0.1 if p.ndim > 1 else 0.0)  # fmt: skip
    by_name = {name: g["weight_decay"] for g in groups for name in g["param_names"]}
    assert by_name["h.0.ln_1.weight"] == 0 and by_name["h.0.up.weight"] == pytest.approx(0.3)


# --- once, back, and into plain weights ---------------------------------------------------------------


def test_applying_again_is_no_change_and_says_so():
    module, inputs, _, groups = applied_gpt()
    before, out = copy.deepcopy(module.state_dict()), module(*inputs)
    with pytest.warns(AppliedWarning, match="already applied"):
        again = apply(by_hand.nanogpt(std=True), module, BASE, lr=1e-3, weight_decay=0.1)
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert torch.equal(out, module(*inputs))
    assert [(g["lr"], g["weight_decay"], g["eps"], g["param_names"]) for g in again] == [
        (g["lr"], g["weight_decay"], g["eps"], g["param_names"]) for g in groups
    ]
    with pytest.raises(TensorProgError, match="has other changes applied already"):
        apply(by_hand.nanogpt(std=True), module, 2 * BASE, lr=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_removing_restores_every_bit(dtype):
    plain, inputs, _ = gpt()
    plain.to(dtype)
    module = copy.deepcopy(plain)
    apply(by_hand.nanogpt(std=True), module, BASE, lr=1e-3)
    assert not same(plain, module) and not torch.equal(plain(*inputs), module(*inputs))
    remove(module)
    assert same(plain, module) and torch.equal(plain(*inputs), module(*inputs))
    assert applied(module) is None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_removing_after_training_is_refused():
    module, inputs, loss, groups = applied_gpt()
    train(module, inputs, loss, torch.optim.AdamW(groups), steps=1)
    with pytest.raises(TensorProgError, match=r"have moved since[\s\S]*fold"):
        remove(module)


@pytest.mark.parametrize("trained", [False, True])
def test_a_folded_model_is_a_stock_model_with_equal_outputs(trained):
    module, inputs, loss, groups = applied_gpt()
    if trained:
        train(module, inputs, loss, torch.optim.AdamW(groups))
    expected, keys = module(*inputs), list(module.state_dict())
    fold(module)
    torch.testing.assert_close(module(*inputs), expected)
    stock, *_ = gpt(seed=1, tied=False)
    assert list(module.state_dict()) == keys
    stock.load_state_dict(module.state_dict())  # of the unmodified code
    torch.testing.assert_close(stock(*inputs), expected)
    assert applied(module) is None
    with pytest.raises(TensorProgError, match="nothing was applied"):
        fold(module)


# --- what it survives -----------------------------------------------------------------------------------


def test_a_deep_copy_is_an_applied_model_of_its_own():
    module, inputs, loss, _ = applied_gpt()
    twin = copy.deepcopy(module)
    assert torch.equal(twin(*inputs), module(*inputs)) and applied(twin) is not None
    with pytest.warns(AppliedWarning):
        groups = apply(by_hand.nanogpt(std=True), twin, BASE, lr=1e-2)
    start = copy.deepcopy(module.state_dict())
    train(twin, inputs, loss, torch.optim.AdamW(groups))
    assert all(torch.equal(start[k], v) for k, v in module.state_dict().items())
    remove(module)  # the copy keeps its hooks
    assert any(m._forward_pre_hooks for m in twin.modules())
    third = copy.deepcopy(twin)
    fold(third)
    torch.testing.assert_close(third(*inputs), twin(*inputs))


def test_checkpoint_keys_do_not_change_and_a_checkpoint_restores_the_outputs():
    plain, *_ = gpt()
    module, inputs, loss, groups = applied_gpt()
    optimizer = torch.optim.AdamW(groups)
    train(module, inputs, loss, optimizer)
    assert list(module.state_dict()) == list(plain.state_dict())
    buffer = io.BytesIO()
    torch.save((module.state_dict(), optimizer.state_dict()), buffer)
    buffer.seek(0)
    weights, state = torch.load(buffer)
    for rescale in (True, False):
        fresh, *_ = gpt(seed=7)
        again = apply(by_hand.nanogpt(std=True), fresh, BASE, lr=1e-3, weight_decay=0.1, rescale_init=rescale)
        fresh.load_state_dict(weights)
        resumed = torch.optim.AdamW(again)
        resumed.load_state_dict(copy.deepcopy(state))
        assert torch.equal(fresh(*inputs), module(*inputs))
    twin = copy.deepcopy(module)
    moved = torch.optim.AdamW(apply_again(twin))
    moved.load_state_dict(copy.deepcopy(state))
    assert train(fresh, inputs, loss, resumed) == train(twin, inputs, loss, moved)


def apply_again(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AppliedWarning)
        return apply(by_hand.nanogpt(std=True), module, BASE, lr=1e-3, weight_decay=0.1)


def test_a_pickled_model_keeps_its_multipliers():
    module, inputs, _, _ = applied_gpt()
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    assert torch.equal(loaded(*inputs), module(*inputs))
    remove(loaded)
    assert same(loaded, gpt()[0])


def test_schedulers_keep_the_ratios_of_the_learning_rates():
    *_, groups = applied_gpt()
    optimizer = torch.optim.AdamW(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for _ in range(13):
        optimizer.step()
        schedule.step()
    one, other = (g["lr"] for g in optimizer.param_groups)
    assert one / other == pytest.approx(WIDE / BASE, rel=1e-12) and one < 1e-3


def test_before_or_after_a_change_of_type_is_the_same():
    """In double precision both ways agree to rounding; half precision keeps its type."""
    before, inputs, _, _ = applied_gpt()
    after, *_ = gpt()
    after.to(torch.float64)
    apply(by_hand.nanogpt(std=True), after, BASE)
    before.to(torch.float64)
    torch.testing.assert_close(before(*inputs), after(*inputs), rtol=1e-6, atol=1e-7)
    half, *_ = gpt()
    half.to(torch.bfloat16)
    apply(by_hand.nanogpt(std=True), half, BASE)
    assert half(*inputs).dtype == torch.bfloat16


# --- what is refused, with the model as it was -----------------------------------------------------------


def refused(module, changes, match, **options):
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(TensorProgError, match=match):
        apply(changes, module, options.pop("base", BASE), **options)
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert applied(module) is None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def only(changes, kind):
    """The changes with only one kind of place for every multiplier."""
    from dataclasses import replace

    return replace(changes, multipliers=tuple(
        replace(m, places=tuple(p for p in m.places if isinstance(p, kind))) for m in changes.multipliers))  # fmt: skip


def test_two_learning_rates_in_one_fused_tensor_are_refused_with_their_rows():
    from tensorprog.torch.changes import Absorb

    refused(gpt()[0], only(by_hand.nanogpt(std=True), Absorb),
            r"h.0.attn \(scores\)[\s\S]*rows 0 to n \(of axis 0\) would need another learning rate")  # fmt: skip


def with_absorption():
    """The untied readout's factor, as something to absorb into its weight."""
    from dataclasses import replace

    from tensorprog.torch.changes import Absorb, MultiplierChange, OutputHook

    changes = by_hand.nanogpt(tied=False, std=True)
    readout = MultiplierChange("logits", "use", "lm_head", by_hand.ONE, by_hand.n(-1),
                               (OutputHook("lm_head"), Absorb("lm_head.weight")))  # fmt: skip
    kept = [p if p.name != "lm_head.weight" else replace(p, needed=replace(
        p.needed, init_std=by_hand.ONE, lr=by_hand.ONE, weight_decay=by_hand.ONE, eps=by_hand.n(-1)))
        for p in changes.parameters]  # fmt: skip
    return replace(changes, parameters=tuple(kept), multipliers=(readout,))


def test_absorbing_is_the_same_training_as_a_hook():
    """The symmetry of the optimizer: initial value k, learning rate k, decay and epsilon 1/k."""
    runs = []
    for absorb in (False, True):
        module, inputs, loss = gpt(tied=False)
        module.double()
        groups = apply(with_absorption(), module, BASE, lr=1e-2, weight_decay=0.1, eps=1e-3, absorb=absorb)
        assert bool(module.lm_head._forward_hooks) is not absorb
        runs.append(train(module, inputs, loss, torch.optim.AdamW(groups), steps=8))
    assert runs[0] == pytest.approx(runs[1], rel=1e-12)


def test_absorbing_is_refused_where_gradients_are_clipped():
    from tensorprog.torch.changes import Absorb

    refused(gpt(tied=False)[0], only(with_absorption(), Absorb), "global gradient norm", clip=1.0)
    module, *_ = gpt(tied=False)
    groups = apply(with_absorption(), module, BASE, clip=1.0, absorb=True)  # the hook is taken instead
    assert module.lm_head._forward_hooks and groups.clip == 1.0


def test_a_multiplier_without_a_place_is_refused():
    refused(gpt()[0], only(by_hand.nanogpt(std=True), ()), "no place in the model is known")
    module, *_ = gpt()
    kept = [m.name for m in by_hand.nanogpt().multipliers]
    apply(only(by_hand.nanogpt(std=True), ()), module, BASE, keep=kept)
    assert not module.lm_head._forward_pre_hooks


def test_ranges_of_rows_with_two_learning_rates_are_refused_and_named():
    from dataclasses import replace

    from tensorprog.dims import Dim
    from tensorprog.torch.changes import Part

    changes = by_hand.mlp()
    w = changes.parameter("hidden.weight")
    six = Dim.of(6)
    parts = (Part(0, Dim.of(0), six, by_hand.HALF, replace(w.needed, lr=by_hand.ONE)),
             Part(0, six, by_hand.N, by_hand.HALF, w.needed))  # fmt: skip
    changes = replace(
        changes, parameters=tuple(p if p is not w else replace(w, parts=parts) for p in changes.parameters)
    )
    module, *_ = models.mlp(WIDE)
    refused(module, changes, r"`hidden.weight` needs two learning rates: 0 to 6 \(of axis 0\): 1; 6 to 24")
    apply(changes, models.mlp(BASE)[0], BASE)  # at the base width both are the same
    apply(changes, module, BASE, keep=["hidden.weight"])


def test_ranges_that_differ_in_epsilon_alone_take_the_smaller():
    from dataclasses import replace

    from tensorprog.dims import Dim
    from tensorprog.torch.changes import Part

    changes = by_hand.mlp()
    w, six = changes.parameter("hidden.weight"), Dim.of(6)
    parts = (Part(0, Dim.of(0), six, by_hand.HALF, replace(w.needed, eps=by_hand.ONE)),
             Part(0, six, by_hand.N, by_hand.HALF, w.needed))  # fmt: skip
    each = tuple(p if p is not w else replace(w, parts=parts) for p in changes.parameters)
    groups = apply(replace(changes, parameters=each), models.mlp(WIDE)[0], BASE, eps=1e-6)
    assert next(g["eps"] for g in groups if "hidden.weight" in g["param_names"]) == pytest.approx(1e-6 / 3)


def test_what_could_not_be_derived_is_refused():
    from dataclasses import replace

    changes = by_hand.mlp()
    refused_ = tuple(replace(p, refused="its use sorts a growing axis") if p.name == "hidden.weight" else p
                     for p in changes.parameters)  # fmt: skip
    refused(models.mlp(WIDE)[0], replace(changes, parameters=refused_), "nothing was derived for `hidden.weight`")


def test_another_model_is_refused():
    refused(models.mlp(WIDE)[0], by_hand.nanogpt(), "has a parameter `first.weight`")
    refused(gpt(tied=False)[0], by_hand.nanogpt(), "one tensor in the derived model, two in this")
    other = models.MLP(WIDE)
    other.hidden = nn.Linear(WIDE, WIDE + 1)
    refused(other, by_hand.mlp(), r"has an axis of 25; where n = 24|has an axis of 24; where n = 25")
    refused(models.mlp(WIDE)[0], by_hand.mlp(), "at least 1", base=0)
    refused(models.mlp(WIDE)[0], by_hand.mlp(), "the base needs a whole number", base={"m": 4})


def test_weights_that_are_not_there_yet_are_refused():
    with torch.device("meta"):
        module = models.MLP(WIDE)
    with pytest.raises(TensorProgError, match="meta device"):
        apply(by_hand.mlp(), module, BASE)


def test_a_model_in_mup_already_is_left_alone():
    """SGD on a network whose every exponent is right as it stands."""
    from dataclasses import replace

    changes = by_hand.mlp("sgd")
    done = tuple(replace(p, init_now=p.needed.init_std, needed=replace(p.needed, lr=by_hand.ONE))
                 for p in changes.parameters)  # fmt: skip
    module, *_ = models.mlp(WIDE)
    before = copy.deepcopy(module.state_dict())
    with pytest.warns(AppliedWarning, match="in muP for sgd already"):
        groups = apply(replace(changes, parameters=done), module, BASE, lr=0.1)
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items()) and applied(module) is None
    assert [g["lr"] for g in groups] == [0.1] * len(groups)

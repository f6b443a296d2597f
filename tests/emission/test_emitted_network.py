"""The emitted module computes what the NumPy interpreter computes, and behaves as a PyTorch module should."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from tests.emission import support  # noqa: E402
from tests.shared import tiers  # noqa: E402

pytestmark = pytest.mark.torch
SOME = ("mlp", "gpt_tied", "convnet", "recurrent")
QUICK = {path.stem for path in support.PROGRAMS} - {"resnet", "unet", "dit", "vit", "llama_tied", "moe", "mamba"}


def _ids(path: Path) -> str:
    return path.stem


def built(path: Path, seed: int | None = 0, **widths: int):
    architecture = support.read(path)
    base = support.base_of(architecture)
    chosen = support.parametrization(architecture, architecture.model.optimizer or "adamw", seed)
    text = support.emit(architecture.model, chosen, base, source_name=path.name)
    torch.manual_seed(0)
    model = support.main_class(support.load(text))(**widths)
    interpreter = support.Interpreter(
        architecture.program,
        base,
        {**dict(architecture.model.depths), **base},
        chosen,
        batch=4,
        functions=architecture.functions,
    )
    data = {k: torch.from_numpy(v) for k, v in interpreter.data.items()}
    data = {k: v.float() if v.is_floating_point() else v for k, v in data.items()}
    inputs = [data[k] for k in support.inspect.signature(model.forward).parameters]
    return model, inputs, text


@pytest.mark.parametrize("path", tiers(support.PROGRAMS, QUICK))
def test_outputs_losses_and_gradients_agree_with_numpy_at_and_beyond_the_base_width(path: Path) -> None:
    architecture = support.read(path)
    chosen = support.parametrization(architecture, architecture.model.optimizer or "adamw")
    base = support.base_of(architecture)
    for widths in (base, support.base_of(architecture, 64)):
        worst, _ = support.agreement(architecture, chosen, base, widths)
        assert worst < 1e-9


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize(("taps", "stride", "pad"), [(3, 2, 1), (1, 2, 0), (2, 3, 0), (3, 3, 2), (5, 2, 1)])
@pytest.mark.parametrize("more", [0, 1])
def test_strided_convolutions_agree_whatever_is_left_over(
    size: int, taps: int, stride: int, pad: int, more: int
) -> None:
    """Padded alike on both sides where no window reaches the difference, by hand where one does."""
    count = (size + 2 * pad - taps) // stride + 1 + more
    architecture = support.parse(
        f"width n\naxis c: 3, y: {size}, o: n, a: {taps}, u: {count}, k: 2\ninput x[c,y]\nparam W[o,c,a], V[k,o,u]\n"
        f"h[o,u] = W[o,c,a] x[c, {stride} u + a - {pad}]\noutput f[k] = V[k,o,u] h[o,u]\nloss mse(f)\n"
    )
    worst, text = support.agreement(architecture, support.parametrization(architecture, "sgd"), {"n": 4}, {"n": 8})
    assert worst < 1e-9 and "F.conv1d(" in text
    assert ("F.pad(" in text) == bool(more)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("biased", [False, True])
def test_positions_that_become_blocks_are_a_transposed_convolution(rank: int, biased: bool) -> None:
    places, taps = "uvw"[:rank], "abc"[:rank]
    merged = ",".join(f"({u} {a})" for u, a in zip(places, taps, strict=True))
    joined, after = ",".join(places), ",".join("rst"[:rank])
    bias = f"z[o,{after}] = y[o,{after}] + d[o]" if biased else f"z[o,{after}] = y[o,{after}] * d[o]"
    architecture = support.parse(
        "width n\naxis u: 3, v: 2, w: 4, a: 2, b: 3, c: 2, r: 6, s: 6, t: 8, i: n, o: n, k: 2, e: 3\n"
        f"input x0[e,{joined}]\nparam E[i,e], W[{','.join(taps)},o,i], d[o], V[k,o]\n"
        f"x[{joined},i] = E[i,e] x0[e,{joined}]\n"
        f"y[o,{merged}] = W[{','.join(taps)},o,i] x[{joined},i]\n{bias}\n"
        f"m[o] = mean[{after}](z[o,{after}])\noutput f[k] = V[k,o] m[o]\nloss mse(f)\n"
    )
    worst, text = support.agreement(architecture, support.parametrization(architecture, "sgd"), {"n": 4}, {"n": 8})
    assert worst < 1e-9 and f"F.conv_transpose{rank}d(" in text and "einsum" not in text.split("conv_transpose")[1]
    layer = text.split("F.conv_transpose")[1].split("stride=")[0]
    assert ("self.d" in layer) == biased


@pytest.mark.parametrize("path", tiers(support.PROGRAMS, SOME))
def test_at_the_base_width_the_exponents_change_no_bit(path: Path) -> None:
    (scaled, inputs, _), (plain, _, _) = built(path), built(path, None)
    plain.load_state_dict(scaled.state_dict())
    results = scaled(*inputs), plain(*inputs)
    for a, b in zip(*(r if isinstance(r, tuple) else (r,) for r in results), strict=True):
        assert torch.equal(a, b)
    torch.manual_seed(0)
    scaled.reset_parameters()
    torch.manual_seed(0)
    plain.reset_parameters()
    for (name, a), b in zip(scaled.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("path", tiers(support.PROGRAMS, SOME))
def test_copies_and_saved_models_are_the_same_model(path: Path) -> None:
    architecture = support.read(path)
    model, inputs, _ = built(path, **support.base_of(architecture, 64))
    expected = model(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    fresh = type(model)(**support.base_of(architecture, 64))
    fresh.load_state_dict(model.state_dict())
    for other in (copy.deepcopy(model), torch.load(file, weights_only=False), fresh):
        found = other(*inputs)
        for a, b in zip(found if isinstance(found, tuple) else (found,), expected, strict=True):
            assert torch.equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("path", support.PROGRAMS, ids=_ids)
def test_it_compiles_without_graph_breaks(path: Path) -> None:
    torch._dynamo.reset()
    model, inputs, _ = built(path)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    found, expected = compiled(*inputs), model(*inputs)
    pairs = zip(*(r if isinstance(r, tuple) else (r,) for r in (found, expected)), strict=True)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)


def test_initialisation_follows_the_seed_and_the_generator() -> None:
    path = next(p for p in support.PROGRAMS if p.stem == "mlp")
    model, _, _ = built(path, n=128)
    before = model.W2.detach().clone()
    torch.manual_seed(0)
    model.reset_parameters()
    assert torch.equal(model.W2, before)
    model.reset_parameters(torch.Generator().manual_seed(3))
    first = model.W2.detach().clone()
    model.reset_parameters(torch.Generator().manual_seed(3))
    assert torch.equal(model.W2, first)
    assert not torch.equal(first, before)


def test_a_width_that_does_not_divide_is_refused() -> None:
    path = next(p for p in support.PROGRAMS if p.stem == "gpt")
    model, _, _ = built(path)
    with pytest.raises(ValueError, match="not divisible"):
        type(model)(n=40)


def test_the_reserved_attribute_names_are_those_of_the_installed_pytorch() -> None:
    from tensorprog.emission.names import MODULE_ATTRIBUTES

    module = torch.nn.Module()
    public = {name for name in {*dir(module), *vars(module)} if not name.startswith("_")}
    assert public <= MODULE_ATTRIBUTES


DEEP = """
width n
depth L
input x[i]
axis i: 5
z = linear(x, n)
repeat L {
  z = z + ?branch{1/2} * tanh(linear(z, n))
}
output f = ?out{n^(-1/2)} * linear(z, 2)
loss mse(f)
"""


def _deep(layers_differ: bool):
    architecture = support.parse(DEEP, "deep.tp", {"L": 3})
    chosen = support.parametrization(architecture, "adamw", None)
    power = support.Power.of({"n": support.Fraction(-1), "L": support.Fraction(-1, 2)})
    unknowns = {**chosen.unknowns, "branch": power}
    if layers_differ:
        unknowns["layers.1.linear.W@1"] = power
    chosen = support.Parametrization("deep", "adamw", chosen.params, unknowns)
    text = support.emit(architecture.model, chosen, {"n": 16}, source_name="deep.tp")
    return architecture, chosen, support.main_class(support.load(text)), text


def test_multipliers_have_their_base_value_times_the_ratio_of_widths_and_depths() -> None:
    _, _, network, text = _deep(False)
    assert '"layers.*.branch": (0.5, {"L": -1 / 2, "n": -1})' in text
    base, deeper = network(), network(n=32, L=12)
    assert [layer.branch for layer in base.layers] == [0.5] * 3
    assert [layer.branch for layer in deeper.layers] == [0.5 / 2 / 2] * 12
    assert base.out == deeper.out == 0.25
    assert deeper(torch.randn(4, 5)).shape == (4, 2)


def test_layers_with_rules_of_their_own_hold_at_their_depth_only() -> None:
    architecture, chosen, network, text = _deep(True)
    assert '"layers.1.linear.W_multiplier"' in text
    worst, _ = support.agreement(architecture, chosen, {"n": 16, "L": 3}, {"n": 32})
    assert worst < 1e-10
    with pytest.raises(ValueError, match="L = 3"):
        network(L=4)


@pytest.mark.slow
def test_it_compiles_with_inductor() -> None:
    path = next(p for p in support.PROGRAMS if p.stem == "mlp")
    model, inputs, _ = built(path)
    assert torch.allclose(torch.compile(model, fullgraph=True)(*inputs), model(*inputs), atol=1e-5)

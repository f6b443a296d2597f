"""Two ways to the same network, a PyTorch module and a .tp file, have the same exponents."""

from __future__ import annotations

import inspect
import types
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import tensorprog as tp  # noqa: E402
from tensorprog.exponents import Power  # noqa: E402
from tensorprog.torch.model import ImportedDerivation, derive, derive_reading, read  # noqa: E402
from tests.torch.handwritten import CASES, NanoGPT, tokens  # noqa: E402

pytestmark = pytest.mark.torch
EXAMPLES = Path(__file__).parents[2] / "examples"


def loaded(example: str) -> tp.Architecture:
    """An example, at a finite depth."""
    path = EXAMPLES / f"{example}.tp"
    return tp.load(path, {"L": 2} if "depth L" in path.read_text() else {})


def sizes(solution: Any, name: str) -> tuple[Power, Power]:
    """Initial size and learning rate of a parameter without multipliers."""
    units, exponents = solution.solver.units, solution.exponents
    return units.unpack(-exponents.A[name]), units.unpack(-exponents.C[name])


def same(result: ImportedDerivation, example: str, names: dict[str, str]) -> None:
    """Every parameter of the example has the exponents of the module's parameter of that name."""
    derivation = tp.derive(loaded(example), result.derivation.optimizer)
    assert set(names) == set(derivation.params)
    for theirs, ours in names.items():
        assert sizes(derivation.solution, theirs) == sizes(result.derivation.solution, ours), theirs


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
def test_a_perceptron_is_the_example_mlp(optimizer: str) -> None:
    result = derive(CASES["mlp"].build, CASES["mlp"].inputs.float(), optimizer)
    same(result, "mlp", {"W1": "l1.weight", "W2": "l2.weight", "W3": "l3.weight", "b1": "l1.bias", "b2": "l2.bias"})


GPT = {
    "layernorm.gain": "ln_f.weight", "layernorm.shift": "ln_f.bias",
    **{f"layers.{k}.layernorm{a}.{p}": f"h.{k}.ln_{b}.{q}" for k in (0, 1) for a, b in (("", 1), ("_2", 2))
       for p, q in (("gain", "weight"), ("shift", "bias"))},
    **{f"layers.{k}.attention.W{x}": f"h.{k}.attn.c_attn.weight" for k in (0, 1) for x in "qkv"},
    **{f"layers.{k}.attention.b{x}": f"h.{k}.attn.c_attn.bias" for k in (0, 1) for x in "qv"},
    **{f"layers.{k}.attention.Wo": f"h.{k}.attn.c_proj.weight" for k in (0, 1)},
    **{f"layers.{k}.attention.bo": f"h.{k}.attn.c_proj.bias" for k in (0, 1)},
    **{f"layers.{k}.mlp.{p}{j + 1}": f"h.{k}.mlp.{2 * j}.{q}" for k in (0, 1) for j in (0, 1)
       for p, q in (("W", "weight"), ("b", "bias"))},
}  # fmt: skip


def like(names: dict[str, str], actual: Any) -> dict[str, str]:
    """The same mapping for the names that the file has."""
    return {name: names[name] for name in actual}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("tied", [False, True])
def test_nanogpt_is_the_example_gpt(tied: bool, optimizer: str) -> None:
    result = derive(lambda n: NanoGPT(4 * n, n, tied=tied), tokens(3, 6), optimizer)
    example = "gpt_tied" if tied else "gpt"
    actual = tp.derive(loaded(example), optimizer).params
    table = {"E": "wte.weight", "embedding.E": "wte.weight", "positions.P": "wpe.weight", "readout.W": "lm_head.weight",
             **{_flat(name): ours for name, ours in GPT.items()}}  # fmt: skip
    same(result, example, {name: table[_flat(name)] for name in actual})
    if tied:
        (use,) = [m for m in result.changes.multipliers if m.param == "wte.weight" and m.factor != Power()]
        assert use.module == "lm_head" and use.factor == Power.of({"n": -1})


def _flat(name: str) -> str:
    """Names of the second use of a block in one file differ in their counter only."""
    return name.replace("layernorm2", "layernorm_2")


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_an_lstm_is_the_example_lstm(optimizer: str) -> None:
    """The four gates are ranges of one tensor; PyTorch's second bias is one more of the same kind."""
    result = derive(CASES["lstm"].build, CASES["lstm"].inputs.float(), optimizer)
    names = {f"lstm.{p}{gate}": f"rnn.{q}_l0" for p, q in (("U", "weight_ih"), ("W", "weight_hh"), ("b", "bias_ih"))
             for gate in "afog"}  # fmt: skip
    same(result, "lstm", {**names, "readout.W": "head.weight"})


def emitted_module(example: str, base: int) -> types.ModuleType:
    source = tp.emit(loaded(example), "adam", base_width=base)
    module = types.ModuleType(f"emitted_{example}")
    exec(compile(source, f"{example}.py", "exec"), module.__dict__)
    return module


QUICK, SLOW = ("mlp", "rnn", "lstm", "resnet", "lora"), ("gpt", "gpt_tied", "bert", "vit", "unet", "llama", "moe")


@pytest.mark.parametrize("example", [*QUICK, *(pytest.param(e, marks=pytest.mark.slow) for e in SLOW)])
def test_an_emitted_module_is_read_back_as_its_file(example: str) -> None:
    """What the emitted module multiplies with at runtime varies with the width, and is read as such."""
    architecture = loaded(example)
    derivation = tp.derive(architecture, "adam")
    base = 16 if example in ("gpt", "gpt_tied", "bert", "vit", "llama") else 4
    module = emitted_module(example, base)
    top = [c for c in vars(module).values() if inspect.isclass(c) and issubclass(c, torch.nn.Module)][-1]
    from tensorprog.initial import make_data

    data = make_data(architecture.graph, {"n": base}, 3, 0, "float32")
    inputs = tuple(torch.as_tensor(data[node.op.name]) for node in architecture.graph.nodes
                   if type(node.op).__name__ == "Input" and node.op.kind != "target")  # fmt: skip
    reading = read(lambda n: top(n=base * n), inputs)
    result = derive_reading(reading, "adam")
    checked = 0
    for name in derivation.params:
        if name not in result.params:
            continue
        checked += 1
        here, there = sizes(derivation.solution, name), sizes(result.derivation.solution, name)
        a = multiplier(derivation, name)
        assert there == (here[0] / a, here[1] / a), name
    assert checked == len(derivation.params)


def multiplier(derivation: Any, name: str) -> Power:
    """What the emitted module multiplies the parameter with: its learning rate (Adam) is larger by as much."""
    return derivation.params[name].multiplier

"""Two ways to the same network, a PyTorch module and a .tp file, have the same exponents."""

from __future__ import annotations

import inspect
import types
from itertools import product
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import tensorprog as tp  # noqa: E402
from tensorprog.exponents import Power  # noqa: E402
from tensorprog.torch.model import ImportedDerivation, derive, derive_reading, read  # noqa: E402
from tests.packages import needs  # noqa: E402
from tests.shared import tiers  # noqa: E402
from tests.torch.handwritten import CASES, NanoGPT, tokens  # noqa: E402
from tests.torch.zoo import ZOO  # noqa: E402

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


@pytest.mark.parametrize("optimizer", tiers(["sgd", "adam", "muon"], ["adam"]))
def test_a_perceptron_is_the_example_mlp(optimizer: str) -> None:
    result = derive(CASES["mlp"].build, CASES["mlp"].inputs.float(), optimizer)
    assert result.to_tp()
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


@pytest.mark.slow
@pytest.mark.parametrize(("tied", "optimizer"), tiers(product((False, True), ("sgd", "adamw")), ["True-adamw"]))
def test_nanogpt_is_the_example_gpt(tied: bool, optimizer: str) -> None:
    result = derive(lambda n: NanoGPT(4 * n, n, tied=tied), tokens(3, 6), optimizer)
    example = "gpt_tied" if tied else "gpt"
    actual = tp.derive(loaded(example), optimizer).params
    table = {"E": "wte.weight", "embedding.E": "wte.weight", "positions.P": "wpe.weight", "readout.W": "lm_head.weight",
             **{_flat(name): ours for name, ours in GPT.items()}}  # fmt: skip
    assert result.to_tp()
    same(result, example, {name: table[_flat(name)] for name in actual})
    if tied:
        (use,) = [m for m in result.changes.multipliers if m.param == "wte.weight" and m.factor != Power()]
        assert use.module == "lm_head" and use.factor == Power.of({"n": -1})


def _flat(name: str) -> str:
    """Names of the second use of a block in one file differ in their counter only."""
    return name.replace("layernorm2", "layernorm_2")


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_an_lstm_is_the_example_lstm(optimizer: str) -> None:
    """The four gates are ranges of one tensor; PyTorch's second bias is one more of the same kind."""
    result = derive(CASES["lstm"].build, CASES["lstm"].inputs.float(), optimizer)
    names = {f"lstm.{p}{gate}": f"rnn.{q}_l0" for p, q in (("U", "weight_ih"), ("W", "weight_hh"), ("b", "bias_ih"))
             for gate in "afog"}  # fmt: skip
    assert result.to_tp()
    same(result, "lstm", {**names, "readout.W": "head.weight"})


def llama() -> tuple[Any, dict[str, str]]:
    names = {"embedding.E": "model.embed_tokens.weight", "rmsnorm.gain": "model.norm.weight",
             "readout.W": "lm_head.weight"}  # fmt: skip
    for k in (0, 1):
        ours, theirs = f"layers.{k}", f"model.layers.{k}"
        names |= {f"{ours}.rmsnorm.gain": f"{theirs}.input_layernorm.weight",
                  f"{ours}.rmsnorm_2.gain": f"{theirs}.post_attention_layernorm.weight"}  # fmt: skip
        names |= {f"{ours}.grouped_query_attention.W{x}": f"{theirs}.self_attn.{x}_proj.weight" for x in "qkvo"}
        names |= {f"{ours}.gated_mlp.W{x[0]}": f"{theirs}.mlp.{x}_proj.weight" for x in ("gate", "up", "down")}
    return ZOO["llama"][0], names


def bert() -> tuple[Any, dict[str, str]]:
    import transformers

    def build(n: int) -> Any:
        config = transformers.BertConfig(vocab_size=101, hidden_size=16 * n, num_hidden_layers=2, num_attention_heads=n,
                                         intermediate_size=64 * n, max_position_embeddings=32,
                                         tie_word_embeddings=False)  # fmt: skip
        return transformers.BertForMaskedLM(config)

    both, table = (("W", "weight"), ("b", "bias")), "bert.embeddings"
    norms = {"layernorm": f"{table}.LayerNorm", "layernorm_2": "cls.predictions.transform.LayerNorm"}
    maps = {"linear": "cls.predictions.transform.dense", "linear_2": "cls.predictions.decoder"}
    names = {"embedding.E": f"{table}.word_embeddings.weight", "positions.P": f"{table}.position_embeddings.weight"}
    for k in (0, 1):
        ours, theirs = f"layers.{k}", f"bert.encoder.layer.{k}"
        norms |= {f"{ours}.layernorm": f"{theirs}.attention.output.LayerNorm",
                  f"{ours}.layernorm_2": f"{theirs}.output.LayerNorm"}  # fmt: skip
        for letter, word in both:
            names |= {f"{ours}.attention.{letter}{x[0]}": f"{theirs}.attention.self.{x}.{word}"
                      for x in ("query", "key", "value") if letter + x != "bkey"}  # fmt: skip
            names |= {f"{ours}.attention.{letter}o": f"{theirs}.attention.output.dense.{word}",
                      f"{ours}.mlp.{letter}1": f"{theirs}.intermediate.dense.{word}",
                      f"{ours}.mlp.{letter}2": f"{theirs}.output.dense.{word}"}  # fmt: skip
    names |= {f"{ours}.{letter}": f"{theirs}.{word}" for ours, theirs in maps.items() for letter, word in both}
    names |= {f"{ours}.{p}": f"{theirs}.{q}" for ours, theirs in norms.items()
              for p, q in (("gain", "weight"), ("shift", "bias"))}  # fmt: skip
    return build, names


def resnet() -> tuple[Any, dict[str, str]]:
    import transformers

    def build(n: int) -> Any:
        config = transformers.ResNetConfig(embedding_size=n, hidden_sizes=[n, 2 * n, 4 * n], depths=[1, 1, 1],
                                           layer_type="basic", num_labels=10)  # fmt: skip
        return transformers.ResNetForImageClassification(config)

    pairs = {("conv_block.conv", "conv_block.batchnorm"): "resnet.embedder.embedder"}
    for k, block in enumerate(("basic_block", "basic_block_2", "basic_block_3")):
        theirs = f"resnet.encoder.stages.{k}.layers.0"
        pairs |= {(f"{block}.conv_block.conv", f"{block}.conv_block.batchnorm"): f"{theirs}.layer.0",
                  (f"{block}.conv", f"{block}.batchnorm"): f"{theirs}.layer.1"}  # fmt: skip
        if k:
            pairs[f"{block}.conv_2", f"{block}.batchnorm_2"] = f"{theirs}.shortcut"
    names = {"linear.W": "classifier.1.weight", "linear.b": "classifier.1.bias"}
    for (conv, norm), theirs in pairs.items():
        names |= {f"{conv}.W": f"{theirs}.convolution.weight", f"{norm}.gain": f"{theirs}.normalization.weight",
                  f"{norm}.shift": f"{theirs}.normalization.bias"}  # fmt: skip
    return build, names


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("model", [llama, bert, resnet])
def test_a_stock_model_and_the_text_written_from_it_are_the_example(model: Any, optimizer: str) -> None:
    needs("transformers")
    build, names = model()
    result = derive(build, ZOO[model.__name__][1](), optimizer)
    same(result, model.__name__, names)
    assert result.to_tp()  # which is refused where it derives to anything else


def emitted_module(example: str, base: int) -> types.ModuleType:
    source = tp.emit(loaded(example), "adam", base_width=base)
    module = types.ModuleType(f"emitted_{example}")
    exec(compile(source, f"{example}.py", "exec"), module.__dict__)
    return module


EMITTED = ("mlp", "rnn", "lstm", "resnet", "lora", "gpt", "gpt_tied", "bert", "vit", "unet", "llama", "moe")


@pytest.mark.parametrize("example", tiers(EMITTED, ("mlp",)))
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

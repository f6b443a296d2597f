"""The derived exponents of every shipped example, for three optimizers, as golden files; and their layout.

Reviewed against Tensor Programs V (arXiv:2203.03466), table 8, read in our output's signs (own exponents): input
weights, biases and gains: init 1, SGD lr n, Adam lr 1; hidden matrices: init n^-1/2, SGD lr 1, Adam lr n^-1; readout:
multiplier n^-1, init 1, SGD lr n, Adam lr 1. The rows for Muon are reviewed against docs/explanation/calculus.md.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from tensorprog import Derivation
from tensorprog.api import derive_architecture
from tensorprog.cli import main
from tensorprog.exponents import Power
from tensorprog.parameters import Init
from tests.shared import derive, load, tiers

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden"
EXAMPLES = sorted((ROOT / "examples").glob("*.tp"))
OPTIMIZERS = ("adam", "sgd", "muon")
UNTIED = ("mlp", "rnn", "lstm", "bert", "gpt", "resnet", "moe", "llama", "vit", "unet", "mamba", "dit")
QUICK = {*(f"{path.stem}-adam" for path in EXAMPLES),
         *(f"{name}-{optimizer}" for name in ("mlp", "gpt") for optimizer in OPTIMIZERS)}  # fmt: skip

# (number of growing axes, which axis grows) -> optimizer -> (multiplier, init std, lr); table 8.
TABLE_8 = {
    "vector": {"adam": ("1", "1", "1"), "sgd": ("1", "1", "n")},
    "matrix": {"adam": ("1", "n^-1/2", "n^-1"), "sgd": ("1", "n^-1/2", "1")},
    "readout": {"adam": ("n^-1", "1", "1"), "sgd": ("n^-1", "1", "n")},
}


def shown(derivation: Derivation) -> dict[str, dict[str, str]]:
    """What a golden file holds: parameter -> quantity -> power, and the multipliers."""
    rows = {
        name: {
            "multiplier": str(e.multiplier),
            "init_std": "0" if e.init_std is None else str(e.init_std),
            "lr": "-" if e.lr is None else str(e.lr),
        }
        for name, e in derivation.params.items()
    }
    return {**rows, "?": {name: str(power) for name, power in derivation.multipliers.items()}}


def of_width(power: Power) -> str:
    """What table 8 speaks of: the exponent of n alone."""
    return str(Power.of({"n": power["n"]}))


@pytest.mark.parametrize(("path", "optimizer"), tiers(product(EXAMPLES, OPTIMIZERS), QUICK))
def test_golden_tables(path: Path, optimizer: str, update_golden: bool) -> None:
    golden = GOLDEN / f"{path.stem}.json"
    tables, found = json.loads(golden.read_text()), shown(derive(load(path), optimizer))
    if update_golden:
        golden.write_text(json.dumps(tables | {optimizer: found}, indent=1) + "\n")
    assert tables.get(optimizer) == found, "run pytest with --update-golden and read the difference"


@pytest.mark.parametrize(("name", "optimizer"), tiers(product(UNTIED, ("adam", "sgd")), QUICK))
def test_untied_examples_are_table_8(name: str, optimizer: str) -> None:
    derivation = derive(load(ROOT / "examples" / f"{name}.tp"), optimizer)
    outputs = set()
    for parameter, e in derivation.params.items():
        axes = derivation.architecture.graph.parameters[parameter].axes
        growing = [k for k, axis in enumerate(axes) if axis.dim.grows]
        if not growing:  # the bias of the readout: finite, nothing scales
            assert e.lr is not None
            assert (of_width(e.multiplier), of_width(e.lr)) == ("1", "1"), parameter
            continue
        last = growing == [1] and not {"E", "P", "token"} & set(parameter.split("."))
        kind = "matrix" if len(growing) == 2 else "readout" if last else "vector"
        multiplier, std, lr = TABLE_8[kind][optimizer]
        assert e.lr is not None
        assert (of_width(e.multiplier), of_width(e.lr)) == (multiplier, lr), parameter
        assert e.init_std is None or of_width(e.init_std) == std, parameter
        outputs.add(kind)
    assert outputs == set(TABLE_8)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    tiers([*product(UNTIED, ("adam",)), *product(("mlp", "lstm", "gpt", "resnet"), ("sgd", "muon"))], {"lstm-adam"}),
)
def test_a_readout_has_the_same_row_whether_it_starts_at_random_or_at_zero(name: str, optimizer: str) -> None:
    random = derive(load(ROOT / "examples" / f"{name}.tp"), optimizer)
    graph = random.architecture.graph
    readout = [p for p in graph.parameters.values() if [k for k, axis in enumerate(p.axes) if axis.dim.grows] == [1]][
        -1
    ]
    at_zero = replace(random.architecture)
    parameters = {**graph.parameters, readout.name: replace(readout, init=Init("zeros"))}
    at_zero.__dict__["graph"] = replace(graph, parameters=parameters)
    for form in ("table8", "table9", "unit"):
        rows = [derive_architecture(a, optimizer, form).params for a in (random.architecture, at_zero)]
        one, other = (replace(found[readout.name], init_std=None) for found in rows)
        assert one == other, form


def test_low_rank_adapters_learn_as_in_lora_plus() -> None:
    """Hayou, Ghosh, Yu 2024 (LoRA+, arXiv:2402.12354), section 3: with Adam, lr of B is n times lr of A.

    How large A may start depends on the layer: n^-1/2 (central limit) on features that never move; n^-1 where adapters
    below move them along gradients that come through this A.
    """
    params = derive(load(ROOT / "examples" / "lora.tp"), "adam", "table3").params
    for layer in ("lora", "lora_2"):
        a, b = params[f"{layer}.A"], params[f"{layer}.B"]
        assert a.lr is not None and b.lr is not None
        assert (str(b.lr / a.lr), b.init_std) == ("n", None)
        assert params[f"{layer}.W"].lr is None
    assert (str(params["lora.A"].init_std), str(params["lora_2.A"].init_std)) == ("n^-1/2", "n^-1")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_layout_is_canonical(path: Path) -> None:
    assert main(["fmt", "--check", str(path)]) == 0


@pytest.mark.parametrize(("name", "optimizer", "found"), [
    ("lora", "sgd", {"lora_2.A": "n^-1/2", "lora_2.B": "n^-1"}),
    ("lora", "adam", {}),
    ("mlp", "sgd", {}),
    ("gpt_tied", "adam", {}),
])  # fmt: skip
def test_a_derivation_says_which_own_updates_vanish(name: str, optimizer: str, found: dict[str, str]) -> None:
    """As classify does, by another way: where no start is in balance the answer is stable, not maximal."""
    derivation = derive(load(EXAMPLES[0].with_name(f"{name}.tp")), optimizer)
    assert {param: str(power) for param, power in derivation.vanishing.items()} == found
    assert ("not maximal" in str(derivation)) == bool(found)

"""Exponents of the depth in what is trained: NumPy and the emitted program, away from the base depth."""

from __future__ import annotations

from pathlib import Path

import pytest

from tensorprog.api import emit
from tensorprog.architecture import parse
from tensorprog.interpret import Interpreter
from tests.shared import derive, stack

torch = pytest.importorskip("torch")
from tensorprog.coordcheck import emitted  # noqa: E402  (needs PyTorch)

pytestmark = pytest.mark.torch

GPT = Path(__file__).parents[2] / "examples" / "gpt.tp"
SIZES, BASE = {"n": 64, "L": 4}, {"n": 32, "L": 2}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_numpy_and_the_emitted_program_scale_alike_with_depth(optimizer: str) -> None:
    derivation = derive(GPT, optimizer).unrolled({"L": SIZES["L"]})
    used, program = derivation.parametrization, derivation.architecture.program
    lr = dict.fromkeys(program.forward.parameters, 0.1 if optimizer == "sgd" else 0.01)
    ours = Interpreter(program, SIZES, BASE, used, batch=2, seed=1, lr=lr, functions=derivation.architecture.functions)
    theirs = emitted.EmittedNetwork(derivation, used, SIZES, BASE, batch=2, seed=1, lr=lr)
    for _ in range(3):
        assert theirs.step() == pytest.approx(ours.loss(ours.step()), rel=1e-9)
    still = Interpreter(program, SIZES, {**BASE, "L": SIZES["L"]}, used, batch=2, seed=1, lr=lr,
                        functions=derivation.architecture.functions)  # fmt: skip
    for _ in range(2):
        still.step()
    assert abs(still.loss(still.step()) - ours.loss(ours.step())) > 1e-6  # the depth does scale something


@pytest.mark.slow
def test_numpy_and_the_emitted_program_scale_alike_with_nested_depths() -> None:
    """Inside of a block for each layer of L, those of M."""
    sizes, base = {"n": 32, "L": 4, "M": 3}, {"n": 16, "L": 2, "M": 2}
    loops = "repeat L {\n repeat M { h = h + ?b * linear(tanh(h), n) }\n h = h + ?c * linear(relu(h), n)\n}"
    derivation = derive(parse(stack(loops, "depth L, M")), "adam").unrolled({"L": 4, "M": 3})
    used, program = derivation.parametrization, derivation.architecture.program
    lr = dict.fromkeys(program.forward.parameters, 0.01)
    ours = Interpreter(program, sizes, base, used, batch=2, seed=1, lr=lr)
    theirs = emitted.EmittedNetwork(derivation, used, sizes, base, batch=2, seed=1, lr=lr)
    still = Interpreter(program, sizes, {**base, "M": 3}, used, batch=2, seed=1, lr=lr)
    for _ in range(3):
        loss = ours.loss(ours.step())
        assert theirs.step() == pytest.approx(loss, rel=1e-9)
    for _ in range(2):
        still.step()
    assert abs(still.loss(still.step()) - loss) > 1e-6  # the inner depth does scale something


@pytest.mark.slow
def test_the_program_takes_its_depth_and_scales_the_branches_with_it() -> None:
    source = emit(GPT, "adam", depths={"L": 2})
    assert '"L": 2' in source
    space: dict[str, object] = {"__name__": "gpt"}
    exec(compile(source, "gpt.py", "exec"), space)
    build = space["Gpt"]
    assert callable(build)
    model = build(n=64, L=6)
    assert len(model.layers) == 6

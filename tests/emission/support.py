"""What the emission tests share: any parametrization of a program, its emitted module, and the NumPy answer."""

from __future__ import annotations

import inspect
import random
import sys
import types
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tensorprog.architecture import Architecture, parse
from tensorprog.emission import emit
from tensorprog.exponents import Power
from tensorprog.interpret import Interpreter
from tensorprog.parametrization import Parametrization, ParamExponents


def parametrization(architecture: Architecture, optimizer: str, seed: int | None = 0) -> Parametrization:
    """Random exponents for everything, equal over layers; all zero if seed is None."""
    graph = architecture.graph

    def draw(key: str) -> Power:
        if seed is None or not graph.widths:
            return Power()
        star = ".".join("*" if part.isdigit() else part for part in key.split("."))
        rng = random.Random(f"{seed} {star}")
        return Power.of({w: Fraction(rng.randint(-2, 2), 2) for w in graph.widths})

    params = {}
    for name, parameter in graph.parameters.items():
        lr = None if parameter.frozen else draw(f"{name} lr")
        zero = parameter.init.kind == "zeros"
        params[name] = ParamExponents(
            Power(), None if zero else draw(f"{name} std"), lr, draw(f"{name} decay"), draw(f"{name} eps")
        )
    unknowns = {name: draw(name) for name in graph.unknowns}
    return Parametrization("test", optimizer, params, unknowns)


def load(text: str, name: str = "emitted") -> types.ModuleType:
    """The emitted file as a module (findable by name, so that it can be pickled)."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(text, f"<{name}>", "exec"), module.__dict__)
    return module


def main_class(module: types.ModuleType) -> Any:
    """The class of the whole network: the last one defined."""
    return next(v for v in reversed(list(module.__dict__.values())) if isinstance(v, type))


def agreement(
    architecture: Architecture,
    chosen: Parametrization,
    base: Mapping[str, int],
    widths: Mapping[str, int],
    batch: int = 4,
) -> tuple[float, str]:
    """Largest difference between the emitted module and the interpreter in outputs, loss and gradients, relative to
    the size of each (of a gradient: at least 1e-4 of the largest one, below which rounding rules); and the text."""
    import torch

    text = emit(architecture.model, chosen, base, source_name=architecture.file)
    model = main_class(load(text))(**widths).double()
    known = {**dict(architecture.model.depths), **base}
    sizes = {**dict(architecture.model.depths), **widths}
    # a seed with which random exponents saturate no attention: its gradient would be what rounding leaves of a sum
    # that cancels
    interpreter = Interpreter(
        architecture.program, sizes, known, chosen, batch=batch, seed=1, functions=architecture.functions
    )
    rng = np.random.default_rng(0)
    parameters = dict(model.named_parameters())
    assert set(parameters) == set(interpreter.params), set(parameters) ^ set(interpreter.params)
    for name, array in interpreter.params.items():
        assert parameters[name].shape == array.shape, name
        array += 0.1 * rng.standard_normal(array.shape)
        parameters[name].data.copy_(torch.from_numpy(np.array(array)))
    values = interpreter.run()
    data = {k: torch.from_numpy(np.array(v)) for k, v in interpreter.data.items()}
    inputs = [data[k] for k in list(inspect.signature(model.forward).parameters)]
    outputs = model(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    worst = 0.0
    for (_, node), output in zip(architecture.graph.outputs, outputs, strict=True):
        worst = max(worst, relative(output.detach().numpy(), values[node]))
    if hasattr(model, "loss"):
        loss = model.loss(*outputs, *(data[k] for k in inspect.signature(model.loss).parameters if k in data))
    else:
        loss = model.training_loss(*(data[k] for k in inspect.signature(model.training_loss).parameters))
    worst = max(worst, relative(loss.detach().numpy(), values[architecture.graph.loss]))
    loss.backward()
    floor = 1e-4 * max(float(np.max(np.abs(values[node]))) for node in architecture.program.grads.values())
    for name, node in architecture.program.grads.items():
        if parameters[name].grad is not None:
            worst = max(worst, relative(parameters[name].grad.numpy(), values[node], floor))
        else:
            assert parameters[name].requires_grad is False or not np.any(values[node]), name
    return worst, text


def relative(a: Any, b: Any, floor: float = 1e-12) -> float:
    """Largest difference over the largest entry of b."""
    assert np.shape(a) == np.shape(b)
    return float(np.max(np.abs(a - b), initial=0.0) / max(np.max(np.abs(b), initial=0.0), floor))


HERE = Path(__file__).parent
PROGRAMS = sorted([*(HERE / "programs").glob("*.tp"), *(HERE.parents[1] / "examples").glob("*.tp")])


@cache
def read(path: Path) -> Architecture:
    """The architecture in a file."""
    return parse(path.read_text(), path.name)


def base_of(architecture: Architecture, width: int = 32) -> dict[str, int]:
    """The same base width for all symbols."""
    return dict.fromkeys(architecture.model.widths, width)

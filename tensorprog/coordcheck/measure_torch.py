"""Measurements with the emitted PyTorch program (see emitted.py).

Every tensor that PyTorch makes on the way to the loss is numbered; which number is which tensor of the graph is found
by value, in a trial run with generic weights in double precision. A tensor that the program never makes (a fused kernel
passes over it) is nan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from tensorprog.arrays import rms
from tensorprog.coordcheck.emitted import EmittedNetwork, require_device
from tensorprog.coordcheck.measure import spectral_norm
from tensorprog.coordcheck.probes import PRODUCTS, Probe
from tensorprog.derivation import Derivation
from tensorprog.errors import InternalError, TensorProgError
from tensorprog.interpret import Interpreter
from tensorprog.parametrization import Parametrization

Float = npt.NDArray[np.float64]
Tensor = Any

EQUAL = 1e-8  # difference of two computations of one tensor in double precision, relative to its largest entry
GENERIC = 0.5  # relative size of the noise on the weights of the trial run


@dataclass(frozen=True, slots=True)
class Plan:
    """`places`: node of the graph -> number of the tensor. `ops`: the operation that makes each tensor."""

    places: dict[int, int]
    ops: tuple[str, ...]


_PLANS: dict[object, Plan] = {}


def plan(
    derivation: Derivation,
    parametrization: Parametrization,
    nodes: Sequence[int],
    widths: Mapping[str, int],
    base: Mapping[str, int],
    batch: int,
    device: str = "cpu",
) -> Plan:
    """Finds the nodes among the tensors of the emitted program at these widths. The trial run is made on the device of
    the measurement: another one may have other kernels.

    Raises TensorProgError if the program computes another loss than the interpreter.
    """
    architecture = derivation.architecture
    sizes = [tuple(sorted(given.items())) for given in (widths, base)]
    key = (architecture.source, tuple(architecture.depths.items()), repr(parametrization), tuple(nodes), *sizes, batch,
           device)  # fmt: skip
    if key in _PLANS:
        return _PLANS[key]
    network = EmittedNetwork(derivation, parametrization, widths, base, batch=batch, seed=0, device=device)
    interpreter = Interpreter(
        architecture.program, widths, base, parametrization, batch=batch, functions=architecture.functions
    )
    rng = np.random.default_rng(0)
    for w in interpreter.params.values():  # zeros and ones would make different tensors equal
        w += GENERIC * max(rms(w), float(np.prod(w.shape[1:])) ** -0.5) * rng.standard_normal(w.shape)
    network.set_params(interpreter.params)
    values = interpreter.run(keep={*nodes, architecture.graph.loss}, backward=False)
    seen: list[tuple[float, Float]] = []
    ops: list[str] = []

    def take(op: str, tensor: Tensor) -> None:
        array = tensor.detach().cpu().numpy().copy()  # an operation in place may change it later
        seen.append((_square(array), array))
        ops.append(op)

    loss, expected = float(network.forward(take).detach()), interpreter.loss(values)
    if not abs(loss - expected) <= EQUAL * max(1.0, abs(expected)):
        raise InternalError(f"the emitted program's loss is {loss}, the interpreter's {expected}")
    places = {}
    for node in nodes:
        square = _square(values[node])
        near = (k for k, (other, _) in enumerate(seen) if abs(other - square) <= EQUAL * square)
        found = next((k for k in near if same(values[node], seen[k][1])), None)
        if found is not None:
            places[node] = found
    if len(_PLANS) >= 64:
        _PLANS.clear()
    _PLANS[key] = Plan(places, tuple(ops))
    return _PLANS[key]


def _square(x: Float) -> float:
    return float(np.vdot(x, x)) if x.dtype.kind == "f" else np.nan


def same(x: Float, y: Float) -> bool:
    """Whether two tensors are equal up to the grouping and the order of their axes."""
    if x.size != y.size or y.dtype.kind != "f":
        return False
    room = EQUAL * float(np.max(np.abs(x), initial=0.0))

    def equal(a: Float, b: Float) -> bool:
        return bool(np.all(np.abs(a.reshape(-1) - b.reshape(-1)) <= room))

    if equal(x, y):
        return True
    if x.ndim != y.ndim:
        return False
    orders = (o for o in permutations(range(y.ndim)) if all(y.shape[a] == s for a, s in zip(o, x.shape, strict=True)))
    return any(equal(x, y.transpose(order)) for order in orders)


# --- measuring ------------------------------------------------------------------------------------------


def measure(
    derivation: Derivation,
    parametrization: Parametrization,
    probes: Sequence[Probe],
    widths: Mapping[str, int],
    base: Mapping[str, int],
    *,
    seed: int,
    steps: int,
    batch: int,
    lr: float | Mapping[str, float],
    dtype: str,
    device: str = "cpu",
    decays: bool = True,
) -> Float:
    """rms [probe, 1 + steps], as `tensorprog.coordcheck.measure.measure`; nan in the rows of tensors that the program
    does not make. Raises TensorProgError without the device."""
    require_device(device)
    nodes = [p.node for p in probes if p.param is None and p.kind in ("value", "argument")]
    if any(p.kind in PRODUCTS for p in probes):
        raise TensorProgError("the parts of products are not measured in the emitted program",
                              fix="--backend numpy, or no --also split",
                              why="it computes a product at once")  # fmt: skip
    found = plan(derivation, parametrization, nodes, widths, base, batch, device)
    network = EmittedNetwork(derivation, parametrization, widths, base, batch=batch, seed=seed, lr=lr, dtype=dtype,
                              device=device, decays=decays)  # fmt: skip
    wanted = set(found.places.values())
    ops: list[str] = []
    now: dict[int, Tensor] = {}

    def take(op: str, tensor: Tensor) -> None:
        if len(ops) in wanted:
            now[len(ops)] = tensor.detach().clone()
        ops.append(op)

    result = np.full((len(probes), steps + 1), np.nan)
    start: dict[int, Tensor] = {}
    begin = {name: param.detach().clone() for name, param in network.params.items()}
    before = begin
    for t in range(steps + 1):
        current = {name: param.detach().clone() for name, param in network.params.items()}
        for row, p in enumerate(probes):
            if p.param not in current:
                continue
            w = current[p.param]
            match p.kind:
                case "value" | "spectral":
                    size = spectral_norm if p.kind == "spectral" else rms
                    result[row, t] = size((w - begin[p.param] if t else w).cpu().numpy())
                case "update" if t > 1:
                    result[row, t] = rms((w - before[p.param]).cpu().numpy())
                case _:
                    pass
        before = current
        ops.clear()
        if t < steps:
            network.step(take)
        else:
            network.forward(take)
        if tuple(ops) != found.ops:
            raise InternalError("the emitted program does other operations than in its trial run")
        for row, p in enumerate(probes):
            if p.param is None and p.node in found.places:
                value = now[found.places[p.node]]
                start.setdefault(row, value)
                moved = t and p.kind == "value"
                result[row, t] = rms((value - start[row] if moved else value).cpu().numpy())
            elif p.kind == ("later gradient" if t else "gradient") and t < steps and p.param in network.params:
                gradient = network.params[p.param].grad
                result[row, t] = 0.0 if gradient is None else rms(gradient.cpu().numpy())
    return result

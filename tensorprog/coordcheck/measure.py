"""Measurements with the NumPy interpreter: root mean squares of all tensors and of their changes, per width."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tensorprog.coordcheck.predict import Probe
from tensorprog.derivation import Derivation
from tensorprog.interpret import Interpreter
from tensorprog.parametrization import Parametrization


def rms(x: npt.NDArray[np.float64]) -> float:
    """Root mean square of the entries (inf if it overflows)."""
    flat = x.reshape(-1)
    if not flat.size:
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        square = float(np.dot(flat, flat)) / flat.size
    return math.sqrt(square) if math.isfinite(square) else math.inf


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
) -> npt.NDArray[np.float64]:
    """rms [probe, 1 + steps]: column 0 the initial value, column t the change after t updates, of one network."""
    interpreter = Interpreter(
        derivation.architecture.program, widths, base, parametrization, batch=batch, seed=seed, dtype=dtype, lr=lr,
        functions=derivation.architecture.functions,
    )  # fmt: skip
    nodes = [p.node for p in probes if p.param is None]
    params = [(row, p.param) for row, p in enumerate(probes) if p.param is not None]
    tensors = [(row, p.node) for row, p in enumerate(probes) if p.param is None]
    result = np.zeros((len(probes), steps + 1))
    start: dict[int, npt.NDArray[np.float64]] = {row: interpreter.params[name].copy() for row, name in params}
    for row, _ in params:
        result[row, 0] = rms(start[row])
    for t in range(steps + 1):
        if t:
            for row, name in params:
                with np.errstate(over="ignore", invalid="ignore"):
                    result[row, t] = rms(interpreter.params[name] - start[row])
        values = interpreter.step(keep=nodes) if t < steps else interpreter.run(keep=nodes, backward=False)
        for row, node in tensors:
            if t == 0:
                start[row] = values[node]
            with np.errstate(over="ignore", invalid="ignore"):
                result[row, t] = rms(values[node] - start[row] if t else start[row])
    return result

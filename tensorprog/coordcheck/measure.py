"""Measurements with the NumPy interpreter: the size of everything that is probed, of one network, step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from tensorprog.arrays import Array, rms
from tensorprog.coordcheck.probes import GRADIENTS, PRODUCTS, Probe
from tensorprog.derivation import Derivation
from tensorprog.graph import Add, Contract, Program, Scale
from tensorprog.interpret import Interpreter, Values
from tensorprog.parametrization import Parametrization

_BLOCK = 1 << 16  # entries
POWER_ITERATIONS = 24
TAIL = 50  # of that many entries along the growing axes, typical sizes leave out the largest


def typical_rms(x: Array, growing: Sequence[int]) -> float:
    """Root mean square of the entries, but for the largest of every `TAIL` along the `growing` axes, apart for every
    place on the others."""
    rest = [axis for axis in range(x.ndim) if axis not in growing]
    entries = np.abs(x.transpose(*rest, *growing)).reshape(*(x.shape[axis] for axis in rest), -1)
    kept = entries.shape[-1] - entries.shape[-1] // TAIL
    return rms(np.partition(entries, kept - 1, axis=-1)[..., :kept])


def rms_change(x: Array, start: Array) -> float:
    """Root mean square of x - start, block by block, so that nothing large is made."""
    if x.size <= _BLOCK or not (x.flags.c_contiguous and start.flags.c_contiguous):
        with np.errstate(over="ignore", invalid="ignore"):
            return rms(x - start)
    now, before, total = x.reshape(-1), start.reshape(-1), 0.0
    scratch = np.empty(_BLOCK, x.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for at in range(0, x.size, _BLOCK):
            part = now[at : at + _BLOCK]
            change = np.subtract(part, before[at : at + _BLOCK], out=scratch[: part.size])
            total += float(np.dot(change, change))
    return math.sqrt(total / x.size) if math.isfinite(total) else math.inf


def spectral_norm(x: Array) -> float:
    """The largest singular value of [first axis, rest], by power iteration from a fixed start: for a random matrix a
    few per cent too small, alike at every size (inf if it overflows)."""
    matrix = x.reshape(x.shape[0], -1)
    if not np.all(np.isfinite(matrix)):
        return math.inf
    vector = np.random.default_rng(0).standard_normal(matrix.shape[1]).astype(x.dtype)
    norm = 0.0
    for _ in range(POWER_ITERATIONS):
        length = float(np.linalg.norm(vector))
        if not length:
            return 0.0
        image = matrix @ (vector / length)
        norm = float(np.linalg.norm(image))
        vector = image @ matrix
    return norm


def planned(
    derivation: Derivation,
    parametrization: Parametrization,
    widths: Mapping[str, int],
    base: Mapping[str, int],
    batch: int,
    lr: float | Mapping[str, float],
    dtype: str,
    decays: bool = True,
) -> Interpreter:
    """What networks of these sizes share, whatever their seeds."""
    return Interpreter(
        derivation.architecture.program, widths, base, parametrization, batch=batch, dtype=dtype, lr=lr,
        functions=derivation.architecture.functions, decays=decays, start=False,
    )  # fmt: skip


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
    plan: Interpreter | None = None,
    typical: bool = False,
) -> npt.NDArray[np.float64]:
    """Sizes [probe, 1 + steps] of one network: column 0 the initial value, column t what holds after t updates (a
    gradient: before the next one); nan where there is nothing to measure. `plan`: what `planned` gives for the same
    sizes, made here if it is not given. `typical`: of values and gradients without the largest entries (looks.py)."""
    program = derivation.architecture.program
    plan = plan or planned(derivation, parametrization, widths, base, batch, lr, dtype)
    interpreter = plan.fresh(seed)
    forward, backward = _needed(program, probes)
    result = np.full((len(probes), steps + 1), np.nan)
    start: dict[int, Array] = {}
    params = interpreter.params

    def size(node: int, x: Array, before: Array | None = None) -> float:
        if not typical:
            return rms(x) if before is None else rms_change(x, before)
        growing = [k for k, axis in enumerate(program.nodes[node].axes) if axis.dim.grows]
        return typical_rms(x if before is None else x - before, growing)

    initial = {p.param: params[p.param].copy() for p in probes if p.param and p.kind in ("value", "spectral")}
    for t in range(steps + 1):
        for row, probe in enumerate(probes):
            if probe.param is not None and probe.kind in ("value", "spectral"):
                before = initial[probe.param] if t else None
                spectral = probe.kind == "spectral"
                result[row, t] = (_spectral if spectral else partial(size, probe.node))(params[probe.param], before)
        if t < steps:
            values = interpreter.step(keep=forward | backward)
        else:
            values = interpreter.run(keep=forward, backward=False)
        if not t:
            start = {node: values[node] for node in forward}
        for row, probe in enumerate(probes):
            node = probe.node
            match probe.kind:
                case "value" if probe.param is None:
                    result[row, t] = size(node, values[node], start[node] if t else None)
                case "gradient" if not t:
                    result[row, t] = size(node, values[node])
                case "later gradient" if 0 < t < steps:
                    result[row, t] = rms(values[node])
                case "argument":
                    result[row, t] = rms(values[node])
                case "terms" if t < steps:
                    result[row, t] = _independent(program, node, values)
                case "update" if 0 < t < steps:  # the first update is the first change
                    result[row, t + 1] = rms(values[program.updates[probe.param or ""]])
                case kind if kind in PRODUCTS and t:
                    result[row, t] = _product(interpreter, probe, start, values)
                case _:
                    pass
    return result


def _needed(program: Program, probes: Sequence[Probe]) -> tuple[frozenset[int], frozenset[int]]:
    """The forward and the backward nodes whose values the probes want."""
    wanted: set[int] = set()
    for probe in probes:
        match probe.kind:
            case "terms":
                wanted.update(_factors(program, probe.node))
            case "update":
                wanted.add(program.updates[probe.param or ""])
            case kind if kind in PRODUCTS:
                wanted.update(program.nodes[probe.node].args)
            case kind if probe.param is None or kind in GRADIENTS:
                wanted.add(probe.node)
            case _:
                pass
    forward = frozenset(k for k in wanted if k < len(program.forward.nodes))
    return forward, frozenset(wanted) - forward


def _spectral(w: Array, start: Array | None) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return spectral_norm(w if start is None else w - start)


def _product(interpreter: Interpreter, probe: Probe, start: Mapping[int, Array], values: Values) -> float:
    """The size of one part of the change of a product."""
    args = interpreter.program.nodes[probe.node].args
    moved = (probe.kind.startswith("dW"), probe.kind.endswith("dx"))  # of the parameter, of the activation
    with np.errstate(over="ignore", invalid="ignore"):
        operands = [values[a] - start[a] if moved[k != probe.position] else start[a] for k, a in enumerate(args)]
        return rms(interpreter.apply(probe.node, *operands))


def _summed(program: Program, node: int, values: Values) -> int:
    """How many products each entry of a contraction is a sum of."""
    op, args = program.nodes[node].op, program.nodes[node].args
    assert isinstance(op, Contract)
    sizes = dict(zip(op.left, values[args[0]].shape, strict=False))  # tokens lack the vocabulary, which is counted as 1
    if op.right is not None:
        sizes |= dict(zip(op.right, values[args[1]].shape, strict=False))
    return math.prod(size for index, size in sizes.items() if index not in op.out)


def _factors(program: Program, node: int) -> tuple[int, ...]:
    """The nodes whose sizes `_independent` multiplies."""
    op, args = program.nodes[node].op, program.nodes[node].args
    if isinstance(op, Contract):
        return args
    if isinstance(op, Scale | Add):
        return tuple(factor for a in args for factor in _factors(program, a))
    return (node,)


def _independent(program: Program, node: int, values: Values) -> float:
    """How large a sum of products would be if its terms were independent; of a sum of such, the largest."""
    op, args = program.nodes[node].op, program.nodes[node].args
    if isinstance(op, Scale | Add):
        return max(_independent(program, a, values) for a in args)
    if not isinstance(op, Contract):
        return rms(values[node])
    return math.sqrt(_summed(program, node, values)) * math.prod(
        rms(values[a]) for a in args if values[a].dtype.kind == "f"
    )

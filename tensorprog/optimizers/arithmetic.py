"""The formulas of an optimizer in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorprog import statements as st
from tensorprog import syntax as s
from tensorprog.arrays import NS_STEPS, newton_schulz, rms
from tensorprog.constants import OPERATORS, exact_value

if TYPE_CHECKING:
    from tensorprog.optimizers.data import Optimizer

FUNCTIONS = {
    "sqrt": 1,
    "abs": 1,
    "sign": 1,
    "norm": 1,
    "rms": 1,
    "orthogonal": 1,
    "max": 2,
    "min": 2,
    "clip": 2,
    "atan2": 2,
}  # fmt: skip  (name -> number of arguments)
Rule = Callable[[Any, Any, Any], None]
HIGHEST_POWER = 100  # of a number, that is worked out exactly
_MOST_DELAY = 4
SMALLEST_NORM = 1e-30  # of a whole gradient, so that one may divide by it


@dataclass(frozen=True, slots=True)
class Formula:
    """Assignments in order, the last of `step`. `state`: the names kept from step to step; `scalars`: those of any
    that are one number per tensor. `statement`: what they were read from. `mixes`: whether entries of the gradient are
    multiplied with different numbers, or mapped one by one."""

    rules: tuple[tuple[str, s.Expr], ...]
    state: tuple[str, ...]
    scalars: frozenset[str]
    statement: st.OptimizerDef
    mixes: bool


def constant(expr: s.Expr) -> Fraction | None:
    """The exact value of an expression of numbers only."""
    return exact_value(expr, HIGHEST_POWER)


def evaluate(expr: s.Expr, known: Mapping[str, Any]) -> Any:
    """Its value: a float, or an array for a tensor."""
    if (number := constant(expr)) is not None:
        return float(number)
    match expr:
        case s.Name(id=name):
            return known[name]
        case s.Negate(operand=operand):
            return -evaluate(operand, known)
        case s.Binary(op=op, left=left, right=right):
            return OPERATORS[op](evaluate(left, known), evaluate(right, known))
        case s.Call(id=name, arguments=arguments):
            return _call(name, *(evaluate(a.value, known) for a in arguments))
    raise AssertionError("checked before")


def _call(name: str, *args: Any) -> Any:
    result = _apply(name, *args)
    return float(result) if all(isinstance(a, float) for a in args) or name in ("norm", "rms") else result


def _apply(name: str, x: Any, y: Any = None) -> Any:
    match name:
        case "sqrt":
            return np.sqrt(x)
        case "abs":
            return np.abs(x)
        case "sign":
            return np.sign(x)
        case "norm":
            return math.sqrt(float(np.vdot(x, x)))
        case "rms":
            return rms(np.asarray(x))
        case "orthogonal":
            rows = x.shape[0] if x.ndim else 1
            return newton_schulz(x.reshape(rows, -1), NS_STEPS).reshape(x.shape)
        case "max":
            return np.maximum(x, y)
        case "min":
            return np.minimum(x, y)
        case "clip":
            return np.minimum(np.maximum(x, -y), y)
        case _:
            return np.arctan2(x, y)


def step_rule(formula: Formula, decay: str) -> Rule:
    """The NumPy step: w changed in place; state as arrays of w's type, numbers as floats."""

    uses = set().union(*(mentioned(expr) for _, expr in formula.rules)) & {"global_norm", "sampled"}

    def rule(step: Any, w: Any, g: Any) -> None:
        hyper = step.hyper
        if decay == "coupled":
            g = g + hyper["weight_decay"] * w
        known: dict[str, Any] = {**hyper, **step.numbers, "t": float(step.count), "w": w, "g": g}
        for name in formula.state:
            known[name] = step.numbers.get(name, 0.0) if name in formula.scalars else step.buffer(name, w)
        if uses & known.keys() != uses:
            known |= alone(uses, step, g)
        for name, expr in formula.rules:
            if name == "perturb":
                continue
            known[name] = evaluate(expr, known)
        for name in formula.state:
            if name in formula.scalars:
                step.numbers[name] = float(known[name])
            else:
                step.state[name] = np.broadcast_to(np.asarray(known[name], w.dtype), w.shape).copy()
        if decay == "decoupled":
            w *= 1 - hyper["lr"] * hyper["weight_decay"]
        w -= np.asarray(hyper["lr"] * known["step"], w.dtype)

    return rule


def alone(uses: set[str], step: Any, g: Any) -> dict[str, Any]:
    """What a network would tell a step, where there is none: the norm of this gradient, and it for the sampled one."""
    known = {"sampled": step.state.get("sampled", g)} if "sampled" in uses else {}
    if "global_norm" in uses and "global_norm" not in step.numbers:
        known["global_norm"] = max(_apply("norm", g), SMALLEST_NORM)
    return known


def mentioned(expr: s.Expr) -> set[str]:
    """The names in an expression."""
    match expr:
        case s.Name(id=name):
            return {name}
        case s.Negate(operand=operand):
            return mentioned(operand)
        case s.Binary(left=left, right=right):
            return mentioned(left) | mentioned(right)
        case s.Call(arguments=arguments):
            return set().union(*(mentioned(a.value) for a in arguments))
    return set()


def perturbation(formula: Formula, hyper: Mapping[str, float], w: Any, g: Any, norm: float) -> Any:
    """What is added to w before the gradient of the step is taken."""
    expr = dict(formula.rules)["perturb"]
    return evaluate(expr, {**hyper, "w": w, "g": g, "global_norm": norm})


def delay_of(row: Optimizer) -> int:
    """How many steps at the start move nothing, whatever the gradient."""
    from tensorprog.steps import make_step

    rng = np.random.default_rng(0)
    stepper = make_step(row, {"weight_decay": 0.0} if row.decay != "none" else {})
    w = rng.standard_normal((3, 2))
    for count in range(_MOST_DELAY):
        before = w.copy()
        stepper.numbers["global_norm"] = 1.0
        stepper.state["sampled"] = rng.standard_normal(w.shape)
        with np.errstate(all="ignore"):
            stepper(w, rng.standard_normal(w.shape))
        if np.any(w != before):
            return count
    return 0

"""Parameter groups: the learning rate, weight decay and epsilon of every parameter at the width of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tensorprog.errors import TensorProgError
from tensorprog.optimizers import Optimizer
from tensorprog.torch.changes import UNIT, Changes, ParameterChange

# The factor of torch.optim.Muon's step: unless told, it is sqrt(max(1, rows/cols)), also where none was derived.
ADJUSTED = {"muon": "none", "muon_original": "original", "muon_match_rms": "match_rms_adamw"}

Setting = float | Mapping[str, float] | Callable[[str, Any], float] | None


class Groups(list[dict[str, Any]]):
    """Parameter groups for a PyTorch optimizer: dictionaries with `params`, `param_names`, `lr` and, where the
    optimizer has them, `weight_decay` and `eps`. With several optimizers (Muon leaves vectors to another one) each
    group also has `optimizer`, its name.

    `sizes`, `base`: the widths of the model, and those at which it was tuned. `clip`: what to clip the global gradient
    norm at (None: nothing was said about clipping). `done`: what was changed, in words.
    """

    sizes: dict[str, int]
    base: dict[str, int]
    clip: float | None = None
    done: tuple[str, ...] = ()

    def of(self, optimizer: str) -> list[dict[str, Any]]:
        """The groups of one of several optimizers."""
        return [{k: v for k, v in g.items() if k != "optimizer"} for g in self if g.get("optimizer") == optimizer]


@dataclass(frozen=True, slots=True)
class Tuned:
    """The values that are right at the base width, as the user gives them."""

    lr: Setting
    weight_decay: Setting
    eps: float | None


def shifts(optimizer: Optimizer) -> dict[str, Fraction]:
    """What absorbing a factor k into a parameter does to the hyperparameters, by the symmetry of its optimizer: name ->
    exponent of k. The gradient becomes 1/k of what it was.

    Source: Yang et al. 2022 (Tensor Programs V, arXiv:2203.03466), Lemma J.1; docs/explanation/calculus.md, section 10.
    """
    lr = Fraction(optimizer.gauge_degree)
    decay = {"decoupled": -lr, "coupled": Fraction(-2)}.get(optimizer.decay, Fraction(0))
    others = {name: Fraction(size.parameter) - Fraction(size.gradient) for name, size in optimizer.scales}
    return {"lr": lr, "weight_decay": decay, **others}


def make_groups(
    changes: Changes,
    parameters: Mapping[str, Any],
    sizes: Mapping[str, int],
    base: Mapping[str, int],
    tuned: Tuned,
    absorbed: Mapping[str, float],
) -> Groups:
    """The groups, parameters with equal values together, in the order of the model. `absorbed`: parameter -> the
    factor that its initial value has taken over from a multiplier. Raises TensorProgError where one tensor needs two
    values."""
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    several = len({p.optimizer for p in changes.parameters}) > 1
    for p in changes.parameters:
        tensor = parameters[p.name]
        if not tensor.requires_grad:
            continue
        values = _values(p, tensor, tuned, sizes, base, absorbed.get(p.name, 1.0), several)
        group = merged.setdefault((p.optimizer, *values.items()), {"params": [], "param_names": [], **values})
        if several:
            group["optimizer"] = p.optimizer
        if p.optimizer in ADJUSTED:
            group["adjust_lr_fn"] = ADJUSTED[p.optimizer]
        group["params"].append(tensor)
        group["param_names"].append(p.name)
    result = Groups(merged.values())
    result.sizes, result.base = dict(sizes), dict(base)
    return result


def _values(
    p: ParameterChange,
    tensor: Any,
    tuned: Tuned,
    sizes: Mapping[str, int],
    base: Mapping[str, int],
    k: float,
    several: bool,
) -> dict[str, float]:
    optimizer = p.row
    defaults, shift = dict(optimizer.defaults), shifts(optimizer)
    if several and isinstance(tuned.lr, int | float):
        raise TensorProgError("two optimizers need two learning rates", why=f"`{p.name}` belongs to {p.optimizer}",
                              fix="lr={" + f'"{p.optimizer}": {tuned.lr:g}, ...' + "}")  # fmt: skip
    values = {"lr": _setting(tuned.lr, p, tensor, defaults["lr"])}
    if optimizer.decay != "none":
        values["weight_decay"] = _setting(tuned.weight_decay, p, tensor, defaults.get("weight_decay", 0.0))
    values.update({name: defaults[name] for name in optimizer.scaled if name in defaults})
    if "eps" in values and tuned.eps is not None:
        values["eps"] = tuned.eps
    return {name: value and value * _ratio(p, name, sizes, base) * k ** float(shift.get(name, 0))
            for name, value in values.items()}  # fmt: skip


def _setting(given: Setting, p: ParameterChange, tensor: Any, default: float) -> float:
    if given is None:
        return default
    if isinstance(given, Mapping):
        if p.optimizer not in given:
            raise TensorProgError(f"no value for {p.optimizer}, which updates `{p.name}`",
                                  why="a mapping has a value for every optimizer that is used",
                                  fix=f'"{p.optimizer}": ...')  # fmt: skip
        return float(given[p.optimizer])
    return float(given(p.name, tensor)) if callable(given) else float(given)


def _ratio(p: ParameterChange, quantity: str, sizes: Mapping[str, int], base: Mapping[str, int]) -> float:
    """How a quantity differs from its base value. Raises TensorProgError if it does so differently in two ranges."""
    powers = [holder.needed.hyper.get(quantity, UNIT) for holder in p.parts or (p,)]
    ratios = [power.ratio(sizes, base) for power in powers]
    if quantity not in ("lr", "weight_decay"):
        return min(ratios)  # an epsilon that is smaller than it need be does no harm
    if len(set(ratios)) > 1:
        rows = "; ".join(f"{part.start.evaluate(sizes)} to {part.stop.evaluate(sizes)} (of axis {part.axis}): {power}"
                         for part, power in zip(p.parts, powers, strict=True))  # fmt: skip
        what = {"lr": "learning rates", "weight_decay": "weight decays"}[quantity]
        raise TensorProgError(f"`{p.name}` needs two {what}: {rows}",
                              why="one tensor belongs to one parameter group",
                              fix=f"two parameters instead, or keep=[\"{p.name}\"] to leave it as it is")  # fmt: skip
    return ratios[0]

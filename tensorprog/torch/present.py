"""How the parameters of a model start: the law of every initial standard deviation, read from its constructor.

While the constructor runs, a random fill is replaced by its root mean square, with random signs if it is symmetric.
Whatever the constructor does with the numbers afterwards (scaling, clamping, orthogonalising), the root mean square of
the parameter then is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tensorprog.dims import BATCH_SYMBOL
from tensorprog.exponents import Power
from tensorprog.torch.building import unpacked
from tensorprog.torch.laws import Laws
from tensorprog.torch.trace import memory_of


@dataclass(frozen=True, slots=True)
class Start:
    """How one parameter starts at one width. `kind`: normal | constant | zeros. `mean`: it is random, about a mean that
    is not small beside its root mean square."""

    kind: str
    rms: float
    mean: bool = False


@dataclass(frozen=True, slots=True)
class StartLaw:
    """How one parameter starts. `power` None: at zero. `coefficient`: rms = coefficient * power. `exact`: the law is
    that of the constructor's numbers, not a trend through them. `logarithmic`: they grow like a logarithm. `mean`: as
    of `Start`, at every point."""

    kind: str
    coefficient: float
    power: Power | None
    exact: bool = True
    logarithmic: bool = False
    mean: bool = False


class InitTrace(TorchDispatchMode):  # type: ignore[misc]
    """While entered, random fills are their root mean square; `is_random` says of a storage whether it holds some."""

    def __init__(self) -> None:
        super().__init__()
        self._random: set[int] = set()
        self._alive: list[Any] = []
        self._signs = torch.Generator().manual_seed(0)

    def is_random(self, tensor: torch.Tensor) -> bool:
        return memory_of(tensor) in self._random

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[-1]
        found = _rms(name, args, kwargs)
        rms, symmetric = found or (None, False)
        filled = rms is not None and name.endswith("_") and _is_numeric(args[0])
        result = args[0] if filled else func(*args, **kwargs)
        if rms is not None and _is_numeric(result):
            numbers = torch.view_as_real(result) if result.is_complex() else result
            if result.is_complex() and symmetric:  # both parts together
                rms /= math.sqrt(2)
            if symmetric:  # a constant matrix would have rank one
                numbers.bernoulli_(0.5, generator=self._signs).mul_(2 * rms).sub_(rms)
            else:
                numbers.fill_(rms)
        sources = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        if name in ("copy_", "fill_", "zero_"):
            sources = sources[1:]
        random = rms is not None or any(self.is_random(t) for t in sources)
        for t in tree_leaves(result):
            if isinstance(t, torch.Tensor):
                key = memory_of(t)
                self._alive.append(t)
                if random:
                    self._random.add(key)
                elif (
                    name in ("copy_", "fill_", "zero_")
                    and t.numel() == t.untyped_storage().nbytes() // t.element_size()
                ):
                    self._random.discard(key)
        return result


def _is_numeric(x: torch.Tensor) -> bool:
    return bool(x.is_floating_point() or x.is_complex())


def _rms(name: str, args: Any, kwargs: Mapping[str, Any]) -> tuple[float, bool] | None:
    """The root mean square of a random fill, and whether it is symmetric about zero; None for other operations."""

    def number(position: int, key: str, default: float) -> float:
        value = args[position] if len(args) > position else kwargs.get(key, default)
        return float(default if value is None else value)

    match name:
        case "normal_":
            mean = number(1, "mean", 0.0)
            return math.hypot(mean, number(2, "std", 1.0)), mean == 0
        case "uniform_":
            a, b = number(1, "from", 0.0), number(2, "to", 1.0)
            return math.sqrt((a * a + a * b + b * b) / 3), math.isclose(a, -b, rel_tol=1e-6)
        case "randn" | "randn_like":
            return 1.0, True
        case "rand" | "rand_like":
            return 3**-0.5, False
        case _:
            return None


def build_traced(build: Callable[[], Any]) -> tuple[Any, dict[str, Start], frozenset[str]]:
    """(what `build` returns, how each parameter of its module starts, the buffers that hold random numbers).

    Afterwards the random parameters are random again (standard deviation as measured), so that nothing is degenerate.
    """
    trace = InitTrace()
    with trace:
        built = build()
    module, inputs, _ = unpacked(built)
    starts = {}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            p = torch.view_as_real(parameter) if parameter.is_complex() else parameter
            if not p.is_floating_point():
                continue
            rms = _size(p) if p.numel() else 0.0
            random = trace.is_random(p)
            kind = "zeros" if rms == 0 else "normal" if random or _spread(p, rms) else "constant"
            starts[name] = Start(kind, rms, random and _leans(p))
            if random and rms:
                p.normal_(0.0, rms, generator=generator)
        for t in tree_leaves(inputs):  # made by the builder
            if isinstance(t, torch.Tensor) and t.is_floating_point() and trace.is_random(t):
                t.normal_(0.0, _size(t), generator=generator)
        random_buffers = set()
        for name, b in module.named_buffers():
            if trace.is_random(b) and b.is_floating_point() and b.numel():
                random_buffers.add(name)
                starts[name] = Start("normal", _size(b))
                b.normal_(0.0, starts[name].rms, generator=generator)
    return built, _really(starts, build), frozenset(random_buffers)


def _really(starts: dict[str, Start], build: Callable[[], Any]) -> dict[str, Start]:
    """The same; of what seems to lean, seen on numbers that are random (`2 * rand - 1` does not)."""
    if not any(start.mean for start in starts.values()):
        return starts
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = unpacked(build())[0]
    leaning = {name for name, p in module.named_parameters() if starts[name].mean and _leans(p.detach())}
    return {name: replace(start, mean=name in leaning) for name, start in starts.items()}


def _leans(x: torch.Tensor) -> bool:
    """Whether the mean of a matrix, of enough entries to tell, is five times what chance makes it."""
    x = torch.view_as_real(x) if x.is_complex() else x
    return x.dim() > 1 and x.numel() >= 64 and abs(float(x.mean())) * math.sqrt(x.numel()) > 5 * _size(x)


def _spread(x: torch.Tensor, rms: float) -> bool:
    """Whether a fixed matrix has next to no mean, such as the identity: it does not add up what is alike."""
    return x.dim() > 1 and 4 * abs(float(x.mean())) < rms


def _size(x: torch.Tensor) -> float:
    """The root mean square of the entries."""
    return float(torch.linalg.vector_norm(x, dtype=torch.float64)) / math.sqrt(x.numel())


def start_laws(laws: Laws, starts: list[dict[str, Start]]) -> dict[str, StartLaw]:
    """The law of every parameter's start over all points. Where they fit no power, the nearest trend is taken."""
    result = {}
    for name, first in starts[0].items():
        together = [s[name] for s in starts]
        if any(s.kind != first.kind for s in together) or first.kind == "zeros":
            kind = "zeros" if all(s.kind == "zeros" for s in together) else "normal"
            if kind == "zeros":
                result[name] = StartLaw("zeros", 0.0, None)
                continue
        numbers, mean = [s.rms for s in together], all(s.mean for s in together)
        law = laws.number(numbers)
        if law is not None:
            power = Power.of({s: e for s, e in law[1].exponents if s != BATCH_SYMBOL})
            result[name] = StartLaw(first.kind, law[0], power, mean=mean)
        else:
            power = laws.trend(numbers) or Power()
            result[name] = StartLaw(first.kind, numbers[0], power, False, laws.logarithmic(numbers), mean)
    return result

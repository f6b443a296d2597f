"""A builder at several sizes: where to build, one build with its inputs, and the recording of its run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from tensorprog.dims import BATCH_SYMBOL
from tensorprog.errors import TensorProgError
from tensorprog.torch.building import arguments, told, unpacked
from tensorprog.torch.capture import record
from tensorprog.torch.present import build_traced
from tensorprog.torch.recorder import MOST_BYTES
from tensorprog.torch.trace import TooLargeError, Trace

WIDTHS = (3, 5, 7, 10)
SMALLER = (2, 3, 4, 5)  # where those would take too much room: more sizes are alike by chance
SHORT = (torch.bfloat16, torch.float16)


class BuildError(TensorProgError):
    """The builder, or the module's forward pass, raised an exception."""


def symbols_of(build: Callable[..., Any]) -> tuple[str, ...]:
    """The builder's integers: its parameters without defaults."""
    try:
        parameters = inspect.signature(build).parameters.values()
    except (TypeError, ValueError):
        return ("n",)
    names = tuple(
        p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    )
    if not names or BATCH_SYMBOL in names:
        raise TensorProgError(
            "the builder takes no width" if not names else f"a width may not be called `{BATCH_SYMBOL}`",
            why="sizes are found by building the model at several widths",
            fix="`def build(n): ...` that returns a module",
        )
    return names


def points_of(symbols: tuple[str, ...], widths: Sequence[int] | Mapping[str, Sequence[int]]) -> list[dict[str, int]]:
    """Where to build: a base, every symbol varied alone, all together."""
    if len(symbols) == 1:
        values = list(widths[symbols[0]] if isinstance(widths, Mapping) else widths)
        if len(set(values)) < 4 or any(v < 2 for v in values):
            raise TensorProgError("at least four different widths above 1 are needed",
                                  why="two decide an exponent, a third a constant beside it, the fourth is the check",
                                  fix="--widths 3,5,7,10")  # fmt: skip
        return [{symbols[0]: v} for v in values]
    if isinstance(widths, Mapping):
        given = {s: list(widths[s]) for s in symbols}
    else:
        unit = widths[0] // WIDTHS[0] if widths[0] % WIDTHS[0] == 0 else 1
        given = {s: [unit * (2 * k + 3), unit * (4 * k + 8), unit * (6 * k + 13)] for k, s in enumerate(symbols)}
    base = {s: v[0] for s, v in given.items()}
    points = [base]
    for s in symbols:
        points += [{**base, s: v} for v in given[s][1:]]
    points.append({s: v[1] for s, v in given.items()})
    return points


def call(build: Callable[..., Any], point: Mapping[str, int]) -> Any:
    """What a builder returns at these sizes."""
    values = {s: v for s, v in point.items() if s != BATCH_SYMBOL}
    if len(values) == 1:
        (symbol,) = values
        parameter = inspect.signature(build).parameters.get(symbol)
        if parameter is None or parameter.kind != parameter.KEYWORD_ONLY:
            return build(next(iter(values.values())))
    return build(**values)


@dataclass(slots=True)
class Run:
    """One build and the arguments of its run."""

    module: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    loss: Any
    starts: Any
    random_buffers: frozenset[str]


def prepare(build: Callable[..., Any], inputs: Any, point: Mapping[str, int]) -> Run:
    """One build, with its inputs. Raises TensorProgError where there is no module or nothing to run it on."""
    where = ", ".join(f"{s}={v}" for s, v in point.items() if s != BATCH_SYMBOL)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with told(f"build({where}) failed", "widths that it accepts, such as --widths 64,128,192,320", BuildError):
            built, starts, buffers = build_traced(lambda: call(build, point))
        module, own, loss = unpacked(built)
        args, kwargs = arguments(module, inputs if own is None else own, lambda make: call(make, point))
    return Run(module, args, kwargs, loss, starts, buffers)


def prepare_all(build: Callable[..., Any], inputs: Any, points: Sequence[Mapping[str, int]]) -> list[Run]:
    """One build at every point. Raises TooLargeError before one that is too large, if its weights grow like squares."""
    runs: list[Run] = []
    held = size = 0.0
    for k, point in enumerate(points):
        expected = size * max(point[s] / points[k - 1][s] for s in point) ** 2
        if held + expected > MOST_BYTES:
            where = ", ".join(f"{s}={v}" for s, v in point.items())
            raise TooLargeError(f"the model at {where} would take about {expected / 2**30:.1f} GiB",
                                why="it is read at several widths, and kept at each of them",
                                fix="fewer layers, or smaller `widths`")  # fmt: skip
        runs.append(prepare(build, inputs, point))
        size = sum(t.numel() * t.element_size() for t in (*runs[-1].module.parameters(), *runs[-1].module.buffers()))
        held += size
    return runs


def recorded(run: Run, point: Mapping[str, int], verify: bool = True) -> Trace:
    """The operations of one run; `verify` as in `record`. Raises BuildError where the module does."""
    where = ", ".join(f"{s}={v}" for s, v in point.items())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        what = f"the module's forward pass failed at {where}"
        with told(what, "`inputs` that the module accepts, other `widths`", BuildError):
            return record(run.module, run.args, run.kwargs, run.loss, run.random_buffers, verify)


def _leaves(run: Run) -> list[torch.Tensor]:
    return [t for t in tree_leaves((run.args, run.kwargs)) if isinstance(t, torch.Tensor) and t.dim()]


def batches_of(runs: list[Run]) -> Iterator[tuple[int, int]]:
    """(axis, size) of what may be the batch: all inputs share it in front. At least 3, so that one less is not 1."""
    leaves = [t for run in runs for t in _leaves(run)]
    for axis in (0, 1):
        sizes = {t.shape[axis] if t.dim() > axis else 0 for t in leaves}
        if len(sizes) == 1 and (size := sizes.pop()):
            yield axis, max(size, 3)


def resized(run: Run, axis: int, size: int) -> Run:
    """The run with the first entries of its inputs along an axis, repeated where there are too few."""

    def cut(t: Any) -> Any:
        if not isinstance(t, torch.Tensor) or not t.dim():
            return t
        return t.index_select(axis, torch.arange(size, device=t.device) % t.shape[axis])

    return Run(run.module, tree_map(cut, run.args), tree_map(cut, run.kwargs), run.loss, run.starts, run.random_buffers)


def widened(run: Run) -> Run:
    """The run in float32, where its module is (in place) or its inputs are in a shorter type."""
    if all(p.dtype not in SHORT for p in run.module.parameters()):
        return run

    def wide(t: Any) -> Any:
        return t.float() if isinstance(t, torch.Tensor) and t.dtype in SHORT else t

    run.module._apply(wide)
    return replace(run, args=tree_map(wide, run.args), kwargs=tree_map(wide, run.kwargs))

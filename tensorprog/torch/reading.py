"""A model as it is read: run at several sizes, zipped, and lowered to a graph."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from tensorprog.architecture import Architecture
from tensorprog.dims import BATCH_SYMBOL, Dim
from tensorprog.errors import TensorProgError
from tensorprog.functions import Function
from tensorprog.graph import Graph
from tensorprog.parameters import Init
from tensorprog.statements import Arch
from tensorprog.torch.laws import Laws
from tensorprog.torch.lower import Lowered, lower
from tensorprog.torch.positive import POSITIVE
from tensorprog.torch.present import StartLaw, start_laws
from tensorprog.torch.runs import (
    SMALLER,
    WIDTHS,
    BuildError,
    Run,
    batches_of,
    points_of,
    prepare_all,
    recorded,
    resized,
    symbols_of,
)
from tensorprog.torch.trace import TooLargeError
from tensorprog.torch.zipped import Zipped, zip_traces

MULTIPLES = (1, 8, 64)  # tried in turn, where a builder does not accept tiny sizes or rounds them


class ImportedArchitecture(Architecture):
    """The stages before the calculus, of a graph that was read from a model instead of a file."""

    def __init__(self, graph: Graph, file: str) -> None:
        super().__init__("", file)
        self.__dict__["graph"] = graph

    @cached_property
    def tree(self) -> Arch:
        return Arch(())

    @cached_property
    def functions(self) -> dict[str, Function]:
        return dict(POSITIVE)


@dataclass(frozen=True)
class Reading:
    """A model as read: `points` of the builder's symbols (the first is the base of all laws), the recorded runs as one
    (`zipped`), the graph (`lowered`), how parameters start (`starts`). `aliases`: parameter -> its other names."""

    build: Callable[..., Any]
    inputs: Any
    name: str
    points: tuple[Mapping[str, int], ...]
    zipped: Zipped
    lowered: Lowered
    starts: Mapping[str, StartLaw]
    aliases: Mapping[str, tuple[str, ...]]
    trained: Mapping[str, bool]
    shapes: tuple[Mapping[str, tuple[int, ...]], ...]
    run: Run = field(repr=False)

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.lowered.graph.widths

    @property
    def module(self) -> Any:
        """The module, as built at the first point."""
        return self.run.module

    def size_law(self, sizes: tuple[int, ...], what: str) -> Dim:
        """The law of a size, given at every build."""
        return self.zipped.dim(sizes + (sizes[0],) * (len(self.points) - len(sizes)), what, "")

    def arrays(self, point: int) -> dict[str, Any]:
        """The parameters of the graph as they were recorded at one point, without axes of size 1."""
        found = {}
        for leaf in self.zipped.traces[point].leaves.values():
            if leaf.kind == "param" and leaf.name in self.lowered.graph.parameters:
                array = as_reals(leaf.tensor)
                found[leaf.name] = array.reshape([s for s in array.shape if s != 1])
            elif leaf.kind == "param" and leaf.name in self.lowered.parts:
                array = as_reals(leaf.tensor)
                array = array.reshape([s for s in array.shape if s != 1])
                for part in self.lowered.parts[leaf.name]:
                    ends = [int(d.evaluate(self.points[point])) for d in (part.start, part.stop)]
                    cut = [slice(None)] * part.axis + [slice(*ends)]
                    found[part.name] = array[tuple(cut)]
        return found

    def rerun(self) -> list[Any]:
        """The outputs of the graph's kind, from the module itself at the first point."""
        trace = recorded(self.run, self.points[0], verify=False)
        values = [value for _, value in trace.outputs] or ([] if trace.loss is None else [trace.loss])
        return [trace.results[value].double().numpy() for value in values]

    @cached_property
    def architecture(self) -> ImportedArchitecture:
        return ImportedArchitecture(self.lowered.graph, self.name)


def as_reals(tensor: Any) -> Any:
    """As an array of float64; complex numbers as pairs, along a last axis."""
    tensor = tensor.detach()
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).double().numpy()


def read(
    build: Callable[..., Any],
    inputs: Any = None,
    widths: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    name: str | None = None,
) -> Reading:
    """A model, run at several widths and lowered to a graph (arguments as in `derive`)."""
    symbols = symbols_of(build)
    if widths is not None:
        return _read(build, inputs, points_of(symbols, widths), name)
    failure: TensorProgError | None = None
    for multiple in MULTIPLES:
        try:
            return _read(build, inputs, points_of(symbols, [multiple * w for w in WIDTHS]), name)
        except TooLargeError as error:
            if failure is None and len(symbols) == 1:
                with contextlib.suppress(TooLargeError, BuildError):
                    return _read(build, inputs, points_of(symbols, SMALLER), name)
            raise failure or error from None
        except BuildError as error:
            failure = failure or error
        except TensorProgError as error:
            if "follows no law" not in error.message and "no law" not in error.why:
                raise
            failure = error
    assert failure is not None
    raise failure


def _read(build: Callable[..., Any], inputs: Any, points: list[dict[str, int]], name: str | None) -> Reading:
    runs = prepare_all(build, inputs, points)
    zipped = None
    for axis, size in batches_of(runs):
        whole = [resized(run, axis, size) for run in runs]
        varied = [{**p, BATCH_SYMBOL: size} for p in points] + [{**points[0], BATCH_SYMBOL: size - 1}]
        try:
            traces = [recorded(r, p) for r, p in zip([*whole, resized(runs[0], axis, size - 1)], varied, strict=True)]
            zipped, runs = zip_traces(Laws(varied), traces), whole
            break
        except TooLargeError:
            raise
        except TensorProgError:  # no batch: the module needs that size
            continue
    if zipped is None:
        zipped = zip_traces(Laws(points), [recorded(run, point) for run, point in zip(runs, points, strict=True)])
    starts = start_laws(Laws(points), [run.starts for run in runs])
    module = runs[0].module
    aliases: dict[int, list[str]] = {}
    for alias, p in module.named_parameters(remove_duplicate=False):
        aliases.setdefault(id(p), []).append(alias)
    trained = {n: p.requires_grad for n, p in module.named_parameters()}
    inits = {n: Init(s.kind, s.coefficient if s.kind == "constant" else None) for n, s in starts.items()}
    frozen = frozenset(n for n, t in trained.items() if not t) | runs[0].random_buffers
    given = {n: starts[n].power for n in runs[0].random_buffers}
    label = name or type(module).__name__
    shapes = tuple({n: tuple(p.shape) for n, p in run.module.named_parameters()} for run in runs)
    lowered = lower(zipped, inits, frozen, given, label)
    _require_symmetric(starts, shapes)
    return Reading(build, inputs, label, tuple(zipped.laws.points), zipped, lowered, starts,
                   {names[0]: tuple(names[1:]) for names in aliases.values()}, trained,
                   shapes, runs[0])  # fmt: skip


def _require_symmetric(starts: Mapping[str, StartLaw], shapes: tuple[dict[str, tuple[int, ...]], ...]) -> None:
    """Raises TensorProgError for a matrix of two axes that grow, filled at random about a mean."""
    for name, start in starts.items():
        if start.mean and sum(len(set(sizes)) > 1 for sizes in zip(*(s[name] for s in shapes), strict=True)) > 1:
            raise TensorProgError(
                f"the random numbers that `{name}` starts at have a mean that is not zero",
                why="a mean adds up over an axis that grows, n^1/2 more than what is random, and a matrix is taken to "
                "be symmetric about zero at its start",
                fix="a start without a mean, such as `2 * torch.rand(...) - 1` for `torch.rand(...)`",
            )

"""Training a user's model at a ladder of widths, and the size of every tensor in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tensorprog.coordcheck.ladder import require_climb, require_runs
from tensorprog.errors import TensorProgError
from tensorprog.torch.building import Build, Built, construct, tensors, told
from tensorprog.torch.nodes import Node, recording, storage

Tensor = Any
Floats = npt.NDArray[np.float64]
Configure = Callable[[Built], Any]  # -> what has step() and zero_grad()
Progress = Callable[[int, int, int], None]  # done, total, seeds
MOST_ENTRIES = 8_000_000
TOP, FIRST = 1024, 8  # largest width of a default ladder; the first width that is tried for it


@dataclass(frozen=True, slots=True)
class Place:
    """What is measured: a parameter (by name), or a node. `kind`: parameter | value | scaled (a value that is only
    multiplied by a number: the product has a place of its own) | output (of the module)."""

    name: str
    kind: str
    node: Node | None = None


@dataclass(frozen=True)
class Sizes:
    """`rms` [place, 1 + steps, width, seed]: column 0 of the second axis is the initial value, column t the change
    since then after t updates; `ops`: all operations of the forward pass."""

    places: tuple[Place, ...]
    widths: tuple[int, ...]
    rms: Floats
    ops: tuple[str, ...]
    dtype: str  # of the parameters


def default_widths(build: Build, inputs: Any = None, loss: Any = None) -> tuple[int, ...]:
    """Four arguments of the builder, each twice the one before: the largest ladder whose networks have at most
    `MOST_ENTRIES` entries, judged by how their number grows (a builder may count in units of its own)."""
    top, count = FIRST, entries(construct(build, FIRST, inputs, loss))
    while top < TOP and 4 * count <= MOST_ENTRIES:
        top, count = 2 * top, entries(construct(build, 2 * top, inputs, loss))
    return (top // 8, top // 4, top // 2, top)


def entries(built: Built) -> int:
    return sum(p.numel() for p in built.module.parameters())


def train(
    build: Build,
    configure: Configure,
    *,
    widths: Sequence[int],
    seeds: int = 5,
    steps: int = 3,
    inputs: Any = None,
    loss: Any = None,
    progress: Progress | None = None,
) -> Sizes:
    """The sizes of all tensors, from `seeds` networks per width, each trained for `steps` updates on one batch.

    `configure(built)` makes the optimizer, and may change the network first. All random numbers come from the seed:
    the builder's, and those of the forward pass (dropout), which are the same at every step.
    Raises TensorProgError if the networks do not do the same operations at every width.
    """
    require_climb(widths)
    require_runs(seeds, steps)
    found: list[list[Floats]] = []
    first: tuple[tuple[Place, ...], tuple[str, ...]] | None = None
    cost, total = 0, seeds * sum(n * n for n in widths)
    dtype = torch.float32
    for n in widths:
        found.append([])
        for seed in range(seeds):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                built = construct(build, n, inputs, loss)
                places, ops, rms = _run(built, configure, steps, seed)
            dtype = next(built.module.parameters()).dtype
            first = first or (places, ops)
            _require_same(first, (places, ops), widths[0], n)
            found[-1].append(rms)
            cost += n * n
            if progress:
                progress(cost, total, seeds)
    assert first is not None
    rms = np.stack([np.stack(row, axis=-1) for row in found], axis=-2)
    return Sizes(first[0], tuple(widths), rms, first[1], str(dtype).removeprefix("torch."))


def _run(
    built: Built, configure: Configure, steps: int, seed: int
) -> tuple[tuple[Place, ...], tuple[str, ...], Floats]:
    """Places, operations, and rms [place, 1 + steps] of one network."""
    module = built.module.train()
    if not any(p.requires_grad for p in module.parameters()):
        raise TensorProgError("the module has no parameter that is trained", why="a check compares how tensors change",
                              fix="requires_grad = True for what is to be trained")  # fmt: skip
    if meta := next((name for name, p in module.named_parameters() if p.is_meta), None):
        raise TensorProgError(f"`{meta}` has no values: it is on the meta device", why="what is measured are numbers",
                              fix="a builder whose module lies in memory and is initialised")  # fmt: skip
    with told(f"making the optimizer fails at {built.n}", "a function of the parameters that returns an optimizer"):
        optimizer = configure(built)
    parameters = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    start = [p.detach().clone() for _, p in parameters]
    places = [Place(name, "parameter") for name, _ in parameters]
    columns = [[root_mean_square(value) for value in start]]
    values: list[Tensor] = []
    nodes: list[Node] = []
    ops: list[str] = []
    for t in range(steps + 1):
        column: list[float] = []
        seen: dict[int, int] = {}  # storage -> the last node that wrote it

        def take(node: Node, tensor: Tensor, first: bool = t == 0, column: Any = column, seen: Any = seen) -> None:
            seen[storage(tensor)] = len(column)
            if first:
                nodes.append(node)
                values.append(tensor.detach().clone())  # an operation in place may change it later
                column.append(root_mean_square(values[-1]))
            elif len(column) < len(values) and values[len(column)].shape == tensor.shape:
                column.append(root_mean_square(tensor.detach(), values[len(column)]))
            else:
                column.append(float("nan"))

        torch.manual_seed(seed)
        with torch.enable_grad(), recording(module, take) as recorder:
            outputs = built.outputs()
            recorder.begin_loss(own=built.criterion is None)
            loss = built.loss(outputs)
        if t == 0:
            returned = {seen.get(storage(x)) for x in tensors(outputs)}
            scaled = {node for node, reads in recorder.reads.items() if reads == {True}}
            kinds = ["output" if k in returned else "scaled" if node.ordinal in scaled else "value"
                     for k, node in enumerate(nodes)]  # fmt: skip
            places += [Place(node.name, kind, node) for kind, node in zip(kinds, nodes, strict=True)]
            ops = recorder.ops
            columns[0] += column
        else:
            if recorder.ops != ops:
                raise TensorProgError(f"step {t} does other operations than the first: "
                                      f"{_difference(ops, recorder.ops)}",
                                      why="tensors of different steps cannot be compared",
                                      fix="a forward pass without data-dependent control flow")  # fmt: skip
            moved = [root_mean_square(p.detach(), old) for (_, p), old in zip(parameters, start, strict=True)]
            columns.append(moved + column)
        if t < steps:
            module.zero_grad(set_to_none=True)
            with told(f"the backward pass fails at {built.n}", "functions of one's own whose backward works"):
                loss.backward()
            with told(f"the optimizer's step fails at {built.n}", "an optimizer whose step works on these parameters"):
                optimizer.step()
    return tuple(places), tuple(ops), np.array(columns).T


def _require_same(
    first: tuple[tuple[Place, ...], tuple[str, ...]], other: tuple[tuple[Place, ...], tuple[str, ...]], a: int, b: int
) -> None:
    if first == other:
        return
    names, others = ([p.name for p in places] for places, _ in (first, other))
    raise TensorProgError(
        f"the networks at {a} and {b} do not compute the same: "
        f"{_difference(names, others) or _difference(first[1], other[1])}",
        why="tensors are compared one by one across the widths",
        fix="let an axis grow (features, or the size of the heads), not the number of modules or of operations",
    )  # fmt: skip


def _difference(first: Sequence[str], other: Sequence[str]) -> str:
    """The first place at which two lists differ; empty if they do not."""
    for k, (a, b) in enumerate(zip_longest(first, other)):
        if a != b:
            return f"number {k} is `{a}` in one, `{b}` in the other"
    return ""


def root_mean_square(x: Tensor, start: Tensor | None = None) -> float:
    """Root mean square of x, or of x - start; entries that a mask has put at minus infinity do not count. Of complex
    numbers: of their real and imaginary parts."""
    if x.is_complex():
        x, start = (t if t is None else torch.view_as_real(t.detach().resolve_conj()) for t in (x, start))
    shown = (x if start is None else start) > torch.finfo(x.dtype).min
    difference = x.to(torch.float64) if start is None else x.to(torch.float64) - start.to(torch.float64)
    if not bool(shown.all()):
        difference = difference[shown]
    return float(difference.square().mean().sqrt()) if difference.numel() else 0.0

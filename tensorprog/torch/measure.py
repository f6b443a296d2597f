"""The sizes of a model's tensors in training, operation by operation: those that were recorded when it was read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from tensorprog.calculus.analysis import largest
from tensorprog.coordcheck.calibrate import STRENGTH, VANISHING
from tensorprog.coordcheck.probes import Probe
from tensorprog.errors import TensorProgError
from tensorprog.torch.apply import applied, apply
from tensorprog.torch.building import Built, construct
from tensorprog.torch.capture import Recorder
from tensorprog.torch.changes import OutputHook
from tensorprog.torch.hooks import MultiplyInput, MultiplyOutput
from tensorprog.torch.nodes import plain_kernels, storage
from tensorprog.torch.training import Floats, root_mean_square, torch_optimizer

if TYPE_CHECKING:
    from tensorprog.torch.model import ImportedDerivation

Tensor = Any
Rates = Callable[[str, Tensor], float]
PROBING = 1e-4  # the learning rate of the updates from which others are calibrated
VISIBLE = 1e-3  # a change of this relative size is no rounding error, and still linear
RELABELS = frozenset(
    "alias as_strided chunk clone contiguous detach diagonal expand flatten narrow permute reshape select slice split "
    "split_with_sizes squeeze t transpose unbind unflatten unfold unsafe_split unsqueeze view _to_copy "
    "_reshape_alias _unsafe_view".split()
)


@dataclass(frozen=True, slots=True)
class Spot:
    """A tensor that is measured: a result of a recorded operation, or a parameter (`place` is -1)."""

    probe: Probe
    module: str
    place: int
    output: int


def spots(p: ImportedDerivation) -> list[Spot]:
    """Every parameter, and every recorded result with numbers of its own: the first of those with the same."""
    graph = p.reading.lowered.graph
    nodes = {n.op.name: n.id for n in graph.nodes if hasattr(n.op, "name") and n.op.name in graph.parameters}
    found = [Spot(Probe(name, node, name), name, -1, 0) for name, node in nodes.items() if name in p.reading.trained]
    seen = set(nodes.values())
    counts: dict[str, int] = {}
    for site in p.reading.lowered.sites:
        if site.node in seen or site.op in RELABELS:
            continue
        seen.add(site.node)
        name = f"{site.module or '(top)'}: {site.op.strip('_')}"
        counts[name] = counts.get(name, 0) + 1
        number = f" #{counts[name]}" if counts[name] > 1 else ""
        found.append(Spot(Probe(name + number, site.node), site.module, site.place, site.output))
    return found


class Measuring(Recorder):
    """The recorder that read the model, showing `take(place, output, tensor)` every result as it is made. What hooks of
    ours do does not count: there were none when the model was read."""

    def __init__(self, module: Any, frozen: Any, take: Callable[[int, int, Tensor], None]) -> None:
        super().__init__(module, {}, frozen)
        self._take = take
        self.quiet = False
        self._held: dict[int, tuple[tuple[int, int, Any], ...]] = {}  # storage -> (place, output, shape) it has had

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        place = len(self.trace.operations)
        given = {storage(t) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if self.quiet:
            del self.trace.operations[place:]
        elif len(self.trace.operations) > place:
            for k, tensor in enumerate(result if isinstance(result, tuple | list) else (result,)):
                if isinstance(tensor, torch.Tensor):
                    self._take(place, k, tensor)
                    known = self._held.get(storage(tensor), ()) if storage(tensor) in given else ()
                    self._held[storage(tensor)] = (*known, (place, k, tensor.shape))
        return result

    def measured_again(self, before: Tensor, after: Tensor) -> None:
        """A result that a hook has multiplied counts as it is now, and so do its views."""
        for place, k, shape in self._held.get(storage(before), ()):
            if shape.numel() == after.numel():
                self._take(place, k, after.reshape(shape))


@dataclass(frozen=True, slots=True)
class _Quietly:
    """A hook, of whose operations the recorder takes no notice. `counts`: its factor belongs to the module's own
    result, which is then measured behind it."""

    hook: Any
    recorder: Measuring
    counts: bool

    def __call__(self, *args: Any) -> Any:
        self.recorder.quiet = True
        try:
            result = self.hook(*args)
            if self.counts and isinstance(result, torch.Tensor):
                self.recorder.measured_again(args[-1], result)
        finally:
            self.recorder.quiet = False
        return result


@contextmanager
def _quiet_hooks(module: Any, recorder: Measuring) -> Iterator[None]:
    record = applied(module)
    placed = record.multipliers if record else ()
    uses = {m.place.module for m in placed if m.change.kind == "use" and isinstance(m.place, OutputHook)}
    changed = []
    for path, part in module.named_modules():
        for hooks in (part._forward_hooks, part._forward_pre_hooks):
            for key, hook in hooks.items():
                if isinstance(hook, MultiplyOutput | MultiplyInput):
                    changed.append((hooks, key, hook, path in uses and isinstance(hook, MultiplyOutput)))
    try:
        for hooks, key, hook, counts in changed:
            hooks[key] = _Quietly(hook, recorder, counts)
        yield
    finally:
        for hooks, key, hook, _ in changed:
            hooks[key] = hook


@dataclass(frozen=True, slots=True)
class Trained:
    """A model that is trained and measured, at whatever width. `base`: where learning rates were tuned; `keep`: what
    is not changed; `unmodified`: nothing is."""

    p: ImportedDerivation
    spots: tuple[Spot, ...]
    base: Mapping[str, int]
    keep: tuple[str, ...] = ()
    unmodified: bool = False

    def sizes(self, rung: Mapping[str, int], seed: int, rate: float | Rates, steps: int) -> Floats:
        """Of one network: [spot, 1 + steps], the start, then the change after every update. `rate`: at the base."""
        with torch.random.fork_rng(devices=[]):
            built, optimizer = self._network(rung, seed, rate)
            parameters = dict(built.module.named_parameters())
            start = {k: parameters[s.probe.param].detach().clone() for k, s in enumerate(self.spots) if s.probe.param}
            result = np.full((len(self.spots), steps + 1), np.nan)
            for t in range(steps + 1):
                for k, spot in enumerate(self.spots):
                    if spot.probe.param is not None:
                        result[k, t] = root_mean_square(parameters[spot.probe.param].detach(), start[k] if t else None)

                def take(k: int, tensor: Tensor, t: int = t) -> None:
                    if t == 0:
                        start[k] = tensor.detach().clone()
                    result[k, t] = root_mean_square(tensor.detach(), start[k] if t else None)

                torch.manual_seed(seed)
                loss = self._forward(built, take)
                if t < steps:
                    built.module.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
        return result

    def rates(self, rung: Mapping[str, int]) -> Rates:
        """Parameter -> the base learning rate at which its first update alone changes the result of its use by the
        fraction `STRENGTH`, so that effects of second order show (see `coordcheck.calibrate`). A value that vanishes
        with width is to change by twice that, in absolute terms."""
        with torch.random.fork_rng(devices=[]):
            built, optimizer = self._network(rung, 0, PROBING)
            parameters = {name: w for name, w in built.module.named_parameters() if w.requires_grad}
            start = {name: w.detach().clone() for name, w in parameters.items()}
            before = self._values(built)
            torch.manual_seed(0)
            self._forward(built, lambda *_: None).backward()
            optimizer.step()
            steps = {name: w.detach() - start[name] for name, w in parameters.items()}
            _set(parameters, start)
            found = {name: self._rate(built, name, w, steps[name], before) for name, w in parameters.items()}
        known = {name: rate for name, rate in found.items() if rate}
        usual = float(np.median(list(known.values()))) if known else PROBING
        return lambda name, _: known.get(name, usual)

    def _rate(self, built: Built, name: str, w: Tensor, step: Tensor, before: Mapping[int, Tensor]) -> float:
        """The rate for one parameter, 0 if its step does not show. `step`: with the rate PROBING."""
        start, times = w.detach().clone(), 1.0
        uses = self._uses(name)
        for _ in range(6):
            _set({name: w}, {name: start + times * step})
            after = self._values(built)
            _set({name: w}, {name: start})
            effect = max((root_mean_square(after[k], before[k]) / self._size(k, before[k]) for k in uses), default=0.0)
            if effect >= VISIBLE:
                break
            times *= 10
        return PROBING * times * STRENGTH / effect if effect else 0.0

    def _values(self, built: Built) -> dict[int, Tensor]:
        """Everything that is measured, without an update."""
        found: dict[int, Tensor] = {}
        torch.manual_seed(0)
        self._forward(built, lambda k, tensor: found.update({k: tensor.detach().clone()}))
        return found

    def _uses(self, name: str) -> set[int]:
        """The spots of the results that the uses of a parameter make: the first that are measured from there on."""
        lowered = self.p.reading.lowered
        places = [place for unknown, (_, place) in lowered.multipliers.items()
                  if lowered.graph.unknowns[unknown].param == name]  # fmt: skip
        return {
            next((k for k, s in enumerate(self.spots) if s.place >= place), len(self.spots) - 1) for place in places
        }

    def _size(self, k: int, value: Tensor) -> float:
        solution = self.p.derivation.solution
        size, degree = root_mean_square(value), largest(solution.snapshot.initial[self.spots[k].probe.node])
        vanishes = degree is None or solution.solver.units.degree(degree) < 0
        return VANISHING if vanishes or not size else size

    def _network(self, rung: Mapping[str, int], seed: int, rate: float | Rates) -> tuple[Built, Any]:
        """A network with the changes of `p`, and its optimizer."""
        from tensorprog.torch.runs import call

        reading = self.p.reading
        inputs = reading.inputs
        given = (lambda _: call(inputs, rung)) if callable(inputs) and not isinstance(inputs, torch.Tensor) else inputs
        torch.manual_seed(seed)
        built = construct(lambda _: call(reading.build, rung), seed, given)
        built.module.train()
        if self.unmodified:
            groups: Any = [{"params": [w], "lr": rate(name, w) if callable(rate) else rate}
                           for name, w in built.module.named_parameters() if w.requires_grad]  # fmt: skip
        else:
            groups = apply(self.p.changes, built.module, self.base, lr=rate, weight_decay=0.0, keep=self.keep)
        return built, torch_optimizer(self.p.derivation.optimizer, groups)

    def _forward(self, built: Built, take: Callable[[int, Tensor], None]) -> Tensor:
        """The loss. `take(spot, tensor)` sees every result that is measured. Raises TensorProgError if the model does
        other operations than when it was read."""
        reading = self.p.reading
        wanted = {(s.place, s.output): k for k, s in enumerate(self.spots) if s.probe.param is None}

        def taken(place: int, output: int, tensor: Tensor) -> None:
            k = wanted.get((place, output))
            if k is not None and tensor.is_floating_point() and tensor.numel():
                take(k, tensor)

        recorder = Measuring(built.module, frozenset(reading.starts) - frozenset(reading.trained), taken)
        with plain_kernels(), _quiet_hooks(built.module, recorder), recorder.watch(), recorder:
            outputs = built.outputs()
            loss = built.loss(outputs)
        ours = [(o.op, o.module) for o in recorder.trace.operations]
        read = [(c.op, c.module) for c in reading.zipped.calls]
        if ours[: len(read)] != read[: len(ours)]:
            k = next(k for k, (a, b) in enumerate(zip(ours, read, strict=False)) if a != b)
            raise TensorProgError(f"operation {k} is {ours[k]} here, {read[k]} where the model was read",
                                  why="tensors could not be told apart")  # fmt: skip
        return loss


def _set(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, w in parameters.items():
            w.copy_(values[name])

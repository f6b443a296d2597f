"""The sizes of a model's tensors in training, operation by operation: those that were recorded when it was read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tensorprog.coordcheck.probes import Probe
from tensorprog.errors import TensorProgError
from tensorprog.optimizers import OPTIMIZERS, Size
from tensorprog.torch.alignment import Alignment, Named, align
from tensorprog.torch.building import Built, construct
from tensorprog.torch.kernels import plain_kernels
from tensorprog.torch.measuring import Measuring, Take, quiet_hooks
from tensorprog.torch.optimizers import torch_optimizer
from tensorprog.torch.state import same_state
from tensorprog.torch.training import Floats, root_mean_square
from tensorprog.torch.verified import require_same

if TYPE_CHECKING:
    from tensorprog.torch.model import ImportedDerivation

Tensor = Any
Rates = Callable[[str, Tensor], float]
TINY = 1e-20  # an epsilon beside gradients: predictions are about those above it, which narrow networks may not have
RELABELS = frozenset(
    "alias as_strided chunk clone contiguous detach diagonal expand flatten narrow permute reshape select slice split "
    "split_with_sizes squeeze t transpose unbind unflatten unfold unsafe_split unsqueeze view _to_copy "
    "_reshape_alias _unsafe_view _assemble".split()
)  # and what was written into parts of a tensor, which may be unknown elsewhere: the parts are measured


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


@dataclass(frozen=True, slots=True)
class Trained:
    """A model that is trained and measured, at whatever width. `base`: where learning rates were tuned; `keep`: what
    is not changed; `unmodified`: nothing is."""

    p: ImportedDerivation
    spots: tuple[Spot, ...]
    base: Mapping[str, int]
    keep: tuple[str, ...] = ()
    unmodified: bool = False
    alignment: Alignment | None = None

    def aligned(self, rung: Mapping[str, int]) -> Trained:
        """The same, which knows what the changed model does; without the spots that it does not have."""
        with torch.random.fork_rng(devices=[]):
            ours = self._run(self.network(rung, 0, 0.0)[0], lambda *_: None)[1]
        found = align(ours, [(c.op, c.module) for c in self.p.reading.zipped.calls])
        known = {-1, *found.place.values()}
        return replace(self, spots=tuple(s for s in self.spots if s.place in known), alignment=found)

    def sizes(self, rung: Mapping[str, int], seed: int, rate: float | Rates, steps: int) -> Floats:
        """Of one network: [spot, 1 + steps, 2], the start, then the change after every update; and, of products, how
        large independent terms would make it, over its size. `rate`: at the base."""
        with torch.random.fork_rng(devices=[]):
            built, optimizer = self.network(rung, seed, rate)
            parameters = dict(built.module.named_parameters())
            start: dict[int, Tensor] = {}
            result = np.full((len(self.spots), steps + 1, 2), np.nan)
            started: dict[int, tuple[Tensor, ...]] = {}
            for t in range(steps + 1):
                for k, spot in enumerate(self.spots):
                    if spot.probe.param is not None:
                        result[k, t, 0] = root_mean_square(
                            parameters[spot.probe.param].detach(), start[k] if t else None
                        )

                def take(k: int, tensor: Tensor, t: int = t) -> None:
                    if t == 0:
                        start[k] = tensor.detach().clone()
                    result[k, t, 0] = root_mean_square(tensor.detach(), start[k] if t else None)

                if seed == 0 and t in (0, steps):
                    self._require_same(built)
                torch.manual_seed(seed)
                loss, terms = self.forward(built, take, started)
                if t == 0:  # after a pass, which may write into parameters (`w.data *= mask`)
                    start.update({k: parameters[s.probe.param].detach().clone()
                              for k, s in enumerate(self.spots) if s.probe.param is not None})  # fmt: skip
                for k, over in terms.items():
                    result[k, t, 1] = over
                if t < steps:
                    built.module.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
        return result

    def _require_same(self, built: Built) -> None:
        """Raises TensorProgError if what is trained is not what the module as it stands computes, where it chooses."""
        if self.p.reading.zipped.first.routed:

            def run() -> list[tuple[str, Any]]:
                torch.manual_seed(0)
                return [("loss", built.loss(built.outputs()))]

            require_same(built.module, run, self._frozen)

    @property
    def _frozen(self) -> frozenset[str]:
        """The buffers that count as parameters."""
        return frozenset(self.p.reading.starts) - frozenset(self.p.reading.trained)

    def network(self, rung: Mapping[str, int], seed: int, rate: float | Rates) -> tuple[Built, Any]:
        """A network with the changes of `p`, and its optimizer."""
        from tensorprog.torch.runs import call

        reading = self.p.reading
        inputs = reading.inputs
        given = (lambda _: call(inputs, rung)) if callable(inputs) and not isinstance(inputs, torch.Tensor) else inputs
        torch.manual_seed(seed)
        built = construct(lambda _: call(reading.build, rung), seed, given)
        built.module.train()
        known = {**OPTIMIZERS, **{c.optimizer: c.row for c in self.p.changes.parameters}}
        rates = rate if callable(rate) else lambda *_: rate  # one number serves several optimizers, too
        if self.unmodified:
            tiny = {"eps": TINY} if "eps" in dict(known[self.p.derivation.optimizer].defaults) else {}
            groups: Any = [{"params": [w], "lr": rates(name, w), **tiny}
                           for name, w in built.module.named_parameters() if w.requires_grad]  # fmt: skip
        else:
            used = {c.row.eps for c in self.p.changes.parameters}
            eps = TINY if used <= {None, Size(gradient=1)} else None  # Shampoo's is of use: it hides rounding
            groups = self.p.apply(built.module, self.base, rates, 0.0, eps, keep=self.keep)
        return built, torch_optimizer(self.p.derivation.optimizer, groups, known=known)

    def forward(
        self, built: Built, take: Callable[[int, Tensor], None], started: dict[int, tuple[Tensor, ...]] | None = None
    ) -> tuple[Tensor, dict[int, float]]:
        """The loss; and spot -> how large independent terms would make a product, over its size: at the start, which
        fills `started`, or of its change since. `take(spot, tensor)` sees every result that is measured. Raises
        TensorProgError if the model does other operations than it did at the lowest rung."""
        known = self.alignment
        assert known is not None
        wanted = {(s.place, s.output): k for k, s in enumerate(self.spots) if s.probe.param is None}

        def taken(place: int, output: int, tensor: Tensor) -> None:
            k = wanted.get((known.place.get(place, -1), output))
            if k is not None and (tensor.is_floating_point() or tensor.is_complex()) and tensor.numel():
                take(k, tensor)

        loss, ours, found = self._run(built, taken, started)
        spots = {place: (known.place.get(place, -1), 0) for place in found}
        terms = {wanted[spots[place]]: over for place, over in found.items() if spots[place] in wanted}
        if ours != known.operations:
            k = next((k for k, (a, b) in enumerate(zip(ours, known.operations, strict=False)) if a != b), -1)
            raise TensorProgError(f"operation {k} is {ours[k]} here, {known.operations[k]} in another network",
                                  why="tensors could not be told apart",
                                  fix="a forward pass without control flow that depends on the data")  # fmt: skip
        return loss, terms

    def _run(
        self, built: Built, taken: Take, started: dict[int, tuple[Tensor, ...]] | None = None
    ) -> tuple[Tensor, tuple[Named, ...], dict[int, float]]:
        """The loss, all operations, and what is noted of products."""
        reading = self.p.reading
        recorder = Measuring(built.module, self._frozen, taken)
        recorder.started = started
        with (
            plain_kernels(built.module),
            same_state(built.module),
            quiet_hooks(built.module, recorder),
            recorder.watch(),
            recorder,
        ):
            outputs = built.outputs()
            count = len(recorder.trace.operations)
            loss = built.loss(outputs)
        operations = recorder.trace.operations[: count if reading.zipped.first.loss is None else None]
        return loss, tuple((o.op, o.module) for o in operations), recorder.terms

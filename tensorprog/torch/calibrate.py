"""Base learning rates at which every update of a user's model shows: see `tensorprog.coordcheck.calibrate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tensorprog.calculus.analysis import largest
from tensorprog.coordcheck.calibrate import VANISHING, rates_by_stage, stages_of
from tensorprog.torch.predicted import Predicted
from tensorprog.torch.training import root_mean_square

if TYPE_CHECKING:
    from tensorprog.torch.building import Built
    from tensorprog.torch.measure import Rates, Trained

Tensor = Any
PROBING = 1e-4  # the learning rate of the updates from which others are calibrated
VISIBLE = 1e-3  # a change of this relative size is no rounding error, and still linear


def base_rates(trained: Trained, rung: Mapping[str, int]) -> Rates:
    """Parameter -> the base learning rate at which its first update alone shows, to second order too, as in
    `rates_by_stage`; what stands behind a gate that starts smaller by a power of the width waits for the gate."""
    p = trained.p
    whole = {part.name: name for name, ranges in p.reading.lowered.parts.items() for part in ranges}
    stages = [{whole.get(name, name) for name in ready} for ready in stages_of(p.derivation, factors=True)]
    calibration = _Calibration(trained, rung, Predicted(p, len(stages)))
    known = rates_by_stage(stages, calibration.effects)
    usual = float(np.median(list(known.values()))) if known else PROBING
    return lambda name, _: known.get(name, usual)


class _Calibration:
    """The networks at one size."""

    def __init__(self, trained: Trained, rung: Mapping[str, int], predicted: Predicted) -> None:
        self.trained, self.rung, self.predicted = trained, rung, predicted

    def effects(self, stage: int, known: Mapping[str, float]) -> dict[str, float]:
        """Parameter without a known rate -> the relative change that its update makes to the value of its use, at the
        rate 1, after `stage` steps at the known rates of others (0 elsewhere)."""
        with torch.random.fork_rng(devices=[]):
            built, optimizer = self.trained.network(self.rung, 0, PROBING)
            if stage:
                built.module.load_state_dict(self._after(known, stage))
            parameters = {name: w for name, w in built.module.named_parameters() if w.requires_grad}
            start = {name: w.detach().clone() for name, w in parameters.items()}
            before = self._values(built)
            torch.manual_seed(0)
            self.trained.forward(built, lambda *_: None)[0].backward()
            optimizer.step()
            steps = {name: w.detach() - start[name] for name, w in parameters.items()}
            _set(parameters, start)
            return {name: self._effect(built, name, w, steps[name], before, stage)
                    for name, w in sorted(parameters.items()) if name not in known}  # fmt: skip

    def _after(self, known: Mapping[str, float], steps: int) -> dict[str, Tensor]:
        """The state of the network after some steps."""
        built, optimizer = self.trained.network(self.rung, 0, lambda name, _: known.get(name, 0.0))
        for _ in range(steps):
            torch.manual_seed(0)
            loss, _ = self.trained.forward(built, lambda *_: None)
            built.module.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return {k: v.detach().clone() for k, v in built.module.state_dict().items()}

    def _effect(
        self, built: Built, name: str, w: Tensor, step: Tensor, before: Mapping[int, Tensor], stage: int
    ) -> float:
        """What one parameter's step does, 0 if it does not show. `step`: with the rate PROBING."""
        if not step.any():
            return 0.0
        start, times = w.detach().clone(), 1.0
        uses = self._uses(name)
        for _ in range(6):
            _set({name: w}, {name: start + times * step})
            after = self._values(built)
            _set({name: w}, {name: start})
            effect = max((root_mean_square(after[k], before[k]) / self._size(k, before[k], stage) for k in uses),
                         default=0.0)  # fmt: skip
            if effect >= VISIBLE:
                break
            times *= 10
        return effect / (PROBING * times)

    def _values(self, built: Built) -> dict[int, Tensor]:
        """Everything that is measured, without an update."""
        found: dict[int, Tensor] = {}
        torch.manual_seed(0)
        self.trained.forward(built, lambda k, tensor: found.update({k: tensor.detach().clone()}))
        return found

    def _uses(self, name: str) -> set[int]:
        """The spots of the results that the uses of a parameter make: the first that are measured from there on."""
        lowered, spots = self.trained.p.reading.lowered, self.trained.spots
        places = [place for unknown, (_, place) in lowered.multipliers.items()
                  if lowered.graph.unknowns[unknown].param == name]  # fmt: skip
        return {next((k for k, s in enumerate(spots) if s.place >= place), len(spots) - 1) for place in places}

    def _size(self, k: int, value: Tensor, stage: int) -> float:
        """What a change of the result `k` is compared with: its size; where that is zero, or smaller than its change by
        a power of the width (logits), the size VANISHING, less where the change vanishes with width, too."""
        solution, probe = self.trained.p.derivation.solution, self.trained.spots[k].probe
        size, units = root_mean_square(value), solution.solver.units
        change, before = (self.predicted.at(probe, step).exponent for step in (stage + 1, stage))
        sizes = [largest(solution.snapshot.initial[probe.node]), units.pack_power(before) if stage and before else None]
        now = max((s for s in sizes if s is not None), default=None)
        if size and now is not None and (change is None or change.degree <= units.unpack(now).degree):
            return size
        if change is None:
            return VANISHING
        return float(VANISHING * min(1.0, change.ratio(self.rung, dict.fromkeys(self.rung, 1))))


def _set(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, w in parameters.items():
            w.copy_(values[name])

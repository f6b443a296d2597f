"""What a prediction shows: the form of every size that matters.

Of forms that are equally large at the point the earliest is kept, which is the simplest: later steps add products of
many updates, of the same size wherever nothing exceeds Theta(1), but of quite another size elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tensorprog.calculus.affine import Form
from tensorprog.calculus.analysis import largest
from tensorprog.calculus.uses import Occurrence
from tensorprog.programme.trajectory import Trainer
from tensorprog.programme.unknowns import constraining

EARLY = 2  # steps after which forms are only looked at once more, at the end


class Seen:
    """Sizes along one prediction of a trainer. `watched`: of (node, "start" or "change"); `updates`: of a parameter's
    own update; `starts`: of a use's value for the initial W, with parameter and node; `scales`: of what a multiplier
    makes, with the node; `changes`: of the change of a node, at every step."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.watched: dict[tuple[int, str], int] = {}
        self.updates: dict[str, int] = {}
        self.starts: dict[str, tuple[int, str, int]] = {}
        self.scales: dict[str, tuple[int, int]] = {}
        self.changes: dict[int, list[int]] = {}

    def early(self, step: int) -> None:
        """To be called after every step."""
        for k in self.trainer.watched:
            size = largest(self.trainer.change[k])
            if size is not None:
                self.changes.setdefault(k, []).append(size)
        if step <= EARLY:
            self.tensors()
            self.aims()

    def tensors(self, hidden: Collection[int] = (), *, changes: bool = True) -> None:
        """What must be at most Theta(1), but for `hidden` nodes."""
        for k in self.trainer.watched:
            if k in hidden:
                continue
            for part, terms in (("start", self.trainer.initial[k]), ("change", self.trainer.change[k])):
                size = largest(terms) if changes or part == "start" else None
                if size is not None and size > self.watched.get((k, part), size - 1):
                    self.watched[k, part] = size

    def growing(self) -> Iterator[tuple[int, Form]]:
        """Nodes whose change grows by the same form with every few steps, and that form. Going once more through the
        same products adds it once more, at all exponents: it must be at most 0, or some step exceeds Theta(1)."""
        for k, sizes in self.changes.items():
            for period in range(1, (len(sizes) + 1) // 2):
                a, b, c = (size if isinstance(size, Form) else Form(size) for size in sizes[-1::-period][:3])
                if a > b and a.key != b.key and (a - b, a.key - b.key) == (b - c, b.key - c.key):
                    yield k, a - b
                    break

    def aims(self) -> None:
        """What is to be as large as possible."""
        trainer = self.trainer
        for name in trainer.program.updates:
            size = trainer.contribution(name)
            if size is not None and size > self.updates.get(name, size - 1):
                self.updates[name] = size
        for name in trainer.uses_of:
            own = constraining(trainer, name)
            for occurrence in trainer.uses_by_param(name):
                size = self._start(occurrence) if occurrence.use in own else None
                if size is not None and size > self.starts.get(occurrence.use, (size - 1,))[0]:
                    self.starts[occurrence.use] = size, name, occurrence.node
        for k, name in trainer.multiplier_at.items():
            size = largest(trainer.initial[k] + trainer.change[k])
            if size is not None and size > self.scales.get(name, (size - 1,))[0]:
                self.scales[name] = size, k

    def _start(self, occurrence: Occurrence) -> int | None:
        """The size of a use's value for the initial W alone, over all that it meets."""
        trainer, name = self.trainer, occurrence.param
        gain = trainer.starting(occurrence)
        if gain is None:
            return None
        gain = gain - trainer.exponents.A[name] + trainer.exponents.M[occurrence.use]
        return gain if occurrence.multiplier is None else gain - trainer.exponents.M[occurrence.multiplier]

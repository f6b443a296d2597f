"""The lines of a module that follow each other: what could become a block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from tensorprog.torch.emit_tp.plan import Plan


@dataclass(frozen=True)
class Region:
    """Consecutive lines of one module and of those inside it."""

    plan: Plan
    path: str
    lines: tuple[int, ...]

    @cached_property
    def items(self) -> tuple[int | Region, ...]:
        """The module's own lines, and the regions of its children, in order."""
        found: list[int | Region] = []
        run: list[int] = []
        child = ""
        for line in (*self.lines, None):
            below = "" if line is None else self._child(line)
            if run and below != child:
                found.append(Region(self.plan, child, tuple(run)))
                run = []
            child = below
            if line is not None:
                (run if child else found).append(line)
        return tuple(found)

    def _child(self, line: int) -> str:
        """The path of the child that a line belongs to, "" if it is the module's own."""
        owner = self.plan.owners[line]
        if owner == self.path:
            return ""
        start = len(self.path) + 1 if self.path else 0
        end = owner.find(".", start)
        return owner if end < 0 else owner[:end]

    @cached_property
    def core(self) -> Region:
        """The innermost module that has these same lines."""
        (*others, last) = self.items
        return last.core if isinstance(last, Region) and not others else self

    @cached_property
    def output(self) -> int | None:
        """The only line that is read outside; None if there are several."""
        found = [line for line in self.lines if self._is_read_outside(line)]
        return found[0] if len(found) == 1 else None

    def _is_read_outside(self, line: int) -> bool:
        return line in self.plan.results or not self.plan.readers[line] <= set(self.lines)

    @cached_property
    def own(self) -> frozenset[str]:
        """The parameters that nothing else reads."""
        lines = set(self.lines)
        read = {str(what) for line in self.lines for kind, what in self.plan.reads[line] if kind == "param"}
        return frozenset(p for p in read if self.plan.parameter_readers[p] <= lines)

    @property
    def module(self) -> str:
        """The class of the module."""
        return self.plan.classes.get(self.path) or self.path.rpartition(".")[2]

    def regions(self) -> Iterator[Region]:
        """All regions inside, the inner ones first."""
        for item in self.items:
            if isinstance(item, Region):
                yield from item.regions()
                yield item


def whole(plan: Plan) -> Region:
    """All lines, as the region of the model itself."""
    return Region(plan, "", plan.lines)

"""The state of a builder, to come back to: a loop's body is built until it is known what it carries."""

from __future__ import annotations

from dataclasses import dataclass

from tensorprog.elaborate.builder import Builder
from tensorprog.parameters import Unknown


@dataclass(slots=True)
class Mark:
    """The state of a builder and its context, to try a loop body again."""

    builder: Builder
    lengths: tuple[int, ...]
    copies: tuple[dict[str, int], dict[int, int], dict[tuple[int, int], int], set[str]]
    reads: tuple[int, ...]
    unknowns: dict[str, Unknown]
    stated: set[str]
    outer: Mark | None

    @staticmethod
    def of(builder: Builder) -> Mark:
        lists = (builder.values, builder.steps, builder.params, builder.uses, builder.dims)
        return Mark(
            builder,
            tuple(len(entries) for entries in lists),
            (dict(builder.names), dict(builder.captured), dict(builder.sliced), set(builder.instances)),
            tuple(param.reads for param in builder.params),
            dict(builder.context.unknowns),
            set(builder.context.stated),
            None if builder.parent is None else Mark.of(builder.parent),
        )

    def restore(self) -> None:
        """The builder and its context as they were."""
        b = self.builder
        for entries, length in zip((b.values, b.steps, b.params, b.uses, b.dims), self.lengths, strict=True):
            del entries[length:]  # type: ignore[attr-defined]
        b.names, b.captured, b.sliced, b.instances = (
            dict(self.copies[0]),
            dict(self.copies[1]),
            dict(self.copies[2]),
            set(self.copies[3]),
        )
        for param, reads in zip(b.params, self.reads, strict=True):
            param.reads = reads
        b.context.unknowns, b.context.stated = dict(self.unknowns), set(self.stated)
        if self.outer is not None:
            self.outer.restore()

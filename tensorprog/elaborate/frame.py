"""Where an expression stands: the scope, and the indices on the left of its statement."""

from __future__ import annotations

from dataclasses import dataclass

from tensorprog.dims import Dim
from tensorprog.elaborate.builder import BATCH_INDEX, Builder, Operand
from tensorprog.elaborate.scope import Scope
from tensorprog.errors import ShapeError
from tensorprog.syntax import Span

# Index names that no user writes: `..2` (axes under an ellipsis, counted from the right), `%0` (axes of tensors
# written without indices), `#3` (looked-up axes).
ELLIPSIS, BARE, LOOKUP = "..", "%", "#"


@dataclass(frozen=True, slots=True)
class Frame:
    """`left`: the index names on the left, in order, with ".." for an ellipsis; None in a statement without
    indices, where whole tensors are combined axis by axis and nothing is summed."""

    scope: Scope
    left: tuple[str, ...] | None

    @property
    def builder(self) -> Builder:
        return self.scope.builder

    def keeps(self, index: str, span: Span) -> bool:
        """Whether an index is never summed here, whatever the product needs."""
        if index.startswith(ELLIPSIS):
            if self.left is not None and ELLIPSIS not in self.left:
                raise ShapeError("`..` stands on the right, but not on the left", span, fix="`..` on the left too",
                                 why="these axes have no names, so they cannot be summed")  # fmt: skip
            return True
        return self.left is None or index == BATCH_INDEX or index.startswith(BARE)

    def ordered(self, indices: list[str]) -> tuple[str, ...]:
        """The indices in canonical order: batch, those on the left in the order of the left, then as they come."""
        left = self.left or ()
        ellipsis = left.index(ELLIPSIS) if ELLIPSIS in left else -1
        position = {name: k for k, name in enumerate(left)}

        def key(item: tuple[int, str]) -> tuple[int, int]:
            seen, name = item
            if name == BATCH_INDEX:
                return (-1, 0)
            if name.startswith(ELLIPSIS) and ellipsis >= 0:
                return (ellipsis, -int(name[len(ELLIPSIS) :]))
            return (position.get(name, len(left) + seen), 0)

        return tuple(name for _, name in sorted(enumerate(dict.fromkeys(indices)), key=key))


def sizes(frame: Frame, operands: list[Operand], span: Span) -> dict[str, Dim]:
    """The size of every index of these operands; an error where two disagree."""
    found: dict[str, Dim] = {}
    for operand in operands:
        for index, axis in zip(operand.indices, frame.builder.values[operand.value].axes, strict=True):
            known = found.setdefault(index, axis.dim)
            if not frame.builder.agree(known, axis.dim):
                raise ShapeError(
                    f"axes of sizes {known} and {axis.dim} meet here",
                    span,
                    why="tensors combined axis by axis have the same sizes",
                    fix="tensors of one shape; indices say which axes belong together: `h[i] = x[i] + y[i]`",
                )
    return found

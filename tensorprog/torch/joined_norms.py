"""A norm over an axis that is put together of tensors of different orders of size."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from tensorprog.dims import ONE, Dim
from tensorprog.graph import Add, Axis, Const, Contract, Fold, InvRms, Map, Scalar, Scale
from tensorprog.torch.cuts import Cuts

HALF = Fraction(1, 2)
TINY = 1e-30  # keeps the root mean square of a piece that is exactly zero from being 0/0


def inverse_rms(cuts: Cuts, op: InvRms, pieces: Sequence[int], axis: int, whole: Dim, kept: tuple[Axis, ...]) -> int:
    """The node of `op` over the `pieces` side by side along `axis`, `whole` long together; its axes are `kept`.

    It is that of the pieces' own root mean squares, each times the root of its share of the entries.
    """
    rank, count = len(kept), len(pieces)
    every, wide = tuple(range(rank)), Axis(Dim.of(count))
    one = cuts.emit(Const(1.0), (), (Axis(ONE),))
    roots = []
    for k, piece in enumerate(pieces):
        axes = cuts.nodes[piece].axes
        left = tuple(j for j in range(len(axes)) if j not in op.axes)
        squares = cuts.emit(Map("square"), (piece,), axes)
        total = cuts.emit(Contract(tuple(range(len(axes))), None, left), (squares,), kept)
        inverse = cuts.emit(InvRms(op.axes, TINY), (piece,), kept)
        root = cuts.emit(Contract(every, every, every), (total, inverse), kept)
        powers = [(axes[j].dim, Fraction(-1)) for j in op.axes] + [(axes[axis].dim, HALF), (whole, -HALF)]
        root = cuts.emit(Scale(Scalar(powers=tuple(powers))), (root,), kept)
        thin = cuts.emit(Contract(every, (rank,), (*every, rank)), (root, one), (*kept, Axis(ONE)))
        roots.append(cuts.emit(Fold(rank, offset=Dim.of(k)), (thin,), (*kept, wide)))
    together = cuts.emit(Add(((*every, rank),) * count), tuple(roots), (*kept, wide))
    mean = cuts.emit(InvRms((rank,), op.eps / count), (together,), kept)
    return cuts.emit(Scale(Scalar(powers=((wide.dim, -HALF),))), (mean,), kept)

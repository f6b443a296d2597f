"""Ladders of depth: networks of several depths and one width, held against the exponents of the symbolic depth.

A tensor of a layer, `layers.*.h`, is measured as the root mean square over all layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import numpy.typing as npt

from tensorprog.architecture import Architecture
from tensorprog.coordcheck.calibrate import base_rates
from tensorprog.coordcheck.copies import copies
from tensorprog.coordcheck.ladder import Ladder, require_climb
from tensorprog.coordcheck.natural import with_natural_multipliers
from tensorprog.coordcheck.probes import Probe
from tensorprog.derivation import Derivation
from tensorprog.errors import TensorProgError
from tensorprog.graph import Param

Sizes = npt.NDArray[np.float64]

DEFAULT_WIDTH = 64


def depth_ladder(derivation: Derivation, depths: Sequence[int], widths: Sequence[int] | None) -> Ladder:
    """Every depth symbol takes each of `depths` in turn; all widths are one. Raises TensorProgError for several
    widths, and where the depth is no symbol."""
    if not derivation.architecture.rolled:
        file = derivation.architecture.file
        if derivation.note:
            raise TensorProgError(f"there are no exponents of the depth in {file}", why=derivation.note,
                                  fix="--widths 64,128,256,512 without --depths")  # fmt: skip
        raise TensorProgError(f"{file} has no symbolic depth", fix="`depth L` and `repeat L { .. }`, without --depth",
                              why="exponents of the depth are those of a loop that is not unrolled")  # fmt: skip
    if widths is not None and len(widths) != 1:
        raise TensorProgError("either the widths or the depths vary, not both", fix="--widths 64 --depths 4,8,16,32",
                              why="one ladder is measured at a time")  # fmt: skip
    require_climb(depths, "depths", "4,8,16,32")
    width = widths[0] if widths else DEFAULT_WIDTH
    symbols = tuple(symbol for symbol in derivation.symbols if symbol not in derivation.widths)
    return Ladder.of(symbols, depths, dict.fromkeys(derivation.widths, width))


def base_sizes(ladder: Ladder) -> dict[str, int]:
    """The base sizes of a ladder of depths: its width, and a quarter of its first depth, so that what vanishes with
    depth is small on all of it."""
    return {symbol: max(1, size // 4) if symbol in ladder.axis else size for symbol, size in ladder.rungs[0].items()}


@dataclass(frozen=True, slots=True)
class Rung:
    """The network at one depth, what is measured of it, and how the symbolic network calls that."""

    derivation: Derivation
    probes: tuple[Probe, ...]
    names: tuple[str, ...]
    rates: float | Mapping[str, float]


def networks(
    derivation: Derivation,
    places: Sequence[Probe],
    ladder: Ladder,
    base: Mapping[str, int],
    batch: int,
    lr: float | None,
) -> Callable[[Mapping[str, int]], Rung]:
    """What makes the network of any depth, with learning rates calibrated at the first of a ladder (unless `lr` is
    given)."""
    known = derivation.architecture

    def at(sizes: Mapping[str, int]) -> Architecture:
        flat = known.unrolled({symbol: sizes[symbol] for symbol in ladder.axis})
        exponents = derivation.lifted(flat.graph, derivation.parametrization).unknowns
        return with_natural_multipliers(flat, exponents)

    first = derivation.unrolled({symbol: ladder.rungs[0][symbol] for symbol in ladder.axis})
    first = replace(first, architecture=at(ladder.rungs[0]))
    rates: dict[str, list[float]] = {}
    if lr is None:
        for name, rate in base_rates(first, ladder.rungs[0], base, batch=batch).items():
            rates.setdefault(derivation.rolled_name(name), []).append(rate)

    def network(sizes: Mapping[str, int]) -> Rung:
        flat = replace(first, architecture=at(sizes))
        copied = copies(known.graph, flat.architecture.graph, sizes)
        kept = [(probe, copy) for probe in places for copy in copied.get(probe.node, ())]
        each = {name: median(rates[derivation.rolled_name(name)]) for name in flat.architecture.program.updates
                if lr is None}  # fmt: skip
        return Rung(flat, tuple(_copy(probe, flat, copy) for probe, copy in kept), tuple(p.name for p, _ in kept),
                    lr or each)  # fmt: skip

    return network


def _copy(probe: Probe, flat: Derivation, node: int) -> Probe:
    """The probe of a copy of what `probe` measures."""
    op = flat.architecture.graph.nodes[node].op
    return replace(probe, node=node, param=op.name if isinstance(op, Param) else None)


def over_layers(rung: Rung, measured: Sizes, wanted: Sequence[Probe]) -> Sizes:
    """The sizes [probe of the symbolic network, step], from those [probe, step] of one network: root mean squares
    over the layers; nan where there is none."""
    position = {probe.name: k for k, probe in enumerate(wanted)}
    total, layers = np.zeros((len(wanted), measured.shape[1])), np.zeros(len(wanted))
    for row, name in zip(measured, rung.names, strict=True):
        if name in position:
            total[position[name]] += row**2
            layers[position[name]] += 1
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(total / layers[:, None]))

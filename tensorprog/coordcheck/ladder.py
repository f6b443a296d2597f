"""The ladder: at which sizes networks are trained, and which of their symbols a slope is an exponent of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tensorprog.errors import TensorProgError
from tensorprog.exponents import Power

FAR = 16  # so many times smaller is a width that grows more slowly than another


@dataclass(frozen=True, slots=True)
class Ladder:
    """`rungs`: one network size each, symbol -> size (widths, and depths where they vary). `axis`: the symbols that
    climb together, by one and the same factor from rung to rung; all others stay."""

    rungs: tuple[Mapping[str, int], ...]
    axis: tuple[str, ...]

    @staticmethod
    def of(symbols: Sequence[str], sizes: Sequence[int], fixed: Mapping[str, int] | None = None) -> Ladder:
        """All `symbols` take each of `sizes` in turn. Raises TensorProgError unless there are two, increasing."""
        require_climb(sizes)
        return Ladder(tuple({**(fixed or {}), **dict.fromkeys(symbols, size)} for size in sizes), tuple(symbols))

    @staticmethod
    def ordered(order: Sequence[str], climbs: str, sizes: Sequence[int], fixed: Mapping[str, int]) -> Ladder:
        """One of several widths in a declared order (the slowest first) climbs, in the limit where the faster ones have
        grown before it: those are held far above the top of the ladder, and the slower ones far below its foot."""
        place = order.index(climbs)
        held = {w: max(1, sizes[0] // FAR ** (place - k)) for k, w in enumerate(order[:place])}
        held |= {w: sizes[-1] * FAR ** (k + 1) for k, w in enumerate(order[place + 1 :])}
        return Ladder.of((climbs,), sizes, {**fixed, **held})

    @property
    def held(self) -> dict[str, int]:
        """The symbols that stay, and their sizes."""
        return {symbol: size for symbol, size in self.rungs[0].items() if symbol not in self.axis}

    @property
    def sizes(self) -> tuple[int, ...]:
        """The size of the climbing symbols at every rung."""
        return tuple(rung[self.axis[0]] for rung in self.rungs)

    @property
    def points(self) -> npt.NDArray[np.float64]:
        """`sizes` as numbers to fit against."""
        return np.array(self.sizes, dtype=np.float64)

    def exponent(self, power: Power) -> Fraction:
        """Of the climbing symbols together: what a slope along this ladder is to be compared with."""
        return sum((power[symbol] for symbol in self.axis), Fraction(0))

    def lowest(self, rungs: int) -> Ladder:
        """The ladder up to that many rungs."""
        return Ladder(self.rungs[:rungs], self.axis)

    def further(self) -> Ladder:
        """The ladder without its lowest rung, and with one more, by the same factor as the last."""
        top, below = self.rungs[-1], self.rungs[-2]
        more = {s: size * size // below[s] if s in self.axis else size for s, size in top.items()}
        return Ladder((*self.rungs[1:], more), self.axis)


def require_climb(sizes: Sequence[int], what: str = "widths", example: str = "64,128,256,512") -> None:
    """Raises TensorProgError unless there are two or more sizes, increasing."""
    if len(sizes) < 2 or any(a >= b for a, b in pairwise(sizes)) or sizes[0] < 1:
        raise TensorProgError(
            f"the {what} must be at least two, increasing", fix=f"--{what} {example}", why="a slope needs two of them"
        )


def require_runs(seeds: int, steps: int, max_seeds: int | None = None) -> None:
    """Raises TensorProgError unless there are networks to train: `seeds` of each size, then up to `max_seeds`."""
    if seeds < 1 or steps < 1:
        raise TensorProgError(
            "seeds and steps must be at least 1", fix="--seeds 5 --steps 3", why="nothing else can be measured"
        )
    if max_seeds is not None and max_seeds < seeds:
        raise TensorProgError(f"{seeds} seeds to begin with are more than the {max_seeds} allowed at most",
                              fix=f"--seeds {max_seeds}, or --max-seeds {seeds}",
                              why="seeds are only added")  # fmt: skip

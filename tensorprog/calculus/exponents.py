"""The unknowns of a parametrization, and the sizes of all tensors that they lead to."""

from __future__ import annotations

from dataclasses import dataclass

from tensorprog.calculus.terms import Terms


@dataclass(slots=True)
class Exponents:
    """The unknowns, packed: W ~ n^-A at initialisation, lr ~ n^-C (gauge a = 0), multipliers n^M."""

    A: dict[str, int]
    C: dict[str, int]
    M: dict[str, int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The terms of every node: of its initial value and of its change, at one step."""

    initial: tuple[Terms, ...]
    change: tuple[Terms, ...]

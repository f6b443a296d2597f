"""Which terms others include is the same, asked one by one and by sets."""

from __future__ import annotations

from random import Random

import pytest

from tensorprog.calculus.grades import CENTRED, Grade, Parity
from tensorprog.calculus.inclusion import Candidate, _of_few, _of_many


def parity(random: Random) -> Parity:
    odd, free = random.getrandbits(2), random.choice((0, 0, random.getrandbits(2), -1))
    return odd & ~free, free, free & random.getrandbits(2) if random.random() < 0.3 else 0


def candidates(seed: int, axes: int) -> list[Candidate]:
    random = Random(seed)

    def grade() -> Grade:
        return parity(random), parity(random), random.randrange(4) | random.choice((0, 0, CENTRED))

    made = [(random.randrange(4), random.choice((0, 0, 0, 8)), tuple(grade() for _ in range(axes)), place)
            for place in range(60)]  # fmt: skip
    return sorted(made, reverse=True)


@pytest.mark.parametrize("axes", [0, 1, 2])
def test_one_by_one_and_by_sets_the_same_are_left(axes: int) -> None:
    included = by_a_later_one = 0
    for seed in range(4):
        ordered = candidates(seed, axes)
        left = _of_few(ordered)
        assert left == _of_many(ordered)
        included += len(ordered) - len(left)
        by_a_later_one += sum(c not in left and c in _of_few(ordered[: k + 1]) for k, c in enumerate(ordered))
    assert included and (by_a_later_one or not axes)

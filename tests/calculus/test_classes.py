"""The classes of networks that disagree are told from a campaign's line alone."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.agreement.campaign import campaign_program
from benchmarks.agreement.classes import classified


def line(number: int, tensor: str, predicted: str, reason: str = "grows more slowly") -> dict[str, Any]:
    """A network under Muon of which one row disagrees, at the first step."""
    row = {"tensor": tensor, "kind": "value", "step": 1, "predicted": predicted, "verdict": "disagrees"}
    return {"number": number, "optimizer": "muon", "wrong": [], "source": campaign_program(number),
            "rows": [{**row, "reason": reason}]}  # fmt: skip


@pytest.mark.parametrize(
    ("tensor", "predicted", "reason", "name"),
    [
        ("[z0]", "1", "grows more slowly", "not lifted by Muon, and predicted to be"),
        ("[z0]", "1/2", "grows more slowly", "sums over coordinates alone"),
        ("x2", "0", "grows more slowly", "something else"),
        ("[z0]", "1", "grows faster", "grows faster than predicted"),
        ("[z0]", "zero", "should be exactly zero", "something is exactly zero, or predicted to be"),
    ],
)
def test_a_network_is_in_the_first_class_that_fits(tensor: str, predicted: str, reason: str, name: str) -> None:
    """Of network 95312 the mean of z0 moves by 1 if what is n^-1/2 of z0's gradient is lifted, by n^-1/2 if not."""
    found = classified([line(95312, tensor, predicted, reason)])
    assert [kind for kind, lines in found.items() if lines] == [name]

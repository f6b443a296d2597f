"""The example script: a wider network learns better at the learning rate that was chosen for the narrow one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
SCRIPT = Path(__file__).parents[2] / "examples" / "train_gpt.py"


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_both_losses_fall_and_the_wider_one_is_not_worse(optimizer: str) -> None:
    options = ["--steps", "60", "--widths", "64", "128", "--optimizer", optimizer]
    result = subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])},
    )
    assert result.returncode == 0, result.stderr
    rows = re.findall(r"^(\d+) +(\d+\.\d+) +(\d+\.\d+)$", result.stdout, re.MULTILINE)
    assert [int(step) for step, _, _ in rows] == [20, 40, 60]
    for narrow, wide in ((float(a), float(b)) for _, a, b in rows):
        assert wide < narrow + 0.05
    (_, narrow_first, wide_first), (_, narrow_last, wide_last) = rows[0], rows[-1]
    assert float(narrow_last) < float(narrow_first) - 0.3
    assert float(wide_last) < float(wide_first) - 0.3
    assert float(wide_last) < float(narrow_last)

"""What every test shares: one thread per worker, reproducible hypothesis, the `torch` marker, golden files."""

from __future__ import annotations

import gc
import importlib.util
import os

# Before anything imports NumPy or PyTorch: the workers of pytest-xdist are the parallelism.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("quick", settings.get_profile("default"), max_examples=15)
settings.register_profile("thorough", settings.get_profile("default"), derandomize=False, max_examples=2000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files instead of comparing")


def pytest_configure(config: pytest.Config) -> None:
    """With `-n`: neighbouring tests run in one worker, which then finds in `tests.shared` what they have in common. The
    quick tier looks at fewer random examples; both look at the same ones every time."""
    quick = config.option.markexpr == "not slow"
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick" if quick else "default"))
    if getattr(config.option, "dist", "no") == "load":
        config.option.dist = "worksteal"


def pytest_collection_finish() -> None:
    """What was imported stays, and what tests share (`tests.shared`) grows: the garbage collector looks at what is
    young, and seldom at the rest, which took a tenth of the quick tests' time. (Not frozen: every derivation would
    count what is.)"""
    gc.collect()
    gc.set_threshold(10_000, 10, 50)


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be rewritten."""
    return bool(request.config.getoption("--update-golden"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `torch` where PyTorch is not installed."""
    if importlib.util.find_spec("torch") is not None:
        return
    skip = pytest.mark.skip(reason="PyTorch is not installed")
    for item in items:
        if item.get_closest_marker("torch"):
            item.add_marker(skip)

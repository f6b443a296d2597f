"""How a check uses the machine."""

import numpy as np
import pytest

from tensorprog.coordcheck.machine import one_core_each


def test_matrix_products_keep_to_one_core_while_networks_are_trained_side_by_side() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    np.ones((2, 2)) @ np.ones((2, 2))

    def threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

    with threadpoolctl.threadpool_limits(2, "blas"):
        before = threads()
        with one_core_each(1):
            assert threads() == before
        with one_core_each(2):
            assert set(threads()) <= {1}
        assert threads() == before

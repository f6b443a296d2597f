"""How the networks that a check trains use the machine: its memory and its cores."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

try:
    from threadpoolctl import threadpool_limits
except ImportError:  # scikit-learn brings it
    threadpool_limits = None

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of mallopt(3)
_MMAP_LARGEST, _TRIM_LARGEST = 1 << 25, 1 << 26  # what the library arrives at by itself, once it has seen large arrays
_NEVER = 1 << 30


@contextmanager
def kept_memory() -> Iterator[None]:
    """Freed memory stays with the process until the end, for the arrays of the next step.

    Arrays of megabytes come and go with every step. By default the GNU C library gives each back to the system and gets
    the next one page by page: up to a third of the time of a check. Elsewhere this does nothing.
    """
    libc: Any = None
    with suppress(OSError, TypeError):  # the latter on Windows
        libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(_MMAP_THRESHOLD, _MMAP_LARGEST)
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        libc.mallopt(_TRIM_THRESHOLD, _TRIM_LARGEST)


def one_core_each(networks: int) -> AbstractContextManager[object]:
    """While several networks are trained at a time, the matrix products of each keep to one core: more threads inside
    of each would wait for one another (a check takes half as long again). Without threadpoolctl this does nothing."""
    return threadpool_limits(1, "blas") if networks > 1 and threadpool_limits else nullcontext()

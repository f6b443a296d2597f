"""Jobs in several processes. A worker ends when the process that started it does, however that ended."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Self

from tensorprog.errors import TensorProgError
from tensorprog.hptransfer.data import Data
from tensorprog.hptransfer.plan import Job
from tensorprog.hptransfer.train import Outcome, train


class Workers:
    """`count` processes (1: none but this one), each with the data. The outcomes do not depend on the number."""

    def __init__(self, data: Data, count: int) -> None:
        self._data, self._count = data, count
        self._workers: dict[Connection, BaseProcess] = {}

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        """Every job with its outcome, in the order in which they finish. Raises TensorProgError if a process dies."""
        if self._count == 1:
            for job in jobs:
                yield job, train(job, self._data)
            return
        waiting = list(reversed(jobs))
        busy: dict[Connection, Job] = {}
        for line in self._lines(min(self._count, len(jobs))):
            busy[line] = waiting.pop()
            with _living():
                line.send(busy[line])
        while busy:
            ready = wait(list(busy))
            for line in (line for line in list(busy) if line in ready):
                with _living():
                    outcome: Outcome | Exception = line.recv()
                if isinstance(outcome, Exception):
                    raise outcome
                job = busy.pop(line)
                if waiting:
                    busy[line] = waiting.pop()
                    with _living():
                        line.send(busy[line])
                yield job, outcome

    def _lines(self, count: int) -> list[Connection]:
        context = get_context("spawn")  # a fork would copy PyTorch's threads in an unknown state
        while len(self._workers) < count:
            mine, other = context.Pipe()
            process = context.Process(target=_work, args=(other, self._data), daemon=True)
            process.start()
            other.close()  # so that a worker's end closes with the worker
            self._workers[mine] = process
        return list(self._workers)[:count]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for line, process in self._workers.items():
            process.terminate()
            process.join()
            line.close()


@contextmanager
def _living() -> Iterator[None]:
    """Raises TensorProgError if the process at the other end of a line is gone."""
    try:
        yield
    except (EOFError, OSError):
        raise TensorProgError("a training process died", why="most often: out of memory",
                              fix="fewer --jobs, smaller widths, or a smaller --batch") from None  # fmt: skip


def _work(line: Connection, data: Data) -> None:
    """Train what comes in until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is for the process that started us
    while True:
        try:
            job = line.recv()
        except EOFError:
            return
        try:
            outcome: Outcome | Exception = train(job, data)
        except Exception as error:
            outcome = error
        try:
            line.send(outcome)
        except OSError:
            return

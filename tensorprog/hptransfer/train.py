"""One run: the emitted program, trained on one thread in single precision."""

from __future__ import annotations

import inspect
import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tensorprog.arrays import Array
from tensorprog.errors import TensorProgError
from tensorprog.hptransfer.data import Data
from tensorprog.hptransfer.plan import Job
from tensorprog.initial import stream

try:
    import torch
except ImportError:
    raise TensorProgError("PyTorch is not installed", why="a transfer experiment trains the emitted program",
                          fix="pip install 'tensorprog[transfer]'") from None  # fmt: skip

MEASURED = 0.25  # the part of the run, at its end, over which the loss is averaged


@dataclass(frozen=True, slots=True)
class Outcome:
    """`loss`: the mean training loss over the last quarter of the steps, each on a batch not yet trained on in that
    step; None if it was not finite at some step (diverged). `initial`: the loss before the first step, infinite if it
    was not finite."""

    loss: float | None
    initial: float


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: sums in the same order wherever it runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _NotFinite(Exception):  # noqa: N818  (what happens, no error)
    """A loss is not finite: the step is not made."""


class Network:
    """The emitted network of a job with its optimizer; the swept quantity is set."""

    def __init__(self, job: Job) -> None:
        self.job = job
        names: dict[str, Any] = {"__name__": "emitted"}
        exec(compile(job.source, "<emitted>", "exec"), names)
        main = [value for value in names.values() if isinstance(value, type)][-1]
        _scale_tables(names, job)
        fixed = [symbol for symbol, _ in job.sizes if symbol not in inspect.signature(main).parameters]
        if fixed:
            raise ValueError(f"the emitted program has a fixed {fixed[0]}")
        with torch.random.fork_rng(devices=[]):  # the constructor draws initial weights
            self.model: Any = main(**dict(job.sizes))
        generator = torch.Generator().manual_seed(_seed(job))
        self.model.reset_parameters(generator=generator)
        self.optimizer = self._optimizer(names["HYPERPARAMETERS"])
        method = getattr(self.model, "loss", None) or self.model.training_loss
        self._loss, self._wanted = method, tuple(inspect.signature(method).parameters)

    def _optimizer(self, defaults: Mapping[str, Mapping[str, float]]) -> Any:
        job, main = self.job, next(iter(defaults))
        lr = job.value if job.sweep == "lr" else job.lr
        rates: Any = lr
        if lr is not None and len(defaults) > 1:  # the other optimizers' rates keep their ratio to the first's
            rates = {name: lr * values["lr"] / defaults[main]["lr"] for name, values in defaults.items()}
        decay = job.value if job.sweep == "weight_decay" else None
        optimizer = self.model.configure_optimizer(lr=rates, weight_decay=decay)
        if job.sweep == "momentum":
            for group in optimizer.param_groups:
                if "betas" in group:
                    group["betas"] = (job.value, group["betas"][1])
                elif "momentum" in group:
                    group["momentum"] = job.value
        return optimizer

    def loss(self, batch: Mapping[str, Array]) -> Any:
        known = {name: torch.from_numpy(array) for name, array in batch.items()}
        outputs = self.model(*(known[name] for name in self.job.inputs))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        known |= dict(zip(self.job.outputs, outputs, strict=True))
        return self._loss(*(_argument(name, known) for name in self._wanted))

    def step(self, batch: Mapping[str, Array]) -> float:
        """One training step; the loss before it, nan if a loss was not finite."""
        losses: list[float] = []

        def closure() -> Any:  # called twice by an optimizer that takes two gradients
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.loss(batch)
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise _NotFinite
            loss.backward()
            return loss

        try:
            self.optimizer.step(closure)
        except _NotFinite:
            return math.nan
        return losses[0]


def train(job: Job, data: Data) -> Outcome:
    """The job, from its seed: the same outcome in every process. One seed means the same batches at all sizes and
    for all values, and the same start for all values."""
    with one_thread():
        network = Network(job)
        rng = stream(job.seed, "batches")
        last = max(1, round(MEASURED * job.steps))
        losses: list[float] = []
        for _ in range(job.steps):
            losses.append(network.step(data.batch(rng, job.batch)))
            if not math.isfinite(losses[-1]):
                return Outcome(None, losses[0] if math.isfinite(losses[0]) else math.inf)
        return Outcome(sum(losses[-last:]) / last, losses[0])


def flops(job: Job, data: Data) -> float:
    """Floating point operations of the job: those of the matrix products and convolutions of one step, counted by
    PyTorch, times the number of steps."""
    from torch.utils.flop_counter import FlopCounterMode

    with one_thread():
        network, batch = Network(job), data.batch(stream(job.seed, "batches"), job.batch)
        with FlopCounterMode(display=False) as counter:
            network.step(batch)
        return float(counter.get_total_flops()) * job.steps


def _scale_tables(names: dict[str, Any], job: Job) -> None:
    """A swept initial scale or multiplier, times its value in the file."""
    kind, _, name = job.sweep.partition(":")
    if kind == "init":
        for rule in names["PARAMETERS"].values():
            start, size = rule["init"]
            if start in ("normal", "orthogonal"):
                rule["init"] = (start, size * job.value)
    elif kind == "multiplier":
        table = names["MULTIPLIERS"]
        for key, (size, exponents) in list(table.items()):
            if name in (key, key.rpartition(".")[2]):
                table[key] = (size * job.value, exponents)


def _seed(job: Job) -> int:
    """Of the initial weights: by seed and sizes, so that runs that differ in the swept value only start alike."""
    return job.seed * 2**32 + zlib.crc32(repr(job.sizes).encode())


def _argument(name: str, known: Mapping[str, Any]) -> Any:
    """The tensor for an argument, whose name has a number behind it where it would mean something in Python."""
    return known[name] if name in known else known[name.rpartition("_")[0]]

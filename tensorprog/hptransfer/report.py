"""The result of a transfer experiment: the runs, and what follows from them. Plots and tables are functions of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from html import escape
from typing import Any

from tensorprog.derivation import SCHEMA


@dataclass(frozen=True, slots=True)
class Record:
    """One finished run. `sizes`: symbol -> size. `value`: of the swept quantity. `loss`: at the end (None: diverged);
    `initial`: before the first step (None: not finite)."""

    parametrization: str
    sizes: Mapping[str, int]
    value: float
    seed: int
    loss: float | None
    initial: float | None


@dataclass(frozen=True, slots=True)
class Optimum:
    """The best value at one size. `status`: found | below | above (the best value tried is the first, or the last) |
    no minimum. `value` with its 95% interval, and the `loss` there (None unless found; no interval for one seed).
    `curvature`: of the fitted parabola, log2 loss = log2(`loss`) + curvature * octaves^2, octaves from the optimum.
    `tried`: how many values."""

    parametrization: str
    sizes: Mapping[str, int]
    status: str
    value: float | None
    low: float | None
    high: float | None
    loss: float | None
    curvature: float | None
    tried: int


@dataclass(frozen=True, slots=True)
class Drift:
    """How the optimum moves: octaves per doubling of the size, with a 95% interval. None where an optimum is missing.
    `verdict`: transfers | drifts | inconclusive. `at_largest`: the loss of the largest network with the best value of
    the smallest one (interpolated between values tried; None outside of them), and `best_at_largest` the least of all
    values tried there; both are means over the seeds of log2 loss, as a loss."""

    parametrization: str
    octaves: float | None
    low: float | None
    high: float | None
    verdict: str
    at_largest: float | None = None
    best_at_largest: float | None = None


@dataclass(frozen=True, slots=True)
class Wider:
    """Whether larger is better at a fixed value, over all values tried at two neighbouring sizes: how many comparisons
    were `better`, `alike` (within the error of the seeds) and `worse`. `worst`: (value, smaller size, larger size)
    where the loss rises most, if it does."""

    parametrization: str
    better: int
    alike: int
    worse: int
    worst: tuple[float, int, int] | None = None


@dataclass(frozen=True)
class TransferReport:
    """All runs, the optima, and their drift. `axis`: the symbols that climb together; `base`: the sizes at which all
    parametrizations are one; `flops`: of one run, by size."""

    file: str
    optimizer: str
    form: str
    sweep: str
    data: str
    data_id: str
    axis: tuple[str, ...]
    sizes: tuple[int, ...]
    base: Mapping[str, int]
    lr: float | None
    steps: int
    batch: int
    seeds: int
    tolerance: float
    versions: Mapping[str, str]
    records: tuple[Record, ...]
    optima: tuple[Optimum, ...]
    drifts: tuple[Drift, ...]
    wider: tuple[Wider, ...]
    flops: Mapping[int, float]

    @property
    def verdict(self) -> str:
        """Of the derived parametrization: transfers, drifts or inconclusive (of the first one, if it was not run)."""
        by_name = {drift.parametrization: drift.verdict for drift in self.drifts}
        return by_name.get("derived", self.drifts[0].verdict)

    @property
    def exit_code(self) -> int:
        """1 if the derived parametrization's optimum drifts, else 0."""
        return 1 if any(d.parametrization == "derived" and d.verdict == "drifts" for d in self.drifts) else 0

    @property
    def parametrizations(self) -> tuple[str, ...]:
        return tuple(drift.parametrization for drift in self.drifts)

    def size(self, sizes: Mapping[str, int]) -> int:
        """The one of `sizes` that climbs."""
        return sizes[self.axis[0]]

    def to_json(self) -> dict[str, Any]:
        """The machine-readable result (documented in docs/reference/json-schema.md)."""
        head: dict[str, Any] = {"schema": SCHEMA}
        for key, value in self.__dict__.items():
            rows = isinstance(value, tuple) and bool(value) and hasattr(value[0], "__dataclass_fields__")
            head[key] = [asdict(row) for row in value] if rows else value
        return {**head, "flops": {str(k): v for k, v in self.flops.items()}, "verdict": self.verdict}

    @staticmethod
    def from_json(result: Mapping[str, Any]) -> TransferReport:
        """The inverse of `to_json`. Raises KeyError or TypeError for anything else."""
        known = {field.name: _tuples(result[field.name]) for field in fields(TransferReport)}
        rows = {"records": Record, "optima": Optimum, "drifts": Drift, "wider": Wider}
        lists = {name: tuple(kind(**_tuples(row)) for row in known[name]) for name, kind in rows.items()}
        return TransferReport(**{**known, **lists, "flops": {int(k): v for k, v in known["flops"].items()}})

    def render(self, format: str = "table", *, color: bool = False) -> str:
        """As `table` or `json`."""
        if format == "json":
            return json.dumps(self.to_json(), indent=1) + "\n"
        from tensorprog.hptransfer.show import table

        return table(self, color=color)

    def __str__(self) -> str:
        return self.render()

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.render())}</pre>"


def _tuples(value: Any) -> Any:
    """Lists of JSON as tuples, one level deep in an object."""
    if isinstance(value, dict):
        return {key: _tuples(entry) for key, entry in value.items()}
    return tuple(value) if isinstance(value, list) else value

"""The coordinate check of a user's own PyTorch model: which of its tensors grow, vanish or stand still with width.

Nothing is derived here. A tensor that grows with the width blows up; one of order 1 whose change vanishes does not
learn. Parameters are shown, not judged: their entries may shrink in a good parametrization. Nor is a value that is only
multiplied by a number (attention scores before their scale): the product is judged.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tensorprog.coordcheck.runs import ROUNDING
from tensorprog.coordcheck.statistics import TOLERANCE, Slope, fit
from tensorprog.derivation import SCHEMA
from tensorprog.optimizers import OPTIMIZERS
from tensorprog.tables import align, counted
from tensorprog.torch.building import Build, Built
from tensorprog.torch.optimizers import torch_optimizer
from tensorprog.torch.training import Floats, Place, Progress, Sizes, default_widths, train

MOST_SHOWN = 12  # places, in a table that is not complete
WRONG = ("overflows", "grows", "vanishes", "stands still")
_RANK = {verdict: k for k, verdict in enumerate((*WRONG, "inconclusive", "negligible", "steady", "zero", "-"))}


@dataclass(frozen=True, slots=True)
class ModuleRow:
    """One tensor at one step: the exponent of its size (`part` init), or of its change since the start. `order`: the
    place in the forward pass (parameters come first)."""

    place: str
    kind: str
    order: int
    step: int
    part: str
    measured: float | None
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class ModuleReport:
    """All rows of a check of a module, and how it was run."""

    module: str
    optimizer: str
    lr: float | None
    widths: tuple[int, ...]
    seeds: int
    steps: int
    tolerance: float
    rows: tuple[ModuleRow, ...]

    @property
    def wrong(self) -> tuple[ModuleRow, ...]:
        """The worst row of every place at fault: what overflows or grows fastest first, then what shows earliest."""
        worst: dict[str, ModuleRow] = {}
        for row in self.rows:
            if row.verdict in WRONG and (row.place not in worst or _badness(row) < _badness(worst[row.place])):
                worst[row.place] = row
        return tuple(sorted(worst.values(), key=_badness))

    @property
    def first(self) -> tuple[ModuleRow, ...]:
        """For each way to be wrong, where it shows first: at the earliest step, earliest in the forward pass."""
        found: dict[str, ModuleRow] = {}
        for row in sorted(self.rows, key=lambda r: (r.step, r.order)):
            if row.verdict in WRONG:
                found.setdefault(row.verdict, row)
        return tuple(found[v] for v in WRONG if v in found)

    @property
    def exit_code(self) -> int:
        """1 if anything is wrong."""
        return 1 if self.wrong else 0

    def to_json(self) -> dict[str, Any]:
        head = {k: v for k, v in self.__dict__.items() if k != "rows"}
        return {"schema": SCHEMA, **head, "first": [asdict(row) for row in self.first],
                "rows": [asdict(row) for row in self.rows]}  # fmt: skip

    def render(self, format: str = "table", *, color: bool = False, every: bool = False) -> str:
        """As `table` (what is wrong; `every`: all rows, in the order of the forward pass) or `json`."""
        if format == "json":
            return json.dumps(self.to_json(), indent=1) + "\n"
        head = (f"{self.module}: {self.optimizer}, learning rate {self.lr:g} at every width; widths "
                if self.lr is not None else f"{self.module}: {self.optimizer}; widths ")  # fmt: skip
        runs = f"{counted(self.seeds, 'seed')}, {counted(self.steps, 'step')}"
        head += f"{', '.join(map(str, self.widths))}; {runs}, tolerance {self.tolerance}"
        wrong = self.wrong
        chosen = self.rows if every else wrong[:MOST_SHOWN]
        lines = [head, ""]
        if chosen:
            body = align([_cells(row) for row in chosen], ("tensor", "part", "exponent", "95% interval", "finding"))
            lines += [*(_colored(body, chosen) if color else body), ""]
        if len(wrong) > MOST_SHOWN and not every:
            lines.append(f"and {len(wrong) - MOST_SHOWN} more tensors (--all)")
        places = {row.place for row in self.rows}
        lines.append(f"{len(places)} tensors, {len(wrong)} of them wrong")
        lines += [f"first that {row.verdict}: {row.place} ({_when(row)})" for row in self.first]
        return "\n".join(lines) + "\n"

    def __str__(self) -> str:
        return self.render()


def _badness(row: ModuleRow) -> tuple[float, ...]:
    size = 0.0 if row.measured is None else round(abs(row.measured) / TOLERANCE)
    return _RANK[row.verdict], -size, row.step, row.order


def _when(row: ModuleRow) -> str:
    return "init" if row.part == "init" else f"change {row.step}"


def _cells(row: ModuleRow) -> tuple[str, ...]:
    interval = "-" if row.low is None or row.high is None else f"[{row.low:+.2f}, {row.high:+.2f}]"
    exponent = "-" if row.measured is None else f"n^{row.measured:+.2f}"
    return row.place, _when(row), exponent, interval, row.verdict


def _colored(lines: list[str], rows: Sequence[ModuleRow]) -> list[str]:
    for k, row in enumerate(rows):
        if row.verdict in WRONG:
            start = lines[k + 2].removesuffix(row.verdict)
            lines[k + 2] = f"{start}\x1b[31m{row.verdict}\x1b[0m"
    return lines


def check_module(
    build: Build,
    optimizer: str | Callable[[list[Any]], Any] = "adam",
    *,
    lr: float | None = None,
    widths: Sequence[int] | None = None,
    seeds: int = 5,
    steps: int = 3,
    inputs: Any = None,
    loss: Callable[[Any], Any] | None = None,
    name: str = "",
    progress: Progress | None = None,
) -> ModuleReport:
    """Train `build(n)` at several widths as it stands, and measure how every tensor in it scales with n.

    `build`, `inputs`, `loss`: see `tensorprog.torch.building.construct`. `optimizer`: a name, or a function from
    parameters to an optimizer; `lr` (default: the optimizer's own) is the same at every width. Raises TensorProgError
    if the model cannot be built or trained.

    Source: Yang et al. 2022 (Tensor Programs V, arXiv:2203.03466), appendix D.1: the coordinate check.
    """

    def configure(built: Built) -> Any:
        parameters = [p for p in built.module.parameters() if p.requires_grad]
        return torch_optimizer(optimizer, parameters, lr) if isinstance(optimizer, str) else optimizer(parameters)

    if lr is None and isinstance(optimizer, str) and optimizer in OPTIMIZERS:
        lr = dict(OPTIMIZERS[optimizer].defaults)["lr"]
    ladder = tuple(widths or default_widths(build, inputs, loss))
    sizes = train(build, configure, widths=ladder, seeds=seeds, steps=steps, inputs=inputs, loss=loss,
                  progress=progress)  # fmt: skip
    used = optimizer if isinstance(optimizer, str) else getattr(optimizer, "__name__", "custom")
    return ModuleReport(name or getattr(build, "__name__", "module"), used, lr, ladder, seeds, steps, TOLERANCE,
                        judge(sizes))  # fmt: skip


def judge(sizes: Sizes) -> tuple[ModuleRow, ...]:
    """All rows, in the order of the forward pass."""
    eps = float(np.finfo(sizes.dtype if sizes.dtype != "bfloat16" else "float16").eps)
    return tuple(
        row for k, place in enumerate(sizes.places) for row in _rows(k, place, sizes.rms[k], sizes.widths, eps)
    )


def _rows(order: int, place: Place, rms: Floats, widths: tuple[int, ...], eps: float) -> list[ModuleRow]:
    """The rows of one place, from rms [1 + steps, width, seed]."""
    found: list[ModuleRow] = []
    start: Slope | None = None
    for t, values in enumerate(rms):
        slope, verdict = _fitted(values, widths, ROUNDING * eps * float(np.nanmax(rms[0])) if t else 0.0)
        if slope is not None:
            start = slope if t == 0 else start
            verdict = _finding(place.kind, t, slope, start)
        measured, low, high = (None, None, None) if slope is None else (slope.value, slope.low, slope.high)
        found.append(ModuleRow(place.name, place.kind, order, t, "change" if t else "init",
                               _rounded(measured), _rounded(low), _rounded(high), verdict))  # fmt: skip
    return found


def _fitted(values: Floats, widths: tuple[int, ...], rounding: float) -> tuple[Slope | None, str]:
    if not np.isfinite(values).all():
        return None, "overflows"
    if values.max() <= rounding:
        return None, "zero"
    if not (values > 0).all():
        return None, "inconclusive"
    found = fit(np.array(widths, dtype=np.float64), values)
    return found.beyond or found.line, ""


def _finding(kind: str, step: int, slope: Slope, start: Slope | None) -> str:
    """What one exponent means. `start`: that of the initial value (None: it starts at zero)."""
    if kind in ("parameter", "scaled"):
        return "-"
    if slope.low > TOLERANCE:
        return "grows"
    if slope.high < -TOLERANCE:
        if not step:
            return "negligible"
        if kind == "output" or start is None:
            return "vanishes"
        return "negligible" if start.value < -TOLERANCE else "stands still"
    steady = slope.low >= -TOLERANCE and slope.high <= TOLERANCE
    return "steady" if steady else "inconclusive"


def _rounded(x: float | None) -> float | None:
    return None if x is None or not math.isfinite(x) else round(x, 4)

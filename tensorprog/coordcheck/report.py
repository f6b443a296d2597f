"""What a check ends in: one row per tensor, part and step, and how to show them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tensorprog.derivation import SCHEMA


@dataclass(frozen=True, slots=True)
class Row:
    """One tensor at one step. `predicted`: the exponent the derivation demands (None: exactly zero); `calculus`:
    the exponent the calculus predicts for the parametrization that was trained (the same, if it is the derived
    one), None without a verdict if it predicts nothing. `measured`, `low`, `high`: slope and 95% interval (None: the
    tensor is exactly zero). `rms`: what they rest on, root mean squares [width][seed] to 5 digits (None: not
    finite)."""

    tensor: str
    step: int
    part: str  # "init" | "change" | "gradient" | ...: see `probes.Probe.part`
    predicted: str | None
    measured: float | None
    low: float | None
    high: float | None
    verdict: str
    reason: str = ""
    calculus: str | None = None
    calculus_verdict: str = ""
    rms: tuple[tuple[float | None, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong first: the row furthest upstream that disagrees, and the exponent that repairs it by the calculus
    (of `param`, or of the multiplier `?name`): how `quantity` scales as trained, and how it should, all else left as it
    is. No `param`: no single exponent repairs it."""

    tensor: str
    part: str
    step: int
    param: str = ""
    quantity: str = ""
    trained: str = ""
    repaired: str = ""

    def __str__(self) -> str:
        where = f"`{self.tensor}` {when(self.part, self.step)}"
        if not self.param:
            return f"first at fault: {where}; no single exponent repairs it"
        return (f"first at fault: {self.quantity} of `{self.param}`, trained with {self.trained}; with {self.repaired} "
                f"the first tensor that disagrees, {where}, would be right")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Control:
    """The negative control: the learning rate of `param` scaling like `trained` instead of `derived`, from `times` its
    base rate. `caught`: the row of an activation that disagreed (`tensor`, its `measured` slope against `predicted`),
    on so many `seeds`."""

    param: str
    derived: str
    trained: str
    widths: tuple[int, ...]
    seeds: int
    times: int
    caught: bool
    tensor: str
    predicted: str | None
    measured: float | None

    def __str__(self) -> str:
        wrong = f"negative control, lr of `{self.param}` like {self.trained} instead of {self.derived}"
        if not self.caught:
            return f"{wrong}: NOT caught, so this check can be inconclusive at best"
        slope = "" if self.measured is None else f" ({self.measured:+.2f} against {self.predicted})"
        louder = "" if self.times == 1 else f", at {self.times} times its rate here (at which it does not show)"
        return f"{wrong}: caught at `{self.tensor}` change 1{slope}{louder}"


def when(part: str, step: int) -> str:
    """How a part at a step is called: an initial value needs no number."""
    return part if part.endswith("init") else f"{part} {step}"


@dataclass(frozen=True)
class CheckReport:
    """All rows of a check, and how it was run."""

    file: str
    optimizer: str
    parametrization: str
    backend: str
    widths: tuple[int, ...]
    seeds: int
    steps: int
    lr: float | None
    tolerance: float
    rows: tuple[Row, ...]
    left_out: tuple[str, ...] = ()  # tensors that the backend's program does not make
    control: Control | None = None
    uncontrolled: bool = False  # a control was asked for, but no exponent put wrong would show
    fault: Fault | None = None
    budget: float | None = None  # seconds; None: none was set
    axis: tuple[str, ...] = ()  # the symbols whose sizes `widths` are: of widths, or of depths
    unpredicted: str = ""  # why the calculus predicts nothing for the parametrization that was trained
    held: Mapping[str, int] = field(default_factory=dict)  # widths that stay, where only one of an order climbs

    @property
    def verdict(self) -> str:
        """disagrees if any row does; inconclusive if any is, or the negative control was not caught; else agrees."""
        found = {row.verdict for row in self.rows}
        if self.control is not None and not self.control.caught:
            found.add("inconclusive")
        return next((v for v in ("disagrees", "inconclusive") if v in found), "agrees")

    @property
    def exit_code(self) -> int:
        """0 when nothing disagrees, 1 when something does."""
        return 1 if self.verdict == "disagrees" else 0

    def count(self, verdict: str) -> int:
        return sum(row.verdict == verdict for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        head = {k: asdict(v) if isinstance(v, Control | Fault) else v for k, v in self.__dict__.items() if k != "rows"}
        return {"schema": SCHEMA, **head, "verdict": self.verdict, "rows": [asdict(row) for row in self.rows]}

    def render(self, format: str = "table", *, color: bool = False, every: bool = False) -> str:
        """As `table` (one line per tensor: its start and its worst step; `every`: all rows) or `json`."""
        if format == "json":
            text = json.dumps(self.to_json(), indent=1)
            return re.sub(r"\[\n[\s\d.e+,-]*\]", lambda m: " ".join(m[0].split()), text) + "\n"  # numbers on one line
        from tensorprog.coordcheck.show import table

        return table(self, color=color, every=every)

    def __str__(self) -> str:
        return self.render()

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(self.render())}</pre>"

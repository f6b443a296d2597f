"""What is wrong with a model as its author wrote it: every quantity that scales wrongly, by what it does.

The network is what it is, and one learning rate, weight decay and epsilon serve all parameters at every width. A
quantity is judged by a counterfactual: everything else is as derived, this alone is as it is now; what the calculus
then predicts says which tensor goes wrong first, and with which exponent. An epsilon above the gradients makes steps
smaller by their ratio; one below them does no harm.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from tensorprog.calculus.analysis import largest
from tensorprog.calculus.exponents import Exponents
from tensorprog.coordcheck.predict import Predictor
from tensorprog.derivation import SCHEMA
from tensorprog.exponents import Power
from tensorprog.tables import counted
from tensorprog.torch.changes import (
    UNIT,
    Absorb,
    Attribute,
    Changes,
    ConfigField,
    InputHook,
    MultiplierChange,
    OutputHook,
    ParameterChange,
)
from tensorprog.torch.groups import shifts
from tensorprog.torch.measure import Spot, spots
from tensorprog.torch.place_text import each_text

if TYPE_CHECKING:
    from tensorprog.torch.model import ImportedDerivation

STEPS = 3  # updates that are looked ahead


@dataclass(frozen=True, slots=True)
class Finding:
    """One quantity that scales wrongly. `what`: init | lr | multiplier | weight decay | eps; `where`: a parameter, or
    the multiplier's name. `now`, `needed`: its exponents. `effect`: grows | vanishes | "its part vanishes" (other
    parameters still move the tensor) | "its decay vanishes" (steps still move the parameter) | "follows no power";
    `exponent`: of the size of `tensor` (of what the decay takes per step), which is where it shows first, at `part`
    (init, or change at step `step`). `fix`: one line."""

    what: str
    where: str
    now: str
    needed: str
    effect: str
    exponent: str
    tensor: str
    part: str
    step: int
    fix: str

    @property
    def says(self) -> str:
        """Where it goes wrong, and how."""
        when = "at init" if self.part == "init" else f"after {self.step} update{'s' if self.step > 1 else ''}"
        size = f"n^{self.exponent}"
        match self.effect:
            case "grows":
                return f"{self.tensor} blows up {when}: {size}"
            case "vanishes":
                return f"{self.tensor} stands still {when}: {size}"
            case "follows no power":
                return f"{self.tensor} has no limit {when}, nor has what is made of it"
            case "its decay vanishes":
                return f"what the decay takes from it, and so from {self.tensor}, vanishes: {size} of it per step"
            case _:
                return f"what it contributes to {self.tensor} vanishes {when}: {size}"


@dataclass(frozen=True)
class LintReport:
    """All findings, worst first."""

    model: str
    optimizer: str
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """1 if anything is wrong."""
        return 1 if self.findings else 0

    @property
    def entries(self) -> tuple[tuple[str, Finding], ...]:
        """Findings that differ only in the number of a layer as one: (name with a star, the first of them); those of
        weight decay and epsilon also where they differ only in the parameter."""
        groups: dict[tuple[str, ...], list[Finding]] = {}
        for f in self.findings:
            where = "" if f.what in ("weight decay", "eps") else _any_layer(f.where)
            key = (f.what, where, f.now, f.needed, f.effect, f.exponent, f.part, _any_layer(f.fix))
            groups.setdefault(key, []).append(f)
        return tuple((_names([f.where for f in g]), g[0]) for g in groups.values())

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "model": self.model, "optimizer": self.optimizer,
                "findings": [asdict(f) for f in self.findings]}  # fmt: skip

    def render(self, format: str = "table", *, color: bool = False) -> str:
        """As `table` (findings that agree but for a layer's number share an entry) or `json`."""
        if format == "json":
            return json.dumps(self.to_json(), indent=1) + "\n"
        red, plain = ("\x1b[31m", "\x1b[0m") if color else ("", "")
        lines = []
        for name, f in self.entries:
            fix = f.fix if name == f.where else _any_layer(f.fix)
            lines += [f"{red}n^{f.exponent}{plain}  {name}: {_NAMES[f.what]} scales like {f.now}, must like {f.needed}",
                      f"    {f.says}", f"    fix: {fix}", ""]  # fmt: skip
        count = len(self.findings)
        what = counted(count, "finding") if count else "nothing is wrong"
        lines.append(f"{self.model}: {what}, under {self.optimizer} with one learning rate")
        return "\n".join(lines) + "\n"

    def __str__(self) -> str:
        return self.render()


def _names(names: Sequence[str]) -> str:
    """A name as it is, names of several layers with a star, of several parameters the first with their number."""
    kinds = list(dict.fromkeys(map(_any_layer, names))) if len(names) > 1 else list(names)
    more = f", {kinds[1]}" if len(kinds) == 2 else f" and {len(kinds) - 1} more" if len(kinds) > 2 else ""
    return kinds[0] + more


def _any_layer(text: str) -> str:
    return re.sub(r"(?<=[A-Za-z_])\.\d+(?=\.)", ".*", text)


_NAMES = {"init": "its initial spread", "lr": "its learning rate", "multiplier": "the factor",
          "weight decay": "weight decay", "eps": "epsilon"}  # fmt: skip


def lint(p: ImportedDerivation) -> LintReport:
    """What is wrong with the model that `p` was derived from, worst first: largest exponent, then earliest."""
    changes, places = p.changes, [spot for spot in spots(p) if spot.probe.param is None]
    derived = Predictor(p.derivation, p.derivation.parametrization, STEPS, p.derivation.solution.exponents)
    found: list[tuple[tuple[Any, ...], Finding]] = []
    for what, where, now, needed, exponents, fix in _quantities(p, changes):
        alone = Predictor(p.derivation, p.derivation.parametrization, STEPS, exponents)
        effect = _effect(places, derived, alone)
        if effect is None and what == "lr" and now.degree < needed.degree:
            effect = "its part vanishes", now.degree - needed.degree, 1, _used_at(p, places, where)
        if effect is None and what == "eps":
            effect = "its part vanishes", needed.degree, 1, _used_at(p, places, where)
        if effect is not None:
            kind, size, step, place = effect
            finding = Finding(what, where, str(now), str(needed), kind, str(size), places[place].probe.name,
                              "change" if step else "init", step, fix)  # fmt: skip
            found.append(((-abs(size), size < 0, what == "eps", step, place), finding))
    for c in changes.parameters:
        if c.measured and c.init_factor == UNIT:
            place = _used_at(p, places, c.name)
            finding = Finding("init", c.name, "a logarithm", str(UNIT), "follows no power", "0",
                              places[place].probe.name, "init", 0, _init_fix(c))  # fmt: skip
            found.append(((0, False, False, 0, place), finding))
        lost = _decay_size(c)
        if lost is not None and c.name in p.derivation.solution.exponents.A:
            place = _used_at(p, places, c.name)
            decay = c.needed.weight_decay or UNIT
            kind = "grows" if lost > 0 else "its decay vanishes"
            finding = Finding("weight decay", c.name, str(UNIT), str(decay), kind, str(lost), places[place].probe.name,
                              "change", 1, _group_fix("weight_decay", decay))  # fmt: skip
            found.append(((-abs(lost), lost < 0, False, 1, place), finding))
    found.sort(key=lambda pair: pair[0])
    return LintReport(p.reading.name, p.derivation.optimizer, tuple(finding for _, finding in found))


def _quantities(p: ImportedDerivation, changes: Changes) -> Iterator[tuple[str, str, Power, Power, Exponents, str]]:
    """(what, where, now, needed, all exponents as derived but this one as it is, fix) of what is not as it must be."""
    solver, right = p.derivation.solution.solver, p.derivation.solution.exponents
    pack = solver.units.pack_power
    for c in changes.parameters:
        if c.name not in right.A or c.refused:
            continue
        if c.init_factor != UNIT and c.init_now is not None and c.needed.init_std is not None:
            wrong = Exponents({**right.A, c.name: -pack(c.init_now)}, right.C, right.M)
            yield "init", c.name, c.init_now, c.needed.init_std, wrong, _init_fix(c)
        if c.needed.lr is not None and c.needed.lr != UNIT:
            wrong = Exponents(right.A, {**right.C, c.name: 0}, right.M)
            yield "lr", c.name, UNIT, c.needed.lr, wrong, _group_fix("lr", c.needed.lr)
        if c.needed.lr is not None and c.needed.eps is not None and c.needed.eps.degree < 0:
            step = Exponents(right.A, {**right.C, c.name: right.C[c.name] - pack(c.needed.eps)}, right.M)
            yield "eps", c.name, UNIT, c.needed.eps, step, _group_fix("eps", c.needed.eps)
    for unknown, power in p.derivation.parametrization.unknowns.items():
        if power != UNIT:
            m = _change_of(changes, unknown, p)
            wrong = Exponents(right.A, right.C, {**right.M, unknown: 0})
            if not m.shared_with and m.factor != UNIT:  # one line mends both; none is needed where it cancels
                yield "multiplier", m.name, m.now, m.needed, wrong, _multiplier_fix(m, changes)


def _decay_size(c: ParameterChange) -> Fraction | None:
    """The exponent of what one weight decay for all widths takes per step, where that is not as it should be. None too
    where the optimizer decays only on request."""
    decay = c.needed.weight_decay
    default = dict(c.row.defaults).get("weight_decay", 0)
    return None if decay is None or c.refused or not default or not decay.degree else -decay.degree


def _effect(places: Sequence[Spot], derived: Predictor, alone: Predictor) -> tuple[str, Fraction, int, int] | None:
    """(grows | vanishes, exponent, step, place) of the first tensor that goes wrong; None: none does.

    A tensor grows if its size, or that of its change, exceeds every bound; it vanishes if its change does and should
    not. A start that is too small is no fault by itself: what it lacks is learned."""
    units = derived.units
    for step, (good, bad) in enumerate(zip(derived.snapshots, alone.snapshots, strict=True)):
        for place, spot in enumerate(places):
            wanted, found = (largest((s.change if step else s.initial)[spot.probe.node]) for s in (good, bad))
            size = None if found is None else units.degree(found)
            if size is not None and size > 0:
                return "grows", size, step, place
            if step and wanted is not None and units.degree(wanted) == 0 and size is not None and size < 0:
                return "vanishes", size, step, place
    return None


def _used_at(p: ImportedDerivation, places: Sequence[Spot], param: str) -> int:
    """The first result that a parameter's own use makes."""
    at = next(place for u, (_, place) in p.reading.lowered.multipliers.items()
              if p.reading.lowered.graph.unknowns[u].param == param)  # fmt: skip
    return next((k for k, spot in enumerate(places) if spot.place >= at), 0)


def _change_of(changes: Changes, unknown: str, p: ImportedDerivation) -> MultiplierChange:
    """The change that a multiplier of the graph is: a product's has its name, a use's its module and parameter."""
    module, _ = p.reading.lowered.multipliers[unknown]
    param = p.reading.lowered.graph.unknowns[unknown].param
    found = [m for m in changes.multipliers if m.module == module and m.param == param]
    return next((m for m in found if m.name == unknown), found[0])


def _ratio(power: Power) -> str:
    return " * ".join(f"({s} / base_{s}) ** {e if e.denominator == 1 else float(e)}" for s, e in power.exponents)


def _group_fix(setting: str, power: Power) -> str:
    return f"a parameter group with {setting} * {_ratio(power)}"


def _init_fix(c: ParameterChange) -> str:
    if c.measured:
        return f"after the initialisation, {c.name} times its size (root mean square) at the base, over its size now"
    return f"after the initialisation, {c.name}.mul_({_ratio(c.init_factor)})"


def _root(factor: str, power: Fraction) -> str:
    return factor if power == 1 else f"({factor}) ** {float(1 / power):g}"


def _multiplier_fix(m: MultiplierChange, changes: Changes) -> str:
    factor = _ratio(m.factor)
    whole = "the model"
    for place in m.places:
        match place:
            case ConfigField(name, power):
                return f"config.{name} *= {_root(factor, power)}"
            case Attribute(module, name, power):
                return f"{f'{module}.' if module else ''}{name} *= {_root(factor, power)}"
            case OutputHook(module, _, None):
                return f"multiply the output of {module or whole} by {factor}"
            case OutputHook(module, _, axis, start, stop, blocks):
                part = f"{start} to {stop} (axis {axis}){each_text(blocks)}"
                return f"multiply entries {part} of the output of {module} by {factor}"
            case InputHook(module):
                return f"multiply the input of {module or whole} by {factor}"
            case Absorb(param):
                owed = shifts(changes.parameter(param).row).items()
                also = [f"its {name} by {_ratio(m.factor**e)}" for name, e in owed if e]
                return ", ".join([f"multiply the initial {param} by {factor}", *also])
    return f"in {m.module or whole}, multiply by {factor}"

"""What the calculus predicts for everything that is measured, at every step, under any exponents."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property

from tensorprog.calculus.analysis import Analysis, largest
from tensorprog.calculus.exponents import Exponents, Snapshot
from tensorprog.calculus.shared import Sizes
from tensorprog.calculus.solve import require_norms
from tensorprog.calculus.stable import blown_up, unbounded
from tensorprog.calculus.terms import Terms, reduce_terms
from tensorprog.calculus.whole import Whole
from tensorprog.coordcheck.probes import GRADIENTS, Probe
from tensorprog.derivation import Derivation
from tensorprog.errors import CalculusError
from tensorprog.exponents import Power
from tensorprog.parametrization import Parametrization
from tensorprog.parametrizations import in_gauge

Touched = frozenset[tuple[str, str]]  # (quantity, parameter)
APART = 8  # powers of the width that a factor of every learning rate sets its orders apart by


@dataclass(frozen=True, slots=True)
class Prediction:
    """The exponent of one part of a tensor at one step. None: exactly zero. `bound_only`: below a saturated
    nonlinearity. `first`: the smaller exponent of its lowest order in the learning rates, where only a higher order
    gives the exponent, as in |q + dq|^2 - |q|^2 with dq independent of q. None: the lowest order gives it. `unbounded`:
    it may be larger than that (`Predictor.judged`)."""

    exponent: Power | None
    bound_only: bool = False
    first: Power | None = None
    unbounded: bool = False


@dataclass
class _Training(Analysis):
    """An Analysis that also knows how epsilon and weight decay scale, where they are not as derived (as derived,
    epsilon stays below the gradient and decay does not outgrow the update). Packed, of the effective weight: `eps`
    beside its gradient's entries; `decay` times its entries, beside its gradient (coupled) or its change (not)."""

    eps: dict[str, int] = field(default_factory=dict)
    decay: dict[str, int] = field(default_factory=dict)

    def update_terms(self, name: str, gradient: Terms) -> Terms:
        optimizer = self.optimizers[name]
        decayed: Terms = ()
        if name in self.decay:
            weight = self.parameter_terms(name) + self.moved.get(name, ())
            decayed = tuple((size + self.decay[name], raw, grades) for size, raw, grades in weight)
        if optimizer.decay == "coupled":
            gradient = reduce_terms([*gradient, *decayed])
        terms = super().update_terms(name, gradient)
        if name in self.eps and not optimizer.linear and gradient:  # g / (|g| + eps)
            below = min(0, max(term[0] for term in gradient) - self.eps[name])
            terms = tuple((size + below, raw, grades) for size, raw, grades in terms)
        if optimizer.decay == "decoupled":
            lr = self.exponents.C[name]  # which `train` takes off again
            terms = reduce_terms([*terms, *((size + lr, raw, grades) for size, raw, grades in decayed)])
        return terms


class Predictor:
    """Predictions for one derivation's program under a parametrization."""

    def __init__(
        self,
        derivation: Derivation,
        parametrization: Parametrization,
        steps: int,
        exponents: Exponents | None = None,
        touched: Touched = frozenset(),
        like: Predictor | None = None,
        *,
        orders: bool = False,
    ):
        """`exponents`: in the calculus' gauge (default: the parametrization's). `touched`: which epsilons and weight
        decays are not as derived. `like`: one for the same derivation, whose rules are used again. `orders`: whether
        `Prediction.first` is asked for."""
        solver = derivation.solution.solver
        self.units, self.program, self.parametrization = solver.units, solver.program, parametrization
        self.sizes = Sizes(self.units)
        whole = Whole(parametrization if exponents is None else None)
        exponents = exponents or in_gauge(derivation.solution.solver, parametrization)
        self._multipliers = exponents.M
        analysis: _Training
        if like is None:
            analysis = _Training(self.program, self.units, derivation.choice, solver.functions, exponents, whole)
        else:
            analysis = like.analysis
            analysis.exponents, analysis.whole, analysis.eps, analysis.decay = exponents, whole, {}, {}
        self.analysis: _Training = analysis
        pack = self.units.pack_power
        for quantity, name in touched:
            rule = parametrization.params[name]
            if quantity == "eps" and rule.eps is not None:
                analysis.eps[name] = pack(rule.eps / rule.multiplier)
            if quantity == "weight_decay" and rule.weight_decay is not None and rule.lr is not None:
                coupled = analysis.optimizers[name].decay == "coupled"
                analysis.decay[name] = pack(rule.weight_decay / rule.multiplier**2 if coupled
                                            else rule.weight_decay * rule.lr)  # fmt: skip
        self._unbounded: dict[int, set[int]] = {}
        self.rules = analysis.rules
        self.snapshots: list[Snapshot] = analysis.steps(steps)
        self.bounds: list[set[int]] = []
        blown = False
        everything = set(range(len(self.program.nodes)))
        backward = everything - {node.id for node in self.program.forward.nodes}
        for snapshot in self.snapshots:
            tainted = everything if blown else blown_up(self.program, snapshot, solver.functions)
            self.bounds.append(tainted | backward if tainted else tainted)
            blown = blown or bool(tainted)  # the gradients pass through the saturated nodes
        self.slow: list[Snapshot] = []  # the same at learning rates that are n^-APART smaller
        if orders:
            smaller = {name: c + self._apart() for name, c in exponents.C.items()}
            analysis.exponents = replace(exponents, C=smaller)
            self.slow = analysis.steps(steps)
            analysis.exponents = exponents

    def _apart(self) -> int:
        return self.units.pack({self.units.symbols[0]: APART})

    def at(self, probe: Probe, step: int) -> Prediction:
        """The prediction for what a probe measures after `step` updates."""
        size, first = self._size(probe, step, self.snapshots[step]), None
        if self.slow and step and size is not None and probe.kind not in GRADIENTS:
            first = self._lowest(size, self._size(probe, step, self.slow[step]))
        return Prediction(size, probe.node in self.bounds[step], first)

    def judged(self, probe: Probe, step: int) -> Prediction:
        """The same, and whether it may be larger, which a verdict must know."""
        return replace(self.at(probe, step), unbounded=probe.node in self.unbounded(step))

    def unbounded(self, step: int) -> set[int]:
        """Nodes that may be larger than predicted, as the prediction for what an inverse norm reads is a bound: behind
        a saturated function, and for every norm where the exponents make one start smaller than its size says."""
        if step not in self._unbounded:
            bounds = self.bounds[step] if self._norms_last else range(len(self.program.nodes))
            self._unbounded[step] = unbounded(self.program, bounds) if bounds else set()
        return self._unbounded[step]

    @cached_property
    def _norms_last(self) -> bool:
        """Whether what norms divide by starts as large as its size says, as it does for derived exponents."""
        try:
            require_norms(self.analysis, self.snapshots[0].initial, self._multipliers)
        except CalculusError:
            return False
        return True

    def _lowest(self, size: Power, slow: Power | None) -> Power | None:
        """The exponent of the lowest order, if it is not `size`. At learning rates n^-APART smaller, order k of a
        change is n^(-k APART) smaller, and the lowest rules, of size `slow`."""
        if slow is None:
            return None
        symbol, pack = self.units.symbols[0], self.units.pack_power
        order = round((size[symbol] - slow[symbol]) / APART)
        lowest = slow * Power.of({symbol: Fraction(APART * order)})
        return lowest if pack(lowest) < pack(size) else None

    def _size(self, probe: Probe, step: int, snapshot: Snapshot) -> Power | None:
        """The exponent of what a probe measures."""
        initial, change, multiplier = snapshot.initial, snapshot.change, Power()
        if probe.param is not None:
            multiplier = self.parametrization.params[probe.param].multiplier
        match probe.kind:
            case "value":  # of a parameter: the raw w = W / multiplier
                size, shift = largest((change if step else initial)[probe.node]), multiplier**-1
            case "gradient" | "later gradient":  # of the loss by the raw w
                size, shift = largest(initial[probe.node] + change[probe.node]), multiplier
            case "update":  # as large as all of them together
                size, shift = largest(change[probe.node]), multiplier**-1
            case "spectral":
                size, shift = self._spectral(probe, (change if step else initial)[probe.node]), multiplier**-1
            case _:
                size, shift = self._product(probe, snapshot), Power()
        return None if size is None else self.units.unpack(size) * shift

    def _product(self, probe: Probe, snapshot: Snapshot) -> int | None:
        """One of the three parts of the change of a contraction of a parameter with an activation."""
        weight, other = (self.program.nodes[probe.node].args[k] for k in (probe.position, 1 - probe.position))
        w = snapshot.change[weight] if probe.kind.startswith("dW") else snapshot.initial[weight]
        x = snapshot.change[other] if probe.kind.endswith("dx") else snapshot.initial[other]
        rule = self.rules[probe.node]
        assert rule is not None
        return largest(rule.initial([w, x] if probe.position == 0 else [x, w]))

    def _spectral(self, probe: Probe, terms: Terms) -> int | None:
        """The largest singular value of a p x q matrix of these terms: entry * max(p, q)^(1/2) if its entries are
        independent, entry * (p q)^(1/2) if its rank is finite (as gradients of a finite batch are)."""
        axes = self.program.nodes[probe.node].axes
        p, q = self.sizes(axes[0].dim), sum(self.sizes(axis.dim) for axis in axes[1:])
        return max((size + (max(p, q) if raw else p + q) // 2 for size, raw, _ in terms), default=None)

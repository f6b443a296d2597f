"""Steps that look at more than the gradient of one parameter: the norm of the whole gradient, a perturbation first.

While solving, none of this is needed: the learning rate absorbs the norm, a threshold is derived to keep pace with it,
and a perturbation moves its use as far as a step does, by the same terms. A prediction for given exponents needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from tensorprog.calculus.terms import Terms, reduce_terms
from tensorprog.optimizers import Optimizer
from tensorprog.optimizers.response import response
from tensorprog.parametrization import Parametrization

if TYPE_CHECKING:
    from tensorprog.calculus.analysis import Analysis

Gradients = Mapping[str, Terms]


@dataclass(frozen=True, slots=True)
class Whole:
    """`parametrization`: whose hyperparameters are used; None: those that the derivation demands."""

    parametrization: Parametrization | None = None

    def gradients(self, analysis: Analysis) -> Gradients:
        """The gradient of every parameter, at perturbed weights where an optimizer wants that."""
        plain = analysis.gradients()
        probed = {name: o for name, o in analysis.optimizers.items() if o.probe is not None and plain.get(name)}
        if not probed:
            return plain
        before = dict(analysis.moved)
        for name, optimizer in probed.items():
            terms = self._perturbation(analysis, name, optimizer, plain)
            analysis.moved[name] = reduce_terms([*before.get(name, ()), *terms])
        analysis.settle()
        found = analysis.gradients()
        analysis.moved.clear()
        analysis.moved.update(before)
        analysis.settle()
        return found

    def _perturbation(self, analysis: Analysis, name: str, optimizer: Optimizer, gradients: Gradients) -> Terms:
        terms = gradients[name]
        if self.parametrization is None:
            shift = -analysis.exponents.C[name]
            return tuple((s + shift, raw, grades) for s, raw, grades in analysis.update_terms(name, terms))
        assert optimizer.probe is not None
        a = self._multiplier(analysis, name)
        size = optimizer.probe.of(*self._sizes(analysis, name, gradients)) + self._hyper(analysis, name).get("rho", 0)
        shift = size - a - max(term[0] for term in terms)
        return tuple((s + shift, raw, grades) for s, raw, grades in terms)

    def shift(self, analysis: Analysis, name: str, gradients: Gradients) -> int:
        """By how much a step is larger than `update_terms` says: through the norm of the whole gradient, and through
        hyperparameters that do not keep pace with what they are compared with."""
        optimizer = analysis.optimizers[name]
        if self.parametrization is None or not gradients.get(name):
            return 0
        sizes = self._sizes(analysis, name, gradients)
        total = -sizes[3] if optimizer.normalisation == "global" else 0
        known = self._hyper(analysis, name)
        for key, size in optimizer.scales:
            if key != "eps" and key in known:
                excess = known[key] - size.of(*sizes)
                total += int(Fraction(response(optimizer, key, excess > 0)) * excess)
        return total

    def _multiplier(self, analysis: Analysis, name: str) -> int:
        assert self.parametrization is not None
        return -analysis.units.pack_power(self.parametrization.params[name].multiplier)

    def _hyper(self, analysis: Analysis, name: str) -> dict[str, int]:
        assert self.parametrization is not None
        return {k: analysis.units.pack_power(power) for k, power in self.parametrization.params[name].hyper.items()}

    def _sizes(self, analysis: Analysis, name: str, gradients: Gradients) -> tuple[int, int, int, int]:
        """What a Size is a form in, for the raw w of one parameter."""
        a = self._multiplier(analysis, name)
        parameter = analysis.program.forward.parameters[name]
        values = [term[0] for term in (*analysis.parameter_terms(name), *analysis.moved.get(name, ()))]
        norms = [
            max(t[0] for t in terms) - self._multiplier(analysis, other) + self._entries(analysis, other) // 2
            for other, terms in gradients.items()
            if terms and analysis.optimizers[other] == analysis.optimizers[name]
        ]
        gradient = max(term[0] for term in gradients[name]) - a
        count = sum(analysis.sizes(axis.dim) for axis in parameter.axes)
        return gradient, (max(values) if values else 0) + a, count, max(norms)

    @staticmethod
    def _entries(analysis: Analysis, name: str) -> int:
        return sum(analysis.sizes(axis.dim) for axis in analysis.program.forward.parameters[name].axes)

"""Any parametrization of an architecture in the calculus' gauge: effective weights, no multipliers."""

from __future__ import annotations

from tensorprog.calculus.exponents import Exponents
from tensorprog.calculus.solver import Solver
from tensorprog.errors import TensorProgError
from tensorprog.exponents import Power
from tensorprog.parametrization import Parametrization


def in_gauge(solver: Solver, parametrization: Parametrization) -> Exponents:
    """The exponents A, C and M, packed. Raises TensorProgError for exponents that the solver's units cannot express.

    Source: Tensor Programs IV, section 3.1 (the symmetry of abc-parametrizations); see calculus/forms.py.
    """

    def pack(power: Power) -> int:
        try:
            return solver.units.pack_power(power)
        except ValueError as error:
            raise TensorProgError(
                f"{error}", fix="exponents such as -1/2 or 2/3", why="sizes must be told apart exactly"
            ) from None

    packed = Exponents({}, {}, {key: pack(power) for key, power in parametrization.unknowns.items()})
    for name, exponents in parametrization.params.items():
        packed.A[name] = -pack(exponents.init)
        packed.C[name] = -pack((exponents.lr or Power()) * exponents.multiplier ** gauge_degree(solver, name))
        for use in solver.uses_of.get(name, ()):
            packed.M[use] -= pack(exponents.multiplier)
    return packed


def gauge_degree(solver: Solver, name: str) -> int:
    """How often the multiplier counts in the learning rate: lr of W = lr of w * multiplier^this."""
    optimizer = solver.optimizers[name]
    floored = optimizer.relative and solver.starts_at_zero(solver.program.forward.parameters[name])
    return 1 if floored else optimizer.gauge_degree

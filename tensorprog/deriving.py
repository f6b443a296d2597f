"""`derive`: the exponents of every parameter of an architecture, in the parametrization that is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tensorprog.architecture import Architecture
from tensorprog.attribution import ambiguous, orders
from tensorprog.calculus.forms import DEFAULT_FORM, FORMS, parametrize, without_multipliers
from tensorprog.calculus.solve import Solution
from tensorprog.derivation import Derivation
from tensorprog.errors import NoPowerLawError, TensorProgError
from tensorprog.optimizers import Choice, Optimizer
from tensorprog.optimizers.policies import DEFAULT_POLICY, POLICIES
from tensorprog.parametrization import Parametrization
from tensorprog.solving import Regime, collector_at_rest, solved


def derive(
    architecture: Architecture,
    optimizer: str | Optimizer | Choice | None = None,
    form: str | None = None,
    *,
    vectors: str | Optimizer | None = None,
    optimizer_for: Mapping[str, str | Optimizer] | None = None,
    decay_policy: str | None = None,
    fixes: Sequence[str] = (),
    progress: Callable[[float, float], None] | None = None,
) -> Derivation:
    """The maximal update parametrization of an architecture under an optimizer, in one of the equivalent forms.

    `optimizer`: an Optimizer, a name in `tensorprog.optimizers.OPTIMIZERS` or one that the file defines (default: the
    file's, else adam); `vectors`: that of parameters with at most one growing axis; `optimizer_for`: pattern of
    parameter names -> that of those parameters. `form`: a name in `tensorprog.calculus.forms.FORMS` (default table8).
    `decay_policy`: a name in `tensorprog.optimizers.policies.POLICIES` (default product). `fixes`: exponents that are
    given, such as "lr[*] = 0" (fixing.py); with these, or `fix` statements in the file, the result is the best stable
    completion of them (programme/completion.py), which takes a while: `progress` is told the work that is
    done and that is allowed. A multiplier that is fixed to a power of a depth is put into the
    network as that number, and the rest is derived. Raises TensorProgError (a
    message with its place in the file) if the program is ill-formed, not covered by the calculus, or has no stable
    maximal answer.

    Source: Yang & Hu 2021 (Tensor Programs IV, arXiv:2011.14522); Yang et al. 2022 (V, arXiv:2203.03466).
    """
    with collector_at_rest():
        form, policy = known_form(form or DEFAULT_FORM), decay_policy or DEFAULT_POLICY
        if policy not in POLICIES:
            raise TensorProgError(f"unknown policy of weight decay `{policy}`", fix=", ".join(POLICIES),
                                  why="a policy says what keeps its size as the widths grow")  # fmt: skip

        architecture, fixes = architecture.asking(fixes)
        if fixes or architecture.fixes:
            from tensorprog.programme.completion import complete

            return complete(architecture, fixes, optimizer, form, vectors=vectors, optimizer_for=optimizer_for,
                            decay_policy=policy, progress=progress)  # fmt: skip

        def derived(architecture: Architecture) -> Derivation:
            return derivation_of(architecture, architecture.choice(optimizer, vectors, optimizer_for), form, policy)

        try:
            return derived(architecture.symbolic)
        except NoPowerLawError as error:
            return replace(derived(architecture), note=error.message)


def known_form(form: str) -> str:
    """The form itself. Raises TensorProgError if there is no such form."""
    if form not in FORMS:
        raise TensorProgError(f"unknown form `{form}`", fix=", ".join(FORMS),
                              why="a form is one of the ways of writing the same training run")  # fmt: skip
    return form


def derivation_of(
    architecture: Architecture,
    choice: Choice,
    form: str = DEFAULT_FORM,
    policy: str = DEFAULT_POLICY,
    regime: Regime | None = None,
) -> Derivation:
    """What `derive` finds for an architecture as it is: its depths stay what they are, and `fix` statements are not
    looked at. Raises TensorProgError."""
    solution = solved(architecture, choice, regime or architecture.model.regime)
    try:
        parametrization = parametrize(solution, form, policy)
    except TensorProgError as error:
        raise error.located(architecture.source, architecture.file) from None
    found = Derivation(architecture, choice.default.name, form, solution, parametrization, policy)
    return _in_orders(found, lambda one: parametrize(one, form, policy))


def unmultiplied(architecture: Architecture, solution: Solution, policy: str = DEFAULT_POLICY) -> Derivation:
    """A solution without multipliers, but where the uses of one parameter need different ones."""
    choice, parametrization = solution.solver.choice, without_multipliers(solution, policy)
    found = Derivation(architecture, choice.default.name, "table3", solution, parametrization, policy)
    return _in_orders(found, lambda one: without_multipliers(one, policy))


def _in_orders(found: Derivation, written: Callable[[Solution], Parametrization]) -> Derivation:
    """A derivation whose exponents are attributed to the widths, by asking for those in orders of them, where that is
    needed and they have an answer. `written`: a solution as it is told, such as in one form."""
    architecture, units = found.architecture, found.solution.solver.units
    if not ambiguous(found.parametrization, units):
        return found
    try:
        widths = architecture.graph.widths
        ordered = [solved(architecture, found.choice, (order, "<<")) for order in orders(units, widths)]
        found = replace(found, ordered=tuple(ordered))
        return replace(found, parametrization=found.told_apart([written(one) for one in (found.solution, *ordered)]))
    except TensorProgError:  # they are not told apart
        return replace(found, ordered=())

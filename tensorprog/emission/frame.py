"""A module seen by the pattern recognisers: who computes a value, who else uses it, what it is called in the code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from tensorprog.dims import BATCH, Dim
from tensorprog.emission.format import ATOM, MUL, Code, index, number, over, power, times
from tensorprog.emission.sizes import Sizes
from tensorprog.graph import Add, Axis, Contract, Input, Op, Param, Scalar, Scale
from tensorprog.model import Compute, Loop, Module, Use


class Owner(Protocol):
    """The class whose method is being printed."""

    sizes: Sizes

    def size_attribute(self, code: Code) -> Code: ...
    def multiplier(self, frame: Frame, name: str) -> str | None: ...
    def parameter(self, name: str) -> str: ...
    def any_parameter(self) -> str | None: ...
    def helper(self, name: str) -> str: ...
    def function(self, name: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Match:
    """How one value is computed: from the code of `inputs` (in this order, each used once) by `render`.

    `tokens`: positions of inputs wanted as integers, not as one-hot rows.
    """

    inputs: tuple[int, ...]
    render: Callable[[Sequence[Code]], Code]
    tokens: tuple[int, ...] = ()


class Frame:
    """One module body inside one method.

    `tokens`: values that hold integers where the model has one-hot rows. `paths`: every instance of this body, as
    (prefix in the model, prefix among the emitted attributes).
    """

    def __init__(
        self,
        module: Module,
        owner: Owner,
        paths: tuple[tuple[str, str], ...],
        tokens: frozenset[int],
        roots: Sequence[int],
    ) -> None:
        self.module, self.owner, self.paths = module, owner, paths
        self._values = {value.id: value for value in module.values}
        self._alias: dict[int, int] = {}
        self._ops: dict[int, Compute] = {}
        self.tokens = set(tokens)
        self._number_values()
        self.roots = tuple(self.resolve(root) for root in roots)
        self.uses = self._count_uses()
        self.batch_reference: Callable[[], str] = lambda: "1"
        self.outer_float: str | None = None

    # --- structure ------------------------------------------------------------------------------------

    def resolve(self, value: int) -> int:
        """The first value that is the same tensor."""
        return self._alias.get(value, value)

    def op(self, value: int) -> Op | None:
        """What computes a value; None for formals and the results of blocks and loops."""
        step = self._ops.get(value)
        return step.op if step else None

    def args(self, value: int) -> tuple[int, ...]:
        return self._ops[value].args

    def axes(self, value: int) -> tuple[Axis, ...]:
        return self._values[value].axes

    def dims(self, value: int) -> tuple[Dim, ...]:
        return tuple(axis.dim for axis in self.axes(value))

    def rank(self, value: int) -> int:
        return len(self._values[value].axes)

    def name(self, value: int) -> str:
        return self._values[value].name

    def hint(self, value: int) -> str:
        """What a variable for the value might be called: as the user wrote it, or after the parameter it is made of."""
        op = self.op(value)
        if not self.name(value) and isinstance(op, Scale) and isinstance(weight := self.op(self.args(value)[0]), Param):
            return weight.name
        return self.name(value)

    def once(self, *values: int) -> bool:
        """None of the values is needed by anyone else."""
        return all(self.uses[value] <= 1 for value in values)

    def is_weight(self, value: int) -> bool:
        """A parameter, perhaps scaled or handed in from outside: it has no batch axis."""
        op = self.op(value)
        if isinstance(op, Scale):
            return self.is_weight(self.args(value)[0])
        return isinstance(op, Param) or (op is None and BATCH not in self.dims(value) and value not in self.tokens)

    def peel(self, value: int) -> tuple[Scalar, int]:
        """(s, x) with value = s * x, through scalings that nobody else needs."""
        total = Scalar()
        while isinstance(op := self.op(value), Scale) and self.once(value):
            total = total * op.scalar
            value = self.args(value)[0]
        return total, value

    def _number_values(self) -> None:
        """Drops copies: trivial multipliers, identities, and repeated computations."""
        seen: dict[tuple[Op, tuple[int, ...], tuple[Dim, ...]], int] = {}
        for step in self.module.steps:
            if not isinstance(step, Compute):
                continue
            args = tuple(self.resolve(a) for a in step.args)
            op = step.op
            if (
                (isinstance(op, Scale) and self.trivial(op.scalar))
                or (isinstance(op, Contract) and op.right is None and op.left == op.out)
                or (isinstance(op, Add) and len(args) == 1 and op.places == (tuple(range(self.rank(step.out))),))
            ):
                self._alias[step.out] = args[0]
            elif (key := (op, args, self.dims(step.out))) in seen:
                self._alias[step.out] = seen[key]
            else:
                seen[key] = step.out
                self._ops[step.out] = Compute(step.out, op, args, step.span)
                if isinstance(op, Input) and op.kind == "tokens":
                    self.tokens.add(step.out)

    def _count_uses(self) -> Counter[int]:
        counts = Counter(self.roots)
        for step in reversed(self.module.steps):
            match step:
                case Compute(out):
                    if counts[out] and out in self._ops:
                        counts.update(self._ops[out].args)
                case Use(out, _, _, args):
                    if counts[out]:
                        counts.update(self.resolve(a) for a in args)
                case Loop():
                    if any(counts[o] for o in (*step.outs, *(c for c, _ in step.collected))):
                        values = (*step.carried, *step.captured, *(s for s, _ in step.sliced))
                        counts.update(self.resolve(v) for v in values)
        return counts

    # --- scalars --------------------------------------------------------------------------------------

    def trivial(self, scalar: Scalar) -> bool:
        """Always exactly one."""
        unknown = any(self.owner.multiplier(self, name) for name in scalar.unknowns)
        return scalar.coefficient == 1 and not scalar.powers and not unknown

    def scalar(self, scalar: Scalar) -> Code | None:
        """Code of a scalar factor; None if it is one."""
        attributes = [self.owner.multiplier(self, name) for name in scalar.unknowns]
        factors = [Code(f"self.{attribute}") for attribute in attributes if attribute]
        below: list[Code] = []
        for dim, exponent in scalar.powers:
            if exponent == -1:
                below.append(self.size(dim))
            else:
                factors.append(power(self.size(dim), number(exponent)) if exponent != 1 else self.size(dim))
        coefficient = scalar.coefficient
        if coefficient.numerator == 1 and coefficient.denominator > 1 and Fraction(float(coefficient)) != coefficient:
            below.insert(0, number(Fraction(coefficient.denominator)))
        elif coefficient != 1 or (below and not factors):
            factors.insert(0, number(coefficient))
        if not factors and not below:
            return None
        code = factors[0] if factors else number(Fraction(1))
        for factor in factors[1:]:
            code = times(code, factor)
        for factor in below:
            code = over(code, factor)
        return code

    def scaled(self, scalar: Scalar, code: Code) -> Code:
        """`scalar * code`; division where that reads better."""
        numerator = Scalar(scalar.coefficient, tuple(p for p in scalar.powers if p[1] != -1), scalar.unknowns)
        below = [self.size(dim) for dim, exponent in scalar.powers if exponent == -1]
        coefficient = numerator.coefficient
        if coefficient.numerator == 1 and coefficient.denominator > 1 and Fraction(float(coefficient)) != coefficient:
            below.insert(0, number(Fraction(coefficient.denominator)))
            numerator = Scalar(Fraction(1), numerator.powers, numerator.unknowns)
        factor = self.scalar(numerator)
        result = times(factor, code) if factor else code
        for size in below:
            result = over(result, size)
        return result

    def size(self, dim: Dim, label: str = "") -> Code:
        """A size as seen inside a method."""
        if dim == BATCH:
            return Code(self.batch_reference())
        return self.owner.size_attribute(self.owner.sizes.code(dim, label))

    # --- layout -----------------------------------------------------------------------------------------

    def aligned(self, code: Code, places: Sequence[int], rank: int) -> Code:
        """An operand whose axis a is axis places[a] of the result, made to broadcast against it."""
        order = sorted(range(len(places)), key=lambda a: places[a])
        code = permuted(code, order)
        if not places:
            return code
        marks = [":" if axis in places else "None" for axis in range(min(places), rank)]
        while marks and marks[-1] == ":":
            marks.pop()
        return index(code, *marks) if marks else code


def permuted(code: Code, order: Sequence[int]) -> Code:
    """Axes of the result, each given as an axis of the operand."""
    moved = [a for a, o in enumerate(order) if a != o]
    if not moved:
        return code
    if len(moved) == 2:
        a, b = moved
        if len(order) == 2:
            return Code(f"{code.at(ATOM)}.T")
        if (a, b) == (len(order) - 2, len(order) - 1):
            return Code(f"{code.at(ATOM)}.mT")
        return Code(f"{code.at(ATOM)}.transpose({a}, {b})")
    return Code(f"{code.at(ATOM)}.permute({', '.join(map(str, order))})")


def product(left: Code, right: Code) -> Code:
    """An elementwise product."""
    return times(left, right) if right.level != MUL else Code(f"{left.at(MUL)} * {right.at(ATOM)}", MUL)


def monomial(scalar: Scalar) -> tuple[Fraction, tuple[tuple[str, Fraction], ...]] | None:
    """A scalar without unknowns as coefficient and symbol powers, None if it has no such form."""
    coefficient = scalar.coefficient
    powers: dict[str, Fraction] = {}
    for dim, exponent in scalar.powers:
        if len(dim.terms) != 1 or scalar.unknowns:
            return None
        symbols, factor = dim.terms[0]
        if factor != 1 and exponent.denominator != 1:
            return None
        coefficient *= factor**exponent.numerator if factor != 1 else 1
        for symbol, count in symbols:
            powers[symbol] = powers.get(symbol, Fraction(0)) + count * exponent
    return None if scalar.unknowns else (coefficient, tuple(sorted((s, p) for s, p in powers.items() if p)))


def is_inverse_size(scalar: Scalar, dims: Sequence[Dim]) -> bool:
    """Whether a sum over `dims` times `scalar` is a mean."""
    found = monomial(scalar)
    return found is not None and found == monomial(Scalar(Fraction(1), tuple((d, Fraction(-1)) for d in dims)))

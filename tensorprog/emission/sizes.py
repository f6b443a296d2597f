"""Sizes in emitted code: an axis of the model as a formula in the names its class knows."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import combinations_with_replacement, product

from tensorprog import syntax
from tensorprog.dims import ONE, Dim
from tensorprog.emission.format import ADD, MUL, POW, Code, number, plus, power, times
from tensorprog.emission.names import Namespace
from tensorprog.errors import InternalError
from tensorprog.graph import Axis
from tensorprog.model import LocalDim


class Sizes:
    """The named sizes of one module class, and which of them its text has used so far.

    `arguments`: name -> size, of those that the constructor must be given. `locals`: name -> line of code that
    computes it. Both are filled as sizes are asked for, in the order of declaration.
    """

    def __init__(
        self, dims: Iterable[LocalDim], widths: Iterable[str], names: Namespace, axes: frozenset[str] = frozenset()
    ) -> None:
        self._axes = axes  # names of axes of the formal tensors
        self._dims: list[tuple[str, LocalDim]] = []
        self._source: dict[str, str] = {}
        for local in dims:
            if local.name not in self._source:
                self._source[local.name] = names.add(local.name)
                self._dims.append((self._source[local.name], local))
        self._widths = tuple(widths)
        self._names = names
        self._used: set[str] = set()
        self._extra: dict[str, Dim] = {}

    @property
    def arguments(self) -> dict[str, Dim]:
        """Constructor arguments that are really used, in order."""
        found = {name: d.dim for name, d in self._dims if name in self._used and not self._computed(d)}
        return found | self._extra

    @property
    def lines(self) -> list[str]:
        """Statements that compute the other sizes from the arguments."""
        result = []
        for name, local in self._dims:
            if name in self._used and self._computed(local):
                assert local.formula is not None
                try:
                    up, down = _quotient(local.formula, self._source)
                except InternalError:
                    up, down = _polynomial(local.dim, {w: self._width(w) for w in local.dim.symbols})
                result.append(f"{name} = {_divided(up, down, name)}")
        return result

    def of(self, axis: Axis) -> Code:
        """The size of an axis; the index name it was written with decides between equal sizes."""
        return self.code(axis.dim, axis.label)

    def code(self, dim: Dim, label: str = "") -> Code:
        """A whole-number expression for `dim`, valid at all widths.

        Of several names of equal size the one written at the axis is taken, then one that is not itself an axis of
        an argument: in `y[o] = W[o,i] x[i]` the size of `o` is `features`, also where that equals `i`.
        """
        matches = [(name, d) for name, d in self._dims if d.dim == dim]
        for name, local in matches:
            if local.name == label:
                return self._use(name)
        free = [(name, d) for name, d in matches if d.name not in self._axes]
        if dim.constant is not None and dim.constant < 8 and not self._axes:
            return number(dim.constant)
        if free:
            return self._use(free[0][0])
        if dim.constant is None and (found := self._product(dim, self._axes)):
            return found
        if matches:
            return self._use(matches[0][0])
        if (constant := dim.constant) is not None:
            return number(constant)
        if found := self._product(dim, frozenset()):
            return found
        up, down = _polynomial(dim, {w: self._width(w) for w in sorted(dim.symbols)})
        return up if down.text == "1" else Code(_divided(up, down, ""))

    def _product(self, dim: Dim, avoided: frozenset[str]) -> Code | None:
        """`dim` as a whole number times up to three named sizes, other than the avoided ones."""
        named = [(name, d.dim) for name, d in self._dims if d.name not in avoided and d.dim.constant != 1]
        if not self._axes:
            named = [(name, size) for name, size in named if size.constant is None]
        exact = (True, False) if self._axes else (False,)  # in a block: 2 heads of head_dim are heads * head_dim
        for alone, count in product(exact, (1, 2, 3)):
            for factors in combinations_with_replacement(named[:12], count):
                total = ONE
                for _, factor in factors:
                    total = total * factor
                try:
                    rest = (dim / total).constant if len(total.terms) == 1 else None
                except (ValueError, ZeroDivisionError):
                    rest = None
                if rest is None or rest.denominator != 1 or (alone and rest != 1):
                    continue
                code = number(rest) if rest != 1 else None
                for name, _ in factors:
                    code = self._use(name) if code is None else times(code, self._use(name))
                return code
        return None

    def _use(self, name: str) -> Code:
        pending = [name]
        while pending:
            current = pending.pop()
            if current in self._used:
                continue
            self._used.add(current)
            local = next(d for n, d in self._dims if n == current)
            if self._computed(local):
                assert local.formula is not None
                names = _names(local.formula)
                if names <= set(self._source):
                    pending += [self._source[n] for n in names]
                else:
                    for width in local.dim.symbols:
                        self._width(width)
        return Code(name)

    def _computed(self, local: LocalDim) -> bool:
        return local.formula is not None

    def _width(self, symbol: str) -> Code:
        for name, local in self._dims:
            if local.name == symbol and local.dim == Dim.of(symbol) and local.formula is None:
                return self._use(name)
        for name, dim in self._extra.items():
            if dim == Dim.of(symbol):
                return Code(name)
        name = self._names.add(symbol)
        self._extra[name] = Dim.of(symbol)
        return Code(name)


def _divided(up: Code, down: Code, name: str) -> str:
    if down.text == "1":
        return up.text
    what = f"{name} = " if name else ""
    return f'divide({up.text}, {down.text}, "{what}{up.at(MUL)} / {down.at(POW)}")'


def _polynomial(dim: Dim, names: dict[str, Code]) -> tuple[Code, Code]:
    """(numerator, denominator) of a size written in the width symbols."""
    scale = 1
    lowest: dict[str, int] = {}
    for monomial, coefficient in dim.terms:
        scale = scale * coefficient.denominator // _gcd(scale, coefficient.denominator)
        for symbol, exponent in monomial:
            lowest[symbol] = min(lowest.get(symbol, 0), exponent)
    total: Code | None = None
    for monomial, coefficient in dim.terms:
        term = number(coefficient * scale)
        exponents = dict(monomial)
        for symbol in sorted(set(exponents) | set(lowest)):
            exponent = exponents.get(symbol, 0) - lowest.get(symbol, 0)
            if exponent:
                factor = names[symbol] if exponent == 1 else power(names[symbol], number(Fraction(exponent)))
                term = factor if term.text == "1" else times(term, factor)
        total = term if total is None else plus(total, term)
    below = number(Fraction(scale))
    for symbol, exponent in sorted(lowest.items()):
        if exponent:
            factor = names[symbol] if exponent == -1 else power(names[symbol], number(Fraction(-exponent)))
            below = factor if below.text == "1" else times(below, factor)
    return total or number(Fraction(0)), below


def _gcd(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return a


def _names(formula: syntax.Expr) -> set[str]:
    match formula:
        case syntax.Name(id):
            return {id}
        case syntax.Binary(_, left, right):
            return _names(left) | _names(right)
        case syntax.Negate(operand):
            return _names(operand)
        case _:
            return set()


def _quotient(formula: syntax.Expr, names: dict[str, str]) -> tuple[Code, Code]:
    """A dim's formula as (numerator, denominator), both whole numbers."""
    one = number(Fraction(1))
    match formula:
        case syntax.Number(value):
            return number(Fraction(value.numerator)), number(Fraction(value.denominator))
        case syntax.Name(id) if id in names:
            return Code(names[id]), one
        case syntax.Negate(operand):
            up, down = _quotient(operand, names)
            return times(number(Fraction(-1)), up), down
        case syntax.Binary("^", left, syntax.Number(value)) if value.denominator == 1 and value >= 0:
            up, down = _quotient(left, names)
            exponent = number(value)
            return power(up, exponent), one if down.text == "1" else power(down, exponent)
        case syntax.Binary(op, left, right) if op in "+-*/":
            (a, b), (c, d) = _quotient(left, names), _quotient(right, names)
            if op == "*":
                return _multiplied(a, c), _multiplied(b, d)
            if op == "/":
                return _multiplied(a, d), _multiplied(b, c)
            second = _multiplied(c, b)
            if op == "-":
                return Code(f"{_multiplied(a, d).at(ADD)} - {second.at(MUL)}", ADD), _multiplied(b, d)
            return plus(_multiplied(a, d), second), _multiplied(b, d)
        case _:
            raise InternalError("this size cannot be written as a formula", formula.span)


def _multiplied(a: Code, b: Code) -> Code:
    if a.text == "1" or b.text == "1":
        return b if a.text == "1" else a
    return times(a, b)

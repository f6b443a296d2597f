"""The size of every part of an optimizer's formulas, as a linear form, and how it changes sign with its arguments.

`Reader` walks the formulas; sums, comparisons and clipping want equal sizes, and these equations are solved exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from tensorprog import syntax as s
from tensorprog.errors import CalculusError, TensorProgError
from tensorprog.optimizers.arithmetic import FUNCTIONS, constant
from tensorprog.suggest import nearest

GIVEN = {
    "g": "the gradient", "w": "the parameter", "t": "the number of the step, from 1",
    "global_norm": "the norm of the whole gradient", "sampled": "the gradient for targets drawn from the model",
}  # fmt: skip
RESERVED = ("lr", "weight_decay")  # hyperparameters with a meaning of their own
BASIS = ("gradient", "parameter", "count", "norm")

Form = dict[str, Fraction]  # of BASIS and unknown sizes `#name`
Signs = frozenset[int]  # the factors by which a value may change when its argument changes sign: {1} even, {-1} odd
EVEN, ODD, ANY = frozenset({1}), frozenset({-1}), frozenset({1, -1})


@dataclass(frozen=True, slots=True)
class Value:
    """What is known of a part of a formula. `size` None: exactly zero. `kind`: scalar (one number per tensor) | entry
    (a tensor) | spectral (one whose singular values are all alike). `linear`: the gradient times a scalar, or that
    orthogonalised."""

    size: Form | None
    gradient: Signs = EVEN
    parameter: Signs = EVEN
    kind: str = "scalar"
    linear: bool = False


class _Sizes:
    """Linear equations between sizes, solved one by one."""

    def __init__(self) -> None:
        self.known: dict[str, Form] = {}

    def reduce(self, form: Form) -> Form:
        result: Form = {}
        for key, factor in form.items():
            for k, f in self.reduce(self.known[key]).items() if key in self.known else ((key, Fraction(1)),):
                result[k] = result.get(k, Fraction(0)) + factor * f
        return {k: f for k, f in result.items() if f}

    def equate(self, a: Value, b: Value, span: s.Span) -> None:
        if a.size is None or b.size is None:
            return
        difference = self.reduce(_combine(a.size, b.size, -1))
        unknown = sorted(k for k in difference if k.startswith("#"))
        if unknown:
            pivot = unknown[0]
            factor = difference.pop(pivot)
            self.known[pivot] = {k: -f / factor for k, f in difference.items()}
        elif difference:
            raise CalculusError(
                "the sizes of these do not agree at all widths", span,
                why=f"one has the size {_words(self.reduce(a.size))}, the other {_words(self.reduce(b.size))}",
                fix="a hyperparameter in front of one, which can scale",
            )  # fmt: skip


def _combine(a: Form, b: Form, sign: int) -> Form:
    return {k: a.get(k, Fraction(0)) + sign * b.get(k, Fraction(0)) for k in (*a, *b)}


def _words(form: Form) -> str:
    names = {"gradient": "gradient", "parameter": "parameter", "count": "entries", "norm": "global_norm"}
    return " ".join(f"{names.get(k, k[1:])}^{f}" for k, f in form.items()) or "1"


class Reader:
    """The values of all names of one optimizer, statement by statement."""

    def __init__(self, hyper: dict[str, float], assigned: list[str]) -> None:
        self.sizes = _Sizes()
        size = {key: {key: Fraction(1)} for key in BASIS}
        self.values = {name: Value({f"#{name}": Fraction(1)}) for name in hyper}
        self.values |= {
            "t": Value({}),
            "g": Value(size["gradient"], gradient=ODD, kind="entry", linear=True),
            "w": Value(size["parameter"], parameter=ODD, kind="entry"),
            "sampled": Value(size["gradient"], gradient=ANY, kind="entry"),
            "global_norm": Value(size["norm"]),
        }
        self.assigned, self.state, self.used = set(assigned), {}, set[str]()

    state: dict[str, Value]

    def value(self, expr: s.Expr) -> Value:
        match expr:
            case s.Number(value=number):
                return Value({} if number else None, ANY if not number else EVEN)
            case s.Name(id=name, span=span):
                return self._name(name, span)
            case s.Negate(operand=operand):
                return self.value(operand)
            case s.Binary(op="^", left=left, right=right, span=span):
                return self._power(self.value(left), right, span)
            case s.Binary(op=op, left=left, right=right, span=span):
                a, b = self.value(left), self.value(right)
                return self._sum(a, b, span) if op in "+-" else _product(a, b, -1 if op == "/" else 1, span)
            case s.Call(id=name, arguments=arguments, over=over, condition=condition, span=span):
                count = FUNCTIONS.get(name)
                if count is None:
                    raise TensorProgError(f"unknown function `{name}`", span,
                                          fix=nearest(name, FUNCTIONS) or ", ".join(FUNCTIONS),
                                          why="what every function does to sizes is known beforehand")  # fmt: skip
                if len(arguments) != count or over or condition or any(a.keyword for a in arguments):
                    raise TensorProgError(f"`{name}` takes {count} argument{'s' * (count > 1)} here", span,
                                          why="the number of its arguments is what it means",
                                          fix=f"`{name}({', '.join('ab'[:count])})`")  # fmt: skip
                return self._call(name, [self.value(a.value) for a in arguments], span)
            case _:
                raise TensorProgError("this cannot stand in an optimizer", expr.span,
                                      why="it is made of names, numbers, + - * / ^ and functions",
                                  fix="a formula such as `g / (sqrt(v) + eps)`")  # fmt: skip

    def _name(self, name: str, span: s.Span) -> Value:
        self.used.add(name)
        if name in RESERVED:
            raise TensorProgError(f"`{name}` does not stand in the formulas", span,
                                  why="w <- w - lr * step, and weight decay is added to that: it is derived",
                                  fix="`decay = decoupled` or `decay = coupled` for weight decay")  # fmt: skip
        if name in self.values:
            return self.values[name]
        if name in self.assigned:  # read before it is assigned: kept from step to step, zero at first
            known = self.state.get(name, Value({f"#{name}": Fraction(1)}, ANY, ANY, "", linear=True))
            self.state[name] = known
            return known
        raise TensorProgError(f"unknown name `{name}`", span, fix=nearest(name, self.values) or ", ".join(GIVEN),
                              why="it is neither given nor defined above")  # fmt: skip

    def assign(self, name: str, value: Value, span: s.Span) -> bool:
        """True if a state turned out to be something else than assumed."""
        self.values[name] = value
        if name not in self.state:
            return False
        old = self.state[name]
        self.sizes.equate(old, value, span)
        if old.kind and value.kind and old.kind != value.kind and "scalar" in (old.kind, value.kind):
            raise TensorProgError(f"`{name}` is a number in one place and a tensor in another", span,
                                  why="a name has one meaning in all steps", fix="two names")  # fmt: skip
        new = Value(old.size, old.gradient & value.gradient, old.parameter & value.parameter, value.kind or old.kind,
                    old.linear and value.linear)  # fmt: skip
        self.state[name] = new
        return new != old

    def _sum(self, a: Value, b: Value, span: s.Span) -> Value:
        self.sizes.equate(a, b, span)
        if "spectral" in (a.kind, b.kind) and "entry" in (a.kind, b.kind):
            raise TensorProgError("an orthogonalised tensor and another one cannot be added", span,
                                  why="the sizes of their entries agree for one shape only",
                                  fix="`orthogonal(..)` times numbers alone")  # fmt: skip
        linear = a.linear and b.linear
        size = b.size if a.size is None else a.size
        return Value(size, a.gradient & b.gradient, a.parameter & b.parameter, _wider(a, b), linear)

    def _power(self, base: Value, exponent: s.Expr, span: s.Span) -> Value:
        power = constant(exponent)
        if power is None:
            one = Value({})
            self.sizes.equate(base, one, span)
            self.sizes.equate(self.value(exponent), one, span)
            return replace(base, linear=False)
        size = None if base.size is None else {k: f * power for k, f in base.size.items()}
        if power == 1:
            return base
        if power.denominator == 1:
            return Value(size, _power_signs(base.gradient, power), _power_signs(base.parameter, power), base.kind)
        return Value(size, base.gradient & EVEN, base.parameter & EVEN, base.kind)

    def _call(self, name: str, args: list[Value], span: s.Span) -> Value:
        first = args[0]
        if "spectral" in {a.kind for a in args}:
            raise TensorProgError("an orthogonalised tensor stands here", span, why="only numbers may multiply it",
                                  fix="`orthogonal(..)` times a number")  # fmt: skip
        match name:
            case "sqrt":
                return self._power(first, s.Number(Fraction(1, 2)), span)
            case "abs":
                return Value(first.size, _even(first.gradient), _even(first.parameter), first.kind)
            case "sign":
                return Value({}, first.gradient, first.parameter, first.kind)
            case "norm" | "rms":
                half = {"count": Fraction(1, 2)} if name == "norm" else {}
                size = None if first.size is None else _combine(first.size, half, 1)
                return Value(size, _even(first.gradient), _even(first.parameter))
            case "orthogonal":
                if first.kind == "scalar":
                    raise TensorProgError("`orthogonal` wants a tensor", span,
                                          why="it works on the shape of the parameter",
                                          fix="`orthogonal(g)`")  # fmt: skip
                return Value({"count": Fraction(-1, 2)}, first.gradient, first.parameter, "spectral", first.linear)
            case _:  # max, min, clip, atan2 compare two values
                second = args[1]
                self.sizes.equate(first, second, span)
                size = first.size if first.size is not None else second.size
                if name in ("clip", "atan2"):  # odd in the first, even in the second
                    return Value({} if name == "atan2" else size, _times(first.gradient, second.gradient & EVEN),
                                 _times(first.parameter, second.parameter & EVEN), _wider(first, second))  # fmt: skip
                return Value(size, first.gradient & second.gradient & EVEN, first.parameter & second.parameter & EVEN,
                             _wider(first, second))  # fmt: skip


def _wider(a: Value, b: Value) -> str:
    return next((k for k in ("spectral", "entry", "scalar") if k in (a.kind, b.kind)), "")


def _even(signs: Signs) -> Signs:
    return EVEN if signs else signs


def _times(a: Signs, b: Signs) -> Signs:
    return frozenset(x * y for x in a for y in b)


def _power_signs(signs: Signs, power: Fraction) -> Signs:
    return signs if power.numerator % 2 else _even(signs)


def _product(a: Value, b: Value, sign: int, span: s.Span) -> Value:
    kinds = {a.kind, b.kind}
    if "spectral" in kinds and kinds != {"spectral", "scalar"}:
        raise TensorProgError("an orthogonalised tensor may be multiplied by numbers only", span,
                              why="the size of its entries depends on the shape",
                              fix="`orthogonal(..)` times numbers alone")  # fmt: skip
    size = None if a.size is None or b.size is None else _combine(a.size, b.size, sign)
    linear = (a.linear and b.kind == "scalar") or (b.linear and a.kind == "scalar" and sign == 1)
    return Value(size, _times(a.gradient, b.gradient), _times(a.parameter, b.parameter), _wider(a, b), linear)

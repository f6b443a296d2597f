"""The constants of the emitted file: what each parameter starts as and how its quantities scale with the widths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import prod
from typing import TypeVar

from tensorprog.dims import Dim
from tensorprog.emission.format import Code, number, over, power, times
from tensorprog.errors import InternalError, TensorProgError
from tensorprog.exponents import Power
from tensorprog.graph import Scalar
from tensorprog.optimizers import Optimizer
from tensorprog.parameters import Parameter
from tensorprog.parametrization import Parametrization
from tensorprog.syntax import NOWHERE, Span

MAX_SEARCHED = 1000  # larger widths that are tried where a size is not whole


@dataclass(frozen=True, slots=True)
class ParameterRow:
    """One parameter tensor: its attribute path in the emitted code, and its path in the model."""

    path: str
    graph_path: str
    parameter: Parameter


@dataclass(frozen=True, slots=True)
class MultiplierRow:
    path: str
    base: Scalar
    exponent: Power


Row = TypeVar("Row", ParameterRow, MultiplierRow)


@dataclass(slots=True)
class Tables:
    """Rows in groups: the instances of one declaration (the layers of a repeat)."""

    parameters: list[list[ParameterRow]] = field(default_factory=list)
    multipliers: list[list[MultiplierRow]] = field(default_factory=list)


def merged(groups: Sequence[Sequence[Row]], text: Callable[[Row], str]) -> dict[str, str]:
    """path -> text of its entry; `layers.*.W` for layers that agree."""
    found: dict[str, str] = {}
    for rows in groups:
        starred: dict[str, list[Row]] = {}
        for row in rows:
            starred.setdefault(star(row.path), []).append(row)
        for pattern, members in starred.items():
            texts = [text(row) for row in members]
            if len(set(texts)) == 1:
                found[pattern] = texts[0]
            else:
                found |= {row.path: t for row, t in zip(members, texts, strict=True)}
    return found


def star(path: str) -> str:
    """`layers.3.W` -> `layers.*.W`."""
    return ".".join("*" if part.isdigit() else part for part in path.split("."))


def exponents(value: Power) -> str:
    """`{"n": -1 / 2}`."""
    parts = []
    for symbol, exponent in value.exponents:
        text = (
            str(exponent.numerator) if exponent.denominator == 1 else f"{exponent.numerator} / {exponent.denominator}"
        )
        parts.append(f'"{symbol}": {text}')
    return f"{{{', '.join(parts)}}}"


def updater(row: ParameterRow, parametrization: Parametrization) -> Optimizer:
    """The optimizer that updates this parameter."""
    return parametrization.updater(replace(row.parameter, name=row.graph_path))


def parameter_text(
    parametrization: Parametrization, base: Mapping[str, int], many: bool
) -> Callable[[ParameterRow], str]:
    """The entry of one parameter: start at the base width, then exponents."""

    def text(row: ParameterRow) -> str:
        rule = parametrization.params.get(row.graph_path)
        if rule is None:
            raise InternalError(f"the parametrization has no row for {row.graph_path}", row.parameter.span)
        parts = [f"init={_start(row.parameter, base, rule.init_std is None)}"]
        if rule.init_std is not None and rule.init_std.exponents:
            parts.append(f"init_std={exponents(rule.init_std)}")
        if rule.lr is None or row.parameter.frozen:
            return f"dict({', '.join(parts)})"
        chosen = updater(row, parametrization)
        if many:
            parts.append(f'optimizer="{chosen.name}"')
        parts.append(f"lr={exponents(rule.lr)}")
        if chosen.decay != "none" and rule.weight_decay is not None:
            parts.append(f"weight_decay={exponents(rule.weight_decay)}")
        if "eps" in dict(chosen.defaults) and rule.eps is not None:
            parts.append(f"eps={exponents(rule.eps)}")
        parts += [f"{name}={exponents(value)}" for name, value in rule.others]
        return f"dict({', '.join(parts)})"

    return text


def _start(parameter: Parameter, base: Mapping[str, int], starts_at_zero: bool) -> str:
    init = parameter.init
    if starts_at_zero:
        return '("constant", 0.0)'
    match init.kind:
        case "normal" if init.value is None:
            fan_in = _size(parameter.fan_in, base, parameter.span) if parameter.fan_in is not None else 1
            return f'("normal", {fan_in}**-0.5)' if fan_in != 1 else '("normal", 1.0)'
        case "zeros":
            return '("constant", 0.0)'
        case "ones":
            return '("constant", 1.0)'
        case "orthogonal":  # entries of an orthogonal matrix shrink by themselves: only the base value is kept
            sizes = [_size(axis.dim, base, parameter.span) for axis in parameter.axes] or [1]
            longest = max(sizes[0], prod(sizes[1:]))
            gain = init.value if init.value is not None else 1.0
            return f'("orthogonal", {over(number(gain), power(Code(str(longest)), number(0.5))).text})'
        case "normal" | "constant":
            value = init.value if init.value is not None else 1.0
            return f'("{init.kind}", {number(float(value)).text})'
        case _:
            raise InternalError(f"the initialiser {init.kind!r} cannot be emitted", parameter.span)


def _size(dim: Dim, base: Mapping[str, int], span: Span = NOWHERE) -> int:
    value = dim.evaluate(base)
    if value.denominator != 1 or value < 1:
        raise TensorProgError(f"the size {dim} is {value} at the base widths", span, fix=_other_base(dim, base),
                              why="a size is a whole number from 1 on")  # fmt: skip
    return int(value)


def _other_base(dim: Dim, base: Mapping[str, int]) -> str:
    """The next larger base widths at which this size is a whole number."""
    for more in range(1, MAX_SEARCHED):
        larger = {symbol: base[symbol] + more for symbol in sorted(dim.symbols)}
        value = dim.evaluate(larger)
        if value.denominator == 1 and value >= 1:
            return " ".join(f"--base-width {symbol}={width}" for symbol, width in larger.items())
    return "a size that is a whole number at some width"


def multiplier_text(base: Mapping[str, int]) -> Callable[[MultiplierRow], str]:
    """The entry of one multiplier: its value at the base width, and its exponents."""

    def text(row: MultiplierRow) -> str:
        if row.base.unknowns:
            raise InternalError(f"the base value of the multiplier {row.path} depends on other multipliers")
        code: Code | None = None
        below: Code | None = None
        for dim, exponent in row.base.powers:
            size = number(Fraction(_size(dim, base)))
            if exponent == -1:
                below = size if below is None else times(below, size)
            else:
                factor = power(size, number(exponent)) if exponent != 1 else size
                code = factor if code is None else times(code, factor)
        coefficient = row.base.coefficient
        if code is None or coefficient != 1:
            first = number(float(coefficient)) if Fraction(float(coefficient)) == coefficient else number(coefficient)
            code = first if code is None else times(first, code)
        if below is not None:
            code = over(code, below)
        return f"({code.text}, {exponents(row.exponent)})"

    return text

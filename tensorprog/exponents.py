"""Exact exponents of the widths: for people (`Power`) and for the calculus (`Units`: one integer each)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property

from tensorprog.dims import Dim

BASE = 1 << 40  # of the packed digits; |exponent * denominator| stays far below half of it
WIDE = 1 << 400  # the same, for points on the way of a linear programme
MOST_PARTS = 1 << 128  # the denominators of such points


@dataclass(frozen=True, slots=True)
class Power:
    """A product of width symbols to rational powers, e.g. n^-1/2: how a quantity scales."""

    exponents: tuple[tuple[str, Fraction], ...] = ()

    @staticmethod
    def of(mapping: Mapping[str, Fraction | int]) -> Power:
        """From symbol -> exponent; zeros are dropped."""
        return Power(tuple(sorted((s, Fraction(e)) for s, e in mapping.items() if e)))

    def __mul__(self, other: Power) -> Power:
        total = dict(self.exponents)
        for symbol, exponent in other.exponents:
            total[symbol] = total.get(symbol, Fraction(0)) + exponent
        return Power.of(total)

    def __truediv__(self, other: Power) -> Power:
        return self * other ** Fraction(-1)

    def __pow__(self, exponent: Fraction | int) -> Power:
        return Power.of({s: e * exponent for s, e in self.exponents})

    def __getitem__(self, symbol: str) -> Fraction:
        return dict(self.exponents).get(symbol, Fraction(0))

    @property
    def degree(self) -> Fraction:
        """The exponent when all widths grow together."""
        return sum((e for _, e in self.exponents), Fraction(0))

    def ratio(self, widths: Mapping[str, int], base: Mapping[str, int]) -> float:
        """prod (width / base width)^exponent; exactly 1.0 at the base widths. A symbol that is in neither (a depth)
        stays at its base."""
        value = 1.0
        for symbol, exponent in self.exponents:
            if symbol not in widths and symbol not in base:
                continue
            value *= float(Fraction(widths[symbol], base[symbol])) ** float(exponent)
        return value

    def as_json(self, symbols: Iterable[str]) -> dict[str, str]:
        """One key per symbol, exact rationals as strings."""
        return {symbol: str(self[symbol]) for symbol in symbols}

    def __str__(self) -> str:
        if not self.exponents:
            return "1"
        return " ".join(s if e == 1 else f"{s}^{e}" for s, e in self.exponents)


class Units:
    """Packs an exponent vector into one integer, so that adding and comparing are single operations.

    `groups`: the symbols in order of dominance; symbols of one group grow in proportion, a symbol of an earlier
    group outgrows every power of a later one (widths before depths: n goes to infinity before L). The digits of
    the integer are, from the highest: the total degree in each group, then the exponent of each symbol, which only
    breaks ties; all in units of 1/denominator. Integer order is the order of growth.
    """

    def __init__(self, *groups: tuple[str, ...], denominator: int = 840, base: int = BASE) -> None:
        self.given = self.groups = tuple(group for group in groups if group)
        self.symbols = tuple(symbol for group in self.groups for symbol in group)
        self.denominator, self.base = denominator, base
        self._single = single = all(len(group) == 1 for group in self.groups)  # then the degrees are the exponents
        digits = len(self.symbols) + (0 if single else len(self.groups))
        place = {symbol: self.base ** (len(self.symbols) - 1 - k) for k, symbol in enumerate(self.symbols)}
        self._weight: dict[str, int] = {}
        for rank, group in enumerate(self.groups):
            degree = 0 if single else self.base ** (digits - 1 - rank)
            self._weight.update({symbol: place[symbol] + degree for symbol in group})
        self.pack_power, self.unpack = cache(self._pack_power), cache(self._unpack)

    def pack(self, exponents: Mapping[str, Fraction | int]) -> int:
        """Raises ValueError if an exponent is not a multiple of 1/denominator, or its digits might run over."""
        total = 0
        for symbol, weight in self._weight.items():
            scaled = Fraction(exponents.get(symbol, 0)) * self.denominator
            if scaled.denominator != 1:
                raise ValueError(f"exponent {exponents[symbol]} is not a multiple of 1/{self.denominator}")
            if abs(scaled.numerator) > self.base >> 8:
                raise ValueError(f"exponent {exponents[symbol]} is too large")
            total += scaled.numerator * weight
        return total

    def _pack_power(self, power: Power) -> int:
        return self.pack(dict(power.exponents))

    def size(self, dim: Dim) -> int:
        """The packed exponent of an axis: its fastest growing term; 0 if it stays finite."""
        best = 0
        for monomial, _ in dim.terms:
            best = max(best, self.pack({symbol: power for symbol, power in monomial if symbol in self._weight}))
        return best

    def grows(self, size: int) -> bool:
        """Whether a packed exponent is that of something that grows (symbols of a group in proportion)."""
        digit = 1 if self._single else self.base ** len(self.symbols)
        return (size + digit // 2) // digit > 0

    def degree(self, size: int) -> Fraction:
        """The total degree of a packed exponent in the dominant group."""
        power = self.unpack(size)
        return sum((power[symbol] for symbol in self.groups[0]), Fraction(0)) if self.groups else Fraction(0)

    def part(self, size: int, symbol: str) -> int:
        """The factor of a packed exponent that is a power of one symbol, packed."""
        return int(self.unpack(size)[symbol] * self.denominator) * self._weight[symbol]

    def finer(self, denominator: int, base: int = WIDE) -> Units:
        """The same with another denominator, and room for any."""
        return type(self)(*self.given, denominator=denominator, base=base)

    @cached_property
    def as_one(self) -> Degrees:
        """The same, but that the symbols of the first group, which grow in proportion, are one."""
        return Degrees(*self.given, denominator=self.denominator)

    # --- as rational numbers: for a linear programme, in which solutions have denominators of their own ------------

    def number(self, power: Power) -> Fraction:
        """An exponent vector as one rational number. Numbers add and are ordered as exponents do; with one symbol it is
        the exponent."""
        return sum((power[symbol] * weight for symbol, weight in self._weight.items()), Fraction(0))

    def power(self, number: Fraction) -> Power:
        """The inverse of `number`. Raises ValueError for exponents with large denominators."""
        digits = []
        rest = number
        for k in reversed(range(len(self.symbols) + (0 if self._single else len(self.groups)))):
            digit = (rest / self.base**k).limit_denominator(MOST_PARTS) if k else rest
            digits.append(digit)
            rest -= digit * self.base**k
        if any(digit.denominator > MOST_PARTS or abs(digit) > MOST_PARTS for digit in digits):
            raise ValueError(f"{number} is no exponent")
        return Power.of(dict(zip(self.symbols, digits[-len(self.symbols) :], strict=True)))

    def packed(self, number: Fraction) -> int:
        """A number as a packed exponent. Raises ValueError if the units are too coarse for it."""
        scaled = number * self.denominator
        if scaled.denominator != 1:
            raise ValueError(f"{number} is not a multiple of 1/{self.denominator}")
        return scaled.numerator

    def sign(self, number: Fraction) -> int:
        """1 for the number of an exponent that grows, -1 if it vanishes, 0 if it does neither (symbols of a group in
        proportion)."""
        whole = number if self._single else round(number / self.base ** len(self.symbols) * MOST_PARTS)
        return (whole > 0) - (whole < 0)

    def _unpack(self, size: int) -> Power:
        """The inverse of `pack`."""
        result: dict[str, Fraction] = {}
        for symbol in reversed(self.symbols):
            digit = (size + self.base // 2) % self.base - self.base // 2
            result[symbol] = Fraction(digit, self.denominator)
            size = (size - digit) // self.base
        return Power.of(result)


class Degrees(Units):
    """Units in which the symbols of the first group, which grow in proportion, are one: of their exponents only the sum
    counts. It is unpacked as a power of the first."""

    def __init__(self, fastest: tuple[str, ...], *slower: tuple[str, ...], denominator: int = 840, base: int = BASE):
        super().__init__(fastest[:1], *slower, denominator=denominator, base=base)
        self.given = (fastest, *self.groups[1:])
        self._weight |= dict.fromkeys(fastest, self._weight[fastest[0]])

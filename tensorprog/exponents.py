"""Exact exponents of the widths: for people (`Power`) and for the calculus (`Units`: one integer each)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

_DIGIT = 1 << 40  # base of the packed digits; |exponent * denominator| stays far below half of it


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
        """prod (width / base width)^exponent; exactly 1.0 at the base widths."""
        value = 1.0
        for symbol, exponent in self.exponents:
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

    The highest digit is the total degree, the others the exponent of each symbol, all in units of
    1/denominator. Integer order is therefore: total degree first (widths grow proportionally), then symbol by
    symbol, which only breaks ties.
    """

    def __init__(self, symbols: tuple[str, ...], denominator: int = 840) -> None:
        self.symbols, self.denominator = symbols, denominator
        count = len(symbols)
        self._digit = [_DIGIT ** (count - 1 - k) for k in range(count)]
        self._top = _DIGIT**count if count > 1 else 0
        self.pack_power = cache(self._pack_power)

    def pack(self, exponents: Mapping[str, Fraction | int]) -> int:
        """Raises ValueError if an exponent is not a multiple of 1/denominator."""
        total = 0
        for position, symbol in enumerate(self.symbols):
            scaled = Fraction(exponents.get(symbol, 0)) * self.denominator
            if scaled.denominator != 1:
                raise ValueError(f"exponent {exponents[symbol]} is not a multiple of 1/{self.denominator}")
            total += scaled.numerator * (self._digit[position] + self._top)
        return total

    def _pack_power(self, power: Power) -> int:
        return self.pack(dict(power.exponents))

    def degree(self, size: int) -> Fraction:
        """The total degree of a packed exponent."""
        top = self._top or 1
        return Fraction((size + top // 2) // top, self.denominator)

    def unpack(self, size: int) -> Power:
        """The inverse of `pack`."""
        result: dict[str, Fraction] = {}
        for symbol in reversed(self.symbols):
            digit = (size + _DIGIT // 2) % _DIGIT - _DIGIT // 2
            result[symbol] = Fraction(digit, self.denominator)
            size = (size - digit) // _DIGIT
        return Power.of(result)

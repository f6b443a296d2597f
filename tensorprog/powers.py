"""Exponents as people write them: `-1/2` of the only width, or a product of powers such as `n^-1/2 m`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

LARGEST, MOST_PARTS = 8, 24  # of an exponent: its size, and its denominator
_NUMBER = r"[+-]?(?:[0-9]{1,9}(?:/[1-9][0-9]{0,8}|\.[0-9]{0,9})?|\.[0-9]{1,9})"
_FACTOR = re.compile(rf"([A-Za-z_]\w*)(?:\^(?:({_NUMBER})|\(\s*({_NUMBER})\s*\)))?", re.ASCII)


def read_number(text: str) -> Fraction | None:
    """`-1/2` or `-0.5`, exactly; None for anything else."""
    text = text.strip()
    return Fraction(text) if re.fullmatch(_NUMBER, text) else None


def read_power(text: str) -> Mapping[str, Fraction] | Fraction | None:
    """`n^-1/2 m` as exponents by symbol, `-1/2` as a number; None for anything else."""
    number = read_number(text)
    if number is not None:
        return number
    found: dict[str, Fraction] = {}
    for part in re.split(r"\s*\*\s*|\s+", text.strip()):
        factor = _FACTOR.fullmatch(part)
        if factor is None:
            return None
        found[factor[1]] = found.get(factor[1], Fraction(0)) + Fraction(factor[2] or factor[3] or 1)
    return found


def ordinary(power: Mapping[str, Fraction] | Fraction) -> bool:
    """Whether exponents are such as somebody means: neither large nor of a large denominator."""
    exponents = [power] if isinstance(power, Fraction) else power.values()
    return all(abs(e) <= LARGEST and e.denominator <= MOST_PARTS for e in exponents)

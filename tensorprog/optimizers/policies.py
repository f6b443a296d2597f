"""How weight decay scales: published rules differ, so each is a named policy, a row of data."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

DEFAULT_POLICY = "product"


@dataclass(frozen=True, slots=True)
class Policy:
    """By which fraction of itself a parameter shrinks at each step.

    `power` k: the fraction is (size of a step / size of the parameter)^k, in exponents; None: whatever a decay that
    does not depend on the width gives. A parameter whose steps pile up along one direction settles where k = 1 keeps
    it, one whose steps are independent where k = 2 does.
    """

    power: Fraction | None
    says: str
    source: str


POLICIES: dict[str, Policy] = {
    "product": Policy(
        Fraction(0), "lr * decay does not depend on the width",
        "Wang & Aitchison 2024, arXiv:2405.13698; Wortsman et al. 2023, arXiv:2309.14322 (independent decay); "
        "Dey et al. 2025, CompleteP, arXiv:2505.01618",
    ),
    "drift": Policy(
        Fraction(1), "the size at which aligned steps and decay balance does not depend on the width",
        "Fan et al. 2025, arXiv:2510.15262 (AdamW on matrices: decay ~ n^1/2)",
    ),
    "diffusion": Policy(
        Fraction(2), "the size at which independent steps and decay balance does not depend on the width",
        "Kosson, Messmer & Jaggi 2023, Rotational equilibrium, arXiv:2305.17212 (AdamW: rms (lr / 2 decay)^1/2)",
    ),
    "constant": Policy(
        None, "decay does not depend on the width",
        "torch.optim's default; Dey et al. 2023, Cerebras-GPT, arXiv:2304.03208",
    ),
}  # fmt: skip

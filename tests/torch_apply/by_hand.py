"""What must change in the models of `models.py`, written down by hand from the published tables (Tensor Programs V,
tables 3 and 8; the exponents of weight decay and epsilon from docs/explanation/calculus.md, section 10)."""

from __future__ import annotations

from fractions import Fraction

from tensorprog.dims import Dim
from tensorprog.exponents import Power
from tensorprog.parametrization import ParamExponents
from tensorprog.torch.changes import (
    Absorb,
    Changes,
    InputHook,
    MultiplierChange,
    OutputHook,
    ParameterChange,
)  # fmt: skip
from tests.shared import n

ONE, N = Power(), Dim.of("n")
HALF = Power.of({"n": Fraction(-1, 2)})


def dims(*sizes: int) -> tuple[Dim, ...]:
    """Positive: that many; negative: so many times n."""
    return tuple(Dim.of(s) if s > 0 else Dim.of(-s) * N for s in sizes)


# Initial std, and per optimizer (learning rate, weight decay, epsilon), of the three kinds of weights of table 3.
TABLE3 = {
    "input": (ONE, {"adamw": (ONE, ONE, n(-1)), "sgd": (n(1), n(-1), None)}),
    "hidden": (HALF, {"adamw": (n(-1), n(1), n(-1)), "sgd": (ONE, ONE, None)}),
    "readout": (n(-1), {"adamw": (n(-1), n(1), ONE), "sgd": (n(-1), n(1), None)}),
}


def parameter(
    name: str, shape: tuple[int, ...], kind: str, optimizer: str, now: Power | None = None, alias: str = ""
) -> ParameterChange:
    """`now`: how the initial value scales (None: it starts at zero)."""
    std, rates = TABLE3[kind]
    lr, decay, eps = rates[optimizer]
    needed = ParamExponents(ONE, None if now is None else std, lr, decay, eps)
    return ParameterChange(name, (alias,) if alias else (), dims(*shape), "zeros" if now is None else "normal", now,
                           needed, optimizer)  # fmt: skip


def mlp(optimizer: str = "adamw") -> Changes:
    """Of `models.mlp`, whose weights start with fan-in^-1/2."""
    return Changes(
        ("n",),
        optimizer,
        (
            parameter("first.weight", (-1, 16), "input", optimizer, ONE),
            parameter("first.bias", (-1,), "input", optimizer),
            parameter("hidden.weight", (-1, -1), "hidden", optimizer, HALF),
            parameter("hidden.bias", (-1,), "input", optimizer),
            parameter("readout.weight", (10, -1), "readout", optimizer, HALF),
            ParameterChange("readout.bias", (), dims(10), "zeros", None,
                            ParamExponents(ONE, None, ONE, ONE, ONE if optimizer == "adamw" else None), optimizer),
        ),
        (),
        Power.of({"n": Fraction(1, 2)}),
    )  # fmt: skip


def nanogpt(layers: int = 2, tied: bool = True, heads: int = 2, std: bool = False) -> Changes:
    """Of `models.nanogpt` with AdamW, heads that grow, and (`std`) one initial spread for all weights."""
    hidden_now = ONE if std else HALF

    def w(name: str, shape: tuple[int, ...], kind: str, now: Power | None = None, alias: str = "") -> ParameterChange:
        return parameter(name, shape, kind, "adamw", now, alias)

    found = [w("wte.weight", (31, -1), "input", ONE, "lm_head.weight" if tied else ""),
             w("wpe.weight", (7, -1), "input", ONE)]  # fmt: skip
    multipliers = []
    for k in range(layers):
        h = f"h.{k}"
        found += [w(f"{h}.ln_1.weight", (-1,), "input", ONE), w(f"{h}.ln_1.bias", (-1,), "input"),
                  w(f"{h}.attn.c_attn.weight", (-3, -1), "hidden", hidden_now),
                  w(f"{h}.attn.c_attn.bias", (-3,), "input"),
                  w(f"{h}.attn.c_proj.weight", (-1, -1), "hidden", hidden_now),
                  w(f"{h}.attn.c_proj.bias", (-1,), "input"),
                  w(f"{h}.ln_2.weight", (-1,), "input", ONE), w(f"{h}.ln_2.bias", (-1,), "input"),
                  w(f"{h}.up.weight", (-4, -1), "hidden", hidden_now), w(f"{h}.up.bias", (-4,), "input"),
                  w(f"{h}.down.weight", (-1, -4), "hidden", hidden_now),
                  w(f"{h}.down.bias", (-1,), "input")]  # fmt: skip
        places = (OutputHook(f"{h}.attn.c_attn", axis=-1, start=Dim.of(0), stop=N),
                  Absorb(f"{h}.attn.c_attn.weight", axis=0, start=Dim.of(0), stop=N))  # fmt: skip
        multipliers.append(MultiplierChange(f"{h}.attn (scores)", "product", f"{h}.attn", HALF, n(-1), places))
    found += [w("ln_f.weight", (-1,), "input", ONE), w("ln_f.bias", (-1,), "input")]
    if tied:
        multipliers.append(MultiplierChange("wte.weight at lm_head", "use", "lm_head", ONE, n(-1),
                                            (InputHook("lm_head"), OutputHook("lm_head")), "wte.weight"))  # fmt: skip
    else:
        found.append(w("lm_head.weight", (31, -1), "readout", hidden_now))
    return Changes(("n",), "adamw", tuple(found), tuple(multipliers), ONE)

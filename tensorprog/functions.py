"""The elementwise nonlinearities: what the calculus, NumPy and PyTorch each need to know of one, a row per function.

The facts of the built-in ones are literal data; a test recomputes them from `formula`. Those of functions defined
by the user (`fn swoosh(z) = ..`) come from SymPy. Importing this module imports neither NumPy nor SymPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tensorprog import syntax

if TYPE_CHECKING:
    import numpy.typing as npt

    Elementwise = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
else:
    Elementwise = Callable


@dataclass(frozen=True, slots=True)
class Facts:
    """What the calculus needs to know of one real function f.

    `constant`: f(0) != 0; where f jumps, the mean of its two limits (1/2 for the step function).
    `order`: smallest k >= 1 with a non-zero k-th Taylor term at 0, from either side (relu, abs: 1; None: there is
    none, f is constant on each side). `next_order`: the next such k, None if there is none.
    `parity`: "odd" | "even" | "none", of f including its constant.
    `degree`: f is positively homogeneous of this degree (relu 1, square 2, a step or a constant 0), else None.
    `tail`: |f| grows at most like |x|^tail for large |x| (0 bounded, 1 gelu); None: faster than any power.
    `kink`: smallest k whose Taylor terms differ on the two sides of 0 (steps 0, relu 1, elu 2; None: smooth).
    """

    constant: bool
    order: int | None
    next_order: int | None
    parity: str
    degree: int | None
    tail: int | None
    kink: int | None = None


@dataclass(frozen=True, slots=True)
class Function:
    """One nonlinearity and its derivative.

    `formula`: in z, for SymPy. `facts`, `numpy`: of f and of f' (arrays in, arrays of the same dtype out; at a
    kink the derivative is PyTorch's). `torch`: an expression with `{x}` for the argument, written with `torch`
    and `F` (torch.nn.functional); `{x}` may occur more than once.
    """

    name: str
    formula: str
    facts: tuple[Facts, Facts]
    numpy: tuple[Elementwise, Elementwise]
    torch: str


def user_function(name: str, argument: str, body: syntax.Expr, known: Mapping[str, Function] | None = None) -> Function:
    """The function `fn name(argument) = body`; its facts are computed with SymPy.

    `body` may hold numbers, `argument`, `+ - * / ^` (with a constant exponent), `sqrt`, `log` and the functions in
    `known` (default: the built-in ones). Raises TensorProgError, with the place in the text, for anything else, and
    where the function is not finite at 0 or not real everywhere.
    """
    from tensorprog.formulas import define

    return define(name, argument, body, BUILTIN if known is None else known)


def _lazy(name: str) -> Elementwise:
    def call(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        from tensorprog import elementwise

        result: npt.NDArray[Any] = getattr(elementwise, name)(x)
        return result

    call.__name__ = call.__qualname__ = name
    return call


def _row(name: str, formula: str, value: Facts, slope: Facts, torch: str) -> Function:
    return Function(name, formula, (value, slope), (_lazy(name), _lazy(f"{name}_slope")), torch)


_SELU_SCALE = "1.0507009873554804934193349852946"
_SELU = f"{_SELU_SCALE} * Piecewise((1.6732632423543772848170429916717 * (exp(z) - 1), z < 0), (z, True))"

_STEP = Facts(True, None, None, "none", 0, 0, kink=0)
_SIGMOID = Facts(True, 1, 3, "none", None, 0)
_BUMP = Facts(True, 2, 4, "even", None, 0)  # slopes of sigmoid, tanh, erf and sin
_GATE = Facts(False, 1, 2, "none", None, 1)  # gelu, silu: z times a sigmoid
_RELU = Facts(False, 1, None, "none", 1, 1, kink=1)
_ODD = Facts(False, 1, 3, "odd", None, 0)

_F = Facts
# fmt: off
_ROWS = (  # name, formula; facts of f, facts of f'; PyTorch
    _row("identity", "z",
         _F(False, 1, None, "odd", 1, 1), _F(True, None, None, "even", 0, 0), "{x}"),
    _row("relu", "Max(z, 0)",
         _RELU, _STEP, "F.relu({x})"),
    _row("leaky_relu", "Max(z, z/100)",
         _RELU, _STEP, "F.leaky_relu({x}, 0.01)"),
    _row("abs", "Abs(z)",
         _F(False, 1, None, "even", 1, 1, kink=1), _F(False, None, None, "odd", 0, 0, kink=0), "torch.abs({x})"),
    _row("square", "z**2",
         _F(False, 2, None, "even", 2, 2), _F(False, 1, None, "odd", 1, 1), "torch.square({x})"),
    _row("cube", "z**3",
         _F(False, 3, None, "odd", 3, 3), _F(False, 2, None, "even", 2, 2), "torch.pow({x}, 3)"),
    _row("relu_squared", "Max(z, 0)**2",
         _F(False, 2, None, "none", 2, 2, kink=2), _RELU, "torch.square(F.relu({x}))"),
    _row("hardtanh", "Max(-1, Min(1, z))",
         _F(False, 1, None, "odd", None, 0), _F(True, None, None, "even", None, 0), "F.hardtanh({x})"),
    _row("tanh", "tanh(z)",
         _ODD, _BUMP, "torch.tanh({x})"),
    _row("erf", "erf(z)",
         _ODD, _BUMP, "torch.erf({x})"),
    _row("sin", "sin(z)",
         _ODD, _BUMP, "torch.sin({x})"),
    _row("cos", "cos(z)",
         _BUMP, _ODD, "torch.cos({x})"),
    _row("sigmoid", "1/(1 + exp(-z))",
         _SIGMOID, _BUMP, "torch.sigmoid({x})"),
    _row("softplus", "log(1 + exp(z))",
         _F(True, 1, 2, "none", None, 1), _SIGMOID, "F.softplus({x})"),
    _row("exp", "exp(z)",
         _F(True, 1, 2, "none", None, None), _F(True, 1, 2, "none", None, None), "torch.exp({x})"),
    _row("gelu", "z/2 * (1 + erf(z/sqrt(2)))",
         _GATE, _SIGMOID, "F.gelu({x})"),
    _row("gelu_tanh", "z/2 * (1 + tanh(sqrt(2/pi) * (z + 44715*z**3/1000000)))",
         _GATE, _SIGMOID, 'F.gelu({x}, approximate="tanh")'),
    _row("silu", "z/(1 + exp(-z))",
         _GATE, _SIGMOID, "F.silu({x})"),
    _row("mish", "z*tanh(log(1 + exp(z)))",
         _GATE, _F(True, 1, 2, "none", None, 0), "F.mish({x})"),
    _row("elu", "Piecewise((exp(z) - 1, z < 0), (z, True))",
         _F(False, 1, 2, "none", None, 1, kink=2), _F(True, 1, 2, "none", None, 0, kink=1), "F.elu({x})"),
    _row("selu", _SELU,
         _F(False, 1, 2, "none", None, 1, kink=1), _F(True, 1, 2, "none", None, 0, kink=0), "F.selu({x})"),
)
# fmt: on

BUILTIN: dict[str, Function] = {row.name: row for row in _ROWS}


def find(name: str, own: Mapping[str, Function]) -> Function:
    """The function of a name: the file's `own`, else the built-in one."""
    return own.get(name) or BUILTIN[name]

"""The syntax tree of a .tp file: plain frozen data, compared without positions.

Stage 1 of the pipeline (text -> Arch). Nothing here knows what a program means; `elaborate` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Span:
    """Where something stands in its source: 1-based lines and columns, end exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int
    file: str = ""


NOWHERE = Span(0, 0, 0, 0)


def _span() -> Span:
    return field(default=NOWHERE, compare=False, repr=False)


# --- expressions ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number:
    """A literal, exact: `2`, `0.02`, `1e-5` are kept as fractions."""

    value: Fraction
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Name:
    """A bare name: a whole tensor, a dim, a width, a function or a flag; which one is decided later."""

    id: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Unknown:
    """`?name` or `?` : a multiplier whose exponent the derivation solves for. `?name{value}` also states
    its value at the base width (an expression in dims and numbers; default 1)."""

    id: str | None
    value: Expr | None = None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Indexed:
    """`x[t, (h e), 2 u + a - 1, ..]` : a tensor with one index expression per axis."""

    id: str
    indices: tuple[Index, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Binary:
    """`a op b` with op one of `+ - * / ^`; juxtaposition is `*`. The right side of `^` is a scalar."""

    op: str
    left: Expr
    right: Expr
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Negate:
    operand: Expr
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a call: positional when `keyword` is None. A bare flag (`causal`) is positional."""

    keyword: str | None
    value: Expr
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Condition:
    """`left <= right` between two index names, in `softmax[s | s <= t](..)`: where it fails, the weight is 0.
    op is one of `<= < >= >`."""

    left: str
    op: str
    right: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Call:
    """`f(x, k = 3)` or `softmax[s | s <= t](x[t,s])`; `over` holds the bracketed indices."""

    id: str
    arguments: tuple[Argument, ...]
    over: tuple[str, ...] = ()
    condition: Condition | None = None
    span: Span = _span()


Expr = Number | Name | Unknown | Indexed | Binary | Negate | Call


# --- indices ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IndexName:
    id: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class IndexGroup:
    """`(h e)` : one axis seen as several, the first varying slowest."""

    ids: tuple[str, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class IndexAffine:
    """`2 u + a - 1` : a sum of (coefficient, index name) terms and an offset (a dim expression).
    A coefficient is a whole number or the name of a finite dim (`stride u + a`).
    With no terms it selects one position: `h[0, i]`. Positions outside the axis read as zero."""

    terms: tuple[tuple[int | str, str], ...]
    offset: Expr
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class IndexEllipsis:
    """`..` : all axes that the other indices do not name (leading ones, batch-like)."""

    span: Span = _span()


@dataclass(frozen=True, slots=True)
class IndexGather:
    """`E[tokens[t], i]` : the axis is looked up with integer tokens."""

    tokens: Indexed
    span: Span = _span()


Index = IndexName | IndexGroup | IndexAffine | IndexEllipsis | IndexGather


# --- statements -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WidthDecl:
    """`width n, m` : symbols that go to infinity."""

    names: tuple[str, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class DepthItem:
    """One number of repeats; the value is the finite depth to unroll at."""

    name: str
    value: Expr | None = None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class DepthDecl:
    """`depth L, M = 4` : numbers of repeats."""

    items: tuple[DepthItem, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class RegimeDecl:
    """`regime n, m: proportional` (relation "proportional") or `regime n << m << p` (relation "<<")."""

    names: tuple[str, ...]
    relation: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Assignment:
    """`name = value` or `name: value` inside dim and axis declarations and optimizer clauses."""

    name: str
    value: Expr
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class DimDecl:
    """`dim classes = 10, heads = n / d_head`."""

    items: tuple[Assignment, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class AxisDecl:
    """`axis i: d, j: n` : index names and the dims they run over."""

    items: tuple[Assignment, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class InputDecl:
    """`input x[i]` (reals) or `input tokens[t] in vocab` (integers below vocab). The batch axis is implicit."""

    name: str
    indices: tuple[IndexName, ...]
    vocab: Expr | None = None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class ParamItem:
    """`W[k,j] = normal(0.02) frozen optimizer muon` : initialiser None means the default (normal, fan-in)."""

    name: str
    indices: tuple[IndexName, ...]
    init: Expr | None = None
    frozen: bool = False
    optimizer: str | None = None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class ParamDecl:
    items: tuple[ParamItem, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class FnDecl:
    """`fn swoosh(z) = z * sigmoid(2 z)` : an elementwise nonlinearity by formula."""

    name: str
    argument: str
    body: Expr
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Let:
    """`x = expr`, `h[t,j] = expr`; with `output` it is also a result of the model."""

    name: str
    indices: tuple[Index, ...] | None
    value: Expr
    output: bool = False
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Return:
    value: Expr
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Loss:
    """`loss cross_entropy(f) + 0.1 * mse(g)`."""

    value: Expr
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class OptimizerDecl:
    """`optimizer adam(beta1 = 0.9)` : the default optimizer of the file."""

    name: str
    arguments: tuple[Assignment, ...] = ()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class OptimizerDef:
    """`optimizer mine(lr = 0.1, beta = 0.9) { m = beta * m + g; step = m }` : an optimizer by its formulas."""

    name: str
    arguments: tuple[Assignment, ...]
    rules: tuple[Assignment, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class FixDecl:
    """`fix lr[layers.*.W] = n^-1/2` : exponents that are given, not derived. `quantity`: init, init_std, multiplier, lr
    or `?name`; `pattern`: of parameter names (None: all); `value`: canonical text, `none` in `fix no multipliers`."""

    quantity: str
    pattern: str | None
    value: str
    span: Span = _span()

    def __str__(self) -> str:
        if self.value == "none":
            return "no multipliers"
        return self.quantity + ("" if self.pattern is None else f"[{self.pattern}]") + f" = {self.value}"


@dataclass(frozen=True, slots=True)
class Repeat:
    """`repeat L { .. }` fresh parameters per layer; `repeat L shared { .. }` the same ones every time."""

    count: Expr
    body: tuple[Statement, ...]
    shared: bool = False
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Scan:
    """`scan t { .. }` : runs over a finite axis in order, the same parameters every time."""

    index: str
    body: tuple[Statement, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class If:
    """`if causal { .. } else { .. }` on a flag: decided when the block is used."""

    flag: str
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...] = ()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Formal:
    """A block's formal argument: a tensor pattern `x[.., i]` (indices given), a pattern of integers
    `tokens[t] in vocab` (which binds the dim `vocab`), or `name: kind = default` with kind one of
    dim, fn, scalar, flag."""

    name: str
    indices: tuple[Index, ...] | None
    kind: str = "tensor"
    default: Expr | None = None
    vocab: str | None = None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Block:
    """`block linear(x[.., i], features: dim) { .. return y }`."""

    name: str
    formals: tuple[Formal, ...]
    body: tuple[Statement, ...]
    span: Span = _span()


Statement = (
    WidthDecl | DepthDecl | RegimeDecl | DimDecl | AxisDecl | InputDecl | ParamDecl | FnDecl | Let | Return
    | Loss | OptimizerDecl | OptimizerDef | FixDecl | Repeat | Scan | If | Block
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Arch:
    """A whole file. `source` and `file` serve error messages only."""

    statements: tuple[Statement, ...]
    source: str = field(default="", compare=False, repr=False)
    file: str = field(default="<string>", compare=False)

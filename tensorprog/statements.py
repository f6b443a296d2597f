"""The syntax tree of a .tp file, from a line on: statements, and the whole file. Expressions: see syntax.py.

Plain frozen data, compared without positions. Nothing here knows what a program means; `elaborate` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tensorprog.syntax import Expr, Index, IndexName, Span, span_field


@dataclass(frozen=True, slots=True)
class WidthDecl:
    """`width n, m` : symbols that go to infinity."""

    names: tuple[str, ...]
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class DepthItem:
    """One number of repeats; the value is the finite depth to unroll at."""

    name: str
    value: Expr | None = None
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class DepthDecl:
    """`depth L, M = 4` : numbers of repeats."""

    items: tuple[DepthItem, ...]
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class RegimeDecl:
    """`regime n, m: proportional` (relation "proportional") or `regime n << m << p` (relation "<<")."""

    names: tuple[str, ...]
    relation: str
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Assignment:
    """`name = value` or `name: value` inside dim and axis declarations and optimizer clauses."""

    name: str
    value: Expr
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class DimDecl:
    """`dim classes = 10, heads = n / d_head`."""

    items: tuple[Assignment, ...]
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class AxisDecl:
    """`axis i: d, j: n` : index names and the dims they run over."""

    items: tuple[Assignment, ...]
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class InputItem:
    """`x[i]` (reals) or `tokens[t] in vocab` (integers below vocab). The batch axis is implicit."""

    name: str
    indices: tuple[IndexName, ...]
    vocab: Expr | None = None
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class InputDecl:
    """`input x[i], tokens[t] in vocab` : data."""

    items: tuple[InputItem, ...]
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class ParamItem:
    """`W[k,j] = normal(0.02) frozen optimizer muon` : initialiser None means the default (normal, fan-in)."""

    name: str
    indices: tuple[IndexName, ...]
    init: Expr | None = None
    frozen: bool = False
    optimizer: str | None = None
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class ParamDecl:
    items: tuple[ParamItem, ...]
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class FnDecl:
    """`fn swoosh(z) = z * sigmoid(2 z)` : an elementwise nonlinearity by formula."""

    name: str
    argument: str
    body: Expr
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Let:
    """`x = expr`, `h[t,j] = expr`; with `output` it is also a result of the model."""

    name: str
    indices: tuple[Index, ...] | None
    value: Expr
    output: bool = False
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Return:
    value: Expr
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Loss:
    """`loss cross_entropy(f) + 0.1 * mse(g)`."""

    value: Expr
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class OptimizerDecl:
    """`optimizer adam(beta1 = 0.9)` : the default optimizer of the file."""

    name: str
    arguments: tuple[Assignment, ...] = ()
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class OptimizerDef:
    """`optimizer mine(lr = 0.1, beta = 0.9) { m = beta * m + g; step = m }` : an optimizer by its formulas."""

    name: str
    arguments: tuple[Assignment, ...]
    rules: tuple[Assignment, ...]
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class FixDecl:
    """`fix lr[layers.*.W] = n^-1/2` : exponents that are given, not derived. `quantity`: init, init_std, multiplier, lr
    or `?name`; `pattern`: of parameter names (None: all); `value`: canonical text, `none` in `fix no multipliers`."""

    quantity: str
    pattern: str | None
    value: str
    span: Span = span_field()

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
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Scan:
    """`scan t { .. }` : runs over a finite axis in order, the same parameters every time."""

    index: str
    body: tuple[Statement, ...]
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class If:
    """`if causal { .. } else { .. }` on a flag: decided when the block is used."""

    flag: str
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...] = ()
    span: Span = span_field()


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
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Block:
    """`block linear(x[.., i], features: dim) { .. return y }`."""

    name: str
    formals: tuple[Formal, ...]
    body: tuple[Statement, ...]
    span: Span = span_field()


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

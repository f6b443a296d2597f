"""Lark's tree of one statement to ours: `Builder` has one method per rule of the grammar."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any, TypeVar

from lark import Token, v_args
from lark.visitors import Transformer_NonRecursive

from tensorprog import statements as st
from tensorprog import syntax as s
from tensorprog.errors import ParseError
from tensorprog.fixing import read_statement
from tensorprog.indices import read_index
from tensorprog.lexing import check_name, span_of
from tensorprog.limits import MAX_OPERATIONS

E = TypeVar("E", s.Number, s.Name, s.Unknown, s.Indexed, s.Binary, s.Negate, s.Call)


@v_args(meta=True)
class Builder(Transformer_NonRecursive[Token, Any]):
    """One method per rule of the grammar; lives for one statement of the file."""

    def __init__(self, file: str, dims: frozenset[str]) -> None:
        super().__init__()
        self.file, self.dims = file, dims
        self.heights: dict[int, tuple[s.Expr, int]] = {}  # by identity: the node (kept alive) and its height
        self.bracketed: set[int] = set()  # by identity: the expressions written in parentheses

    def span(self, meta: Any) -> s.Span:
        return s.Span(meta.line, meta.column, meta.end_line, meta.end_column, self.file)

    def node(self, node: E, *parts: s.Expr) -> E:
        """Keeps the height of every expression below what recursive passes can follow."""
        height = 1 + max((self.heights[id(part)][1] for part in parts), default=0)
        if height > MAX_OPERATIONS:
            message = f"this expression nests more than {MAX_OPERATIONS} operations"
            raise ParseError(message, node.span, fix="a name for a part of it, in a statement of its own",
                             why="what is written in so many steps is no formula any more")  # fmt: skip
        self.heights[id(node)] = node, height
        return node

    def NAME(self, token: Token) -> Token:
        check_name(token)
        return token

    # --- expressions

    def number(self, meta: Any, children: list[Any]) -> s.Number:
        return self.node(s.Number(Fraction(str(children[0])), self.span(meta)))

    def name(self, meta: Any, children: list[Any]) -> s.Name:
        return self.node(s.Name(str(children[0]), self.span(meta)))

    def indexed(self, meta: Any, children: list[Any]) -> s.Indexed:
        gathers = (index.tokens for index in children[1] if isinstance(index, s.IndexGather))
        return self.node(s.Indexed(str(children[0]), children[1], self.span(meta)), *gathers)

    def unknown(self, meta: Any, children: list[Any]) -> s.Unknown:
        label = children[0].strip("?{ \t") or None
        if label:
            check_name(children[0].update(value=label))
        return self.node(s.Unknown(label, children[1] if children[1:] else None, self.span(meta)), *children[1:])

    def binary(self, op: str, meta: Any, children: list[Any]) -> s.Binary:
        return self.node(s.Binary(op, children[0], children[1], self.span(meta)), *children)

    def add(self, meta: Any, children: list[Any]) -> s.Binary:
        return self.binary("+", meta, children)

    def subtract(self, meta: Any, children: list[Any]) -> s.Binary:
        return self.binary("-", meta, children)

    def multiply(self, meta: Any, children: list[Any]) -> s.Binary:
        return self.binary("*", meta, children)

    def divide(self, meta: Any, children: list[Any]) -> s.Binary:
        return self.binary("/", meta, children)

    def raise_(self, meta: Any, children: list[Any]) -> s.Binary:
        return self.binary("^", meta, children)

    def juxtapose(self, meta: Any, children: list[Any]) -> s.Binary:
        left, right = children
        if isinstance(left, s.Binary) and left.op == "/" and id(left) not in self.bracketed:
            raise ParseError("a product by juxtaposition cannot follow a division", right.span,
                             why="`a / b c` can be read as `(a / b) c` and as `a / (b c)`",
                             fix="`*`, or parentheses around the part that is meant")  # fmt: skip
        return self.binary("*", meta, children)

    def negate(self, meta: Any, children: list[Any]) -> s.Negate:
        return self.node(s.Negate(children[0], self.span(meta)), *children)

    def paren(self, meta: Any, children: list[Any]) -> s.Expr:
        inner: s.Expr = replace(children[0], span=self.span(meta))
        self.heights[id(inner)] = inner, self.heights[id(children[0])][1]
        self.bracketed.add(id(inner))
        return inner

    def call(self, meta: Any, children: list[Any]) -> s.Call:
        arguments = tuple(children[1:])
        return self.node(s.Call(str(children[0]), arguments, span=self.span(meta)), *(a.value for a in arguments))

    def reduction(self, meta: Any, children: list[Any]) -> s.Call:
        over, condition = children[1] or ((), None)
        arguments = tuple(children[2:])
        call = s.Call(str(children[0]), arguments, over, condition, self.span(meta))
        return self.node(call, *(a.value for a in arguments))

    def over(self, meta: Any, children: list[Any]) -> tuple[tuple[str, ...], s.Condition | None]:
        return children[0], children[1]

    def condition(self, meta: Any, children: list[Any]) -> s.Condition:
        return s.Condition(str(children[0]), str(children[1]), str(children[2]), self.span(meta))

    def keyword(self, meta: Any, children: list[Any]) -> s.Argument:
        return s.Argument(str(children[0]), children[1], self.span(meta))

    def positional(self, meta: Any, children: list[Any]) -> s.Argument:
        return s.Argument(None, children[0], self.span(meta))

    # --- indices

    def brackets(self, meta: Any, children: list[Any]) -> tuple[s.Index, ...]:
        return tuple(children)

    def index(self, meta: Any, children: list[Any]) -> s.Index:
        if isinstance(children[0], Token):
            return s.IndexEllipsis(self.span(meta))
        return read_index(children[0], self.dims, lambda e: id(e) in self.bracketed)

    def pattern(self, meta: Any, children: list[Any]) -> tuple[s.IndexName, ...]:
        return tuple(s.IndexName(str(t), replace(span_of(t), file=self.file)) for t in children)

    def names(self, meta: Any, children: list[Any]) -> tuple[str, ...]:
        return tuple(str(token) for token in children)

    # --- statements

    def width(self, meta: Any, children: list[Any]) -> st.WidthDecl:
        return st.WidthDecl(children[0], self.span(meta))

    def depth(self, meta: Any, children: list[Any]) -> st.DepthDecl:
        return st.DepthDecl(tuple(children), self.span(meta))

    def layers(self, meta: Any, children: list[Any]) -> st.DepthItem:
        return st.DepthItem(str(children[0]), children[1], self.span(meta))

    def regime(self, meta: Any, children: list[Any]) -> st.RegimeDecl:
        if children[1] != "proportional":
            raise ParseError(f"`{children[1]}` is not a regime", replace(span_of(children[1]), file=self.file),
                             fix="`regime n, m: proportional` or `regime n << m`",
                             why="widths grow in proportion, or one faster than every power of another")  # fmt: skip
        return st.RegimeDecl(children[0], str(children[1]), self.span(meta))

    def separated(self, meta: Any, children: list[Any]) -> st.RegimeDecl:
        return st.RegimeDecl(tuple(map(str, children)), "<<", self.span(meta))

    def define(self, meta: Any, children: list[Any]) -> st.Assignment:
        return st.Assignment(str(children[0]), children[1], self.span(meta))

    range = define

    def dim(self, meta: Any, children: list[Any]) -> st.DimDecl:
        return st.DimDecl(tuple(children), self.span(meta))

    def axis(self, meta: Any, children: list[Any]) -> st.AxisDecl:
        return st.AxisDecl(tuple(children), self.span(meta))

    def input(self, meta: Any, children: list[Any]) -> st.InputDecl:
        return st.InputDecl(tuple(children), self.span(meta))

    def entry(self, meta: Any, children: list[Any]) -> st.InputItem:
        return st.InputItem(str(children[0]), children[1] or (), children[2], self.span(meta))

    def params(self, meta: Any, children: list[Any]) -> st.ParamDecl:
        return st.ParamDecl(tuple(children), self.span(meta))

    def param(self, meta: Any, children: list[Any]) -> st.ParamItem:
        name, indices, init, *modifiers = children
        optimizers = [m for m in modifiers if m is not None]
        if len(optimizers) > 1 or len(modifiers) - len(optimizers) > 1:
            raise ParseError("`frozen` or `optimizer` is given twice for one parameter", self.span(meta),
                             why="a parameter is trained in one way", fix="one of them")  # fmt: skip
        chosen = optimizers[0] if optimizers else None
        frozen = len(modifiers) > len(optimizers)
        return st.ParamItem(str(name), indices or (), init, frozen, chosen, self.span(meta))

    def frozen(self, meta: Any, children: list[Any]) -> None:
        return None

    def chosen(self, meta: Any, children: list[Any]) -> str:
        return str(children[0])

    def fn(self, meta: Any, children: list[Any]) -> st.FnDecl:
        return st.FnDecl(str(children[0]), str(children[1]), children[2], self.span(meta))

    def let(self, meta: Any, children: list[Any]) -> st.Let:
        name, indices, value = children[-3:]
        return st.Let(str(name), indices, value, len(children) == 4, self.span(meta))

    def return_(self, meta: Any, children: list[Any]) -> st.Return:
        return st.Return(children[0], self.span(meta))

    def loss(self, meta: Any, children: list[Any]) -> st.Loss:
        return st.Loss(children[0], self.span(meta))

    def optimizer(self, meta: Any, children: list[Any]) -> st.OptimizerDecl | st.OptimizerDef:
        name, *items, rules = children
        arguments = tuple(item for item in items if item is not None)
        if rules is None:
            return st.OptimizerDecl(str(name), arguments, self.span(meta))
        return st.OptimizerDef(str(name), arguments, rules, self.span(meta))

    def fix(self, meta: Any, children: list[Any]) -> st.FixDecl:
        return read_statement(str(children[0]), self.span(meta))

    def rules(self, meta: Any, children: list[Any]) -> tuple[st.Assignment, ...]:
        return tuple(child for child in children if child is not None)

    def braces(self, meta: Any, children: list[Any]) -> tuple[st.Statement, ...]:
        return tuple(child for child in children if child is not None)

    def repeat(self, meta: Any, children: list[Any]) -> st.Repeat:
        return st.Repeat(children[0], children[2], children[1] is not None, self.span(meta))

    def scan(self, meta: Any, children: list[Any]) -> st.Scan:
        return st.Scan(str(children[0]), children[1], self.span(meta))

    def if_(self, meta: Any, children: list[Any]) -> st.If:
        return st.If(str(children[0]), children[1], children[2] or (), self.span(meta))

    def block(self, meta: Any, children: list[Any]) -> st.Block:
        return st.Block(str(children[0]), tuple(children[1:-1]), children[-1], self.span(meta))

    def tensor(self, meta: Any, children: list[Any]) -> st.Formal:
        name, indices, vocab = children
        return st.Formal(str(name), indices, vocab=None if vocab is None else str(vocab), span=self.span(meta))

    def formal(self, meta: Any, children: list[Any]) -> st.Formal:
        name, kind, default = children
        if kind not in ("dim", "fn", "scalar", "flag"):
            place = replace(span_of(kind), file=self.file)
            raise ParseError(f"`{kind}` is not a kind of argument", place, fix="`dim`, `fn`, `scalar` or `flag`",
                             why="behind `:` stands whether it is a size, a function, a number, a switch")  # fmt: skip
        return st.Formal(str(name), None, str(kind), default, span=self.span(meta))

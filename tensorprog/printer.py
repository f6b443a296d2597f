"""Syntax tree to canonical text: `format_arch`, and `format_source`, which also keeps the user's comments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import assert_never

from tensorprog import syntax as s
from tensorprog.limits import MAX_NUMBER_LENGTH

LINE = 110
_SUM, _PRODUCT, _UNARY, _POWER, _ATOM = 1, 2, 3, 4, 5  # how tightly a form binds


def format_arch(arch: s.Arch) -> str:
    """Canonical text: parsing it gives the same tree, and printing that gives the same text."""
    common, _ = declared(st for st in arch.statements if not isinstance(st, s.Block))
    lines: list[str] = []
    previous: s.Statement | None = None
    for statement in arch.statements:
        if previous is not None and (isinstance(statement, s.Block) or isinstance(previous, s.Block)):
            lines.append("")
        lines += format_statement(statement, common)
        previous = statement
    return "".join(line + "\n" for line in lines)


def format_source(source: str, file: str = "<string>") -> str:
    """The file `source` in canonical form, with its comments and single blank lines; `ParseError` for errors."""
    from tensorprog.comments import weave
    from tensorprog.parser import parse

    return weave(parse(source, file), source)


def format_statement(statement: s.Statement, common: frozenset[str]) -> list[str]:
    """The lines of one statement of the file; `common` are the dims that the file declares outside its blocks."""
    dims, indices = declared([statement])
    return list(_lines(statement, common - indices | dims, 0))


def declared(statements: Iterable[s.Statement | s.Assignment]) -> tuple[frozenset[str], frozenset[str]]:
    """The names that statements declare as dims and as indices (the same rule as in the parser)."""
    dims: set[str] = set()
    indices: set[str] = set()
    todo: list[s.Statement | s.Assignment] = list(statements)
    while todo:
        statement = todo.pop()
        match statement:
            case s.WidthDecl(names=names):
                dims.update(names)
            case s.DepthDecl(name=name):
                dims.add(name)
            case s.DimDecl(items=items):
                dims.update(item.name for item in items)
            case s.AxisDecl(items=items):
                indices.update(item.name for item in items)
            case s.InputDecl(indices=pattern):
                indices.update(i.id for i in pattern)
            case s.ParamDecl(items=params):
                indices.update(i.id for item in params for i in item.indices)
            case s.Block(formals=formals, body=body):
                todo += body
                for formal in formals:
                    dims.update([formal.name] if formal.kind == "dim" else [])
                    dims.update([formal.vocab] if formal.vocab else [])
                    indices.update(i.id for i in formal.indices or () if isinstance(i, s.IndexName))
            case s.Repeat(body=body) | s.Scan(body=body):
                todo += body
            case s.If(then=then, otherwise=otherwise):
                todo += (*then, *otherwise)
            case _:
                pass
    return frozenset(dims - indices), frozenset(indices)


# --- statements -------------------------------------------------------------------------------------


def _lines(statement: s.Statement | s.Assignment, dims: frozenset[str], depth: int) -> Iterator[str]:
    header = wrap("  " * depth + head(statement, dims))
    match statement:
        case s.Repeat(body=body) | s.Scan(body=body) | s.Block(body=body):
            yield from _braces(header, body, dims, depth)
        case s.OptimizerDef(rules=rules):
            yield from _braces(header, rules, dims, depth)
        case s.If(then=then, otherwise=otherwise):
            yield from _braces(header, then, dims, depth, end=" else {" if otherwise else "")
            if otherwise:
                yield from _braces([], otherwise, dims, depth)
        case _:
            yield from header


def _braces(
    header: list[str], body: Sequence[s.Statement | s.Assignment], dims: frozenset[str], depth: int, end: str = ""
) -> Iterator[str]:
    yield from header
    for statement in body:
        yield from _lines(statement, dims, depth + 1)
    yield "  " * depth + "}" + end


def head(statement: s.Statement | s.Assignment, dims: frozenset[str]) -> str:
    """The text of a statement up to and with its `{`, on one line."""
    match statement:
        case s.WidthDecl(names=names):
            return f"width {', '.join(names)}"
        case s.DepthDecl(name=name, value=value):
            return f"depth {name}" + _given(value, dims)
        case s.RegimeDecl(names=names, relation="<<"):
            return f"regime {' << '.join(names)}"
        case s.RegimeDecl(names=names, relation=relation):
            return f"regime {', '.join(names)}: {relation}"
        case s.DimDecl(items=items):
            return f"dim {_assignments(items, ' = ', dims)}"
        case s.AxisDecl(items=items):
            return f"axis {_assignments(items, ': ', dims)}"
        case s.InputDecl(name=name, indices=indices, vocab=vocab):
            return f"input {name}{_pattern(indices)}" + (f" in {text(vocab, dims)}" if vocab is not None else "")
        case s.ParamDecl(items=params):
            return f"param {', '.join(_param(item, dims) for item in params)}"
        case s.FnDecl(name=name, argument=argument, body=formula):
            return f"fn {name}({argument}) = {text(formula, dims)}"
        case s.Let(name=name, indices=left, value=value, output=output):
            brackets = "" if left is None else _brackets(left, dims)
            return f"{'output ' if output else ''}{name}{brackets} = {text(value, dims)}"
        case s.Return(value=value):
            return f"return {text(value, dims)}"
        case s.Loss(value=value):
            return f"loss {text(value, dims)}"
        case s.OptimizerDecl(name=name, arguments=items):
            return f"optimizer {name}" + (f"({_assignments(items, ' = ', dims)})" if items else "")
        case s.OptimizerDef(name=name, arguments=items):
            return f"optimizer {name}" + (f"({_assignments(items, ' = ', dims)})" if items else "") + " {"
        case s.FixDecl():
            return f"fix {statement}"
        case s.Assignment(name=name, value=value):
            return f"{name} = {text(value, dims)}"
        case s.Repeat(count=count, shared=shared):
            return f"repeat {text(count, dims)}{' shared' if shared else ''} {{"
        case s.Scan(index=index):
            return f"scan {index} {{"
        case s.If(flag=flag):
            return f"if {flag} {{"
        case s.Block(name=name, formals=formals):
            return f"block {name}({', '.join(_formal(f, dims) for f in formals)}) {{"
        case _:
            assert_never(statement)


def _given(value: s.Expr | None, dims: frozenset[str]) -> str:
    return "" if value is None else f" = {text(value, dims)}"


def _assignments(items: tuple[s.Assignment, ...], mark: str, dims: frozenset[str]) -> str:
    return ", ".join(f"{item.name}{mark}{text(item.value, dims)}" for item in items)


def _pattern(indices: tuple[s.IndexName, ...]) -> str:
    return f"[{','.join(index.id for index in indices)}]" if indices else ""


def _param(item: s.ParamItem, dims: frozenset[str]) -> str:
    optimizer = f" optimizer {item.optimizer}" if item.optimizer else ""
    frozen = " frozen" if item.frozen else ""
    return f"{item.name}{_pattern(item.indices)}{_given(item.init, dims)}{frozen}{optimizer}"


def _formal(formal: s.Formal, dims: frozenset[str]) -> str:
    if formal.kind != "tensor":
        return f"{formal.name}: {formal.kind}{_given(formal.default, dims)}"
    brackets = "" if formal.indices is None else _brackets(formal.indices, dims)
    return f"{formal.name}{brackets}" + (f" in {formal.vocab}" if formal.vocab else "")


def wrap(line: str) -> list[str]:
    """A long line broken after commas and before operators; what follows is indented."""
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    lines = []
    while len(line) > LINE:
        breaks = [i for i in range(len(indent) + 1, LINE) if line[i] == " " and _may_break(line, i)]
        if not breaks:
            break
        lines.append(line[: breaks[-1]])
        line = indent + line[breaks[-1] + 1 :]
    return [*lines, line]


def _may_break(line: str, i: int) -> bool:
    return line[i - 1] == "," or (line[i + 1] in "+-*/" and line[i + 2 : i + 3] == " ")


# --- expressions ------------------------------------------------------------------------------------


def text(expr: s.Expr, dims: frozenset[str] = frozenset(), level: int = _SUM) -> str:
    """An expression, in parentheses if it binds less tightly than `level`."""
    own, out = _expression(expr, dims)
    return out if own >= level else f"({out})"


def _expression(expr: s.Expr, dims: frozenset[str]) -> tuple[int, str]:
    match expr:
        case s.Number(value=value):
            return _number(value)
        case s.Name(id=name):
            return _ATOM, name
        case s.Unknown(id=name, value=value):
            return _ATOM, f"?{name or ''}" + ("" if value is None else f"{{{text(value, dims)}}}")
        case s.Indexed(id=name, indices=indices):
            return _ATOM, name + _brackets(indices, dims)
        case s.Call(id=name, arguments=arguments, over=over, condition=condition):
            where = f" | {condition.left} {condition.op} {condition.right}" if condition else ""
            bracket = f"[{','.join(over)}{where}]" if over else ""
            inside = ", ".join((f"{a.keyword} = " if a.keyword else "") + text(a.value, dims) for a in arguments)
            return _ATOM, f"{name}{bracket}({inside})"
        case s.Negate(operand=operand):
            return _UNARY, "-" + text(operand, dims, _UNARY)
        case s.Binary(op="+" | "-" as op, left=left, right=right):
            return _SUM, f"{text(left, dims, _SUM)} {op} {text(right, dims, _PRODUCT)}"
        case s.Binary(op="^", left=left, right=right):
            return _POWER, f"{text(left, dims, _ATOM)}^{_exponent(right, dims)}"
        case s.Binary(op=op, left=left, right=right):
            sign = " " if op == "*" and _side_by_side(left, right) else f" {op} "
            return _PRODUCT, f"{text(left, dims, _PRODUCT)}{sign}{text(right, dims, _UNARY)}"
        case _:
            assert_never(expr)


def _exponent(expr: s.Expr, dims: frozenset[str]) -> str:
    match expr:
        case s.Number(value=value) if value == 1:
            return "(1)"  # because `n^1/2` is refused as ambiguous
        case s.Binary(op="/", left=s.Number() | s.Negate(operand=s.Number()) as left, right=s.Number() as right):
            return f"({text(left)}/{text(right, level=_ATOM)})"
        case _:
            return text(expr, dims, _ATOM)


def _side_by_side(left: s.Expr, right: s.Expr) -> bool:
    """Whether a product is written without `*`: `W[j,i] x[i]`, `4 n`."""
    factor = right.left if isinstance(right, s.Binary) and right.op == "^" else right
    if isinstance(left, s.Binary) and left.op == "*":
        left = left.right
    match left, factor:
        case s.Number(value=value), s.Name() | s.Indexed():
            return value >= 0
        case s.Indexed(), s.Indexed():
            return True
        case _:
            return False


def _number(value: Fraction) -> tuple[int, str]:
    if value < 0:
        return _UNARY, "-" + _number(-value)[1]
    places = 0
    while places < 400 and (value * 10**places).denominator != 1:
        places += 1
    scaled = value * 10**places
    if scaled.denominator != 1:
        return _PRODUCT, f"{value.numerator} / {value.denominator}"
    digits = str(scaled.numerator).rjust(places + 1, "0")
    plain = digits if not places else f"{digits[:-places]}.{digits[-places:]}"
    significant = digits.strip("0")
    power = len(digits.lstrip("0")) - 1 - places
    point = f".{significant[1:]}" if significant[1:] else ""
    short = f"{significant[:1] or '0'}{point}e{power}"
    usual = value == 0 or (Fraction(1, 10_000) <= value and (len(plain) <= 8 or len(significant) > 6))
    if (usual and len(plain) <= MAX_NUMBER_LENGTH) or len(short) > MAX_NUMBER_LENGTH:
        return _ATOM, plain.removeprefix("0") if len(plain) > MAX_NUMBER_LENGTH else plain
    return _ATOM, short


# --- indices ----------------------------------------------------------------------------------------


def _brackets(indices: tuple[s.Index, ...], dims: frozenset[str]) -> str:
    wide = any(isinstance(i, s.IndexGather) or (isinstance(i, s.IndexAffine) and i.terms) for i in indices)
    return f"[{(', ' if wide else ',').join(_index(index, dims) for index in indices)}]"


def _index(index: s.Index, dims: frozenset[str]) -> str:
    match index:
        case s.IndexName(id=name):
            return name
        case s.IndexGroup(ids=names):
            return f"({' '.join(names)})"
        case s.IndexEllipsis():
            return ".."
        case s.IndexGather(tokens=tokens):
            return text(tokens, dims)
        case s.IndexAffine(terms=terms, offset=offset):
            parts = [_term(coefficient, name) for coefficient, name in terms]
            plain = [coefficient for coefficient, _ in terms] == [1]  # `u + 0` reads a part of an axis, `u` all of it
            if offset != s.Number(Fraction(0)) or not parts or plain:
                parts += _offset(offset, dims, alone=not parts)
            out = " ".join(parts)
            return out[2:] if out.startswith("+ ") else "-" + out[2:]
        case _:
            assert_never(index)


def _term(coefficient: int | str, name: str) -> str:
    if isinstance(coefficient, str):
        return f"+ {coefficient} {name}"
    sign, size = ("-" if coefficient < 0 else "+"), abs(coefficient)
    return f"{sign} {name}" if size == 1 else f"{sign} {size} {name}"


def _offset(offset: s.Expr, dims: frozenset[str], alone: bool) -> list[str]:
    """A sign and a dim expression: a number, a known dim, or anything in parentheses."""
    match offset:
        case s.Number(value=value):
            return [f"{'-' if value < 0 else '+'} {text(s.Number(abs(value)))}"]
        case s.Name(id=name) if name in dims:
            return [f"+ {name}"]
        case s.Negate(operand=s.Name(id=name)) if name in dims:
            return [f"- {name}"]
        case s.Negate(operand=operand) if not isinstance(operand, s.Number):
            return [f"- ({text(operand, dims)})"]
        case s.Binary(op="*") if alone:  # `(n m)` alone would be a group
            return [f"+ 0 + ({text(offset, dims)})"]
        case _:
            return [f"+ ({text(offset, dims)})"]

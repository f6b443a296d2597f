"""Syntax tree to canonical text: `format_arch`, and `format_source`, which also keeps the user's comments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import assert_never

from tensorprog import statements as st
from tensorprog import syntax as s
from tensorprog.expressions import brackets, text

LINE = 110


def format_arch(arch: st.Arch) -> str:
    """Canonical text: parsing it gives the same tree, and printing that gives the same text."""
    common, _ = declared(one for one in arch.statements if not isinstance(one, st.Block))
    lines: list[str] = []
    previous: st.Statement | None = None
    for statement in arch.statements:
        if previous is not None and (isinstance(statement, st.Block) or isinstance(previous, st.Block)):
            lines.append("")
        lines += format_statement(statement, common)
        previous = statement
    return "".join(line + "\n" for line in lines)


def format_source(source: str, file: str = "<string>") -> str:
    """The file `source` in canonical form, with its comments and single blank lines; `ParseError` for errors."""
    from tensorprog.comments import weave
    from tensorprog.parser import parse

    return weave(parse(source, file), source)


def format_statement(statement: st.Statement, common: frozenset[str]) -> list[str]:
    """The lines of one statement of the file; `common` are the dims that the file declares outside its blocks."""
    dims, indices = declared([statement])
    return list(_lines(statement, common - indices | dims, 0))


def declared(statements: Iterable[st.Statement | st.Assignment]) -> tuple[frozenset[str], frozenset[str]]:
    """The names that statements declare as dims and as indices (the same rule as in the parser)."""
    dims: set[str] = set()
    indices: set[str] = set()
    todo: list[st.Statement | st.Assignment] = list(statements)
    while todo:
        statement = todo.pop()
        match statement:
            case st.WidthDecl(names=names):
                dims.update(names)
            case st.DimDecl(items=items) | st.DepthDecl(items=items):
                dims.update(item.name for item in items)
            case st.AxisDecl(items=items):
                indices.update(item.name for item in items)
            case st.InputDecl(items=patterned) | st.ParamDecl(items=patterned):
                indices.update(i.id for item in patterned for i in item.indices)
            case st.Block(formals=formals, body=body):
                todo += body
                for formal in formals:
                    dims.update([formal.name] if formal.kind == "dim" else [])
                    dims.update([formal.vocab] if formal.vocab else [])
                    indices.update(i.id for i in formal.indices or () if isinstance(i, s.IndexName))
            case st.Repeat(body=body) | st.Scan(body=body):
                todo += body
            case st.If(then=then, otherwise=otherwise):
                todo += (*then, *otherwise)
            case _:
                pass
    return frozenset(dims - indices), frozenset(indices)


# --- statements -------------------------------------------------------------------------------------


def _lines(statement: st.Statement | st.Assignment, dims: frozenset[str], depth: int) -> Iterator[str]:
    header = wrap("  " * depth + head(statement, dims))
    match statement:
        case st.Repeat(body=body) | st.Scan(body=body) | st.Block(body=body):
            yield from _braces(header, body, dims, depth)
        case st.OptimizerDef(rules=rules):
            yield from _braces(header, rules, dims, depth)
        case st.If(then=then, otherwise=otherwise):
            yield from _braces(header, then, dims, depth, end=" else {" if otherwise else "")
            if otherwise:
                yield from _braces([], otherwise, dims, depth)
        case _:
            yield from header


def _braces(
    header: list[str], body: Sequence[st.Statement | st.Assignment], dims: frozenset[str], depth: int, end: str = ""
) -> Iterator[str]:
    yield from header
    for statement in body:
        yield from _lines(statement, dims, depth + 1)
    yield "  " * depth + "}" + end


def head(statement: st.Statement | st.Assignment, dims: frozenset[str]) -> str:
    """The text of a statement up to and with its `{`, on one line."""
    match statement:
        case st.WidthDecl(names=names):
            return f"width {', '.join(names)}"
        case st.DepthDecl(items=layers):
            return f"depth {', '.join(item.name + _given(item.value, dims) for item in layers)}"
        case st.RegimeDecl(names=names, relation="<<"):
            return f"regime {' << '.join(names)}"
        case st.RegimeDecl(names=names, relation=relation):
            return f"regime {', '.join(names)}: {relation}"
        case st.DimDecl(items=items):
            return f"dim {_assignments(items, ' = ', dims)}"
        case st.AxisDecl(items=items):
            return f"axis {_assignments(items, ': ', dims)}"
        case st.InputDecl(items=inputs):
            return f"input {', '.join(_input(item, dims) for item in inputs)}"
        case st.ParamDecl(items=params):
            return f"param {', '.join(_param(item, dims) for item in params)}"
        case st.FnDecl(name=name, argument=argument, body=formula):
            return f"fn {name}({argument}) = {text(formula, dims)}"
        case st.Let(name=name, indices=left, value=value, output=output):
            return f"{'output ' if output else ''}{name}{brackets(left, dims)} = {text(value, dims)}"
        case st.Return(value=value):
            return f"return {text(value, dims)}"
        case st.Loss(value=value):
            return f"loss {text(value, dims)}"
        case st.OptimizerDecl(name=name, arguments=items):
            return f"optimizer {name}" + (f"({_assignments(items, ' = ', dims)})" if items else "")
        case st.OptimizerDef(name=name, arguments=items):
            return f"optimizer {name}" + (f"({_assignments(items, ' = ', dims)})" if items else "") + " {"
        case st.FixDecl():
            return f"fix {statement}"
        case st.Assignment(name=name, value=value):
            return f"{name} = {text(value, dims)}"
        case st.Repeat(count=count, shared=shared):
            return f"repeat {text(count, dims)}{' shared' if shared else ''} {{"
        case st.Scan(index=index):
            return f"scan {index} {{"
        case st.If(flag=flag):
            return f"if {flag} {{"
        case st.Block(name=name, formals=formals):
            return f"block {name}({', '.join(_formal(f, dims) for f in formals)}) {{"
        case _:
            assert_never(statement)


def _given(value: s.Expr | None, dims: frozenset[str]) -> str:
    return "" if value is None else f" = {text(value, dims)}"


def _assignments(items: tuple[st.Assignment, ...], mark: str, dims: frozenset[str]) -> str:
    return ", ".join(f"{item.name}{mark}{text(item.value, dims)}" for item in items)


def _pattern(indices: tuple[s.IndexName, ...]) -> str:
    return f"[{','.join(index.id for index in indices)}]" if indices else ""


def _input(item: st.InputItem, dims: frozenset[str]) -> str:
    return item.name + _pattern(item.indices) + (f" in {text(item.vocab, dims)}" if item.vocab is not None else "")


def _param(item: st.ParamItem, dims: frozenset[str]) -> str:
    optimizer = f" optimizer {item.optimizer}" if item.optimizer else ""
    frozen = " frozen" if item.frozen else ""
    return f"{item.name}{_pattern(item.indices)}{_given(item.init, dims)}{frozen}{optimizer}"


def _formal(formal: st.Formal, dims: frozenset[str]) -> str:
    if formal.kind != "tensor":
        return f"{formal.name}: {formal.kind}{_given(formal.default, dims)}"
    return formal.name + brackets(formal.indices, dims) + (f" in {formal.vocab}" if formal.vocab else "")


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

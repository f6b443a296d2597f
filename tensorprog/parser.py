"""Text to syntax tree: `parse` builds an `Arch`, or raises one `ParseError` that says where and what."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from lark import Lark, Token, Tree
from lark.exceptions import LarkError, UnexpectedInput, VisitError

from tensorprog import statements as st
from tensorprog.errors import ParseError
from tensorprog.lexing import Layout
from tensorprog.limits import MAX_BYTES, MAX_REPEATS
from tensorprog.resources import read_grammar
from tensorprog.tree import Builder


@cache
def grammar() -> Lark:
    """The LALR parser, built from `grammar/tensorprog.lark` when first needed."""
    return Lark(
        read_grammar("tensorprog.lark"),
        parser="lalr",
        lexer="basic",
        postlex=Layout(),
        propagate_positions=True,
        maybe_placeholders=True,
    )


def parse(source: str, file: str = "<string>") -> st.Arch:
    """The syntax tree of `source`, with the place of every part; a `ParseError` if it is not in the language."""
    try:
        return st.Arch(_statements(source, file), source, file)
    except ParseError as error:
        raise error.located(source, file) from None


def _statements(source: str, file: str) -> tuple[st.Statement, ...]:
    if len(source) > MAX_BYTES or len(source.encode("utf-8", "replace")) > MAX_BYTES:
        raise ParseError(f"the file is larger than {MAX_BYTES:,} bytes",
                         why="so long a text is written by a program, or repeats itself",
                         fix="`repeat L { .. }` for layers that are alike, `block` for parts")  # fmt: skip
    text = source.replace("\r\n", "\n").replace("\r", "\n")
    try:
        trees = [child for child in grammar().parse(text).children if isinstance(child, Tree)]
        common, _ = _declared(tree for tree in trees if tree.data != "block")
        statements = []
        for tree in trees:
            dims, indices = _declared([tree])
            statements.append(Builder(file, common - indices | dims).transform(tree))
    except UnexpectedInput as error:
        from tensorprog.mistakes import explain

        raise explain(error, text, grammar()) from None
    except VisitError as error:
        if isinstance(error.orig_exc, ParseError):
            raise error.orig_exc from None
        raise
    except (LarkError, RecursionError) as error:
        raise ParseError(f"the file cannot be read: {error}",
                         why="its parts are nested too deep, or in an order that no statement has",
                         fix="smaller statements") from None  # fmt: skip
    _check_repeats(statements, 0)
    return tuple(statements)


def _declared(trees: Iterable[Tree[Token]]) -> tuple[frozenset[str], frozenset[str]]:
    """The names these statements declare as dims and as indices. They settle whether p in `2 u + p` is an offset."""
    dims: set[str] = set()
    indices: set[str] = set()
    for node in (node for tree in trees for node in tree.iter_subtrees()):
        first = str(node.children[0]) if node.children and isinstance(node.children[0], Token) else ""
        match node.data:
            case "width":
                dims.update(_names(node.children[0]))
            case "dim" | "depth":
                dims.update(name for item in node.children for name in _names(item))
            case "formal" if node.children[1] == "dim":
                dims.add(first)
            case "range":
                indices.add(first)
            case "pattern":
                indices.update(_names(node))
            case "tensor":
                _, brackets, vocab = node.children
                for index in brackets.children if isinstance(brackets, Tree) else ():
                    indices.update(name for expr in getattr(index, "children", ()) for name in _names(expr))
                dims.update(() if vocab is None else (str(vocab),))
            case _:
                pass
    return frozenset(dims - indices), frozenset(indices)


def _names(tree: object) -> tuple[str, ...]:
    """The names directly below this node."""
    children = tree.children if isinstance(tree, Tree) else ()
    return tuple(str(child) for child in children if isinstance(child, Token) and child.type == "NAME")


def _check_repeats(statements: Iterable[st.Statement], depth: int) -> None:
    for statement in statements:
        match statement:
            case st.Repeat():
                if depth == MAX_REPEATS:
                    raise ParseError(f"repeats are nested more than {MAX_REPEATS} deep", statement.span,
                                     why="the layers of nested repeats multiply",
                                     fix="one `repeat` of all the layers, or a `block` for the inner ones")  # fmt: skip
                _check_repeats(statement.body, depth + 1)
            case st.Scan() | st.Block():
                _check_repeats(statement.body, depth)
            case st.If():
                _check_repeats((*statement.then, *statement.otherwise), depth)
            case _:
                pass

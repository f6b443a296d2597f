"""Nonlinearities in emitted code: the built-in ones by template, the user's own as one small function each."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from tensorprog import syntax
from tensorprog.emission.format import Code, block, combined, fold, number, times
from tensorprog.errors import InternalError
from tensorprog.functions import BUILTIN

_PLAIN = {"sqrt": "torch.sqrt({x})", "log": "torch.log({x})"}


def template(name: str) -> str:
    """The PyTorch expression of a built-in function, with `{x}` for its argument."""
    if name in BUILTIN:
        return BUILTIN[name].torch
    if name in _PLAIN:
        return _PLAIN[name]
    raise InternalError(f"the function {name!r} cannot be emitted")


def definition(name: str, argument: str, body: syntax.Expr, mine: Mapping[str, str]) -> str:
    """`def name(z): return ..`; `mine`: templates of the functions that the user defined before."""
    formula = _expression(body, argument, mine)
    return "\n".join(block(f"def {name}(z: Tensor) -> Tensor:", fold(f"return {formula.text}", 96)))


def called(body: syntax.Expr) -> set[str]:
    """Names of the functions that a formula uses."""
    match body:
        case syntax.Binary(_, left, right):
            return called(left) | called(right)
        case syntax.Negate(operand):
            return called(operand)
        case syntax.Call(id, arguments):
            return {id}.union(*(called(a.value) for a in arguments))
        case _:
            return set()


def applied(text: str, code: Code) -> Code:
    """A template around an argument."""
    if text == "{x}":
        return code
    return Code(text.replace("{x}", code.text if text.endswith(")") else code.at(5)))


def _expression(body: syntax.Expr, argument: str, mine: Mapping[str, str]) -> Code:
    match body:
        case syntax.Number(value):
            return number(value)
        case syntax.Name(id) if id == argument:
            return Code("z")
        case syntax.Negate(operand):
            return times(number(Fraction(-1)), _expression(operand, argument, mine))
        case syntax.Binary(op, left, right):
            return combined(op, _expression(left, argument, mine), _expression(right, argument, mine))
        case syntax.Call(id, (syntax.Argument(None, value),)):
            return applied(mine.get(id) or template(id), _expression(value, argument, mine))
    raise InternalError("this formula cannot be emitted", body.span)

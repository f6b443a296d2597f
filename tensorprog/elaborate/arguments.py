"""What a call was given: its arguments, and the indices in its brackets."""

from __future__ import annotations

from collections.abc import Iterable

from tensorprog.dims import Dim
from tensorprog.elaborate.builder import BATCH_INDEX, Operand
from tensorprog.elaborate.frame import Frame
from tensorprog.errors import ShapeError
from tensorprog.syntax import Call, Expr, Name


def argument_of(expr: Call, frame: Frame, needed: frozenset[str], options: Iterable[str] = ()) -> Operand:
    """The value of the only tensor argument."""
    from tensorprog.elaborate.expressions import evaluate_tensor

    return evaluate_tensor(only(expr, options), frame, needed)


def only(expr: Call, options: Iterable[str] = (), count: int = 1) -> Expr:
    """The first positional argument, after checking number and keywords."""
    given = [a.value for a in expr.arguments if a.keyword is None]
    for argument in expr.arguments:
        if argument.keyword is not None and argument.keyword not in options:
            raise ShapeError(f"`{expr.id}` has no argument `{argument.keyword}`", argument.span,
                             why=f"it takes {', '.join(f'`{option} = ..`' for option in options) or 'none by keyword'}",
                             fix=f"nothing in place of `{argument.keyword} = ..`")  # fmt: skip
    if len(given) != count:
        raise ShapeError(f"`{expr.id}` takes {count} argument{'s' if count > 1 else ''}, not {len(given)}", expr.span,
                         why="every other argument would be lost",
                         fix=f"`{expr.id}({', '.join(('x', 'k')[:count])})`")  # fmt: skip
    return given[0]


def require_indices(expr: Call, operand: Operand) -> None:
    """Raises ShapeError if an index in the brackets of a call is none of its argument's."""
    for name in expr.over:
        if name not in operand.indices and name != BATCH_INDEX:
            given = expr.arguments[0].value
            tensor = given.id if isinstance(given, Name) else ""
            part = f"{tensor or 'x'}[..,{name}]"
            call = f"{expr.id}[{name}]({part})"
            raise ShapeError(
                f"the index `{name}` of `{expr.id}[{', '.join(expr.over)}]` is not in its argument",
                expr.span,
                why="a tensor without brackets shows no indices" if tensor else "it works over given indices",
                fix=f"indices everywhere, on the left too: `y[..,{name}] = {part} * {call}`" if tensor
                else f"an argument with indices, like `{call}`",
            )  # fmt: skip


def require_brackets(expr: Call, count: int | None = None) -> None:
    """Raises ShapeError unless a call has indices (so many) in its brackets, and no condition it has no use for."""
    if not expr.over or (count is not None and len(expr.over) != count):
        what = "an index" if count != 1 else "one index"
        raise ShapeError(f"`{expr.id}` needs {what} in brackets", expr.span, fix=f"`{expr.id}[i](..)`",
                         why="the brackets name what it works over")  # fmt: skip
    if len(set(expr.over)) != len(expr.over):
        raise ShapeError(f"`{expr.id}` names an index twice", expr.span, why="over one axis it works once",
                         fix=f"`{expr.id}[{', '.join(dict.fromkeys(expr.over))}](..)`")  # fmt: skip
    if expr.condition is not None and expr.id != "softmax":
        raise ShapeError(f"`{expr.id}` takes no condition", expr.condition.span, fix="`softmax[s | s <= t](..)`",
                         why="only entries of a softmax can be left out")  # fmt: skip


def reduced(expr: Call, frame: Frame, needed: frozenset[str], options: Iterable[str] = ()) -> Operand:
    """The argument with the bracketed indices kept."""
    require_brackets(expr)
    operand = argument_of(expr, frame, needed | set(expr.over), options)
    require_indices(expr, operand)
    return operand


def dims_of(operand: Operand, names: Iterable[str], frame: Frame) -> list[Dim]:
    """The sizes of those axes of a tensor that have these names."""
    axes = frame.builder.values[operand.value].axes
    return [axes[operand.indices.index(name)].dim for name in names if name in operand.indices]

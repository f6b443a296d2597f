"""Stage 2: the syntax tree becomes a typed Model. Names, sizes and index notation are resolved here.

Files: `scope` names and index sizes; `scalars` expressions without tensors; `indices` one indexed tensor, `windows`
and `left` parts of it; `given` multipliers that are known; `products` contractions and sums; `expressions` what is
summed where; `calls` functions and reductions; `blocks` block uses; `loops` repeat and scan; `declarations`,
`statements`, `losses` the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from os.path import basename, splitext

from tensorprog.elaborate.builder import Builder, Context
from tensorprog.elaborate.declarations import declare, declare_input, declare_widths
from tensorprog.elaborate.given import Given
from tensorprog.elaborate.library import LIBRARY, standard_block, standard_names
from tensorprog.elaborate.loops import MAX_COUNT, flatten, repeat, scan
from tensorprog.elaborate.losses import loss
from tensorprog.elaborate.scalars import number
from tensorprog.elaborate.scope import BlockEntity, Scope
from tensorprog.elaborate.sizes import Ledger, size_unknown
from tensorprog.elaborate.statements import later, let
from tensorprog.errors import ShapeError, TensorProgError
from tensorprog.model import Model
from tensorprog.statements import (
    Arch,
    FixDecl,
    InputDecl,
    Let,
    Loss,
    OptimizerDecl,
    RegimeDecl,
    Repeat,
    Return,
    Scan,
)
from tensorprog.syntax import NOWHERE, Expr, Name

__all__ = ["elaborate", "standard_block", "standard_names"]

MAX_ATTEMPTS = 100
Options = tuple[tuple[str, Fraction], ...]


def elaborate(
    arch: Arch, depths: Mapping[str, int] | None = None, *, symbolic: bool = False, given: Sequence[FixDecl] = ()
) -> Model:
    """The typed program of a file.

    `depths`: how often to unroll each `depth` symbol; else the value in the file, else 2. `symbolic`: depths stay
    symbols instead, and the loops over them have a `length` (for `roll`). `given`: unknown multipliers in whose place
    a known power of the sizes stands.
    Raises ShapeError, with the place in the text.
    """
    ledger = Ledger()
    try:
        for _ in range(MAX_ATTEMPTS):
            try:
                model = _elaborate(arch, Context(dict(depths or {}), symbolic, ledger), given)
            except Exception:
                if not ledger.again():
                    raise  # nothing was learned: it is not for want of a size that this fails
            else:
                if not ledger.again():
                    return model
        raise ShapeError("too many indices have no declared size", fix="`axis i: ..` for each",
                         why="the sizes of so many cannot be found from their uses")  # fmt: skip
    except TensorProgError as error:
        for symbol, (label, span) in ledger.open.items():
            if symbol in error.message:
                raise size_unknown(label, span).located(arch.source, arch.file) from None
        raise error.located(arch.source, arch.file) from None


def _elaborate(arch: Arch, context: Context, given: Sequence[FixDecl]) -> Model:
    depths = context.depths
    for name, count in depths.items():
        if not 0 <= count <= MAX_COUNT:
            raise ShapeError(f"the depth {name} = {count} is not between 0 and {MAX_COUNT}",
                             why="every layer is a part of the network that is trained",
                             fix=f"`depth {name} = 4`, or `--depth {name}=4`")  # fmt: skip
    name = "model" if arch.file.startswith("<") else splitext(basename(arch.file))[0]
    builder = Builder(context, name)
    library = Scope(Builder(context, LIBRARY))
    for block in standard_names():
        library.names[block] = BlockEntity(block, library, None)
    top = Scope(builder, library)
    widths = declare_widths(arch.statements, top)
    for name in depths:
        if name not in context.used_depths:
            raise ShapeError(f"the file has no depth `{name}`",
                             fix=", ".join(f"`{known}`" for known in context.used_depths) or f"`depth {name}`",
                             why="only a `depth` symbol can be unrolled at another depth")  # fmt: skip
    flat = flatten(arch.statements, top)
    declare(flat, top)
    context.given = Given(given, top)
    for statement in flat:
        if isinstance(statement, InputDecl):
            for item in statement.items:
                declare_input(item, top)
    outputs: dict[str, int] = {}
    loss_value: int | None = None
    optimizer: OptimizerDecl | None = None
    regime: tuple[tuple[str, ...], str] | None = None
    for position, statement in enumerate(flat):
        top.later = later(flat[position:])
        match statement:
            case Let(output=is_output, name=name):
                value = let(statement, top)
                if is_output and name in outputs:
                    raise ShapeError(f"the output `{name}` is defined twice", statement.span, fix="another name",
                                     why="the program that is generated returns its results by name")  # fmt: skip
                if is_output:
                    outputs[name] = value
            case Repeat():
                repeat(statement, top)
            case Scan():
                scan(statement, top)
            case Loss(value=expr):
                if loss_value is not None:
                    raise ShapeError(
                        "there are two losses", statement.span, fix="`loss a + b`", why="one number is minimized"
                    )
                loss_value = loss(expr, top)
            case OptimizerDecl():
                if optimizer is not None:
                    raise ShapeError("there are two optimizer lines", statement.span, fix="one of them",
                                     why="one is for all parameters that name no other")  # fmt: skip
                optimizer = statement
            case RegimeDecl():
                regime = _regime(statement, widths, regime)
            case Return():
                raise ShapeError("`return` stands outside of a block", statement.span, fix="`output y = ..`",
                                 why="a file hands on its `output`s; `return` is for blocks")  # fmt: skip
            case _:
                pass
    context.given.require_used(context.unknowns)
    for label, span in context.ledger.open.values():
        raise size_unknown(label, span)
    last = flat[-1].span if flat else NOWHERE
    if not outputs:
        raise ShapeError("the file has no output", last, fix="`output f[c] = ..`",
                         why="a network has a result: what is compared with the targets")  # fmt: skip
    if loss_value is None:
        raise ShapeError("the file has no loss", last, fix=f"`loss mse({next(iter(outputs))})`",
                         why="the loss is where the gradients begin")  # fmt: skip
    return Model(
        builder.finish((), tuple(outputs.values())),
        widths,
        tuple(sorted(context.used_depths.items())),
        tuple((name, argument, body) for name, (argument, body) in context.functions.items()),
        tuple(outputs.items()),
        loss_value,
        optimizer.name if optimizer else None,
        _options(optimizer, top),
        regime,
    )


def _options(optimizer: OptimizerDecl | None, scope: Scope) -> Options:
    if optimizer is None:
        return ()
    names = [item.name for item in optimizer.arguments]
    for item in optimizer.arguments:
        if names.count(item.name) > 1:
            raise ShapeError(
                f"`{item.name}` is given twice", item.span, why="an option has one value", fix=f"`{item.name}` once"
            )
    return tuple((item.name, _option(item.value, scope)) for item in optimizer.arguments)


def _option(expr: Expr, scope: Scope) -> Fraction:
    """A number; `true` is 1 and `false` is 0."""
    truth = {"true": Fraction(1), "false": Fraction(0)}
    return truth[expr.id] if isinstance(expr, Name) and expr.id in truth else number(expr, scope)


def _regime(
    statement: RegimeDecl, widths: tuple[str, ...], known: tuple[tuple[str, ...], str] | None
) -> tuple[tuple[str, ...], str]:
    if known is not None:
        raise ShapeError("there are two regime lines", statement.span, fix="one of them",
                         why="one line says how the widths grow: in proportion, or one after the other")  # fmt: skip
    for name in statement.names:
        if name not in widths:
            raise ShapeError(f"`{name}` in the regime is no width", statement.span, fix=f"`width {name}`",
                             why="a regime speaks of the symbols that grow")  # fmt: skip
    if len(set(statement.names)) != len(statement.names):
        raise ShapeError("the regime names a width twice", statement.span,
                         why="a width does not grow faster than itself", fix="each width once")  # fmt: skip
    return statement.names, statement.relation

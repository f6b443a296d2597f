"""A block use: arguments are bound to formals, the body is elaborated into a Module of its own."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from tensorprog.dims import Dim
from tensorprog.elaborate.builder import Builder, Record
from tensorprog.elaborate.frame import Frame
from tensorprog.elaborate.left import names_on_left
from tensorprog.elaborate.scalars import base_value, check_size, polynomial, register, static_scalar
from tensorprog.elaborate.scope import (
    BlockEntity,
    DimEntity,
    FlagEntity,
    FunctionEntity,
    ScalarEntity,
    Scope,
    TensorEntity,
)
from tensorprog.errors import ShapeError
from tensorprog.graph import Axis, Scalar
from tensorprog.model import LocalDim, Use
from tensorprog.statements import Block, Formal
from tensorprog.syntax import Argument, Call, Expr, IndexEllipsis, IndexName, Name, Span, Unknown

MAX_MODULES = 20_000
MAX_NESTING = 32


def use(call: Call, entity: BlockEntity, frame: Frame) -> int:
    """The value of `block(args)` in the caller."""
    block, builder, context = entity.block, frame.builder, frame.builder.context
    if block.name in context.active:
        chain = " -> ".join([*context.active[context.active.index(block.name) :], block.name])
        raise ShapeError(f"the block `{block.name}` uses itself", call.span, why=chain, fix="`repeat`")
    context.modules += 1
    if context.modules > MAX_MODULES or len(context.active) >= MAX_NESTING:
        raise ShapeError("the blocks of this file expand too far", call.span, why=f"at most {MAX_MODULES} block uses",
                         fix="fewer blocks, or a `repeat` over a `depth` symbol, which is not unrolled")  # fmt: skip
    given = match_arguments(call, block)
    instance = builder.instance(block.name)
    path = builder.child_path(instance)
    site = builder.site or (call.span if entity.written is None else None)
    child = Builder(context, block.name, path, path, None, site, builder.loops)
    scope = Scope(child, entity.home)
    binding = _Binding(call, frame, scope, instance)
    args = tuple(binding.tensor(formal, given[formal.name]) for formal in block.formals if formal.kind == "tensor")
    formals = tuple(range(len(args)))
    context.active.append(block.name)
    try:
        for formal in block.formals:
            if formal.kind != "tensor":
                binding.static(formal, given.get(formal.name))
        result = _body(block, scope)
    except ShapeError as error:
        raise _at_the_use(error, call, builder) from None
    finally:
        context.active.pop()
    record = child.values[result]
    module = child.finish(formals, (result,))
    out = builder.new(Record(record.axes))
    builder.steps.append(Use(out, instance, module, args, builder.place(call.span)))
    return out


def _body(block: Block, scope: Scope) -> int:
    from tensorprog.elaborate.statements import run

    result = run(block.body, scope, block)
    if result is None:
        raise ShapeError(f"the block `{block.name}` returns nothing", block.span, fix="`return y` as its last line",
                         why="the value of a call is what its block returns")  # fmt: skip
    return result


def _at_the_use(error: ShapeError, call: Call, builder: Builder) -> ShapeError:
    """A mistake inside a standard block is one of its use: there is where the user can mend it."""
    if builder.site is not None or error.span.file == call.span.file:
        return error
    return ShapeError(f"in `{call.id}`: {error.message}", call.span, why=error.why, fix=error.fix)


# --- arguments ----------------------------------------------------------------------------------------


def match_arguments(call: Call, block: Block) -> dict[str, Argument]:
    """Formal name -> argument; flags may stand bare anywhere."""
    formals = {formal.name: formal for formal in block.formals}
    order = [formal.name for formal in block.formals if formal.kind != "flag"]
    given: dict[str, Argument] = {}
    free = iter(order)
    for argument in call.arguments:
        value, name = argument.value, argument.keyword
        if name is None and isinstance(value, Name) and value.id in formals and formals[value.id].kind == "flag":
            name = value.id
        elif name is None:
            name = next(free, None)
            if name is None:
                most = f"{len(order)} argument{'s' * (len(order) != 1)}"
                raise ShapeError(f"`{block.name}` takes at most {most} without keyword", argument.span,
                                 why=signature(block), fix="the others by keyword, or not at all")  # fmt: skip
        if name not in formals:
            near = difflib.get_close_matches(name, formals, 1, 0.6)
            fix = f"`{near[0]}`" if near else "one of its arguments, or nothing"
            raise ShapeError(f"`{block.name}` has no argument `{name}`", argument.span, why=signature(block), fix=fix)
        if name in given:
            flags = [f"`{formal.name}`" for formal in block.formals if formal.kind == "flag"]
            bare = argument.keyword is None and isinstance(value, Name) and flags
            raise ShapeError(f"`{block.name}` is given `{name}` twice", argument.span,
                             why="an argument without keyword takes the first name that is free",
                             fix="each argument once" + (f"; its flags are {', '.join(flags)}" if bare else "")
                             )  # fmt: skip
        given[name] = argument
    for name in order:
        if name not in given and formals[name].default is None:
            raise ShapeError(f"`{block.name}` needs the argument `{name}`", call.span, why=signature(block),
                             fix=f"`{name} = ..` among the arguments")  # fmt: skip
    return given


def _axes(count: int) -> str:
    return f"{count} ax{'is' if count == 1 else 'es'}"


def signature(block: Block) -> str:
    """`linear(x, features, bias = ..)` for messages."""
    parts = [f.name if f.default is None and f.kind != "flag" else f"{f.name} = .." for f in block.formals]
    return f"it is {block.name}({', '.join(parts)})"


@dataclass(frozen=True, slots=True)
class _Binding:
    """Binds the arguments of one call to names in the scope of the block's body."""

    call: Call
    frame: Frame
    scope: Scope
    instance: str

    def tensor(self, formal: Formal, argument: Argument) -> int:
        """The argument's value in the caller; the formal's in the body; sizes of the formal's indices."""
        from tensorprog.elaborate.expressions import evaluate_tensor

        outer = self.frame.builder
        whole = Frame(self.frame.scope, None)
        value = self._tokens(argument) if formal.vocab is not None else None
        if value is None:
            value = evaluate_tensor(argument.value, whole, frozenset()).value
        record = outer.values[value]
        inner = self.scope.builder.new(Record(record.axes, formal.name, record.source, record.tokens))
        if record.tokens != (formal.vocab is not None):
            what = "tokens: `input tokens[t] in vocab`" if formal.vocab else "a tensor of reals"
            raise ShapeError(f"the argument `{formal.name}` of `{self.call.id}` is {what}", argument.span,
                             why="integers are looked up, reals are computed with",
                             fix="`input tokens[t] in vocab` for integers, `input x[i]` for reals")  # fmt: skip
        axes = record.axes[record.has_batch : len(record.axes) - record.tokens]
        if formal.indices is not None:
            self._pattern(formal, axes, argument)
        if formal.vocab is not None:
            self.size(formal.vocab, record.axes[-1].dim, formal.span)
        self.scope.declare(formal.name, TensorEntity(self.scope.builder, inner), formal.span)
        return value

    def _tokens(self, argument: Argument) -> int | None:
        """Tokens are passed whole."""
        from tensorprog.elaborate.indices import read

        if isinstance(argument.value, Name):
            entity = self.frame.scope.find(argument.value.id)
            if isinstance(entity, TensorEntity):
                return read(entity, self.frame.builder, argument.span)
        return None

    def _pattern(self, formal: Formal, axes: tuple[Axis, ...], argument: Argument) -> None:
        indices = formal.indices or ()
        names_on_left(indices, self.scope)  # none may stand twice
        dots = [k for k, index in enumerate(indices) if isinstance(index, IndexEllipsis)]
        hidden = len(axes) - (len(indices) - len(dots))
        if hidden < 0 or (hidden and not dots) or len(dots) > 1:
            shape = ", ".join(i.id if isinstance(i, IndexName) else ".." for i in indices)
            raise ShapeError(
                f"`{self.call.id}` takes `{formal.name}[{shape}]`, but this tensor has {_axes(len(axes))}",
                argument.span,
                why="the batch axis is implicit and is not counted",
                fix=f"a tensor with {_axes(len(indices) - len(dots))}" + " or more" * bool(dots),
            )
        after = dots[0] + hidden if dots else len(axes)
        matched = [*axes[: dots[0]], *axes[after:]] if dots else [*axes]
        for index, axis in zip((i for i in indices if not isinstance(i, IndexEllipsis)), matched, strict=True):
            if not isinstance(index, IndexName):
                raise ShapeError("an argument pattern holds plain indices", index.span,
                                 why="it says which axes the block expects, not where to read",
                                 fix="index names, and `..` for further axes")  # fmt: skip
            known = self.scope.cell(index.id).known()
            if known is None:
                self.scope.builder.dims.append(LocalDim(index.id, axis.dim))
            elif not self.scope.builder.agree(known, axis.dim):
                raise ShapeError(f"the index `{index.id}` of `{self.call.id}` is {known}, but {axis.dim} here",
                                 argument.span, why="one index has one size",
                                 fix=f"a tensor whose axis `{index.id}` has the size {known}")  # fmt: skip
            self.scope.cell(index.id).bind(axis.dim, index.id, argument.span)

    def size(self, name: str, dim: Dim, span: Span) -> None:
        self.scope.declare(name, DimEntity(dim), span)
        self.scope.builder.dims.append(LocalDim(name, dim))

    def static(self, formal: Formal, argument: Argument | None) -> None:
        """A dim, fn, scalar or flag: the argument, else the default (evaluated in the block)."""
        expr, scope = (formal.default, self.scope) if argument is None else (argument.value, self.frame.scope)
        span = formal.span if argument is None else argument.span
        match formal.kind:
            case "dim":
                assert expr is not None
                dim = polynomial(expr, scope)
                if dim.terms:
                    check_size(dim, span)
                self.size(formal.name, dim, formal.span)
            case "fn":
                assert expr is not None
                self.scope.declare(formal.name, FunctionEntity(self._function(expr, scope)), formal.span)
            case "flag":
                self.scope.declare(formal.name, FlagEntity(self._flag(expr, argument, scope)), formal.span)
            case _:
                assert expr is not None
                scalar = self._scalar(formal, expr, argument)
                self.scope.declare(formal.name, ScalarEntity(scalar), formal.span)

    def _function(self, expr: Expr, scope: Scope) -> str:
        from tensorprog.elaborate.calls import function

        if not isinstance(expr, Name):
            raise ShapeError("a function is passed by its name", expr.span, fix="`act = gelu`, or `fn f(z) = ..`",
                             why="what is applied is a formula in one argument, not its value")  # fmt: skip
        return function(expr.id, Frame(scope, None), expr.span)

    def _flag(self, expr: Expr | None, argument: Argument | None, scope: Scope) -> bool:
        if argument is not None and argument.keyword is None:
            return True
        if expr is None:
            return False
        if isinstance(expr, Name):
            if expr.id in ("true", "false"):
                return expr.id == "true"
            entity = scope.find(expr.id)
            if isinstance(entity, FlagEntity):
                return entity.value
        raise ShapeError("a flag is `true` or `false`", expr.span, fix="`causal`, `causal = true` or `causal = false`",
                         why="a flag chooses between the branches of an `if`")  # fmt: skip

    def _scalar(self, formal: Formal, expr: Expr, argument: Argument | None) -> Scalar:
        """A number in sizes and unknowns. An unknown without a name takes that of the formal."""
        if argument is None:
            if isinstance(expr, Unknown) and expr.id is None:
                return register(f"{self.scope.builder.path}.{formal.name}", expr, self.scope)
            value = static_scalar(expr, self.scope)
        elif isinstance(expr, Unknown):
            return self._unknown(formal, expr)
        else:
            value = static_scalar(expr, self.frame.scope)
        if value is None:
            raise ShapeError(f"the argument `{formal.name}` of `{self.call.id}` is a scalar", expr.span,
                             why="it multiplies tensors: a number, a size, a power of one, or an unknown multiplier",
                             fix=f"`{formal.name} = 0.5`, `.. = n^(-1/2)` or `.. = ?`")  # fmt: skip
        return value

    def _unknown(self, formal: Formal, expr: Unknown) -> Scalar:
        from tensorprog.elaborate.scalars import named_unknown

        default = self._default_base(formal)
        if expr.id is not None:
            return named_unknown(expr, self.frame.scope, default)
        builder = self.frame.builder
        name = formal.name
        if builder.unknown_path or name in builder.context.unknowns:
            name = f"{self.scope.builder.path}.{formal.name}"
        return register(name, expr, self.frame.scope, default)

    def _default_base(self, formal: Formal) -> Scalar | None:
        """The base value that a formal's default states."""
        if formal.default is None:
            return None
        if isinstance(formal.default, Unknown):
            return base_value(formal.default, self.scope)
        value = static_scalar(formal.default, self.scope)
        return None if value is None or value.unknowns else value

"""One rule per node kind: from the terms of its operands to its own, at initialisation and for the change.

`rules_for` compiles every node of a program into a `Rule(initial, change)`; both take the operands' initial
terms, `change` also those of their change since initialisation. Linear kinds stand here, those that
move entries in reshaping.py; contractions in contracting.py, entrywise nonlinearities in nonlinear.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

from tensorprog.calculus import nonlinear
from tensorprog.calculus.balanced import Means, balanced
from tensorprog.calculus.carriers import Carriers
from tensorprog.calculus.contracting import contraction
from tensorprog.calculus.grades import CONSTANT, EVEN, is_zero_mean
from tensorprog.calculus.normalising import (
    centred,
    centrings,
    inverse_rms,
    loss,
    loss_grad,
    since_start,
    softmax_grad,
)
from tensorprog.calculus.regions import Regions
from tensorprog.calculus.reshaping import merge, split, split_sources, window
from tensorprog.calculus.shared import Rule, Sizes, linear, refuse
from tensorprog.calculus.terms import Term, Terms, reduce_terms
from tensorprog.functions import BUILTIN, Function
from tensorprog.graph import (
    Accumulate,
    Add,
    Const,
    Contract,
    Fold,
    Input,
    InvRms,
    Loss,
    LossGrad,
    Map,
    Merge,
    Node,
    Param,
    Program,
    Scale,
    Softmax,
    SoftmaxGrad,
    Split,
    StopGrad,
    TopK,
    Update,
    Window,
)


def rules_for(
    program: Program,
    scalar_size: Callable[[Scale], int],
    functions: Mapping[str, Function],
    sizes: Sizes,
) -> list[Rule | None]:
    """The rule of every node; None for Param and Update nodes, whose terms the analysis supplies."""
    means = {
        node.id: of for node in program.nodes if isinstance(node.op, Add) and (of := centrings(node, program, sizes))
    }
    carriers, balances = Carriers(program, sizes), balanced(program, sizes, means)
    return [_rule(node, program, sizes, scalar_size, functions, carriers, balances, means) for node in program.nodes]


def parts_rules(rules: Sequence[Rule | None], regions: Regions, sizes: Sizes) -> list[Rule | None]:
    """Of what stands behind the program's nodes. A mean over the whole of an axis does not centre a part of it."""
    found: list[Rule | None] = []
    for node in regions.nodes[len(rules) :]:
        if node.id not in regions.of:
            found.append(linear(lambda _: ()))
        elif isinstance(node.op, Add) and node.id in regions.narrowed:
            whole = regions.nodes[regions.of[node.id]]
            found.append(_add(node.op.places, [regions.nodes[a] for a in whole.args], node, sizes, {}))
        else:
            found.append(rules[regions.of[node.id]])
    return found


def _rule(
    node: Node,
    program: Program,
    sizes: Sizes,
    scalar_size: Callable[[Scale], int],
    functions: Mapping[str, Function],
    carriers: Carriers,
    balances: Mapping[int, tuple[bool, bool]],
    means: Means,
) -> Rule | None:
    args = [program.nodes[a] for a in node.args]
    growing = sizes.growing(node.axes)
    match node.op:
        case Param() | Update():
            return None
        case Input(_, kind):
            if kind == "tokens" and sizes(node.axes[-1].dim):
                raise refuse(
                    node, program.nodes, "its vocabulary grows with the width", "make the vocabulary a finite dim"
                )
            data: Terms = ((0, 0, (EVEN,) * len(growing)),)
            return Rule(lambda _: data, lambda _, __: ())
        case Const(value):
            filled: Terms = ((0, 0, (CONSTANT,) * len(growing)),) if value else ()
            return Rule(lambda _: filled, lambda _, __: ())
        case Contract():
            return contraction(node, node.op, args, sizes, program, carriers, balances.get(node.id, (False, False)))
        case Add(places):
            return since_start(node, program) or _add(places, args, node, sizes, means.get(node.id, {}))
        case Scale() as scale:
            if not scale.scalar.coefficient:
                return linear(lambda _: ())
            return linear(lambda t: _shifted(t[0], scalar_size(scale)))
        case Map(fn, order):
            function = functions.get(fn) or BUILTIN.get(fn)
            if function is None or order > 1:
                why = f"nothing is known of the function `{fn}` (derivative {order})"
                raise refuse(node, program.nodes, why, f"a formula of your own, `fn my_{fn}(z) = ..`")
            return Rule(*nonlinear.entrywise(nonlinear.facts_of(function, order), len(growing)))
        case InvRms(axes, _):
            return Rule(*inverse_rms(args[0], axes, sizes))
        case Softmax(axis, _):
            if sizes(node.axes[axis].dim):
                raise refuse(node, program.nodes, "softmax along an axis that grows", "let the axis be a finite dim")
            return Rule(*nonlinear.entrywise(nonlinear.SOFTMAX, len(growing)))
        case SoftmaxGrad(_):
            return softmax_grad(len(growing))
        case TopK(axis, _):
            if sizes(node.axes[axis].dim):
                raise refuse(node, program.nodes, "selection along an axis that grows", "let the axis be a finite dim")
            return Rule(*nonlinear.entrywise(nonlinear.SELECT, len(growing)))
        case Split(axis, count):
            return split(split_sources(args[0], axis, count, growing, sizes), sizes.growing(args[0].axes), axis)
        case Merge(axis, count):
            return merge(node, args[0], axis, count, sizes)
        case Window(axis, _, _, _, taps) | Fold(axis, _, _, _, taps):
            return window(node, args[0], axis, taps, sizes, program)
        case StopGrad():
            return linear(lambda t: t[0])
        case Accumulate(reverse):
            return _accumulate(node, reverse, sizes)
        case Loss(kind):
            if kind == "cross_entropy" and sizes(args[0].axes[-1].dim):
                raise refuse(
                    node, program.nodes, "cross entropy over an axis that grows", "let the classes be a finite dim"
                )
            return Rule(*loss(kind))
        case LossGrad(kind):
            entries = sum(sizes(axis.dim) for axis in node.axes)
            return Rule(*loss_grad(kind, len(growing), entries))
        case _:
            assert_never(node.op)


def _shifted(terms: Terms, shift: int) -> Terms:
    if not shift:
        return terms
    return tuple([(size + shift, raw, grades) for size, raw, grades in terms])


# --- sums and relabelled axes -----------------------------------------------------------------------


def _add(
    places: tuple[tuple[int, ...], ...], args: list[Node], node: Node, sizes: Sizes,
    centring: Mapping[int, tuple[int, int]],
) -> Rule:  # fmt: skip
    growing = sizes.growing(node.axes)
    if len(args) == 1 and node.axes and node.axes[-1].loop and node.axes[-1] not in args[0].axes:
        return _spread(places[0], args[0], node, sizes)
    sources: list[list[int] | None] = []
    for place, arg in zip(places, args, strict=True):
        own = sizes.growing(arg.axes)
        position = {place[axis]: k for k, axis in enumerate(own)}
        source = [position.get(axis, -1) for axis in growing]
        sources.append(None if source == list(range(len(own))) else source)

    def transform(t: list[Terms]) -> Terms:
        if centring:
            t = list(t)
            for k, (mean, position) in centring.items():
                t[k], t[mean] = centred(t[k], position), ()
        terms: list[Term] = []
        filled = 0
        for source, operand in zip(sources, t, strict=True):
            filled += bool(operand)
            if source is None:
                terms.extend(operand)
            else:
                terms.extend([(size, 0 if -1 in source else raw, tuple([g[k] if k >= 0 else CONSTANT for k in source]))
                              for size, raw, g in operand])  # fmt: skip
        return reduce_terms(terms) if filled > 1 else tuple(terms)

    return linear(transform)


def _spread(place: tuple[int, ...], arg: Node, node: Node, sizes: Sizes) -> Rule:
    """The same for every layer, seen in one of them; along new axes of width too."""
    loop, half = sizes.loops[node.axes[-1].loop], sizes(node.axes[-1].dim) // 2
    own = {place[axis]: k for k, axis in enumerate(sizes.growing(arg.axes))}
    source = [own.get(axis, -1) for axis in sizes.growing(node.axes)[:-1]]

    def transform(t: list[Terms]) -> Terms:
        terms: list[Term] = []
        for size, raw, g in t[0]:
            seen = loop.entered(size, tuple([g[k] if k >= 0 else EVEN for k in source]), half)
            terms += [(size, 0 if -1 in source else raw, grades) for size, _, grades in seen]
        return reduce_terms(terms)

    return linear(transform)


def _accumulate(node: Node, reverse: bool, sizes: Sizes) -> Rule:
    """A sum over the layers before (after) each: of zero mean along them, or aligned."""
    loop, full = sizes.loops[node.axes[-1].loop], sizes(node.axes[-1].dim)

    def transform(t: list[Terms]) -> Terms:
        terms: list[Term] = []
        for term in t[0]:
            size, raw, g = loop.crossed(term)
            gain = full // 2 if is_zero_mean(g[-1]) else full
            seen = loop.accumulated(size + gain, g[:-1], full // 2, reverse=reverse)
            terms += [(size, raw, grades) for size, _, grades in seen]
        return reduce_terms(terms)

    return linear(transform)

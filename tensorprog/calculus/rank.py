"""Is the gradient of a matrix of finite rank? Orthogonalising optimizers (Muon) are sized under that assumption."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from tensorprog.calculus.shared import Sizes, describe
from tensorprog.errors import CalculusError
from tensorprog.graph import Add, Contract, Fold, Merge, Node, Program, Scale, Split, Window


def require_finite_rank(program: Program, param: str, sizes: Sizes) -> None:
    """Raises CalculusError unless the gradient of `param` is a finite sum of outer products of vectors: each factor
    carries at most one growing axis, and no growing axis is summed. (A finite batch then gives a finite rank.)"""
    parameter = program.forward.parameters[param]
    if len(sizes.growing(parameter.axes)) < 2:
        return
    for node in _makers(program, param):
        match node.op:
            case Add() | Scale() | Split() | Merge() | Window() | Fold() | Contract(_, None, _):
                continue
            case Contract(left, right, out) if _separates(program, node, left, right or (), out, sizes):
                continue
            case _:
                pass
        raise CalculusError(
            f"the rank of the gradient of `{param}` may grow with the width, at `{describe(node, program.nodes)}`",
            parameter.span,
            why="an orthogonalised update is sized for a finite sum of outer products of vectors",
            fix=f"another optimizer for it: `param {param.rsplit('.', 1)[-1]}[..] = normal() optimizer adam`",
        )


def outer_products(program: Program, param: str, sizes: Mapping[str, int]) -> int:
    """Of how many outer products the gradient of `param` is the sum, at these sizes (the batch among them): no rank is
    larger. It must be of finite rank."""
    total = 0
    for node in _makers(program, param):
        if isinstance(node.op, Contract) and node.op.right is not None:
            indices = zip(node.op.left, program.nodes[node.args[0]].axes, strict=True)
            second = zip(node.op.right, program.nodes[node.args[1]].axes, strict=True)
            summed = {i: axis.dim for i, axis in (*indices, *second) if i not in node.op.out}
            total += math.prod(int(dim.evaluate(sizes)) for dim in summed.values())
    return total


def _makers(program: Program, param: str) -> Iterator[Node]:
    """The nodes that make the gradient of a parameter, from itself back to the products that it is a sum of."""
    pending, seen = [program.grads[param]], set()
    while pending:
        node = program.nodes[pending.pop()]
        if node.id in seen:
            continue
        seen.add(node.id)
        yield node
        if not (isinstance(node.op, Contract) and node.op.right is not None):
            pending.extend(node.args)


def _separates(
    program: Program, node: Node, left: tuple[int, ...], right: tuple[int, ...], out: tuple[int, ...], sizes: Sizes
) -> bool:
    for indices, arg in zip((left, right), node.args, strict=True):
        axes = program.nodes[arg].axes
        growing = [i for i, axis in zip(indices, axes, strict=True) if sizes(axis.dim) and not axis.loop]
        if len(growing) > 1 or any(i not in out for i in growing):
            return False
    return True

"""What a legal graph is (`assert_legal`, for tests between stages), and what a user's network must have (`check`)."""

from __future__ import annotations

from tensorprog.dims import BATCH, BATCH_SYMBOL, ONE, Dim
from tensorprog.errors import ShapeError
from tensorprog.graph import (
    Accumulate,
    Add,
    Const,
    Contract,
    Fold,
    Graph,
    Input,
    InvRms,
    Loss,
    LossGrad,
    Map,
    Merge,
    Node,
    Param,
    Scalar,
    Scale,
    Softmax,
    SoftmaxGrad,
    Split,
    StopGrad,
    TopK,
    Update,
    Window,
    reached,
)
from tensorprog.statements import Arch, WidthDecl
from tensorprog.syntax import NOWHERE, Span

Shape = tuple[Dim, ...]


def assert_legal(graph: Graph) -> None:
    """Asserts that every node's arguments come before it (but for Accumulate) and that its axes follow from theirs."""
    for position, node in enumerate(graph.nodes):
        assert node.id == position, f"node {node.id} stands at {position}"
        limit = len(graph.nodes) if isinstance(node.op, Accumulate) else position
        assert all(0 <= argument < limit for argument in node.args), f"node {position} reads a later node"
        _assert_node(node, graph)
    for name, parameter in graph.parameters.items():
        assert parameter.name == name
    for name, unknown in graph.unknowns.items():
        assert unknown.name == name
        assert unknown.kind in ("multiplier", "use")
        assert unknown.kind == "multiplier" or unknown.param in graph.parameters, name
    params = [node.op.name for node in graph.nodes if isinstance(node.op, Param)]
    assert len(params) == len(set(params)), "a parameter has two nodes"
    loss = graph.nodes[graph.loss]
    assert loss.axes == (), "the loss has axes"
    assert graph.outputs, "no output"
    symbols = {symbol for node in graph.nodes for axis in node.axes for symbol in axis.dim.symbols}
    depths = {symbol for loop in graph.loops for symbol in loop.axis.dim.symbols}
    assert symbols <= {*graph.widths, *depths, BATCH_SYMBOL}, f"unknown symbols in {symbols}"


def _assert_node(node: Node, graph: Graph) -> None:
    shapes = [tuple(axis.dim for axis in graph.nodes[argument].axes) for argument in node.args]
    shape = tuple(axis.dim for axis in node.axes)
    where = f"node {node.id} {node.name}: {node.op} of {[[str(d) for d in s] for s in shapes]}"
    assert BATCH not in shape[1:], f"{where}: the batch axis is not first"
    match node.op:
        case Input(kind=kind):
            assert not shapes, where
            assert kind in ("real", "tokens", "target"), where
        case Const():
            assert not shapes, where
        case Param(name=name):
            assert not shapes, where
            assert tuple(a.dim for a in graph.parameters[name].axes) == tuple(a.dim for a in node.axes if not a.loop), (
                where
            )
        case Contract():
            _assert_contract(node.op, shapes, shape, where)
        case Add(places=places):
            assert len(places) == len(shapes) >= 1, where
            for place, operand in zip(places, shapes, strict=True):
                assert len(place) == len(operand), where
                assert len(set(place)) == len(place), where
                assert all(shape[at] == dim for at, dim in zip(place, operand, strict=True)), where
            spread = {k for k, axis in enumerate(node.axes) if axis.loop}  # the same in every layer
            assert {at for place in places for at in place} | spread == set(range(len(shape))), where
        case Scale(scalar=scalar):
            assert shapes == [shape], where
            _assert_scalar(scalar, graph, where)
        case Map(fn=fn, derivative=derivative):
            assert shapes == [shape], where
            assert fn, where
            assert derivative >= 0, where
        case InvRms(axes=axes):
            assert axes, where
            assert len(set(axes)) == len(axes), where
            assert shape == tuple(dim for k, dim in enumerate(shapes[0]) if k not in axes), where
        case Softmax(axis=axis, mask=mask):
            assert shapes == [shape], where
            assert axis < len(shape), where
            assert mask is None or (mask[0] == axis and mask[2] != axis and mask[2] < len(shape)), where
        case SoftmaxGrad(axis=axis):
            assert shapes == [shape, shape], where
            assert axis < len(shape), where
        case TopK(axis=axis, k=k):
            assert shapes == [shape], where
            assert axis < len(shape), where
            assert k >= 1, where
        case Split(axis=axis, count=count):
            _assert_merge(shape, shapes[0], axis, count, where)
        case Merge(axis=axis, count=count):
            _assert_merge(shapes[0], shape, axis, count, where)
        case Window():
            _assert_window(node.op, shapes[0], shape, where)
        case Fold():
            _assert_window(node.op, shape, shapes[0], where)
        case StopGrad():
            assert shapes == [shape], where
        case Accumulate():
            assert shapes == [shape], where
            assert node.axes[-1].loop, where
        case Loss(kind=kind):
            assert shape == (), where
            assert _target_fits(kind, shapes), where
        case LossGrad(kind=kind):
            assert shape == shapes[0], where
            assert _target_fits(kind, shapes), where
        case Update(param=param):
            assert shapes == [shape], where
            assert param in graph.parameters, where


def _assert_contract(op: Contract, shapes: list[Shape], shape: Shape, where: str) -> None:
    operands = [op.left] if op.right is None else [op.left, op.right]
    assert len(operands) == len(shapes), where
    dims: dict[int, Dim] = {}
    for indices, operand in zip(operands, shapes, strict=True):
        assert len(indices) == len(operand), where
        assert len(set(indices)) == len(indices), where
        for index, dim in zip(indices, operand, strict=True):
            assert dims.setdefault(index, dim) == dim, where
    assert len(set(op.out)) == len(op.out) == len(shape), where
    assert all(dims.get(index) == dim for index, dim in zip(op.out, shape, strict=True)), where


def _assert_merge(fine: Shape, coarse: Shape, axis: int, count: int, where: str) -> None:
    product = ONE
    for dim in fine[axis : axis + count]:
        product = product * dim
    assert coarse == (*fine[:axis], product, *fine[axis + count :]), where


def _assert_window(op: Window | Fold, whole: Shape, parts: Shape, where: str) -> None:
    assert op.stride >= 1, where
    assert op.dilation >= 1, where
    assert op.axis < len(whole), where
    count = 2 if op.taps else 1
    assert whole[: op.axis] == parts[: op.axis], where
    assert whole[op.axis + 1 :] == parts[op.axis + count :], where
    assert not op.taps or not parts[op.axis + 1].grows, where


def _target_fits(kind: str, shapes: list[Shape]) -> bool:
    if kind == "cross_entropy":
        return len(shapes) == 2 and shapes[1] == shapes[0][:-1]
    return len(shapes) == 1 if kind == "mean" else kind == "mse" and len(shapes) == 2 and shapes[0] == shapes[1]


def _assert_scalar(scalar: Scalar, graph: Graph, where: str) -> None:
    assert all(name in graph.unknowns for name in scalar.unknowns), where


# --- what users must get right --------------------------------------------------------------------------


def check(graph: Graph, arch: Arch | None = None) -> None:
    """Raises ShapeError for a parameter or input without a path to the loss and for a width without an axis.

    `arch`: the tree, for the place of width declarations.
    """
    trained = reached(graph.nodes, (graph.loss,), (StopGrad, TopK))
    used = reached(graph.nodes, (graph.loss, *(node for _, node in graph.outputs)))
    nodes = {node.op.name: node.id for node in graph.nodes if isinstance(node.op, Param)}
    for name, parameter in graph.parameters.items():
        if name not in nodes:
            raise ShapeError(f"the parameter `{name}` is never used", parameter.span, fix="a use of it, or no `param`",
                             why="it would have no exponents: nothing says what it does")  # fmt: skip
        if nodes[name] not in used or (nodes[name] not in trained and not parameter.frozen):
            raise ShapeError(f"the parameter `{name}` has no path to the loss", parameter.span,
                             why="it would never be trained; no gradient comes through `stop_gradient` or `topk`",
                             fix=f"a term of the loss that depends on `{name}`, or `frozen`")  # fmt: skip
    for node in graph.nodes:
        if isinstance(node.op, Input) and node.id not in used:
            raise ShapeError(f"the input `{node.op.name}` is never used", node.span, fix="a use of it, or no `input`",
                             why="the network would not depend on it")  # fmt: skip
    _check_widths(graph, arch)


def _check_widths(graph: Graph, arch: Arch | None) -> None:
    present = {symbol for dim in {a.dim for node in graph.nodes for a in node.axes} for symbol in dim.symbols}
    for width in graph.widths:
        if width not in present:
            raise ShapeError(
                f"the width `{width}` appears nowhere", _width_span(width, arch), why="no axis grows with it",
                fix=f"`axis i: {width}`, or no `width {width}`",
            )  # fmt: skip
    if not graph.widths:
        raise ShapeError("the file has no width", why="there is nothing that goes to infinity", fix="`width n`")


def _width_span(width: str, arch: Arch | None) -> Span:
    for statement in arch.statements if arch is not None else ():
        if isinstance(statement, WidthDecl) and width in statement.names:
            return statement.span
    return NOWHERE

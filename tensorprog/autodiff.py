"""Reverse-mode differentiation: the backward pass as more nodes of the same kinds, then one Update per parameter.

`d<x>` below is the gradient of the loss with respect to x. Every derivative rule stands in `_Backward.pull`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import assert_never

from tensorprog.graph import (
    Accumulate,
    Add,
    Axis,
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
    Op,
    Param,
    Program,
    Scalar,
    Scale,
    Softmax,
    SoftmaxGrad,
    Split,
    StopGrad,
    TopK,
    Update,
    Window,
)


def differentiate(graph: Graph) -> Program:
    """The forward graph followed by its backward pass and one Update node per trained parameter."""
    backward = _Backward(graph)
    backward.run()
    return Program(graph, tuple(backward.nodes), backward.grads, backward.updates, backward.cotangents)


class _Backward:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Node] = list(graph.nodes)
        self.grads: dict[str, int] = {}
        self.updates: dict[str, int] = {}
        self.cotangents: dict[int, int] = {}
        self._pending: dict[int, list[int]] = {}

    def emit(self, op: Op, args: tuple[int, ...], axes: tuple[Axis, ...], name: str = "") -> int:
        self.nodes.append(Node(len(self.nodes), op, args, axes, name))
        return len(self.nodes) - 1

    def run(self) -> None:
        graph = self.graph
        trained = self._depends_on_a_trained_parameter()
        self._pending[graph.loss] = [self.emit(Const(1.0), (), ())]
        behind = self._open_loops()
        by_parameter: dict[str, list[int]] = {}
        for node in reversed(graph.nodes):
            pieces = self._pending.pop(node.id, None)
            if not pieces:
                continue
            if isinstance(node.op, Param):
                by_parameter.setdefault(node.op.name, []).extend(pieces)
                continue
            dy = self._total(pieces, f"d {node.name}" if node.name else "")
            self.cotangents[node.id] = dy
            if isinstance(node.op, Accumulate):
                self._read(behind.pop(node.id), dy)
                continue
            for arg, piece in self.pull(node, dy, trained):
                self._pending.setdefault(arg, []).append(piece)
        for waiting in behind.values():  # no gradient flows into these streams
            self._read(waiting, self.emit(Const(0.0), (), self.nodes[waiting].axes))
        for name in graph.parameters:
            if name in by_parameter:
                grad = self._total(by_parameter[name], f"d {name}")
                self.grads[name] = grad
                self.updates[name] = self.emit(Update(name), (grad,), self.nodes[grad].axes, f"update {name}")

    def _open_loops(self) -> dict[int, int]:
        """x = Accumulate(b)  =>  db = Accumulate reversed(dx), where dx follows from db: it is read later."""
        behind: dict[int, int] = {}
        for node in self.graph.nodes:
            if isinstance(node.op, Accumulate):
                behind[node.id] = self.emit(Accumulate(not node.op.reverse), (-1,), node.axes)
                self._pending.setdefault(node.args[0], []).append(behind[node.id])
        return behind

    def _read(self, waiting: int, operand: int) -> None:
        old = self.nodes[waiting]
        self.nodes[waiting] = Node(old.id, old.op, (operand,), old.axes, old.name)

    def _depends_on_a_trained_parameter(self) -> list[bool]:
        trained: list[bool] = []
        for node in self.graph.nodes:
            match node.op:
                case Param(name):
                    trained.append(not self.graph.parameters[name].frozen)
                case Input() | Const() | StopGrad() | TopK():
                    trained.append(False)
                case Accumulate():
                    trained.append(True)
                case _:
                    trained.append(any(trained[a] for a in node.args))
        return trained

    def _total(self, pieces: list[int], name: str) -> int:
        """The sum of all gradients that flow into one tensor."""
        axes = self.nodes[pieces[0]].axes
        if len(pieces) == 1:
            total = pieces[0]
            if name and not self.nodes[total].name and total >= len(self.graph.nodes):
                old = self.nodes[total]
                self.nodes[total] = Node(old.id, old.op, old.args, old.axes, name)
            return total
        same = tuple(range(len(axes)))
        return self.emit(Add((same,) * len(pieces)), tuple(pieces), axes, name)

    def pull(self, node: Node, dy: int, trained: list[bool]) -> list[tuple[int, int]]:
        """(argument, its share of the gradient) for every argument that needs one."""
        args, op = node.args, node.op
        axes = [self.nodes[a].axes for a in args]
        wanted = [trained[a] for a in args]
        result: list[tuple[int, int]] = []
        match op:
            case Contract(left, right, out):  # y = sum a b  =>  da = sum dy b, db = sum dy a
                if wanted[0]:
                    result.append((args[0], self._contract_grad(dy, out, right, args[1:], left, axes[0])))
                if right is not None and wanted[1]:
                    result.append((args[1], self._contract_grad(dy, out, left, args[:1], right, axes[1])))
            case Add(places):  # broadcasting's adjoint is summing
                for k, arg in enumerate(args):
                    if wanted[k]:
                        result.append((arg, self._sum_to(dy, places[k])))
            case Scale():
                result.append((args[0], self.emit(op, (dy,), node.axes)))
            case Map(fn, order):  # y = f(x)  =>  dx = f'(x) dy
                slope = self.emit(Map(fn, order + 1), args, node.axes)
                result.append((args[0], self._times(dy, slope)))
            case InvRms(reduced, _):  # r = (mean x^2 + eps)^(-1/2)  =>  dx = -r^3 x dr / size, where r x is Theta(1)
                r = node.id
                whole = tuple(range(len(axes[0])))
                kept = tuple(k for k in whole if k not in reduced)
                normalised = self.emit(Contract(whole, kept, whole), (args[0], r), axes[0])
                squared = self._times(self._times(dy, r), r)
                spread = self.emit(Contract(whole, kept, whole), (normalised, squared), axes[0])
                scalar = Scalar(Fraction(-1))
                for k in reduced:
                    scalar = scalar * Scalar(powers=((axes[0][k].dim, Fraction(-1)),))
                result.append((args[0], self.emit(Scale(scalar), (spread,), axes[0])))
            case Softmax(axis, _):
                result.append((args[0], self.emit(SoftmaxGrad(axis), (node.id, dy), node.axes)))
            case Split(axis, count):
                result.append((args[0], self.emit(Merge(axis, count), (dy,), axes[0])))
            case Merge(axis, count):
                result.append((args[0], self.emit(Split(axis, count), (dy,), axes[0])))
            case Window(axis, stride, dilation, offset, taps):
                result.append((args[0], self.emit(Fold(axis, stride, dilation, offset, taps), (dy,), axes[0])))
            case Fold(axis, stride, dilation, offset, taps):
                result.append((args[0], self.emit(Window(axis, stride, dilation, offset, taps), (dy,), axes[0])))
            case Loss(kind):
                grad = self.emit(LossGrad(kind), args, axes[0])
                seed = self.nodes[dy].op
                if not (isinstance(seed, Const) and seed.value == 1.0):
                    same = tuple(range(len(axes[0])))
                    grad = self.emit(Contract(same, (), same), (grad, dy), axes[0])
                result.append((args[0], grad))
            case Input() | Param() | Const() | TopK() | StopGrad():
                pass
            case SoftmaxGrad() | LossGrad() | Update() | Accumulate():
                raise AssertionError("the forward graph holds a node of the backward pass")
            case _:
                assert_never(op)
        return [(arg, piece) for arg, piece in result if trained[arg]]

    def _times(self, x: int, y: int) -> int:
        axes = self.nodes[x].axes
        same = tuple(range(len(axes)))
        return self.emit(Contract(same, same, same), (x, y), axes)

    def _contract_grad(
        self,
        dy: int,
        out: tuple[int, ...],
        other: tuple[int, ...] | None,
        other_arg: tuple[int, ...],
        target: tuple[int, ...],
        axes: tuple[Axis, ...],
    ) -> int:
        """d target = sum dy * other, spread over indices of the target that occur in neither (they were summed)."""
        known = set(out) | set(other or ())
        kept = tuple(i for i in target if i in known)
        kept_axes = tuple(a for i, a in zip(target, axes, strict=True) if i in known)
        if other is None and kept == out:
            piece = dy
        else:
            piece = self.emit(Contract(out, other, kept), (dy, *other_arg), kept_axes)
        if len(kept) == len(target):
            return piece
        places = tuple(k for k, i in enumerate(target) if i in known)
        return self.emit(Add((places,)), (piece,), axes)

    def _sum_to(self, dy: int, places: tuple[int, ...]) -> int:
        """The adjoint of broadcasting: dy summed over the axes that are not among `places`."""
        axes = self.nodes[dy].axes
        out = tuple(range(len(axes)))
        if places == out:
            return dy
        return self.emit(Contract(out, None, places), (dy,), tuple(axes[k] for k in places))

"""What the calculus predicts for the tensors of a model, with fused parameters taken apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from tensorprog.calculus.analysis import largest
from tensorprog.calculus.exponents import Exponents
from tensorprog.calculus.solve import Solution, prepare
from tensorprog.coordcheck.predict import Prediction, Predictor
from tensorprog.coordcheck.probes import Probe
from tensorprog.derivation import Derivation
from tensorprog.dims import Dim
from tensorprog.graph import (
    Add,
    Const,
    Contract,
    Fold,
    Graph,
    Input,
    InvRms,
    Map,
    Merge,
    Node,
    Param,
    Scale,
    Softmax,
    Split,
    StopGrad,
    TopK,
    Window,
    unscaled,
)
from tensorprog.solving import collector_at_rest
from tensorprog.torch.segments import segmented

if TYPE_CHECKING:
    from tensorprog.torch.model import ImportedDerivation


class Predicted:
    """Predictions for the nodes of a reading's graph, up to so many steps.

    The slices of one fused matrix (query, key and value) are independent random matrices, which the graph as it was
    read does not show: there, the size of a product of two slices is only bounded. So the graph is also cut into one
    parameter per slice, with the exponents of the whole; where a node has a counterpart there, its prediction counts.
    """

    def __init__(self, p: ImportedDerivation, steps: int) -> None:
        self._whole = Predictor(p.derivation, p.derivation.parametrization, steps, p.derivation.solution.exponents,
                                orders=True)  # fmt: skip
        ordered, first = _slots_first(p.reading.lowered.graph)
        graph, second, parts = segmented(ordered, everywhere=True, slots=True)
        self._place = {old: second[new] for old, new in first.items() if new in second} if parts else {}
        self._cut: Predictor | None = None
        if parts:
            whole = {part.name: name for name, ranges in parts.items() for part in ranges}
            self._cut = _imposed(p, graph, whole, steps)

    def at(self, probe: Probe, step: int) -> Prediction:
        """As `Predictor.at`."""
        if self._cut is not None and probe.param is None and probe.node in self._place:
            return self._cut.at(replace(probe, node=self._place[probe.node]), step)
        return self._whole.at(probe, step)

    def aligned(self, node: int, step: int) -> tuple[int, ...]:
        """If the size of a node at the start (step 0), or of its change, is that of a sum over a growing axis whose
        terms are aligned: the node, and those before it up to that sum, the nearest first; else none."""
        whole, chain = self._whole.program.nodes, [node]
        while not (isinstance(op := whole[chain[-1]].op, Contract) and op.right is not None):
            args = whole[chain[-1]].args
            if not isinstance(op, Scale | Map | Softmax | Split | Merge | StopGrad | Add) or not args:
                return ()
            chain.append(next((a for a in args if self._sums(a)), args[0]))
        predictor, at = self._whole, chain[-1]
        if self._cut is not None and at in self._place:
            predictor, at = self._cut, self._place[at]
        nodes, snapshot = predictor.program.nodes, predictor.snapshots[step]
        op, args = nodes[at].op, nodes[at].args
        assert isinstance(op, Contract)
        (a, da), (b, db) = ((largest(snapshot.initial[k]), largest(snapshot.change[k])) for k in args)
        total = largest((snapshot.change if step else snapshot.initial)[at])
        pairs = [(da, b), (a, db), (da, db)] if step else [(a, b)]
        products = [x + y for x, y in pairs if x is not None and y is not None]
        terms = sum(predictor.sizes(axis.dim) for index, axis in zip(op.left, nodes[args[0]].axes, strict=True)
                    if index not in op.out)  # fmt: skip
        return tuple(chain) if terms and products and total == max(products) + terms else ()

    def ruling(self, node: int, step: int) -> tuple[int, ...]:
        """Of a sum of tensors: those whose size at the start (step 0), or whose change, is the sum's, as nodes without
        the multipliers of uses; none for all other nodes."""
        nodes, snapshot = self._whole.program.nodes, self._whole.snapshots[step]
        if not isinstance(nodes[node].op, Add):
            return ()
        terms = snapshot.change if step else snapshot.initial
        return tuple(self._used(a) for a in nodes[node].args if largest(terms[a]) == largest(terms[node]))

    def _used(self, node: int) -> int:
        """The parameter that a node is, if a multiplier of 1 is all that stands between; else the node."""
        at = self._whole.program.nodes[node]
        if isinstance(at.op, Scale) and at.op.scalar.coefficient == 1 and not at.op.scalar.powers:
            below = self._whole.program.nodes[at.args[0]]
            return below.id if isinstance(below.op, Param) else node
        return node

    def norm(self, node: int) -> tuple[int, Dim] | None:
        """Of an inverse root mean square over axes that grow: its argument, without fixed factors, and the number of
        entries that it is taken over; None for all other nodes."""
        nodes = self._whole.program.nodes
        op = nodes[node].op
        if not isinstance(op, InvRms):
            return None
        (arg,) = nodes[node].args
        count = prod((nodes[arg].axes[k].dim for k in op.axes), start=Dim.of(1))
        return (unscaled(nodes, arg), count) if count.grows else None

    def linear(self, node: int) -> int | None:
        """What a node is a product of with a weight, or with what top-k chose, and perhaps with a bias, up to relabels
        and numbers; None for all other nodes."""
        nodes = self._whole.program.nodes
        while isinstance(op := nodes[node].op, Scale | Split | Merge | Contract | Add):
            args = [a for a in nodes[node].args
                    if not isinstance(nodes[unscaled(nodes, a)].op, Param) and not self._chosen(a)]  # fmt: skip
            if len(args) != 1:
                return None
            if isinstance(op, Contract) and op.right is not None:
                return args[0]
            if isinstance(op, Contract) and len(op.out) < len(op.left):
                return None
            node = args[0]
        return None

    def _chosen(self, node: int) -> bool:
        """Whether a node is made of choices by top-k, linearly, and of data alone."""
        nodes = self._whole.program.nodes
        op, args = nodes[node].op, nodes[node].args
        if isinstance(op, Scale | Split | Merge | Window | Fold | StopGrad | Contract | Add):
            return all(self._chosen(a) or isinstance(nodes[a].op, Const | Input) for a in args)
        return isinstance(op, TopK)

    def summed(self, node: int) -> tuple[int, Dim] | None:
        """Of a sum over axes, and perhaps a number: what is summed, and how many entries of it; None for all other
        nodes."""
        nodes = self._whole.program.nodes
        op, args = nodes[node].op, [a for a in nodes[node].args if not isinstance(nodes[a].op, Const)]
        if isinstance(op, Add) and len(args) == 1:
            return self.summed(args[0])
        if not isinstance(op, Contract) or op.right is not None or len(op.out) == len(op.left):
            return None
        axes = zip(op.left, nodes[args[0]].axes, strict=True)
        return args[0], prod((axis.dim for index, axis in axes if index not in op.out), start=Dim.of(1))

    def _sums(self, node: int) -> bool:
        nodes = self._whole.program.nodes
        op = nodes[unscaled(nodes, node)].op
        return isinstance(op, Contract) and op.right is not None


def _slots_first(graph: Graph) -> tuple[Graph, dict[int, int]]:
    """(the graph in which an axis [head, 3, size] that is cut at its 3 is split as [3, head, size]; old node -> new).

    The order of the rows of a random matrix does not matter, as long as nothing else reads the axis.
    """
    readers: dict[int, list[Node]] = {}
    for node in graph.nodes:
        for a in node.args:
            readers.setdefault(a, []).append(node)
    nodes: list[Node] = []
    place: dict[int, int] = {}
    for old in graph.nodes:
        args = tuple(place[a] for a in old.args)
        op, axes = old.op, old.axes
        cut = {r.op.axis for r in readers.get(old.id, []) if isinstance(r.op, Window) and not r.op.taps}
        if isinstance(op, Split) and len(readers[old.args[0]]) == 1 and len(cut) == 1:
            (slot,) = cut
            if op.axis < slot < op.axis + op.count:
                order = [*range(op.axis), slot, *(k for k in range(op.axis, len(axes)) if k != slot)]
                nodes.append(Node(len(nodes), op, args, tuple(axes[k] for k in order)))
                args = (len(nodes) - 1,)
                op = Contract(tuple(order), None, tuple(range(len(axes))))
        place[old.id] = len(nodes)
        nodes.append(replace(old, id=len(nodes), op=op, args=args))
    outputs = tuple((label, place[k]) for label, k in graph.outputs)
    return replace(graph, nodes=tuple(nodes), outputs=outputs, loss=place[graph.loss]), place


def _imposed(p: ImportedDerivation, graph: Graph, whole: Mapping[str, str], steps: int) -> Predictor:
    """A predictor for the cut graph, under the exponents derived for the whole one. `whole`: part -> parameter."""
    from tensorprog.torch.reading import ImportedArchitecture

    derivation, known = p.derivation, p.derivation.solution.exponents
    architecture = ImportedArchitecture(graph, p.reading.name)
    with collector_at_rest():
        solver = prepare(architecture.program, derivation.solution.solver.units, derivation.choice,
                         architecture.functions)  # fmt: skip
    uses = {name: f"{whole[u.param]}@{name.rsplit('@', 1)[1]}" if u.param in whole else name
            for name, u in graph.unknowns.items()}  # fmt: skip
    exponents = Exponents({name: known.A[whole.get(name, name)] for name in graph.parameters},
                          {name: known.C[whole.get(name, name)] for name in graph.parameters},
                          {name: known.M[old] for name, old in uses.items()})  # fmt: skip
    parametrization = replace(
        derivation.parametrization,
        params={name: derivation.params[whole.get(name, name)] for name in graph.parameters},
        unknowns={name: derivation.parametrization.unknowns[old] for name, old in uses.items()},
    )
    solution = Solution(solver, exponents, derivation.solution.snapshot)
    cut = Derivation(architecture, derivation.optimizer, derivation.form, solution, parametrization)
    return Predictor(cut, parametrization, steps, exponents, orders=True)

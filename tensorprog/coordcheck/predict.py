"""What the calculus predicts for every tensor at every step, under any exponents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tensorprog.calculus.analysis import Analysis, Exponents, Snapshot, blown_up, largest
from tensorprog.calculus.shared import describe
from tensorprog.derivation import Derivation
from tensorprog.dims import Dim
from tensorprog.exponents import Power
from tensorprog.graph import Const, Contract, Input, Loss, Merge, Param, Scale, Split, Window
from tensorprog.parametrization import Parametrization


@dataclass(frozen=True, slots=True)
class Probe:
    """A tensor that is measured: a forward node, or the raw value of a parameter."""

    name: str
    node: int
    param: str | None = None

    def part(self, step: int) -> str:
        """What of it is measured after `step` updates."""
        return "change" if step else "init"


@dataclass(frozen=True, slots=True)
class Prediction:
    """The exponent of one part of a tensor at one step. None: exactly zero. `bound_only`: below a saturated
    nonlinearity."""

    exponent: Power | None
    bound_only: bool = False


def probes(derivation: Derivation) -> list[Probe]:
    """Every tensor of the forward graph that is not data, a constant, the loss itself (one number, made of the
    outputs) or a mere relabelling of another.

    Intermediate results are called by the expression they stand for; equal names get a number.
    """
    graph = derivation.architecture.graph
    found: list[Probe] = []
    seen: dict[str, int] = {}
    parameters: set[str] = set()
    for node in graph.nodes:
        match node.op:
            case Input() | Const() | Loss():
                continue
            case Param(name):
                if name not in parameters:
                    parameters.add(name)
                    found.append(Probe(name, node.id, name))
                continue
            case Split() | Merge() | Window() if not node.name:
                continue
            case Contract(_, None, out) if not node.name and len(out) == len(graph.nodes[node.args[0]].axes):
                continue
            case Scale(scalar) if not node.name and (
                not scalar.powers and all(graph.unknowns[u].kind == "use" for u in scalar.unknowns)
            ):
                continue
            case _:
                name = node.name or f"[{describe(node, graph.nodes)}]"
        seen[name] = seen.get(name, 0) + 1
        found.append(Probe(name if seen[name] == 1 else f"{name} #{seen[name]}", node.id))
    return found


def growing_sums(derivation: Derivation, places: Sequence[Probe]) -> dict[int, tuple[int, int, tuple[Dim, ...]]]:
    """Probes that are a plain sum over growing axes, or a multiple of one: position -> (position of the sum itself,
    position of what is summed, the sizes summed)."""
    nodes = derivation.architecture.graph.nodes
    position = {probe.node: k for k, probe in enumerate(places) if probe.param is None}
    found: dict[int, tuple[int, int, tuple[Dim, ...]]] = {}
    for k, probe in enumerate(places):
        node = nodes[probe.node]
        while isinstance(node.op, Scale):
            node = nodes[node.args[0]]
        if not (isinstance(node.op, Contract) and node.op.right is None):
            continue
        left, out = node.op.left, node.op.out
        summed = [a.dim for i, a in zip(left, nodes[node.args[0]].axes, strict=True) if i not in out and a.dim.grows]
        if summed and node.id in position and node.args[0] in position:
            found[k] = position[node.id], position[node.args[0]], tuple(summed)
    return found


class Predictor:
    """Predictions for one derivation's program under a parametrization."""

    def __init__(self, derivation: Derivation, exponents: Exponents, parametrization: Parametrization, steps: int):
        solver = derivation.solution.solver
        self.units, self.program = solver.units, solver.program
        self.parametrization = parametrization
        analysis = Analysis(self.program, self.units, derivation.choice, solver.functions, exponents)
        self.snapshots: list[Snapshot] = analysis.steps(steps)
        self.bounds: list[set[int]] = []
        blown = False
        for snapshot in self.snapshots:
            tainted = blown_up(self.program, snapshot, solver.functions)
            self.bounds.append(set(range(len(self.program.forward.nodes))) if blown else tainted)
            blown = blown or bool(tainted)  # the next gradients pass through the saturated nodes

    def at(self, probe: Probe, step: int) -> Prediction:
        """The prediction for a probe after `step` updates."""
        snapshot = self.snapshots[step]
        size = largest((snapshot.change if step else snapshot.initial)[probe.node])
        if size is None:
            return Prediction(None)
        exponent = self.units.unpack(size)
        if probe.param is not None:  # the raw w = W / multiplier
            exponent = exponent / self.parametrization.params[probe.param].multiplier
        return Prediction(exponent, probe.node in self.bounds[step])

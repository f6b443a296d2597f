"""What is measured: tensors of the forward pass and parameters, gradients, updates, and parts of contractions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tensorprog.calculus.shared import describe
from tensorprog.derivation import Derivation
from tensorprog.functions import find
from tensorprog.graph import Const, Contract, Input, Loss, Map, Merge, Node, Param, Scale, Softmax, Split, Window

EXTRAS = ("split", "spectral", "updates", "gradients")
GRADIENTS = ("gradient", "later gradient")
HIDDEN = ("terms", "argument")
PRODUCTS = ("dW.x", "W.dx", "dW.dx")


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing that is measured at every step: by default the root mean square of the entries.

    `kind`:
    - "value": of a forward node, or of the raw values of `param` if given: at the start, and the change since;
    - "gradient": of the loss by the raw `param`, at the start; "later gradient": the same after updates, when the
      loss's own derivative has changed and is noisier;
    - "update": of the raw `param`, one step's;
    - "spectral": as value of `param`, but the largest singular value of the matrix [first axis, rest];
    - one of PRODUCTS: the contraction `node` of a parameter, its operand number `position`, with an activation x: the
      change of one with the start of the other, or both changes;
    and, with no row of their own (HIDDEN):
    - "terms": how large a gradient would be if the terms it sums were independent;
    - "argument": of a bounded function, at every step (the value, not its change).
    """

    name: str
    node: int
    param: str | None = None
    kind: str = "value"
    position: int = 0

    def part(self, step: int) -> str:
        """What a row calls it after `step` updates."""
        match self.kind:
            case "value":
                return "change" if step else "init"
            case "spectral":
                return "spectral change" if step else "spectral init"
            case _:
                return self.kind.removeprefix("later ")


def probes(derivation: Derivation, extras: Collection[str] = ()) -> list[Probe]:
    """Every tensor of the forward graph that is not data, a constant, the loss itself (one number, made of the
    outputs) or a mere relabelling of another; every first gradient; and the `extras` (of EXTRAS).

    Intermediate results are called by the expression they stand for; equal names get a number.
    """
    graph, program = derivation.architecture.graph, derivation.architecture.program
    found: list[Probe] = []
    seen: dict[str, int] = {}
    places: dict[str, int] = {}
    strange = frozenset().union(*(loop.strange for loop in graph.loops))
    for node in graph.nodes:
        match node.op:
            case _ if node.id in strange:
                continue
            case Input() | Const() | Loss():
                continue
            case Param(name):
                if name not in places:
                    places[name] = node.id
                    found.append(Probe(name, node.id, name))
                    if "spectral" in extras and len(node.axes) > 1:
                        found.append(Probe(name, node.id, name, "spectral"))
                    if "updates" in extras and name in program.updates:
                        found.append(Probe(name, node.id, name, "update"))
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
    if "split" in extras:
        found += _products(derivation, found)
    for argument in arguments(derivation):
        found.append(Probe(describe(graph.nodes[argument], graph.nodes), argument, None, "argument"))
    for name, node_id in program.grads.items():
        if name in places:
            kinds = ("gradient", "terms", "later gradient") if "gradients" in extras else ("gradient", "terms")
            found += [Probe(name, node_id, name, kind) for kind in kinds]
    return found


def bounded(derivation: Derivation, node: Node) -> bool:
    """Whether a node is a bounded function of its argument, one that saturates (a step is as it is at any size)."""
    if not isinstance(node.op, Map):
        return isinstance(node.op, Softmax)
    function = find(node.op.fn, derivation.architecture.functions)
    facts = function.facts[node.op.derivative]
    return facts.tail == 0 and facts.degree is None


def arguments(derivation: Derivation) -> dict[int, list[int]]:
    """Node -> the bounded functions (nodes) that it is the argument of."""
    found: dict[int, list[int]] = {}
    for node in derivation.architecture.graph.nodes:
        if bounded(derivation, node):
            found.setdefault(node.args[0], []).append(node.id)
    return found


def _products(derivation: Derivation, found: Sequence[Probe]) -> list[Probe]:
    """The parts of every contraction of a trained parameter with what depends on a parameter itself."""
    program = derivation.architecture.program
    nodes = program.forward.nodes
    names = {probe.node: probe.name for probe in found if probe.param is None}
    moves = [False] * len(nodes)  # whether a node depends on a trained parameter
    for node in nodes:
        own = isinstance(node.op, Param) and node.op.name in program.updates
        moves[node.id] = own or any(moves[a] for a in node.args)
    result: list[Probe] = []
    for use in derivation.solution.solver.uses:
        node = nodes[use.node]
        if not isinstance(node.op, Contract) or node.op.right is None or use.param not in program.updates:
            continue
        if moves[node.args[1 - use.position]]:
            name = names.get(node.id) or f"[{describe(node, nodes)}]"
            result += [Probe(name, node.id, None, part, use.position) for part in PRODUCTS]
    return result

"""The text of an imported graph, checked: deriving the text gives the exponents of the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tensorprog.architecture import parse
from tensorprog.derivation import Derivation
from tensorprog.deriving import unmultiplied
from tensorprog.errors import TensorProgError
from tensorprog.graph import Graph
from tensorprog.parametrization import ParamExponents
from tensorprog.solving import solved
from tensorprog.torch.emit_tp import Emitted, emit_tp
from tensorprog.torch.segments import segmented


def faithful_text(
    derivation: Derivation, graph: Graph, classes: Mapping[str, str], points: Sequence[Mapping[str, int]]
) -> str:
    """The graph as text; fused parameters as one per range, where that derives to the same (`classes`, `points`: see
    `emit_tp`).

    Raises TensorProgError where neither does.
    """
    cut, _, parts = segmented(graph, everywhere=True)
    whole = {part.name: name for name, ranges in parts.items() for part in ranges}
    attempts = [(cut, whole)] if parts else []
    wrong: list[str] = []
    for candidate, names in [*attempts, (graph, {})]:
        emitted = emit_tp(candidate, classes, points)
        try:
            wrong = differences(derivation, emitted, names)
        except TensorProgError as error:
            raise TensorProgError(
                f"the language does not accept the model: {error.message}", why=error.why, fix=error.fix
            ) from error
        if not wrong:
            return emitted.text
    raise TensorProgError(
        f"the text would derive to other exponents: {wrong[0]}",
        why="--emit-tp writes only what derives to the same",
        fix="the command without --emit-tp: the table is right, only the text cannot be written",
    )


def differences(derivation: Derivation, emitted: Emitted, whole: Mapping[str, str]) -> list[str]:
    """Where deriving the text gives other exponents, without multipliers but where uses of one parameter differ.
    `whole`: range of a fused parameter -> the parameter."""
    architecture = parse(emitted.text, "emitted.tp")
    text = unmultiplied(architecture, solved(architecture, derivation.choice), derivation.decay_policy)
    found = []
    for name, short in zip(emitted.parameters, architecture.graph.parameters, strict=True):
        here, there = derivation.params[whole.get(name, name)], text.params[short]
        if here != there:
            found.append(f"`{name}`: {_text(here)}, in the text {_text(there)}")
    there_named = [name for name, unknown in architecture.graph.unknowns.items() if unknown.kind == "multiplier"]
    for group, short in zip(emitted.multipliers, there_named, strict=True):
        other = text.parametrization.unknowns[short]
        for name in group:
            one = derivation.parametrization.unknowns[name]
            if one != other:
                found.append(f"`{name}`: {one}, in the text {other}")
    return found


def _text(one: ParamExponents) -> str:
    return f"init {one.init_std}, lr {one.lr}, weight decay {one.weight_decay}, eps {one.eps}"

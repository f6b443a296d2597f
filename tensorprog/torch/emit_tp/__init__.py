"""An imported graph as a readable .tp file, which derives to the same exponents.

`plan`: which nodes get a line; `references`, `products`, `expressions`: one line; `scope`: names; `regions`: modules as
runs of lines; `bodies`: the lines of one, with uses of blocks and repeats; `blocks`: which modules are blocks;
`faithful`: the text is derived and compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tensorprog.graph import Graph
from tensorprog.printer import format_source
from tensorprog.torch.emit_tp.blocks import Blocks
from tensorprog.torch.emit_tp.bodies import Body
from tensorprog.torch.emit_tp.plan import Plan
from tensorprog.torch.emit_tp.regions import whole
from tensorprog.torch.emit_tp.standard import Standard
from tensorprog.torch.emit_tp.text import number_text, refuse
from tensorprog.torch.positive import SHIFTED

__all__ = ["Emitted", "emit_tp"]


DEPTH = "# For exponents of the depth: `depth L`, `repeat L`, and `?branch *` in front of what a layer adds."


@dataclass(frozen=True, slots=True)
class Emitted:
    """The text. `parameters`: those of the graph, in the order in which the language declares them; `multipliers`:
    likewise, together where they are one in the text; `inputs`: those of the graph, and what they are called there."""

    text: str
    parameters: tuple[str, ...]
    multipliers: tuple[tuple[str, ...], ...]
    inputs: Mapping[str, str]


def emit_tp(graph: Graph, classes: Mapping[str, str], points: Sequence[Mapping[str, int]]) -> Emitted:
    """The graph as text. `classes`: path of a module -> its class. `points`: two or more widths at which every size is
    whole.

    Raises TensorProgError for what the language has no notation for."""
    plan = Plan(graph, classes)
    blocks = Blocks(plan, Standard(points))
    body = blocks.body(whole(plan))
    scope = body.scope
    loss = _loss(plan, body)
    axes = scope.axes
    parts = [
        f"# Read from the PyTorch module {graph.name}.",
        *([DEPTH] if any("\nrepeat " in f"\n{row}" for row in body.rows) else []),
        f"width {', '.join(graph.widths)}",
        *("axis " + ", ".join(axes[k : k + 8]) for k in range(0, len(axes), 8)),
        *(
            f"fn {name}(z) = {formula}  # of positive 1 + z"
            for fn, (name, formula) in SHIFTED.items()
            if fn in plan.maps
        ),
        "",
        *scope.inputs.values(),
        "",
        *(f"{text}\n" for text in blocks.texts()),
        *(f"param {text}" for text in scope.parameters.values()),
        "",
        *body.rows,
        "",
        *loss,
    ]
    inputs = {name: scope.names["input", name] for name in scope.inputs}
    return Emitted(format_source("\n".join(parts) + "\n"), body.parameters, body.multipliers, inputs)


def _loss(plan: Plan, body: Body) -> list[str]:
    """The loss, if it is a sum of losses that the language has; else the outputs against targets."""
    terms, said = plan.terms, []
    if terms is None:
        terms = [(Fraction(1), "mse", number) for number in plan.outputs]
        said = ["# The model's own loss is written differently; it has the same exponents."]
    parts = []
    for weight, kind, number in terms:
        if number not in body.scope.lines:
            raise refuse("a loss of what has no name")
        text = f"{kind}({body.scope.of_line(number)})"
        parts.append(text if weight == 1 else f"{number_text(weight)} * {text}")
    return [*said, "loss " + " + ".join(parts)]

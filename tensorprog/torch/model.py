"""`derive` for an existing PyTorch model: read at several widths, lowered to a graph, solved by the calculus."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tensorprog.calculus.shared import describe
from tensorprog.derivation import Derivation
from tensorprog.deriving import unmultiplied
from tensorprog.errors import TensorProgError
from tensorprog.graph import Graph, Input, Param, reached
from tensorprog.optimizers import Choice, Optimizer
from tensorprog.optimizers.choice import choose
from tensorprog.optimizers.policies import DEFAULT_POLICY, POLICIES
from tensorprog.parametrization import ParamExponents
from tensorprog.solving import solved
from tensorprog.torch.changes import Changes
from tensorprog.torch.positive import require_order_one
from tensorprog.torch.reaching import require_reach
from tensorprog.torch.reading import Reading, read
from tensorprog.torch.runs import prepare
from tensorprog.torch.sizes import base_sizes

if TYPE_CHECKING:
    from tensorprog.coordcheck.report import CheckReport
    from tensorprog.torch.groups import Groups
    from tensorprog.torch.lint import LintReport

__all__ = ["ImportedDerivation", "Reading", "derive", "derive_reading", "read"]


@dataclass(frozen=True)
class ImportedDerivation:
    """The result of `derive`: what every parameter of the model is and must be (`changes`), from `derivation`, which
    is the calculus's own result on the graph of the model's operations (`reading`)."""

    reading: Reading
    derivation: Derivation

    @cached_property
    def changes(self) -> Changes:
        from tensorprog.torch.report import changes_of

        return changes_of(self.reading, self.derivation)

    @property
    def params(self) -> Mapping[str, ParamExponents]:
        """Graph parameter -> its exponents, without multipliers."""
        return self.derivation.params

    def apply(self, model: Any, base: int | Mapping[str, int], lr: Any = None, weight_decay: Any = None,
              eps: float | None = None, **options: Any) -> Groups:  # fmt: skip
        """Changes a model of this kind in place; its parameter groups (see `tensorprog.torch.apply.apply`)."""
        from tensorprog.torch.apply import apply

        if "starts" not in options and options.get("rescale_init", True):
            options["starts"] = self._starts_at(base)
        return apply(self.changes, model, base, lr, weight_decay, eps, **options)

    def _starts_at(self, base: int | Mapping[str, int]) -> dict[str, float]:
        """Parameter -> its initial size at the base, where no law tells."""
        measured = [p.name for p in self.changes.parameters if p.measured]
        if not measured:
            return {}
        starts = prepare(self.reading.build, self.reading.inputs, base_sizes(self.changes, base)).starts
        return {name: starts[name].rms for name in measured}

    def remove(self, model: Any) -> None:
        """Undoes `apply`, to the last bit (see `tensorprog.torch.apply.remove`)."""
        from tensorprog.torch.apply import remove

        remove(model)

    def fold(self, model: Any) -> tuple[str, ...]:
        """Turns what `apply` multiplied into plain weights (see `tensorprog.torch.fold.fold`)."""
        from tensorprog.torch.fold import fold

        return fold(model)

    def check(self, widths: Any = None, **options: Any) -> CheckReport:
        """Every operation's measured exponent against its prediction (see `tensorprog.torch.nodecheck.check_model`)."""
        from tensorprog.torch.nodecheck import check_model

        return check_model(self, widths, **options)

    def lint(self) -> LintReport:
        """What is wrong with the model as it stands (see `tensorprog.torch.lint.lint`)."""
        from tensorprog.torch.lint import lint

        return lint(self)

    def explain(self, param: str, quantity: str | None = None) -> str:
        """The whole chain behind the numbers of one parameter."""
        return self.derivation.explain(param, quantity)

    def to_json(self) -> dict[str, Any]:
        """As `Derivation.to_json`, and for every parameter of the model what it is now."""
        from tensorprog.torch.report import to_json

        return to_json(self)

    def render(self, format: str = "table", *, color: bool = False) -> str:
        """As `table` or `json`."""
        if format == "json":
            return json.dumps(self.to_json(), indent=2) + "\n"
        from tensorprog.torch.report import table

        return table(self, color=color)

    def to_tp(self) -> str:
        """The architecture as a .tp file, which derives to the same exponents.

        Raises TensorProgError for what the language has no notation for, and if the text would derive to others.
        """
        from tensorprog.torch.emit_tp.faithful import faithful_text

        classes = {path: type(m).__name__ for path, m in self.reading.module.named_modules()}
        points = self.reading.points[:2]
        return faithful_text(self.derivation, self.reading.lowered.graph, classes, points)

    def __str__(self) -> str:
        return self.render()


def derive(
    build: Callable[..., Any],
    inputs: Any = None,
    optimizer: str | Optimizer | Choice = "adam",
    widths: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    *,
    name: str | None = None,
    vectors: str | Optimizer | None = None,
    optimizer_for: Mapping[str, str | Optimizer] | None = None,
    decay_policy: str | None = None,
) -> ImportedDerivation:
    """The exponents that every parameter of an existing model needs, under an optimizer.

    `build(n)`, or `build(hidden=.., ffn=..)` for independent axes, returns a module, or (module, inputs, loss) where
    `loss` maps the module's result to a number. `inputs`: a tensor, a tuple or dict of arguments, or a function of n
    that returns one. `widths`: the values of n to look at (four or more; by default small ones that the builder
    accepts), or symbol -> values. `vectors`, `optimizer_for`, `decay_policy`: as in `tensorprog.deriving.derive`.

    Raises TensorProgError where an operation is not covered or sizes follow no law.
    """
    choice = choose(optimizer, vectors, optimizer_for or {})
    return derive_reading(read(build, inputs, widths, name), choice, decay_policy)


def derive_reading(
    reading: Reading, optimizer: str | Optimizer | Choice, decay_policy: str | None = None
) -> ImportedDerivation:
    """The exponents of a model that has been read."""
    policy = decay_policy or DEFAULT_POLICY
    if policy not in POLICIES:
        raise TensorProgError(f"unknown policy of weight decay `{policy}`", fix=", ".join(POLICIES),
                              why="these are the published ones")  # fmt: skip
    architecture = reading.architecture
    choice = choose(optimizer)
    try:
        solution = solved(architecture, choice)
    except TensorProgError as error:
        _in_code(error, architecture.graph)
        raise
    require_order_one(architecture.graph, solution)
    require_reach(architecture.graph, solution)
    return ImportedDerivation(reading, unmultiplied(architecture, solution, policy))


def _in_code(error: TensorProgError, graph: Graph) -> None:
    """Says what the language would write as a model's code has it."""
    if "?scale" in error.fix:
        nodes = graph.nodes
        made = (n.id for n in nodes if error.message.startswith(f"`{describe(n, nodes)}` "))
        before = [nodes[k].op for k in reached(nodes, made)]
        if not any(isinstance(op, Input) for op in before):  # of parameters alone
            if all(graph.parameters[op.name].init.kind == "zeros" for op in before if isinstance(op, Param)):
                error.why = "it is made of what starts at zero, and no rate makes it of order 1 and keeps it there"
                error.fix = "a random start, such as `nn.Parameter(0.02 * torch.randn(..))`"
                return
            error.why = "a number behind it that shrinks with the width would have to be made up for by its start"
            error.fix = "that number at what it is for alone: `z / d ** 0.5 + f(b)` instead of `(z + f(b)) / d ** 0.5`"
            return
        error.fix = "in the model's code, a factor that takes this away, such as `/ x.shape[-1] ** 0.5` for n^1/2"
    elif "into parts that grow alike" in error.fix:
        error.fix = ("a builder of one number, so that all that stands side by side grows alike; or a layer for each "
                     "part")  # fmt: skip
    elif "finite dim" in error.fix:
        kept = "a builder in which that axis keeps its size: more heads instead of larger ones, or larger for more"
        error.fix = f"a mean along it, `x.mean(dim)`; or {kept}" if "selection" in str(error.why) else kept
        if "selection" in str(error.why):
            error.why += ": few of its entries decide, so that no typical one tells its gradient"
    elif "optimizer adam`" in error.fix:
        error.fix = 'another optimizer for it: optimizer_for={"its name": "adam"}'

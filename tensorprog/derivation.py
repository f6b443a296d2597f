"""What `derive` finds: the exponents of every parameter of an architecture, with reasons, and how to show them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import permutations
from typing import Any

from tensorprog.architecture import Architecture
from tensorprog.attribution import attribute, attributed, dominant
from tensorprog.calculus.analysis import largest
from tensorprog.calculus.forms import gradient_norm, without_multipliers
from tensorprog.calculus.solve import Solution
from tensorprog.errors import TensorProgError
from tensorprog.exponents import Degrees, Power
from tensorprog.graph import Graph
from tensorprog.optimizers import Choice
from tensorprog.optimizers.policies import DEFAULT_POLICY
from tensorprog.parametrization import Parametrization, ParamExponents
from tensorprog.reasons import reasons

SCHEMA = 1  # of every JSON form
QUANTITIES = ("multiplier", "init_std", "lr", "weight_decay", "eps")
MANY_WIDTHS = 3  # above so many, their orders are not all tried


@dataclass(frozen=True)
class Derivation:
    """The result of `derive`: `parametrization` holds the exponents, `solution` what they follow from.

    Where depths are symbols (`architecture.rolled`), a parameter `layers.*.W` stands for that of every layer. `note`:
    why a depth is not a symbol, though the file has one. `ordered`: solutions in orders of the widths, where those in
    proportion need them (attribution.py). `given`: what is fixed besides the file's `fix` statements; a derivation in
    which anything is fixed is a `programme.completion.Completion`."""

    architecture: Architecture
    optimizer: str
    form: str
    solution: Solution
    parametrization: Parametrization
    decay_policy: str = DEFAULT_POLICY
    note: str = ""
    ordered: tuple[Solution, ...] = ()
    given: tuple[str, ...] = ()

    @property
    def choice(self) -> Choice:
        """Which optimizer updates which parameter; `optimizer` is the name of the one of all that no rule names."""
        return self.solution.solver.choice

    @property
    def widths(self) -> tuple[str, ...]:
        return self.architecture.graph.widths

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that exponents may have: widths, and depths that are symbols."""
        return tuple(symbol for group in self.solution.solver.units.given for symbol in group)

    @property
    def what(self) -> str:
        """What was derived, in a few words."""
        given = ", ".join(map(str, self.architecture.given))
        return f"muP given {given}" if given else "muP"

    @property
    def own_updates(self) -> Mapping[str, Power | None] | None:
        """How every parameter's own update moves the value of its use, where that need not be Theta(1)."""
        return None

    @property
    def remarks(self) -> list[str]:
        """What is to be said besides the numbers."""
        own = ", ".join(f"`{name}` by {power}" for name, power in self.vanishing.items())
        short = f"stable, but not maximal: own updates move their uses by less than Theta(1), {own}"
        return [*([short] if own else []), *self.of_degrees, *self.idle_optimizers]

    @property
    def idle_optimizers(self) -> list[str]:
        """Which optimizers the file defines and no parameter has."""
        own = self.choice.own
        used = {self.choice.of(p).name for p in self.architecture.graph.parameters.values()} if own else ()
        return [f"the file defines the optimizer `{name}`, which no parameter has: `optimizer {name}` chooses it"
                for name in own if name not in used]  # fmt: skip

    @property
    def of_degrees(self) -> list[str]:
        """Where sizes are known by their degree in several widths alone, how reasons put it."""
        units = self.solution.solver.units
        if not isinstance(units, Degrees):
            return []
        widths, first = ", ".join(units.given[0]), units.symbols[0]
        if not self.ordered:
            return [f"{widths} grow in proportion, and are not told apart: all are {first}"]
        return [f"{widths} grow in proportion: reasons give sizes as powers of {first}"]

    @property
    def vanishing(self) -> dict[str, Power]:
        """Parameters whose own update does not move their use by Theta(1), and by how much it does."""

        def moved(name: str) -> Power:
            return self._attributed(lambda one: one.solver.contribution(name)) or Power()

        return {name: moved(name) for name in self.solution.solver.falls_short()}

    def why(self, param: str, quantity: str) -> list[str]:
        """What `explain` says of one number besides the chain that leads to it."""
        return []

    def unrolled(self, depths: Mapping[str, int] | None = None) -> Derivation:
        """The same answer for a network of finite depth (`depths`; default: the file's, else 2), with a parameter for
        every layer: what can be emitted and trained. Its exponents of a depth are those derived here; its `solution`
        knows the widths alone."""
        known = self.architecture
        if not known.rolled and (not depths or depths == known.depths):
            return self
        from tensorprog.deriving import derivation_of

        flat = known.unrolled(depths or {})
        found = derivation_of(flat, self.choice, self.form, self.decay_policy)
        if not known.rolled:
            return found
        return replace(found, parametrization=self.lifted(flat.graph, self.parametrization))

    def lifted(self, graph: Graph, parametrization: Parametrization) -> Parametrization:
        """A parametrization of the network with symbolic depth, as one of the unrolled network `graph`."""
        params = {name: parametrization.params[self.rolled_name(name)] for name in graph.parameters}
        unknowns = {name: parametrization.unknowns[self.rolled_name(name)] for name in graph.unknowns}
        return replace(parametrization, params=params, unknowns=unknowns)

    def other_regimes(self) -> dict[tuple[str, ...], Derivation]:
        """What would be derived if the widths did not grow in proportion: their order, the slowest first -> the answer,
        if there is one. Empty if there is one width, or many, or the file declares how they grow."""
        if not 2 <= len(self.widths) <= MANY_WIDTHS or self.architecture.model.regime is not None:
            return {}
        from tensorprog.deriving import derivation_of

        found = {}
        for order in permutations(self.widths):
            with suppress(TensorProgError):
                found[order] = derivation_of(
                    self.architecture, self.choice, self.form, self.decay_policy, (order, "<<")
                )
        return found

    def rolled_name(self, name: str) -> str:
        """A name in the unrolled network as it is here: `layers.3.W` -> `layers.*.W`."""
        for loop in self.architecture.graph.loops:
            head, _, tail = loop.prefix.rpartition("*")
            name = re.sub(rf"(?<![\w.]){re.escape(head)}\d+{re.escape(tail)}", loop.prefix, name)
        return name

    @property
    def params(self) -> Mapping[str, ParamExponents]:
        """Parameter name -> its exponents."""
        return self.parametrization.params

    @cached_property
    def reasons(self) -> dict[str, dict[str, str]]:
        """Parameter name -> quantity -> one short reason."""
        return reasons(self.solution, self.parametrization, self.decay_policy, self.held)

    @property
    def held(self) -> Mapping[str, int]:
        """Parameters of which no start is in balance."""
        return self.solution.solver.held()

    @cached_property
    def multipliers(self) -> dict[str, Power]:
        """Every `?name` of the file, and every implicit multiplier by which the uses of one parameter differ."""
        unknowns = self.architecture.graph.unknowns
        result = {name: power for name, power in self.parametrization.unknowns.items()
                  if unknowns[name].kind == "multiplier"}  # fmt: skip
        for uses in self.solution.solver.uses_of.values():
            if len({self.parametrization.unknowns[use] for use in uses}) > 1:
                result.update({use: self.parametrization.unknowns[use] for use in uses})
        return result

    @property
    def gradient_norm(self) -> Power | None:
        """The exponent of the norm of the whole gradient in this form: what a global clip compares with."""
        solver = self.solution.solver
        norms = map(self._norm, solver.program.updates)
        return dominant([norm for norm in norms if norm is not None], solver.units)

    def _norm(self, name: str) -> Power | None:
        """That of one parameter's gradient: from where its exponents are, so that they fit each other."""
        plain, own = self._plain[1:], self.without_multipliers.params[name]
        same = [one for one, form in zip(self.ordered, plain, strict=True) if form.params[name] == own]
        return self._attributed(partial(gradient_norm, form=self.form, name=name), same[:1] or self.ordered)

    def tensor(self, name: str) -> tuple[Power | None, Power | None]:
        """Exponents of a named tensor's initial value and of its change in training (None: exactly zero)."""
        for node in self.architecture.graph.nodes:
            if node.name == name:
                return self.sizes(node.id)
        raise KeyError(name)

    def sizes(self, node: int) -> tuple[Power | None, Power | None]:
        """The same for node number `node` of the forward graph."""
        return (self._attributed(lambda one: largest(one.snapshot.initial[node])),
                self._attributed(lambda one: largest(one.snapshot.change[node])))  # fmt: skip

    @cached_property
    def without_multipliers(self) -> Parametrization:
        """The same training run without multipliers, but where the uses of one parameter need different ones."""
        return self.told_apart(self._plain)

    @cached_property
    def _plain(self) -> list[Parametrization]:
        return [without_multipliers(one, self.decay_policy) for one in (self.solution, *self.ordered)]

    def told_apart(self, forms: Sequence[Parametrization]) -> Parametrization:
        """One form of the solution, and of those in orders of the widths, with its exponents attributed."""
        owners = {use: name for name, of in self.solution.solver.uses_of.items() for use in of}
        first, *ordered = zip(forms, self._plain, strict=True)
        return attribute(first, ordered, owners, self.solution.solver.units)

    def _attributed(self, ask: Callable[[Solution], int | None], sources: Sequence[Solution] = ()) -> Power | None:
        """What is asked of a solution, a packed exponent, attributed to the widths (as in `sources`, if given)."""

        def power(one: Solution) -> Power | None:
            size = ask(one)
            return None if size is None else one.solver.units.unpack(size)

        ordered = [power(one) for one in sources or self.ordered]
        return attributed(power(self.solution), ordered, self.solution.solver.units)

    def to_json(self) -> dict[str, Any]:
        """The machine-readable result (documented in docs/reference/json-schema.md)."""
        from tensorprog import tables

        return tables.as_json(self)

    def render(self, format: str = "table", *, color: bool = False) -> str:
        """As `table`, `json`, `markdown` or `latex`."""
        if format == "json":
            return json.dumps(self.to_json(), indent=2) + "\n"
        from tensorprog import tables

        return tables.render_derivation(self, format, color=color)

    def explain(self, param: str, quantity: str | None = None) -> str:
        """The whole chain behind the numbers of one parameter: node, terms, rules, the constraint that binds."""
        from tensorprog.story import explain

        return explain(self, param, quantity)

    def __str__(self) -> str:
        return self.render()

    def _repr_html_(self) -> str:
        from tensorprog import tables

        return tables.render_derivation(self, "html")

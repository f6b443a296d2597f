"""`derive`: the exponents of every parameter of an architecture, with reasons, and how to show them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tensorprog.architecture import Architecture
from tensorprog.calculus.analysis import largest
from tensorprog.calculus.forms import DEFAULT_FORM, FORMS, gradient_norm, parametrize
from tensorprog.calculus.solve import Solution, solve
from tensorprog.errors import TensorProgError
from tensorprog.exponents import Power, Units
from tensorprog.optimizers import OPTIMIZERS
from tensorprog.parametrization import Parametrization, ParamExponents
from tensorprog.reasons import reasons

SCHEMA = 1
QUANTITIES = ("multiplier", "init_std", "lr", "weight_decay", "eps")


@dataclass(frozen=True)
class Derivation:
    """The result of `derive`: `parametrization` holds the exponents, `solution` what they follow from."""

    architecture: Architecture
    optimizer: str
    form: str
    solution: Solution
    parametrization: Parametrization

    @property
    def widths(self) -> tuple[str, ...]:
        return self.architecture.graph.widths

    @property
    def params(self) -> Mapping[str, ParamExponents]:
        """Parameter name -> its exponents."""
        return self.parametrization.params

    @cached_property
    def reasons(self) -> dict[str, dict[str, str]]:
        """Parameter name -> quantity -> one short reason."""
        return reasons(self.solution, self.parametrization)

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
        return gradient_norm(self.solution, self.form)

    def tensor(self, name: str) -> tuple[Power | None, Power | None]:
        """Exponents of a named tensor's initial value and of its change in training (None: exactly zero)."""
        for node in self.architecture.graph.nodes:
            if node.name == name:
                return self._sizes(node.id)
        raise KeyError(name)

    def _sizes(self, node: int) -> tuple[Power | None, Power | None]:
        units, snapshot = self.solution.solver.units, self.solution.snapshot
        initial, change = largest(snapshot.initial[node]), largest(snapshot.change[node])
        return (None if initial is None else units.unpack(initial), None if change is None else units.unpack(change))

    def to_json(self) -> dict[str, Any]:
        """The machine-readable result (documented in docs/reference/json-schema.md)."""
        graph, symbols = self.architecture.graph, self.widths

        def exponent(power: Power | None) -> dict[str, str] | None:
            return None if power is None else power.as_json(symbols)

        parameters = {}
        for name, exponents in self.params.items():
            entry: dict[str, Any] = {"shape": [str(axis.dim) for axis in graph.parameters[name].axes]}
            for quantity in QUANTITIES:
                entry[quantity] = exponent(getattr(exponents, quantity))
            entry["reasons"] = self.reasons[name]
            parameters[name] = entry
        tensors = {}
        for node in graph.nodes:
            if node.name and node.name not in tensors:
                initial, change = self._sizes(node.id)
                tensors[node.name] = {"init": exponent(initial), "change": exponent(change)}
        return {
            "schema": SCHEMA,
            "file": self.architecture.file,
            "optimizer": self.optimizer,
            "form": self.form,
            "depths": dict(graph.depths),
            "gradient_norm": exponent(self.gradient_norm),
            "parameters": parameters,
            "multipliers": {name: exponent(power) for name, power in self.multipliers.items()},
            "tensors": tensors,
        }

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


def derive(architecture: Architecture, optimizer: str | None = None, form: str | None = None) -> Derivation:
    """The maximal update parametrization of an architecture under an optimizer, in one of the equivalent forms.

    `optimizer`: a name in `tensorprog.optimizers.OPTIMIZERS` (default: the file's, else adam). `form`: a name in
    `tensorprog.calculus.forms.FORMS` (default table8). Raises TensorProgError (a message with its place in the
    file) if the program is ill-formed, not covered by the calculus, or has no stable maximal answer.

    Source: Yang & Hu 2021 (Tensor Programs IV, arXiv:2011.14522); Yang et al. 2022 (V, arXiv:2203.03466).
    """
    graph = architecture.graph
    optimizer = optimizer or graph.optimizer or "adam"
    form = form or DEFAULT_FORM
    if optimizer not in OPTIMIZERS:
        raise TensorProgError(f"unknown optimizer `{optimizer}`", fix=", ".join(OPTIMIZERS))
    if form not in FORMS:
        raise TensorProgError(f"unknown form `{form}`", fix=", ".join(FORMS))
    regime = architecture.model.regime
    if regime is not None and regime[1] != "proportional":
        raise TensorProgError(
            f"the regime `{f' {regime[1]} '.join(regime[0])}` is not covered yet", file=architecture.file,
            why="widths are compared by their total degree, as if they grew in proportion",
            fix=f"regime {', '.join(regime[0])}: proportional",
        )  # fmt: skip
    try:
        solution = solve(architecture.program, Units(graph.widths), optimizer, architecture.functions)
        return Derivation(architecture, optimizer, form, solution, parametrize(solution, form))
    except TensorProgError as error:
        raise error.located(architecture.source, architecture.file) from None

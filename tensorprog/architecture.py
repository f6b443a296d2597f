"""The stages before the calculus, behind one object: text -> tree -> structured model -> graph -> program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tensorprog.autodiff import differentiate
from tensorprog.errors import ShapeError, TensorProgError
from tensorprog.files import read_text
from tensorprog.fixing import read_requirement
from tensorprog.functions import Function, user_function
from tensorprog.graph import Graph, Program
from tensorprog.model import Model
from tensorprog.optimizers import Choice, Optimizer
from tensorprog.optimizers.choice import choose, find
from tensorprog.powers import read_power
from tensorprog.statements import Arch, DepthDecl, FixDecl, OptimizerDecl, OptimizerDef

if TYPE_CHECKING:
    from tensorprog.calculus.solve import Solution


@dataclass(frozen=True)
class Architecture:
    """One .tp program. `depths`: the finite depth at which each `repeat` symbol is unrolled (default: the
    file's, else 2). `rolled`: depths stay symbols, and a `repeat` over one is a single layer with a layer axis
    (`roll`). `asked`: requirements of the command line on unknown multipliers, such as `?branch = L^-1/2`.
    The stages are computed when first asked for."""

    source: str
    file: str = "<string>"
    depths: Mapping[str, int] = field(default_factory=dict)
    rolled: bool = False
    asked: tuple[FixDecl, ...] = ()

    @cached_property
    def symbolic(self) -> Architecture:
        """The same program with symbolic depths; itself where depths are given or the file has none."""
        if self.depths or self.rolled or not any(isinstance(s, DepthDecl) for s in self.tree.statements):
            return self
        symbolic = replace(self, rolled=True)
        symbolic.__dict__["tree"] = self.tree
        return symbolic

    def unrolled(self, depths: Mapping[str, int]) -> Architecture:
        """The same program at finite depths: one architecture each, however often it is asked for."""
        key = tuple(sorted(depths.items()))
        return self._unrolled.setdefault(key, replace(self, rolled=False, depths=dict(depths)))

    @cached_property
    def _unrolled(self) -> dict[tuple[tuple[str, int], ...], Architecture]:
        return {}

    @cached_property
    def solved(self) -> list[tuple[object, Solution]]:
        """What has been solved for it, with the answers: all forms share one."""
        return []

    @cached_property
    def tree(self) -> Arch:
        """The syntax tree. Raises ParseError."""
        from tensorprog.parser import parse as parse_text

        try:
            return parse_text(self.source, self.file)
        except TensorProgError as error:
            raise error.located(self.source, self.file) from None

    @cached_property
    def model(self) -> Model:
        """Names resolved, sizes known, blocks used. Raises ShapeError."""
        from tensorprog.elaborate import elaborate

        try:
            return elaborate(self.tree, self.depths, symbolic=self.rolled, given=self.given)
        except TensorProgError as error:
            raise error.located(self.source, self.file) from None

    @cached_property
    def graph(self) -> Graph:
        """The flat forward graph. Raises NoPowerLawError for a stack with symbolic depth that is no residual stream."""
        from tensorprog.inline import inline
        from tensorprog.legality import check
        from tensorprog.roll import roll

        try:
            graph = roll(self.model) if self.rolled else inline(self.model)
            check(graph, self.tree)
        except TensorProgError as error:
            raise error.located(self.source, self.file) from None
        return graph

    @cached_property
    def program(self) -> Program:
        """Forward, backward and update nodes."""
        return differentiate(self.graph)

    @cached_property
    def optimizers(self) -> dict[str, Optimizer]:
        """The optimizers that the file defines, by name. Raises TensorProgError where the size of a step is unclear."""
        own = [statement for statement in self.tree.statements if isinstance(statement, OptimizerDef)]
        if not own:  # formulas need NumPy, which a derivation otherwise does without
            return {}
        from tensorprog.optimizers.formula import define

        known: dict[str, Optimizer] = {}
        try:
            for statement in own:
                if statement.name in known:
                    raise ShapeError(f"the optimizer `{statement.name}` is defined twice", statement.span,
                                     why="one name stands for one optimizer",
                                     fix="another name for one of them")  # fmt: skip
                known[statement.name] = define(statement)
        except TensorProgError as error:
            raise error.located(self.source, self.file) from None
        return known

    def choice(
        self,
        optimizer: str | Optimizer | Choice | None = None,
        vectors: str | Optimizer | None = None,
        optimizer_for: Mapping[str, str | Optimizer] | None = None,
    ) -> Choice:
        """Which optimizer updates what: as asked, else as the file says, else Adam. Raises TensorProgError for an
        unknown one, or (in the file) an option it does not have."""
        own, clause = self.optimizers, next((s for s in self.tree.statements if isinstance(s, OptimizerDecl)), None)
        if clause is not None:
            span, options = clause.span, self.model.optimizer_options
            try:
                named = find(clause.name, own)
                for item, (name, value) in zip(clause.arguments, options, strict=True):
                    span = item.span
                    named.hyperparameters({name: float(value)})
            except TensorProgError as error:
                error.span = span
                raise error.located(self.source, self.file) from None
        return choose(optimizer or self.model.optimizer or "adam", vectors, optimizer_for or {}, own)

    @property
    def fixes(self) -> tuple[FixDecl, ...]:
        """The `fix` statements of the file, but for those of multipliers that are given."""
        known = {fix.quantity for fix in self.given}
        return tuple(fix for fix in self._fixes if fix.quantity not in known and not self.names_depth(fix))

    @cached_property
    def given(self) -> tuple[FixDecl, ...]:
        """Unknown multipliers that are fixed to a power of a depth: they stand in the network as that number."""
        asked = {fix.quantity for fix in self.asked}
        kept = (*(fix for fix in self._fixes if fix.quantity not in asked), *self.asked)
        return tuple(fix for fix in kept if self.names_depth(fix))

    @property
    def _fixes(self) -> tuple[FixDecl, ...]:
        return tuple(statement for statement in self.tree.statements if isinstance(statement, FixDecl))

    def names_depth(self, fix: FixDecl) -> bool:
        """Whether a requirement gives a multiplier a power of a `depth` of the file."""
        power = read_power(fix.value) if fix.quantity.startswith("?") else None
        return isinstance(power, Mapping) and any(
            item.name in power
            for statement in self.tree.statements
            if isinstance(statement, DepthDecl)
            for item in statement.items
        )

    def asking(self, fixes: Sequence[str]) -> tuple[Architecture, tuple[str, ...]]:
        """The same program with what these requirements (fixing.py) give of multipliers, and the other requirements.
        Raises ParseError."""
        read = [read_requirement(text) for text in fixes]
        scales = tuple(fix for fix in read if fix.quantity.startswith("?"))
        if not any(map(self.names_depth, (*scales, *self._fixes))):
            return self, tuple(fixes)
        kept = tuple(text for text, fix in zip(fixes, read, strict=True) if not self.names_depth(fix))
        return replace(self, asked=(*self.asked, *scales)), kept

    @cached_property
    def functions(self) -> dict[str, Function]:
        """The nonlinearities that the file defines."""
        known: dict[str, Function] = {}
        try:
            for name, argument, body in self.model.functions:
                known[name] = user_function(name, argument, body)
        except TensorProgError as error:
            raise error.located(self.source, self.file) from None
        return known


def parse(source: str, file: str = "<string>", depths: Mapping[str, int] | None = None) -> Architecture:
    """An architecture from its text. Raises ParseError for text that is not in the language."""
    architecture = Architecture(source, file, dict(depths or {}))
    architecture.tree  # noqa: B018  (errors of syntax are raised here, not later)
    return architecture


def load(path: str | Path, depths: Mapping[str, int] | None = None) -> Architecture:
    """An architecture from a .tp file. Raises TensorProgError if it cannot be read or is not in the language."""
    if not str(path):
        raise TensorProgError("the name of the file is empty", why="it is read from disk", fix="`model.tp`")
    return parse(read_text(path, "a .tp file"), str(path), depths)

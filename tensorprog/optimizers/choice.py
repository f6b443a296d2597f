"""Which optimizer updates which parameter."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from tensorprog.errors import TensorProgError
from tensorprog.optimizers.data import Optimizer
from tensorprog.optimizers.table import OPTIMIZERS, fitting
from tensorprog.parameters import Parameter
from tensorprog.suggest import nearest


@dataclass(frozen=True)
class Choice:
    """The first that speaks of a parameter decides: `rules` (pattern of names, optimizer; the last that fits), the
    parameter's own `optimizer` in the file, `vectors` (for parameters with at most one growing axis), `default`.

    `own`: optimizers that the file defines, by name.
    """

    default: Optimizer
    vectors: Optimizer | None = None
    rules: tuple[tuple[str, Optimizer], ...] = ()
    own: Mapping[str, Optimizer] = field(default_factory=dict)

    def of(self, parameter: Parameter) -> Optimizer:
        """The optimizer that updates this parameter. Raises TensorProgError if the file names an unknown one."""
        chosen = next((o for pattern, o in reversed(self.rules) if fnmatchcase(parameter.name, pattern)), None)
        if chosen is None and parameter.optimizer is not None:
            try:
                chosen = find(parameter.optimizer, self.own)
            except TensorProgError as error:
                error.span = parameter.span
                raise
        if chosen is None and self.vectors is not None and sum(axis.dim.grows for axis in parameter.axes) < 2:
            chosen = self.vectors
        return fitting(chosen or self.default, len(parameter.axes), self.own)

    def require_fit(self, names: Collection[str]) -> None:
        """Raises TensorProgError if a rule fits none of these parameters."""
        for pattern, _ in self.rules:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise TensorProgError(f"`{pattern}` fits no parameter",
                                      fix=nearest(pattern, names) or ", ".join(list(names)[:12]),
                                      why="it is the name of a parameter, or a pattern of such names")  # fmt: skip

    @property
    def title(self) -> str:
        """As shown in headings: `muon, adamw for vectors`."""
        parts = [self.default.name]
        if self.vectors is not None:
            parts.append(f"{self.vectors.name} for vectors")
        return ", ".join([*parts, *(f"{o.name} for {pattern}" for pattern, o in self.rules)])


Named = str | Optimizer


def find(name: Named, own: Mapping[str, Optimizer] | None = None) -> Optimizer:
    """An optimizer by name, the file's own first; itself if it is one. Raises TensorProgError for an unknown name."""
    if isinstance(name, Optimizer):
        return name
    found = (own or {}).get(name) or OPTIMIZERS.get(name)
    if found is None:
        known = [*(own or {}), *OPTIMIZERS]
        raise TensorProgError(f"unknown optimizer `{name}`", fix=nearest(name, known) or ", ".join(known),
                              why="its step must be known: how large, and in which sign")  # fmt: skip
    return found


def choose(
    default: Named | Choice,
    vectors: Named | None = None,
    rules: Mapping[str, Named] | Sequence[tuple[str, Named]] = (),
    own: Mapping[str, Optimizer] | None = None,
) -> Choice:
    """A Choice from names. Raises TensorProgError for an unknown one."""
    if isinstance(default, Choice):
        return default
    own = own or {}
    pairs = rules.items() if isinstance(rules, Mapping) else rules
    choice = Choice(
        find(default, own),
        None if vectors is None else find(vectors, own),
        tuple((pattern, find(o, own)) for pattern, o in pairs),
        own,
    )
    for optimizer in (choice.default, choice.vectors, *(o for _, o in choice.rules)):
        if optimizer is not None and optimizer.vectors is not None:
            find(optimizer.vectors, own)
    return choice

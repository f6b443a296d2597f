"""All optimizers by name: rows, and formulas that are read when first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import dedent

from tensorprog.optimizers.data import Optimizer
from tensorprog.optimizers.formulas import FORMULAS
from tensorprog.optimizers.rows import ROWS


class _Table(Mapping[str, Optimizer]):
    def __init__(self) -> None:
        self._known = {row.name: row for row in ROWS}

    def __getitem__(self, name: str) -> Optimizer:
        if name not in self._known:
            source, text = FORMULAS[name]
            self._known[name] = optimizer(text, source)
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*(row.name for row in ROWS), *FORMULAS]))

    def __len__(self) -> int:
        return len(ROWS) + len(FORMULAS)


OPTIMIZERS: Mapping[str, Optimizer] = _Table()


def optimizer(text: str, source: str = "") -> Optimizer:
    """An optimizer from its definition in the language, `optimizer NAME(lr = .., ..) { .. step = .. }`.

    Raises TensorProgError if it is not one definition, or its size cannot be told. `source`: where it was published.
    """
    from tensorprog.errors import TensorProgError
    from tensorprog.optimizers.formula import define
    from tensorprog.parser import parse
    from tensorprog.statements import OptimizerDef

    text = dedent(text).strip("\n")
    statements = parse(text).statements
    if len(statements) != 1 or not isinstance(statements[0], OptimizerDef):
        raise TensorProgError("one definition of an optimizer is wanted", fix="optimizer mine(lr = 0.1) { step = g }",
                              why="a text defines the optimizer that is used")  # fmt: skip
    try:
        return define(statements[0], source)
    except TensorProgError as error:
        raise error.located(text, "<string>") from None


def optimizer_for(name: str, axes: int) -> Optimizer:
    """The optimizer that really updates a parameter with `axes` axes: Muon leaves vectors to another one.

    Raises KeyError for an unknown name.
    """
    return fitting(OPTIMIZERS[name], axes)


def fitting(optimizer: Optimizer, axes: int, own: Mapping[str, Optimizer] | None = None) -> Optimizer:
    """The optimizer itself, or the one (the file's own first) to which it leaves parameters with so few axes."""
    if optimizer.vectors is None or axes > 1:
        return optimizer
    return (own or {}).get(optimizer.vectors) or OPTIMIZERS[optimizer.vectors]

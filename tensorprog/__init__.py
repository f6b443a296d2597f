"""tensorprog: exact width exponents of neural networks (maximal update parametrization), derived, emitted, measured.

    import tensorprog as tp
    arch = tp.load("examples/mlp.tp")         # or tp.parse(text)
    mup = tp.derive(arch, optimizer="adam")   # prints as a table; mup.params["W1"].lr
    source = tp.emit(arch, optimizer="adam")  # a PyTorch module as text
    report = tp.check(arch, optimizer="adam") # measured exponents against derived ones

Submodules are imported when first used, so that the command line starts fast.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorprog.api import check, derive, emit
    from tensorprog.architecture import Architecture, load, parse
    from tensorprog.check.run import CheckReport, Row
    from tensorprog.derive import Derivation
    from tensorprog.errors import CalculusError, ParseError, ShapeError, TensorProgError
    from tensorprog.exponents import Power
    from tensorprog.parametrization import Parametrization, ParamExponents

_HOMES = {
    "parse": "architecture", "load": "architecture", "Architecture": "architecture",
    "derive": "api", "emit": "api", "check": "api",
    "Derivation": "derive", "CheckReport": "check.run", "Row": "check.run", "Power": "exponents",
    "ParamExponents": "parametrization", "Parametrization": "parametrization",
    "TensorProgError": "errors", "ParseError": "errors", "ShapeError": "errors", "CalculusError": "errors",
}  # fmt: skip

__all__ = [
    "Architecture",
    "CalculusError",
    "CheckReport",
    "Derivation",
    "ParamExponents",
    "Parametrization",
    "ParseError",
    "Power",
    "Row",
    "ShapeError",
    "TensorProgError",
    "check",
    "derive",
    "emit",
    "load",
    "parse",
]


class _Package(ModuleType):
    """`derive`, `emit` and `check` are functions here, also once a submodule of that name is imported: the import
    system would bind it to the name."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in ("derive", "emit", "check") and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "__version__":
        from importlib.metadata import version

        return version("tensorprog")
    if name in _HOMES:
        value = getattr(import_module(f"tensorprog.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'tensorprog' has no attribute {name!r}")

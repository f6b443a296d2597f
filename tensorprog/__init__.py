"""tensorprog: exact width exponents of neural networks (maximal update parametrization), derived, emitted, measured.

    import tensorprog as tp
    arch = tp.load("examples/mlp.tp")         # or tp.parse(text)
    mup = tp.derive(arch, optimizer="adam")   # prints as a table; mup.params["W1"].lr
    source = tp.emit(arch, optimizer="adam")  # a PyTorch module as text
    report = tp.check(arch, optimizer="adam") # measured exponents against derived ones
    report = tp.transfer(arch)                # does the best learning rate stay where it is?

Submodules are imported when first used, so that the command line starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorprog.api import check, derive, emit, transfer
    from tensorprog.architecture import Architecture, load, parse
    from tensorprog.coordcheck.report import CheckReport, Row
    from tensorprog.derivation import Derivation
    from tensorprog.errors import CalculusError, ParseError, ShapeError, TensorProgError
    from tensorprog.exponents import Power
    from tensorprog.hptransfer.report import TransferReport
    from tensorprog.optimizers import Choice, Optimizer, Size
    from tensorprog.optimizers.table import optimizer
    from tensorprog.parametrization import Parametrization, ParamExponents

_HOMES = {
    "parse": "architecture", "load": "architecture", "Architecture": "architecture",
    "derive": "api", "emit": "api", "check": "api", "transfer": "api",
    "Derivation": "derivation", "CheckReport": "coordcheck.report", "Row": "coordcheck.report", "Power": "exponents",
    "TransferReport": "hptransfer.report",
    "ParamExponents": "parametrization", "Parametrization": "parametrization",
    "Optimizer": "optimizers", "Choice": "optimizers", "Size": "optimizers",
    "optimizer": "optimizers.table",
    "TensorProgError": "errors", "ParseError": "errors", "ShapeError": "errors", "CalculusError": "errors",
}  # fmt: skip

__all__ = [
    "Architecture",
    "CalculusError",
    "CheckReport",
    "Choice",
    "Derivation",
    "Optimizer",
    "ParamExponents",
    "Parametrization",
    "ParseError",
    "Power",
    "Row",
    "ShapeError",
    "Size",
    "TensorProgError",
    "TransferReport",
    "check",
    "derive",
    "emit",
    "load",
    "optimizer",
    "parse",
    "transfer",
]


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

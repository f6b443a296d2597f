"""Emission: a model and its parametrization as one self-contained PyTorch file."""

from __future__ import annotations

from collections.abc import Mapping

from tensorprog.emission.source import emit_torch
from tensorprog.errors import TensorProgError
from tensorprog.model import Model
from tensorprog.parametrization import Parametrization

__all__ = ["emit"]


def emit(
    model: Model,
    parametrization: Parametrization,
    base: Mapping[str, int],
    *,
    source_name: str,
    framework: str = "torch",
    what: str = "",
    maximal: bool = True,
) -> str:
    """The text of a Python file with the network, its initialisation and its optimizer.

    Every quantity is (its value at the base widths) * (width / base width)^exponent, so that at the base widths the
    model is exactly the user's own. Same arguments, same text. The file needs PyTorch and nothing else.

    `base`: base width of every width symbol (and, where exponents of a depth occur, of that depth; default: the
    depth the model was unrolled at). `source_name`: file name of the program, for the header and the class name;
    `what`, `maximal`: what the header says of the parametrization besides its name.

    Raises TensorProgError for another framework, for names that are no Python identifiers, for a parameter or
    multiplier without exponents, and where a size is not whole at the base widths.
    """
    if framework != "torch":
        raise TensorProgError(
            f"there is no emission for {framework!r}", fix="torch", why="programs are written in its words"
        )
    return emit_torch(model, parametrization, base, source_name, what, maximal)

"""The verbs of the Python API: each takes an Architecture, a path to a .tp file, or a finished Derivation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorprog.architecture import Architecture, load
from tensorprog.coordcheck.report import CheckReport
from tensorprog.derivation import Derivation
from tensorprog.deriving import derive as derive_architecture
from tensorprog.errors import TensorProgError
from tensorprog.hptransfer.report import TransferReport
from tensorprog.optimizers import Choice, Optimizer

DEFAULT_BASE_WIDTH = 256
Updater = str | Optimizer | Choice | None


def derive(
    architecture: Architecture | str | Path, optimizer: Updater = None, form: str | None = None, **options: Any
) -> Derivation:
    """The exponents of every parameter (options: `tensorprog.deriving.derive`); a string is a path."""
    if not isinstance(architecture, Architecture):
        architecture = load(architecture)
    return derive_architecture(architecture, optimizer, form, **options)


def _derivation(subject: Derivation | Architecture | str | Path, optimizer: Updater, form: str | None) -> Derivation:
    if isinstance(subject, Derivation):
        same = optimizer in (None, subject.optimizer, subject.choice, subject.choice.default)
        if same and (form or subject.form) == subject.form:
            return subject
        return derive(subject.architecture, optimizer or subject.choice, form, decay_policy=subject.decay_policy,
                      fixes=subject.given)  # fmt: skip
    return derive(subject, optimizer, form)


def emit(
    subject: Derivation | Architecture | str | Path,
    optimizer: Updater = None,
    form: str | None = None,
    base_width: int | Mapping[str, int] | None = None,
    framework: str = "torch",
    depths: Mapping[str, int] | None = None,
) -> str:
    """A self-contained PyTorch program: module, initialisation, parameter groups.

    `base_width`: the width (or width symbol -> width) at which the program is exactly the standard model; default
    256 for every symbol; `depths`: the depth (symbol -> depth) at which it is so; default: the file's, else 2. Raises
    TensorProgError for unusable arguments.
    """
    from tensorprog.emission import emit as emit_model

    derivation = _derivation(subject, optimizer, form).unrolled(depths)
    base = base_widths(derivation.widths, base_width)
    architecture = derivation.architecture
    try:
        return emit_model(architecture.model, derivation.parametrization, base,
                          source_name=Path(architecture.file).name, framework=framework,
                          what=derivation.what, maximal=not derivation.vanishing)  # fmt: skip
    except TensorProgError as error:
        raise error.located(architecture.source, architecture.file) from None


def base_widths(symbols: tuple[str, ...], given: int | Mapping[str, int] | None) -> dict[str, int]:
    """Base widths for all symbols. Raises TensorProgError for an unknown symbol or a width below 1."""
    if given is None or isinstance(given, int):
        base = dict.fromkeys(symbols, DEFAULT_BASE_WIDTH if given is None else given)
    else:
        unknown = sorted(set(given) - set(symbols))
        if unknown:
            raise TensorProgError(f"no width symbol `{unknown[0]}`", fix=", ".join(f"{s}=256" for s in symbols),
                                  why="a base width is the value of a width symbol of the file")  # fmt: skip
        base = {**dict.fromkeys(symbols, DEFAULT_BASE_WIDTH), **given}
    if any(width < 1 for width in base.values()):
        raise TensorProgError("a base width must be at least 1", why="a tensor has at least one entry", fix="256")
    return base


def check(
    subject: Derivation | Architecture | str | Path,
    optimizer: Updater = None,
    form: str | None = None,
    **options: Any,
) -> CheckReport:
    """Train at a ladder of widths and compare measured with derived exponents (options: `coordcheck.run.check`)."""
    from tensorprog.coordcheck.run import check as check_derivation

    derivation = _derivation(subject, optimizer, form)
    try:
        return check_derivation(derivation, **options)
    except TensorProgError as error:
        raise error.located(derivation.architecture.source, derivation.architecture.file) from None


def transfer(
    subject: Derivation | Architecture | str | Path,
    optimizer: Updater = None,
    form: str | None = None,
    *,
    widths: Sequence[int] = (32, 64, 128, 256, 512),
    depths: Sequence[int] | None = None,
    **options: Any,
) -> TransferReport:
    """Train over a grid of learning rates (or of another hyperparameter) at every width, and see whether the best one
    stays where it is. With `depths`: at every depth, at one width. Of widths in a declared
    order the fastest grows. The first size is the base size; options:
    `hptransfer.run.transfer`. Raises TensorProgError for unusable arguments."""
    from tensorprog.coordcheck.calibrate import width_ladder
    from tensorprog.coordcheck.ladder import Ladder
    from tensorprog.hptransfer.run import transfer as transfer_derivation

    derivation = _derivation(subject, optimizer, form)
    if depths is None:
        derivation = derivation.unrolled()
        ladder = width_ladder(derivation, widths, None)
    else:
        derivation = _at_depth(derivation, depths[0])
        if len(widths) != 1:
            raise TensorProgError("either the widths or the depths vary, not both", fix="--widths 64 --depths 2,4,8,16",
                                  why="one ladder is measured at a time")  # fmt: skip
        symbols = tuple(derivation.architecture.depths)
        ladder = Ladder.of(symbols, depths, dict.fromkeys(derivation.widths, widths[0]))
    try:
        return transfer_derivation(derivation, ladder=ladder, **options)
    except TensorProgError as error:
        raise error.located(derivation.architecture.source, derivation.architecture.file) from None


def _at_depth(derivation: Derivation, depth: int) -> Derivation:
    """The same with every `depth` symbol unrolled at `depth`, so that this is the base depth."""
    known = derivation.architecture
    symbols = [s for s in derivation.symbols if s not in derivation.widths] or [s for s, _ in known.graph.depths]
    if not symbols:
        raise TensorProgError(f"{known.file} has no `depth` symbol", fix="depth L, and repeat L { .. }",
                              why="what is unrolled is a `repeat` over a depth symbol")  # fmt: skip
    return derivation.unrolled(dict.fromkeys(symbols, depth))

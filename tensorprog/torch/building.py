"""A user's model as a function of width: where it is found, and what it may give back."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorprog.errors import TensorProgError
from tensorprog.files import unreadable

try:
    import torch
except ImportError:
    raise TensorProgError(
        "PyTorch is not installed", why="the model is a PyTorch module", fix="pip install 'tensorprog[torch]'"
    ) from None

Tensor = Any
Module = Any
Build = Callable[[int], Any]
WRITE = "return module, inputs, loss   # loss(outputs) -> a scalar tensor"


@dataclass(frozen=True, slots=True)
class Built:
    """One network, with one batch: `loss()` runs it. `n` is what the builder was called with."""

    n: int
    module: Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    criterion: Callable[[Any], Tensor] | None

    def outputs(self) -> Any:
        """The module's outputs on the batch."""
        with told(f"the module's forward pass fails at {self.n}", "inputs that the module accepts at every width"):
            return self.module(*self.args, **self.kwargs)

    def loss(self, outputs: Any) -> Tensor:
        """The scalar to be trained: the builder's loss, the module's own (`outputs.loss`, or a scalar output), or the
        mean squared distance of every floating result to fixed standard normal targets."""
        if self.criterion is not None:
            with told(f"the loss fails at {self.n}", WRITE):
                found = self.criterion(outputs)
        else:
            found = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
            if found is None:
                found = outputs if isinstance(outputs, torch.Tensor) and outputs.ndim == 0 else _to_noise(outputs)
        if not (isinstance(found, torch.Tensor) and found.numel() == 1 and found.requires_grad):
            raise not_a_loss(found)
        return found


def not_a_loss(found: Any) -> TensorProgError:
    """Of what a loss gave that cannot be trained."""
    what = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
    if isinstance(found, torch.Tensor) and found.numel() == 1:
        what = "a number that was detached from them, or is made without them"
    return TensorProgError(
        "the loss is not a scalar tensor that depends on the parameters", why=f"it is {what}", fix=WRITE
    )


def _to_noise(outputs: Any) -> Tensor:
    fields = vars(outputs) if hasattr(outputs, "__dataclass_fields__") else outputs
    top = fields.values() if isinstance(fields, Mapping) else fields if isinstance(fields, tuple | list) else (fields,)
    parts = _trainable(top) or _trainable(tensors(outputs))  # at the top level, else nested
    if not parts:
        raise TensorProgError("no output of the module depends on its parameters", fix=WRITE,
                              why="there would be nothing to train")  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    targets = [torch.randn(t.shape, generator=generator).to(t) for t in parts]
    return sum(((t - target) ** 2).mean() for t, target in zip(parts, targets, strict=True))


def _trainable(found: Iterable[Any]) -> list[Tensor]:
    return [t for t in found if isinstance(t, torch.Tensor) and t.is_floating_point() and t.requires_grad]


def tensors(value: Any) -> list[Tensor]:
    """All tensors inside nested tuples, lists, mappings and dataclasses, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [t for item in value.values() for t in tensors(item)]
    if isinstance(value, tuple | list):
        return [t for item in value for t in tensors(item)]
    if hasattr(value, "__dataclass_fields__"):
        return [t for name in value.__dataclass_fields__ for t in tensors(getattr(value, name))]
    return []


@contextmanager
def told(what: str, fix: str, kind: type[TensorProgError] = TensorProgError) -> Iterator[None]:
    """Whatever the user's code raises, or that it exits, as an error of this `kind`. A TensorProgError stays, and so
    does a lack of memory."""
    try:
        yield
    except (TensorProgError, MemoryError):
        raise
    except torch.OutOfMemoryError as error:
        raise MemoryError(str(error)) from error
    except (Exception, SystemExit) as error:
        raise kind(f"{what}: {type(error).__name__}: {error}", fix=fix,
                   why="the model is built and run at several sizes, by its own code") from error  # fmt: skip


def construct(build: Build, n: int, inputs: Any = None, loss: Callable[[Any], Tensor] | None = None) -> Built:
    """Calls `build(n)`; `inputs` and `loss(outputs)` are used where it gives none (see `unpacked` and `arguments`).

    Raises TensorProgError where there is no module or nothing to run it on."""
    with told(f"the builder fails at {n}", "a function of one number, that works at every width"):
        built = build(n)
    module, own, criterion = unpacked(built)
    args, kwargs = arguments(module, inputs if own is None else own, lambda make: make(n))
    return Built(n, module, args, kwargs, loss if criterion is None else criterion)


def unpacked(built: Any) -> tuple[Module, Any, Callable[[Any], Tensor] | None]:
    """A builder's module, its inputs or None, its loss or None: it returns the first, the first two, or all three.
    Raises TensorProgError for anything else."""
    parts = built if isinstance(built, tuple) else (built,)
    if not 1 <= len(parts) <= 3 or not isinstance(parts[0], torch.nn.Module):
        raise TensorProgError(f"the builder returns {type(built).__name__}, not a module", fix=WRITE,
                              why="a module of every size is looked at")  # fmt: skip
    module, inputs, loss = (*parts, None, None)[:3]
    return module, inputs, loss


def arguments(
    module: Module, given: Any, at: Callable[[Callable[..., Any]], Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a module is called with. `given`: a tensor, a tuple of arguments or a mapping of keyword arguments, or a
    function that `at` calls for one; None: the module's own `dummy_inputs` (Hugging Face) or `example_input_array`
    (Lightning). Raises TensorProgError if there is nothing."""
    if callable(given) and not isinstance(given, torch.Tensor | Mapping):
        with told("the function of the inputs fails", "a function of the width that returns inputs"):
            given = at(given)
    for name in ("dummy_inputs", "example_input_array"):
        given = getattr(module, name, None) if given is None else given
    if given is None:
        raise TensorProgError("there is nothing to run the module on", why="the builder returns no inputs",
                              fix=f"{WRITE}; or `inputs`")  # fmt: skip
    if isinstance(given, Mapping):
        return (), dict(given)
    return (tuple(given) if isinstance(given, tuple | list) else (given,)), {}


def builder(place: str) -> Build:
    """The function that `my_model.py:build` or `package.module:build` names.

    Raises TensorProgError if there is none.
    """
    name, colon, attribute = place.rpartition(":")
    if not colon or not name or not attribute.isidentifier():
        raise TensorProgError(f"`{place}` does not name a function", fix="my_model.py:build",
                              why="the model is built at several sizes, by calling it")  # fmt: skip
    with told(f"cannot import {name}", "a module that Python imports without an error"):
        module = _from_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    found = getattr(module, attribute, None)
    if not callable(found):
        raise TensorProgError(f"{name} has no function `{attribute}`",
                              why="the model is built at several sizes, by calling it",
                              fix="def build(n): return module, inputs, loss")  # fmt: skip
    return found  # type: ignore[no-any-return]


def _from_file(path: Path) -> Any:
    try:
        path.open().close()
    except OSError as error:
        raise unreadable(path, error, "a Python file") from None
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # it ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # dataclasses and pickle look classes up there
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # what lies beside the file can be imported, as if it were run
    spec.loader.exec_module(module)
    return module

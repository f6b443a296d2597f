"""A user's `torch.autograd.Function`: its forward is recorded like other code, if its backward is the derivative."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from tensorprog.errors import TensorProgError

CLOSE = 1e-3  # relative difference of two gradients that count as one


class _Context(SimpleNamespace):
    """Stands for the `ctx` of a forward that is only repeated."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


@contextlib.contextmanager
def differentiated(enter: Callable[[bool], contextlib.AbstractContextManager[None]], verify: bool) -> Iterator[None]:
    """While entered, `enter(whether gradients pass)` surrounds the forward of every `torch.autograd.Function`, which
    PyTorch runs without gradients although they pass through it.

    With `verify`, raises TensorProgError from the Function's `apply` where its backward is not the derivative of its
    forward: what is recorded is the forward, and it would be differentiated. PyTorch's own Functions are trusted.
    """
    base = torch.autograd.function._SingleLevelFunction  # below `apply` itself, of which users keep references

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        plain = super(base, cls).apply
        if verify and torch.is_grad_enabled() and not cls.__module__.startswith("torch."):
            _assert_derivative(cls, plain, args, kwargs)
        with enter(torch.is_grad_enabled()):
            return plain(*args, **kwargs)

    base.apply = classmethod(apply)
    try:
        yield
    finally:
        del base.apply


def _assert_derivative(cls: Any, plain: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    def fresh(x: Any) -> Any:
        return x.detach().clone().requires_grad_(x.requires_grad) if isinstance(x, torch.Tensor) else x

    split = cls.setup_context is not torch.autograd.Function.setup_context
    needs = tuple(isinstance(a, torch.Tensor) and a.requires_grad for a in args)
    if not any(needs):
        return
    try:
        with _disable_current_modes(), torch.random.fork_rng(devices=[]), torch.enable_grad():
            state = torch.random.get_rng_state()
            own = _gradients(plain, tree_map(fresh, args), kwargs)
            torch.random.set_rng_state(state)
            forward = cls.forward if split else lambda *a, **k: cls.forward(_Context(needs_input_grad=needs), *a, **k)
            derived = _gradients(forward, tree_map(fresh, args), kwargs)
    except TensorProgError:
        raise
    except Exception as error:
        raise TensorProgError(
            f"whether the backward of `{cls.__name__}` (a torch.autograd.Function) is the derivative of its forward "
            "could not be seen", why=f"{type(error).__name__}: {error}", fix="its forward, in operations of PyTorch",
        ) from error  # fmt: skip
    if any((a - b).norm() > CLOSE * max(a.norm(), b.norm()) for a, b in zip(own, derived, strict=True)):
        raise TensorProgError(
            f"the backward of `{cls.__name__}` (a torch.autograd.Function) is not the derivative of its forward",
            why="the derivative is taken of the operations in its forward",
            fix="the same in operations of PyTorch: for a straight-through estimate, x + (f(x) - x).detach()",
        )  # fmt: skip


def _gradients(run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """The gradients of fixed random sums of the results, by every tensor that needs one (zeros where none passes)."""
    leaves = [a for a in args if isinstance(a, torch.Tensor) and a.requires_grad]
    results = [t for t in tree_leaves(run(*args, **kwargs)) if isinstance(t, torch.Tensor) and t.requires_grad]
    if not results:
        return [torch.zeros_like(x) for x in leaves]
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(t.shape, generator=generator).to(t) for t in results]
    found = torch.autograd.grad(results, leaves, weights, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves, strict=True)]

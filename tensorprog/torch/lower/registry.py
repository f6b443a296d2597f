"""The table of rules: one function per kind of ATen operation, found by the operation's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call

Rule = Callable[["Lowering", "Call"], Any]
F = TypeVar("F", bound=Rule)

RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[F], F]:
    """Declares a function as the rule of these operations, such as "aten.tanh" (in-place ones by their pure name).

    It gets the `Lowering` and the `Call`, reads operands with `low.value(call["self"])` (a tensor),
    `low.operand(..)` (a tensor or a number), `low.integer(..)`, and returns a `Value` made with the methods of
    `Builder`, or a tuple of one per result (None for those that nothing may read). A later rule replaces an earlier.
    """

    def register(function: F) -> F:
        for name in names:
            RULES[name.removeprefix("aten.")] = function
        return function

    return register

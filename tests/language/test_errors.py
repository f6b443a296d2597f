"""Errors travel: from a worker process they arrive as they are."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from importlib import import_module
from pkgutil import walk_packages
from typing import Any

import pytest

import tensorprog
from tensorprog.errors import InternalError, TensorProgError
from tensorprog.syntax import Span


def _kinds(kind: type[TensorProgError]) -> list[type[TensorProgError]]:
    return [kind, *(other for sub in kind.__subclasses__() for other in _kinds(sub))]


def _made(kind: type[TensorProgError]) -> TensorProgError:
    """An error of this kind, whatever its constructor takes."""
    error = kind.__new__(kind)
    TensorProgError.__init__(error, "what", Span(2, 3, 2, 4), why="why", fix="fix", source="a\nbcd", file="net.tp")
    error.more = ("more",)  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize("way", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_every_error_can_be_pickled_and_copied(way: Callable[[Any], Any]) -> None:
    for module in walk_packages(tensorprog.__path__, "tensorprog."):
        if not module.name.startswith("tensorprog.cli.__main__"):
            import_module(module.name)
    kinds = _kinds(TensorProgError)
    assert len(kinds) > 8
    for error in [*map(_made, kinds), InternalError("x")]:
        again = way(error)
        assert type(again) is type(error) and again is not error
        assert again.__dict__ == error.__dict__ and again.args == error.args and str(again) == str(error)
    assert way(InternalError("x")).message == "fault in tensorprog: x"

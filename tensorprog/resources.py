"""Text files that travel with the package: the grammar and the standard library of blocks."""

from __future__ import annotations

import os

_HERE = os.path.dirname(os.path.abspath(__file__))
_FOLDERS = (os.path.join(_HERE, "grammar"), os.path.join(os.path.dirname(_HERE), "grammar"))


def read_grammar(name: str) -> str:
    """The text of `name` (`tensorprog.lark`, `blocks.tp`): from the installed package, else from the checkout."""
    for folder in _FOLDERS:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                return file.read()
    raise FileNotFoundError(f"{name} is in none of {', '.join(_FOLDERS)}: the installation is incomplete")

"""Pictures of results: pure functions from a result to a matplotlib Figure, and from a Figure to bytes.

    from tensorprog.plots import coordinate_check, render
    Path("check.svg").write_bytes(render(coordinate_check(report), "svg"))

No global state of pyplot is touched, and the same figure gives the same bytes. Needs `tensorprog[plot]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensorprog.errors import TensorProgError

if TYPE_CHECKING:
    from tensorprog.plots.forest import slope_forest
    from tensorprog.plots.ladder import coordinate_check
    from tensorprog.plots.network import computation_graph
    from tensorprog.plots.regions import Mark, Region, stable_plane, stable_region
    from tensorprog.plots.style import DARK, LIGHT, THEMES, Theme, render
    from tensorprog.plots.sweep import Optimum, Run, Sweep, transfer_curves

_HOMES = {
    "coordinate_check": "ladder", "slope_forest": "forest", "computation_graph": "network",
    "stable_region": "regions", "stable_plane": "regions", "Region": "regions", "Mark": "regions",
    "transfer_curves": "sweep", "Sweep": "sweep", "Run": "sweep", "Optimum": "sweep",
    "render": "style", "Theme": "style", "THEMES": "style", "LIGHT": "style", "DARK": "style",
}  # fmt: skip

__all__ = [
    "DARK",
    "LIGHT",
    "THEMES",
    "Mark",
    "Optimum",
    "Region",
    "Run",
    "Sweep",
    "Theme",
    "computation_graph",
    "coordinate_check",
    "render",
    "slope_forest",
    "stable_plane",
    "stable_region",
    "transfer_curves",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'tensorprog.plots' has no attribute {name!r}")
    try:
        return getattr(import_module(f"tensorprog.plots.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise TensorProgError("plots need matplotlib, which is not installed",
                              why="only what draws needs it",
                              fix="pip install 'tensorprog[plot]'") from None  # fmt: skip

"""One self-contained HTML page about an architecture: derived, emitted, measured, and how to do it again.

content.py: what the page says, as data. pictures.py: figures that follow the reader's light or dark. page.py: the page.
Needs `tensorprog[report]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensorprog.errors import TensorProgError

if TYPE_CHECKING:
    from tensorprog.report.page import report_page

__all__ = ["report_page"]


def __getattr__(name: str) -> Any:
    if name != "report_page":
        raise AttributeError(f"module 'tensorprog.report' has no attribute {name!r}")
    try:
        from tensorprog.report.page import report_page
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("jinja2", "markupsafe", "pygments", "matplotlib"):
            raise
        raise TensorProgError(f"a report needs {error.name}, which is not installed",
                              why="only reports need it",
                              fix="pip install 'tensorprog[report]'") from None  # fmt: skip
    return report_page

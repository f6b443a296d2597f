"""Pages that the tests look at, and a parser that says what is in one."""

from __future__ import annotations

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from tensorprog.api import check, emit
from tensorprog.coordcheck.report import CheckReport
from tensorprog.derivation import Derivation
from tensorprog.hptransfer.report import Drift, Optimum, Record, TransferReport, Wider
from tensorprog.report import report_page
from tests.shared import derive

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
VOID = {"meta", "link", "br", "img", "wbr", "path", "use", "rect", "circle", "hr", "input"}

TRANSFER = TransferReport(
    file="some/where/mlp.tp", optimizer="adam", form="table8", sweep="lr", data="digits", data_id="0", axis=("n",),
    sizes=(32, 64), base={"n": 32}, lr=None, steps=50, batch=8, seeds=2, tolerance=0.2, versions={"torch": "2"},
    records=tuple(
        Record(name, {"n": size}, 2.0**k, seed, None if k > -3 else 0.5 + 0.1 * (k + 7) ** 2 / size, 2.3)
        for name in ("derived", "sp") for size in (32, 64) for k in range(-10, -1) for seed in range(2)
    ),
    optima=(
        *(Optimum("derived", {"n": size}, "found", 0.01, 0.009, 0.011, 0.5, 0.1, 9) for size in (32, 64)),
        *(Optimum("sp", {"n": size}, "below", None, None, None, None, None, 9) for size in (32, 64)),
    ),
    drifts=(Drift("derived", 0.01, -0.04, 0.06, "transfers", 0.5, 0.49), Drift("sp", None, None, None, "inconclusive")),
    wider=(Wider("derived", 8, 1, 0), Wider("sp", 3, 1, 5, (0.1, 32, 64))), flops={32: 1e9, 64: 4e9},
)  # fmt: skip


def checked(derivation: Derivation, **options: Any) -> CheckReport:
    """A check of a few seconds."""
    return check(derivation, widths=[32, 64, 128], seeds=3, max_seeds=3, steps=1, batch=8, **options)


@cache
def page_of(example: str = "mlp", **options: Any) -> str:
    derivation = derive(EXAMPLES / f"{example}.tp", "adam")
    return report_page(derivation, emit(derivation), **options)


class Page(HTMLParser):
    """Elements (tag, attributes), the text inside elements of each class and tag, and tags that are not closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.wrong: list[str] = []
        self._open: list[tuple[str, tuple[str, ...]]] = []
        self.feed(source)
        self.close()
        self.wrong += [tag for tag, _ in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in VOID:
            return
        keys = (tag, *(f".{word}" for word in (dict(attrs).get("class") or "").split()))
        for key in keys:
            self.texts.setdefault(key, []).append("")
        self._open.append((tag, keys))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self._open or self._open[-1][0] != tag:
            self.wrong.append(f"</{tag}>")
        else:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        for _, keys in self._open:
            for key in keys:
                self.texts[key][-1] += data

    def having(self, attribute: str) -> list[str]:
        """All values of an attribute."""
        return [
            value or "" for _, attributes in self.elements for name, value in attributes.items() if name == attribute
        ]

"""Figures inside a page: SVG whose letters are text and whose colours are the page's, light or dark."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict

from markupsafe import Markup, escape
from matplotlib.figure import Figure

from tensorprog.plots.style import DARK, LIGHT, Theme, render

# A colour, and not a reference to an element of the figure.
_COLOR = re.compile(r"(?<![\w(\"])#[0-9a-f]{6}(?![0-9a-z])")


def theme_colors(theme: Theme) -> dict[str, str]:
    """The theme as CSS variables: name -> colour."""
    return {name: value for name, value in asdict(theme).items() if isinstance(value, str) and value.startswith("#")}


class Pictures:
    """The figures of one page. A figure is drawn in both themes, and wherever they differ a variable takes the colour's
    place; `variables` are those that the page must define besides the themes' own."""

    def __init__(self) -> None:
        light, dark = theme_colors(LIGHT), theme_colors(DARK)
        self._names = {(light[name], dark[name]): name for name in light}
        self.variables: dict[str, tuple[str, str]] = {}
        self._count = 0

    def svg(self, draw: Callable[[Theme], Figure], title: str) -> Markup:
        """The figure as an SVG element; its ids are unique in the page."""
        light, dark = (_element(render(draw(theme), "svg", text=True).decode()) for theme in (LIGHT, DARK))
        others = iter(_COLOR.findall(dark))
        themed = _COLOR.sub(lambda match: self._variable(match[0], next(others)), light)
        self._count += 1
        prefix = f"p{self._count}-"
        themed = re.sub(r'\bid="', f'id="{prefix}', themed)
        themed = re.sub(r"url\(#", f"url(#{prefix}", themed)
        themed = re.sub(r'href="#', f'href="#{prefix}', themed)
        label = f'<svg role="img" aria-label="{escape(title)}" '
        return Markup(themed.replace("<svg ", label, 1))  # made of our own figure, whose text is escaped

    def _variable(self, light: str, dark: str) -> str:
        name = self._names.get((light, dark))
        if name is None:
            name = self._names[light, dark] = f"mix{len(self.variables)}"
            self.variables[name] = (light, dark)
        return f"var(--{name})"


def _element(document: str) -> str:
    """The <svg> element of a document, without what a page does not need: metadata, comments, ids that nothing refers
    to, a font of its own, the third decimal."""
    element = document[document.index("<svg") :].strip()
    element = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", element, flags=re.DOTALL)
    used = set(re.findall(r"(?:url\(|href=\")#([\w-]+)", element))
    element = re.sub(r"<[^>]+>", lambda tag: _shorter(tag[0], used), element)
    return re.sub(r">\s+<(?!/?t)", "><", element)


def _shorter(tag: str, used: set[str]) -> str:
    tag = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", tag)
    tag = re.sub(r" ?font-family: [^;\"]*;?| transform=\"rotate\(-?0 [^\"]*\"", "", tag)
    return re.sub(r"\s+", " ", re.sub(r"(\.\d\d)\d+", r"\1", tag))

"""Draws the pictures of README.md and docs/ anew, into docs/images: `python docs/pictures.py` (about a minute)."""

from __future__ import annotations

import io
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from PIL import Image

from tensorprog.api import check, derive
from tensorprog.plots import computation_graph, coordinate_check, render, slope_forest

ROOT = Path(__file__).resolve().parent.parent
COLORS = 64  # of a picture: files small enough for a repository


def main() -> None:
    derivation = derive(ROOT / "examples" / "mlp.tp", "adam")
    standard = check(derivation, parametrization="sp", widths=[128, 256, 512, 1024], steps=1)
    figures = {
        "check.png": coordinate_check(standard),
        "slopes.png": slope_forest(standard),
        "graph.png": computation_graph(derivation),
    }
    for name, figure in figures.items():
        picture = Image.open(io.BytesIO(render(figure, "png"))).convert("RGB")
        picture.quantize(COLORS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            ROOT / "docs" / "images" / name, optimize=True
        )


if __name__ == "__main__":
    main()

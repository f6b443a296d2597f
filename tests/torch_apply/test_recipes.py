"""The recipes in docs/how-to run as they are written."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
torch = pytest.importorskip("torch")

from tests.packages import needs  # noqa: E402

PAGES = Path(__file__).resolve().parents[2] / "docs" / "how-to"
pytestmark = [pytest.mark.torch, pytest.mark.slow]


@pytest.mark.parametrize(
    ("page", "packages"),
    [
        ("existing-model", ()),
        ("hugging-face-trainer", ("transformers", "accelerate")),
        ("lightning", ("lightning",)),
    ],
)
def test_the_code_of_a_recipe_runs(page, packages, tmp_path, monkeypatch):
    needs(*packages)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    blocks = re.findall(r"```python\n(.*?)```", (PAGES / f"{page}.md").read_text(), re.DOTALL)
    assert blocks
    names = {"__name__": "recipe"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile("\n".join(blocks), f"{page}.md", "exec"), names)
    assert names["p"].changes.needed
    if page == "existing-model":
        assert names["report"].verdict != "disagrees", str(names["report"])
    if page == "lightning":
        from tensorprog.torch.apply import applied

        rates = {g["lr"] for g in names["trainer"].optimizers[0].param_groups}
        assert applied(names["module"].model) is not None and len(rates) > 1
    if page == "hugging-face-trainer":
        assert names["trainer"].state.global_step == 6
        first, other, *_ = sorted({g["initial_lr"] for g in names["optimizer"].param_groups}, reverse=True)
        assert first / other == pytest.approx(2)

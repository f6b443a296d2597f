"""What the user's own code raises, and what a worker process leaves behind, is told as that."""

from __future__ import annotations

from pathlib import Path

import pytest

from tensorprog.cli import main
from tensorprog.errors import TensorProgError
from tensorprog.hptransfer import pool

MODEL = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, n): super().__init__(); self.linear = nn.Linear(5, n)
    def forward(self, x):
        {forward}
        return self.linear(x)
def build(n): return Net(n), torch.randn(4, 5), lambda out: {loss}
"""

NESTED = """
width n
depth L = 2, M = 2
axis i: 4, j: n, k: n, c: 3
input x[i]
param E[j,i], V[c,j]
h[j] = E[j,i] x[i]
repeat L shared {
  repeat M {
    param W[k,j]
    h[k] = h[k] + W[k,j] tanh(h[j])
  }
}
output f[c] = V[c,j] h[j]
loss mse(f)
"""


@pytest.mark.parametrize(
    ("forward", "loss", "said"),
    [
        ("raise BrokenPipeError('mine')", "out.sum()", "forward pass fails at 8: BrokenPipeError: mine"),
        ("raise SystemExit(0)", "out.sum()", "forward pass fails at 8: SystemExit: 0"),
        ("open('no-such-file')", "out.sum()", "forward pass fails at 8: FileNotFoundError"),
        ("raise torch.OutOfMemoryError('CUDA out of memory')", "out.sum()", "error: out of memory"),
        ("pass", "1 / 0", "the loss fails at 8: ZeroDivisionError"),
    ],
)
def test_what_the_model_raises_is_its_own(
    forward: str, loss: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.py"
    path.write_text(MODEL.format(forward=forward, loss=loss))
    assert main(["check", "--module", f"{path}:build", "--widths", "8,16", "--steps", "1"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("raised", [BrokenPipeError(), ConnectionResetError(), EOFError()])
def test_a_line_to_a_dead_process_says_so(raised: Exception) -> None:
    with pytest.raises(TensorProgError, match="a training process died"), pool._living():
        raise raised


def test_a_loop_of_symbolic_depth_inside_of_one_that_is_shared_is_not_covered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nested.tp"
    path.write_text(NESTED)
    main(["derive", str(path)])
    out, err = capsys.readouterr()
    assert (
        "not covered: a repeat over a depth inside of one that is shared" in out + err
        and "no power law" not in out + err
    )

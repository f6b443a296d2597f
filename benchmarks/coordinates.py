"""The same coordinate check, by this package's NumPy backend and by the `mup` package (needs torch, mup).

`run("ours" | "mup", "perceptron" | "transformer")` makes the check, ready to be timed; as a process, all of it:
`python -m benchmarks.coordinates mup perceptron`. Both train the same networks at the same widths, with as many seeds,
steps and examples. `mup` records the mean size of the output of every module before every step; a check records
initial value and change of every tensor and parameter, once more after the last step, and runs a negative control.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

WIDTHS, SEEDS = (64, 128, 256, 512, 1024), 5
FEATURES, CLASSES = 64, 10
VOCAB, CONTEXT, HEAD, LAYERS = 96, 32, 16, 2  # those of examples/gpt.tp

PERCEPTRON = f"""\
width n
dim d = {FEATURES}, classes = {CLASSES}
axis i: d, j: n, k: n, l: n, c: classes
input x[i]
param W1[j,i], W2[k,j], W3[l,k], W4[c,l]
h1[j] = W1[j,i] x[i]
x1[j] = relu(h1[j])
h2[k] = W2[k,j] x1[j]
x2[k] = relu(h2[k])
h3[l] = W3[l,k] x2[k]
x3[l] = relu(h3[l])
output f[c] = W4[c,l] x3[l]
loss cross_entropy(f)
"""


@dataclass(frozen=True, slots=True)
class Job:
    """A network of the `.tp` language and what is done with it."""

    source: str
    steps: int
    batch: int


JOBS = {
    "perceptron": Job(PERCEPTRON, steps=3, batch=64),
    "transformer": Job((Path(__file__).parents[1] / "examples" / "gpt.tp").read_text(), steps=4, batch=1),
}


def run(side: str, name: str) -> Callable[[], object]:
    """One check, ready to run on all cores. Raises ImportError without torch and mup."""
    return (_ours if side == "ours" else _theirs)(name)


def options(name: str) -> list[str]:
    """The options of `tpcalc check` for the same job."""
    job = JOBS[name]
    return ["--optimizer", "adam", "--widths", ",".join(map(str, WIDTHS)), "--seeds", str(SEEDS),
            "--max-seeds", str(SEEDS), "--steps", str(job.steps), "--batch", str(job.batch)]  # fmt: skip


def _ours(name: str) -> Callable[[], object]:
    from tensorprog import check, derive, parse

    job = JOBS[name]
    derivation = derive(parse(job.source), "adam")
    return lambda: check(derivation, widths=WIDTHS, seeds=SEEDS, max_seeds=SEEDS, steps=job.steps, batch=job.batch,
                         jobs=os.cpu_count() or 1)  # fmt: skip


def _theirs(name: str) -> Callable[[], object]:
    import torch
    from mup import set_base_shapes
    from mup.coord_check import get_coord_data
    from torch import nn

    torch.set_num_threads(os.cpu_count() or 1)
    job, build = JOBS[name], _perceptron if name == "perceptron" else _transformer
    base, delta = build(WIDTHS[0]), build(WIDTHS[1])

    def lazy(width: int) -> Callable[[], Any]:
        def model() -> Any:
            made = set_base_shapes(build(width), base, delta=delta)
            for parameter in made.parameters():
                if parameter.dim() > 1:
                    nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
            return made

        return model

    if name == "perceptron":
        data = (torch.randn(job.batch, FEATURES), torch.randint(CLASSES, (job.batch,)))
    else:
        tokens = torch.randint(VOCAB, (2, job.batch, CONTEXT))
        data = (tokens[0], tokens[1].reshape(-1))
    models = {width: lazy(width) for width in WIDTHS}

    def check() -> object:
        with contextlib.redirect_stdout(None):
            return get_coord_data(
                models, [data], optimizer="adam", mup=True, lr=1e-2, nsteps=job.steps, nseeds=SEEDS, cuda=False,
                flatten_output=name == "transformer", show_progress=False,
            )  # fmt: skip

    return check


def _perceptron(width: int) -> Any:
    from mup import MuReadout
    from torch import nn

    sizes = (FEATURES, width, width, width)
    hidden = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b, bias=False), nn.ReLU())]
    return nn.Sequential(*hidden, MuReadout(width, CLASSES, bias=False))


def _transformer(width: int) -> Any:
    """examples/gpt.tp at depth 2."""
    import torch
    from mup import MuReadout
    from torch import nn
    from torch.nn import functional

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

        def forward(self, x: Any) -> Any:
            heads = (*x.shape[:2], width // HEAD, HEAD)
            q, k, v = (f(x).view(heads).transpose(1, 2) for f in (self.q, self.k, self.v))
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.out(y.transpose(1, 2).reshape(x.shape))

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.attention, self.norm2 = nn.LayerNorm(width), Attention(), nn.LayerNorm(width)
            self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

        def forward(self, x: Any) -> Any:
            x = x + self.attention(self.norm1(x))
            return x + self.mlp(self.norm2(x))

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.positions = nn.Embedding(VOCAB, width), nn.Embedding(CONTEXT, width)
            self.layers = nn.Sequential(*(Layer() for _ in range(LAYERS)))
            self.norm, self.readout = nn.LayerNorm(width), MuReadout(width, VOCAB)

        def forward(self, tokens: Any) -> Any:
            x = self.tokens(tokens) + self.positions(torch.arange(CONTEXT))
            return self.readout(self.norm(self.layers(x)))

    return Transformer()


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2])()

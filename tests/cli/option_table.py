"""Options and files that do not fit a command, in the folder of `tests/cli/error_table.py` with some more files.

`TRAINING`: those of commands that need PyTorch. Tests run the mended commands until they begin to train.
"""

# ruff: noqa: E501

from __future__ import annotations

from pathlib import Path

from tests.cli import error_table
from tests.cli.error_table import FileRow

TINY = "--widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend"

FOLDER = {
    "big.toml": "[parameters]\nU = { init_std = 1 }\n",
    "data.py": "import numpy as np\n\ndef model(n):\n    import torch\n\n    return torch.nn.Sequential(torch.nn.Linear(4, n), torch.nn.ReLU(), torch.nn.Linear(n, 3)), torch.ones(2, 4)\n\ndef number():\n    return 3\n\ndef good():\n    rng = np.random.default_rng(0)\n    return rng.standard_normal((40, 4)), rng.standard_normal((40, 3))\n\ndef short():\n    return np.zeros((40, 4)), np.zeros((39, 3))\n\ndef nan():\n    return np.full((40, 4), np.nan), np.zeros((40, 3))\n\ndef text():\n    return np.full((40, 4), 'a'), np.zeros((40, 3))\n\ndef shape():\n    return np.zeros((40, 5)), np.zeros((40, 3))\n\ndef names():\n    return {'y': np.zeros((40, 4))}\n\ndef real():\n    return np.zeros((40, 64)), np.zeros(40)\n\ndef many():\n    return np.zeros((40, 64)), np.full(40, 10)\n",
    "deep.tp": "width n\ndepth L = 2\ninput x[i]\naxis i: 4\nh = linear(x, n)\nrepeat L { h = h + ?b * linear(relu(h), n) }\noutput f = readout(h, 3)\nloss mse(f)\n",
    "few.tp": "width n\ninput tokens[t] in 10\naxis t: 8\nh = embedding(tokens, n)\noutput f = readout(h, 10)\nloss cross_entropy(f)\n",
    "fixed.tp": "width n\naxis i: 4, j: n, c: 3\ninput x[i]\nparam V[c,j], U[j,i]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nloss mse(f)\nfix lr[U] = 0\n",
    "heads.tp": "width n\ndim heads = n / 8\naxis i: 4, h: heads, c: 3\ninput x[i]\nparam V[c,h], U[h,i]\nz[h] = U[h,i] x[i]\noutput f[c] = V[c,h] z[h]\nloss mse(f)\n",
    "image.tp": "width n\naxis i: 64, j: n, c: 10\ninput x[i]\nparam V[c,j], U[j,i]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nloss cross_entropy(f)\n",
    "key.toml": "rate = 0\n",
    "list.toml": "parameters = 3\n",
    "losses.tp": "width n\naxis i: 4, j: n, c: 3\ninput x[i]\nparam V[c,j], W[c,j], U[j,i]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\noutput g[c] = W[c,j] h[j]\nloss mse(f) + mse(g)\n",
    "multiplier.toml": "[multipliers]\nscale = 0\n",
    "name.toml": "[parameters]\nW = { lr = 0 }\n",
    "notes.json": "[1]",
    "own.tp": "width n\naxis i: 4, j: n, c: 3\ninput x[i]\noptimizer mine(lr = 0.1) { step = g }\nparam V[c,j], U[j,i]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nloss mse(f)\n",
    "plain.tp": "width n\ndepth L = 2\ninput x[i]\naxis i: 4\nh = linear(x, n)\nrepeat L { h = relu(linear(h, n)) }\noutput f = readout(h, 3)\nloss mse(f)\n",
    "rate.toml": "[parameters]\nU = { rate = 0 }\n",
    "sentence.tp": "width n\ninput tokens[t] in 96\naxis t: 8, i: n\nh = embedding(tokens, n)\ng[i] = mean[t](h[t,i])\noutput f = readout(g, 96)\nloss cross_entropy(f)\n",
    "short.npz": "abc",
    "short.txt": "abc",
    "symbol.toml": 'lr = "q^-1"\n',
    "table.toml": "[parameters]\nU = 3\n",
    "two.toml": 'lr = "n^-1 m^-1"\n',
    "two.tp": "width n, m\nregime m << n\naxis i: 4, j: n, k: m, c: 3\ninput x[i]\nparam U[j,i], W[k,j], V[c,k]\nh[j] = U[j,i] x[i]\ng[k] = W[k,j] h[j]\noutput f[c] = V[c,k] g[k]\nloss mse(f)\n",
    "wide.tp": "width n\naxis i: n, j: n, c: 10\ninput x[i]\nparam V[c,j], U[j,i]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nloss cross_entropy(f)\n",
    "words.tp": "width n\ninput tokens[t] in 96\naxis t: 8\nh = embedding(tokens, n)\noutput f = readout(h, 96)\nloss cross_entropy(f)\n",
    "zero.toml": "[parameters]\nb = { init_std = 0 }\n",
    "zero.tp": "width n\naxis i: 4, j: n, c: 3\ninput x[i]\nparam V[c,j], U[j,i], b[j] = zeros\nh[j] = U[j,i] x[i] + b[j]\noutput f[c] = V[c,j] h[j]\nloss mse(f)\n",
}


def fill(folder: Path) -> None:
    """More networks, parametrizations and data."""
    error_table.fill(folder)
    for name, text in FOLDER.items():
        (folder / name).write_text(text, encoding="utf-8")


OPTIONS = (
    FileRow(
        "unknown key `rate`",
        "tpcalc classify net.tp --parametrization key.toml",
        "tpcalc classify net.tp --parametrization half.toml",
    ),
    FileRow(
        "no learning rate is stable, so there are no constraints on learning rates to list",
        "tpcalc classify net.tp --parametrization big.toml --constraints",
        "tpcalc classify net.tp --parametrization half.toml --constraints",
    ),
    FileRow(
        "exponent 1/999983 is not a multiple of 1/1411200",
        "tpcalc classify net.tp --parametrization sp --lr 1/999983",
        "tpcalc classify net.tp --parametrization sp --lr -1/2",
    ),
    FileRow(
        "the size n / 8 is 3/2 at the base widths",
        "tpcalc emit heads.tp --base-width 12",
        "tpcalc emit heads.tp --base-width 16",
    ),
    FileRow(
        "the size n / 8 is 3/2 at n = 12", "tpcalc check heads.tp --widths 8,12", "tpcalc check heads.tp --widths 8,16"
    ),
    FileRow(
        "targets cannot be drawn from this model",
        "tpcalc check losses.tp --optimizer sophia",
        "tpcalc check losses.tp --optimizer adam",
    ),
    FileRow(
        "--optimizer has a meaning only for a picture", "tpcalc graph net.tp --optimizer sgd", "tpcalc graph net.tp"
    ),
    FileRow(
        "unknown policy of weight decay `keep`",
        "tpcalc derive net.tp --decay-policy keep",
        "tpcalc derive net.tp --decay-policy constant",
    ),
    FileRow(
        "`W*` fits no parameter",
        "tpcalc derive net.tp --optimizer-for 'W*=sgd'",
        "tpcalc derive net.tp --optimizer-for 'V=sgd'",
    ),
    FileRow(
        "unknown optimizer `lbfgs`",
        "tpcalc derive net.tp --optimizer lbfgs",
        "tpcalc derive net.tp --optimizer shampoo",
    ),
    FileRow(
        "the file fixes exponents, and `sp` gives them all",
        "tpcalc classify fixed.tp --parametrization sp",
        "tpcalc classify fixed.tp --parametrization derived",
    ),
    FileRow(
        "the stable exponents of widths in an order are no polyhedron",
        "tpcalc classify two.tp --parametrization sp --constraints",
        "tpcalc classify two.tp --parametrization sp",
    ),
    FileRow(
        "a global learning rate ~ n^1000 is out of the ordinary",
        "tpcalc classify net.tp --parametrization sp --lr 1000",
        "tpcalc classify net.tp --parametrization sp --lr -1",
    ),
    FileRow(
        "no parameter matches `W`",
        "tpcalc classify net.tp --parametrization name.toml",
        "tpcalc classify net.tp --parametrization half.toml",
    ),
    FileRow(
        "`U` needs a table",
        "tpcalc classify net.tp --parametrization table.toml",
        "tpcalc classify net.tp --parametrization half.toml",
    ),
    FileRow(
        "a parameter has no `rate`",
        "tpcalc classify net.tp --parametrization rate.toml",
        "tpcalc classify net.tp --parametrization half.toml",
    ),
    FileRow(
        "the program has no multiplier `?scale`",
        "tpcalc classify net.tp --parametrization multiplier.toml",
        "tpcalc classify net.tp --parametrization half.toml",
    ),
    FileRow(
        "`parameters` is not a table",
        "tpcalc classify net.tp --parametrization list.toml",
        "tpcalc classify net.tp --parametrization half.toml",
    ),
    FileRow(
        "`lr = q^-1` is no exponent",
        "tpcalc classify net.tp --parametrization symbol.toml",
        "tpcalc classify net.tp --parametrization half.toml",
    ),
    FileRow(
        "`lr` is m^-1 n^-1",
        "tpcalc classify two.tp --parametrization two.toml",
        "tpcalc classify net.tp --parametrization half.toml",
    ),
    FileRow(
        "`b` starts at zero",
        "tpcalc classify zero.tp --parametrization zero.toml",
        "tpcalc classify zero.tp --parametrization half.toml",
    ),
    FileRow("`m` does not climb alone", "tpcalc check net.tp --climb m", "tpcalc check two.tp --climb m"),
    FileRow(
        "`lr[U]=-1` does not say which width",
        "tpcalc check two.tp --set 'lr[U]=-1'",
        "tpcalc check two.tp --set 'lr[U]=n^-1'",
    ),
    FileRow(
        "`U` has no eps",
        "tpcalc check net.tp --set 'eps[U]=-1' --optimizer sgd",
        "tpcalc check net.tp --set 'lr[U]=-1' --optimizer sgd",
    ),
    FileRow(
        "the widths must be at least two, increasing",
        "tpcalc check net.tp --widths 64,32",
        "tpcalc check net.tp --widths 32,64",
    ),
    FileRow(
        "the widths must be at least two, increasing",
        "tpcalc check net.tp --widths 64",
        "tpcalc check net.tp --widths 32,64",
    ),
    FileRow(
        "either the widths or the depths vary, not both",
        "tpcalc check deep.tp --depths 2,4 --widths 32,64",
        "tpcalc check deep.tp --depths 2,4 --widths 32",
    ),
    FileRow(
        "either a width or the depths climb, not both",
        "tpcalc check deep.tp --depths 2,4 --climb n",
        "tpcalc check deep.tp --depths 2,4",
    ),
    FileRow(
        "there are no exponents of the depth in plain.tp", "tpcalc check plain.tp --depths 2,4", "tpcalc check plain.tp"
    ),
    FileRow(
        "NumPy does not run on `cuda`",
        "tpcalc check net.tp --device cuda",
        "tpcalc check net.tp --backend torch --device cpu",
    ),
    FileRow(
        "nothing called `slopes` can be measured",
        "tpcalc check net.tp --also slopes",
        "tpcalc check net.tp --also split",
    ),
    FileRow(
        "notes.json holds no result of a transfer experiment",
        "tpcalc report net.tp -o r.html --no-check --transfer notes.json",
        "tpcalc report net.tp -o r.html --no-check",
    ),
    FileRow(
        "the optimizer `sam` cannot be emitted together with another one",
        "tpcalc emit net.tp --optimizer-for 'V=sam'",
        "tpcalc emit net.tp --optimizer sam",
    ),
    FileRow(
        "normalised_sgd divides by the norm of the whole gradient",
        "tpcalc derive net.tp --optimizer normalised_sgd --fix 'lr = 0'",
        "tpcalc derive net.tp --fix 'lr = 0'",
    ),
)

TRAINING = (
    FileRow(
        "the data `text` do not fit sentence.tp",
        "tpcalc transfer sentence.tp --data text",
        "tpcalc transfer words.tp --data text --widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend",
    ),
    FileRow(
        "--parametrization has no meaning with --module",
        "tpcalc check --module data.py:model --parametrization sp",
        "tpcalc check --module data.py:model --widths 8,16 --seeds 2 --steps 1",
    ),
    FileRow(
        "the network cannot be trained at n = 12",
        "tpcalc transfer heads.tp --data data:good --widths 8,12",
        "tpcalc transfer heads.tp --data data:good --widths 8,16",
    ),
    FileRow(
        "mine has no weight decay",
        "tpcalc transfer own.tp --data data:good --optimizer mine --sweep weight_decay",
        "tpcalc transfer own.tp --data data:good --sweep weight_decay --optimizer adamw",
    ),
    FileRow(
        "'a,b' are no widths",
        "tpcalc import data.py:number --widths a,b",
        "tpcalc import data.py:model --widths 3,5,7,10",
    ),
    FileRow(
        "unknown data `words`",
        "tpcalc transfer net.tp --data words",
        "tpcalc transfer net.tp --data data:good --widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend",
    ),
    FileRow(
        "the data `digits` do not fit net.tp",
        "tpcalc transfer net.tp --data digits",
        "tpcalc transfer image.tp --data digits --widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend",
    ),
    FileRow(
        "the data `text` do not fit net.tp",
        "tpcalc transfer net.tp --data text",
        "tpcalc transfer net.tp --data data:good --widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend",
    ),
    FileRow(
        "the data `digits` do not fit words.tp",
        "tpcalc transfer words.tp --data digits",
        "tpcalc transfer words.tp --data text --widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend",
    ),
    FileRow(
        "the data `text` do not fit few.tp",
        "tpcalc transfer few.tp --data text",
        "tpcalc transfer words.tp --data text --widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend",
    ),
    FileRow(
        "the data `text:short.txt` do not fit words.tp",
        "tpcalc transfer words.tp --data text:short.txt",
        "tpcalc transfer words.tp --data text --widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend",
    ),
    FileRow(
        "cannot read shrt.txt: No such file or directory",
        "tpcalc transfer words.tp --data text:shrt.txt",
        "tpcalc transfer words.tp --data text --widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend",
    ),
    FileRow(
        "`x` has an axis of size n",
        "tpcalc transfer wide.tp --data digits",
        "tpcalc transfer image.tp --data digits --widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend",
    ),
    FileRow(
        "the data `data:number` are of type int",
        "tpcalc transfer net.tp --data data:number",
        "tpcalc transfer net.tp --data data:good --widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend",
    ),
    FileRow(
        "the data `data:missing` cannot be had: AttributeError: module 'data' has no attribute 'missing'",
        "tpcalc transfer net.tp --data data:missing",
        "tpcalc transfer net.tp --data data:good --widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend",
    ),
    FileRow(
        "the data `data:short` have 40 of `x`, 39 of `f_target`",
        "tpcalc transfer net.tp --data data:short",
        "tpcalc transfer net.tp --data data:good --widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend",
    ),
    FileRow(
        "the data `data:nan` do not fit net.tp",
        "tpcalc transfer net.tp --data data:nan",
        "tpcalc transfer net.tp --data data:good --widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend",
    ),
    FileRow(
        "the data `data:text` do not fit net.tp",
        "tpcalc transfer net.tp --data data:text",
        "tpcalc transfer net.tp --data data:good --widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend",
    ),
    FileRow(
        "the data `data:shape` do not fit net.tp",
        "tpcalc transfer net.tp --data data:shape",
        "tpcalc transfer net.tp --data data:good --widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend",
    ),
    FileRow(
        "the data `data:names` do not fit net.tp",
        "tpcalc transfer net.tp --data data:names",
        "tpcalc transfer net.tp --data data:good --widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend",
    ),
    FileRow(
        "the data `data:real` do not fit image.tp",
        "tpcalc transfer image.tp --data data:real",
        "tpcalc transfer image.tp --data digits --widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend",
    ),
    FileRow(
        "the data `data:many` do not fit image.tp",
        "tpcalc transfer image.tp --data data:many",
        "tpcalc transfer image.tp --data digits --widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend",
    ),
    FileRow(
        "cannot read net.npz: No such file or directory",
        "tpcalc transfer net.tp --data net.npz",
        "tpcalc transfer net.tp --data data:good --widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend",
    ),
    FileRow(
        "cannot read short.npz: it is no archive of plain arrays",
        "tpcalc transfer net.tp --data short.npz",
        "tpcalc transfer net.tp --data data:good --widths 8,16 --steps 1 --seeds 1 --lrs 0.1 --no-extend",
    ),
    FileRow(
        "the learning rate is swept, so it cannot be fixed",
        "tpcalc transfer net.tp --data data:good --lr 0.1",
        "tpcalc transfer net.tp --data data:good --sweep init --lr 0.1",
    ),
    FileRow(
        "`rate` cannot be swept",
        "tpcalc transfer net.tp --data data:good --sweep rate",
        "tpcalc transfer net.tp --data data:good --sweep init",
    ),
    FileRow(
        "there is no multiplier `?a`",
        "tpcalc transfer net.tp --data data:good --sweep multiplier:a",
        "tpcalc transfer net.tp --data data:good --sweep init",
    ),
    FileRow(
        "no grid for lr: 0.1, 0.1",
        "tpcalc transfer net.tp --data data:good --lrs 0.1,0.1",
        "tpcalc transfer net.tp --data data:good --lrs 0.1,0.2",
    ),
    FileRow(
        "sophia cannot be trained here",
        "tpcalc transfer net.tp --data data:good --optimizer sophia",
        "tpcalc transfer net.tp --data data:good --optimizer adam",
    ),
    FileRow(
        "cannot use net.tp for results: file is not a database",
        "tpcalc transfer net.tp --data data:good -o net.tp",
        "tpcalc transfer net.tp --data data:good -o runs.sqlite",
    ),
    FileRow(
        "net.tp has no `depth` symbol",
        "tpcalc transfer net.tp --data data:good --depths 2,4",
        "tpcalc transfer deep.tp --data data:good --depths 2,4",
    ),
    FileRow(
        "either the widths or the depths vary, not both",
        "tpcalc transfer deep.tp --data data:good --depths 2,4 --widths 8,16",
        "tpcalc transfer deep.tp --data data:good --depths 2,4 --widths 16",
    ),
    FileRow(
        "unknown parametrization ``",
        "tpcalc transfer net.tp --data data:good --parametrization ,",
        "tpcalc transfer net.tp --data data:good --parametrization sp",
    ),
    FileRow(
        "adagrad has no momentum",
        "tpcalc transfer net.tp --data data:good --sweep momentum --optimizer adagrad",
        "tpcalc transfer net.tp --data data:good --sweep momentum --optimizer adam",
    ),
)

"""Networks that are well formed but outside the calculus, or without a stable answer in the form that is asked for; and
files that cannot be read or written.

In the format of tests/elaborate/error_table.py; `form` is the form that makes it one.
"""

# ruff: noqa: E501

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

from tensorprog.cli import parser


class Row(NamedTuple):
    """`place` is line:column in the whole text (the body begins in line 4)."""

    message: str
    place: str
    bad: str
    mended: str
    form: str = ""


HEAD = "width n\naxis i: 4, j: n, k: n, l: n, c: 3\ninput x[i]\n"
TAIL = "\nloss mse(f)\n"


def whole(body: str) -> str:
    """The text of a row as a file."""
    return body if body.startswith("width") else HEAD + body + TAIL


ATTENTION = """\
width n
axis t: 4, s: 4, i: 4, j: n, e: n, c: 3
input x[t,i]
param U[j,i], Q[e,j], K[e,j], V[e,j], R[c,e]
h[t,j] = U[j,i] x[t,i]
q[t,e] = Q[e,j] h[t,j]
k[t,e] = K[e,j] h[t,j]
v[t,e] = V[e,j] h[t,j]
scores[t,s] = {scale} * (q[t,e] k[s,e])
y[t,e] = softmax[s](scores[t,s]) v[s,e]
output f[t,c] = R[c,e] y[t,e]
loss mse(f)
"""
TIED = """\
width n
dim vocab = 7
axis t: 4, v: vocab, j: n
input tokens[t] in vocab
param E[v,j]
x[t,j] = relu(E[tokens[t],j])
output f[t,v] = {multiplier}E[v,j] x[t,j]
loss cross_entropy(f)
"""
CENTRED = "axis p: 3\nparam E[j,i], V[p,j], U[k,p], R[c,k]\nh[j] = tanh(E[j,i] x[i])\nz[p] = V[p,j] h[j]\n"
NORMED = (
    "m[p] = s[p] - mean[batch](s[p])\ny[p] = m[p] * rms_scale[batch](m[p])\n"
    "r[k] = relu(U[k,p] y[p])\noutput f[c] = R[c,k] r[k]"
)
GRAM = "param U[j,i], W[k,j], V[c,l]\nh[j] = U[j,i] x[i]\n"

MINE = "optimizer mine(lr = 1) {{ step = {step} }}\nparam V[c,j], U[j,i]\noutput f[c] = V[c,j] (U[j,i] x[i])"
NAMED = "optimizer {}\nparam V[c,j], U[j,i]\noutput f[c] = V[c,j] (U[j,i] x[i])"

ROWS = (
    # --- outside the calculus
    Row(
        "the calculus does not cover `a`",
        "6:8",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[j] = softmax[j](h[j])\noutput f[c] = V[c,j] a[j]",
        "param U[j,i], W[c,j]\nh[j] = U[j,i] x[i]\na[c] = softmax[c](W[c,j] h[j])\noutput f[c] = 2 a[c]",
    ),
    Row(
        "the calculus does not cover `a`",
        "6:8",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[j] = topk[j](h[j], 2)\noutput f[c] = V[c,j] h[j] a[j]",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[c] = topk[c](V[c,j] h[j], 2)\noutput f[c] = a[c] * (V[c,j] h[j])",
    ),
    Row(
        "the calculus does not cover `tokens`",
        "3:7",
        "width n\naxis t: 4\ninput tokens[t] in 8 n\nx = embedding(tokens, n)\noutput f = readout(x, 3)\nloss mse(f)",
        "width n\naxis t: 4\ninput tokens[t] in 8\nx = embedding(tokens, n)\noutput f = readout(x, 3)\nloss mse(f)",
    ),
    Row(
        "the calculus does not cover `G`",
        "6:10",
        GRAM + "G[j,l] = W[k,j] W[k,l]\noutput f[c] = V[c,l] (G[j,l] h[j])",
        GRAM + "z[k] = W[k,j] h[j]\noutput f[c] = V[c,l] (W[k,l] z[k])",
    ),
    Row(
        "the calculus does not cover `invrms(m)`",
        "10:15",
        CENTRED + "s[p] = sigmoid(z[p])\n" + NORMED,
        CENTRED + "param B[p,i]\ns[p] = sigmoid(z[p]) + B[p,i] x[i]\n" + NORMED,
    ),
    Row(
        "function g is not a finite real number at z = 0",
        "4:11",
        "fn g(z) = z / 0\nparam U[j,i], V[c,j]\noutput f[c] = V[c,j] g(U[j,i] x[i])",
        "fn g(z) = z / 2\nparam U[j,i], V[c,j]\nh[j] = g(U[j,i] x[i])\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "function g does not depend on z",
        "4:11",
        "fn g(z) = 0 * z + 1\nparam U[j,i], V[c,j]\nh[j] = g(U[j,i] x[i])\noutput f[c] = V[c,j] h[j]",
        "fn g(z) = z + 1\nparam U[j,i], V[c,j]\nh[j] = g(U[j,i] x[i])\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "the parameter `U` has no path to the loss",
        "4:7",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] stop_gradient(h[j])",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "the parameter `R` has no path to the loss",
        "4:15",
        "param U[j,i], R[c,j], V[c,j]\nh[j] = U[j,i] x[i]\nr[c] = R[c,j] h[j]\ng[c] = V[c,j] h[j]\n"
        "output f[c] = topk[c](r[c], 1) * g[c]",
        "param U[j,i], R[c,j], V[c,j]\nh[j] = U[j,i] x[i]\nr[c] = R[c,j] h[j]\ng[c] = V[c,j] h[j]\n"
        "output f[c] = topk[c](r[c], 1) * r[c] * g[c]",
    ),
    # --- no stable answer
    Row(
        "`scores` grows like n^1/2 after the first updates",
        "9:15",
        ATTENTION.format(scale="n^(-1/2)"),
        ATTENTION.format(scale="?scale"),
    ),
    Row(
        "`y` grows like n^1/2 at initialisation",
        "6:8",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\ny[j] = n^(1/2) * relu(h[j])\noutput f[c] = V[c,j] tanh(y[j])",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\ny[j] = ?a * relu(h[j])\noutput f[c] = V[c,j] tanh(y[j])",
    ),
    Row(
        "`s` grows like n at initialisation",
        "6:14",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\ns[] = sum[j](abs(h[j]))\noutput f[c] = V[c,j] h[j] + tanh(s)",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\ns[] = mean[j](abs(h[j]))\noutput f[c] = V[c,j] h[j] + tanh(s)",
    ),
    # --- exponents that the file fixes
    Row(
        "`lr[W] = 0`: there is no such parameter",
        "7:1",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nfix lr[W] = 0",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nfix lr[U] = 0",
    ),
    Row(
        "the program has no multiplier `?scale`",
        "7:1",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nfix ?scale = -1/2",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = ?scale * (V[c,j] h[j])\nfix ?scale = -1/2",
    ),
    Row(
        "`lr = m^-1`: `m^-1` is no exponent",
        "7:1",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nfix lr = m^-1",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nfix lr = n^-1",
    ),
    Row(
        "no stable completion: `fix init = 0` (line 7); the start of `f` (line 6) at most Theta(1)",
        "7:1",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nfix init = 0",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nfix init[U] = 0",
    ),
    # --- no answer in this form
    Row(
        "the form `table3` has no answer for `E`",
        "5:7",
        TIED.format(multiplier=""),
        TIED.format(multiplier="?readout * "),
        "table3",
    ),
    # --- optimizers
    Row("unknown optimizer `adamm`", "4:1", NAMED.format("adamm"), NAMED.format("adam")),
    Row(
        "the optimizer adam has no option `beta3`",
        "4:16",
        NAMED.format("adam(beta3 = 0.9)"),
        NAMED.format("adam(beta2 = 0.9)"),
    ),
    Row(
        "a plain number is needed here",
        "4:26",
        NAMED.format("sgd(nesterov = n)"),
        NAMED.format("sgd(momentum = 0.9, nesterov = true)"),
    ),
    Row("`momentum` is 2", "4:15", NAMED.format("sgd(momentum = 2)"), NAMED.format("sgd(momentum = 0.9)")),
    Row(
        "the sizes of these do not agree at all widths",
        "4:37",
        MINE.format(step="g / (abs(g) + 0.1)"),
        MINE.replace("(lr = 1)", "(lr = 1, eps = 0.1)").format(step="g / (abs(g) + eps)"),
    ),
    Row(
        "`vectors` is given twice, taken, or no number",
        "4:24",
        MINE.replace("lr = 1", "lr = 1, vectors = adamw").format(step="orthogonal(g)"),
        MINE.format(step="orthogonal(g); vectors = adamw"),
    ),
    Row(
        "the step must change sign with the gradient, and not with the parameter",
        "4:33",
        MINE.format(step="g^2 / abs(g)"),
        MINE.format(step="g"),
    ),
    Row(
        "the size of this step is not covered",
        "4:33",
        MINE.format(step="g / sqrt(abs(g))"),
        MINE.format(step="g / rms(g)"),
    ),
    # --- formulas of functions and of optimizers, options, requirements
    Row(
        "function g is not a finite real number at z = 1.0",
        "4:11",
        "fn g(z) = 1 / (z - 1)\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[j] = g(h[j])\noutput f[c] = V[c,j] a[j]",
        "fn g(z) = z / (z^2 + 2)\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[j] = g(h[j])\noutput f[c] = V[c,j] a[j]",
    ),
    Row(
        "function g is not a finite real number at z = -1.25, or just below",
        "4:11",
        "fn g(z) = z / (z^2 - 2)\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[j] = g(h[j])\noutput f[c] = V[c,j] a[j]",
        "fn g(z) = z / (z^2 + 2)\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[j] = g(h[j])\noutput f[c] = V[c,j] a[j]",
    ),
    Row(
        "relu takes exactly one argument here",
        "4:11",
        "fn g(z) = relu(z, z)\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[j] = g(h[j])\noutput f[c] = V[c,j] a[j]",
        "fn g(z) = relu(z)\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[j] = g(h[j])\noutput f[c] = V[c,j] a[j]",
    ),
    Row(
        "unknown function `reluu`",
        "4:11",
        "fn g(z) = reluu(z)\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[j] = g(h[j])\noutput f[c] = V[c,j] a[j]",
        "fn g(z) = relu(z)\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[j] = g(h[j])\noutput f[c] = V[c,j] a[j]",
    ),
    Row(
        "the exponent in a formula must be a number",
        "4:13",
        "fn g(z) = z^z\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[j] = g(h[j])\noutput f[c] = V[c,j] a[j]",
        "fn g(z) = exp(z)\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[j] = g(h[j])\noutput f[c] = V[c,j] a[j]",
    ),
    Row(
        "function g is not a finite real number at z = 0.0",
        "4:11",
        "fn g(z) = log(z)\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[j] = g(h[j])\noutput f[c] = V[c,j] a[j]",
        "fn g(z) = log(1 + z^2) + z\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[j] = g(h[j])\noutput f[c] = V[c,j] a[j]",
    ),
    Row(
        "function g could not be analysed: exp of a number of 4955182 bits",
        "4:11",
        "fn g(z) = exp(exp(exp(exp(z))))\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[j] = g(h[j])\noutput f[c] = V[c,j] a[j]",
        "fn g(z) = exp(z)\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[j] = g(h[j])\noutput f[c] = V[c,j] a[j]",
    ),
    Row(
        "this cannot stand in a formula",
        "4:11",
        "fn g(z) = sum[i](z)\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[j] = g(h[j])\noutput f[c] = V[c,j] a[j]",
        "fn g(z) = z\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[j] = g(h[j])\noutput f[c] = V[c,j] a[j]",
    ),
    Row(
        "unknown name `w` in the formula of `g`",
        "4:11",
        "fn g(z) = w + z\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[j] = g(h[j])\noutput f[c] = V[c,j] a[j]",
        "fn g(z) = z + 1\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\na[j] = g(h[j])\noutput f[c] = V[c,j] a[j]",
    ),
    Row(
        "unknown optimizer `kfac`",
        "4:1",
        "optimizer kfac\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
        "optimizer shampoo\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "`eps` is -1",
        "4:16",
        "optimizer adam(eps = -1)\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
        "optimizer adam(eps = 1e-8)\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "`lr` is -1",
        "4:16",
        "optimizer adam(lr = -1)\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
        "optimizer adam(lr = 0.001)\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "the optimizer `mine` has no step",
        "4:1",
        "optimizer mine(lr = 1) { v = g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
        "optimizer mine(lr = 1) { step = g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "the optimizer `mine` has no step",
        "4:1",
        "optimizer mine(lr = 1) { }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
        "optimizer mine(lr = 1) { step = g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "`lr` cannot be assigned",
        "4:26",
        "optimizer mine(lr = 1) { lr = 2; step = g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
        "optimizer mine(lr = 1) { step = 2 g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "the optimizer `mine` has no learning rate",
        "4:1",
        "optimizer mine(a = 1) { step = a g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
        "optimizer mine(lr = 1, a = 1) { step = a * g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "the hyperparameter `a` is used nowhere",
        "4:1",
        "optimizer mine(lr = 1, a = 1) { step = g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
        "optimizer mine(lr = 1, a = 1) { step = a * g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "there is no `weight_decay` among the hyperparameters",
        "4:1",
        "optimizer mine(lr = 1) { decay = coupled; step = g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
        "optimizer mine(lr = 1, weight_decay = 0) { decay = coupled; step = g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "`decay` is not a formula",
        "4:26",
        "optimizer mine(lr = 1) { decay = 3; step = g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
        "optimizer mine(lr = 1) { step = g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "unknown name `q`",
        "4:33",
        "optimizer mine(lr = 1) { step = q }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
        "optimizer mine(lr = 1) { step = g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "`lr` does not stand in the formulas",
        "4:33",
        "optimizer mine(lr = 1) { step = lr * g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
        "optimizer mine(lr = 1) { step = g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "unknown function `relu`",
        "4:33",
        "optimizer mine(lr = 1) { step = relu(g) }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
        "optimizer mine(lr = 1) { step = sign(g) }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "`sqrt` takes 1 argument here",
        "4:33",
        "optimizer mine(lr = 1) { step = sqrt(g, g) }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
        "optimizer mine(lr = 1) { step = sign(g) }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "`orthogonal` wants a tensor",
        "4:33",
        "optimizer mine(lr = 1) { step = orthogonal(2) * g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
        "optimizer mine(lr = 1) { step = orthogonal(g) }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "an orthogonalised tensor may be multiplied by numbers only",
        "4:33",
        "optimizer mine(lr = 1) { step = orthogonal(g) * g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
        "optimizer mine(lr = 1) { step = orthogonal(g) }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "an orthogonalised tensor stands here",
        "4:33",
        "optimizer mine(lr = 1) { step = sqrt(orthogonal(g)) }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
        "optimizer mine(lr = 1) { step = orthogonal(g) }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "this cannot stand in an optimizer",
        "4:33",
        "optimizer mine(lr = 1) { step = g[i] }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
        "optimizer mine(lr = 1) { step = g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "the perturbation is `rho` times something that changes sign with the gradient",
        "4:35",
        "optimizer mine(lr = 1, rho = 1) { perturb = rho * g^2; step = g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
        "optimizer mine(lr = 1, rho = 1) { perturb = rho * g; step = g }\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "`lr = q`: `q` is no exponent",
        "7:13",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nfix lr = 0; fix lr = q",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nfix lr = n^-1",
    ),
    Row(
        "`init = mpu`: `mpu` is no exponent",
        "7:1",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nfix init = mpu",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nfix init = mup",
    ),
    Row(
        "`lr[X*] = 0`: there is no such parameter",
        "7:1",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nfix lr[X*] = 0",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nfix lr[V] = -1",
    ),
    Row(
        "the parameter `V` has no path to the loss",
        "4:15",
        "width n\ninput x[i]\naxis i: 4, j: n, c: 3\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\nh = layernorm(h)\noutput f[c] = V[c,j] h[j]\nloss cross_entropy(h)",
        "width n\ninput x[i]\naxis i: 4, j: n, c: 3\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\nh = layernorm(h)\noutput f[c] = V[c,j] h[j]\nloss cross_entropy(f)",
    ),
    Row(
        "the width `n` appears nowhere",
        "1:1",
        "width n\ndim d = 4\naxis i: d\ninput x[i]\noutput f = readout(x, 3)\nloss mse(f)",
        "width n\naxis i: 4, j: n\ninput x[i]\noutput f = readout(linear(x, n), 3)\nloss mse(f)",
    ),
    Row(
        "unknown optimizer `adm`",
        "4:7",
        "width n\ninput x[i]\naxis i: 4, j: n, c: 3\nparam U[j,i] optimizer adm, V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nloss mse(f)",
        "width n\ninput x[i]\naxis i: 4, j: n, c: 3\nparam U[j,i] optimizer adam, V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nloss mse(f)",
    ),
    Row(
        "the optimizer `mine` is defined twice",
        "5:1",
        "optimizer mine(lr = 1) { step = g }\noptimizer mine(lr = 1) { step = 2 g }\nparam V[c,j], U[j,i]\noutput f[c] = V[c,j] (U[j,i] x[i])",
        "optimizer mine(lr = 1) { step = g }\nparam V[c,j], U[j,i]\noutput f[c] = V[c,j] (U[j,i] x[i])",
    ),
    Row(
        "`v` is a number in one place and a tensor in another",
        "4:47",
        "optimizer mine(lr = 1) { v = 0.9 v + norm(g); v = v * sign(g); step = v }\nparam V[c,j], U[j,i]\noutput f[c] = V[c,j] (U[j,i] x[i])",
        "optimizer mine(lr = 1) { v = 0.9 v + g; step = v }\nparam V[c,j], U[j,i]\noutput f[c] = V[c,j] (U[j,i] x[i])",
    ),
    Row(
        "an orthogonalised tensor and another one cannot be added",
        "4:50",
        "optimizer mine(lr = 1) { vectors = adamw; step = orthogonal(g) + g / norm(g) }\nparam V[c,j], U[j,i]\noutput f[c] = V[c,j] (U[j,i] x[i])",
        "optimizer mine(lr = 1) { vectors = adamw; step = orthogonal(g) }\nparam V[c,j], U[j,i]\noutput f[c] = V[c,j] (U[j,i] x[i])",
    ),
    Row(
        "the rank of the gradient of `B` may grow with the width, at `d W e`",
        "4:7",
        "param B[k,j,c] optimizer muon, U[j,i], e[c], V[c,k]\nh[j] = U[j,i] x[i]\nW[k,j] = B[k,j,c] e[c]\ng[k] = W[k,j] h[j]\noutput f[c] = V[c,k] g[k]",
        "param B[k,j,c] optimizer adam, U[j,i], e[c], V[c,k]\nh[j] = U[j,i] x[i]\nW[k,j] = B[k,j,c] e[c]\ng[k] = W[k,j] h[j]\noutput f[c] = V[c,k] g[k]",
    ),
    Row(
        "the calculus does not cover `loss`",
        "7:6",
        "width n\naxis i: 4, j: n, c: n\ninput x[i]\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nloss cross_entropy(f)",
        "width n\naxis i: 4, j: n, c: 5\ninput x[i]\nparam U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\noutput f[c] = V[c,j] h[j]\nloss cross_entropy(f)",
    ),
    Row(
        "the calculus does not cover `y`",
        "7:10",
        "axis p: 5\nparam U[j,i], V[c,p]\nh[j] = U[j,i] x[i]\ny[p] = h[p + 1]\noutput f[c] = V[c,p] y[p]",
        "param U[j,i], V[c,j]\nh[j] = U[j,i] x[i]\ny[j] = h[j + 1]\noutput f[c] = V[c,j] y[j]",
    ),
    Row(
        "the exponents in the file have too many different denominators",
        "5:8",
        "param U[j,i], V[c,j]\nh[j] = n^(1/999983) * (U[j,i] x[i])\noutput f[c] = V[c,j] h[j]",
        "param U[j,i], V[c,j]\nh[j] = ?a * (U[j,i] x[i])\noutput f[c] = V[c,j] h[j]",
    ),
    Row(
        "`init[b] = 0`: `b` starts at exactly zero",
        "7:1",
        "param U[j,i], V[c,j], b[j] = zeros\nh[j] = U[j,i] x[i] + b[j]\noutput f[c] = V[c,j] h[j]\nfix init[b] = 0",
        "param U[j,i], V[c,j], b[j] = zeros\nh[j] = U[j,i] x[i] + b[j]\noutput f[c] = V[c,j] h[j]\nfix init[U] = 0",
    ),
    Row(
        "`lr[W] = -1` does not say of which width",
        "9:1",
        "width n, m\naxis i: 4, j: n, k: m, c: 3\ninput x[i]\nparam U[j,i], W[k,j], V[c,k]\nh[j] = U[j,i] x[i]\ng[k] = W[k,j] h[j]\noutput f[c] = V[c,k] g[k]\nloss mse(f)\nfix lr[W] = -1",
        "width n, m\naxis i: 4, j: n, k: m, c: 3\ninput x[i]\nparam U[j,i], W[k,j], V[c,k]\nh[j] = U[j,i] x[i]\ng[k] = W[k,j] h[j]\noutput f[c] = V[c,k] g[k]\nloss mse(f)\nfix lr[W] = n^-1",
    ),
    Row(
        "`lr[*] = L^-1`: an exponent of the depth L cannot be fixed",
        "9:1",
        "width n\ndepth L\ninput x[i]\naxis i: 4\nh = linear(x, n)\nrepeat L { h = h + ?b * linear(relu(h), n) }\noutput f = readout(h, 3)\nloss mse(f)\nfix lr[*] = L^-1",
        "width n\ndepth L\ninput x[i]\naxis i: 4\nh = linear(x, n)\nrepeat L { h = h + ?b * linear(relu(h), n) }\noutput f = readout(h, 3)\nloss mse(f)\nfix ?b = L^-1/2",
    ),
    Row(
        "the calculus does not cover `invrms(a)`",
        "11:19",
        "width n\naxis i: 4, j: n, c: 3, p: 3, t: 2, s: 2, u: 4\ninput x[t,i]\ninput y[s,i]\nparam E[j,i], G[j,i], D[p,j], U[j,p], O[c,j]\nz[t,j] = E[j,i] x[t,i]\ng[s,j] = tanh(G[j,i] y[s,i])\nb[s,p] = D[p,j] g[s,j]\nw[s,j] = U[j,p] b[s,p]\na[u,j] = concat[u](z[t,j], w[s,j])\nh[u,j] = a[u,j] * rms_scale[j](a[u,j])\noutput f[u,c] = O[c,j] h[u,j]\nloss mse(f)",
        "width n\naxis i: 4, j: n, c: 3, p: 3, t: 2, s: 2, u: 4\ninput x[t,i]\ninput y[s,i]\nparam E[j,i], G[j,i], D[p,j], U[j,p], O[c,j]\nz[t,j] = E[j,i] x[t,i]\ng[s,j] = tanh(G[j,i] y[s,i])\nb[s,p] = D[p,j] g[s,j]\nw[s,j] = U[j,p] b[s,p]\nv[t,j] = z[t,j] * rms_scale[j](z[t,j])\nr[s,j] = w[s,j] * rms_scale[j](w[s,j])\na[u,j] = concat[u](v[t,j], r[s,j])\noutput f[u,c] = O[c,j] a[u,j]\nloss mse(f)",
    ),
    Row(
        "`layers.*.h` grows like L at initialisation",
        "7:16",
        "width n\ndepth L\ninput x[i]\naxis i: 4\nh = linear(x, n)\ng = relu(h)\nrepeat L { h = h + g\nh = h + ?b * linear(relu(h), n) }\noutput f = readout(h, 3)\nloss mse(f)",
        "width n\ndepth L\ninput x[i]\naxis i: 4\nh = linear(x, n)\ng = relu(h)\nrepeat L { h = h + ?b * g\nh = h + ?b * linear(relu(h), n) }\noutput f = readout(h, 3)\nloss mse(f)",
    ),
)


class Note(NamedTuple):
    """A network whose exponents of the depth are left out, and what `derive` says of it."""

    message: str
    bad: str
    mended: str


NOTES = (
    Note(
        "not covered: a repeat over a depth inside of one that is shared",
        "width n\ndepth L, M\ninput x[i]\naxis i: 4\nh = linear(x, n)\nrepeat L shared { repeat M { h = h + ?b * linear(relu(h), n) } }\noutput f = readout(h, 3)\nloss mse(f)",
        "width n\ndepth L, M\ninput x[i]\naxis i: 4\nh = linear(x, n)\nrepeat L shared { repeat M shared { h = h + ?b * linear(relu(h), n) } }\noutput f = readout(h, 3)\nloss mse(f)",
    ),
    Note(
        "not covered: a layer multiplies `h` itself by a number",
        "width n\ndepth L\ninput x[i]\naxis i: 4\nh = linear(x, n)\nrepeat L { h = layernorm(L^(1/4) * h + linear(relu(h), n)) }\noutput f = readout(h, 3)\nloss mse(f)",
        "width n\ndepth L\ninput x[i]\naxis i: 4\nh = linear(x, n)\nrepeat L { h = layernorm(h + ?b * linear(relu(h), n)) }\noutput f = readout(h, 3)\nloss mse(f)",
    ),
    Note(
        "not covered: a repeat over a depth that runs several times with the same weights",
        "width n\ndepth L\ninput x[i]\naxis i: 4\nh = linear(x, n)\nrepeat 2 shared { repeat L { h = h + ?b * linear(relu(h), n) } }\noutput f = readout(h, 3)\nloss mse(f)",
        "width n\ndepth L\ninput x[i]\naxis i: 4\nh = linear(x, n)\nrepeat 2 { repeat L { h = h + ?b * linear(relu(h), n) } }\noutput f = readout(h, 3)\nloss mse(f)",
    ),
    Note(
        "no power law in the depth: `h` is no residual stream",
        "width n\ndepth L\ninput x[i]\naxis i: 4\nh = linear(x, n)\nrepeat L { h = relu(linear(h, n)) }\noutput f = readout(h, 3)\nloss mse(f)",
        "width n\ndepth L\ninput x[i]\naxis i: 4\nh = linear(x, n)\nrepeat L { h = h + ?b * linear(relu(h), n) }\noutput f = readout(h, 3)\nloss mse(f)",
    ),
    Note(
        "no power law in the depth: `h` is no residual stream",
        "width n\ndepth L\ninput x[i]\naxis i: 4\nh = linear(x, n)\nrepeat L { h = h + h + ?b * linear(relu(h), n) }\noutput f = readout(h, 3)\nloss mse(f)",
        "width n\ndepth L\ninput x[i]\naxis i: 4\nh = linear(x, n)\nrepeat L { h = h + ?b * linear(relu(h), n) }\noutput f = readout(h, 3)\nloss mse(f)",
    ),
    Note(
        "no power law in the depth: sizes grow from layer to layer",
        "width n\ndepth L\ninput x[i]\naxis i: 4\nh = linear(x, n)\nrepeat L { h = h + 0.5 * tanh(h)\nh = h + ?b * linear(relu(h), n) }\noutput f = readout(h, 3)\nloss mse(f)",
        "width n\ndepth L\ninput x[i]\naxis i: 4\nh = linear(x, n)\nrepeat L { h = h + ?b * linear(relu(h), n) }\noutput f = readout(h, 3)\nloss mse(f)",
    ),
    Note(
        "no power law in the depth: a stream is normalised between the layers (post-norm), and what they add to it is not small",
        "width n\ndepth L\ninput x[i]\naxis i: 4\nh = linear(x, n)\ng = relu(h)\nrepeat L { h = layernorm(h + g)\nh = h + ?b * linear(relu(h), n) }\noutput f = readout(h, 3)\nloss mse(f)",
        "width n\ndepth L\ninput x[i]\naxis i: 4\nh = linear(x, n)\ng = relu(h)\nrepeat L { h = layernorm(h + ?b * g) }\noutput f = readout(h, 3)\nloss mse(f)",
    ),
    Note(
        "no power law in the depth: a stream is normalised between the layers (post-norm), and what they add to it is not small",
        "width n\ndepth L\ninput x[i]\naxis i: 4\nh = linear(x, n)\ng = relu(h)\nrepeat L { h = layernorm(h + linear(relu(h), n) + g) }\noutput f = readout(h, 3)\nloss mse(f)",
        "width n\ndepth L\ninput x[i]\naxis i: 4\nh = linear(x, n)\ng = relu(h)\nrepeat L { h = layernorm(h + ?b * linear(relu(h), n) + ?b * g) }\noutput f = readout(h, 3)\nloss mse(f)",
    ),
    Note(
        "no power law in the depth: every layer adds `h` once more",
        "width n\ndepth L\ninput x[i]\naxis i: 4, j: n, k: n\nh = linear(x, n)\nrepeat L { param W[k,j]\nh[k] = h[k] + 2 * h[k]\nh[k] = h[k] + ?b * (W[k,j] h[j]) }\noutput f = readout(h, 3)\nloss mse(f)",
        "width n\ndepth L\ninput x[i]\naxis i: 4, j: n, k: n\nh = linear(x, n)\nrepeat L { param W[k,j]\nh[k] = h[k] + ?b * (W[k,j] h[j]) }\noutput f = readout(h, 3)\nloss mse(f)",
    ),
)


class FileRow(NamedTuple):
    """Commands in the folder that `fill` makes. Which tests run the mended one: `cheap`."""

    message: str
    bad: str
    mended: str
    cheap: bool = True


def fill(folder: Path) -> None:
    """A network, the same in another encoding, parametrizations right and wrong, and a folder."""
    text = whole("param V[c,j], U[j,i]\nh[j] = U[j,i] x[i]  # größer\noutput f[c] = V[c,j] h[j]")
    (folder / "net.tp").write_text(text, encoding="utf-8")
    (folder / "latin.tp").write_text(text, encoding="latin-1")
    (folder / "half.toml").write_text("lr = -1\n")
    (folder / "broken.toml").write_text("lr = \n")
    (folder / "wrong.toml").write_text('lr = "x"\n')
    (folder / "models").mkdir()


def run(command: str) -> int:
    """A command in the current folder; its mistakes are raised."""
    arguments = parser().parse_args(shlex.split(command)[1:])
    arguments.words = shlex.split(command)[1:]
    code: int = arguments.run(arguments)
    return code


FILES = (
    FileRow("cannot read nett.tp: No such file or directory", "tpcalc derive nett.tp", "tpcalc derive net.tp"),
    FileRow(
        "cannot read other/net.tp: No such file or directory", "tpcalc derive other/net.tp", "tpcalc derive net.tp"
    ),
    FileRow("cannot read models: Is a directory", "tpcalc derive models", "tpcalc derive net.tp"),
    FileRow("cannot read net.tp/net.tp: Not a directory", "tpcalc derive net.tp/net.tp", "tpcalc derive net.tp"),
    FileRow("cannot read latin.tp: it is not UTF-8 text", "tpcalc derive latin.tp", "tpcalc derive net.tp"),
    FileRow(
        "cannot read hlaf.toml: No such file or directory",
        "tpcalc classify net.tp --parametrization hlaf.toml",
        "tpcalc classify net.tp --parametrization half.toml",
    ),
    FileRow(
        "cannot write made/model.py: No such file or directory",
        "tpcalc emit net.tp -o made/model.py",
        "tpcalc emit net.tp -o models/model.py",
    ),
    FileRow("cannot write models: Is a directory", "tpcalc emit net.tp -o models", "tpcalc emit net.tp -o models/m.py"),
    FileRow(
        "cannot write net.tp/model.py: Not a directory",
        "tpcalc emit net.tp -o net.tp/model.py",
        "tpcalc emit net.tp -o model.py",
    ),
    FileRow(
        "cannot write made/slopes.svg: No such file or directory",
        "tpcalc check net.tp --save made/slopes.svg",
        "tpcalc check net.tp --save slopes.svg",
        cheap=False,
    ),
    FileRow(
        "cannot write /proc/model.py: No such file or directory",
        "tpcalc emit net.tp -o /proc/model.py",
        "tpcalc emit net.tp -o model.py",
    ),
    FileRow("there is no file to rewrite", "tpcalc fmt --write -", "tpcalc fmt --write net.tp"),
    # --- options
    FileRow("the name of the file is empty", "tpcalc derive ''", "tpcalc derive net.tp"),
    FileRow(
        "unknown optimizer `adma`", "tpcalc derive net.tp --optimizer adma", "tpcalc derive net.tp --optimizer adam"
    ),
    FileRow("unknown form `table4`", "tpcalc derive net.tp --form table4", "tpcalc derive net.tp --form table3"),
    FileRow(
        "unknown optimizer `sophiag`",
        "tpcalc derive net.tp --optimizer sophiag",
        "tpcalc derive net.tp --optimizer sophia",
    ),
    FileRow(
        "unknown optimizer `kfac`", "tpcalc derive net.tp --optimizer kfac", "tpcalc derive net.tp --optimizer shampoo"
    ),
    FileRow("the file has no depth `L`", "tpcalc derive net.tp --depth L=3", "tpcalc derive net.tp"),
    FileRow(
        "`lr[W] = 0`: there is no such parameter",
        "tpcalc derive net.tp --fix 'lr[W] = 0'",
        "tpcalc derive net.tp --fix 'lr[U] = 0'",
    ),
    FileRow(
        "`lr = 2 n`: `2 n` is no exponent",
        "tpcalc derive net.tp --fix 'lr = 2 n'",
        "tpcalc derive net.tp --fix 'lr = n^-1'",
    ),
    FileRow("`rate` is nothing to fix", "tpcalc derive net.tp --fix 'rate = 0'", "tpcalc derive net.tp --fix 'lr = 0'"),
    FileRow(
        "no stable completion: --fix 'init = 0'; the start of `f` (line 6) at most Theta(1)",
        "tpcalc derive net.tp --fix 'init = 0'",
        "tpcalc derive net.tp --fix 'init[U] = 0'",
    ),
    FileRow("no parameter or multiplier `W`", "tpcalc explain net.tp W", "tpcalc explain net.tp V"),
    FileRow("no quantity `rate`", "tpcalc explain net.tp V rate", "tpcalc explain net.tp V lr"),
    FileRow("no width symbol `m`", "tpcalc emit net.tp --base-width m=64", "tpcalc emit net.tp --base-width n=64"),
    FileRow("--theme is about a picture", "tpcalc graph net.tp --theme dark", "tpcalc graph net.tp"),
    FileRow(
        "there is nothing to check",
        "tpcalc check",
        "tpcalc check net.tp --widths 16,32 --seeds 2 --steps 1",
        cheap=False,
    ),
    FileRow(
        "--lr-exponent has no meaning for the derived parametrization",
        "tpcalc check net.tp --lr-exponent -1",
        "tpcalc check net.tp --parametrization sp --lr-exponent -1",
        cheap=False,
    ),
    FileRow(
        "--module takes the place of FILE",
        "tpcalc check net.tp --module a.py:build",
        "tpcalc check net.tp --widths 16,32 --seeds 2 --steps 1",
        cheap=False,
    ),
    FileRow(
        "net.tp has no symbolic depth",
        "tpcalc check net.tp --depths 2,4",
        "tpcalc check net.tp --widths 16,32",
        cheap=False,
    ),
    FileRow(
        "9 seeds to begin with are more than the 3 allowed at most",
        "tpcalc check net.tp --seeds 9 --max-seeds 3",
        "tpcalc check net.tp --seeds 3 --max-seeds 9",
        cheap=False,
    ),
    FileRow(
        "no parameter `W` to set",
        "tpcalc check net.tp --set 'lr[W]=0'",
        "tpcalc check net.tp --set 'lr[U]=0'",
        cheap=False,
    ),
    FileRow(
        "`lr[U]=1/7` sets an exponent out of the ordinary",
        "tpcalc check net.tp --set 'lr[U]=1/7'",
        "tpcalc check net.tp --set 'lr[U]=1/2'",
        cheap=False,
    ),
    FileRow(
        "`lr[U]=x` sets no exponent",
        "tpcalc check net.tp --set 'lr[U]=x'",
        "tpcalc check net.tp --set 'lr[U]=0'",
        cheap=False,
    ),
    FileRow(
        "no quantity `rate` to set in `rate[U]=0`",
        "tpcalc check net.tp --set 'rate[U]=0'",
        "tpcalc check net.tp --set 'lr[U]=0'",
        cheap=False,
    ),
    FileRow(
        "`lr` sets no exponent", "tpcalc check net.tp --set 'lr'", "tpcalc check net.tp --set 'lr[U]=0'", cheap=False
    ),
    FileRow(
        "no multiplier `?a` to set",
        "tpcalc check net.tp --set 'multiplier[?a]=0'",
        "tpcalc check net.tp --set 'multiplier[U]=0'",
        cheap=False,
    ),
    FileRow(
        "the parts of products are not measured in the emitted program",
        "tpcalc check net.tp --also split --backend torch",
        "tpcalc check net.tp --also split",
        cheap=False,
    ),
    FileRow(
        "unknown parametrization `spp`",
        "tpcalc check net.tp --parametrization spp",
        "tpcalc check net.tp --parametrization sp",
        cheap=False,
    ),
    FileRow(
        "--plot is about a picture",
        "tpcalc check net.tp --plot slopes",
        "tpcalc check net.tp --save slopes.svg --plot slopes",
        cheap=False,
    ),
    FileRow(
        "unknown parametrization `mupp`",
        "tpcalc classify net.tp --parametrization mupp",
        "tpcalc classify net.tp --parametrization mup",
    ),
    FileRow(
        "`half` is no alignment",
        "tpcalc classify net.tp --parametrization sp --alignment half",
        "tpcalc classify net.tp --parametrization sp --alignment full",
    ),
    FileRow(
        "`lr[U]` does not name two exponents",
        "tpcalc classify net.tp --parametrization sp --region 'lr[U]'",
        "tpcalc classify net.tp --parametrization sp --region 'lr[U],lr[V]'",
    ),
    FileRow(
        "`lr[W]` is no exponent of this program",
        "tpcalc classify net.tp --parametrization sp --region 'lr[U],lr[W]'",
        "tpcalc classify net.tp --parametrization sp --region 'lr[U],lr[V]'",
    ),
    FileRow(
        "--save draws the plane of two exponents",
        "tpcalc classify net.tp --parametrization sp --save plane.svg",
        "tpcalc classify net.tp --parametrization sp --region 'lr[U],lr[V]' --save plane.svg",
    ),
    FileRow(
        "`lr` has no meaning for given exponents",
        "tpcalc classify net.tp --parametrization derived --lr -1",
        "tpcalc classify net.tp --parametrization sp --lr -1",
    ),
    FileRow(
        "not a TOML file: Invalid value (at line 1, column 6)",
        "tpcalc classify net.tp --parametrization broken.toml",
        "tpcalc classify net.tp --parametrization half.toml",
    ),
    FileRow(
        "`lr = x` is no exponent",
        "tpcalc classify net.tp --parametrization wrong.toml",
        "tpcalc classify net.tp --parametrization half.toml",
    ),
    FileRow(
        "no learning rates of `mfp` are published for muon",
        "tpcalc classify net.tp --parametrization mfp --optimizer muon",
        "tpcalc classify net.tp --parametrization mfp --lr 0 --optimizer muon",
    ),
    FileRow("cannot read nul.tp: No such file or directory", "tpcalc derive nul.tp", "tpcalc derive net.tp"),
)

"""Every mistake of the elaboration stage: (message, place, bad text, mended text). Tests and docs read it.

Texts are bodies; `HEAD` stands before and `TAIL` after them, unless they begin with `width`.
"""

# ruff: noqa: E501

from __future__ import annotations

from typing import NamedTuple

HEAD = "width n\naxis i: n, j: n, c: 3\ninput x[i]\n"
TAIL = "\noutput f = readout(h, 10)\nloss mse(f)\n"


class Row(NamedTuple):
    """`place` is line:column in the whole text (the body begins in line 4)."""

    message: str
    place: str
    bad: str
    mended: str


def whole(body: str) -> str:
    """The text of a row as a file."""
    return body if body.startswith("width") else HEAD + body + TAIL


SCAN = "width n\naxis t: 5, i: n\ninput x[t,i]\n"
SCAN_END = "\noutput f = h\nloss mse(f)"

ROWS = (
    # --- names
    Row("unknown name `V`", "5:8", "param W[j,i]\nh[j] = V[j,i] x[i]", "param W[j,i]\nh[j] = W[j,i] x[i]"),
    Row("unknown function or block `rleu`", "4:5", "h = rleu(x)", "h = relu(x)"),
    Row("unknown function or block `linaer`", "4:5", "h = linaer(x, n)", "h = linear(x, n)"),
    Row("unknown size `m`", "4:15", "h = linear(x, m)", "h = linear(x, n)"),
    Row("unknown depth `L`", "4:8", "repeat L { x = tanh(x) }\nh = x", "depth L\nrepeat L { x = tanh(x) }\nh = x"),
    Row(
        "unknown flag `causal`",
        "4:1",
        "if causal { h = x }",
        "block b(x[i], causal: flag) { if causal { x = tanh(x) }\nreturn x }\nh = b(x, causal)",
    ),
    Row(
        "`g` is used before it is defined", "4:15", "h[i] = x[i] + g[i]\ng[i] = h[i]", "g[i] = x[i]\nh[i] = x[i] + g[i]"
    ),
    Row(
        "`z` is only known inside the loop of line 4",
        "5:5",
        "repeat 2 { z = linear(x, n) }\nh = z",
        "z = x\nrepeat 2 { z = linear(z, n) }\nh = z",
    ),
    Row(
        "`W` is declared twice",
        "5:7",
        "param W[j,i]\nparam W[c,i]\nh[j] = W[j,i] x[i]",
        "param W[j,i]\nh[j] = W[j,i] x[i]",
    ),
    Row("`n` is declared twice", "4:5", "dim n = 3\nh = x", "dim m = 3\nh = linear(x, n / m)"),
    Row(
        "`W` is a parameter and cannot be assigned",
        "5:1",
        "param W[j,i]\nW[j,i] = 2 W[j,i]\nh[j] = W[j,i] x[i]",
        "param W[j,i]\nV[j,i] = 2 W[j,i]\nh[j] = V[j,i] x[i]",
    ),
    Row("`n` is a size and cannot be called", "4:5", "h = n(x)", "h = tanh(x)"),
    Row("`relu` is a built-in function", "4:1", "fn relu(z) = z\nh = relu(x)", "fn same(z) = z\nh = same(x)"),
    Row("unknown name `y` in the formula of `g`", "4:15", "fn g(z) = z + y\nh = g(x)", "fn g(z) = z + 1\nh = g(x)"),
    Row(
        "`W` is not known inside of a block",
        "5:30",
        "param W[i]\nblock b(z[..,i]) { y[..,i] = W[i] z[..,i]\nreturn y }\nh = b(x)",
        "block b(z[..,i]) { param W[i]\ny[..,i] = W[i] z[..,i]\nreturn y }\nh = b(x)",
    ),
    Row("`relu` is a function, not a tensor", "4:5", "h = relu * x", "h = relu(x)"),
    Row("unknown function or block `ReLU`", "4:5", "h = ReLU(x)", "h = relu(x)"),
    Row(
        "the value of an unknown multiplier is made of numbers and sizes, not zero",
        "4:8",
        "h = ?a{0} * x",
        "h = ?a{0.5} * x",
    ),
    Row("`x` is a tensor, not a size", "4:15", "h = linear(x, x)", "h = linear(x, n)"),
    # --- indices and sizes
    Row(
        "the index `c` runs over 3, but here over n",
        "5:12",
        "param W[j,i]\nh[j] = W[j,c] x[i]",
        "param W[j,i]\nh[j] = W[j,i] x[i]",
    ),
    Row(
        "the index `c` stands on the left, but nowhere on the right", "4:5", "h[i,c] = tanh(x[i])", "h[i] = tanh(x[i])"
    ),
    Row(
        "`W` has 2 axes, but 1 index is given",
        "5:8",
        "param W[j,i]\nh[j] = W[j] x[i]",
        "param W[j,i]\nh[j] = W[j,i] x[i]",
    ),
    Row("`x` has 1 axis, but 2 indices are given", "4:8", "h[i] = x[i,j]", "h[i] = tanh(x[i])"),
    Row(
        "the index `i` stands twice on `W`",
        "5:15",
        "param W[j,i]\nh[i] = x[i] * W[i,i]",
        "param W[j,i]\nh[j] = x[i] W[j,i]",
    ),
    Row("`j` stands twice on the left", "4:5", "h[j,j] = x[j]", "h[j] = tanh(x[j])"),
    Row(
        "the size of the index `s` is not known",
        "2:9",
        "width n\ninput x[s,d]\naxis d: 4\nh = rnn(x, n)\noutput f = readout(h[0,e], 3)\nloss mse(f)",
        "width n\ninput x[s,d]\naxis d: 4, s: 6\nh = rnn(x, n)\noutput f = readout(h[0,e], 3)\nloss mse(f)",
    ),
    Row(
        "the size of the index `k` is not known",
        "5:8",
        "param W[k,i]\nh[k] = W[k,i] x[i]",
        "axis k: 4 n\nparam W[k,i]\nh[k] = W[k,i] x[i]",
    ),
    Row("`..` stands on the right, but not on the left", "4:8", "h[i] = x[..]", "h[..] = tanh(x[..])"),
    Row("the batch axis is implicit", "4:1", "h[batch,i] = x[i]", "h[i] = tanh(x[i])"),
    Row("the axis has size n, but its parts make 3 n", "4:12", "h[i,c] = x[(i c)]", "axis a: n / 3\nh[a,c] = x[(a c)]"),
    Row(
        "position 5 is outside of an axis of size 5",
        "4:10",
        SCAN + "h[i] = x[5,i]" + SCAN_END,
        SCAN + "h[i] = x[4,i]" + SCAN_END,
    ),
    Row(
        "this slice lies outside of an axis of size 5",
        "5:12",
        SCAN + "axis p: 2\nh[p,i] = x[p + 7,i]" + SCAN_END,
        SCAN + "axis p: 2\nh[p,i] = x[p + 3,i]" + SCAN_END,
    ),
    Row(
        "the window's taps `a` run over the growing size n",
        "5:19",
        SCAN + "axis u: 3, a: n\nh[u,i] = sum[a](x[u + a,i])" + SCAN_END,
        SCAN + "axis u: 3, a: 3\nh[u,i] = sum[a](x[u + a,i])" + SCAN_END,
    ),
    Row(
        "the index `i` is neither on the left nor repeated",
        "5:22",
        "param W[j,i], b[j]\nh[j] = W[j,i] x[i] + b[i]",
        "param W[j,i], b[j]\nh[j] = W[j,i] x[i] + b[j]",
    ),
    Row(
        "is `i` summed once here, or in each bracket?",
        "5:8",
        "param W[j,i], G[j,i]\nh[j] = sigmoid(G[j,i] x[i]) * (W[j,i] x[i])",
        "param W[j,i], G[j,i]\ng[j] = G[j,i] x[i]\nh[j] = sigmoid(g[j]) * (W[j,i] x[i])",
    ),
    Row(
        "is `i` summed once here, or in each bracket?",
        "5:8",
        "param a[i]\nh[j] = x[j] * (a[i] x[i])^2",
        "param a[i]\ns[] = a[i] x[i]\nh[j] = x[j] s[]^2",
    ),
    Row(
        "tensors with different axes are added without indices",
        "5:5",
        "param W[j,i]\nh = W + x",
        "param b[i]\nh = b + x",
    ),
    Row(
        "a product of tensors with different axes needs indices on the left",
        "5:5",
        "param W[j,i]\nh = W[j,i] x[i]",
        "param W[j,i]\nh[j] = W[j,i] x[i]",
    ),
    Row("is `i` summed here?", "5:5", "param T[]\nh = T[] x[i] x[i]", "param T[]\nh = T[] x[i]"),
    Row("axes of sizes n and 2 n meet here", "4:5", "h = x + linear(x, 2 n)", "h = x + linear(x, n)"),
    Row(
        "the index `c` of `mean[c]` is not in its argument",
        "4:8",
        "h[i] = mean[c](x[i])",
        "h[i] = x[i] - mean[i](x[i])",
    ),
    Row("`softmax` needs one index in brackets", "4:5", "h = softmax(x)", "h[i] = softmax[i](x[i])"),
    Row("a plain number is needed here", "4:22", "h[i] = topk[i](x[i], n)", "h[i] = topk[i](x[i], 2) * x[i]"),
    Row("division by a tensor", "4:9", "h = x / (x + 1)", "h[i] = x[i] * rms_scale[i](x[i])"),
    Row(
        "`tokens` holds integers",
        "5:8",
        "input tokens[s] in 7\nh[i] = tokens[s] x[i]",
        "axis s: 4\nparam E[v,i]\ninput tokens[s] in 7\nh[i] = mean[s](E[tokens[s],i]) + x[i]",
    ),
    Row("this unknown multiplier has no name", "4:5", "h = ? * x", "h = ?a * x"),
    Row("`?a` has another value elsewhere", "4:13", "h = ?a{2} * ?a{3} * x", "h = ?a{2} * ?b{3} * x"),
    Row(
        "this is not an initialiser",
        "4:14",
        "param b[i] = uniform\nh[i] = b[i] + x[i]",
        "param b[i] = normal\nh[i] = b[i] + x[i]",
    ),
    # --- sizes that make no sense
    Row("this size is 0", "4:9", "dim d = 0\nh = linear(x, d)", "dim d = 1\nh = linear(x, d)"),
    Row("this size is 7/2", "4:9", "dim d = 7 / 2\nh = linear(x, d)", "dim d = 6 / 2\nh = linear(x, d)"),
    Row("the size -n + 3 is negative", "4:9", "dim d = 3 - n\nh = linear(x, d)", "dim d = 3 + n\nh = linear(x, d)"),
    Row(
        "this size is above 10000000", "4:9", "dim d = 20000000\nh = linear(x, d)", "dim d = 2000000\nh = linear(x, d)"
    ),
    Row("2000 repeats", "4:8", "repeat 2000 { x = tanh(x) }\nh = x", "repeat 20 { x = tanh(x) }\nh = x"),
    Row(
        "the number of repeats grows with a width",
        "4:8",
        "repeat n { x = tanh(x) }\nh = x",
        "repeat 2 { x = tanh(x) }\nh = x",
    ),
    Row(
        "the unrolled network is too large",
        "4:1",
        "repeat 999 { repeat 999 { repeat 9 { x = tanh(x) } } }\nh = x",
        "repeat 9 { repeat 9 { repeat 9 { x = tanh(x) } } }\nh = x",
    ),
    Row(
        "a scan over 5000 steps",
        "5:1",
        "width n\naxis t: 5000, i: n\ninput x[t,i]\nh[i] = 0\nscan t { h[i] = h[i] + x[t,i] }" + SCAN_END,
        SCAN + "h[i] = 0\nscan t { h[i] = h[i] + x[t,i] }" + SCAN_END,
    ),
    Row(
        "a scan over an axis of size n",
        "5:1",
        "width n\naxis t: n, i: n\ninput x[t,i]\nh[i] = 0\nscan t { h[i] = h[i] + x[t,i] }" + SCAN_END,
        SCAN + "h[i] = 0\nscan t { h[i] = h[i] + x[t,i] }" + SCAN_END,
    ),
    # --- blocks and loops
    Row("`linear` needs the argument `features`", "4:5", "h = linear(x)", "h = linear(x, n)"),
    Row("`linear` takes at most 2 arguments without keyword", "4:18", "h = linear(x, n, 3)", "h = linear(x, n)"),
    Row("`linear` is given `features` twice", "4:18", "h = linear(x, n, features = n)", "h = linear(x, features = n)"),
    Row("`linear` has no argument `size`", "4:15", "h = linear(x, size = n)", "h = linear(x, features = n)"),
    Row("`attention` takes `x[t, i]`, but this tensor has 1 axis", "4:15", "h = attention(x, 2, 3)", "h = mlp(x, n)"),
    Row("unknown function or block `foo`", "4:21", "h = mlp(x, n, act = foo)", "h = mlp(x, n, act = relu)"),
    Row("a flag is `true` or `false`", "4:25", "h = linear(x, n, bias = 3)", "h = linear(x, n, bias = false)"),
    Row(
        "in `groupnorm`: this size is 3/2",
        "6:5",
        "width n\naxis c: 3, u: n, v: 2\ninput x[c,u,v]\nparam g[u]\n"
        "y[c,u,v] = x[c,u,v] * g[u]\nh = groupnorm(y, 2)\noutput f = h\nloss mse(f)",
        "width n\naxis c: 3, u: n, v: 2\ninput x[c,u,v]\nparam g[u]\n"
        "y[c,u,v] = x[c,u,v] * g[u]\nh = groupnorm(y, 3)\noutput f = h\nloss mse(f)",
    ),
    Row(
        "the block `b` returns nothing",
        "4:1",
        "block b(x[..,i]) { y = x }\nh = b(x)",
        "block b(x[..,i]) { return tanh(x) }\nh = b(x)",
    ),
    Row(
        "the block `a` uses itself",
        "5:28",
        "block a(x[i]) { return b(x) }\nblock b(x[i]) { return 2 * a(x) }\nh = a(x)",
        "block a(x[i]) { return b(x) }\nblock b(x[i]) { return 2 * tanh(x) }\nh = a(x)",
    ),
    Row(
        "nothing is computed after `return`",
        "4:27",
        "block b(x[i]) { return x; y = x }\nh = b(x)",
        "block b(x[i]) { y = tanh(x); return y }\nh = b(x)",
    ),
    Row("`return` stands outside of a block", "4:1", "return x\nh = x", "h = tanh(x)"),
    Row(
        "`x` changes its shape in the loop: [n] before, [2 n] after",
        "4:1",
        "repeat 2 { x = linear(x, 2 n) }\nh = x",
        "repeat 2 { x = linear(x, n) }\nh = x",
    ),
    Row(
        "a parameter inside a scan",
        "5:16",
        SCAN + "h[i] = 0\nscan t { param V[i]\nh[i] = h[i] + V[i] * x[t,i] }" + SCAN_END,
        SCAN + "h[i] = 0\nparam V[i]\nscan t { h[i] = h[i] + V[i] * x[t,i] }" + SCAN_END,
    ),
    Row(
        "`y` is read at another time than it is computed",
        "5:34",
        SCAN + "h[i] = 0\nscan t { y[t,i] = x[t,i]; h[i] = y[t - 1,i] }" + SCAN_END,
        SCAN + "h[i] = 0\nscan t { y[t,i] = x[t,i] + h[i]; h[i] = y[t,i] }" + SCAN_END,
    ),
    # --- the whole file
    Row(
        "the width `m` appears nowhere",
        "1:1",
        "width n, m\ninput x[i]\naxis i: n\noutput f = tanh(x)\nloss mse(f)",
        "width n\ninput x[i]\naxis i: n\noutput f = tanh(x)\nloss mse(f)",
    ),
    Row("the parameter `W` is never used", "4:7", "param W[j,i]\nh = x", "param W[j,i]\nh[j] = W[j,i] x[i]"),
    Row(
        "the parameter `W` has no path to the loss",
        "4:7",
        "param W[j,i]\ng[j] = W[j,i] x[i]\nh = x",
        "param W[j,i]\ng[j] = W[j,i] x[i]\nh = x + g",
    ),
    Row("the input `z` is never used", "4:7", "input z[i]\nh = x", "input z[i]\nh = x + z"),
    Row(
        "the file has no output",
        "4:1",
        "width n\ninput x[i]\naxis i: n\nloss mse(x)",
        "width n\ninput x[i]\naxis i: n\noutput f = x\nloss mse(x)",
    ),
    Row(
        "the file has no loss",
        "4:1",
        "width n\ninput x[i]\naxis i: n\noutput f = x",
        "width n\ninput x[i]\naxis i: n\noutput f = x\nloss mse(f)",
    ),
    Row(
        "there are two losses",
        "6:1",
        "width n\ninput x[i]\naxis i: n\noutput f = x\nloss mse(f)\nloss mean(f)",
        "width n\ninput x[i]\naxis i: n\noutput f = x\nloss mse(f) + mean(f)",
    ),
    Row(
        "unknown loss `hinge`",
        "5:6",
        "width n\ninput x[i]\naxis i: n\noutput f = x\nloss hinge(f)",
        "width n\ninput x[i]\naxis i: n\noutput f = x\nloss mse(f)",
    ),
    Row(
        "a loss is a single number",
        "5:6",
        "width n\ninput x[i]\naxis i: n\noutput f = x\nloss f",
        "width n\ninput x[i]\naxis i: n\noutput f = x\nloss mean(f)",
    ),
    Row(
        "`m` in the regime is no width",
        "2:1",
        "width n\nregime n << m\ninput x[i]\naxis i: n\noutput f = x\nloss mse(f)",
        "width n, m\nregime n << m\ninput x[i]\naxis i: n + m\noutput f = x\nloss mse(f)",
    ),
    # --- the others, by file of elaborate/
    Row("`tanh` takes 1 argument, not 2", "4:5", "h = tanh(x, x)", "h = tanh(x)"),
    Row("`tanh` has no argument `eps`", "4:13", "h = tanh(x, eps = 1)", "h = tanh(x)"),
    Row(
        "`sum` names an index twice",
        "4:7",
        "s[] = sum[i,i](x[i])\nh[i] = s * x[i]",
        "s[] = sum[i](x[i])\nh[i] = s * x[i]",
    ),
    Row(
        "`mean` takes no condition",
        "4:14",
        "m[] = mean[i | i <= j](x[i])\nh[i] = m * x[i]",
        "m[] = mean[i](x[i])\nh[i] = m * x[i]",
    ),
    Row(
        "the argument `t` of `b` is tokens: `input tokens[t] in vocab`",
        "7:7",
        "block b(t[s] in v) { axis k: 3\nparam E[v,k]\nreturn E }\nh = b(x)",
        "h = linear(x, n)",
    ),
    Row(
        "a function is passed by its name",
        "4:30",
        "h = mlp(x, hidden = n, act = relu(x))",
        "h = mlp(x, hidden = n, act = relu)",
    ),
    Row(
        "the argument `s` of `b` is a scalar",
        "6:10",
        "block b(z[..,i], s: scalar) { y[..,i] = s * z[..,i]\nreturn y }\nh = b(x, x)",
        "block b(z[..,i], s: scalar) { y[..,i] = s * z[..,i]\nreturn y }\nh = b(x, 2)",
    ),
    Row(
        "an argument pattern holds plain indices",
        "4:11",
        "block b(z[2 u]) { return z }\nh = b(x)",
        "block b(z[u]) { return z }\nh = b(x)",
    ),
    Row(
        "`i` stands twice on the left",
        "4:13",
        "block b(z[i,i]) { return z }\nparam W[c,j]\nh = b(W)",
        "block b(z[i,k]) { return z }\nparam W[c,j]\nh = linear(x, n)\ng = b(W)\nh[j] = h[j] + sum[c](g[c,j])",
    ),
    Row(
        "the index `k` of `b` is n, but 3 here",
        "8:10",
        "param W[c,i]\ny[c] = W[c,i] x[i]\nblock b(z[k], w[k]) { v[k] = z[k] w[k]\nreturn v }\nh = b(x, y)",
        "block b(z[k], w[k]) { v[k] = z[k] w[k]\nreturn v }\nh = b(x, x)",
    ),
    Row("`mse` is a loss", "4:5", "h = mse(x)", "h = tanh(x)"),
    Row(
        "eps is negative",
        "4:7",
        "r[] = rms_scale[i](x[i], eps = -1)\nh[i] = r * x[i]",
        "r[] = rms_scale[i](x[i], eps = 1e-5)\nh[i] = r * x[i]",
    ),
    Row(
        "the 5 largest of 3 entries",
        "5:22",
        "y = linear(x, 3)\nz[c] = topk[c](y[c], 5) * y[c]\nh = linear(z, n)",
        "y = linear(x, 3)\nz[c] = topk[c](y[c], 2) * y[c]\nh = linear(z, n)",
    ),
    Row(
        "each part of a concat is one indexed tensor",
        "4:18",
        "h[j] = concat[j](relu(x), x[i])",
        "h[k] = concat[k](x[i], x[j])",
    ),
    Row("`concat` takes two or more tensors", "4:8", "h[k] = concat[k](x[i])", "h[k] = concat[k](x[i], x[j])"),
    Row(
        "the parts of a concat have different axes",
        "6:8",
        "y = linear(x, 3)\nparam W[c,i]\nh[k] = concat[k](x[i], W[c,j])",
        "h[k] = concat[k](x[i], x[j])",
    ),
    Row(
        "the index `c` of the condition is not in the argument",
        "4:18",
        "h[i] = softmax[i | i <= c](x[i])",
        "h[i] = softmax[i](x[i])",
    ),
    Row(
        "the index `j` of the condition is not in the argument",
        "4:18",
        "h[i] = softmax[i | j <= c](x[i])",
        "h[i] = softmax[i](x[i])",
    ),
    Row("the index `batch` is reserved", "4:6", "axis batch: 4\nh = x", "axis batch_: 4\nh = x"),
    Row(
        "there is another function `f`",
        "5:1",
        "fn f(z) = z\nfn f(z) = 2 z\nh = f(x)",
        "fn f(z) = z\nfn g(z) = 2 z\nh = f(g(x))",
    ),
    Row("a depth is a whole number", "4:11", "depth L = n\nh = x", "depth L = 4\nh = x"),
    Row("this cannot stand in a formula", "4:11", "fn f(z) = z[i]\nh = f(x)", "fn f(z) = 2 z\nh = f(x)"),
    Row("the index `i` stands twice", "4:9", "param W[i,i]\nh[i] = W[i,i] x[i]", "param W[j,i]\nh[j] = W[j,i] x[i]"),
    Row(
        "`constant` takes one number",
        "4:14",
        "param b[i] = constant()\nh[i] = x[i] + b[i]",
        "param b[i] = constant(0.5)\nh[i] = x[i] + b[i]",
    ),
    Row(
        "`zeros` takes nothing",
        "4:14",
        "param b[i] = zeros(1)\nh[i] = x[i] + b[i]",
        "param b[i] = zeros\nh[i] = x[i] + b[i]",
    ),
    Row(
        "`normal` takes one number",
        "4:16",
        "param W[j,i] = normal(0, 0.02)\nh[j] = W[j,i] x[i]",
        "param W[j,i] = normal(0.02)\nh[j] = W[j,i] x[i]",
    ),
    Row(
        "the spread is negative",
        "4:16",
        "param W[j,i] = normal(-1)\nh[j] = W[j,i] x[i]",
        "param W[j,i] = normal(1)\nh[j] = W[j,i] x[i]",
    ),
    Row("the power 1/2 of a tensor is not defined here", "4:5", "h = x^(1/2)", "h = x^2"),
    Row("the power of a tensor is a plain number", "4:7", "h = x^n", "h = x^2"),
    Row("`readout` takes `x[.., i]`, but this tensor has 0 axes", "5:20", "h = 3", "h = 3 x"),
    Row("`x` has 1 axis, the left has 2", "4:10", "h[i,j] = x", "h[i] = x"),
    Row("unknown function or block `dropout`", "4:5", "h = dropout(x)", "h = x"),
    Row("unknown function or block `reshape`", "4:5", "h = reshape(x)", "h = x"),
    Row("`..` stands twice on the left", "4:6", "h[..,..] = x[..,..]", "h[..] = x[..]"),
    Row(
        "tokens below 7 are looked up in an axis of size 5",
        "8:12",
        "input t[s] in 7\naxis s: 3\nparam E[v,i]\naxis v: 5\ny[s,i] = E[t[s],i]\nh[i] = mean[s](y[s,i])",
        "input t[s] in 5\naxis s: 3\nparam E[v,i]\naxis v: 5\ny[s,i] = E[t[s],i]\nm[i] = mean[s](y[s,i])\nh[i] = m[i] + x[i]",
    ),
    Row(
        "a look-up of `t` at computed positions",
        "8:12",
        "input t[s] in 5\naxis s: 3, u: 2\nparam E[v,i]\naxis v: 5\ny[u,i] = E[t[u + 1],i]\nh[i] = mean[u](y[u,i])",
        "input t[s] in 5\naxis s: 3, u: 2\nparam E[v,i]\naxis v: 5\ne[..,i] = E[t[..],i]\ny[u,i] = e[u + 1,i]\n"
        "m[i] = mean[u](y[u,i])\nh[i] = m[i] + x[i]",
    ),
    Row("`x` holds no integers", "5:10", "param E[j,i]\ny[i] = E[x[0],i]\nh = y", "param E[j,i]\nh[i] = E[0,i] + x[i]"),
    Row("this index cannot stand on the left", "4:3", "h[2] = x[2]", "h[i] = x[i]"),
    Row(
        "this is 1/2, not a positive whole number",
        "4:19",
        "y = topk[i](x[i], 0.5)\nh = y",
        "y = linear(x, 3)\nz[c] = topk[c](y[c], 2) * y[c]\nh = linear(z, n)",
    ),
    Row(
        "the length of the scan over `s` is not known",
        "4:1",
        "scan s { y = tanh(x) }\nh = x",
        "axis s: 3\nstate = x\nscan s { state = tanh(state) }\nh = state",
    ),
    Row("100000 repeats", "4:8", "repeat 100000 { x = tanh(x) }\nh = x", "repeat 10 { x = tanh(x) }\nh = x"),
    Row(
        "`m` is not a flag",
        "4:28",
        "block b(z[..,i], m: dim) { if m { z = tanh(z) }\nreturn z }\nh = b(x, n)",
        "block b(z[..,i], m: flag) { if m { z = tanh(z) }\nreturn z }\nh = b(x, m)",
    ),
    Row(
        "the size 1 / n shrinks as the widths grow",
        "4:9",
        "dim d = 1 / n\nh = linear(x, d)",
        "dim d = n\nh = linear(x, d)",
    ),
    Row(
        "the power of a size is a whole number from 0 to 64",
        "4:11",
        "dim d = n^1000\nh = linear(x, d)",
        "dim d = n^2\nh = linear(x, d)",
    ),
    Row(
        "this size is above 10000000",
        "4:9",
        "dim d = 1e200\ndim e = d^9\nh = linear(x, e)",
        "dim d = 100\nh = linear(x, d)",
    ),
    Row("this size is 1/2", "4:15", "y = linear(x, 0.5)\nh = linear(y, n)", "y = linear(x, 5)\nh = linear(y, n)"),
    Row("an unknown multiplier stands alone in a product, not in a sum", "4:5", "h = (?a + 1) * x", "h = ?a * x + x"),
    Row("an unknown multiplier cannot be raised to a power or divided by", "4:5", "h = ?a^2 * x", "h = ?a * (?a * x)"),
    Row("this power is too large", "4:5", "h = 2^1000000 * x", "h = 2^10 * x"),
    Row("a root of -2", "4:5", "h = (0 - 2)^(1/2) * x", "h = -1.4 * x"),
    Row("`relu` is a function, not a size", "4:9", "dim d = relu\nh = linear(x, d)", "dim d = 4 n\nh = linear(x, d)"),
    Row("division by a size of zero", "4:9", "dim d = n / 0\nh = linear(x, d)", "dim d = n / 2\nh = linear(x, d)"),
    Row("division by zero", "4:9", "h = n / 0 * x", "h = n / 2 * x"),
    Row(
        "a size can only be divided by a single product, not by a sum",
        "4:9",
        "dim d = n / (n + 1)\nh = linear(x, d)",
        "dim d = n + 1\nh = linear(x, d)",
    ),
    Row(
        "a block returns a tensor",
        "5:8",
        "block b(z[..,i]) { y = z\nreturn n }\nh = b(x)",
        "block b(z[..,i]) { y = tanh(z)\nreturn y }\nh = b(x)",
    ),
    Row("an output stands at the top of the file", "4:12", "repeat 2 { output g = x }\nh = x", "output g = x\nh = x"),
    Row(
        "this stands at the top of the file only",
        "4:12",
        "repeat 2 { width m }\nh = x",
        "repeat 2 { x = tanh(x) }\nh = x",
    ),
    Row("an axis is indexed by more than two indices", "4:10", "y[a] = x[a + i + j]\nh = x", "h = x"),
    Row("the axis has size n, but its parts make 12", "5:12", "axis a: 4\ny[a,c] = x[(a c)]\nh = x", "h = x"),
    Row("the index `j` runs backwards", "4:10", "h[j] = x[-j]", "h[j] = x[j]"),
    Row("there are two optimizer lines", "5:1", "optimizer adam\noptimizer sgd\nh = x", "optimizer adam\nh = x"),
    Row(
        "the output `g` is defined twice",
        "5:1",
        "output g = x\noutput g = x\nh = x",
        "output g = x\noutput g2 = x\nh = x",
    ),
    Row(
        "`beta1` is given twice",
        "4:16",
        "optimizer adam(beta1 = 0.9, beta1 = 0.8)\nh = x",
        "optimizer adam(beta1 = 0.9)\nh = x",
    ),
    Row(
        "there are two regime lines",
        "5:1",
        "width n, m\ninput x[i]\naxis i: n\nregime n << m\nregime m << n\noutput f = linear(x, m)\nloss mse(f)",
        "width n, m\ninput x[i]\naxis i: n\nregime n << m\noutput f = linear(x, m)\nloss mse(f)",
    ),
    Row(
        "the regime names a width twice",
        "4:1",
        "width n, m\ninput x[i]\naxis i: n\nregime n << n\noutput f = linear(x, m)\nloss mse(f)",
        "width n, m\ninput x[i]\naxis i: n\nregime n << m\noutput f = linear(x, m)\nloss mse(f)",
    ),
    Row(
        "`mse` takes one tensor",
        "5:6",
        "width n\ninput x[i]\naxis i: n\noutput f = x\nloss mse(f, f, f)",
        "width n\ninput x[i]\naxis i: n\noutput f = x\nloss mse(f)",
    ),
    Row(
        "the target has another shape",
        "6:13",
        "width n\ninput x[i]\ninput y[j]\naxis i: n, j: 3\noutput f = x\nloss mse(f, y)",
        "width n\ninput x[i]\ninput y[i]\naxis i: n\noutput f = x\nloss mse(f, y)",
    ),
    Row(
        "cross_entropy needs an axis of classes",
        "6:20",
        "width n\ninput x[i]\naxis i: n\nparam W[i]\noutput f[] = W[i] x[i]\nloss cross_entropy(f)",
        "width n\ninput x[i]\naxis i: n, c: 3\nparam W[c,i]\noutput f[c] = W[c,i] x[i]\nloss cross_entropy(f)",
    ),
    Row(
        "a target is an input",
        "6:13",
        "width n\ninput x[i]\naxis i: n\nparam b[i]\noutput f = x\nloss mse(f, b)",
        "width n\ninput x[i]\naxis i: 5\noutput f = readout(linear(x, n), 3)\nloss mse(f)",
    ),
    Row("the index `u` runs backwards", "4:10", "y[u] = x[-2 u]\nh = x", "h = x"),
    Row(
        "the block `b` uses itself",
        "6:24",
        "block b(z[..,i]) { y = c(z)\nreturn y }\nblock c(z[..,i]) { y = b(z)\nreturn y }\nh = b(x)",
        "block b(z[..,i]) { y = tanh(z)\nreturn y }\nh = b(x)",
    ),
    Row(
        "`relu` is a built-in function",
        "4:1",
        "block relu(z[..,i]) { return z }\nh = relu(x)",
        "block same(z[..,i]) { return z }\nh = same(x)",
    ),
    Row("the batch axis is implicit", "4:9", "input y[batch,i]\nh[i] = x[i] + y[i]", "input y[i]\nh[i] = x[i] + y[i]"),
    Row(
        "`batch` is reserved",
        "1:1",
        "width n, batch\naxis i: n\ninput x[i]\nh = linear(x, batch)\noutput f = readout(h, 10)\nloss mse(f)",
        "width n, m\naxis i: n\ninput x[i]\nh = linear(x, m)\noutput f = readout(h, 10)\nloss mse(f)",
    ),
    Row(
        "200000 repeats",
        "5:8",
        "depth L = 200000\nrepeat L { x = tanh(x) }\nh = x",
        "depth L = 20\nrepeat L { x = tanh(x) }\nh = x",
    ),
    Row(
        "the condition does not compare `s` with another index",
        "7:20",
        "width n\naxis t: 4, s: 4, i: 3, j: n\ninput x[t,i]\nparam U[j,i]\nz[t,j] = U[j,i] x[t,i]\na[t,s] = n^(-1) * (z[t,j] z[s,j])\nw[t,s] = softmax[s | t <= t](a[t,s])\nh[t,j] = w[t,s] z[s,j]\noutput f = readout(h, 10)\nloss mse(f)",
        "width n\naxis t: 4, s: 4, i: 3, j: n\ninput x[t,i]\nparam U[j,i]\nz[t,j] = U[j,i] x[t,i]\na[t,s] = n^(-1) * (z[t,j] z[s,j])\nw[t,s] = softmax[s | s <= t](a[t,s])\nh[t,j] = w[t,s] z[s,j]\noutput f = readout(h, 10)\nloss mse(f)",
    ),
    Row("a tensor is needed here", "4:13", "h[i] = relu(3) * x[i]", "h[i] = relu(x[i])"),
    Row("`..` stands twice", "4:13", "g[j] = x[..,..]\nh = g", "g[i] = x[..,i]\nh = g"),
    Row("only plain indices can stand here", "4:3", "z[2 i] = 0\nh = x", "z[i] = 0\nh[i] = x[i] + z[i]"),
    Row(
        "loops are nested more than 8 deep",
        "4:53",
        "block d(z[..,i]) { repeat 2 { repeat 2 { repeat 2 { repeat 2 { z = tanh(z) } } } }\nreturn z }\nrepeat 2 { repeat 2 { repeat 2 { repeat 2 { repeat 2 { x = d(x) } } } } }\nh = x",
        "block d(z[..,i]) { repeat 16 { z = tanh(z) }\nreturn z }\nrepeat 32 { x = d(x) }\nh = x",
    ),
    Row(
        "`W` is a parameter and cannot be assigned",
        "5:1",
        "param W[j,i]\nrepeat 2 { W[j,i] = 2 W[j,i] }\nh[j] = W[j,i] x[i]",
        "param W[j,i]\nV = W\nrepeat 2 { V = 2 * V }\nh[j] = V[j,i] x[i]",
    ),
    Row(
        "`mse` of a tensor that depends on no input",
        "7:10",
        "width n\naxis i: n, c: 3\ninput x[i]\nparam W[c,i]\noutput f[c] = W[c,i] x[i]\nparam b[c]\nloss mse(b)",
        "width n\naxis i: n, c: 3\ninput x[i]\nparam W[c,i]\noutput f[c] = W[c,i] x[i]\nloss mse(f)",
    ),
    Row(
        "this size is too large an expression",
        "4:9",
        "dim p = 123456789012345678901234567890^60\nh = linear(x, p)",
        "dim p = n + 1\nh = linear(x, p)",
    ),
    Row(
        "this number is too large",
        "4:16",
        "param W[j,i] = normal(1e300 * 1e300)\nh[j] = W[j,i] x[i]",
        "param W[j,i] = normal(1)\nh[j] = W[j,i] x[i]",
    ),
    Row("this is not a size", "4:9", "dim p = relu(n)\nh = linear(x, p)", "dim p = n\nh = linear(x, p)"),
    Row(
        "`return` stands outside of a block", "4:12", "repeat 2 { return x }\nh = x", "repeat 2 { x = tanh(x) }\nh = x"
    ),
    Row(
        "an axis of size 10 cannot be divided by 3",
        "5:12",
        "width n\naxis i: 10, a: 3, j: n\ninput x[i]\nparam U[j,a]\ng[a,b] = x[(a b)]\nh[j] = mean[b](U[j,a] g[a,b])\noutput f = readout(h, 10)\nloss mse(f)",
        "width n\naxis i: 12, a: 3, j: n\ninput x[i]\nparam U[j,a]\ng[a,b] = x[(a b)]\nh[j] = mean[b](U[j,a] g[a,b])\noutput f = readout(h, 10)\nloss mse(f)",
    ),
    Row(
        "`?branch` is fixed to different powers: `?branch = L^-1`, `?bran* = L^-1/2`",
        "5:20",
        "depth L\nrepeat L { x = x + ?branch * linear(x, n) }\nh = x\nfix ?branch = L^-1\nfix ?bran* = L^-1/2",
        "depth L\nrepeat L { x = x + ?branch * linear(x, n) }\nh = x\nfix ?branch = L^-1",
    ),
    Row(
        "`?branch = L^-1 q^-1`: `q` is no size",
        "7:1",
        "depth L\nrepeat L { x = x + ?branch * linear(x, n) }\nh = x\nfix ?branch = L^-1 q^-1",
        "depth L\nrepeat L { x = x + ?branch * linear(x, n) }\nh = x\nfix ?branch = L^-1",
    ),
    Row(
        "the program has no multiplier `?scale`",
        "7:1",
        "depth L\nrepeat L { x = x + ?branch * linear(x, n) }\nh = x\nfix ?scale = L^-1",
        "depth L\nrepeat L { x = x + ?branch * linear(x, n) }\nh = x\nfix ?branch = L^-1",
    ),
    Row(
        "`g` is a function, not a tensor",
        "5:8",
        "fn g(z) = z + z\nh[i] = g[i](x[i])",
        "fn g(z) = z + z\nh[i] = g(x[i])",
    ),
    Row("1/2 repeats", "4:8", "repeat 1 / 2 { x = tanh(x) }\nh = x", "repeat 2 { x = tanh(x) }\nh = x"),
)

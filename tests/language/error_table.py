"""One row per mistake: its name, the bad text, `line:column` and the beginning of the message, and the mended text.

The tests of every stage read this table. `stage` is the stage that finds the mistake.
"""

# ruff: noqa: E501, RUF001

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    name: str
    bad: str
    place: str
    message: str
    mended: str
    stage: str = "syntax"


ROWS = (
    Row("keyword misspelt", "widht n", "1:1", "`widht` begins no statement", "width n"),
    Row("keyword misspelt, later word", "param b[j] = zeros frozn", "1:20", "found `frozn`", "param b[j] = zeros frozen"),
    Row("indices of a call", "z[j] = relu(h)[j]", "1:15", "only a name has indices", "y = relu(h)\nz[j] = y[j]"),
    Row("python def", "def f(x):\n  return 3", "1:1", "`def` is not a word", "block f(x) {\n  return 3\n}"),
    Row("python class", "class A", "1:1", "`class` is not a word of the language", "block A() { }"),
    Row("python for", "for i in L { }", "1:1", "`for` is not a word of the language", "repeat L { }"),
    Row("double equals", "x == 3", "1:3", "found `==`", "x = 3"),
    Row("walrus", "x := 3", "1:3", "found `:=`", "x = 3"),
    Row("augmented", "x += 3", "1:3", "found `+=`", "x = x + 3"),
    Row("double star", "y = x ** 2", "1:7", "found `**`", "y = x^2"),
    Row("three dots", "y[...,i] = x[i]", "1:5", "the character `.` does not belong here", "y[..,i] = x[i]"),
    Row("matrix product sign", "y = W @ x", "1:7", "the character `@` does not belong here", "y[j] = W[j,i] x[i]"),
    Row("string", 'y = "relu"', "1:5", 'the character `"` does not belong here', "y = relu"),
    Row("greek letter", "dim α = 3", "1:5", "the character `α` does not belong here", "dim alpha = 3"),
    Row("unicode minus", "y = a − b", "1:7", "the character `−` does not belong here", "y = a - b"),
    Row("bracket open at next line", "y = relu(x\nz = 3", "1:9", "this `(` is never closed", "y = relu(x)\nz = 3"),
    Row("bracket open at a keyword", "y = relu(x\nwidth n", "1:9", "this `(` is never closed", "y = relu(x)\nwidth n"),
    Row("index bracket open", "y = x[i", "1:6", "this `[` is never closed", "y = x[i]"),
    Row("brace open", "repeat L {\n  x = 3", "1:10", "this `{` is never closed", "repeat L {\n  x = 3\n}"),
    Row("brace missing", "repeat L\n  x = 3", "1:8", "the body of `repeat` is missing", "repeat L {\n  x = 3\n}"),
    Row("brace too many", "x = 3\n}", "2:1", "this `}` closes nothing", "x = 3"),
    Row("bracket too many", "x = a)", "1:6", "this `)` closes nothing", "x = a"),
    Row("brackets crossed", "x = (a]", "1:7", "`(` in line 1, column 5 is closed by `]`", "x = (a)"),
    Row("line ends early", "x =", "1:4", "found the end of the file, expected an expression", "x = 3"),
    Row("line ends early, more follows", "x =\ny = 3", "1:4", "found the end of the line, expected an expression", "x = 3\ny = 3"),
    Row("name missing", "width", "1:6", "found the end of the file, expected a name", "width n"),
    Row("indices in parentheses", "param W(j,i)", "1:8", "indices stand in square brackets", "param W[j,i]"),
    Row("number as initialiser", "param b[j] = 0", "1:14", "a number is not an initialiser", "param b[j] = zeros"),
    Row("two statements in a line", "x = 3 loss mse(f)", "1:7", "two statements in one line", "x = 3; loss mse(f)"),
    Row("output without its formula", "output f[o] =\ny = 3", "1:14", "found the end of the line, expected an expression", "output f[o] = 1\ny = 3"),
    Row("equals missing", "dim d 4", "1:7", "found `4`, expected `=`", "dim d = 4"),
    Row("dim with colon", "dim d: 4", "1:6", "a dim is declared with `=`", "dim d = 4"),
    Row("axis with equals", "axis i = d", "1:8", "an axis is declared with `:`", "axis i: d"),
    Row("initialiser without equals", "param W[j,i] normal(1)", "1:14", "an initialiser follows `=`", "param W[j,i] = normal(1)"),
    Row("two outputs", "output f = g, h = g", "1:13", "one `output` per statement", "output f = g; output h = g"),
    Row("output undefined", "output f", "1:8", "an output is defined where it is declared", "output f = g"),
    Row("statement is a call", "relu(x)", "1:1", "`relu` begins no statement", "y = relu(x)"),
    Row("reserved word", "dim in = 3", "1:5", "`in` is a word of the language and cannot be a name", "dim in_ = 3"),
    Row("reduction as name", "sum = 3", "1:1", "`sum` is a reduction and cannot be a name", "sum_ = 3"),
    Row("reduction bare", "y = sum[i] x[i]", "1:12", "a reduction's argument stands in parentheses", "y = sum[i](x[i])"),
    Row("python true", "c = True", "1:5", "`True` is not a word of the language", "c = true"),
    Row("number after factor", "y = x 3", "1:7", "a number cannot follow a factor", "y = x * 3"),
    Row("juxtaposed after division", "y = a / b c", "1:11", "a product by juxtaposition cannot follow a division", "y = a / (b c)"),
    Row("half power", "y = n^1/2", "1:6", "`^1/2` can be read in two ways", "y = n^(1/2)"),
    Row("negative half power", "y = n^-1/2", "1:6", "`^-1/2` can be read in two ways", "y = n^(-1/2)"),
    Row("index group bare", "y[h e] = x[h,e]", "1:3", "`h e` is not an index", "y[(h e)] = x[h,e]"),
    Row("index twice", "y[i] = x[u + u]", "1:10", "the index `u` stands in one position twice", "y[i] = x[2 u]"),
    Row("fractional position", "y[i] = x[i + 0.5]", "1:14", "a position is a whole number", "y[i] = x[i + 1]"),
    Row("kind unknown", "block f(x: dimension) { }", "1:12", "`dimension` is not a kind of argument", "block f(x: dim) { }"),
    Row("regime unknown", "regime n, m: equal", "1:14", "`equal` is not a regime", "regime n, m: proportional"),
    Row("regime reversed", "regime n >> m", "1:10", "found `>>`", "regime m << n"),
    Row("fix of nothing", "fix", "1:3", "`fix` fixes nothing", "fix lr = 0"),
    Row("fix without value", "width n\nfix lr[W]", "2:5", "`lr[W]` fixes nothing", "width n\nfix lr[W] = 0"),
    Row("fix of an unknown quantity", "fix rate[W] = 0", "1:5", "`rate` is nothing to fix", "fix lr[W] = 0"),
    Row("fix to no exponent", "fix lr = 2 n", "1:10", "`lr = 2 n`: `2 n` is no exponent", "fix lr = n"),
    Row("fix far away", "fix init[W] = n^-1/99", "1:15", "`n^-1/99` is an exponent out of the ordinary", "fix init[W] = n^-1/2"),
    Row("fix of a multiplier of no parameter", "fix ?scale[W] = 0", "1:12", "`?scale` belongs to no parameter", "fix ?scale = 0"),
    Row("fix as a name", "y = fix + 3", "1:5", "`fix` is a word of the language", "y = fix_ + 3"),
    Row("fix misspelt", "fixx lr = 0", "1:1", "`fixx` begins no statement", "fix lr = 0"),
    Row("else alone", "else { }", "1:1", "this `else` has no `if`", "if f { } else { }"),
    Row("function with body", "fn f(z) { z }", "1:9", "a function is one formula", "fn f(z) = z"),
    Row("not", "if !causal { }", "1:4", "the character `!` does not belong here", "if causal { } else { }"),
    Row("number too large", "x = 1e99999999", "1:5", "this number is too long", "x = 1e99"),
    Row("number too long", "x = " + "1" * 50, "1:5", "this number is too long", "x = 1"),
    Row("name too long", "x" * 100 + " = 1", "1:1", "this name is longer than", "x = 1"),
    Row("brackets too deep", "x = " + "(" * 60 + "a" + ")" * 60, "1:55", "brackets are nested more than 50", "x = a"),
    Row("operations too many", "x = a" + " + a" * 200, "1:5", "this expression nests more than", "x = a + a"),
    Row("repeats too deep", "repeat L {\n" * 9 + "}\n" * 9, "9:1", "repeats are nested more than 8 deep", "repeat L { }"),
    Row("comma doubled", "y = f(a, , b)", "1:10", "found `,`, expected an expression", "y = f(a, b)"),
    Row("condition without sign", "y[i] = softmax[s | s](x[s])", "1:21", "found `]`, expected a comparison", "y[s] = softmax[s](x[s])"),
    Row("control character", "x = 3\x00", "1:6", "the character U+0000 does not belong here", "x = 3"),
    Row("width with value", "width n = 256", "1:9", "a width has no value", "width n"),
    Row("width as a number", "width 256", "1:7", "a width has no value", "width n"),
    Row("comparison as a value", "y = a < b", "1:7", "a comparison is no value: found `<`", "y[s] = softmax[s | s < t](x[s])"),
    Row("call with indices", "h = linear[i](x, n)", "1:16", "a product in brackets has no comma", "h = linear(x, n)"),
    Row("sum sign", "y = ∑ x", "1:5", "the character `∑` does not belong here", "y = sum[i](x[i])"),
    Row("fraction sign", "y = ½ x", "1:5", "the character `½` does not belong here", "y = 0.5 x"),
    Row("dollar", "y = $x", "1:5", "the character `$` does not belong here", "y = x"),
    Row("output without a name", "output = 3", "1:8", "the output has no name", "output f = 3"),
    Row("frozen twice", "param W[j] frozen frozen", "1:7", "`frozen` or `optimizer` is given twice", "param W[j] frozen"),
    Row("zero as initialiser", "param b[j] = 0.0", "1:14", "a number is not an initialiser", "param b[j] = zeros"),
    Row("file too large", "# " + "x" * 1_000_001, "", "the file is larger than", "# x"),
    Row("bracket too many in a body", "repeat 2 { x = a) }", "1:17", "this `)` closes nothing", "repeat 2 { x = a }"),
    Row("window against a named stride", "dim p = 2\ny[u,a] = x[a - p u]", "2:16", "a coefficient with a minus sign is a number", "y[u,a] = x[a - 2 u]"),
)  # fmt: skip

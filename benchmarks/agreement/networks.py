"""Random small programs, one per seed: what the calculus is tried on beyond the networks people build."""

from __future__ import annotations

import random
from collections.abc import Callable

ODD = ("tanh", "erf", "sin", "identity", "hardtanh")
EVEN = ("abs", "square", "cos")
MIXED = ("relu", "gelu", "silu", "leaky_relu", "elu", "softplus", "sigmoid")
BOUNDED = ("tanh", "erf", "sin", "cos", "sigmoid", "hardtanh")  # safe after a product of two activations
HIDDEN = ("n", "n", "n / 2")


class Builder:
    """Lines of one program. The stream is the tensor `x` with axes `lead` (nothing, or the time `t`) and `j`."""

    most_layers, classes, bottleneck = 4, 5, 3

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.sequence = self.random.random() < 0.3
        self.count = 0
        self.params: list[str] = []
        self.axes: dict[str, str] = {"i": "d", "j": "n", "c": "classes"}
        self.lines: list[str] = []
        self.square: list[str] = []  # matrices [j', j] that may be shared
        self.states: list[str] = []  # earlier values of the stream
        if self.sequence:
            self.axes |= {"t": "T", "s": "T"}

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def at(self, index: str, time: str = "t") -> str:
        return f"[{time},{index}]" if self.sequence else f"[{index}]"

    def param(self, indices: str, init: str = "", stem: str = "W") -> str:
        name = self.fresh(stem)
        self.params.append(f"{name}[{indices}]{init}")
        return name

    def axis(self, dim: str) -> str:
        name = self.fresh("a")
        self.axes[name] = dim
        return name

    def line(self, text: str) -> None:
        self.lines.append(text)

    def matrix(self, out: str, into: str) -> str:
        """`W[out,into]`: fresh (normal, sometimes frozen, orthogonal or zero), shared, or shared and transposed."""
        chance = self.random.random()
        if self.square and self.axes[out] == self.axes[into] == "n" and chance < 0.25:
            name = self.random.choice(self.square)
            return f"{name}[{into},{out}]" if self.random.random() < 0.4 else f"{name}[{out},{into}]"
        suffix = " frozen" if chance > 0.92 else " = orthogonal" if 0.87 < chance <= 0.92 else ""
        name = self.param(f"{out},{into}", suffix)
        if self.axes[out] == self.axes[into] == "n":
            self.square.append(name)
        return f"{name}[{out},{into}]"

    def nonlinearity(self) -> str:
        return self.random.choice(self.random.choice((ODD, EVEN, MIXED, MIXED)))

    def preactivation(self, x: str) -> str:
        """A dense map of the stream, back to `j`."""
        k = self.axis("n")
        name = self.fresh("h")
        bias = ""
        if self.random.random() < 0.4:
            bias = f" + {self.param(k, self.random.choice((' = zeros', ' = normal(1)')), 'b')}[{k}]"
        self.line(f"{name}{self.at(k)} = {self.matrix(k, 'j')} {x}{self.at('j')}{bias}")
        return name

    # --- layers: each takes the name of the stream and returns the new one ----------------------------

    def dense(self, x: str) -> str:
        y = self.fresh("x")
        h = self.preactivation(x)
        self.line(f"{y}{self.at('j')} = {self.nonlinearity()}({h}{self.at('j')})")
        return y

    def residual(self, x: str) -> str:
        """x + W2 f(W1 x), the last matrix sometimes zero; or x + f(W x)."""
        y = self.fresh("x")
        if self.random.random() < 0.4:
            h = self.preactivation(x)
            self.line(f"{y}{self.at('j')} = {x}{self.at('j')} + {self.nonlinearity()}({h}{self.at('j')})")
            return y
        k = self.axis(self.random.choice(HIDDEN))
        h = self.fresh("h")
        self.line(f"{h}{self.at(k)} = {self.nonlinearity()}({self.matrix(k, 'j')} {x}{self.at('j')})")
        if self.random.random() < 0.35:
            out = f"{self.param(f'j,{k}', ' = zeros')}[j,{k}]"
        else:
            out = self.matrix("j", k)
        self.line(f"{y}{self.at('j')} = {x}{self.at('j')} + {out} {h}{self.at(k)}")
        return y

    def skip(self, x: str) -> str:
        """A sum with an earlier state."""
        y = self.fresh("x")
        self.line(f"{y}{self.at('j')} = {x}{self.at('j')} + {self.random.choice(self.states)}{self.at('j')}")
        return y

    def layernorm(self, x: str) -> str:
        c, y = self.fresh("m"), self.fresh("x")
        self.line(f"{c}{self.at('j')} = {x}{self.at('j')} - mean[j]({x}{self.at('j')})")
        gain = f" * {self.param('j', ' = ones', 'g')}[j]" if self.random.random() < 0.4 else ""
        self.line(f"{y}{self.at('j')} = {c}{self.at('j')} * rms_scale[j]({c}{self.at('j')}){gain}")
        return y

    def rmsnorm(self, x: str) -> str:
        y = self.fresh("x")
        self.line(f"{y}{self.at('j')} = {x}{self.at('j')} * rms_scale[j]({x}{self.at('j')})")
        return y

    def gate(self, x: str) -> str:
        """x times a function of a dense map of it, of a vector, or of its own mean over features."""
        y = self.fresh("x")
        kind = self.random.randrange(3)
        if kind == 0:
            h = self.preactivation(x)
            factor = f"{self.random.choice(BOUNDED)}({h}{self.at('j')})"
        elif kind == 1:
            factor = f"{self.param('j', self.random.choice((' = ones', ' = normal(1)', ' = zeros')), 'g')}[j]"
        else:
            factor = f"{self.random.choice(BOUNDED)}(mean[j]({x}{self.at('j')}))"
        extra = f"{x}{self.at('j')} + " if self.random.random() < 0.3 else ""
        self.line(f"{y}{self.at('j')} = {extra}{x}{self.at('j')} * {factor}")
        return y

    def low_rank(self, x: str) -> str:
        """Through a finite bottleneck."""
        r = self.axis(str(self.bottleneck))
        z, y = self.fresh("z"), self.fresh("x")
        down = self.param(f"{r},j")
        up = self.param(f"j,{r}", self.random.choice(("", " = zeros")))
        act = self.nonlinearity()
        self.line(f"{z}{self.at(r)} = {act}({down}[{r},j] {x}{self.at('j')})")
        self.line(f"{y}{self.at('j')} = {x}{self.at('j')} + {up}[j,{r}] {z}{self.at(r)}")
        return y

    def similarity(self, x: str) -> str:
        """The stream times the scaled inner product with an earlier state."""
        s, y, m = self.fresh("s"), self.fresh("x"), self.fresh("scale")
        old = self.random.choice(self.states)
        lead = "[t]" if self.sequence else "[]"
        self.line(f"{s}{lead} = ?{m}{{n^(-1)}} * ({x}{self.at('j')} {old}{self.at('j')})")
        self.line(f"{y}{self.at('j')} = {x}{self.at('j')} * {self.random.choice(BOUNDED)}({s}{lead})")
        return y

    def attention(self, x: str) -> str:
        k = self.axis("n")
        q, key, v, p, w, y, m = (self.fresh(stem) for stem in ("q", "k", "v", "scores", "p", "x", "scale"))
        wq = self.matrix(k, "j")
        wk = wq if self.random.random() < 0.2 else self.matrix(k, "j")
        self.line(f"{q}[t,{k}] = {wq} {x}[t,j]")
        self.line(f"{key}[t,{k}] = {wk} {x}[t,j]")
        self.line(f"{v}[t,{k}] = {self.matrix(k, 'j')} {x}[t,j]")
        self.line(f"{p}[t,s] = ?{m}{{n^(-1)}} * ({q}[t,{k}] {key}[s,{k}])")
        self.line(f"{w}[t,s] = softmax[s{self.random.choice(('', ' | s <= t'))}]({p}[t,s])")
        self.line(f"{y}[t,j] = {x}[t,j] + {self.matrix('j', k)} ({w}[t,s] {v}[s,{k}])")
        return y

    def memory(self, x: str) -> str:
        """A recurrence over the time axis."""
        k, w = self.axis("n"), self.axis("n")
        s, h, y = self.fresh("state"), self.fresh("h"), self.fresh("x")
        W, U = self.param(f"j,{k}"), self.param(f"j,{w}")
        self.line(f"{s}[j] = 0")
        self.line(f"scan t {{\n  {h}[j] = {U}[j,{w}] {x}[t,{w}] + {W}[j,{k}] {s}[{k}]\n  {s}[j] = "
                  f"{self.random.choice(BOUNDED)}({h}[j])\n  {y}[t,j] = {s}[j]\n}}")  # fmt: skip
        return y

    # --- the whole --------------------------------------------------------------------------------------

    def layers(self) -> list[Callable[[str], str]]:
        """What the network is built of; what stands there twice is drawn twice as often."""
        found = [self.dense, self.dense, self.residual, self.residual, self.layernorm, self.rmsnorm, self.gate,
                 self.low_rank, self.similarity, self.skip]  # fmt: skip
        return [*found, self.attention, self.attention, self.memory] if self.sequence else found

    def build(self) -> str:
        tied = self.random.random() < 0.15
        embed = self.param("j,i", stem="E")
        self.line(f"z0{self.at('j')} = {embed}{self.looked_up()}")
        x = "z0"
        if self.random.random() < 0.6:
            x = self.fresh("x")
            self.line(f"{x}{self.at('j')} = {self.nonlinearity()}(z0{self.at('j')})")
        self.states.append(x)
        layers = self.layers()
        for _ in range(self.random.randint(2, self.most_layers)):
            x = self.random.choice(layers)(x)
            self.states.append(x)
        more = self.second_output()
        if self.sequence:
            pooled = self.fresh("x")
            self.line(f"{pooled}[j] = mean[t]({x}[t,j])")
            x = pooled
        if tied:
            self.axes["c"] = "d"
            self.line(f"output f[c] = ?output{{n^(-1/2)}} * ({embed}[j,c] {x}[j])")
        else:
            zero = " = zeros" if self.random.random() < 0.15 else ""
            self.line(f"output f[c] = {self.param('c,j', zero, 'V')}[c,j] {x}[j]")
        loss = self.random.choice(("cross_entropy", "cross_entropy", "mse"))
        return self.head() + "\n".join(self.lines) + f"\nloss {loss}(f){more}\n"

    def looked_up(self) -> str:
        """What the embedding is applied to."""
        return f"[j,i] x{self.at('i')}"

    def second_output(self) -> str:
        """Its part of the loss; none here."""
        return ""

    def head(self) -> str:
        """The declarations."""
        axes = ", ".join(f"{name}: {dim}" for name, dim in self.axes.items())
        time = ", T = 3" if self.sequence else ""
        return (f"{self.widths()}\ndim d = 8, classes = {self.classes}{time}\naxis {axes}\n"
                f"input {self.inputs()}\nparam {', '.join(self.params)}\n")  # fmt: skip

    def widths(self) -> str:
        return "width n"

    def inputs(self) -> str:
        return f"x{self.at('i')}"


def random_program(seed: int) -> str:
    """The text of the program with this number; the same text for ever."""
    return Builder(seed).build()

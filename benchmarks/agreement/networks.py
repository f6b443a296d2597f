"""Random small programs, one per seed: what the calculus is tried on beyond the networks people build."""

from __future__ import annotations

import random

ODD = ("tanh", "erf", "sin", "identity", "hardtanh")
EVEN = ("abs", "square", "cos")
MIXED = ("relu", "gelu", "silu", "leaky_relu", "elu", "softplus", "sigmoid")
BOUNDED = ("tanh", "erf", "sin", "cos", "sigmoid", "hardtanh")  # safe after a product of two activations
HIDDEN = ("n", "n", "n / 2")


class Builder:
    """Lines of one program. The stream is the tensor `x` with axes `lead` (nothing, or the time `t`) and `j`."""

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
        r = self.axis("3")
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

    def build(self) -> str:
        tied = self.random.random() < 0.15
        embed = self.param("j,i", stem="E")
        self.line(f"z0{self.at('j')} = {embed}[j,i] x{self.at('i')}")
        x = "z0"
        if self.random.random() < 0.6:
            x = self.fresh("x")
            self.line(f"{x}{self.at('j')} = {self.nonlinearity()}(z0{self.at('j')})")
        self.states.append(x)
        layers = [self.dense, self.dense, self.residual, self.residual, self.layernorm, self.rmsnorm, self.gate,
                  self.low_rank, self.similarity, self.skip]  # fmt: skip
        if self.sequence:
            layers += [self.attention, self.attention, self.memory]
        for _ in range(self.random.randint(2, 4)):
            x = self.random.choice(layers)(x)
            self.states.append(x)
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
        axes = ", ".join(f"{name}: {dim}" for name, dim in self.axes.items())
        head = f"width n\ndim d = 8, classes = 5{', T = 3' if self.sequence else ''}\naxis {axes}\n"
        head += f"input x{self.at('i')}\nparam {', '.join(self.params)}\n"
        return head + "\n".join(self.lines) + f"\nloss {loss}(f)\n"


def random_program(seed: int) -> str:
    """The text of the program with this number; the same text for ever."""
    return Builder(seed).build()


class Campaign(Builder):
    """More of the language: the standard blocks, loops, a second width, masks and weights made of several parameters,
    tokens, several outputs, learned temperatures."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.two_widths = self.random.random() < 0.25
        self.tokens = self.sequence and self.random.random() < 0.4
        self.outputs = ""

    def block(self, x: str) -> str:
        """A standard block, beside the stream or in its place."""
        y = self.fresh("x")
        act = self.random.choice(("relu", "gelu", "tanh", "silu", "square"))
        hidden = self.random.choice(("n", "2 n", "m" if self.two_widths else "n"))
        call = self.random.choice((
            f"mlp({x}, hidden = {hidden}, act = {act})", f"gated_mlp({x}, hidden = {hidden})",
            f"moe({x}, hidden = {hidden}, experts = 3, best = {self.random.choice((1, 2))})",
            f"lora({x}, n, rank = 2)", f"{act}(linear({x}, n))", f"linear({x}, n, bias = false)",
        ))  # fmt: skip
        norm = self.random.choice(("", "layernorm", "rmsnorm"))
        if norm:
            call = call.replace(f"({x}", f"({norm}({x})", 1)
        branch = self.random.choice(("", "?branch * "))
        if branch:
            branch = f"?{self.fresh('branch')} * "
        keep = f"{x} + {branch}" if branch or self.random.random() < 0.6 else ""
        self.line(f"{y} = {keep}{call}")
        return y

    def cell(self, x: str) -> str:
        """A standard block over time."""
        y = self.fresh("x")
        call = self.random.choice((
            f"rnn({x}, n)", f"gru({x}, n)", f"lstm({x}, n)", f"ssm({x}, states = 2)",
            f"selective_ssm({x}, states = 2, rank = 2)",
            f"attention({x}, heads = n / 8, head_dim = 8)", f"attention(layernorm({x}), heads = 2, head_dim = n / 2)",
            f"grouped_query_attention({x}, heads = n / 8, groups = n / 16, head_dim = 8)",
            f"cross_attention({x}, {self.random.choice(self.states)}, heads = n / 8, head_dim = 8)",
        ))  # fmt: skip
        self.line(f"{y} = {x} + {call}" if self.random.random() < 0.5 else f"{y} = {call}")
        return y

    def loop(self, x: str) -> str:
        """The same layer several times, with its own or with shared weights."""
        y = self.fresh("x")
        shared = self.random.choice(("", " shared"))
        act = self.nonlinearity()
        step = self.random.choice((f"{y} + {act}(linear({y}, n))", f"{act}(linear({y}, n))",
                                   f"{y} + linear({act}(linear({y}, n)), n)"))  # fmt: skip
        self.line(f"{y} = {x}\nrepeat 2{shared} {{\n  {y} = {step}\n}}")
        return y

    def wide(self, x: str) -> str:
        """Through the other width."""
        if not self.two_widths:
            return self.dense(x)
        y, h, k = self.fresh("x"), self.fresh("h"), self.axis("m")
        self.line(f"{h}{self.at(k)} = {self.nonlinearity()}({self.param(f'{k},j')}[{k},j] {x}{self.at('j')})")
        self.line(f"{y}{self.at('j')} = {x}{self.at('j')} + {self.param(f'j,{k}')}[j,{k}] {h}{self.at(k)}")
        return y

    def made(self, x: str) -> str:
        """A weight made of two parameters: masked, scaled by rows, a sum, a function of one."""
        y, h, k = self.fresh("x"), self.fresh("h"), self.axis("n")
        w, v = self.param(f"{k},j"), self.param(f"{k},j")
        made = self.random.choice((f"sigmoid({v}[{k},j]) * {w}[{k},j]", f"({w}[{k},j] + {v}[{k},j])",
                                   f"tanh({v}[{k},j]) * {w}[{k},j]"))  # fmt: skip
        self.line(f"{h}[{k},j] = {made}")
        self.line(f"{y}{self.at(k)} = {self.nonlinearity()}({h}[{k},j] {x}{self.at('j')})")
        return y

    def temperature(self, x: str) -> str:
        """A trained number."""
        y, p = self.fresh("x"), self.param("", " = ones", "T")
        self.line(f"{y}{self.at('j')} = {p}[] * {x}{self.at('j')}")
        return y

    def build(self) -> str:
        text_layers = [self.dense, self.residual, self.residual, self.layernorm, self.rmsnorm, self.gate,
                       self.low_rank, self.similarity, self.skip, self.block, self.block, self.block, self.loop,
                       self.wide, self.wide, self.made, self.temperature]  # fmt: skip
        if self.sequence:
            text_layers += [self.attention, self.memory, self.cell, self.cell, self.cell]
        tied = self.random.random() < 0.15
        embed = self.param("j,i", stem="E")
        look = "tokens[t]" if self.tokens else "i"
        self.line(f"z0{self.at('j')} = {embed}[j,{look}]" + ("" if self.tokens else f" x{self.at('i')}"))
        x = "z0"
        if self.random.random() < 0.6:
            x = self.fresh("x")
            self.line(f"{x}{self.at('j')} = {self.nonlinearity()}(z0{self.at('j')})")
        self.states.append(x)
        for _ in range(self.random.randint(2, 5)):
            x = self.random.choice(text_layers)(x)
            self.states.append(x)
        if self.random.random() < 0.15 and len(self.states) > 2:
            self.line(f"output g{self.at('b')} = {self.param('b,j', stem='R')}[b,j] "
                      f"{self.states[-2]}{self.at('j')}")  # fmt: skip
            self.axes["b"], self.outputs = "3", " + 0.5 * mse(g)"
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
        axes = ", ".join(f"{name}: {dim}" for name, dim in self.axes.items())
        widths = "width n, m\nregime n, m: proportional" if self.two_widths else "width n"
        head = f"{widths}\ndim d = 8, classes = 5{', T = 3' if self.sequence else ''}\naxis {axes}\n"
        head += "input tokens[t] in d\n" if self.tokens else f"input x{self.at('i')}\n"
        head += f"param {', '.join(self.params)}\n"
        body = "\n".join(self.lines)
        if self.two_widths and "m]" not in axes and ": m" not in axes and " m," not in body and "= m)" not in body:
            head = head.replace("width n, m\nregime n, m: proportional", "width n")
        return head + body + f"\nloss {loss}(f){self.outputs}\n"


def campaign_program(number: int) -> str:
    """The text of network `number` of a campaign; the same text for ever."""
    return Campaign(number).build()

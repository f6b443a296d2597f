"""The networks of a campaign: more of the language than `networks.py` has."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.agreement.networks import Builder


class Campaign(Builder):
    """More of the language: the standard blocks, loops, a second width, masks and weights made of several parameters,
    tokens, several outputs, learned temperatures."""

    most_layers, classes, bottleneck = 5, 8, 8  # what has few entries is measured with a large error

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.two_widths = self.random.random() < 0.25
        self.tokens = self.sequence and self.random.random() < 0.4

    def block(self, x: str) -> str:
        """A standard block, beside the stream or in its place."""
        y = self.fresh("x")
        act = self.random.choice(("relu", "gelu", "tanh", "silu", "square"))
        hidden = self.random.choice(("n", "2 n", "m" if self.two_widths else "n"))
        call = self.random.choice((
            f"mlp({x}, hidden = {hidden}, act = {act})", f"gated_mlp({x}, hidden = {hidden})",
            f"moe({x}, hidden = {hidden}, experts = 3, best = {self.random.choice((1, 2))})",
            f"lora({x}, n, rank = 4)", f"{act}(linear({x}, n))", f"linear({x}, n, bias = false)",
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
        w, v = self.param(f"{k},j", " = normal(0.5)"), self.param(f"{k},j", " = normal(0.5)")
        made = self.random.choice((f"sigmoid({v}[{k},j]) * {w}[{k},j]", f"({w}[{k},j] + {v}[{k},j])",
                                   f"tanh({v}[{k},j]) * {w}[{k},j]"))  # fmt: skip
        self.line(f"{h}[{k},j] = {made}")
        self.line(f"{y}{self.at(k)} = {self.nonlinearity()}({h}[{k},j] {x}{self.at('j')})")
        return y

    def temperature(self, x: str) -> str:
        """A trained number, where no norm can cancel it."""
        y, p = self.fresh("x"), self.param("", " = ones", "T")
        self.line(
            f"{y}{self.at('j')} = {self.random.choice(('tanh', 'sin', 'cos', 'gelu'))}({p}[] * {x}{self.at('j')})"
        )
        return y

    # --- the whole --------------------------------------------------------------------------------------

    def layers(self) -> list[Callable[[str], str]]:
        found = [self.dense, self.residual, self.residual, self.layernorm, self.rmsnorm, self.gate, self.low_rank,
                 self.similarity, self.skip, self.block, self.block, self.block, self.loop, self.wide, self.wide,
                 self.made, self.temperature]  # fmt: skip
        return [*found, self.attention, self.memory, *[self.cell] * 3] if self.sequence else found

    def looked_up(self) -> str:
        return "[j,tokens[t]]" if self.tokens else super().looked_up()

    def second_output(self) -> str:
        if self.random.random() >= 0.15 or len(self.states) < 3:
            return ""
        self.line(f"output g{self.at('b')} = {self.param('b,j', stem='R')}[b,j] {self.states[-2]}{self.at('j')}")
        self.axes["b"] = "6"
        return " + 0.5 * mse(g)"

    def widths(self) -> str:
        dims, body = self.axes.values(), "\n".join(self.lines)
        second = self.two_widths and ("m" in dims or " m," in body or "= m)" in body)
        return "width n, m\nregime n, m: proportional" if second else "width n"

    def inputs(self) -> str:
        return "tokens[t] in d" if self.tokens else super().inputs()


def campaign_program(number: int) -> str:
    """The text of network `number` of a campaign; the same text for ever."""
    return Campaign(number).build()

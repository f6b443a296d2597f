"""Odds: made by tensorprog from odds.tp.

Parametrization: test. Optimizer: lion. Base: n = 32, m = 32.
Tune at the base and train at any n and m: hyperparameters carry over.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BASE = {"n": 32, "m": 32}

# name: its start at the base width, then the exponents of what scales. A quantity at width n is
# (its value at the base width) * (n / BASE["n"]) ** exponent; what is not listed does not scale.
# A parameter without lr is frozen.
PARAMETERS = {
    "V": dict(init=("normal", 1.0), init_std={"m": -1}),
    "G": dict(
        init=("constant", 0.5),
        init_std={"m": 1, "n": 1},
        lr={"m": 1 / 2, "n": 1 / 2},
        weight_decay={"m": -1 / 2, "n": -1 / 2},
    ),
    "g": dict(
        init=("constant", 1.0),
        init_std={"m": -1 / 2},
        lr={"m": -1, "n": 1 / 2},
        weight_decay={"m": 1},
    ),
    "Q": dict(
        init=("normal", 32**-0.5),
        init_std={"n": 1 / 2},
        lr={"m": -1 / 2, "n": 1 / 2},
        weight_decay={"m": 1 / 2, "n": -1 / 2},
    ),
    "R": dict(
        init=("normal", 32**-0.5),
        init_std={"m": -1 / 2, "n": -1},
        lr={},
        weight_decay={"m": -1 / 2},
    ),
    "linear.W": dict(
        init=("normal", 6**-0.5),
        init_std={"m": 1 / 2},
        lr={"m": 1 / 2},
        weight_decay={"m": 1 / 2, "n": 1 / 2},
    ),
    "linear.b": dict(init=("constant", 0.0), lr={"m": -1 / 2, "n": 1}, weight_decay={"m": -1}),
    "lora.W": dict(init=("normal", 32**-0.5), init_std={"m": 1 / 2, "n": -1}),
    "lora.A": dict(
        init=("normal", 32**-0.5),
        init_std={"m": -1 / 2, "n": -1},
        lr={"m": -1},
        weight_decay={"n": 1},
    ),
    "lora.B": dict(
        init=("constant", 0.0), lr={"m": 1 / 2, "n": 1 / 2}, weight_decay={"m": 1, "n": -1 / 2}
    ),
    "linear_2.W": dict(
        init=("normal", 6**-0.5),
        init_std={"m": 1 / 2, "n": 1 / 2},
        lr={"m": 1 / 2, "n": 1},
        weight_decay={},
    ),
    "linear_2.b": dict(init=("constant", 0.0), lr={"m": 1, "n": 1 / 2}, weight_decay={"m": -1}),
    "cross_attention.Wq": dict(
        init=("normal", 32**-0.5),
        init_std={"m": 1, "n": 1},
        lr={"m": -1, "n": -1 / 2},
        weight_decay={"m": -1, "n": 1},
    ),
    "cross_attention.Wk": dict(
        init=("normal", 32**-0.5),
        init_std={"m": -1 / 2, "n": 1 / 2},
        lr={"m": -1, "n": -1 / 2},
        weight_decay={"m": 1 / 2, "n": 1},
    ),
    "cross_attention.Wv": dict(
        init=("normal", 32**-0.5),
        init_std={"m": -1 / 2, "n": -1 / 2},
        lr={},
        weight_decay={"m": 1 / 2, "n": 1 / 2},
    ),
    "cross_attention.Wo": dict(
        init=("normal", 32**-0.5),
        init_std={"n": -1},
        lr={"m": 1 / 2, "n": -1},
        weight_decay={"m": 1, "n": -1},
    ),
    "transformer_block_post.attention.Wq": dict(
        init=("normal", 32**-0.5),
        init_std={"m": -1 / 2, "n": 1 / 2},
        lr={"m": 1, "n": 1 / 2},
        weight_decay={"m": 1 / 2},
    ),
    "transformer_block_post.attention.Wk": dict(
        init=("normal", 32**-0.5),
        init_std={"m": 1 / 2},
        lr={"m": -1, "n": 1 / 2},
        weight_decay={"m": 1, "n": -1},
    ),
    "transformer_block_post.attention.Wv": dict(
        init=("normal", 32**-0.5),
        init_std={"m": -1 / 2, "n": 1 / 2},
        lr={"m": 1 / 2},
        weight_decay={"m": -1, "n": 1},
    ),
    "transformer_block_post.attention.Wo": dict(
        init=("normal", 32**-0.5), init_std={"m": 1}, lr={"m": -1, "n": 1}, weight_decay={"n": 1}
    ),
    "transformer_block_post.attention.bq": dict(
        init=("constant", 0.0), lr={"n": -1 / 2}, weight_decay={"m": -1}
    ),
    "transformer_block_post.attention.bv": dict(
        init=("constant", 0.0), lr={"n": -1 / 2}, weight_decay={"m": 1 / 2, "n": 1}
    ),
    "transformer_block_post.attention.bo": dict(
        init=("constant", 0.0), lr={"m": -1 / 2, "n": 1}, weight_decay={"m": 1}
    ),
    "transformer_block_post.layernorm.gain": dict(
        init=("constant", 1.0), init_std={"m": -1}, lr={"n": -1}, weight_decay={"m": 1 / 2, "n": -1}
    ),
    "transformer_block_post.layernorm.shift": dict(
        init=("constant", 0.0), lr={"n": -1 / 2}, weight_decay={"m": -1, "n": 1 / 2}
    ),
    "transformer_block_post.mlp.W1": dict(
        init=("normal", 32**-0.5),
        init_std={"m": 1, "n": 1 / 2},
        lr={"m": -1 / 2, "n": 1},
        weight_decay={"m": -1 / 2},
    ),
    "transformer_block_post.mlp.b1": dict(init=("constant", 0.0), lr={"n": -1}, weight_decay={}),
    "transformer_block_post.mlp.W2": dict(
        init=("normal", 64**-0.5),
        init_std={"m": -1, "n": 1 / 2},
        lr={"m": 1, "n": -1 / 2},
        weight_decay={"m": -1 / 2},
    ),
    "transformer_block_post.mlp.b2": dict(
        init=("constant", 0.0), lr={"m": -1 / 2, "n": -1 / 2}, weight_decay={"m": 1, "n": -1}
    ),
    "transformer_block_post.layernorm_2.gain": dict(
        init=("constant", 1.0),
        init_std={"m": 1, "n": 1},
        lr={"m": -1, "n": -1},
        weight_decay={"m": -1 / 2, "n": 1 / 2},
    ),
    "transformer_block_post.layernorm_2.shift": dict(
        init=("constant", 0.0), lr={"m": 1 / 2, "n": -1}, weight_decay={"m": 1, "n": 1 / 2}
    ),
}

# (value at the base width, exponents)
MULTIPLIERS = {
    "V_multiplier": (1.0, {"m": -1, "n": -1}),
    "G_multiplier": (1.0, {"n": -1 / 2}),
    "g_multiplier": (1.0, {"m": 1 / 2, "n": 1 / 2}),
    "Q_multiplier": (1.0, {"m": -1 / 2, "n": -1 / 2}),
    "R_multiplier": (1.0, {"m": 1, "n": -1 / 2}),
    "linear.W_multiplier": (1.0, {"m": 1, "n": -1}),
    "linear.b_multiplier": (1.0, {"m": -1}),
    "lora.A_multiplier": (1.0, {"m": 1, "n": -1}),
    "lora.W_multiplier": (1.0, {"m": 1, "n": 1 / 2}),
    "lora.B_multiplier": (1.0, {"m": 1 / 2, "n": -1}),
    "lora.scale": (1.0, {"m": 1, "n": 1 / 2}),
    "linear_2.W_multiplier": (1.0, {"m": -1 / 2, "n": 1 / 2}),
    "linear_2.b_multiplier": (1.0, {"n": -1}),
    "cross_attention.Wq_multiplier": (1.0, {"m": -1, "n": 1}),
    "cross_attention.Wk_multiplier": (1.0, {"m": 1 / 2, "n": 1}),
    "cross_attention.Wv_multiplier": (1.0, {"m": 1, "n": -1 / 2}),
    "cross_attention.scale": (16**-0.5, {"m": 1, "n": -1 / 2}),
    "cross_attention.Wo_multiplier": (1.0, {"m": -1 / 2, "n": -1}),
    "transformer_block_post.branch": (1.0, {"m": -1 / 2, "n": 1 / 2}),
    "transformer_block_post.attention.Wq_multiplier": (1.0, {"m": 1 / 2, "n": -1}),
    "transformer_block_post.attention.Wk_multiplier": (1.0, {"m": 1}),
    "transformer_block_post.attention.Wv_multiplier": (1.0, {"n": -1 / 2}),
    "transformer_block_post.attention.bq_multiplier": (1.0, {"n": 1 / 2}),
    "transformer_block_post.attention.bv_multiplier": (1.0, {"m": -1 / 2, "n": 1}),
    "transformer_block_post.attention.scale": (16**-0.5, {"m": 1, "n": -1}),
    "transformer_block_post.attention.Wo_multiplier": (1.0, {"n": 1}),
    "transformer_block_post.attention.bo_multiplier": (1.0, {"m": 1, "n": 1 / 2}),
    "transformer_block_post.layernorm.gain_multiplier": (1.0, {"m": -1, "n": -1}),
    "transformer_block_post.layernorm.shift_multiplier": (1.0, {"m": -1 / 2}),
    "transformer_block_post.mlp.W1_multiplier": (1.0, {"n": -1}),
    "transformer_block_post.mlp.b1_multiplier": (1.0, {"m": 1 / 2}),
    "transformer_block_post.mlp.W2_multiplier": (1.0, {"m": 1, "n": -1 / 2}),
    "transformer_block_post.mlp.b2_multiplier": (1.0, {"m": -1, "n": -1 / 2}),
    "transformer_block_post.layernorm_2.gain_multiplier": (1.0, {"m": -1, "n": -1}),
    "transformer_block_post.layernorm_2.shift_multiplier": (1.0, {"m": 1, "n": 1}),
}

HYPERPARAMETERS = {
    "lion": dict(lr=0.0001, weight_decay=0.0),
}


def ratio(widths: dict, exponents: dict) -> float:
    """Product of (width / base width) ** exponent: exactly 1.0 at the base widths."""
    value = 1.0
    for symbol, exponent in exponents.items():
        value *= (widths[symbol] / BASE[symbol]) ** exponent
    return value


def find(table: dict, name: str):
    """The entry for a dotted name; `*` in a key stands for any layer number."""
    star = ".".join("*" if part.isdigit() else part for part in name.split("."))
    return table[name] if name in table else table[star]


def divide(size: int, by: int, what: str) -> int:
    """size / by, which must be a whole number."""
    if size % by:
        raise ValueError(f"{what}: {size} is not divisible by {by}")
    return size // by


class Linear(nn.Module):
    """Block linear."""

    def __init__(self, i: int, features: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(features, i))
        self.b = nn.Parameter(torch.empty(features))
        self.W_multiplier = 1.0  # set by set_multipliers
        self.b_multiplier = 1.0  # set by set_multipliers

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.W_multiplier * x, self.W, self.b_multiplier * self.b)


class Lora(nn.Module):
    """Block lora."""

    def __init__(self, i: int, features: int, rank: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(features, i), requires_grad=False)
        self.A = nn.Parameter(torch.empty(rank, i))
        self.B = nn.Parameter(torch.empty(features, rank))
        self.A_multiplier = 1.0  # set by set_multipliers
        self.W_multiplier = 1.0  # set by set_multipliers
        self.B_multiplier = 1.0  # set by set_multipliers
        self.scale = 1.0  # set by set_multipliers

    def forward(self, x: Tensor) -> Tensor:
        z = F.linear(self.A_multiplier * x, self.A)
        return F.linear(self.W_multiplier * x, self.W) + self.scale * F.linear(
            self.B_multiplier * z, self.B
        )


class CrossAttention(nn.Module):
    """Block cross_attention."""

    def __init__(self, i: int, j: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.Wq = nn.Parameter(torch.empty(heads * head_dim, i))
        self.Wk = nn.Parameter(torch.empty(heads * head_dim, j))
        self.Wv = nn.Parameter(torch.empty(heads * head_dim, j))
        self.Wo = nn.Parameter(torch.empty(i, heads * head_dim))
        self.Wq_multiplier = 1.0  # set by set_multipliers
        self.Wk_multiplier = 1.0  # set by set_multipliers
        self.Wv_multiplier = 1.0  # set by set_multipliers
        self.scale = 1.0  # set by set_multipliers
        self.Wo_multiplier = 1.0  # set by set_multipliers
        self.heads = heads
        self.head_dim = head_dim

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        q = F.linear(self.Wq_multiplier * x, self.Wq)
        k = F.linear(self.Wk_multiplier * c, self.Wk)
        v = F.linear(self.Wv_multiplier * c, self.Wv)
        qh = q.unflatten(2, (self.heads, self.head_dim))
        kh = k.unflatten(2, (self.heads, self.head_dim))
        vh = v.unflatten(2, (self.heads, self.head_dim))
        z = F.scaled_dot_product_attention(
            qh.transpose(1, 2), kh.transpose(1, 2), vh.transpose(1, 2), scale=self.scale
        ).transpose(1, 2)
        m = z.flatten(2, 3)
        return F.linear(self.Wo_multiplier * m, self.Wo)


class Attention(nn.Module):
    """Block attention."""

    def __init__(self, i: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.Wq = nn.Parameter(torch.empty(heads * head_dim, i))
        self.Wk = nn.Parameter(torch.empty(heads * head_dim, i))
        self.Wv = nn.Parameter(torch.empty(heads * head_dim, i))
        self.Wo = nn.Parameter(torch.empty(i, heads * head_dim))
        self.bq = nn.Parameter(torch.empty(heads * head_dim))
        self.bv = nn.Parameter(torch.empty(heads * head_dim))
        self.bo = nn.Parameter(torch.empty(i))
        self.Wq_multiplier = 1.0  # set by set_multipliers
        self.Wk_multiplier = 1.0  # set by set_multipliers
        self.Wv_multiplier = 1.0  # set by set_multipliers
        self.bq_multiplier = 1.0  # set by set_multipliers
        self.bv_multiplier = 1.0  # set by set_multipliers
        self.scale = 1.0  # set by set_multipliers
        self.Wo_multiplier = 1.0  # set by set_multipliers
        self.bo_multiplier = 1.0  # set by set_multipliers
        self.heads = heads
        self.head_dim = head_dim

    def forward(self, x: Tensor) -> Tensor:
        k = F.linear(self.Wk_multiplier * x, self.Wk)
        q = F.linear(self.Wq_multiplier * x, self.Wq, self.bq_multiplier * self.bq)
        v = F.linear(self.Wv_multiplier * x, self.Wv, self.bv_multiplier * self.bv)
        qh = q.unflatten(2, (self.heads, self.head_dim))
        kh = k.unflatten(2, (self.heads, self.head_dim))
        vh = v.unflatten(2, (self.heads, self.head_dim))
        z = F.scaled_dot_product_attention(
            qh.transpose(1, 2),
            kh.transpose(1, 2),
            vh.transpose(1, 2),
            scale=self.scale,
            is_causal=True,
        ).transpose(1, 2)
        m = z.flatten(2, 3)
        return F.linear(self.Wo_multiplier * m, self.Wo, self.bo_multiplier * self.bo)


class Layernorm(nn.Module):
    """Block layernorm."""

    def __init__(self, i: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(i))
        self.shift = nn.Parameter(torch.empty(i))
        self.gain_multiplier = 1.0  # set by set_multipliers
        self.shift_multiplier = 1.0  # set by set_multipliers
        self.i = i

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(
            x,
            (self.i,),
            weight=self.gain_multiplier * self.gain,
            bias=self.shift_multiplier * self.shift,
            eps=1e-05,
        )


class Mlp(nn.Module):
    """Block mlp."""

    def __init__(self, i: int, hidden: int) -> None:
        super().__init__()
        self.W1 = nn.Parameter(torch.empty(hidden, i))
        self.b1 = nn.Parameter(torch.empty(hidden))
        self.W2 = nn.Parameter(torch.empty(i, hidden))
        self.b2 = nn.Parameter(torch.empty(i))
        self.W1_multiplier = 1.0  # set by set_multipliers
        self.b1_multiplier = 1.0  # set by set_multipliers
        self.W2_multiplier = 1.0  # set by set_multipliers
        self.b2_multiplier = 1.0  # set by set_multipliers

    def forward(self, x: Tensor) -> Tensor:
        h = F.linear(self.W1_multiplier * x, self.W1, self.b1_multiplier * self.b1)
        a = F.gelu(h)
        return F.linear(self.W2_multiplier * a, self.W2, self.b2_multiplier * self.b2)


class TransformerBlockPost(nn.Module):
    """Block transformer_block_post."""

    def __init__(self, i: int, heads: int, head_dim: int, hidden: int) -> None:
        super().__init__()
        self.attention = Attention(i=i, heads=heads, head_dim=head_dim)
        self.layernorm = Layernorm(i=i)
        self.mlp = Mlp(i=i, hidden=hidden)
        self.layernorm_2 = Layernorm(i=i)
        self.branch = 1.0  # set by set_multipliers

    def forward(self, x: Tensor) -> Tensor:
        u = self.layernorm(x + self.branch * self.attention(x))
        return self.layernorm_2(u + self.branch * self.mlp(u))


class Lion(torch.optim.Optimizer):
    """Sign of an interpolated momentum, decoupled decay (Chen 2023, arXiv:2302.06675)."""

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, decay = group["lr"], group["weight_decay"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                grad, state = p.grad, self.state[p]
                if not state:
                    state["first"] = torch.zeros_like(p)
                beta1, beta2 = group["betas"]
                p.mul_(1 - lr * decay)
                p.sub_(state["first"].lerp(grad, 1 - beta1).sign(), alpha=lr)
                state["first"].lerp_(grad, 1 - beta2)
        return loss


class Odds(nn.Module):
    """The whole network."""

    def __init__(self, n: int = 32, m: int = 32) -> None:
        super().__init__()
        self.V = nn.Parameter(torch.empty(m, n), requires_grad=False)
        self.G = nn.Parameter(torch.empty(m))
        self.g = nn.Parameter(torch.empty(()))
        self.Q = nn.Parameter(torch.empty(4, m))
        self.R = nn.Parameter(torch.empty(4, n))
        self.linear = Linear(i=6, features=n)
        self.lora = Lora(i=n, features=m, rank=2)
        self.linear_2 = Linear(i=6, features=n)
        self.cross_attention = CrossAttention(i=m, j=n, heads=2, head_dim=divide(m, 2, "m / 2"))
        self.transformer_block_post = TransformerBlockPost(
            i=m, heads=2, head_dim=divide(m, 2, "m / 2"), hidden=2 * m
        )
        self.V_multiplier = 1.0  # set by set_multipliers
        self.G_multiplier = 1.0  # set by set_multipliers
        self.g_multiplier = 1.0  # set by set_multipliers
        self.Q_multiplier = 1.0  # set by set_multipliers
        self.R_multiplier = 1.0  # set by set_multipliers
        self.n = n
        self.widths = {"n": n, "m": m}
        self.set_multipliers()
        self.reset_parameters()

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        q = self.lora(self.linear(x))
        k = self.linear_2(c)
        y = self.cross_attention(q, k)
        z = y[:, 1:6:2]
        w = self.V_multiplier * torch.einsum("jo,baj->boa", self.V, z) / self.n
        e = w.detach().mean(dim=2) + torch.abs(w[:, :, 1])
        u = self.transformer_block_post(y)
        y = u[:, 0] * (self.G_multiplier * self.G * (self.g_multiplier * self.g))
        v = y - 3 * u[:, -1] + 1.0
        return F.linear(self.Q_multiplier * v, self.Q) + F.linear(self.R_multiplier * e, self.R)

    def set_multipliers(self) -> None:
        """Multipliers at these widths, as plain floats on the blocks that use them."""
        for key, (value, exponents) in MULTIPLIERS.items():
            path, _, attribute = key.rpartition(".")
            for name, module in self.named_modules():
                star = ".".join("*" if part.isdigit() else part for part in name.split("."))
                if path in (name, star):
                    setattr(module, attribute, value * ratio(self.widths, exponents))

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Initial values at these widths; reproducible from torch.manual_seed or the generator."""
        for name, parameter in self.named_parameters():
            rule = find(PARAMETERS, name)
            kind, value = rule["init"]
            value *= ratio(self.widths, rule.get("init_std", {}))
            if kind == "normal":
                nn.init.normal_(parameter, std=value, generator=generator)
            else:
                parameter.fill_(value)

    def param_groups(self, lr=None, weight_decay=None, eps=None) -> list[dict]:
        """Parameter groups for the optimizer: one per distinct scaling rule.

        Arguments are values at the base width; None takes the one in HYPERPARAMETERS.
        """
        groups = {}
        for name, parameter in self.named_parameters():
            rule = find(PARAMETERS, name)
            if "lr" not in rule:  # frozen
                continue
            given = dict(lr=lr, weight_decay=weight_decay, eps=eps)
            group = {"params": [], "names": []}
            for key, value in HYPERPARAMETERS["lion"].items():
                value = value if given[key] is None else given[key]
                group[key] = value * ratio(self.widths, rule.get(key, {}))
            label = str({key: rule.get(key) for key in ("lr", "weight_decay", "eps")})
            group = groups.setdefault(label, group)
            group["params"].append(parameter)
            group["names"].append(name)
        return list(groups.values())

    def configure_optimizer(self, lr=None, weight_decay=None, eps=None) -> torch.optim.Optimizer:
        """The optimizer, with the learning rates in their ratios (LR schedulers keep them)."""
        groups = self.param_groups(lr, weight_decay, eps)
        return Lion(groups, betas=(0.8, 0.99))

    def loss(self, f: Tensor, f_target: Tensor) -> Tensor:
        """The loss to minimise, averaged over the batch."""
        return F.mse_loss(f, f_target) / 2

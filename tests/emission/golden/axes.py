"""Axes: made by tensorprog from axes.tp.

Parametrization: test. Optimizer: adamw. Base: n = 32.
Tune at the base and train at any n: hyperparameters carry over.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BASE = {"n": 32}

# name: its start at the base width, then the exponents of what scales. A quantity at width n is
# (its value at the base width) * (n / BASE["n"]) ** exponent; what is not listed does not scale.
# A parameter without lr is frozen.
PARAMETERS = {
    "K": dict(
        init=("normal", 12**-0.5),
        init_std={"n": -1 / 2},
        lr={"n": -1 / 2},
        weight_decay={"n": 1},
        eps={},
    ),
    "T": dict(init=("normal", 1.0), init_std={"n": 1 / 2}, lr={}, weight_decay={}, eps={"n": -1}),
    "W": dict(
        init=("orthogonal", 2.0 / 32**0.5),
        init_std={"n": 1},
        lr={},
        weight_decay={"n": 1},
        eps={"n": -1},
    ),
    "V": dict(init=("normal", 32**-0.5), lr={}, weight_decay={"n": -1 / 2}, eps={"n": -1}),
    "linear.W": dict(init=("normal", 64**-0.5), lr={}, weight_decay={"n": 1 / 2}, eps={"n": 1 / 2}),
    "linear.b": dict(init=("constant", 0.0), lr={"n": 1}, weight_decay={}, eps={}),
}

# (value at the base width, exponents)
MULTIPLIERS = {
    "K_multiplier": (1.0, {"n": 1 / 2}),
    "T_multiplier": (1.0, {"n": 1 / 2}),
    "V_multiplier": (1.0, {"n": -1}),
    "W_multiplier": (1.0, {"n": -1}),
    "linear.W_multiplier": (1.0, {"n": -1}),
}

HYPERPARAMETERS = {
    "adamw": dict(lr=0.001, weight_decay=0.01, eps=1e-08),
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


def windows(x: Tensor, axis: int, count: int, taps, stride: int, dilation: int, low: int) -> Tensor:
    """y[.., u, a, ..] = x[.., stride * u + dilation * a + low, ..], else 0 (taps None: no a)."""
    at = stride * torch.arange(count, device=x.device) + low
    if taps is not None:
        at = at[:, None] + dilation * torch.arange(taps, device=x.device)
    size = x.shape[axis]
    y = x.movedim(axis, -1)[..., at.clamp(0, size - 1)]
    y = torch.where((at >= 0) & (at < size), y, 0.0)
    return y.movedim(-1, axis) if taps is None else y.movedim((-2, -1), (axis, axis + 1))


def masked_softmax(x: Tensor, dim: int, key: int, compare, query: int) -> Tensor:
    """Softmax over `dim` where compare(key position, query position); weight 0 elsewhere."""
    keys = torch.arange(x.shape[key], device=x.device).reshape(-1, *[1] * (x.ndim - key - 1))
    queries = torch.arange(x.shape[query], device=x.device).reshape(-1, *[1] * (x.ndim - query - 1))
    allowed = compare(keys, queries)
    lowest = torch.finfo(x.dtype).min
    return torch.where(allowed, F.softmax(torch.where(allowed, x, lowest), dim=dim), 0.0)


def top_k_mask(x: Tensor, k: int, dim: int) -> Tensor:
    """1 at the k largest entries along `dim` (ties: lowest position first), 0 elsewhere."""
    order = x.detach().sort(dim=dim, descending=True, stable=True).indices
    return torch.zeros_like(x).scatter(dim, order.narrow(dim, 0, k), 1.0)


class Linear(nn.Module):
    """Block linear."""

    def __init__(self, i: int, features: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(features, i))
        self.b = nn.Parameter(torch.empty(features))
        self.W_multiplier = 1.0  # set by set_multipliers

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.W_multiplier * x, self.W, self.b)


class Axes(nn.Module):
    """The whole network."""

    def __init__(self, n: int = 32) -> None:
        super().__init__()
        time = 9
        self.K = nn.Parameter(torch.empty(n, 4, 3))
        self.T = nn.Parameter(torch.empty(n, 7))
        self.W = nn.Parameter(torch.empty(3, n))
        self.V = nn.Parameter(torch.empty(3, n))
        self.linear = Linear(i=2 * n, features=n)
        self.K_multiplier = 1.0  # set by set_multipliers
        self.T_multiplier = 1.0  # set by set_multipliers
        self.V_multiplier = 1.0  # set by set_multipliers
        self.W_multiplier = 1.0  # set by set_multipliers
        self.time = time
        self.n = n
        self.widths = {"n": n}
        self.set_multipliers()
        self.reset_parameters()

    def forward(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        y = F.conv1d(self.K_multiplier * x.mT, self.K, padding=2, dilation=2).mT
        c = y + self.T_multiplier * F.embedding(tokens, self.T.T)
        q = torch.tanh(windows(c, 1, self.time, None, 2, 1, -1))
        r = torch.cat([c, q], dim=2)
        l = self.linear(r)
        s = masked_softmax(l @ l.mT / self.n, 2, 2, torch.ge, 1)
        e = masked_softmax(l @ q.mT / self.n, 2, 2, torch.lt, 1)
        z = s @ l + e @ q
        best = windows(z, 1, 4, 3, 2, 1, 0).mT.max(dim=3).values
        k = self.n**-0.5 * (best[:, :, :, None] * best[:, :, None])
        w = k.sum(dim=3)
        y = F.linear(self.V_multiplier * l, self.V) + F.linear(self.W_multiplier * l, self.W)
        b = F.softmax(y, dim=2)
        one = top_k_mask(z.mean(dim=2), 2, dim=1)
        f0 = b.mT + w.mean(dim=(1, 2))[:, None, None] - one[:, None]
        first = z.mean(dim=1) * torch.cos(w[:, 0]) / 3
        return f0, first

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
            elif kind == "orthogonal":  # value: the size of one entry
                matrix = parameter.new_empty((len(parameter), parameter[0].numel()))
                value *= max(matrix.shape) ** 0.5
                nn.init.orthogonal_(matrix, gain=value, generator=generator)
                parameter.copy_(matrix.view_as(parameter))
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
            for key, value in HYPERPARAMETERS["adamw"].items():
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
        return torch.optim.AdamW(groups, betas=(0.9, 0.999))

    def loss(self, f: Tensor, first: Tensor, f_target: Tensor, first_target: Tensor) -> Tensor:
        """The loss to minimise, averaged over the batch."""
        return F.mse_loss(f, f_target) / 2 + F.mse_loss(first, first_target) / 2

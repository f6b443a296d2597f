"""Convnet: made by tensorprog from convnet.tp.

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
    "D": dict(init=("normal", 9**-0.5), lr={"n": -1}, weight_decay={"n": -1 / 2}, eps={"n": 1}),
    "P": dict(
        init=("orthogonal", 1.0 / 32**0.5),
        init_std={"n": 1},
        lr={"n": -1},
        weight_decay={"n": -1},
        eps={"n": 1 / 2},
    ),
    "bias": dict(init=("constant", 0.0), lr={"n": 1}, weight_decay={"n": 1}, eps={"n": -1}),
    "groupnorm.gain": dict(
        init=("constant", 1.0),
        init_std={"n": 1 / 2},
        lr={},
        weight_decay={"n": -1 / 2},
        eps={"n": -1 / 2},
    ),
    "groupnorm.shift": dict(
        init=("constant", 0.0), lr={}, weight_decay={"n": -1}, eps={"n": 1 / 2}
    ),
    "conv_block.conv.W": dict(
        init=("normal", 288**-0.5),
        init_std={"n": -1 / 2},
        lr={"n": -1 / 2},
        weight_decay={"n": 1},
        eps={"n": -1},
    ),
    "conv_block.batchnorm.gain": dict(
        init=("constant", 1.0),
        init_std={"n": 1},
        lr={"n": -1 / 2},
        weight_decay={"n": -1 / 2},
        eps={"n": 1 / 2},
    ),
    "conv_block.batchnorm.shift": dict(
        init=("constant", 0.0), lr={"n": 1}, weight_decay={}, eps={"n": 1}
    ),
    "linear.W": dict(init=("normal", 64**-0.5), lr={}, weight_decay={"n": 1 / 2}, eps={"n": 1 / 2}),
    "linear.b": dict(init=("constant", 0.0), lr={"n": 1}, weight_decay={}, eps={}),
}

# (value at the base width, exponents)
MULTIPLIERS = {
    "D_multiplier": (1.0, {"n": 1}),
    "bias_multiplier": (1.0, {"n": 1}),
    "groupnorm.gain_multiplier": (1.0, {"n": -1 / 2}),
    "conv_block.conv.W_multiplier": (1.0, {"n": -1 / 2}),
    "conv_block.batchnorm.gain_multiplier": (1.0, {"n": 1}),
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


class Groupnorm(nn.Module):
    """Block groupnorm."""

    def __init__(self, c: int, groups: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(c))
        self.shift = nn.Parameter(torch.empty(c))
        self.gain_multiplier = 1.0  # set by set_multipliers
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(
            x, self.groups, weight=self.gain_multiplier * self.gain, bias=self.shift, eps=1e-05
        )


class Conv(nn.Module):
    """Block conv."""

    def __init__(self, c: int, features: int, size: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(features, c, size, size))
        self.W_multiplier = 1.0  # set by set_multipliers

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.W_multiplier * x, self.W, padding=1)


class Batchnorm(nn.Module):
    """Block batchnorm."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(c))
        self.shift = nn.Parameter(torch.empty(c))
        self.gain_multiplier = 1.0  # set by set_multipliers

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x,
            None,
            None,
            weight=self.gain_multiplier * self.gain,
            bias=self.shift,
            training=True,
            eps=1e-05,
        )


class ConvBlock(nn.Module):
    """Block conv_block."""

    def __init__(self, c: int, features: int, size: int) -> None:
        super().__init__()
        self.conv = Conv(c=c, features=features, size=size)
        self.batchnorm = Batchnorm(c=features)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.batchnorm(self.conv(x)))


class Linear(nn.Module):
    """Block linear."""

    def __init__(self, i: int, features: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(features, i))
        self.b = nn.Parameter(torch.empty(features))
        self.W_multiplier = 1.0  # set by set_multipliers

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.W_multiplier * x, self.W, self.b)


class Convnet(nn.Module):
    """The whole network."""

    def __init__(self, n: int = 32) -> None:
        super().__init__()
        self.D = nn.Parameter(torch.empty(n, 3, 3))
        self.P = nn.Parameter(torch.empty(n, 3))
        self.bias = nn.Parameter(torch.empty(n))
        self.groupnorm = Groupnorm(c=n, groups=4)
        self.conv_block = ConvBlock(c=n, features=2 * n, size=3)
        self.linear = Linear(i=2 * n, features=5)
        self.D_multiplier = 1.0  # set by set_multipliers
        self.bias_multiplier = 1.0  # set by set_multipliers
        self.n = n
        self.widths = {"n": n}
        self.set_multipliers()
        self.reset_parameters()

    def forward(self, image: Tensor) -> Tensor:
        x = torch.einsum("ca,bars->bcrs", self.P, image)
        y = F.conv2d(
            F.pad(self.D_multiplier * x, (1, 0, 1, 1)),
            self.D.unsqueeze(1),
            self.bias_multiplier * self.bias,
            groups=self.n,
        )
        d = F.relu(y)
        g = self.groupnorm(d)
        p = F.max_pool2d(g, 2)
        h = self.conv_block(p)
        pooled = h.mean(dim=(2, 3))
        return self.linear(pooled)

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

    def loss(self, logits: Tensor, logits_target: Tensor) -> Tensor:
        """The loss to minimise, averaged over the batch."""
        return F.cross_entropy(logits, logits_target)

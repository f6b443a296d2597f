"""Moe: made by tensorprog from moe.tp.

Parametrization: test. Optimizer: muon, adam. Base: n = 32, L = 2.
Tune at the base and train at any n: hyperparameters carry over.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BASE = {"n": 32, "L": 2}

# name: its start at the base width, then the exponents of what scales. A quantity at width n is
# (its value at the base width) * (n / BASE["n"]) ** exponent; what is not listed does not scale.
# A parameter without lr is frozen.
PARAMETERS = {
    "embedding.E": dict(
        init=("normal", 1.0), optimizer="muon", lr={"n": -1}, weight_decay={"n": -1 / 2}
    ),
    "layers.*.rmsnorm.gain": dict(
        init=("constant", 1.0),
        init_std={"n": 1},
        optimizer="adam",
        lr={"n": -1},
        weight_decay={},
        eps={"n": -1},
    ),
    "layers.*.grouped_query_attention.Wq": dict(
        init=("normal", 32**-0.5),
        init_std={"n": -1 / 2},
        optimizer="muon",
        lr={},
        weight_decay={"n": -1 / 2},
    ),
    "layers.*.grouped_query_attention.Wk": dict(
        init=("normal", 32**-0.5),
        init_std={"n": -1},
        optimizer="muon",
        lr={},
        weight_decay={"n": 1},
    ),
    "layers.*.grouped_query_attention.Wv": dict(
        init=("normal", 32**-0.5),
        init_std={"n": 1},
        optimizer="muon",
        lr={"n": 1 / 2},
        weight_decay={"n": -1 / 2},
    ),
    "layers.*.grouped_query_attention.Wo": dict(
        init=("normal", 32**-0.5),
        init_std={"n": 1 / 2},
        optimizer="muon",
        lr={"n": -1},
        weight_decay={"n": 1 / 2},
    ),
    "layers.*.rmsnorm_2.gain": dict(
        init=("constant", 1.0),
        init_std={"n": -1},
        optimizer="adam",
        lr={"n": 1 / 2},
        weight_decay={"n": 1 / 2},
        eps={"n": -1},
    ),
    "layers.*.moe.R": dict(
        init=("normal", 32**-0.5), optimizer="muon", lr={"n": -1 / 2}, weight_decay={"n": -1}
    ),
    "layers.*.moe.W1": dict(
        init=("normal", 32**-0.5),
        init_std={"n": -1 / 2},
        optimizer="muon",
        lr={"n": 1 / 2},
        weight_decay={"n": 1},
    ),
    "layers.*.moe.W2": dict(
        init=("normal", 256**-0.5),
        init_std={"n": -1 / 2},
        optimizer="muon",
        lr={"n": 1 / 2},
        weight_decay={"n": 1 / 2},
    ),
    "layers.*.gated_mlp.Wg": dict(
        init=("normal", 32**-0.5),
        init_std={"n": -1 / 2},
        optimizer="muon",
        lr={"n": 1 / 2},
        weight_decay={"n": 1},
    ),
    "layers.*.gated_mlp.Wu": dict(
        init=("normal", 32**-0.5),
        init_std={"n": 1 / 2},
        optimizer="muon",
        lr={"n": -1},
        weight_decay={},
    ),
    "layers.*.gated_mlp.Wd": dict(
        init=("normal", 64**-0.5), optimizer="muon", lr={"n": -1 / 2}, weight_decay={"n": 1}
    ),
    "readout.W": dict(
        init=("normal", 32**-0.5),
        init_std={"n": -1},
        optimizer="muon",
        lr={"n": 1 / 2},
        weight_decay={"n": 1},
    ),
}

# (value at the base width, exponents)
MULTIPLIERS = {
    "out": (1.0, {"n": 1 / 2}),
    "embedding.E_multiplier": (1.0, {"n": 1 / 2}),
    "layers.*.branch": (1.0, {"n": 1 / 2}),
    "layers.*.rmsnorm.gain_multiplier": (1.0, {"n": -1 / 2}),
    "layers.*.grouped_query_attention.Wk_multiplier": (1.0, {"n": 1}),
    "layers.*.grouped_query_attention.scale": (8**-0.5, {"n": -1 / 2}),
    "layers.*.grouped_query_attention.Wo_multiplier": (1.0, {"n": -1 / 2}),
    "layers.*.rmsnorm_2.gain_multiplier": (1.0, {"n": -1}),
    "layers.*.moe.R_multiplier": (1.0, {"n": -1}),
    "layers.*.moe.router": (1.0, {"n": 1 / 2}),
    "layers.*.moe.W1_multiplier": (1.0, {"n": -1 / 2}),
    "layers.*.gated_mlp.Wg_multiplier": (1.0, {"n": 1 / 2}),
    "layers.*.gated_mlp.Wu_multiplier": (1.0, {"n": 1}),
    "layers.*.gated_mlp.Wd_multiplier": (1.0, {"n": 1 / 2}),
    "readout.W_multiplier": (1.0, {"n": -1}),
}

HYPERPARAMETERS = {
    "muon": dict(lr=0.02, weight_decay=0.0),
    "adam": dict(lr=0.001, weight_decay=0.0, eps=1e-08),
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


def top_k_mask(x: Tensor, k: int, dim: int) -> Tensor:
    """1 at the k largest entries along `dim` (ties: lowest position first), 0 elsewhere."""
    order = x.detach().sort(dim=dim, descending=True, stable=True).indices
    return torch.zeros_like(x).scatter(dim, order.narrow(dim, 0, k), 1.0)


def swoosh(z: Tensor) -> Tensor:
    return z * torch.sigmoid(2 * z)


class Embedding(nn.Module):
    """Block embedding."""

    def __init__(self, vocab: int, features: int) -> None:
        super().__init__()
        self.E = nn.Parameter(torch.empty(vocab, features))
        self.E_multiplier = 1.0  # set by set_multipliers

    def forward(self, tokens: Tensor) -> Tensor:
        return self.E_multiplier * F.embedding(tokens, self.E)


class Rmsnorm(nn.Module):
    """Block rmsnorm."""

    def __init__(self, i: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(i))
        self.gain_multiplier = 1.0  # set by set_multipliers
        self.i = i

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (self.i,), weight=self.gain_multiplier * self.gain, eps=1e-05)


class GroupedQueryAttention(nn.Module):
    """Block grouped_query_attention."""

    def __init__(self, i: int, heads: int, groups: int, head_dim: int) -> None:
        super().__init__()
        self.Wq = nn.Parameter(torch.empty(heads * head_dim, i))
        self.Wk = nn.Parameter(torch.empty(groups * head_dim, i))
        self.Wv = nn.Parameter(torch.empty(groups * head_dim, i))
        self.Wo = nn.Parameter(torch.empty(i, heads * head_dim))
        self.Wk_multiplier = 1.0  # set by set_multipliers
        self.scale = 1.0  # set by set_multipliers
        self.Wo_multiplier = 1.0  # set by set_multipliers
        self.groups = groups
        self.head_dim = head_dim

    def forward(self, x: Tensor) -> Tensor:
        q = F.linear(x, self.Wq)
        k = F.linear(self.Wk_multiplier * x, self.Wk)
        v = F.linear(x, self.Wv)
        qh = q.unflatten(2, (self.groups, 2, self.head_dim))
        kh = k.unflatten(2, (self.groups, self.head_dim))
        vh = v.unflatten(2, (self.groups, self.head_dim))
        z = F.scaled_dot_product_attention(
            qh.permute(0, 2, 3, 1, 4),
            kh.transpose(1, 2)[:, :, None],
            vh.transpose(1, 2)[:, :, None],
            scale=self.scale,
            is_causal=True,
        ).permute(0, 3, 1, 2, 4)
        m = z.flatten(2, 4)
        return F.linear(self.Wo_multiplier * m, self.Wo)


class MoeBlock(nn.Module):
    """Block moe."""

    def __init__(self, i: int, hidden: int, experts: int) -> None:
        super().__init__()
        self.R = nn.Parameter(torch.empty(experts, i))
        self.W1 = nn.Parameter(torch.empty(experts, hidden, i))
        self.W2 = nn.Parameter(torch.empty(experts, i, hidden))
        self.R_multiplier = 1.0  # set by set_multipliers
        self.router = 1.0  # set by set_multipliers
        self.W1_multiplier = 1.0  # set by set_multipliers

    def forward(self, x: Tensor) -> Tensor:
        r = self.router * F.linear(self.R_multiplier * x, self.R)
        p = F.softmax(r, dim=2)
        g = p * top_k_mask(r, 2, dim=2)
        h = self.W1_multiplier * torch.einsum("eji,bti->btej", self.W1, x)
        a = swoosh(h)
        return torch.einsum("btej,eij->bti", g[:, :, :, None] * a, self.W2)


class Rmsnorm2(nn.Module):
    """Block rmsnorm."""

    def __init__(self, i: int) -> None:
        super().__init__()
        self.i = i

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (self.i,), eps=1e-05)


class GatedMlp(nn.Module):
    """Block gated_mlp."""

    def __init__(self, i: int, hidden: int) -> None:
        super().__init__()
        self.Wg = nn.Parameter(torch.empty(hidden, i))
        self.Wu = nn.Parameter(torch.empty(hidden, i))
        self.Wd = nn.Parameter(torch.empty(i, hidden))
        self.Wg_multiplier = 1.0  # set by set_multipliers
        self.Wu_multiplier = 1.0  # set by set_multipliers
        self.Wd_multiplier = 1.0  # set by set_multipliers

    def forward(self, x: Tensor) -> Tensor:
        g = F.linear(self.Wg_multiplier * x, self.Wg)
        u = F.linear(self.Wu_multiplier * x, self.Wu)
        a = F.silu(g) * u
        return F.linear(self.Wd_multiplier * a, self.Wd)


class Layer(nn.Module):
    """Block layer."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.rmsnorm = Rmsnorm(i=n)
        self.grouped_query_attention = GroupedQueryAttention(
            i=n, heads=divide(n, 8, "n / 8"), groups=divide(n, 16, "n / 16"), head_dim=8
        )
        self.rmsnorm_2 = Rmsnorm(i=n)
        self.moe = MoeBlock(i=n, hidden=2 * n, experts=4)
        self.rmsnorm_3 = Rmsnorm2(i=n)
        self.gated_mlp = GatedMlp(i=n, hidden=2 * n)
        self.branch = 1.0  # set by set_multipliers

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.branch * self.grouped_query_attention(self.rmsnorm(x))
        x = x + self.branch * self.moe(self.rmsnorm_2(x))
        return x + self.gated_mlp(self.rmsnorm_3(x))


class Readout(nn.Module):
    """Block readout."""

    def __init__(self, i: int, classes: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(classes, i))
        self.W_multiplier = 1.0  # set by set_multipliers

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.W_multiplier * x, self.W)


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum in full precision, decoupled decay (Jordan et al. 2024).

    A tensor with more than two axes is a matrix [first axis, all others].
    """

    def __init__(self, params, lr=2e-2, momentum=0.95, nesterov=True, ns_steps=5, weight_decay=0.0):
        defaults = dict(lr=lr, momentum=momentum, nesterov=nesterov, ns_steps=ns_steps)
        super().__init__(params, dict(defaults, weight_decay=weight_decay))

    @staticmethod
    def orthogonalise(grad, steps):
        """About U V^T for grad = U S V^T, by a quintic Newton-Schulz iteration."""
        tall = grad.shape[0] > grad.shape[1]
        x = grad.T if tall else grad
        x = x / grad.norm().clamp(min=1e-7)
        for _ in range(steps):
            gram = x @ x.T
            x = 3.4445 * x + (2.0315 * (gram @ gram) - 4.7750 * gram) @ x
        return x.T if tall else x

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
                first = state["first"].lerp_(grad, 1 - group["momentum"])
                if group["nesterov"]:
                    first = grad.lerp(first, group["momentum"])
                update = self.orthogonalise(first.flatten(1), group["ns_steps"])
                rows, columns = update.shape
                p.mul_(1 - lr * decay)
                p.sub_(update.view_as(p), alpha=lr)
        return loss


class Optimizers(torch.optim.Optimizer):
    """Several optimizers that step together and share one list of parameter groups."""

    def __init__(self, *optimizers):
        self.optimizers = optimizers
        super().__init__([g for o in optimizers for g in o.param_groups], {})
        self._share()

    def _share(self):
        self.param_groups = [g for o in self.optimizers for g in o.param_groups]

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def state_dict(self):
        return {"optimizers": [o.state_dict() for o in self.optimizers]}

    def load_state_dict(self, state_dict):
        for optimizer, state in zip(self.optimizers, state_dict["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self._share()


class Moe(nn.Module):
    """The whole network."""

    def __init__(self, n: int = 32, L: int = 2) -> None:
        super().__init__()
        vocab = 11
        self.embedding = Embedding(vocab=vocab, features=n)
        self.layers = nn.ModuleList(Layer(n=n) for _ in range(L))
        self.readout = Readout(i=n, classes=vocab)
        self.out = 1.0  # set by set_multipliers
        self.L = L
        self.widths = {"L": L, "n": n}
        self.set_multipliers()
        self.reset_parameters()

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.out * self.readout(x)

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
        """Parameter groups for the optimizers: one per distinct scaling rule.

        Arguments are values at the base width; None takes the one in HYPERPARAMETERS.
        Each may be a dict by optimizer name.
        """
        groups = {}
        for name, parameter in self.named_parameters():
            rule = find(PARAMETERS, name)
            if "lr" not in rule:  # frozen
                continue
            given = dict(lr=lr, weight_decay=weight_decay, eps=eps)
            group = {"params": [], "names": [], "optimizer": rule["optimizer"]}
            for key, value in HYPERPARAMETERS[rule["optimizer"]].items():
                chosen = given[key]
                if isinstance(chosen, dict):
                    chosen = chosen.get(rule["optimizer"])
                value = value if chosen is None else chosen
                group[key] = value * ratio(self.widths, rule.get(key, {}))
            label = str({key: rule.get(key) for key in ("optimizer", "lr", "weight_decay", "eps")})
            group = groups.setdefault(label, group)
            group["params"].append(parameter)
            group["names"].append(name)
        return list(groups.values())

    def configure_optimizer(self, lr=None, weight_decay=None, eps=None) -> torch.optim.Optimizer:
        """The optimizer, with the learning rates in their ratios (LR schedulers keep them)."""
        groups = self.param_groups(lr, weight_decay, eps)
        return Optimizers(
            Muon(
                [g for g in groups if g["optimizer"] == "muon"],
                momentum=0.9,
                nesterov=True,
                ns_steps=5,
            ),
            torch.optim.Adam([g for g in groups if g["optimizer"] == "adam"], betas=(0.9, 0.999)),
        )

    def training_loss(self, tokens: Tensor, logits_target: Tensor) -> Tensor:
        """The loss of one batch, which needs more than the outputs."""
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        logits = self.out * self.readout(x)
        return F.cross_entropy(logits.flatten(0, 1), logits_target.flatten()) + x.mean() / 10

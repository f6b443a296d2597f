"""Recurrent: made by tensorprog from recurrent.tp.

Parametrization: test. Optimizer: adamw, sgd. Base: n = 32.
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
    "W": dict(
        init=("normal", 0.02), init_std={"n": 1}, optimizer="sgd", lr={}, weight_decay={"n": 1}
    ),
    "rnn.U": dict(
        init=("normal", 3**-0.5),
        init_std={"n": 1 / 2},
        optimizer="adamw",
        lr={"n": 1},
        weight_decay={"n": 1 / 2},
        eps={"n": -1 / 2},
    ),
    "rnn.W": dict(
        init=("normal", 32**-0.5),
        init_std={"n": 1 / 2},
        optimizer="adamw",
        lr={"n": 1 / 2},
        weight_decay={"n": -1},
        eps={"n": -1},
    ),
    "rnn.b": dict(
        init=("constant", 0.0), optimizer="adamw", lr={}, weight_decay={"n": 1 / 2}, eps={"n": -1}
    ),
    "gru.Ur": dict(
        init=("normal", 32**-0.5),
        init_std={"n": 1 / 2},
        optimizer="adamw",
        lr={"n": -1},
        weight_decay={"n": 1},
        eps={"n": -1},
    ),
    "gru.Wr": dict(
        init=("normal", 32**-0.5),
        init_std={"n": -1},
        optimizer="adamw",
        lr={},
        weight_decay={},
        eps={"n": 1},
    ),
    "gru.br": dict(
        init=("constant", 0.0),
        optimizer="adamw",
        lr={"n": -1},
        weight_decay={"n": -1 / 2},
        eps={"n": 1},
    ),
    "gru.Uz": dict(
        init=("normal", 32**-0.5),
        init_std={"n": -1},
        optimizer="adamw",
        lr={"n": -1},
        weight_decay={"n": 1},
        eps={},
    ),
    "gru.Wz": dict(
        init=("normal", 32**-0.5),
        init_std={"n": 1},
        optimizer="adamw",
        lr={"n": 1 / 2},
        weight_decay={"n": -1},
        eps={"n": 1 / 2},
    ),
    "gru.bz": dict(
        init=("constant", 0.0),
        optimizer="adamw",
        lr={"n": -1},
        weight_decay={"n": 1 / 2},
        eps={"n": 1 / 2},
    ),
    "gru.Ug": dict(
        init=("normal", 32**-0.5),
        init_std={"n": 1},
        optimizer="adamw",
        lr={"n": 1 / 2},
        weight_decay={"n": -1 / 2},
        eps={"n": 1 / 2},
    ),
    "gru.Wg": dict(
        init=("normal", 32**-0.5),
        optimizer="adamw",
        lr={"n": -1},
        weight_decay={"n": 1 / 2},
        eps={},
    ),
    "gru.bg": dict(
        init=("constant", 0.0),
        optimizer="adamw",
        lr={"n": 1},
        weight_decay={"n": -1 / 2},
        eps={"n": -1},
    ),
    "lstm.Ua": dict(
        init=("normal", 32**-0.5),
        init_std={"n": -1 / 2},
        optimizer="adamw",
        lr={"n": -1 / 2},
        weight_decay={"n": -1},
        eps={"n": -1 / 2},
    ),
    "lstm.Wa": dict(
        init=("normal", 64**-0.5),
        init_std={"n": -1 / 2},
        optimizer="adamw",
        lr={"n": 1},
        weight_decay={"n": 1},
        eps={"n": -1 / 2},
    ),
    "lstm.ba": dict(
        init=("constant", 0.0),
        optimizer="adamw",
        lr={"n": 1},
        weight_decay={"n": 1 / 2},
        eps={"n": -1 / 2},
    ),
    "lstm.Uf": dict(
        init=("normal", 32**-0.5),
        init_std={"n": 1},
        optimizer="adamw",
        lr={"n": -1 / 2},
        weight_decay={"n": 1 / 2},
        eps={"n": 1},
    ),
    "lstm.Wf": dict(
        init=("normal", 64**-0.5),
        init_std={"n": -1},
        optimizer="adamw",
        lr={"n": 1},
        weight_decay={"n": 1},
        eps={"n": -1},
    ),
    "lstm.bf": dict(
        init=("constant", 0.0),
        optimizer="adamw",
        lr={"n": -1 / 2},
        weight_decay={"n": -1},
        eps={"n": 1},
    ),
    "lstm.Uo": dict(
        init=("normal", 32**-0.5),
        init_std={"n": 1},
        optimizer="adamw",
        lr={"n": 1 / 2},
        weight_decay={"n": 1 / 2},
        eps={"n": 1 / 2},
    ),
    "lstm.Wo": dict(
        init=("normal", 64**-0.5),
        init_std={"n": -1},
        optimizer="adamw",
        lr={"n": 1},
        weight_decay={"n": 1 / 2},
        eps={"n": 1},
    ),
    "lstm.bo": dict(
        init=("constant", 0.0), optimizer="adamw", lr={}, weight_decay={"n": -1}, eps={"n": -1}
    ),
    "lstm.Ug": dict(
        init=("normal", 32**-0.5),
        init_std={"n": 1 / 2},
        optimizer="adamw",
        lr={"n": 1},
        weight_decay={"n": 1 / 2},
        eps={"n": -1 / 2},
    ),
    "lstm.Wg": dict(
        init=("normal", 64**-0.5),
        init_std={"n": -1 / 2},
        optimizer="adamw",
        lr={"n": 1},
        weight_decay={"n": 1 / 2},
        eps={"n": 1 / 2},
    ),
    "lstm.bg": dict(
        init=("constant", 0.0),
        optimizer="adamw",
        lr={"n": -1 / 2},
        weight_decay={"n": -1 / 2},
        eps={"n": -1},
    ),
    "ssm.A": dict(
        init=("normal", 1.0),
        init_std={"n": 1 / 2},
        optimizer="adamw",
        lr={"n": 1 / 2},
        weight_decay={"n": -1 / 2},
        eps={"n": 1},
    ),
    "ssm.B": dict(
        init=("normal", 1.0),
        init_std={"n": -1},
        optimizer="adamw",
        lr={"n": -1},
        weight_decay={"n": -1},
        eps={"n": 1},
    ),
    "ssm.C": dict(
        init=("normal", 1.0),
        init_std={"n": -1},
        optimizer="adamw",
        lr={"n": -1 / 2},
        weight_decay={"n": 1 / 2},
        eps={"n": 1 / 2},
    ),
    "ssm.D": dict(
        init=("constant", 1.0),
        init_std={"n": 1 / 2},
        optimizer="adamw",
        lr={"n": -1 / 2},
        weight_decay={"n": 1},
        eps={"n": -1},
    ),
    "layers.linear.W": dict(
        init=("normal", 64**-0.5),
        init_std={"n": -1 / 2},
        optimizer="adamw",
        lr={"n": -1},
        weight_decay={"n": 1 / 2},
        eps={"n": -1},
    ),
    "layers.linear.b": dict(
        init=("constant", 0.0),
        optimizer="adamw",
        lr={"n": -1},
        weight_decay={"n": -1},
        eps={"n": -1 / 2},
    ),
    "linear.W": dict(
        init=("normal", 64**-0.5),
        optimizer="adamw",
        lr={},
        weight_decay={"n": 1 / 2},
        eps={"n": 1 / 2},
    ),
    "linear.b": dict(
        init=("constant", 0.0), optimizer="adamw", lr={"n": 1}, weight_decay={}, eps={}
    ),
}

# (value at the base width, exponents)
MULTIPLIERS = {
    "W_multiplier": (1.0, {"n": -1}),
    "rnn.U_multiplier": (1.0, {"n": -1}),
    "gru.Ur_multiplier": (1.0, {"n": 1 / 2}),
    "gru.Wr_multiplier": (1.0, {"n": 1 / 2}),
    "gru.br_multiplier": (1.0, {"n": 1 / 2}),
    "gru.Uz_multiplier": (1.0, {"n": 1 / 2}),
    "gru.Wz_multiplier": (1.0, {"n": 1 / 2}),
    "gru.bz_multiplier": (1.0, {"n": -1}),
    "gru.Wg_multiplier": (1.0, {"n": -1 / 2}),
    "gru.Ug_multiplier": (1.0, {"n": -1 / 2}),
    "gru.bg_multiplier": (1.0, {"n": 1}),
    "lstm.Wa_multiplier": (1.0, {"n": 1 / 2}),
    "lstm.Uf_multiplier": (1.0, {"n": -1}),
    "lstm.Wf_multiplier": (1.0, {"n": -1}),
    "lstm.bf_multiplier": (1.0, {"n": -1 / 2}),
    "lstm.Wo_multiplier": (1.0, {"n": -1}),
    "lstm.bo_multiplier": (1.0, {"n": -1 / 2}),
    "lstm.Ug_multiplier": (1.0, {"n": -1 / 2}),
    "lstm.Wg_multiplier": (1.0, {"n": -1}),
    "lstm.bg_multiplier": (1.0, {"n": 1}),
    "ssm.A_multiplier": (1.0, {"n": 1}),
    "ssm.B_multiplier": (1.0, {"n": -1}),
    "ssm.C_multiplier": (1.0, {"n": -1 / 2}),
    "ssm.D_multiplier": (1.0, {"n": 1 / 2}),
    "layers.linear.b_multiplier": (1.0, {"n": -1}),
    "linear.W_multiplier": (1.0, {"n": -1}),
}

HYPERPARAMETERS = {
    "adamw": dict(lr=0.001, weight_decay=0.01, eps=1e-08),
    "sgd": dict(lr=0.1, weight_decay=0.0),
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


class Rnn(nn.Module):
    """Block rnn."""

    def __init__(self, i: int, hidden: int) -> None:
        super().__init__()
        self.U = nn.Parameter(torch.empty(hidden, i))
        self.W = nn.Parameter(torch.empty(hidden, hidden))
        self.b = nn.Parameter(torch.empty(hidden))
        self.U_multiplier = 1.0  # set by set_multipliers
        self.hidden = hidden

    def forward(self, x: Tensor) -> Tensor:
        U = self.U_multiplier * self.U
        state = self.U.new_zeros((x.shape[0], self.hidden))
        ys = []
        for x_t in x.unbind(1):
            z = F.linear(x_t, U) + F.linear(state, self.W) + self.b
            state = torch.tanh(z)
            ys.append(state)
        y = torch.stack(ys, dim=1)
        return y


class Gru(nn.Module):
    """Block gru."""

    def __init__(self, i: int, hidden: int) -> None:
        super().__init__()
        self.Ur = nn.Parameter(torch.empty(hidden, i))
        self.Wr = nn.Parameter(torch.empty(hidden, hidden))
        self.br = nn.Parameter(torch.empty(hidden))
        self.Uz = nn.Parameter(torch.empty(hidden, i))
        self.Wz = nn.Parameter(torch.empty(hidden, hidden))
        self.bz = nn.Parameter(torch.empty(hidden))
        self.Ug = nn.Parameter(torch.empty(hidden, i))
        self.Wg = nn.Parameter(torch.empty(hidden, hidden))
        self.bg = nn.Parameter(torch.empty(hidden))
        self.Ur_multiplier = 1.0  # set by set_multipliers
        self.Wr_multiplier = 1.0  # set by set_multipliers
        self.br_multiplier = 1.0  # set by set_multipliers
        self.Uz_multiplier = 1.0  # set by set_multipliers
        self.Wz_multiplier = 1.0  # set by set_multipliers
        self.bz_multiplier = 1.0  # set by set_multipliers
        self.Wg_multiplier = 1.0  # set by set_multipliers
        self.Ug_multiplier = 1.0  # set by set_multipliers
        self.bg_multiplier = 1.0  # set by set_multipliers
        self.hidden = hidden

    def forward(self, x: Tensor) -> Tensor:
        Ur = self.Ur_multiplier * self.Ur
        Wr = self.Wr_multiplier * self.Wr
        br = self.br_multiplier * self.br
        Uz = self.Uz_multiplier * self.Uz
        Wz = self.Wz_multiplier * self.Wz
        bz = self.bz_multiplier * self.bz
        Wg = self.Wg_multiplier * self.Wg
        Ug = self.Ug_multiplier * self.Ug
        bg = self.bg_multiplier * self.bg
        state = self.Ur.new_zeros((x.shape[0], self.hidden))
        ys = []
        for x_t in x.unbind(1):
            r = F.linear(x_t, Ur) + F.linear(state, Wr) + br
            z = F.linear(x_t, Uz) + F.linear(state, Wz) + bz
            m = F.linear(state, Wg)
            g = F.linear(x_t, Ug) + torch.sigmoid(r) * m + bg
            y = torch.sigmoid(z)
            state = (1.0 - y) * torch.tanh(g) + y * state
            ys.append(state)
        y = torch.stack(ys, dim=1)
        return y


class Lstm(nn.Module):
    """Block lstm."""

    def __init__(self, i: int, hidden: int) -> None:
        super().__init__()
        self.Ua = nn.Parameter(torch.empty(hidden, i))
        self.Wa = nn.Parameter(torch.empty(hidden, hidden))
        self.ba = nn.Parameter(torch.empty(hidden))
        self.Uf = nn.Parameter(torch.empty(hidden, i))
        self.Wf = nn.Parameter(torch.empty(hidden, hidden))
        self.bf = nn.Parameter(torch.empty(hidden))
        self.Uo = nn.Parameter(torch.empty(hidden, i))
        self.Wo = nn.Parameter(torch.empty(hidden, hidden))
        self.bo = nn.Parameter(torch.empty(hidden))
        self.Ug = nn.Parameter(torch.empty(hidden, i))
        self.Wg = nn.Parameter(torch.empty(hidden, hidden))
        self.bg = nn.Parameter(torch.empty(hidden))
        self.Wa_multiplier = 1.0  # set by set_multipliers
        self.Uf_multiplier = 1.0  # set by set_multipliers
        self.Wf_multiplier = 1.0  # set by set_multipliers
        self.bf_multiplier = 1.0  # set by set_multipliers
        self.Wo_multiplier = 1.0  # set by set_multipliers
        self.bo_multiplier = 1.0  # set by set_multipliers
        self.Ug_multiplier = 1.0  # set by set_multipliers
        self.Wg_multiplier = 1.0  # set by set_multipliers
        self.bg_multiplier = 1.0  # set by set_multipliers
        self.hidden = hidden

    def forward(self, x: Tensor) -> Tensor:
        Wa = self.Wa_multiplier * self.Wa
        Uf = self.Uf_multiplier * self.Uf
        Wf = self.Wf_multiplier * self.Wf
        bf = self.bf_multiplier * self.bf
        Wo = self.Wo_multiplier * self.Wo
        bo = self.bo_multiplier * self.bo
        Ug = self.Ug_multiplier * self.Ug
        Wg = self.Wg_multiplier * self.Wg
        bg = self.bg_multiplier * self.bg
        cell = self.Ua.new_zeros((x.shape[0], self.hidden))
        state = self.Ua.new_zeros((x.shape[0], self.hidden))
        ys = []
        for x_t in x.unbind(1):
            a = F.linear(x_t, self.Ua) + F.linear(state, Wa) + self.ba
            f = F.linear(x_t, Uf) + F.linear(state, Wf) + bf
            o = F.linear(x_t, self.Uo) + F.linear(state, Wo) + bo
            g = F.linear(x_t, Ug) + F.linear(state, Wg) + bg
            cell = torch.sigmoid(f) * cell + torch.sigmoid(a) * torch.tanh(g)
            state = torch.sigmoid(o) * torch.tanh(cell)
            ys.append(state)
        y = torch.stack(ys, dim=1)
        return y


class Ssm(nn.Module):
    """Block ssm."""

    def __init__(self, i: int, states: int) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.empty(i, states))
        self.B = nn.Parameter(torch.empty(i, states))
        self.C = nn.Parameter(torch.empty(i, states))
        self.D = nn.Parameter(torch.empty(i))
        self.A_multiplier = 1.0  # set by set_multipliers
        self.B_multiplier = 1.0  # set by set_multipliers
        self.C_multiplier = 1.0  # set by set_multipliers
        self.D_multiplier = 1.0  # set by set_multipliers
        self.i = i
        self.states = states

    def forward(self, x: Tensor) -> Tensor:
        decay = torch.sigmoid(self.A_multiplier * self.A)
        B = self.B_multiplier * self.B
        C = self.C_multiplier * self.C
        D = self.D_multiplier * self.D
        state = self.A.new_zeros((x.shape[0], self.i, self.states))
        ys = []
        for x_t in x.unbind(1):
            state = decay * state + B * x_t[:, :, None]
            z = torch.einsum("is,bis->bi", C, state)
            y = z + D * x_t
            ys.append(y)
        y = torch.stack(ys, dim=1)
        return y


class Linear(nn.Module):
    """Block linear."""

    def __init__(self, i: int, features: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(features, i))
        self.b = nn.Parameter(torch.empty(features))
        self.b_multiplier = 1.0  # set by set_multipliers

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.W, self.b_multiplier * self.b)


class Layer(nn.Module):
    """Block layer."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.linear = Linear(i=2 * n, features=2 * n)

    def forward(self, last: Tensor) -> Tensor:
        return torch.tanh(self.linear(last)) + last


class Linear2(nn.Module):
    """Block linear."""

    def __init__(self, i: int, features: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(features, i))
        self.b = nn.Parameter(torch.empty(features))
        self.W_multiplier = 1.0  # set by set_multipliers

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.W_multiplier * x, self.W, self.b)


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


class Recurrent(nn.Module):
    """The whole network."""

    def __init__(self, n: int = 32) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(2, 2 * n))
        self.rnn = Rnn(i=3, hidden=n)
        self.gru = Gru(i=n, hidden=n)
        self.lstm = Lstm(i=n, hidden=2 * n)
        self.ssm = Ssm(i=2 * n, states=3)
        self.layers = Layer(n=n)
        self.linear = Linear2(i=2 * n, features=4)
        self.W_multiplier = 1.0  # set by set_multipliers
        self.widths = {"n": n}
        self.set_multipliers()
        self.reset_parameters()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r = self.gru(self.rnn(x))
        s = self.ssm(self.lstm(r))
        last = s[:, -1]
        z = last
        for _ in range(3):
            z = self.layers(z)
        f = self.linear(z)
        g = F.linear(self.W_multiplier * s, self.W)
        return f, g

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
            torch.optim.AdamW([g for g in groups if g["optimizer"] == "adamw"], betas=(0.9, 0.999)),
            torch.optim.SGD(
                [g for g in groups if g["optimizer"] == "sgd"], momentum=0.0, dampening=0.0
            ),
        )

    def loss(self, f: Tensor, g: Tensor, f_target: Tensor, g_target: Tensor) -> Tensor:
        """The loss to minimise, averaged over the batch."""
        return F.mse_loss(f, f_target) / 2 + 0.5 * (F.mse_loss(g, g_target) / 2)

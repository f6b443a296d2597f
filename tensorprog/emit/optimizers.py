"""Optimizers in emitted code: how each is constructed, and classes for those that PyTorch does not have."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import dedent

from tensorprog.emit.format import Code, call, fold, number
from tensorprog.errors import TensorProgError
from tensorprog.optimizers import OPTIMIZERS, Optimizer

_SHARED = ("lr", "weight_decay", "eps")  # go through the parameter groups
_FACTORS = {
    "": "1.0",
    "original": "max(1.0, rows / columns) ** 0.5",
    "match_rms": "0.2 * max(rows, columns) ** 0.5",
    "spectral": "(rows / columns) ** 0.5",
}
_CLASSES = {"lion": "Lion", "signsgd": "SignSGD", "lamb": "LAMB", "lars": "LARS"}


def class_name(optimizer: Optimizer) -> str:
    """As written in a call."""
    if optimizer.torch is not None:
        return f"torch.optim.{optimizer.torch}"
    if optimizer.normalisation == "spectral":
        return "Muon"
    if optimizer.name in _CLASSES:
        return _CLASSES[optimizer.name]
    raise TensorProgError(f"the optimizer {optimizer.name!r} cannot be emitted")


def hyperparameters(optimizer: Optimizer, options: Mapping[str, float]) -> dict[str, float]:
    """The defaults, overridden. Raises TensorProgError for an option it does not have."""
    values = dict(optimizer.defaults)
    for name, value in options.items():
        if name not in values:
            raise TensorProgError(
                f"the optimizer {optimizer.name} has no option {name!r}", fix=f"one of {', '.join(values)}"
            )
        values[name] = float(value)
    return values


def construction(optimizer: Optimizer, values: Mapping[str, float], groups: Code) -> Code:
    """The call that makes the optimizer from its parameter groups."""
    keywords: dict[str, str] = {}
    for name, value in values.items():
        match name:
            case "lr" | "weight_decay" | "eps":
                continue
            case "beta1":
                keywords["betas"] = f"({number(float(value)).text}, {number(float(values['beta2'])).text})"
            case "beta2":
                continue
            case "eps2":
                keywords["eps"] = f"(None, {number(float(value)).text})"
            case "nesterov":
                keywords["nesterov"] = str(bool(value))
            case "ns_steps":
                keywords["ns_steps"] = str(int(value))
            case _:
                keywords[name] = number(float(value)).text
    if optimizer.name == "momentum" or (optimizer.torch == "SGD" and not values["nesterov"]):
        keywords.pop("nesterov", None)
    if optimizer.factor:
        keywords["factor"] = f'"{optimizer.factor}"'
    return call(class_name(optimizer), groups, **keywords)


def shared_text(values: Mapping[str, float]) -> str:
    """The entry of HYPERPARAMETERS: what `param_groups` scales."""
    parts = [f"{name}={number(float(values[name])).text}" for name in _SHARED if name in values]
    return f"dict({', '.join(parts)})"


def definitions(names: list[str]) -> list[str]:
    """Classes (each as text) for the optimizers among `names` that PyTorch does not have, and for mixing several."""
    wanted = {}
    for name in names:
        optimizer = OPTIMIZERS[name]
        if optimizer.torch is None:
            wanted[class_name(optimizer)] = optimizer.name
    found = []
    for cls in sorted(wanted):
        text = _TEXTS[cls]
        if cls == "Muon":
            used = sorted({OPTIMIZERS[n].factor for n in names if OPTIMIZERS[n].normalisation == "spectral"})
            if used == [""]:
                text = (
                    text.replace(_MUON_HEAD, _MUON_PLAIN)
                    .replace(", factor=None", "")
                    .replace(_MUON_FACTOR, "")
                    .replace(" * factor", "")
                )
                text = text.replace(_MUON_KEY, "")
            else:
                lines = "".join(
                    f'                {"if" if k == 0 else "elif"} group["factor"] == "{f}":\n'
                    f"                    factor = {_FACTORS[f]}\n"
                    for k, f in enumerate(u for u in used if u)
                )
                text = text.replace(_MUON_FACTOR, "                factor = 1.0\n" + lines)
        found.append(text)
    if len(names) > 1:
        found.append(_MIXED)
    return [text.strip("\n") for text in found]


def configure(names: list[str], values: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The body of `configure_optimizer` after the docstring."""
    lines = ["groups = self.param_groups(lr, weight_decay, eps)"]
    if len(names) == 1:
        made = construction(OPTIMIZERS[names[0]], values[names[0]], Code("groups"))
        return [*lines, *fold(f"return {made.text}", 92)]
    chosen = '[g for g in groups if g["optimizer"] == "%s"]'
    parts = [construction(OPTIMIZERS[n], values[n], Code(chosen % n)).text for n in names]
    lines += ["return Optimizers("]
    for part in parts:
        lines += ["    " + line for line in fold(part + ",", 88)]
    return [*lines, ")"]


_MUON_FACTOR = "                <factor>\n"
_MUON_KEY = ", factor=factor"
_MUON_HEAD = """\
    def __init__(
        self, params, lr=2e-2, momentum=0.95, nesterov=True, ns_steps=5, weight_decay=0.0, factor=None
    ):
"""
_MUON_PLAIN = """\
    def __init__(self, params, lr=2e-2, momentum=0.95, nesterov=True, ns_steps=5, weight_decay=0.0):
"""

_STEP = """
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
"""

_LION = (
    '''
class Lion(torch.optim.Optimizer):
    """Sign of an interpolated momentum, decoupled decay (Chen 2023, arXiv:2302.06675)."""

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))
'''
    + _STEP
    + """\
                if not state:
                    state["first"] = torch.zeros_like(p)
                beta1, beta2 = group["betas"]
                p.mul_(1 - lr * decay)
                p.sub_(state["first"].lerp(grad, 1 - beta1).sign(), alpha=lr)
                state["first"].lerp_(grad, 1 - beta2)
        return loss
"""
)

_SIGN = (
    '''
class SignSGD(torch.optim.Optimizer):
    """Sign of the gradient or of its mean, decoupled decay (Bernstein 2018, arXiv:1802.04434)."""

    def __init__(self, params, lr=1e-3, momentum=0.0, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))
'''
    + _STEP
    + """\
                if group["momentum"]:
                    if not state:
                        state["first"] = torch.zeros_like(p)
                    grad = state["first"].lerp_(grad, 1 - group["momentum"])
                p.mul_(1 - lr * decay)
                p.sub_(grad.sign(), alpha=lr)
        return loss
"""
)

_LAMB = (
    '''
class LAMB(torch.optim.Optimizer):
    """Adam's update at the parameter's own rms, decoupled decay (You 2020, arXiv:1904.00962)."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))
'''
    + _STEP
    + """\
                if not state:
                    state["step"] = 0
                    state["first"], state["second"] = torch.zeros_like(p), torch.zeros_like(p)
                beta1, beta2 = group["betas"]
                state["step"] += 1
                state["first"].lerp_(grad, 1 - beta1)
                state["second"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
                root = state["second"].sqrt() / (1 - beta2 ** state["step"]) ** 0.5
                update = state["first"] / (root + group["eps"])
                size = update.square().mean().sqrt()
                scale = p.square().mean().sqrt().clamp(min=1e-3)  # zeros can start to move
                p.mul_(1 - lr * decay)
                p.sub_(update * torch.where(size > 0, lr * scale / size, 0.0))
        return loss
"""
)

_LARS = (
    '''
class LARS(torch.optim.Optimizer):
    """Momentum with a trust ratio per tensor, coupled decay (You 2017, arXiv:1708.03888)."""

    def __init__(self, params, lr=1.0, momentum=0.9, trust=1e-3, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, trust=trust, weight_decay=weight_decay))
'''
    + _STEP
    + """\
                if not state:
                    state["velocity"] = torch.zeros_like(p)
                scale = p.square().mean().sqrt().clamp(min=1e-3)  # zeros can start to move
                size = grad.square().mean().sqrt() + decay * scale
                factor = torch.where(size > 0, lr * group["trust"] * scale / size, 0.0)
                state["velocity"].mul_(group["momentum"]).add_(factor * (grad + decay * p))
                p.sub_(state["velocity"])
        return loss
"""
)

_MUON = (
    '''
class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum in full precision, decoupled decay (Jordan et al. 2024).

    A tensor with more than two axes is a matrix [first axis, all others].
    """

    def __init__(
        self, params, lr=2e-2, momentum=0.95, nesterov=True, ns_steps=5, weight_decay=0.0, factor=None
    ):
        defaults = dict(lr=lr, momentum=momentum, nesterov=nesterov, ns_steps=ns_steps)
        super().__init__(params, dict(defaults, weight_decay=weight_decay, factor=factor))

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
'''
    + _STEP
    + """\
                if not state:
                    state["first"] = torch.zeros_like(p)
                first = state["first"].lerp_(grad, 1 - group["momentum"])
                if group["nesterov"]:
                    first = grad.lerp(first, group["momentum"])
                update = self.orthogonalise(first.flatten(1), group["ns_steps"])
"""
    + "                rows, columns = update.shape\n"
    + _MUON_FACTOR
    + """\
                p.mul_(1 - lr * decay)
                p.sub_(update.view_as(p), alpha=lr * factor)
        return loss
"""
)

_MIXED = dedent('''
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
''')

_TEXTS = {"Lion": _LION, "SignSGD": _SIGN, "LAMB": _LAMB, "LARS": _LARS, "Muon": _MUON}

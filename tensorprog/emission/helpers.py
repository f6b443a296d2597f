"""Fixed text of the emitted file: small functions it may need, and the methods of the main class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from textwrap import dedent

from tensorprog.emission.format import fold
from tensorprog.emission.module import ClassPrinter
from tensorprog.graph import Input
from tensorprog.model import Compute, Loop, Model, Module, Use
from tensorprog.optimizers import Optimizer

COMMENT = [
    "# name: its start at the base width, then the exponents of what scales. A quantity at width n is",
    '# (its value at the base width) * (n / BASE["n"]) ** exponent; what is not listed does not scale.',
    "# A parameter without lr is frozen.",
]

_RATIO = '''
def ratio(widths: dict, exponents: dict) -> float:
    """Product of (width / base width) ** exponent: exactly 1.0 at the base widths."""
    value = 1.0
    for symbol, exponent in exponents.items():
        value *= (widths[symbol] / BASE[symbol]) ** exponent
    return value
'''

_FIND = '''
def find(table: dict, name: str):
    """The entry for a dotted name; `*` in a key stands for any layer number."""
    star = ".".join("*" if part.isdigit() else part for part in name.split("."))
    return table[name] if name in table else table[star]
'''

_DIVIDE = '''
def divide(size: int, by: int, what: str) -> int:
    """size / by, which must be a whole number."""
    if size % by:
        raise ValueError(f"{what}: {size} is not divisible by {by}")
    return size // by
'''

_WINDOWS = '''
def windows(x: Tensor, axis: int, count: int, taps, stride: int, dilation: int, low: int) -> Tensor:
    """y[.., u, a, ..] = x[.., stride * u + dilation * a + low, ..], else 0 (taps None: no a)."""
    at = stride * torch.arange(count, device=x.device) + low
    if taps is not None:
        at = at[:, None] + dilation * torch.arange(taps, device=x.device)
    size = x.shape[axis]
    y = x.movedim(axis, -1)[..., at.clamp(0, size - 1)]
    y = torch.where((at >= 0) & (at < size), y, 0.0)
    return y.movedim(-1, axis) if taps is None else y.movedim((-2, -1), (axis, axis + 1))
'''

_UNWINDOWS = '''
def unwindows(x: Tensor, axis: int, size: int, stride: int, dilation: int, offset: int, taps: bool):
    """y[.., stride * u + dilation * a + offset, ..] = sum of x[.., u, a, ..], zero elsewhere."""
    at = stride * torch.arange(x.shape[axis], device=x.device) + offset
    if taps:
        at = (at[:, None] + dilation * torch.arange(x.shape[axis + 1], device=x.device)).flatten()
        x = x.flatten(axis, axis + 1)
    inside = ((at >= 0) & (at < size)).to(x.dtype)
    x = x * inside.reshape(-1, *[1] * (x.ndim - axis - 1))
    y = x.new_zeros((*x.shape[:axis], size, *x.shape[axis + 1 :]))
    return y.index_add(axis, at.clamp(0, size - 1), x)
'''

_MASKED = '''
def masked_softmax(x: Tensor, dim: int, key: int, compare, query: int) -> Tensor:
    """Softmax over `dim` where compare(key position, query position); weight 0 elsewhere."""
    keys = torch.arange(x.shape[key], device=x.device).reshape(-1, *[1] * (x.ndim - key - 1))
    queries = torch.arange(x.shape[query], device=x.device).reshape(-1, *[1] * (x.ndim - query - 1))
    allowed = compare(keys, queries)
    lowest = torch.finfo(x.dtype).min
    return torch.where(allowed, F.softmax(torch.where(allowed, x, lowest), dim=dim), 0.0)
'''

_TOP_K = '''
def top_k_mask(x: Tensor, k: int, dim: int) -> Tensor:
    """1 at the k largest entries along `dim` (ties: lowest position first), 0 elsewhere."""
    order = x.detach().sort(dim=dim, descending=True, stable=True).indices
    return torch.zeros_like(x).scatter(dim, order.narrow(dim, 0, k), 1.0)
'''

# in the order in which they are printed
TEXTS = {
    "ratio": _RATIO,
    "find": _FIND,
    "divide": _DIVIDE,
    "windows": _WINDOWS,
    "unwindows": _UNWINDOWS,
    "masked_softmax": _MASKED,
    "top_k_mask": _TOP_K,
}

_SET_MULTIPLIERS = '''
def set_multipliers(self) -> None:
    """Multipliers at these widths, as plain floats on the blocks that use them."""
    for key, (value, exponents) in MULTIPLIERS.items():
        path, _, attribute = key.rpartition(".")
        for name, module in self.named_modules():
            star = ".".join("*" if part.isdigit() else part for part in name.split("."))
            if path in (name, star):
                setattr(module, attribute, value * ratio(self.widths, exponents))
'''

_RESET = '''
@torch.no_grad()
def reset_parameters(self, generator: torch.Generator | None = None) -> None:
    """Initial values at these widths; reproducible from torch.manual_seed or the generator."""
    for name, parameter in self.named_parameters():
        rule = find(PARAMETERS, name)
        kind, value = rule["init"]
        value *= ratio(self.widths, rule.get("init_std", {}))
        if kind == "normal":
            nn.init.normal_(parameter, std=value, generator=generator)
<orthogonal>        else:
            parameter.fill_(value)
'''

_ORTHOGONAL = """\
        elif kind == "orthogonal":  # value: the size of one entry
            matrix = parameter.new_empty((len(parameter), parameter[0].numel()))
            value *= max(matrix.shape) ** 0.5
            nn.init.orthogonal_(matrix, gain=value, generator=generator)
            parameter.copy_(matrix.view_as(parameter))
"""

_GROUPS = '''
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
        for key, value in HYPERPARAMETERS["<only>"].items():
            value = value if given[key] is None else given[key]
            group[key] = value * ratio(self.widths, rule.get(key, {}))
        label = str({key: rule.get(key) for key in ("lr", "weight_decay", "eps")})
        group = groups.setdefault(label, group)
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())
'''


def scaled(optimizers: Sequence[Optimizer]) -> list[str]:
    """The hyperparameters that scale with the width, by name: lr, weight_decay, eps, and those of these optimizers."""
    own = [name for o in optimizers for name in o.scaled]
    return list(dict.fromkeys(["lr", "weight_decay", "eps", *own]))


# what changes where other hyperparameters than lr, weight_decay and eps scale
_SCALED = {"given[key]": "given.get(key)", '"lr", "weight_decay", "eps")': "<keys>)"}

# what changes where several optimizers share the parameters
_MIXED = {
    "for the optimizer:": "for the optimizers:",
    "HYPERPARAMETERS.\n": "HYPERPARAMETERS.\n    Each may be a dict by optimizer name.\n",
    '"names": []}': '"names": [], "optimizer": rule["optimizer"]}',
    'HYPERPARAMETERS["<only>"]': 'HYPERPARAMETERS[rule["optimizer"]]',
    "            value = value if given[key] is None else given[key]\n": (
        "            chosen = given[key]\n"
        "            if isinstance(chosen, dict):\n"
        '                chosen = chosen.get(rule["optimizer"])\n'
        "            value = value if chosen is None else chosen\n"
    ),
    'for key in ("lr",': 'for key in ("optimizer", "lr",',
}


def methods(multipliers: bool, orthogonal: bool, optimizers: Sequence[Optimizer]) -> list[str]:
    """The training helpers of the main class: whether there are multipliers, and parameters that start orthogonal."""
    texts = [_SET_MULTIPLIERS] if multipliers else []
    texts.append(_RESET.replace("<orthogonal>", _ORTHOGONAL if orthogonal else ""))
    if optimizers:
        groups = _GROUPS
        if len(optimizers) > 1:
            for old, new in _MIXED.items():
                groups = groups.replace(old, new)
        keys = scaled(optimizers)
        if len(keys) > 3:
            for old, new in _SCALED.items():
                groups = groups.replace(old, new)
            groups = groups.replace("<keys>", ", ".join(f'"{key}"' for key in keys))
        texts.append(groups.replace("<only>", optimizers[0].name))
    lines = "\n\n".join(dedent(text).strip("\n") for text in texts).split("\n")
    return [part for line in lines for part in fold(line, 96)]


# --- the loss -----------------------------------------------------------------------------------------------


def loss_method(printer: ClassPrinter, model: Model, inputs: Sequence[int]) -> list[str]:
    """`loss(outputs, target)`; `training_loss(inputs, target)` if the loss needs more than the outputs."""
    top = model.top
    if model.loss not in {v.id for v in top.values}:
        return []
    targets = {
        s.out: s.op.name
        for s in top.steps
        if isinstance(s, Compute) and isinstance(s.op, Input) and s.op.kind == "target"
    }
    outputs = {value: name for name, value in model.outputs}
    given = {**outputs, **targets}
    pruned = replace(top, steps=tuple(s for s in top.steps if not (_outs(s) & set(given))))
    if _missing(pruned, model.loss, set(given)):
        names = {s.out: s.op.name for s in top.steps if isinstance(s, Compute) and isinstance(s.op, Input)}
        formals = [*inputs, *targets]
        doc = "The loss of one batch, which needs more than the outputs."
        return printer.method(
            "training_loss", top, formals, [names[f] for f in formals], [model.loss], printer.tokens, doc
        )
    needed = [v for v in given if v in outputs or v in _leaves(pruned, model.loss)]
    doc = "The loss to minimise, averaged over the batch."
    return printer.method("loss", pruned, needed, [given[v] for v in needed], [model.loss], frozenset(), doc)


def _outs(step: Compute | Use | Loop) -> set[int]:
    return {*step.outs, *(c for c, _ in step.collected)} if isinstance(step, Loop) else {step.out}


def _leaves(module: Module, root: int) -> set[int]:
    """What the steps read to compute `root` without computing it themselves, and inputs."""
    wanted, leaves = {root}, {root}
    for step in reversed(module.steps):
        outs = _outs(step)
        if not outs & wanted:
            continue
        if isinstance(step, Compute) and isinstance(step.op, Input):
            continue
        leaves -= outs
        args = (*step.carried, *step.captured, *(s for s, _ in step.sliced)) if isinstance(step, Loop) else step.args
        wanted |= set(args)
        leaves |= set(args)
    return leaves


def _missing(module: Module, root: int, given: set[int]) -> bool:
    return bool(_leaves(module, root) - given)

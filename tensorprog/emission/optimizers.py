"""Optimizers in emitted code: how each is constructed, and classes for those that PyTorch does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import dedent

from tensorprog.emission import optimizer_formulas
from tensorprog.emission.format import Code, call, fold, number
from tensorprog.emission.helpers import scaled
from tensorprog.emission.optimizer_texts import MUON_FACTOR, MUON_HEAD, MUON_KEY, MUON_PLAIN, TEXTS
from tensorprog.errors import TensorProgError
from tensorprog.optimizers import Optimizer

_FACTORS = {
    "": "1.0",
    "original": "max(1.0, rows / columns) ** 0.5",
    "match_rms": "0.2 * max(rows, columns) ** 0.5",
    "spectral": "(rows / columns) ** 0.5",
}
_CLASSES = {"lion": "Lion", "signsgd": "SignSGD", "lamb": "LAMB", "lars": "LARS", "shampoo": "Shampoo", "soap": "SOAP"}
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


def class_name(optimizer: Optimizer) -> str:
    """As written in a call."""
    if optimizer.torch is not None:
        return f"torch.optim.{optimizer.torch}"
    if optimizer.formula is not None:
        return optimizer_formulas.class_name(optimizer)
    if optimizer.name.startswith("muon") and optimizer.step is None:
        return "Muon"
    if optimizer.name in _CLASSES:
        return _CLASSES[optimizer.name]
    raise TensorProgError(
        f"the optimizer `{optimizer.name}` cannot be emitted",
        why="its step is a Python function, which has no text in PyTorch",
        fix="its definition by formulas (tensorprog.optimizer), or a class of torch.optim (Optimizer(.., torch=..))",
    )


def construction(optimizer: Optimizer, values: Mapping[str, float], groups: Code) -> Code:
    """The call that makes the optimizer from its parameter groups."""
    if optimizer.formula is not None:
        given = {n: number(float(v)).text for n, v in values.items()}
        shared = ("lr", "weight_decay", *optimizer.scaled)
        return call(class_name(optimizer), groups, **{n: v for n, v in given.items() if n not in shared})
    keywords: dict[str, str] = {}
    for name, value in values.items():
        if name in ("lr", "weight_decay", *optimizer.scaled):
            continue  # goes through the parameter groups
        match name:
            case "beta1":
                keywords["betas"] = f"({number(float(value)).text}, {number(float(values['beta2'])).text})"
            case "beta2":
                continue
            case "eps2":
                keywords["eps"] = f"(None, {number(float(value)).text})"
            case "nesterov":
                keywords["nesterov"] = str(bool(value))
            case "ns_steps" | "precondition_frequency" | "max_precond_dim":
                keywords[name] = str(int(value))
            case _:
                keywords[name] = number(float(value)).text
    if optimizer.name == "momentum" or (optimizer.torch == "SGD" and not values["nesterov"]):
        keywords.pop("nesterov", None)
    if optimizer.factor:
        keywords["factor"] = f'"{optimizer.factor}"'
    return call(class_name(optimizer), groups, **keywords)


def shared_text(optimizer: Optimizer, values: Mapping[str, float]) -> str:
    """The entry of HYPERPARAMETERS: what `param_groups` scales."""
    parts = [f"{name}={number(float(values[name])).text}" for name in scaled([optimizer]) if name in values]
    return f"dict({', '.join(parts)})"


def definitions(optimizers: Sequence[Optimizer]) -> list[str]:
    """Classes (each as text) for those of the optimizers that PyTorch does not have, and for mixing several."""
    found = [optimizer_formulas.class_text(o) for o in optimizers if o.formula is not None]
    if any("orthogonal(" in text for text in found):
        found.insert(0, optimizer_formulas.ORTHOGONAL)
    wanted = {}
    for optimizer in optimizers:
        if optimizer.torch is None and optimizer.formula is None:
            wanted[class_name(optimizer)] = optimizer.name
    for cls in sorted(wanted):
        text = TEXTS[cls]
        if cls == "Muon":
            used = sorted({o.factor for o in optimizers if o.torch is None and class_name(o) == "Muon"})
            if used == [""]:
                text = (
                    text.replace(MUON_HEAD, MUON_PLAIN)
                    .replace(", factor=None", "")
                    .replace(MUON_FACTOR, "")
                    .replace(" * factor", "")
                )
                text = text.replace(MUON_KEY, "")
            else:
                lines = "".join(
                    f'                {"if" if k == 0 else "elif"} group["factor"] == "{f}":\n'
                    f"                    factor = {_FACTORS[f]}\n"
                    for k, f in enumerate(u for u in used if u)
                )
                text = text.replace(MUON_FACTOR, "                factor = 1.0\n" + lines)
        found.append(text)
    if len(optimizers) > 1:
        alone = next((o for o in optimizers if o.probe is not None), None)
        if alone is not None:
            raise TensorProgError(
                f"the optimizer `{alone.name}` cannot be emitted together with another one",
                why="it takes the gradient at perturbed weights, in a step of its own",
                fix="one such optimizer for all parameters",
            )
        found.append(_MIXED)
    return [text.strip("\n") for text in found]


def configure(optimizers: Sequence[Optimizer], values: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The body of `configure_optimizer` after the docstring."""
    lines = ["groups = self.param_groups(lr, weight_decay, eps)"]
    if len(optimizers) == 1:
        made = construction(optimizers[0], values[optimizers[0].name], Code("groups"))
        return [*lines, *fold(f"return {made.text}", 92)]
    chosen = '[g for g in groups if g["optimizer"] == "%s"]'
    parts = [construction(o, values[o.name], Code(chosen % o.name)).text for o in optimizers]
    lines += ["return Optimizers("]
    for part in parts:
        lines += ["    " + line for line in fold(part + ",", 88)]
    return [*lines, ")"]

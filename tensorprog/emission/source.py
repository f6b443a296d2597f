"""The emitted file as a whole: header, tables, helpers, block classes, the main class with its training helpers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath

from tensorprog import __name__ as tool
from tensorprog.emission import helpers
from tensorprog.emission.format import block, fold
from tensorprog.emission.module import CLASS, ClassPrinter, Emission
from tensorprog.emission.names import OWN_GLOBALS, camel_case, check_identifier
from tensorprog.emission.optimizers import configure, definitions, shared_text
from tensorprog.emission.tables import merged, multiplier_text, parameter_text, updater
from tensorprog.errors import TensorProgError
from tensorprog.graph import Input
from tensorprog.model import Compute, Model
from tensorprog.optimizers import Optimizer
from tensorprog.parametrization import Parametrization


def emit_torch(
    model: Model, parametrization: Parametrization, base: Mapping[str, int], source_name: str, what: str, maximal: bool
) -> str:
    """See `tensorprog.emission.emit`."""
    depths = dict(model.depths)
    for symbol in (*model.widths, *depths):
        check_identifier(symbol)
    for symbol in model.widths:
        if base.get(symbol, 0) < 1:
            raise TensorProgError(f"there is no base width for {symbol}", fix=f"{symbol}=64, for example",
                                  why="constants are relative to the base widths")  # fmt: skip
    known = {**depths, **base}
    file = Emission(model, parametrization, known)
    name = camel_case(PurePath(source_name.replace("\\", "/")).name.rpartition(".")[0] or source_name)
    main = file.main = file.names.add(f"{name}Model" if name in OWN_GLOBALS or name == "Tensor" else name)
    main_lines = main_class(file, known)
    optimizers, values = _optimizers(file)
    names = [o.name for o in optimizers]
    rows = merged(file.tables.parameters, parameter_text(parametrization, known, len(names) > 1))
    multipliers = merged(file.tables.multipliers, multiplier_text(known))
    separate = any(part.isdigit() for key in (*rows, *multipliers) for part in key.split("."))
    main_lines = _finish(main_lines, depths, known, separate, bool(multipliers))
    starts = [(row.parameter.init.kind, parametrization.params[row.graph_path].init_std)
              for same in file.tables.parameters for row in same]  # fmt: skip
    orthogonal = any(kind == "orthogonal" and std is not None for kind, std in starts)
    methods = helpers.methods(bool(multipliers), orthogonal, optimizers)
    main_lines += ["", *("    " + line if line else "" for line in methods)]
    main_lines += _configure(optimizers, values)
    main_lines += _losses(file)

    parts = ["\n".join(_header(file, known, source_name, names, main, what, maximal))]
    constants = [f"BASE = {_dict({s: str(known[s]) for s in (*model.widths, *depths)})}", ""]
    constants += [*helpers.COMMENT, *_table("PARAMETERS", rows)]
    if multipliers:
        constants += ["", "# (value at the base width, exponents)", *_table("MULTIPLIERS", multipliers)]
    if names:
        constants += ["", *_table("HYPERPARAMETERS", {o.name: shared_text(o, values[o.name]) for o in optimizers})]
    parts[0] += "\n" + "\n".join(constants)
    uses_divide = any("divide(" in text for text in (*file.classes, *main_lines))
    used = {"ratio", "find"} | ({"divide"} if uses_divide else set()) | file.helpers
    body = [
        *(helpers.TEXTS[h] for h in helpers.TEXTS if h in used),
        *file.definitions,
        *(text.replace(CLASS, cls) for text, cls in file.classes.items()),
        *definitions(optimizers),
        "\n".join(main_lines).replace(CLASS, main),
    ]
    return "\n\n\n".join([*parts, *(text.strip("\n") for text in body)]) + "\n"


def main_class(file: Emission, known: Mapping[str, int]) -> list[str]:
    """The lines of the class of the whole network."""
    model = file.model
    roots = [value for _, value in model.outputs]
    inputs = {}
    for step in model.top.steps:
        if isinstance(step, Compute) and isinstance(step.op, Input) and step.op.kind != "target":
            inputs[step.out] = step.op
    tokens = frozenset(k for k, op in enumerate(inputs.values()) if op.kind == "tokens")
    printer = ClassPrinter(file, model.top, (("", ""),), tokens, [op.name for op in inputs.values()])
    names = [op.name for op in inputs.values()]
    forward = printer.method("forward", model.top, tuple(inputs), names, roots, tokens)
    file.loss = helpers.loss_method(printer, model, tuple(inputs))  # may need sizes and blocks of its own
    head, _ = printer.head("The whole network.", known)
    return [*head, "§finish§", "", *("    " + line if line else "" for line in forward)]


def _finish(
    lines: list[str], depths: Mapping[str, int], known: Mapping[str, int], separate: bool, multipliers: bool
) -> list[str]:
    """The end of the constructor."""
    signature = "".join(lines[: next(k for k, line in enumerate(lines) if "super()" in line)])
    mine = {s: s for s in known if re.search(rf"\b{s}: int", signature)}
    extra = []
    if separate:
        for symbol in depths:
            if symbol in mine:
                message = f"the exponents of the layers differ: they hold for {symbol} = {depths[symbol]} only"
                extra += [f"if {symbol} != {depths[symbol]}:", f'    raise ValueError("{message}")']
    extra += [f"self.widths = {_dict({s: mine.get(s, str(known[s])) for s in known})}"]
    extra += ["self.set_multipliers()"] if multipliers else []
    extra += ["self.reset_parameters()"]
    at = lines.index("§finish§")
    return [*lines[:at], *("        " + line for line in extra), *lines[at + 1 :]]


def _optimizers(file: Emission) -> tuple[list[Optimizer], dict[str, dict[str, float]]]:
    """The optimizers that really update something, and their hyperparameters."""
    parametrization = file.parametrization
    found: dict[str, Optimizer] = {}
    for rows in file.tables.parameters:
        for row in rows:
            rule = parametrization.params.get(row.graph_path)
            if rule is not None and rule.lr is not None and not row.parameter.frozen:
                chosen = updater(row, parametrization)
                if found.setdefault(chosen.name, chosen) != chosen:
                    raise TensorProgError(f"two optimizers are called `{chosen.name}`", fix="another name for one",
                                          why="hyperparameters are listed by the optimizer's name")  # fmt: skip
    default = parametrization.optimizer
    options = dict(file.model.optimizer_options) if file.model.optimizer == default else {}
    values = {
        name: optimizer.hyperparameters({k: float(v) for k, v in options.items()} if name == default else {})
        for name, optimizer in found.items()
    }
    return sorted(found.values(), key=lambda o: (o.name != default, o.name)), values


def _configure(optimizers: list[Optimizer], values: Mapping[str, Mapping[str, float]]) -> list[str]:
    if not optimizers:
        return []
    head = "def configure_optimizer(self, lr=None, weight_decay=None, eps=None) -> torch.optim.Optimizer:"
    body = ['"""The optimizer, with the learning rates in their ratios (LR schedulers keep them)."""']
    return ["", *("    " + line for line in block(head, [*body, *configure(optimizers, values)]))]


def _losses(file: Emission) -> list[str]:
    return ["", *("    " + line if line else "" for line in file.loss)] if file.loss else []


def _header(
    file: Emission, known: Mapping[str, int], source_name: str, names: list[str], main: str, what: str, maximal: bool
) -> list[str]:
    parametrization = file.parametrization
    label = _plain(PurePath(source_name.replace("\\", "/")).name)
    form = _plain(f"{what}, form {parametrization.name}" if what else parametrization.name)
    sizes = ", ".join(f"{symbol} = {known[symbol]}" for symbol in (*file.model.widths, *dict(file.model.depths)))
    powers = (*(rule.lr for rule in parametrization.params.values()), *parametrization.unknowns.values())
    scaled = [s for s in dict(file.model.depths) if any(power is not None and power[s] for power in powers)]
    any_size = "any " + (" and ".join((*file.model.widths, *scaled)) or "width")
    use = (f"Tune at the base and train at {any_size}: hyperparameters carry over." if maximal else
           f"Stable at {any_size}, but not maximal: the updates of some parameters do less and less.")  # fmt: skip
    head = f"Parametrization: {form}. Optimizer: {', '.join(names) or 'none'}. Base: {sizes or 'none'}."
    return [
        f'"""{main}: made by {tool} from {label}.',
        "",
        *fold(head, 100),
        *fold(use, 100),
        '"""',
        "",
        "import torch",
        "import torch.nn.functional as F",
        "from torch import Tensor, nn",
        "",
    ]


def _dict(entries: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'"{key}": {value}' for key, value in entries.items()) + "}"


def _table(name: str, rows: Mapping[str, str]) -> list[str]:
    lines = [f"{name} = {{"]
    for key, text in rows.items():
        lines += ["    " + line for line in fold(f'"{key}": {text},', 96)]
    return [*lines, "}"]


def _plain(text: str) -> str:
    """Text that is safe inside a docstring."""
    return re.sub(r"[^A-Za-z0-9_.,=*?^/+\[\] -]", "?", text)[:200]

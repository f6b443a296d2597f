"""Optimizers by their formulas: `optimizer NAME(lr = .., ..) { m = ..; step = .. }`, each w <- w - lr * step.

What the calculus needs is read off the formulas: the size of every part is a linear form in those of the gradient, the
parameter, the number of its entries and the norm of the whole gradient; sums, comparisons and clipping want equal
sizes. These equations, solved exactly, give the step's degree and normalisation, and how each hyperparameter scales.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from tensorprog import statements as st
from tensorprog import syntax as s
from tensorprog.errors import CalculusError, TensorProgError
from tensorprog.optimizers.arithmetic import Formula, constant, delay_of, step_rule
from tensorprog.optimizers.data import DECAYS, Optimizer, Size
from tensorprog.optimizers.sizes import BASIS, EVEN, GIVEN, ODD, RESERVED, Form, Reader, Value

SETTINGS = ("decay", "vectors")  # not formulas: `decay = coupled`, `vectors = adamw`
_ROUNDS = 4


def define(statement: st.OptimizerDef, source: str = "") -> Optimizer:
    """The optimizer that a definition describes. Raises TensorProgError where its size cannot be told."""
    hyper = _hyperparameters(statement)
    settings, rules = _settings(statement)
    names = [rule.name for rule in rules]
    for rule in rules:
        if rule.name in GIVEN or rule.name in hyper:
            raise TensorProgError(f"`{rule.name}` cannot be assigned", rule.span, fix="another name",
                                  why="it is given, or defined already")  # fmt: skip
    if names.count("step") != 1 or names[-1] != "step":
        raise TensorProgError(f"the optimizer `{statement.name}` has no step", statement.span,
                              why="w <- w - lr * step", fix="`step = ..` as its last line")  # fmt: skip
    reader = Reader(hyper, names)
    given = dict(reader.values)
    for _ in range(_ROUNDS):
        reader.values = dict(given)
        moved = [reader.assign(rule.name, reader.value(rule.value), rule.span) for rule in rules]
        if not any(moved):
            break
    for name in hyper:
        if name not in (*RESERVED, "rho") and name not in reader.used:
            raise TensorProgError(f"the hyperparameter `{name}` is used nowhere", statement.span,
                                  why="it would change nothing",
                                  fix="a formula with it, or no such hyperparameter")  # fmt: skip
    step, span = reader.values["step"], rules[-1].value.span
    reduce = reader.sizes.reduce
    probe = None
    if "perturb" in names:
        probe = _probe(reader, rules[names.index("perturb")])
    size = _plain(reduce(step.size or {}))
    normalisation, relative = _normalisation(step, size, span)
    scales = tuple(
        (name, form) for name in hyper
        if name not in (*RESERVED, "rho") and (form := _plain(reduce({f"#{name}": Fraction(1)}))) != Size()
    )  # fmt: skip
    scalars = frozenset(name for name, value in {**reader.state, **reader.values}.items() if value.kind == "scalar")
    formula = Formula(tuple((r.name, r.value) for r in rules), tuple(reader.state), scalars, statement, not step.linear)
    decay = settings.get("decay", "decoupled" if "weight_decay" in hyper else "none")
    row = Optimizer(
        statement.name, normalisation, source or "defined by its formulas", relative=relative, scales=scales,
        decay=decay, vectors=settings.get("vectors"), defaults=tuple(hyper.items()), probe=probe,
        sampled="sampled" in reader.used, uses_norm="global_norm" in reader.used, formula=formula,
        step=step_rule(formula, decay),
    )  # fmt: skip
    return replace(row, delay=delay_of(row))


def _hyperparameters(statement: st.OptimizerDef) -> dict[str, float]:
    hyper: dict[str, float] = {}
    for item in statement.arguments:
        value = constant(item.value)
        if value is None or item.name in hyper or item.name in GIVEN:
            own_line = item.name in SETTINGS
            raise TensorProgError(f"`{item.name}` is given twice, taken, or no number", item.span,
                                  fix=f"a line `{item.name} = ..` between the braces" if own_line
                                  else f"`{item.name} = 0.1`",
                                  why="a hyperparameter has a name of its own and a number")  # fmt: skip
        hyper[item.name] = float(value)
    if "lr" not in hyper:
        raise TensorProgError(f"the optimizer `{statement.name}` has no learning rate", statement.span,
                              fix=f"`optimizer {statement.name}(lr = 0.001, ..) {{ .. }}`",
                                  why="every step is multiplied by it")  # fmt: skip
    return hyper


def _settings(statement: st.OptimizerDef) -> tuple[dict[str, str], list[st.Assignment]]:
    settings: dict[str, str] = {}
    rules = []
    for rule in statement.rules:
        if rule.name not in SETTINGS:
            rules.append(rule)
            continue
        word = rule.value.id if isinstance(rule.value, s.Name) else ""
        if not word or (rule.name == "decay" and word not in DECAYS[:2]):
            raise TensorProgError(f"`{rule.name}` is not a formula", rule.span,
                                  fix="`decay = decoupled`, `decay = coupled` or `vectors = adamw`",
                                  why="`decay` and `vectors` are chosen by name")  # fmt: skip
        settings[rule.name] = word
    if "decay" in settings and "weight_decay" not in {item.name for item in statement.arguments}:
        raise TensorProgError("there is no `weight_decay` among the hyperparameters", statement.span,
                              why="how it acts is said, but not how large it is",
                              fix=f"`optimizer {statement.name}(.., weight_decay = 0)`")  # fmt: skip
    if not rules:
        raise TensorProgError(f"the optimizer `{statement.name}` has no step", statement.span, fix="`step = g`",
                              why="the step is what a parameter moves by, times the learning rate")  # fmt: skip
    return settings, rules


def _plain(form: Form) -> Size:
    """The size without unknowns that nothing determines: those do not scale."""
    return Size(*(form.get(key, Fraction(0)) for key in BASIS))


def _probe(reader: Reader, rule: st.Assignment) -> Size:
    value = reader.values["perturb"]
    form = reader.sizes.reduce(value.size or {})
    if form.get("#rho") != 1 or value.gradient != ODD or reader.state.keys() & {"perturb"}:
        raise TensorProgError(
            "the perturbation is `rho` times something that changes sign with the gradient", rule.span,
            why="its radius `rho` is derived: as far as a step moves", fix="`perturb = rho * g / global_norm`",
        )  # fmt: skip
    return _plain(form)


def _normalisation(step: Value, size: Size, span: s.Span) -> tuple[str, bool]:
    """The normalisation of a step of this size, and whether it is relative to the parameter."""
    if step.gradient != ODD or not step.parameter & EVEN:
        raise CalculusError(
            "the step must change sign with the gradient, and not with the parameter", span,
            why="its terms inherit the signs of the gradient's: that is what tells aligned sums from others",
            fix="a step that is odd in `g`, such as `g` or `g / rms(g)`")  # fmt: skip
    table = {
        ("entry", Size(1)): "none",
        ("entry", Size(1, norm=-1)): "global",
        ("entry", Size()): "tensor" if step.linear else "entry",
        ("entry", Size(count=Fraction(-1, 2))): "frobenius",
        ("spectral", Size(count=Fraction(-1, 2))): "spectral",
    }
    for relative in (0, 1):
        found = table.get((step.kind, replace(size, parameter=size.parameter - relative)))
        if found and (not relative or found not in ("none", "global")):
            return found, bool(relative)
    parts = {"gradient": size.gradient, "parameter": size.parameter, "entries": size.count, "global_norm": size.norm}
    raise CalculusError(
        "the size of this step is not covered", span,
        why="it is " + (" ".join(f"{k}^{f}" for k, f in parts.items() if f) or "a number"),
        fix="a step linear in the gradient, or one whose scale it does not matter for",
    )  # fmt: skip

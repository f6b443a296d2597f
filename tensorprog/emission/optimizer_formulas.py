"""An optimizer that is defined by its formulas, as a class in the emitted file."""

from __future__ import annotations

from collections.abc import Sequence

from tensorprog import syntax as s
from tensorprog.emission.format import Code, block, call, combined, fold, method, number, power
from tensorprog.emission.names import Namespace, camel_case
from tensorprog.optimizers import Optimizer
from tensorprog.optimizers.arithmetic import SMALLEST_NORM, Formula, constant, mentioned

_TAKEN = frozenset("p grad group state lr decay loss self closure torch norm params moved F Tensor nn".split())


def class_name(optimizer: Optimizer) -> str:
    """`AdoptOptimizer`."""
    return camel_case(optimizer.name) + "Optimizer"


def class_text(optimizer: Optimizer) -> str:
    """The class, with the steps that tensorprog takes in NumPy."""
    formula = optimizer.formula
    assert formula is not None
    writer = _Writer(optimizer, formula)
    parts = [writer.constructor()]
    if optimizer.sampled:
        parts.append(_SAMPLE)
    if optimizer.probe is not None:
        parts.append(writer.perturb())
    parts.append(writer.step())
    body = [*writer.docstring(), "", *"\n\n".join("\n".join(part) for part in parts).split("\n")]
    return "\n".join(block(f"class {class_name(optimizer)}(torch.optim.Optimizer):", body))


_SAMPLE = '''\
def take_sampled(self, count):
    """To be called after backward() of the loss at `count` targets drawn from the model."""
    for group in self.param_groups:
        for p in group["params"]:
            if p.grad is not None:
                self.state[p]["sampled"] = p.grad * count**0.5'''.split("\n")


class _Writer:
    def __init__(self, optimizer: Optimizer, formula: Formula) -> None:
        self.optimizer, self.formula = optimizer, formula
        self.hyper = [name for name, _ in optimizer.defaults]
        space = Namespace(_TAKEN)
        assigned = [name for name, _ in formula.rules]
        self.names = {"w": "p", "g": "grad", "global_norm": "norm"}
        for name in dict.fromkeys([*self.hyper, *assigned, *formula.state, "t", "sampled"]):
            if name not in ("lr", "weight_decay"):
                self.names[name] = space.add(name)
        self.scalars = {*self.hyper, "t", "global_norm", *formula.scalars}

    def docstring(self) -> list[str]:
        from tensorprog.printer import format_statement

        lines = [part for line in format_statement(self.formula.statement, frozenset()) for part in fold(line, 96)]
        source = fold_words(self.optimizer.source, 92)
        return ['"""' + source[0], *source[1:], "", *lines, '"""']

    def constructor(self) -> list[str]:
        defaults = [f"{name}={number(value).text}" for name, value in self.optimizer.defaults]
        names = ", ".join(f"{name}={name}" for name, _ in self.optimizer.defaults)
        head = fold(f"def __init__(self, params, {', '.join(defaults)}):", 96)
        return [*head, *("    " + line for line in fold(f"super().__init__(params, dict({names}))", 92))]

    def perturb(self) -> list[str]:
        expr = dict(self.formula.rules)["perturb"]
        moved = Code(f"moved = {self.code(expr).text}")
        return [
            "@torch.no_grad()",
            "def perturb(self):",
            '    """Moves the weights to where the gradient of the step is taken; returns the old ones."""',
            *self._norm("    "),
            "    before = {}",
            "    for group in self.param_groups:",
            *("        " + line for line in self._hyper([expr])),
            '        for p in group["params"]:',
            "            if p.grad is not None:",
            "                grad = p.grad",
            *("                " + line for line in _folded(moved.text)),
            "                before[p] = p.clone()",
            "                p.add_(moved)",
            "    return before",
        ]

    def step(self) -> list[str]:
        lines = ["@torch.no_grad()"]
        if self.optimizer.probe is not None:
            lines += [
                "def step(self, closure):",
                '    """`closure` zeroes the gradients, computes them, returns the loss; it is called twice."""',
                "    with torch.enable_grad():",
                "        loss = closure()",
                "    before = self.perturb()",
                "    with torch.enable_grad():",
                "        closure()",
                "    for p, w in before.items():",
                "        p.copy_(w)",
            ]
        else:
            lines += [
                "def step(self, closure=None):",
                "    loss = None",
                "    if closure is not None:",
                "        with torch.enable_grad():",
                "            loss = closure()",
            ]
        rules = [(name, expr) for name, expr in self.formula.rules if name != "perturb"]
        used = [expr for _, expr in rules]
        if any("global_norm" in mentioned(expr) for expr in used):
            lines += self._norm("    ")
        inner = ["if p.grad is None:", "    continue", "grad, state = p.grad, self.state[p]"]
        if self.optimizer.decay == "coupled":
            inner.append('grad = grad + group["weight_decay"] * p')
        inner += self._state(any("t" in mentioned(expr) for expr in used))
        inner += [line for name, expr in rules for line in _folded(f"{self.names[name]} = {self.code(expr).text}")]
        inner += [f'state["{name}"] = {self.names[name]}' for name in self.formula.state]
        if self.optimizer.decay == "decoupled":
            inner.append('p.mul_(1 - group["lr"] * group["weight_decay"])')
        inner.append(f'p.sub_(group["lr"] * {self.names["step"]})')
        return [
            *lines,
            "    for group in self.param_groups:",
            *("        " + line for line in self._hyper(used)),
            '        for p in group["params"]:',
            *("            " + line for line in inner),
            "    return loss",
        ]

    def _norm(self, indent: str) -> list[str]:
        if not self.optimizer.needs_norm:
            return []
        lines = [
            'params = [p for group in self.param_groups for p in group["params"]]',
            "norms = [p.grad.norm() for p in params if p.grad is not None]",
            f"norm = torch.stack(norms).norm().clamp(min={SMALLEST_NORM})",
        ]
        return [indent + line for line in lines]

    def _hyper(self, exprs: Sequence[s.Expr]) -> list[str]:
        used = {name for expr in exprs for name in mentioned(expr)}
        return [f'{self.names[name]} = group["{name}"]' for name in self.hyper if name in used]

    def _state(self, counts: bool) -> list[str]:
        lines: list[str] = []
        starts = [("t", "0")] if counts else []
        zero = "torch.zeros_like(p)"
        starts += [(name, "0.0" if name in self.formula.scalars else zero) for name in self.formula.state]
        if starts:
            first = starts[0][0]
            lines += [f'if "{first}" not in state:', *(f'    state["{name}"] = {value}' for name, value in starts)]
        if counts:
            lines += ['state["t"] += 1', f'{self.names["t"]} = state["t"]']
        lines += [f'{self.names[name]} = state["{name}"]' for name in self.formula.state]
        if self.optimizer.sampled:
            lines += ['if "sampled" not in state:', '    raise RuntimeError("call take_sampled before step")']
            lines.append(f'{self.names["sampled"]} = state["sampled"]')
        return lines

    # --- expressions ----------------------------------------------------------------------------------

    def scalar(self, expr: s.Expr) -> bool:
        """Whether it is one number per tensor."""
        match expr:
            case s.Number():
                return True
            case s.Name(id=name):
                return name in self.scalars
            case s.Negate(operand=operand):
                return self.scalar(operand)
            case s.Binary(left=left, right=right):
                return self.scalar(left) and self.scalar(right)
            case s.Call(id=name, arguments=arguments):
                return name in ("norm", "rms") or all(self.scalar(a.value) for a in arguments)
        return False

    def code(self, expr: s.Expr) -> Code:
        """The PyTorch expression."""
        exact = constant(expr)
        if exact is not None:
            return number(exact)
        match expr:
            case s.Name(id=name):
                return Code(self.names[name])
            case s.Negate(operand=operand):
                return _minus(self.code(operand))
            case s.Binary(op=op, left=left, right=right):
                return combined(op, self.code(left), self.code(right))
            case s.Call(id=name, arguments=arguments):
                return self._call(name, [a.value for a in arguments])
        raise AssertionError("checked before")

    def _call(self, name: str, args: list[s.Expr]) -> Code:
        first = self.code(args[0])
        second = self.code(args[1]) if len(args) > 1 else None
        match name:
            case "norm":
                return method(first, "norm")
            case "rms":
                return method(method(method(first, "square"), "mean"), "sqrt")
            case "orthogonal":
                return call("orthogonal", first)
            case "sqrt":
                return power(first, number(0.5))
            case "abs":
                return call("abs", first)
            case "sign" if not self.scalar(args[0]):
                return method(first, "sign")
            case "max" | "min" if second is not None:
                if self.scalar(args[0]) and self.scalar(args[1]):
                    return call(name, first, second)
                if self.scalar(args[0]):
                    first, second = second, first
                elif not self.scalar(args[1]):
                    return call(f"torch.{name}imum", first, second)
                return method(first, "clamp", **{"min" if name == "max" else "max": second.text})
            case "clip" if second is not None and self.scalar(args[1]) and not self.scalar(args[0]):
                return method(first, "clamp", _minus(second), second)
            case "clip" if second is not None:
                smaller, larger = ("min", "max") if self.scalar(args[0]) else ("torch.minimum", "torch.maximum")
                return call(smaller, call(larger, first, _minus(second)), second)
            case "atan2" if second is not None:
                tensors = [f"torch.as_tensor({c.text})" if self.scalar(a) else c.text
                           for a, c in zip(args, (first, second), strict=True)]  # fmt: skip
                return call("torch.atan2", *tensors)
        return call("float", Code(f"({first.text} > 0) - ({first.text} < 0)", 1))  # the sign of a number


def _minus(code: Code) -> Code:
    return Code(f"-{code.at(5 if ' ** ' in code.text else 3)}", 3)


def _folded(line: str) -> list[str]:
    return fold(line, 84)


def fold_words(text: str, width: int) -> list[str]:
    """A sentence in lines, with a full stop."""
    from textwrap import wrap

    return wrap(text.rstrip(".") + ".", width)


ORTHOGONAL = '''
def orthogonal(grad: Tensor, steps: int = 5) -> Tensor:
    """About U V^T for the matrix U S V^T [first axis, others], by a Newton-Schulz iteration."""
    matrix = grad.reshape(len(grad), -1) if grad.ndim else grad.reshape(1, 1)
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / matrix.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (2.0315 * (gram @ gram) - 4.7750 * gram) @ x
    return (x.T if tall else x).reshape(grad.shape)
'''

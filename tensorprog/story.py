"""`explain`: the whole chain behind the numbers of one parameter, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorprog.calculus.analysis import largest
from tensorprog.calculus.chains import Chains
from tensorprog.calculus.explain import Binding
from tensorprog.calculus.forms import FORMS, SOURCES, gauge, sized
from tensorprog.calculus.shared import describe
from tensorprog.errors import TensorProgError
from tensorprog.optimizers.data import NORMALISATIONS
from tensorprog.reasons import GIVEN, SCALE_FREE, binding_step, kept
from tensorprog.suggest import nearest
from tensorprog.tables import fold

if TYPE_CHECKING:
    from tensorprog.derivation import Derivation

ALIASES = {"init": "init_std", "std": "init_std", "learning_rate": "lr", "decay": "weight_decay", "epsilon": "eps"}


def explain(derivation: Derivation, param: str, quantity: str | None = None) -> str:
    """The chain for one parameter (or `?name`), for one quantity or all. Raises TensorProgError for unknown ones."""
    from tensorprog.derivation import QUANTITIES

    param = param.removeprefix("?")
    if param in derivation.multipliers and param not in derivation.params:
        return _multiplier_story(derivation, param)
    if param not in derivation.params:
        known = [*derivation.params, *derivation.multipliers]
        raise TensorProgError(f"no parameter or multiplier `{param}`", file=derivation.architecture.file,
                              why="what is derived are exponents of parameters and multipliers",
                              fix=nearest(param, known) or ", ".join(known[:12]))  # fmt: skip
    others = [name for name, _ in derivation.params[param].others]
    wanted = [ALIASES.get(quantity, quantity)] if quantity is not None else [*QUANTITIES, *others]
    for name in wanted:
        if name not in (*QUANTITIES, *others):
            quantities = ", ".join(["init, lr, multiplier, weight_decay", *others])
            raise TensorProgError(f"no quantity `{name}`", fix=f"{quantities} or eps",
                                  why=f"nothing else is derived of `{param}`")  # fmt: skip
    story = _Story(derivation, param)
    blocks = [story.other(name) if name in others else getattr(story, name)() for name in wanted]
    axes = derivation.architecture.graph.parameters[param].axes
    shape = ", ".join(f"{axis.label or '.'}: {axis.dim}" for axis in axes)
    head = f"{param} [{shape}]   optimizer {story.optimizer.name}, form {derivation.form}"
    return _folded("\n\n".join(["\n".join([head, *derivation.of_degrees]), *blocks]))


class _Story:
    def __init__(self, derivation: Derivation, param: str) -> None:
        self.derivation, self.param = derivation, param
        self.explainer = Chains(derivation.solution)
        self.solver = derivation.solution.solver
        self.exponents = derivation.params[param]
        self.optimizer = self.solver.optimizers[param]
        self.sized = sized(derivation.solution, param)
        self.a = gauge(derivation.form, self.sized)
        self.told = False

    def power(self, size: int | None) -> str:
        return self.explainer.power(size)

    def theta(self, size: int) -> str:
        return f"Theta({self.power(size)})"

    def why(self, quantity: str) -> list[str]:
        return [f"  {line}" for line in self.derivation.why(self.param, quantity)]

    def multiplier(self) -> str:
        form = self.derivation.form
        chosen = f"  the form `{form}` chooses it: {FORMS[form]} ({SOURCES[form]})"
        lines = [
            f"multiplier  {self.exponents.multiplier}",
            *(self.why("multiplier") or ([chosen] if self.sized.gauge is None else [])),
        ]
        if self.sized.gauge is None:
            lines += [f"  {line}" for line in kept(self.exponents, self.optimizer)]
        return "\n".join(lines)

    def init_std(self) -> str:
        if self.exponents.init_std is None:
            return "init_std  0\n  the file starts it at exactly zero"
        lines = [f"init_std  {self.exponents.init_std}"]
        binding = self.explainer.initial_binding(self.param)
        if self.param in self.solver.started or self.param in self.solver.scale_free:
            lines.append(f"  {GIVEN if self.param in self.solver.started else SCALE_FREE}")
        elif binding is not None:
            lines += self._use(binding, f"the value of {self.param}'s use must be at most Theta(1)")
            if binding.layers:
                lines.append(f"    the stream sums it over all layers: {self.power(binding.layers)} more")
            size = binding.gain - self.sized.initial
            lines.append(f"  => multiplier * std * {self.power(binding.gain)} = {self.theta(size)}")
        lines += self.why("init_std")
        if self.a:
            lines.append(f"  the multiplier carries {self.power(-self.a)} of it, the initial std the rest")
        return "\n".join(lines)

    def lr(self) -> str:
        if self.exponents.lr is None:
            return f"lr  none\n  {self.derivation.reasons[self.param]['lr']}"
        lines = [f"lr  {self.exponents.lr}"]
        binding = self.explainer.update_binding(self.param)
        if binding is None:
            return lines[0] + "\n  its gradient is exactly zero: no learning rate matters"
        lines += self._gradient(self.optimizer.linear)
        step = binding_step(self.explainer, binding)
        lines.append(f"  a step of {self.optimizer.name} ({self._normalisation()}) has entries lr * {step}")
        how = "as far as its value is large" if self.solver.given(binding.occurrence) else "by Theta(1)"
        lines += self._use(binding, f"the update of {self.param} must move its use {how}")
        if binding.layers:
            lines.append(f"    all layers move the stream together, by {self.power(binding.layers)} more "
                         "(their number, times the gain from there to the stream)")  # fmt: skip
        given = self.solver.given(binding.occurrence)
        moved = self.theta(binding.gain - self.sized.lr)
        size = f"{self.power(given)}, the size of its use's value" if given else moved
        lines.append(f"  => lr * {self.power(binding.gain)} = {size}")
        lines += self.why("lr")
        if self.a:
            lines.append(f"  with w = W / multiplier: lr {self.power(-self.sized.lr)} becomes {self.exponents.lr}")
        return "\n".join(lines)

    def weight_decay(self) -> str:
        reason = self.derivation.reasons[self.param].get("weight_decay", "this optimizer has none")
        lines = [f"weight_decay  {self.exponents.weight_decay or 'none'}", f"  {reason}"]
        gradient, value, normalised = self.sized.gradient, self.sized.value, not self.optimizer.linear
        if self.optimizer.decay == "coupled" and normalised and gradient is not None and value is not None:
            lines += self._gradient()
            g, w = self.power(gradient - self.a), self.power(value + self.a)
            lines.append(f"  gradient entries ~ {g}, entries of w ~ {w} (form {self.derivation.form})")
        return "\n".join(lines)

    def eps(self) -> str:
        reason = self.derivation.reasons[self.param].get("eps", "this optimizer has none whose scale matters")
        why = [] if self.exponents.eps is None else self._gradient()
        return "\n".join([f"eps  {self.exponents.eps or 'none'}", f"  {reason}", *why])

    def other(self, name: str) -> str:
        return f"{name}  {dict(self.exponents.others)[name]}\n  {self.derivation.reasons[self.param][name]}"

    def _gradient(self, matters: bool = True) -> list[str]:
        """The size of the gradient's entries; where it matters, and for the first time, with its whole chain."""
        lines = [f"  gradient entries ~ {self.power(self.sized.gradient)} (gauge without multipliers)"]
        if matters and not self.told:
            self.told = True
            lines += ["    why the gradient is so:", *(f"      {line}" for line in self.explainer.gradient(self.param))]
        return lines

    def _normalisation(self) -> str:
        relative = ", relative to the parameter's size" if self.optimizer.relative else ""
        return NORMALISATIONS[self.optimizer.normalisation] + relative

    def _use(self, binding: Binding, constraint: str) -> list[str]:
        nodes = self.solver.program.nodes
        where = f" (line {binding.node.span.line})" if binding.node.span.line else ""
        lines = [f"  constraint: {constraint}", f"  at `{describe(binding.node, nodes)}`{where}"]
        for product in binding.before:
            met = f"the {product.part} of `{describe(product.other, nodes)}`"
            lines.append(f"    as part of `{describe(product.node, nodes)}`, where it meets {met}")
            lines += [f"    {s}" for s in product.sums]
        if binding.other is not None and binding.term is not None:
            operand = f"the {binding.part} of `{describe(binding.other, nodes)}`"
            grade = self.explainer.grade_at(binding.other.id, binding.part, binding.term)
            lines.append(f"    meets {operand} ~ {self.power(binding.term[0])}, {grade}")
            lines += [f"    {s}" for s in binding.sums] or ["    nothing that grows is summed"]
            lines.append(f"    why {operand} is so:")
            lines += [f"      {line}" for line in self.explainer.chain(binding.other.id, binding.part, binding.term)]
        if binding.behind:
            lines.append(f"    the multipliers behind it scale it by {self.power(binding.behind)}")
        return lines


def _multiplier_story(derivation: Derivation, name: str) -> str:
    solver, snapshot = derivation.solution.solver, derivation.solution.snapshot
    explainer = Chains(derivation.solution)
    lines = [f"?{name}  {derivation.multipliers[name]}"]
    nodes = [node for node, unknown in solver.multiplier_at.items() if unknown == name]
    best = None
    for k in nodes:
        operand = solver.program.nodes[k].args[0]
        for part, terms in (("initial value", snapshot.initial[operand]), ("change", snapshot.change[operand])):
            for term in terms:
                if best is None or term[0] > best[2][0]:
                    best = (operand, part, term)
    if not nodes:
        of = derivation.architecture.graph.unknowns[name].param
        why = (f"the uses of `{of}` need different sizes, and this is what one of them lacks" if of else
               "it multiplies parameters alone, and their own exponents do its work")  # fmt: skip
        return f"{lines[0]}\n  {why}\n"
    if best is None:
        return lines[0] + "\n  what it multiplies is exactly zero\n"
    operand, part, term = best
    taken = [k for k in nodes if k in solver.depth.takes]
    if taken:
        return _folded("\n".join([lines[0], *_branch_story(derivation, taken)]))
    label = describe(solver.program.nodes[operand], solver.program.nodes)
    lines.append(f"  constraint: what it multiplies, `{label}`, must become Theta(1); its largest term is the {part}, "
                 f"{explainer.power(largest((term,)))}")  # fmt: skip
    lines += [f"      {line}" for line in explainer.chain(operand, part, term)]
    lines += [f"  {line}" for line in derivation.why(name, "scale")]
    return _folded("\n".join(lines))


def _branch_story(derivation: Derivation, nodes: list[int]) -> list[str]:
    """Why the multiplier in front of the branches of a residual stack is what it is."""
    solver, snapshot = derivation.solution.solver, derivation.solution.snapshot
    explainer = Chains(derivation.solution)
    lines = []
    for k in nodes:
        operand = solver.program.nodes[k].args[0]
        label = describe(solver.program.nodes[operand], solver.program.nodes)
        start, over = snapshot.initial[operand], solver.depth.over[k]
        summed = solver.depth.summed(operand, start, over)
        lines.append(f"  branch `{label}`")
        if summed is None:
            layers = explainer.power(solver.depth.layers(k, over))
            lines.append("    it starts at exactly zero, so that training alone bounds it: its update may be "
                         f"Theta(1) in every layer, and {layers} layers add up")  # fmt: skip
            continue
        law = ("they do not cancel, law of large numbers" if solver.depth.aligned(operand, start, over)
               else "each layer's are odd in weights of its own, central limit theorem")  # fmt: skip
        lines.append(f"    its initial values, summed over all layers, are {explainer.power(summed)} ({law}): "
                     "the stream must stay Theta(1)")  # fmt: skip
        layers = explainer.power(solver.depth.layers(k, over))
        if k in solver.depth.alone:
            lines.append("    it is made of a stream, with no parameter of a layer in between: it moves as that does, "
                         f"by Theta(1) in every layer, and {layers} layers add up")  # fmt: skip
        elif solver.depth.takes[k]:
            lines.append("    in it the output of one matrix reaches another, or multiplies another's: for the product "
                         "of both updates to move the stream by Theta(1), as each update does, the branch itself "
                         f"must move by Theta(1) in every layer, and {layers} layers add up")  # fmt: skip
    return lines


def _folded(text: str) -> str:
    return "\n".join(map(fold, text.split("\n"))) + "\n"

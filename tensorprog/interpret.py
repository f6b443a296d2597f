"""The NumPy interpreter: runs a Program (forward, backward, update) at given widths under a parametrization."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from tensorprog.arrays import Array
from tensorprog.dims import BATCH_SYMBOL
from tensorprog.functions import BUILTIN, Function
from tensorprog.graph import Input, Node, Param, Program, Scalar, Update
from tensorprog.initial import init_parameter, make_data, shape_of, whole
from tensorprog.kernels import Context, kernel
from tensorprog.optimizers import Optimizer
from tensorprog.outer import Outer
from tensorprog.parametrization import Parametrization
from tensorprog.stepper import Stepper
from tensorprog.steps import make_step

__all__ = ["Interpreter", "make_data"]

Values = list[Any]  # per node: its array, or None if it was not computed or not kept


class Interpreter:
    """One network at one set of widths, with its parameters, optimizer state and (default) data.

    `params`: the raw w of every parameter (no multiplier in it), updated in place by `step`. `data`: one batch.
    The value of a token input is its integers [...], without the vocabulary axis that its node has.
    """

    def __init__(
        self,
        program: Program,
        widths: Mapping[str, int],
        base: Mapping[str, int],
        parametrization: Parametrization,
        *,
        batch: int = 16,
        seed: int = 0,
        data_seed: int | None = None,
        dtype: str = "float64",
        lr: float | Mapping[str, float] | None = None,
        functions: Mapping[str, Function] | None = None,
        optimizer_options: Mapping[str, float] | None = None,
        decays: bool = True,
        start: bool = True,
    ) -> None:
        """`base`: the base widths. `lr`: the base learning rate, one for all or by parameter or optimizer name.

        Options (the graph's, overridden by `optimizer_options`) go to the parametrization's optimizer only, not to
        one that a parameter names for itself or that Muon leaves vectors to. Without `decays`, no optimizer makes
        weights decay. `data_seed` defaults to `seed`.
        Without `start` there is no network yet, only what all of these sizes share: see `fresh`.
        """
        self.program, self.graph = program, program.forward
        self.parametrization, self.dtype = parametrization, np.dtype(dtype)
        self.widths: dict[str, int] = {**widths, BATCH_SYMBOL: batch}
        self.base: dict[str, int] = {**base, BATCH_SYMBOL: batch}
        self._functions = {**BUILTIN, **(functions or {})}
        self._shapes = [shape_of(n.axes, self.widths) for n in program.nodes]
        self._kernels = [self._kernel(n) for n in program.nodes]
        self._schedules: dict[object, tuple[tuple[int, tuple[int, ...]], ...]] = {}
        options = dict(self.graph.optimizer_options) if self.graph.optimizer == parametrization.optimizer else {}
        self._decays = decays
        self._lr, self._options = lr, {**{k: float(v) for k, v in options.items()}, **(optimizer_options or {})}
        if start:
            self._start(seed, seed if data_seed is None else data_seed)

    # --- construction -------------------------------------------------------------------------------

    def fresh(self, seed: int) -> Interpreter:
        """Another network of the same sizes and parametrization, with weights and data of its own; what is planned for
        these sizes is shared."""
        other = copy(self)
        other._start(seed, seed)
        return other

    def _start(self, seed: int, data_seed: int) -> None:
        self.params: dict[str, Array] = {}
        for name, parameter in self.graph.parameters.items():
            exponents = self.parametrization.params[name]
            self.params[name] = init_parameter(parameter, exponents, self.widths, self.base, seed, self.dtype)
        self._steppers = {name: self._stepper(name, self._lr, self._options) for name in self.program.updates}
        self.outer = Outer(self, self._steppers, seed)
        self._data_seed = data_seed
        self.data = self._batch(0)

    def _batch(self, number: int) -> dict[str, Array]:
        return make_data(self.graph, self.widths, self.widths[BATCH_SYMBOL], self._data_seed, self.dtype, number=number)

    def _examples(self) -> Mapping[str, Array]:
        """Of a step without data of its own: `data`, or others where an optimizer only looks for a basis."""
        looking = any(
            self.optimizer(n).remembers and s.count < self.optimizer(n).delay for n, s in self._steppers.items()
        )
        return self._batch(1) if looking else self.data

    def _kernel(self, node: Node) -> Callable[..., Array] | None:
        if isinstance(node.op, Input | Param | Update):
            return None
        context = Context(
            shape=self._shapes.__getitem__,
            integer=lambda dim: whole(dim, self.widths),
            scalar=self._scalar,
            function=self._functions.__getitem__,
            compact=self.compact,
            dtype=self.dtype,
        )
        return kernel(node, context)

    def compact(self, node: int) -> bool:
        """Whether the value of this node is kept as integers: token inputs are."""
        op = self.program.nodes[node].op
        return isinstance(op, Input) and op.kind == "tokens"

    def _scalar(self, scalar: Scalar) -> float:
        value = _number(scalar, self.widths)
        for name in scalar.unknowns:
            value *= self.unknown(name)
        return value

    def unknown(self, name: str) -> float:
        """The value of a multiplier at these widths: its base value * (widths / base)^exponent."""
        at_base = self.graph.unknowns[name].base
        value = _number(at_base, self.base) * self.parametrization.unknowns[name].ratio(self.widths, self.base)
        for inner in at_base.unknowns:
            value *= self.unknown(inner)
        return value

    def optimizer(self, name: str) -> Optimizer:
        """The optimizer that updates this parameter."""
        return self.parametrization.updater(self.graph.parameters[name])

    def _stepper(self, name: str, lr: float | Mapping[str, float] | None, options: Mapping[str, float]) -> Stepper:
        optimizer, exponents = self.optimizer(name), self.parametrization.params[name]
        hyper = dict(optimizer.defaults)
        if optimizer.name == self.parametrization.optimizer:
            hyper |= options
        base_lr = lr.get(name, lr.get(optimizer.name)) if isinstance(lr, Mapping) else lr
        if base_lr is not None:
            hyper["lr"] = base_lr
        if not self._decays and "weight_decay" in hyper:
            hyper["weight_decay"] = 0.0
        for key, power in exponents.hyper.items():
            if key in hyper:
                hyper[key] *= power.ratio(self.widths, self.base)
        return make_step(optimizer, hyper)

    def set_params(self, arrays: Mapping[str, npt.ArrayLike]) -> None:
        """Replaces the raw values of some parameters. Raises KeyError or ValueError for a wrong name or shape."""
        for name, array in arrays.items():
            new = np.array(array, dtype=self.dtype)
            if new.shape != self.params[name].shape:
                raise ValueError(f"{name} has shape {self.params[name].shape}, not {new.shape}")
            self.params[name] = new

    # --- running ------------------------------------------------------------------------------------

    def run(
        self, data: Mapping[str, Array] | None = None, *, keep: Collection[int] | None = None, backward: bool = True
    ) -> Values:
        """The values of the nodes, without updating anything; Update nodes have none.

        `keep`: the nodes wanted (default: all); only what they need is computed, and freed as soon as possible.
        Values may be views of one another and of the parameters.
        """
        if keep is None:
            last = len(self.program.nodes) if backward else len(self.graph.nodes)
            keep = range(last)
        updates = set(self.program.updates.values())
        return self._evaluate(data, frozenset(k for k in keep if k not in updates))

    def step(
        self, data: Mapping[str, Array] | None = None, *, keep: Collection[int] | None = None, changes: bool = False
    ) -> Values:
        """One training step: forward, backward, and every update applied to `params` in place. Without `data`, where
        an optimizer only looks for directions of gradients, these are those of other examples.

        Returns the values before the update of the nodes in `keep` (default: of the loss); of an Update node in `keep`
        (of all of them, with `changes`) the change of the raw w, w_after - w_before.
        """
        updates = self.program.updates
        asked = frozenset((self.graph.loss,) if keep is None else keep)
        wanted = {u for u in updates.values() if changes or u in asked}
        kept = asked.difference(updates.values())
        needed = self.outer.wants | {self.program.grads[name] for name in updates}
        examples = self._examples() if data is None else data
        again = data is None and examples is not self.data
        values = self._evaluate(data, kept if again else kept | needed)
        trained = self._evaluate(examples, needed) if again else values
        grads = {name: trained[self.program.grads[name]] for name in updates}
        grads = self.outer.gradients(self, grads, examples, trained)
        for k, value in enumerate(values):
            if value is None:
                continue
            if k not in kept:
                values[k] = None
            elif any(np.may_share_memory(value, w) for w in self.params.values()):
                values[k] = value.copy()
        for name, node in updates.items():
            w = self.params[name]
            before = w.copy() if node in wanted else None
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                self._steppers[name](w, grads[name])
                values[node] = None if before is None else w - before
        return values

    def prime(self) -> None:
        """Lets the optimizers that first only gather statistics do so, at the gradients here and now."""
        waiting = {name: self.optimizer(name).delay for name in self._steppers if self.optimizer(name).delay}
        if waiting:
            values = self.run(self._examples(), keep=[self.program.grads[name] for name in waiting])
            for name, delay in waiting.items():
                for _ in range(delay):
                    self._steppers[name](self.params[name].copy(), values[self.program.grads[name]])

    def apply(self, node: int, *args: Array) -> Array:
        """The value of one node for given operands."""
        run = self._kernels[node]
        assert run is not None, "inputs, parameters and updates have no operands"
        return run(*args)

    def loss(self, values: Values) -> float:
        """The loss among the values that `run` or `step` returned."""
        return float(values[self.graph.loss])

    def _evaluate(self, data: Mapping[str, Array] | None, keep: frozenset[int]) -> Values:
        data = self.data if data is None else data
        nodes = self.program.nodes
        values: Values = [None] * len(nodes)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for k, done in self._schedule(keep):
                node, run = nodes[k], self._kernels[k]
                if run is not None:
                    values[k] = run(*(values[a] for a in node.args))
                elif isinstance(node.op, Param):
                    values[k] = self.params[node.op.name]
                elif isinstance(node.op, Input):
                    values[k] = data[node.op.name]
                for finished in done:
                    values[finished] = None
        return values

    def _schedule(self, keep: frozenset[int]) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """The nodes to compute, each with those whose values are not needed after it."""
        if keep not in self._schedules:
            needed, freed = set(keep), set(keep)
            reverse = []
            for k in range(len(self.program.nodes) - 1, -1, -1):
                if k in needed:
                    args = set(self.program.nodes[k].args)
                    needed |= args
                    reverse.append((k, tuple(args - freed)))
                    freed |= args
            self._schedules[keep] = tuple(reversed(reverse))
        return self._schedules[keep]


def _number(scalar: Scalar, sizes: Mapping[str, int]) -> float:
    """The part of a scalar that is not unknown."""
    value = float(scalar.coefficient)
    for dim, power in scalar.powers:
        value *= float(dim.evaluate(sizes)) ** float(power)
    return value

"""What steps need besides their own gradient: the whole gradient's norm, perturbed weights, targets of the model's own.

The interpreter asks here for the gradients of a step; most optimizers want nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorprog.arrays import Array
from tensorprog.errors import TensorProgError
from tensorprog.graph import Input, Loss, Node
from tensorprog.initial import stream
from tensorprog.optimizers import Optimizer
from tensorprog.optimizers.arithmetic import SMALLEST_NORM, perturbation
from tensorprog.stepper import Stepper

if TYPE_CHECKING:
    from tensorprog.interpret import Interpreter

Gradients = dict[str, Array]


class Outer:
    """The outer part of a network's steps. `wants`: the nodes whose values it needs. It is handed the network at each
    step and does not keep it, so that the network's memory is free as soon as nobody holds it."""

    def __init__(self, network: Interpreter, steppers: Mapping[str, Stepper], seed: int) -> None:
        self.steppers, self.seed = steppers, seed
        optimizers = {name: network.optimizer(name) for name in steppers}
        self.normed: dict[Optimizer, list[str]] = {}
        for name, optimizer in optimizers.items():
            if optimizer.needs_norm:
                self.normed.setdefault(optimizer, []).append(name)
        self.probed = {name: o for name, o in optimizers.items() if o.probe is not None}
        self.sampled = [name for name, o in optimizers.items() if o.sampled]
        self.loss = sampled_loss(network.graph.nodes) if self.sampled else None
        self.wants = frozenset({self.loss.args[0]}) if self.loss else frozenset()
        self.count = 0

    def gradients(
        self, network: Interpreter, plain: Gradients, data: Mapping[str, Array] | None, values: list[Any]
    ) -> Gradients:
        """The gradients that the steppers get; their numbers and sampled gradients are set on the way."""
        self.count += 1
        found = plain
        self._norms(found)
        if self.loss is not None:
            self._sample(network, self.loss, data, values[self.loss.args[0]])
        if self.probed:
            found = self._perturbed(network, found, data)
            self._norms(found)
        return found

    def _norms(self, gradients: Gradients) -> None:
        for names in self.normed.values():
            square = sum(float(np.vdot(gradients[n], gradients[n])) for n in names)
            norm = max(math.sqrt(square), SMALLEST_NORM)
            for name in names:
                self.steppers[name].numbers["global_norm"] = norm

    def _perturbed(self, network: Interpreter, gradients: Gradients, data: Mapping[str, Array] | None) -> Gradients:
        before = {name: network.params[name].copy() for name in self.probed}
        for name, optimizer in self.probed.items():
            stepper, w = self.steppers[name], network.params[name]
            assert optimizer.formula is not None
            norm = stepper.numbers.get("global_norm", 0.0)
            w += perturbation(optimizer.formula, stepper.hyper, w, gradients[name], norm)
        found = {name: g.copy() for name, g in self._backward(network, data).items()}
        for name, w in before.items():
            network.params[name][...] = w
        return found

    def _backward(self, network: Interpreter, data: Mapping[str, Array] | None) -> Gradients:
        grads = network.program.grads
        values = network.run(data, keep=[grads[name] for name in self.steppers])
        return {name: values[grads[name]] for name in self.steppers}

    def _sample(self, network: Interpreter, loss: Node, data: Mapping[str, Array] | None, prediction: Array) -> None:
        """Gradients for targets drawn from the model itself, times the root of their number: their squares are the
        Gauss-Newton diagonal on average. Source: Liu et al. 2023, arXiv:2305.14342, algorithm 2."""
        assert isinstance(loss.op, Loss)
        name = network.graph.nodes[loss.args[1]].op
        assert isinstance(name, Input)
        target = draw(loss, prediction, self.seed, self.count)
        given = network.data if data is None else data
        for param, gradient in self._backward(network, {**given, name.name: target}).items():
            if param in self.sampled:
                self.steppers[param].state["sampled"] = gradient * math.sqrt(target.size)


def draw(loss: Node, prediction: Array, seed: int, count: int) -> Array:
    """Targets drawn from the model whose output is `prediction`, at step `count`."""
    assert isinstance(loss.op, Loss)
    rng = stream(seed, f"sampled {count}")
    if loss.op.kind == "cross_entropy":  # Gumbel noise makes the largest a draw from the softmax
        target: Array = np.argmax(prediction + rng.gumbel(size=prediction.shape), axis=-1)
        return target
    return (prediction + rng.standard_normal(prediction.shape)).astype(prediction.dtype)


def sampled_loss(nodes: tuple[Node, ...]) -> Node:
    """The one loss whose target can be drawn from the model. Raises TensorProgError if there is none such."""
    losses = [node for node in nodes if isinstance(node.op, Loss)]
    if len(losses) == 1 and len(losses[0].args) > 1 and isinstance(nodes[losses[0].args[1]].op, Input):
        return losses[0]
    raise TensorProgError(
        "targets cannot be drawn from this model",
        why="an optimizer that estimates curvature by sampled targets wants a single loss over a whole output",
        fix="`loss cross_entropy(f)` or `loss mse(f)`, or another optimizer",
    )

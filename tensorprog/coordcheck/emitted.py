"""The emitted PyTorch program, trained: with autograd, and the optimizer that the program itself configures.

Networks start from the same weights and see the same data as with the NumPy interpreter.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tensorprog.arrays import Array
from tensorprog.derivation import Derivation
from tensorprog.dims import BATCH_SYMBOL
from tensorprog.emission import emit
from tensorprog.emission.module import Emission
from tensorprog.emission.source import main_class
from tensorprog.errors import TensorProgError
from tensorprog.graph import Input
from tensorprog.initial import init_parameter, make_data
from tensorprog.outer import draw, sampled_loss
from tensorprog.parametrization import Parametrization

try:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils._python_dispatch import TorchDispatchMode
except ImportError:
    raise TensorProgError(
        "PyTorch is not installed", why="this backend trains the emitted program",
        fix="pip install torch, or --backend numpy",
    ) from None  # fmt: skip

Tensor = Any
Rates = float | Mapping[str, float] | None


def require_device(device: str) -> None:
    """Raises TensorProgError unless this machine has it."""
    if torch.device(device).type != "cpu" and not torch.cuda.is_available():
        raise TensorProgError("there is no CUDA device", why="PyTorch sees none on this machine", fix="--device cpu")


class EmittedNetwork:
    """One emitted network, with its parameters, optimizer and data; the arguments are those of `Interpreter`.

    `params`: name in the graph -> the PyTorch parameter.
    """

    def __init__(
        self,
        derivation: Derivation,
        parametrization: Parametrization,
        widths: Mapping[str, int],
        base: Mapping[str, int],
        *,
        batch: int,
        seed: int,
        lr: Rates = None,
        dtype: str = "float64",
        device: str = "cpu",
        decays: bool = True,
    ) -> None:
        architecture = derivation.architecture
        model, self.graph, self.parametrization = architecture.model, architecture.graph, parametrization
        depths = dict(model.depths)
        name = Path(architecture.file).name
        self.text = emit(model, parametrization, base, source_name=name)
        self.names: dict[str, Any] = {"__name__": "emitted"}
        exec(compile(self.text, f"<emitted {name}>", "exec"), self.names)
        main = [value for value in self.names.values() if isinstance(value, type)][-1]
        with torch.random.fork_rng(devices=[]):  # the constructor draws initial weights
            known = inspect.signature(main).parameters  # a width that no parameter has is not asked for
            sizes = {symbol: size for symbol, size in widths.items() if symbol in known}
            self.model: Any = main(**sizes).to(device, getattr(torch, dtype))
        attributes = dict(self.model.named_parameters())
        at, at_base = {**depths, **widths, BATCH_SYMBOL: batch}, {**depths, **base, BATCH_SYMBOL: batch}
        self.params: dict[str, Tensor] = {}
        with torch.no_grad():
            for path, param in _paths(derivation, parametrization, base).items():
                rule = parametrization.params[param]
                start = init_parameter(self.graph.parameters[param], rule, at, at_base, seed, dtype)
                self.params[param] = attributes[path]
                self.params[param].copy_(torch.from_numpy(start))
        self._seed, self._count = seed, 0
        self.optimizer: Any = self._optimizer(lr) if hasattr(self.model, "configure_optimizer") else None
        if not decays and self.optimizer is not None:
            for group in _groups(self.optimizer):
                group.update({"weight_decay": 0.0} if "weight_decay" in group else {})
        self._sizes, self._dtype, self._device = {**widths, BATCH_SYMBOL: batch}, dtype, device
        self.data = self._batch(0)
        updaters = (parametrization.updater(p) for p in self.graph.parameters.values())
        self._looking = max((o.delay for o in updaters if o.remembers), default=0)  # steps on other examples

    def _batch(self, number: int) -> dict[str, Tensor]:
        data = make_data(self.graph, self._sizes, self._sizes[BATCH_SYMBOL], self._seed, self._dtype, number)
        return {k: torch.from_numpy(v).to(self._device) for k, v in data.items()}

    def _inputs(self, data: Mapping[str, Tensor]) -> list[Tensor]:
        return [data[n.op.name] for n in self.graph.nodes if isinstance(n.op, Input) and n.op.kind != "target"]

    def set_params(self, values: Mapping[str, Array]) -> None:
        """Puts other weights in place; those that the program does not have are left out."""
        with torch.no_grad():
            for name in self.params.keys() & values.keys():
                self.params[name].copy_(torch.from_numpy(values[name]))

    def _optimizer(self, lr: Rates) -> Any:
        if not isinstance(lr, Mapping):
            return self.model.configure_optimizer(lr=lr)
        optimizer = self.model.configure_optimizer(lr=1.0)
        rates = {id(self.params[param]): self._rate(param, lr) for param in self.params}
        for part in getattr(optimizer, "optimizers", (optimizer,)):
            part.param_groups[:] = [
                {**group, "params": [p], "lr": group["lr"] * rates[id(p)]}
                for group in part.param_groups
                for p in group["params"]
            ]
        return optimizer

    def _rate(self, param: str, lr: Mapping[str, float]) -> float:
        parameter = self.graph.parameters[param]
        name = self.parametrization.updater(parameter).name
        default = self.names["HYPERPARAMETERS"].get(name, {}).get("lr", 0.0)  # not there: nothing to train with it
        return float(lr.get(param, lr.get(name, default)))

    def loss(self, data: Mapping[str, Tensor] | None = None) -> Tensor:
        """The loss of the batch (or of other data), ready for `backward`."""
        data = self.data if data is None else data
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # the others are one step, scores and all
            outputs = self.model(*self._inputs(data))
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            known = {**data, **dict(zip((name for name, _ in self.graph.outputs), outputs, strict=True))}
            method = getattr(self.model, "loss", None) or self.model.training_loss
            return method(*(_argument(name, known) for name in inspect.signature(method).parameters))

    def step(self, take: Callable[[str, Tensor], None] | None = None) -> float:
        """One training step; the loss before it. `take(op, tensor)` sees every tensor of the forward pass."""
        with torch.backends.cudnn.flags(enabled=False):  # its convolutions round to ten bits
            return self._step(take)

    def _step(self, take: Callable[[str, Tensor], None] | None) -> float:
        self._count += 1
        looking = self._count <= self._looking
        data = self._batch(1) if looking else self.data  # as the interpreter does
        if hasattr(self.optimizer, "take_sampled"):
            self._take_sampled(data)
        self.model.zero_grad(set_to_none=True)
        loss = self.forward(take)
        if looking:
            self._backward(data)
        elif loss.requires_grad:  # something is trained
            loss.backward()
        if hasattr(self.optimizer, "perturb"):
            self.optimizer.step(self._again(loss))
        elif self.optimizer is not None:
            self.optimizer.step()
        return float(loss.detach())

    def _again(self, loss: Tensor) -> Callable[[], Tensor]:
        """A closure for an optimizer that takes two gradients; the first is there already."""
        calls = [lambda: loss, self._backward]
        return lambda: calls.pop(0)()

    def _backward(self, data: Mapping[str, Tensor] | None = None) -> Tensor:
        self.model.zero_grad(set_to_none=True)
        loss = self.loss(data)
        loss.backward()
        return loss

    def _take_sampled(self, data: Mapping[str, Tensor]) -> None:
        """Gradients for targets drawn from the model itself, as `tensorprog.outer` does."""
        node = sampled_loss(self.graph.nodes)
        name, target = self.graph.nodes[node.args[1]].op, None
        assert isinstance(name, Input)
        with torch.no_grad():
            outputs = self.model(*self._inputs(data))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        place = [k for _, k in self.graph.outputs].index(node.args[0])
        target = draw(node, outputs[place].detach().cpu().numpy(), self._seed, self._count)
        self._backward({**data, name.name: torch.from_numpy(target).to(outputs[place].device)})
        self.optimizer.take_sampled(target.size)

    def forward(self, take: Callable[[str, Tensor], None] | None = None) -> Tensor:
        """The loss; `take` as in `step`."""
        with torch.backends.cudnn.flags(enabled=False), nullcontext() if take is None else _Watch(take):
            return self.loss()


def _groups(optimizer: Any) -> list[dict[str, Any]]:
    """The parameter groups of an optimizer, or of the several that it stands for."""
    return [group for part in getattr(optimizer, "optimizers", (optimizer,)) for group in part.param_groups]


class _Watch(TorchDispatchMode):  # type: ignore[misc]
    """Shows every tensor that an operation makes, below autograd."""

    def __init__(self, take: Callable[[str, Tensor], None]) -> None:
        super().__init__()
        self._take = take

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self._take(str(func), tensor)
        return result


def _paths(derivation: Derivation, parametrization: Parametrization, base: Mapping[str, int]) -> dict[str, str]:
    """Name of a parameter in the emitted module -> its name in the graph."""
    model = derivation.architecture.model
    known = {**dict(model.depths), **base}
    emission = Emission(model, parametrization, known)
    main_class(emission, known)
    return {row.path: row.graph_path for rows in emission.tables.parameters for row in rows}


def _argument(name: str, known: Mapping[str, Tensor]) -> Tensor:
    """The tensor for an argument, whose name has a number behind it where it would mean something in Python."""
    return known[name] if name in known else known[name.rpartition("_")[0]]

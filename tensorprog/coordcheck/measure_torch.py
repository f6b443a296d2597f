"""Measurements with the emitted PyTorch program: autograd, and the optimizer that the program itself configures.

Networks start from the same weights and see the same data as with the NumPy interpreter. Every tensor that PyTorch
makes on the way to the loss is numbered; which number is which tensor of the graph is found by value, in a trial
run with generic weights in double precision. A tensor that the program never makes (a fused kernel passes over it)
is nan.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tensorprog.coordcheck.measure import rms, spectral_norm
from tensorprog.coordcheck.probes import PRODUCTS, Probe
from tensorprog.derivation import Derivation
from tensorprog.dims import BATCH_SYMBOL
from tensorprog.emission import emit
from tensorprog.emission.module import Emission
from tensorprog.emission.source import main_class
from tensorprog.errors import TensorProgError
from tensorprog.graph import Input
from tensorprog.initial import init_parameter, make_data
from tensorprog.interpret import Interpreter
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

Float = npt.NDArray[np.float64]
Tensor = Any
Rates = float | Mapping[str, float] | None

EQUAL = 1e-8  # difference of two computations of one tensor in double precision, relative to its largest entry
GENERIC = 0.5  # relative size of the noise on the weights of the trial run


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
            self.model: Any = main(**widths).to(device, getattr(torch, dtype))
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
        data = make_data(self.graph, widths, batch, seed, dtype)
        self.data: dict[str, Tensor] = {k: torch.from_numpy(v).to(device) for k, v in data.items()}
        self._inputs = [self.data[n.op.name] for n in self.graph.nodes
                        if isinstance(n.op, Input) and n.op.kind != "target"]  # fmt: skip

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
            outputs = self.model(*self._inputs)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            known = {**data, **dict(zip((name for name, _ in self.graph.outputs), outputs, strict=True))}
            method = getattr(self.model, "loss", None) or getattr(self.model, "training_loss", None)
            if method is None:
                raise TensorProgError("the emitted program has no loss", fix="a `loss` line")
            return method(*(_argument(name, known) for name in inspect.signature(method).parameters))

    def step(self, take: Callable[[str, Tensor], None] | None = None) -> float:
        """One training step; the loss before it. `take(op, tensor)` sees every tensor of the forward pass."""
        self._count += 1
        if hasattr(self.optimizer, "take_sampled"):
            self._take_sampled()
        self.model.zero_grad(set_to_none=True)
        loss = self.forward(take)
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

    def _take_sampled(self) -> None:
        """Gradients for targets drawn from the model itself, as `tensorprog.outer` does."""
        node = sampled_loss(self.graph.nodes)
        name, target = self.graph.nodes[node.args[1]].op, None
        assert isinstance(name, Input)
        with torch.no_grad():
            outputs = self.model(*self._inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        place = [k for _, k in self.graph.outputs].index(node.args[0])
        target = draw(node, outputs[place].detach().numpy(), self._seed, self._count)
        self._backward({**self.data, name.name: torch.from_numpy(target)})
        self.optimizer.take_sampled(target.size)

    def forward(self, take: Callable[[str, Tensor], None] | None = None) -> Tensor:
        """The loss; `take` as in `step`."""
        if take is None:
            return self.loss()
        with _Watch(take):
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


# --- which tensor is which --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """`places`: node of the graph -> number of the tensor. `ops`: the operation that makes each tensor."""

    places: dict[int, int]
    ops: tuple[str, ...]


_PLANS: dict[object, Plan] = {}


def plan(
    derivation: Derivation,
    parametrization: Parametrization,
    nodes: Sequence[int],
    widths: Mapping[str, int],
    base: Mapping[str, int],
    batch: int,
) -> Plan:
    """Finds the nodes among the tensors of the emitted program at these widths.

    Raises TensorProgError if the program computes another loss than the interpreter.
    """
    architecture = derivation.architecture
    sizes = [tuple(sorted(given.items())) for given in (widths, base)]
    key = (architecture.source, tuple(architecture.depths.items()), repr(parametrization), tuple(nodes), *sizes, batch)
    if key in _PLANS:
        return _PLANS[key]
    network = EmittedNetwork(derivation, parametrization, widths, base, batch=batch, seed=0)
    interpreter = Interpreter(
        architecture.program, widths, base, parametrization, batch=batch, functions=architecture.functions
    )
    rng = np.random.default_rng(0)
    for name, w in interpreter.params.items():  # zeros and ones would make different tensors equal
        w += GENERIC * max(rms(w), float(np.prod(w.shape[1:])) ** -0.5) * rng.standard_normal(w.shape)
        if name in network.params:
            network.params[name].data.copy_(torch.from_numpy(w))
    values = interpreter.run(keep={*nodes, architecture.graph.loss}, backward=False)
    seen: list[tuple[float, Float]] = []
    ops: list[str] = []

    def take(op: str, tensor: Tensor) -> None:
        array = tensor.detach().numpy().copy()  # an operation in place may change it later
        seen.append((_square(array), array))
        ops.append(op)

    loss, expected = float(network.forward(take).detach()), interpreter.loss(values)
    if not abs(loss - expected) <= EQUAL * max(1.0, abs(expected)):
        raise TensorProgError(f"the emitted program's loss is {loss}, the interpreter's {expected}")
    places = {}
    for node in nodes:
        square = _square(values[node])
        near = (k for k, (other, _) in enumerate(seen) if abs(other - square) <= EQUAL * square)
        found = next((k for k in near if same(values[node], seen[k][1])), None)
        if found is not None:
            places[node] = found
    if len(_PLANS) >= 64:
        _PLANS.clear()
    _PLANS[key] = Plan(places, tuple(ops))
    return _PLANS[key]


def _square(x: Float) -> float:
    return float(np.vdot(x, x)) if x.dtype.kind == "f" else np.nan


def same(x: Float, y: Float) -> bool:
    """Whether two tensors are equal up to the grouping and the order of their axes."""
    if x.size != y.size or y.dtype.kind != "f":
        return False
    room = EQUAL * float(np.max(np.abs(x), initial=0.0))

    def equal(a: Float, b: Float) -> bool:
        return bool(np.all(np.abs(a.reshape(-1) - b.reshape(-1)) <= room))

    if equal(x, y):
        return True
    if x.ndim != y.ndim:
        return False
    orders = (o for o in permutations(range(y.ndim)) if all(y.shape[a] == s for a, s in zip(o, x.shape, strict=True)))
    return any(equal(x, y.transpose(order)) for order in orders)


# --- measuring ------------------------------------------------------------------------------------------


def measure(
    derivation: Derivation,
    parametrization: Parametrization,
    probes: Sequence[Probe],
    widths: Mapping[str, int],
    base: Mapping[str, int],
    *,
    seed: int,
    steps: int,
    batch: int,
    lr: float | Mapping[str, float],
    dtype: str,
    device: str = "cpu",
    decays: bool = True,
) -> Float:
    """rms [probe, 1 + steps], as `tensorprog.coordcheck.measure.measure`; nan in the rows of tensors that the program
    does not make. Raises TensorProgError without the device."""
    if device != "cpu" and not torch.cuda.is_available():
        raise TensorProgError("there is no CUDA device", why="PyTorch sees none on this machine", fix="--device cpu")
    nodes = [p.node for p in probes if p.param is None and p.kind in ("value", "argument")]
    if any(p.kind in PRODUCTS for p in probes):
        raise TensorProgError("the parts of products are not measured in the emitted program",
                              fix="--backend numpy, or no --also split")  # fmt: skip
    found = plan(derivation, parametrization, nodes, widths, base, batch)
    network = EmittedNetwork(derivation, parametrization, widths, base, batch=batch, seed=seed, lr=lr, dtype=dtype,
                              device=device, decays=decays)  # fmt: skip
    wanted = set(found.places.values())
    ops: list[str] = []
    now: dict[int, Tensor] = {}

    def take(op: str, tensor: Tensor) -> None:
        if len(ops) in wanted:
            now[len(ops)] = tensor.detach().clone()
        ops.append(op)

    result = np.full((len(probes), steps + 1), np.nan)
    start: dict[int, Tensor] = {}
    begin = {name: param.detach().clone() for name, param in network.params.items()}
    before = begin
    for t in range(steps + 1):
        current = {name: param.detach().clone() for name, param in network.params.items()}
        for row, p in enumerate(probes):
            if p.param not in current:
                continue
            w = current[p.param]
            match p.kind:
                case "value" | "spectral":
                    size = spectral_norm if p.kind == "spectral" else rms
                    result[row, t] = size((w - begin[p.param] if t else w).cpu().numpy())
                case "update" if t > 1:
                    result[row, t] = rms((w - before[p.param]).cpu().numpy())
                case _:
                    pass
        before = current
        ops.clear()
        if t < steps:
            network.step(take)
        else:
            network.forward(take)
        if tuple(ops) != found.ops:
            raise TensorProgError("the emitted program does other operations than in its trial run")
        for row, p in enumerate(probes):
            if p.param is None and p.node in found.places:
                value = now[found.places[p.node]]
                start.setdefault(row, value)
                moved = t and p.kind == "value"
                result[row, t] = rms((value - start[row] if moved else value).cpu().numpy())
            elif p.kind == ("later gradient" if t else "gradient") and t < steps and p.param in network.params:
                gradient = network.params[p.param].grad
                result[row, t] = 0.0 if gradient is None else rms(gradient.cpu().numpy())
    return result

"""One real run of a module, recorded operation by operation.

The run is in training mode, on the CPU, at a tiny width. Only what depends on a parameter is recorded: everything else
(masks, positions, rotary tables, the inputs themselves) is data, kept by value where a recorded operation reads it.
Composite kernels are forced apart (attention by matrix products, no mkldnn), and dropout keeps everything.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tensorprog.errors import TensorProgError

SHAPE_ONLY = frozenset(
    "empty_like ones_like zeros_like full_like rand_like randn_like new_zeros new_ones new_empty new_full sym_size "
    "sym_stride is_same_size".split()
)  # results that do not depend on the values of their operands


@dataclass(frozen=True, slots=True)
class Ref:
    """A tensor operand: number `value` among the recorded values."""

    value: int


@dataclass(frozen=True, slots=True)
class Operation:
    """One recorded ATen operation. `args`: all operands by name, defaults filled in, tensors as `Ref`. `module`: the
    path of the innermost module that was running. In-place operations stand under the name of the pure one.
    `gradient`: whether gradients pass through it (not under `torch.no_grad`)."""

    op: str
    overload: str
    args: Mapping[str, Any]
    outputs: tuple[int, ...]  # -1: not a tensor
    module: str
    gradient: bool = True


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that no recorded operation made. kind: param | data. `name`: of the parameter; of data, what it is in
    the module (a buffer, an input), or ""."""

    kind: str
    name: str
    tensor: Any


@dataclass(frozen=True, slots=True)
class Box:
    """Where a part lies in a tensor: `start` and `length` along every axis; `dims`: the tensor's axis of each of the
    part's axes (-1: of size 1)."""

    start: tuple[int, ...]
    length: tuple[int, ...]
    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Write:
    """The value that was written, and the layout of the view it was written to."""

    value: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def box(self, tensor: torch.Tensor) -> Box | None:
        """Its place in a tensor of the same memory; None if it lies outside. Raises TensorProgError if across."""
        strides = tensor.stride()
        order = sorted(range(tensor.dim()), key=lambda k: (-strides[k], -tensor.shape[k]))
        dims = tuple(-1 if n == 1 else next((k for k in order if strides[k] == s and tensor.shape[k] > 1), -2)
                     for n, s in zip(self.size, self.stride, strict=True))  # fmt: skip
        rest = self.offset - tensor.storage_offset()
        last = sum((n - 1) * s for n, s in zip(tensor.shape, strides, strict=True))
        if rest > last or rest + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True)) < 0:
            return None
        start = [0] * tensor.dim()
        for k in order:
            if strides[k] and tensor.shape[k] > 1 and rest >= 0:
                start[k] = min(rest // strides[k], tensor.shape[k] - 1)
                rest -= start[k] * strides[k]
        length = [1] * tensor.dim()
        for k, n in zip(dims, self.size, strict=True):
            if k >= 0:
                length[k] = n
        fits = rest == 0 and -2 not in dims and len({k for k in dims if k >= 0}) == sum(k >= 0 for k in dims)
        if fits and all(a + n <= m for a, n, m in zip(start, length, tensor.shape, strict=True)):
            return Box(tuple(start), tuple(length), dims)
        if rest and all(k >= -1 for k in dims):
            return None  # between the entries of a strided view
        raise TensorProgError(
            "a tensor is written into in place through a view that is no range of its axes",
            why="what is written could not be followed", fix="an operation that returns a new tensor: torch.cat",
        )  # fmt: skip


@dataclass(slots=True)
class Trace:
    """A recorded run. `shapes`, `dtypes`: of every value; `outputs`: (name, value) of the floating results of the
    module; `loss`: value of the loss, None if there is none; `modules`: path -> class name."""

    operations: list[Operation] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)
    leaves: dict[int, Leaf] = field(default_factory=dict)
    outputs: list[tuple[str, int]] = field(default_factory=list)
    loss: int | None = None
    results: dict[int, Any] = field(default_factory=dict)  # value -> tensor, of outputs and loss
    modules: dict[str, str] = field(default_factory=dict)


class Recorder(TorchDispatchMode):  # type: ignore[misc]
    """Records into `trace` while it is entered; `watch` modules first. All tensors seen are kept alive, so that an
    identity is never used twice."""

    def __init__(
        self, module: torch.nn.Module, inputs: Mapping[int, tuple[str, Any]], frozen: frozenset[str] = frozenset()
    ) -> None:
        """`inputs`: identity of a tensor -> what it is called, and itself. `frozen`: buffers taken as parameters."""
        super().__init__()
        self.trace = Trace()
        self._alive: list[Any] = []
        self._value: dict[int, int] = {}  # identity of a tensor object -> its value
        self._writes: dict[int, list[Write]] = {}  # memory -> what was written into it
        self._live: set[int] = set()  # values that depend on a parameter
        self._params: dict[int, str] = {}
        self._storages: dict[int, tuple[str, torch.Tensor]] = {}
        self._names = {key: name for key, (name, _) in inputs.items()}
        self._data_storages = {t.untyped_storage()._cdata: name for name, t in inputs.values()}  # through views
        self._stack: list[str] = [""]
        self._paths = {id(m): path for path, m in module.named_modules()}
        self.trace.modules = {path: type(m).__name__ for path, m in module.named_modules()}
        for name, p in module.named_parameters():
            self._params[id(p)] = name
            self._storages[p.untyped_storage()._cdata] = (name, p)
        for name, b in module.named_buffers():
            if name in frozen:
                self._params[id(b)] = name
            else:
                self._names.setdefault(id(b), name)

    # --- modules --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """While entered, the running module is known."""
        from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

        def before(module: torch.nn.Module, _: Any) -> None:
            self._stack.append(self._paths.get(id(module), self._stack[-1]))

        def after(_: torch.nn.Module, __: Any, ___: Any) -> None:
            self._stack.pop()

        first, second = register_module_forward_pre_hook(before), register_module_forward_hook(after, always_call=True)
        try:
            yield
        finally:
            first.remove()
            second.remove()

    # --- values ---------------------------------------------------------------------------------------

    def _new(self, tensor: torch.Tensor) -> int:
        number = len(self.trace.shapes)
        self.trace.shapes.append(tuple(tensor.shape))
        self.trace.dtypes.append(str(tensor.dtype).removeprefix("torch."))
        self._value[id(tensor)] = number
        self._alive.append(tensor)
        return number

    def _parameter(self, tensor: torch.Tensor) -> int | None:
        """The value of a parameter, which another object may stand for (`.data`); None if it is none."""
        name = self._params.get(id(tensor))
        if name is None:
            found = self._storages.get(tensor.untyped_storage()._cdata)
            if found is None or found[1].shape != tensor.shape or found[1].stride() != tensor.stride():
                return None
            name = found[0]
        for number, leaf in self.trace.leaves.items():
            if leaf.kind == "param" and leaf.name == name:
                self._value[id(tensor)] = number
                self._alive.append(tensor)
                return number
        number = self._new(tensor)
        self.trace.leaves[number] = Leaf("param", name, tensor)
        self._live.add(number)
        return number

    def _is_live(self, tensor: torch.Tensor) -> bool:
        if self._assembled(tensor):
            return True
        number = self._value.get(id(tensor))
        if number is None:
            number = self._parameter(tensor)
        return number is not None and number in self._live

    def value(self, tensor: torch.Tensor) -> int:
        """The number of a tensor; one that was not seen before is data."""
        self._assembled(tensor)
        number = self._value.get(id(tensor))
        if number is None:
            number = self._new(tensor)
            name = self._names.get(id(tensor)) or self._data_storages.get(tensor.untyped_storage()._cdata, "")
            self.trace.leaves[number] = Leaf("data", name, tensor.detach().clone())
        return number

    # --- writes into a part of a tensor ---------------------------------------------------------------

    def _assembled(self, tensor: torch.Tensor) -> bool:
        """Whether something recorded was written into a part of the tensor's memory since its value was made; if so it
        has a new value, the result of an operation `_assemble` (the old value, then the parts in their places)."""
        writes = self._writes.get(tensor.untyped_storage()._cdata)
        if not writes:
            return False
        before = self._value.get(id(tensor), -1)
        found = [(write, box) for write in writes if write.value > before and (box := write.box(tensor)) is not None]
        if not found:
            return False
        if before < 0:
            clean = tensor.detach().clone()
            for _, box in found:
                clean[tuple(slice(a, a + n) for a, n in zip(box.start, box.length, strict=True))] = 0
            before = self._new(clean)
            self.trace.leaves[before] = Leaf("data", self._names.get(id(tensor), ""), clean)
        parts = [Ref(write.value) for write, _ in found]
        boxes = [box for _, box in found]
        args = {"self": Ref(before), "parts": parts, "starts": [list(b.start) for b in boxes],
                "lengths": [list(b.length) for b in boxes], "dims": [list(b.dims) for b in boxes]}  # fmt: skip
        number = self._new(tensor)
        self._live.add(number)
        self.trace.operations.append(Operation("_assemble", "", args, (number,), self._stack[-1]))
        return True

    # --- operations -----------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[-1]
        if name == "bernoulli_" and len(args) > 1 and isinstance(args[1], float):
            return args[0].fill_(args[1])  # dropout keeps everything: its mask, divided by p, is 1
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        live = [self._is_live(t) for t in tensors]
        if not any(live) or name in SHAPE_ONLY:
            result = func(*args, **kwargs)
            for t in self._written(func, args, kwargs):
                self._value.pop(id(t), None)  # data overwritten with data: a new value
            return result
        bound = self._bind(func, args, kwargs)
        recorded = tree_map(lambda t: Ref(self.value(t)) if isinstance(t, torch.Tensor) else t, bound)
        result = func(*args, **kwargs)
        written = self._written(func, args, kwargs)
        outputs = []
        flat = result if isinstance(result, tuple | list) else (result,)
        for out in flat:
            if not isinstance(out, torch.Tensor):
                outputs.append(-1)
                continue
            number = self._new(out)
            self._live.add(number)
            outputs.append(number)
            if any(out is t for t in written):
                key = out.untyped_storage()._cdata
                write = Write(number, tuple(out.shape), tuple(out.stride()), out.storage_offset())
                self._writes.setdefault(key, []).append(write)
        pure = name[:-1] if name.endswith("_") and not name.endswith("__") else name
        graded = torch.is_grad_enabled()
        self.trace.operations.append(
            Operation(pure, func._schema.overload_name, recorded, tuple(outputs), self._stack[-1], graded)
        )
        return result

    @staticmethod
    def _bind(func: Any, args: Any, kwargs: Any) -> dict[str, Any]:
        """All operands by name, with the defaults of the schema."""
        bound = {}
        for position, argument in enumerate(func._schema.arguments):
            if position < len(args) and not argument.kwarg_only:
                bound[argument.name] = args[position]
            elif argument.name in kwargs:
                bound[argument.name] = kwargs[argument.name]
            else:
                bound[argument.name] = argument.default_value if argument.has_default_value() else None
        return bound

    def _written(self, func: Any, args: Any, kwargs: Any) -> list[torch.Tensor]:
        found = []
        for position, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[position] if position < len(args) else kwargs.get(argument.name)
                if isinstance(value, torch.Tensor):
                    found.append(value)
        return found


def _loss_and_outputs(result: Any) -> tuple[Any, list[tuple[str, Any]]]:
    """The model's own loss (`.loss`, or a single number), and its floating results at the top level."""

    def floating(t: Any) -> bool:
        return isinstance(t, torch.Tensor) and t.is_floating_point()

    if floating(result):
        return (result, [("output", result)]) if result.dim() == 0 else (None, [("output", result)])
    items: list[tuple[str, Any]]
    if isinstance(result, Mapping):
        items = [(str(k), v) for k, v in result.items()]
    elif isinstance(result, tuple | list):
        items = [(f"output{k}" if k else "output", v) for k, v in enumerate(result)]
    elif hasattr(result, "__dict__"):
        items = list(vars(result).items())
    else:
        items = []
    loss = next((v for k, v in items if k == "loss" and floating(v) and v.dim() == 0), None)
    outputs = [(k, v) for k, v in items if floating(v) and k != "loss"]
    return loss, outputs


@contextlib.contextmanager
def same_state(module: torch.nn.Module) -> Iterator[None]:
    """What a module keeps from pass to pass (running averages, power iterations) is as before afterwards: the graph is
    that of one pass. Through `data`: a backward pass may still hold the buffers, and does not mind."""
    before = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.data.copy_(value)


def record(
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    loss: Callable[..., Any] | None = None,
    frozen: frozenset[str] = frozenset(),
) -> Trace:
    """The trace of `module(*args, **kwargs)` in training mode, then of `loss(result)` if given. `frozen`: buffers that
    count as parameters, because they are random.

    Raises TensorProgError if nothing floating comes out that depends on a parameter.
    """
    names = {}
    for path, leaf in _named((args, dict(kwargs))):
        names[id(leaf)] = (path, leaf)
    recorder = Recorder(module, names, frozen)
    was_training = {m: m.training for m in module.modules()}
    module.train()
    try:
        with (
            torch.enable_grad(),
            torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
            _plain_kernels(),
            same_state(module),
            recorder.watch(),
            recorder,
        ):
            result = module(*args, **kwargs)
            own, outputs = _loss_and_outputs(result)
            if loss is not None:
                own = loss(result)
    finally:
        for m, training in was_training.items():
            m.training = training
    trace = recorder.trace
    for name, tensor in outputs:
        if recorder._is_live(tensor):
            number = recorder.value(tensor)
            trace.outputs.append((name, number))
            trace.results[number] = tensor.detach()
    if own is not None and recorder._is_live(own):
        trace.loss = recorder.value(own)
        trace.results[trace.loss] = own.detach()
    if not trace.outputs and trace.loss is None:
        raise TensorProgError(
            f"{type(module).__name__} returns nothing that depends on a parameter",
            why="there is no floating tensor among its results",
            fix="a module that returns its output, or a `loss` that makes a number of its result",
        )
    return trace


@contextlib.contextmanager
def _plain_kernels() -> Iterator[None]:
    """Without mkldnn; setting its flags warns of GPUs of another kind."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TF32")
        with torch.backends.mkldnn.flags(enabled=False):
            yield


def _named(inputs: tuple[tuple[Any, ...], dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """(name, tensor) of all tensors among the inputs."""
    args, kwargs = inputs
    for k, arg in enumerate(args):
        for j, leaf in enumerate(tree_leaves(arg)):
            if isinstance(leaf, torch.Tensor):
                yield ("input" if not k and not j else f"input{k}" + (f"_{j}" if j else "")), leaf
    for key, arg in kwargs.items():
        for j, leaf in enumerate(tree_leaves(arg)):
            if isinstance(leaf, torch.Tensor):
                yield key + (f"_{j}" if j else ""), leaf

"""The mode under which a run is recorded: every ATen operation that depends on a parameter."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tensorprog.torch.functions import differentiated
from tensorprog.torch.routed import Routed
from tensorprog.torch.trace import Leaf, Operation, Ref, TooLargeError, Trace, Write, memory_of

SHAPE_ONLY = frozenset(
    "empty_like ones_like zeros_like full_like rand_like randn_like new_zeros new_ones new_empty new_full sym_size "
    "sym_stride is_same_size".split()
)  # results that do not depend on the values of their operands
MOST_OPERATIONS = 50_000  # in a run that is read: each takes about 10 kB in all that follows
MOST_BYTES = 2**31  # of the tensors in such a run


class Recorder(TorchDispatchMode):  # type: ignore[misc]
    """Records into `trace` while it is entered; `watch` modules first. All tensors seen are kept alive, so that an
    identity is never used twice."""

    def __init__(
        self,
        module: torch.nn.Module,
        inputs: Mapping[int, tuple[str, Any]],
        frozen: frozenset[str] = frozenset(),
        limited: bool = False,
    ) -> None:
        """`inputs`: identity of a tensor -> what it is called, and itself. `frozen`: buffers taken as parameters.
        `limited`: raise TooLargeError for a run that is too large to be read."""
        super().__init__()
        self._limited = limited
        self._memories: set[int] = set()  # those counted in
        self._bytes = 0
        self.trace = Trace()
        self._alive: list[Any] = []
        self._value: dict[int, int] = {}  # identity of a tensor object -> its value
        self._writes: dict[int, list[Write]] = {}  # memory -> what was written into it
        self._detached: dict[int, int] = {}  # value -> the one it was, with its gradient
        self._live: set[int] = set()  # values that depend on a parameter
        self._params: dict[int, str] = {}
        self._storages: dict[int, tuple[str, torch.Tensor]] = {}
        self._names = {key: name for key, (name, _) in inputs.items()}
        self._data_storages = {memory_of(t): name for name, t in inputs.values()}  # through views
        self._stack: list[str] = [""]
        self.routed = Routed(self._is_live, lambda: self._stack[-1])
        self._inside: list[bool] = []  # the Functions that are running: whether gradients pass through them
        self._paths = {id(m): path for path, m in module.named_modules()}
        self.trace.modules = {path: type(m).__name__ for path, m in module.named_modules()}
        for name, p in module.named_parameters():
            self._params[id(p)] = name
            self._storages[memory_of(p)] = (name, p)
        for name, b in module.named_buffers():
            if name in frozen:
                self._params[id(b)] = name
            else:
                self._names.setdefault(id(b), name)

    # --- modules --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def watch(self, verify: bool = False) -> Iterator[None]:
        """While entered, the running module is known. `verify`: the backward of every `torch.autograd.Function`, as in
        `differentiated`."""
        from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

        def before(module: torch.nn.Module, _: Any) -> None:
            self._stack.append(self._paths.get(id(module), self._stack[-1]))

        def after(_: torch.nn.Module, __: Any, ___: Any) -> None:
            self._stack.pop()

        @contextlib.contextmanager
        def inside(gradient: bool) -> Iterator[None]:
            self._inside.append(gradient if not self._inside else self._inside[-1])
            try:
                yield
            finally:
                self._inside.pop()

        first, second = register_module_forward_pre_hook(before), register_module_forward_hook(after, always_call=True)
        try:
            with differentiated(inside, verify), self.routed:
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
        if self._limited:
            self._require_room(tensor)
        return number

    def _require_room(self, tensor: torch.Tensor) -> None:
        memory, count = memory_of(tensor), len(self.trace.operations)
        if memory not in self._memories:
            self._memories.add(memory)
            self._bytes += tensor.untyped_storage().nbytes() if tensor.layout is torch.strided else 0
        if count >= MOST_OPERATIONS or self._bytes > MOST_BYTES:
            many = count >= MOST_OPERATIONS
            most = f"{MOST_OPERATIONS} operations" if many else f"{MOST_BYTES / 2**30:g} GiB of tensors"
            raise TooLargeError(
                f"one run of the model takes more than {most}: it was stopped in `{self._stack[-1] or 'the model'}`",
                why=f"every operation is kept: {count} so far, with {self._bytes / 2**30:.2g} GiB",
                fix="shorter sequences (a loop over time counts every step), a smaller batch or fewer layers",
            )

    def _parameter(self, tensor: torch.Tensor) -> int | None:
        """The value of a parameter, which another object may stand for (`.data`); None if it is none."""
        name = self._params.get(id(tensor))
        if name is None:
            found = self._storages.get(memory_of(tensor))
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
            name = self._names.get(id(tensor)) or self._data_storages.get(memory_of(tensor), "")
            self.trace.leaves[number] = Leaf("data", name, tensor.detach().to_dense().clone())
        return number

    def _operand(self, tensor: torch.Tensor) -> int:
        """The number of a tensor that is read. Autograd detaches what it saves of an operation's result, and gives it
        its gradient back when a backward pass reads it, through which a second one may pass."""
        number = self.value(tensor)
        while tensor.grad_fn is not None and number in self._detached:
            number = self._detached[number]
        return number

    # --- writes into a part of a tensor ---------------------------------------------------------------

    def _assembled(self, tensor: torch.Tensor) -> bool:
        """Whether something recorded was written into a part of the tensor's memory since its value was made; if so it
        has a new value, the result of an operation `_assemble` (the old value, then the parts in their places)."""
        writes = self._writes.get(memory_of(tensor))
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
        aside = tensor.requires_grad and all(write.aside for write, _ in found)
        self.trace.operations.append(Operation("_assemble", "", args, (number,), self._stack[-1], by=aside))
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
            if name.startswith(("empty", "new_empty")):
                result.zero_()  # not what the memory was last used for
            for t in self._written(func, args, kwargs):
                self._value.pop(id(t), None)  # data overwritten with data: a new value
            return result
        graded = self._inside[-1] if self._inside else torch.is_grad_enabled()
        if name == "clone" and graded:  # no operation: whether a reshape, or `contiguous`, copies depends on the sizes
            result = func(*args, **kwargs)
            self._value[id(result)] = self.value(args[0])
            self._alive.append(result)
            return result
        bound = self._bind(func, args, kwargs)
        if name in ("as_strided", "as_strided_"):  # what it reads depends on where the tensor's entries are
            bound |= {"own_stride": list(args[0].stride()), "own_offset": args[0].storage_offset()}
        if name == "_to_copy" and args[0].is_floating_point() and _whole(bound["dtype"]):
            bound |= {"rounds": bool((args[0] != args[0].trunc()).any())}
        recorded = tree_map(lambda t: Ref(self._operand(t)) if isinstance(t, torch.Tensor) else t, bound)
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
            if name == "detach":
                self._detached[number] = recorded["self"].value
            if any(out is t for t in written):
                key = memory_of(out)
                aside = key in self._storages and not out.requires_grad
                write = Write(number, tuple(out.shape), tuple(out.stride()), out.storage_offset(), aside)
                self._writes.setdefault(key, []).append(write)
        pure = name[:-1] if name.endswith("_") and not name.endswith("__") else name.replace("_unsafe_view", "view")
        by = not graded and any(t.requires_grad for t in written)
        self.trace.operations.append(
            Operation(pure, func._schema.overload_name, recorded, tuple(outputs), self._stack[-1], graded, by)
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


def _whole(dtype: torch.dtype | None) -> bool:
    """Whether this kind of number is a whole one."""
    return dtype is not None and not dtype.is_floating_point and not dtype.is_complex and dtype != torch.bool

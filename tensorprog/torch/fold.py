"""Turning multipliers into plain weights: a model of the stock code that computes the same, for export."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch

from tensorprog.dims import Dim
from tensorprog.errors import TensorProgError
from tensorprog.torch.apply import RECORD, applied
from tensorprog.torch.changes import Absorb, Changes, InputHook, OutputHook, Place
from tensorprog.torch.placing import PlacedMultiplier, range_of, take_away
from tensorprog.torch.rescale import Range
from tensorprog.torch.sizes import forget_compiled, unwrapped

Module = Any
Tensor = Any

nn = torch.nn
_PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ROWS = {-1: (nn.Linear,), -2: (nn.Conv1d,), -3: (nn.Conv2d,), -4: (nn.Conv3d,)}  # by the axis of their channels
_AFFINE = (*_PRODUCTS, nn.Embedding, nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold(model: Module) -> tuple[str, ...]:
    """Multiplies every multiplier into a weight, and takes it away: the outputs stay what they are, up to rounding.

    What remains is a model of the stock code, with the same keys; a tied weight whose uses need different factors is
    untied. Parameter groups made before do not fit it. Returns what was done, in words. Raises TensorProgError, with
    the model as it was, if a multiplier has no weight to go into.
    """
    model = unwrapped(model)
    record = applied(model)
    if record is None:
        raise TensorProgError("nothing was applied to this model", why="what is folded are the multipliers of `apply`",
                              fix="p.apply(model, ..) before, or nothing")  # fmt: skip
    plan = [(m, _target(model, record.changes, m)) for m in record.multipliers if not isinstance(m.place, Absorb)]
    for _, place in plan:
        if isinstance(place, Absorb):  # refuses ranges of sharded weights, before anything is changed
            range_of(place, record.sizes).of(model.get_parameter(place.param))
    lines = []
    with torch.no_grad():
        for m, place in plan:
            lines.append(_multiply(model, m, place, record.sizes))
            take_away(model, m)
    del model.__dict__[RECORD]
    forget_compiled()
    return tuple(lines)


def _target(model: Module, changes: Changes, m: PlacedMultiplier) -> Place:
    """The place of the multiplier whose module's weights can take it: untied ones first."""
    if (part := m.change.part) is not None:
        return Absorb(m.change.param, part.axis, part.start, part.stop)
    candidates = [_projection(model, place) or place for place in (m.place, *m.change.places)
                  if _foldable(model, place) and not _read_elsewhere(model, changes, place)]  # fmt: skip
    for place in candidates:
        if isinstance(place, Absorb) or not _tied(model, place.module):  # type: ignore[union-attr]
            return place
    if candidates:
        return candidates[0]
    raise TensorProgError(f"the multiplier {m.change.name} cannot be folded",
                          why="no module there has weights of its own that can take it, and that nothing else reads",
                          fix="export with the hook, or with the attribute as it is")  # fmt: skip


def _read_elsewhere(model: Module, changes: Changes, place: Place) -> bool:
    """Whether something else reads the weight that would take the factor, and would go on reading it once it is untied
    from the modules that hold it too."""
    if isinstance(place, Absorb):  # of the whole weight, in all that reads it
        return False
    part = _projection(model, place)
    weight = _weight(model, place.module) if part is None else model.get_parameter(part.param)  # type: ignore[union-attr]
    uses = {m.module for m in changes.multipliers if m.kind == "use" and model.get_parameter(m.param) is weight}
    names = [n for n, p in model.named_parameters(remove_duplicate=False) if p is weight]
    if part is not None and len(names) > 1:  # it is not untied
        return True
    return not uses <= {n.rpartition(".")[0] for n in names}


def _projection(model: Module, place: Place) -> Absorb | None:
    """The part of an `nn.MultiheadAttention`'s weights that meets one of its inputs: of queries, keys, values."""
    if not isinstance(place, InputHook) or place.axis is not None or place.argument > 2:
        return None
    owner = model.get_submodule(place.module)
    if not isinstance(owner, nn.MultiheadAttention) or type(owner).forward is not nn.MultiheadAttention.forward:
        return None
    if owner.in_proj_weight is None:
        return Absorb(f"{place.module}.{'qkv'[place.argument]}_proj_weight")
    start, stop = (Dim.of((place.argument + k) * owner.embed_dim) for k in (0, 1))
    return Absorb(f"{place.module}.in_proj_weight", 0, start, stop)


def _foldable(model: Module, place: Place) -> bool:
    match place:
        case Absorb():
            return True
        case OutputHook(module, _, None):
            owner = model.get_submodule(module)
            return _computes(owner, _AFFINE) or _is_gain(owner)
        case OutputHook(module, _, axis):
            owner = model.get_submodule(module)
            sharded = hasattr(owner, "weight") and hasattr(owner.weight, "to_local")
            return axis is not None and not sharded and _computes(owner, _ROWS.get(axis, ()))
        case InputHook(module):
            return _computes(model.get_submodule(module), _PRODUCTS) or _projection(model, place) is not None
        case _:
            return False


def _computes(owner: Module, kinds: tuple[Any, ...]) -> bool:
    """Whether a module does what one of the kinds does, with a weight of its own."""
    if owner._parameters.get("weight") is None:
        return False
    if type(owner).__name__ == "Conv1D" and type(owner).__module__.startswith("transformers."):
        return nn.Linear in kinds  # Hugging Face: a linear layer with its weight transposed
    return any(isinstance(owner, kind) and type(owner).forward is kind.forward for kind in kinds)


def _is_gain(owner: Module) -> bool:
    """Whether the output of a norm of someone's own is proportional to its weight (and bias): by trying."""
    own = dict(owner.named_parameters())
    if "weight" not in own or not own.keys() <= {"weight", "bias"} or own["weight"].ndim != 1:
        return False
    weight = own["weight"]
    x = torch.randn(2, 3, weight.shape[0], generator=torch.Generator().manual_seed(0)).to(weight)
    try:
        once = owner.forward(x)
        copy = deepcopy(owner)
        with torch.no_grad():
            for p in copy.parameters():
                p.mul_(2)
        return bool(torch.allclose(2 * once, copy.forward(x)))  # `forward`: without its hooks
    except Exception:  # whatever it is, it is no plain norm
        return False


def _weight(model: Module, module: str) -> Tensor | None:
    return getattr(model.get_submodule(module), "weight", None)


def _tied(model: Module, module: str) -> bool:
    weight = _weight(model, module)
    return sum(p is weight for _, p in model.named_parameters(remove_duplicate=False)) > 1


def _multiply(model: Module, m: PlacedMultiplier, place: Place, sizes: Any) -> str:
    k = m.factor
    for name, tensor in _targets(model, place):
        where = range_of(place, sizes) if isinstance(place, OutputHook | Absorb) else Range()
        if where.axis is not None and isinstance(place, OutputHook):
            where = replace(where, axis=_rows(model, place, tensor))
        where.of(tensor).mul_(k)
        last = name
    return f"{m.change.name}: folded into {last}"


def _rows(model: Module, place: OutputHook, tensor: Tensor) -> int:
    """The axis of a linear layer's weight (or bias) along which its outputs are."""
    return 1 if tensor.ndim > 1 and type(model.get_submodule(place.module)).__name__ == "Conv1D" else 0


def _targets(model: Module, place: Place) -> Iterator[tuple[str, Tensor]]:
    """The parameters that take the factor; a tied weight is untied first."""
    if isinstance(place, Absorb):
        yield place.param, model.get_parameter(place.param)
        return
    assert isinstance(place, OutputHook | InputHook)
    owner = model.get_submodule(place.module)
    bias = getattr(owner, "bias", None)
    if bias is not None and isinstance(place, OutputHook):
        yield f"{place.module}.bias", bias
    if _tied(model, place.module):
        owner.weight = torch.nn.Parameter(owner.weight.detach().clone(), requires_grad=owner.weight.requires_grad)
        if getattr(getattr(model, "config", None), "tie_word_embeddings", None):
            model.config.tie_word_embeddings = False  # else it would be tied again when it is loaded
    yield f"{place.module}.weight", owner.weight

"""Putting a parametrization into a model that stands before us: initial values, multipliers, parameter groups."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tensorprog.errors import TensorProgError
from tensorprog.torch.changes import Absorb, Changes, MultiplierChange, Place
from tensorprog.torch.groups import Groups, Setting, Tuned, make_groups
from tensorprog.torch.place_text import place_text
from tensorprog.torch.placing import PlacedMultiplier, place_of, put, range_of, take_away
from tensorprog.torch.ranges import without_ranges
from tensorprog.torch.rescale import Range, Rescaled, checksum, moved, rescale, size_of, undo
from tensorprog.torch.sizes import base_sizes, forget_compiled, parameters_by_change, sizes_of, unwrapped

Module = Any
RECORD = "_tensorprog_applied"  # the attribute of the model that holds what was done to it


class AppliedWarning(UserWarning):
    """Nothing was done, and why."""


@dataclass(frozen=True)
class Applied:
    """What was done to a model: kept in the model itself, so that copies know it too. `untouched`: where no weight was
    rescaled, the types of all and sums over their bits, to tell whether they have moved since."""

    changes: Changes
    base: Mapping[str, int]
    sizes: Mapping[str, int]
    rescaled: tuple[Rescaled, ...]
    multipliers: tuple[PlacedMultiplier, ...]
    absorbed: Mapping[str, float]
    untouched: Mapping[str, tuple[str, int]]


def applied(model: Module) -> Applied | None:
    """What was done to the model, None if nothing was."""
    record: Applied | None = unwrapped(model).__dict__.get(RECORD)
    return record


def apply(
    changes: Changes,
    model: Module,
    base: int | Mapping[str, int],
    lr: Setting = None,
    weight_decay: Setting = None,
    eps: float | None = None,
    *,
    clip: float | None = None,
    rescale_init: bool = True,
    absorb: bool = False,
    keep: Collection[str] = (),
    starts: Mapping[str, float] | None = None,
) -> Groups:
    """Changes a model in place to what its parametrization says, and returns its parameter groups.

    `base`: the width at which `lr`, `weight_decay` and `eps` were tuned: there, nothing changes at all. `lr` and
    `weight_decay` may also be functions of a parameter's name and tensor, or mappings from an optimizer's name
    (default: the optimizer's own).
    `clip`: the maximal global gradient norm at the base, if it is clipped; the groups' `clip` is the one to use.
    `rescale_init` False: leave the weights, because a checkpoint of an applied model has been, or will be, loaded.
    `absorb`: put multipliers into weights and learning rates, not into attributes or hooks, wherever the optimizer's
    symmetry allows. `keep`: parameters and multipliers (by name) to leave as they are. `starts`: the root mean square
    that parameters have at the base, of those that are `measured`.

    Works on a model on any device, of any floating-point type, before or after `torch.compile`, `fully_shard` or DDP;
    once, after the initialisation and before training. Applying again changes nothing, and warns. Raises
    TensorProgError, with the model as it was, for what cannot be right.
    """
    model = unwrapped(model)
    parameters, sizes, start = parameters_by_change(changes, model), sizes_of(changes, model), base_sizes(changes, base)
    changes = _without(changes, keep)
    moved_out = without_ranges(changes)
    tuned = Tuned(lr, weight_decay, eps)
    record = applied(model)
    if record is not None:
        if record.base != start or record.changes != changes:
            raise TensorProgError("the model has other changes applied already", why=f"for the base {record.base}",
                                  fix="p.remove(model) first")  # fmt: skip
        warnings.warn("already applied to this model: nothing was changed", AppliedWarning, stacklevel=2)
        return _finished(make_groups(moved_out, parameters, sizes, start, tuned, record.absorbed), changes, clip, ())
    _require_derived(changes)
    chosen = [(m, m.factor.ratio(sizes, start)) for m in changes.multipliers if not m.shared_with]
    places = [(m, k, place_of(m, model, changes, clip, absorb)) for m, k in chosen if k != 1.0]
    absorbed = {place.param: k for _, k, place in places if isinstance(place, Absorb) and place.axis is None}
    groups = make_groups(moved_out, parameters, sizes, start, tuned, absorbed)  # refuses before anything is changed
    if not changes.needed:
        warnings.warn(f"the model is in muP for {changes.optimizer} already: nothing was changed", AppliedWarning,
                      stacklevel=2)  # fmt: skip
        return _finished(groups, changes, clip, ())
    done: list[Rescaled] = []
    placed: list[PlacedMultiplier] = []
    try:
        if rescale_init:
            for name, factor in _measured(changes, parameters, sizes, start, starts or {}):
                done.append(rescale(name, parameters[name], factor))
            for name, where, factor in _rescalings(moved_out, places, sizes, start):
                done.append(rescale(name, parameters[name], factor, where))
        for m, k, place in places:
            placed.append(put(model, m, place, k, sizes))
    except BaseException:
        _take_back(model, parameters, done, placed)
        raise
    forget_compiled()
    known = {} if done or not placed or not rescale_init else _checksums(parameters)
    model.__dict__[RECORD] = Applied(changes, start, sizes, tuple(done), tuple(placed), absorbed, known)
    return _finished(groups, changes, clip, _in_words(done, placed))


def remove(model: Module) -> None:
    """Undoes `apply`: the model is what it was before, to the last bit.

    Raises TensorProgError if nothing was applied, or if its weights have moved since.
    """
    model = unwrapped(model)
    record = applied(model)
    if record is None:
        raise TensorProgError("nothing was applied to this model", why="what is undone is what `apply` noted in it",
                              fix="p.apply(model, ..) before, or nothing")  # fmt: skip
    parameters = parameters_by_change(record.changes, model)
    types = {d.name: d.dtype for d in record.rescaled} | {name: dtype for name, (dtype, _) in record.untouched.items()}
    for name, dtype in types.items():
        if (now := str(parameters[name].dtype)) != dtype:
            raise TensorProgError(f"`{name}` was {dtype} when the changes were applied, and is {now}",
                                  why="what is given back are the weights that were there, to the last bit",
                                  fix="p.remove(model) before the conversion, or p.fold(model)")  # fmt: skip
    trained = next((d.name for d in record.rescaled if moved(d, parameters[d.name])), None)
    found = _checksums({name: parameters[name] for name in record.untouched})
    trained = trained or next((name for name, was in record.untouched.items() if found[name] != was), None)
    if trained is not None:
        raise TensorProgError(
            f"the weights have moved since (`{trained}`)",
            why="without the changes they would not compute what was learned",
            fix="p.fold(model), for a model without multipliers that computes the same",
        )  # fmt: skip
    _take_back(model, parameters, record.rescaled, record.multipliers)
    del model.__dict__[RECORD]
    forget_compiled()


def _checksums(parameters: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    return {name: (str(tensor.dtype), checksum(Range().of(tensor)))
            for name, tensor in parameters.items() if not tensor.is_meta}  # fmt: skip


# --- what is to be done -------------------------------------------------------------------------------


def _without(changes: Changes, keep: Collection[str]) -> Changes:
    """The changes, less what is to be left as it is."""
    known = {p.name for p in changes.parameters} | {m.name for m in changes.multipliers}
    lost = next((name for name in keep if name not in known), None)
    if lost is not None:
        raise TensorProgError(f"there is no `{lost}` to keep", why="`keep` names parameters and multipliers",
                              fix=", ".join(sorted(known)[:4]) + ", ...")  # fmt: skip
    kept = tuple(
        p if p.name not in keep else replace(p, needed=replace(p.needed, init_std=p.init_now, lr=None,
                                                               weight_decay=None, eps=None), parts=(), refused="",
                                        measured=False)
        for p in changes.parameters
    )  # fmt: skip
    return replace(
        changes,
        parameters=kept,
        multipliers=tuple(m for m in changes.multipliers if m.name not in keep and not (m.part and m.param in keep)),
    )


def _require_derived(changes: Changes) -> None:
    for p in changes.parameters:
        if p.refused:
            raise TensorProgError(f"nothing was derived for `{p.name}`", why=p.refused,
                                  fix=f'keep=["{p.name}"] to leave it as it is')  # fmt: skip


def _rescalings(
    changes: Changes,
    places: list[tuple[MultiplierChange, float, Place]],
    sizes: Mapping[str, int],
    base: Mapping[str, int],
) -> Iterator[tuple[str, Range, float]]:
    """Parameter, part of it, and the factor of its initial value, where that is not 1."""
    for p in changes.parameters:
        for part in p.parts:
            if part.init_now is not None and part.needed.init_std is not None:
                where = Range(part.axis, int(part.start.evaluate(sizes)), int(part.stop.evaluate(sizes)))
                factor = (part.needed.init_std / part.init_now).ratio(sizes, base)
                if factor != 1.0:
                    yield p.name, where, factor
        factor = p.init_factor.ratio(sizes, base)
        if not p.parts and not p.measured and factor != 1.0:
            yield p.name, Range(), factor
    for _, k, place in places:
        if isinstance(place, Absorb):
            yield place.param, range_of(place, sizes), k


def _measured(
    changes: Changes,
    parameters: Mapping[str, Any],
    sizes: Mapping[str, int],
    base: Mapping[str, int],
    starts: Mapping[str, float],
) -> Iterator[tuple[str, float]]:
    """Parameter and the factor of its initial value, of those whose present size follows no power."""
    for p in changes.parameters:
        if p.measured and p.needed.init_std is not None and sizes != base:
            if p.name not in starts:
                raise TensorProgError(f"how large `{p.name}` is at the base is not known",
                                      why="it starts at numbers whose size follows no power of the width",
                                      fix="p.apply, which knows the builder, or `starts`")  # fmt: skip
            size = size_of(p.name, parameters[p.name])
            if size == 0:
                raise TensorProgError(f"`{p.name}` is zero: no factor gives it the size that it has at the base",
                                      why="its start is measured, and rescaled to that of the base",
                                      fix=f"initialise it before, or keep=['{p.name}']")  # fmt: skip
            yield p.name, starts[p.name] * p.needed.init_std.ratio(sizes, base) / size


# --- doing and undoing --------------------------------------------------------------------------------


def _take_back(model: Module, parameters: Mapping[str, Any], done: Any, placed: Any) -> None:
    for multiplier in reversed(placed):
        take_away(model, multiplier)
    for d in reversed(done):
        undo(d, parameters[d.name])


# --- what is said about it ------------------------------------------------------------------------------


def _finished(groups: Groups, changes: Changes, clip: float | None, done: tuple[str, ...]) -> Groups:
    norm = changes.gradient_norm
    groups.clip = clip if clip is None or norm is None else clip * norm.ratio(groups.sizes, groups.base)
    groups.done = done
    return groups


def _in_words(done: list[Rescaled], placed: list[PlacedMultiplier]) -> tuple[str, ...]:
    lines = [f"{d.name}: initial values times {d.factor:.6g}" for d in done]
    lines += [f"{m.change.name}: times {m.factor:.6g}, {place_text(m.place)}" for m in placed]
    return tuple(lines)

"""`derive` for an existing PyTorch model: read at several widths, lowered to a graph, solved by the calculus."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from tensorprog.architecture import Architecture
from tensorprog.calculus.forms import _exponents, sized
from tensorprog.calculus.solve import Solution, solve
from tensorprog.derivation import Derivation, _collector_at_rest, _units
from tensorprog.dims import BATCH_SYMBOL, Dim
from tensorprog.errors import TensorProgError
from tensorprog.functions import Function
from tensorprog.graph import Graph, Init
from tensorprog.optimizers import Choice, Optimizer
from tensorprog.optimizers.choice import choose
from tensorprog.optimizers.policies import DEFAULT_POLICY, POLICIES
from tensorprog.parametrization import Parametrization, ParamExponents
from tensorprog.syntax import Arch
from tensorprog.torch.capture import Trace, record
from tensorprog.torch.changes import Changes
from tensorprog.torch.laws import Laws
from tensorprog.torch.lower import Lowered, lower
from tensorprog.torch.present import StartLaw, build_traced, start_laws
from tensorprog.torch.zipped import Zipped, zip_traces

if TYPE_CHECKING:
    from tensorprog.coordcheck.report import CheckReport
    from tensorprog.torch.groups import Groups
    from tensorprog.torch.lint import LintReport

WIDTHS = (3, 5, 7, 10)
MULTIPLES = (1, 8, 64)  # tried in turn, where a builder does not accept tiny sizes or rounds them
FORM = "table3"


class ImportedArchitecture(Architecture):
    """The stages before the calculus, of a graph that was read from a model instead of a file."""

    def __init__(self, graph: Graph, file: str) -> None:
        super().__init__("", file)
        self.__dict__["graph"] = graph

    @cached_property
    def tree(self) -> Arch:
        return Arch(())

    @cached_property
    def functions(self) -> dict[str, Function]:
        return {}


@dataclass(frozen=True)
class Reading:
    """A model as read: `points` of the builder's symbols (the first is the base of all laws), the recorded runs as one
    (`zipped`), the graph (`lowered`), how parameters start (`starts`). `aliases`: parameter -> its other names."""

    build: Callable[..., Any]
    inputs: Any
    name: str
    points: tuple[Mapping[str, int], ...]
    zipped: Zipped
    lowered: Lowered
    starts: Mapping[str, StartLaw]
    aliases: Mapping[str, tuple[str, ...]]
    trained: Mapping[str, bool]
    shapes: tuple[Mapping[str, tuple[int, ...]], ...]
    run: _Run = field(repr=False)

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.lowered.graph.widths

    @property
    def module(self) -> Any:
        """The module, as built at the first point."""
        return self.run.module

    def size_law(self, sizes: tuple[int, ...], what: str) -> Dim:
        """The law of a size, given at every build."""
        return self.zipped.dim(sizes + (sizes[0],) * (len(self.points) - len(sizes)), what, "")

    def arrays(self, point: int) -> dict[str, Any]:
        """The parameters of the graph as they were recorded at one point, without axes of size 1."""
        found = {}
        for leaf in self.zipped.traces[point].leaves.values():
            if leaf.kind == "param" and leaf.name in self.lowered.graph.parameters:
                array = leaf.tensor.detach().double().numpy()
                found[leaf.name] = array.reshape([s for s in array.shape if s != 1])
            elif leaf.kind == "param" and leaf.name in self.lowered.parts:
                array = leaf.tensor.detach().double().numpy()
                array = array.reshape([s for s in array.shape if s != 1])
                for part in self.lowered.parts[leaf.name]:
                    ends = [int(d.evaluate(self.points[point])) for d in (part.start, part.stop)]
                    cut = [slice(None)] * part.axis + [slice(*ends)]
                    found[part.name] = array[tuple(cut)]
        return found

    def rerun(self) -> list[Any]:
        """The outputs of the graph's kind, from the module itself at the first point."""
        trace = _trace(self.run, self.points[0])
        values = [value for _, value in trace.outputs] or ([] if trace.loss is None else [trace.loss])
        return [trace.results[value].double().numpy() for value in values]

    @cached_property
    def architecture(self) -> ImportedArchitecture:
        return ImportedArchitecture(self.lowered.graph, self.name)


@dataclass(frozen=True)
class ImportedDerivation:
    """The result of `derive`: what every parameter of the model is and must be (`changes`), from `derivation`, which
    is the calculus's own result on the graph of the model's operations (`reading`)."""

    reading: Reading
    derivation: Derivation

    @cached_property
    def changes(self) -> Changes:
        from tensorprog.torch.report import changes_of

        return changes_of(self.reading, self.derivation)

    @property
    def params(self) -> Mapping[str, ParamExponents]:
        """Graph parameter -> its exponents, without multipliers."""
        return self.derivation.params

    def apply(self, model: Any, base: int | Mapping[str, int], lr: Any = None, weight_decay: Any = None,
              eps: float | None = None, **options: Any) -> Groups:  # fmt: skip
        """Changes a model of this kind in place; its parameter groups (see `tensorprog.torch.apply.apply`)."""
        from tensorprog.torch.apply import apply

        return apply(self.changes, model, base, lr, weight_decay, eps, **options)

    def remove(self, model: Any) -> None:
        """Undoes `apply`, to the last bit (see `tensorprog.torch.apply.remove`)."""
        from tensorprog.torch.apply import remove

        remove(model)

    def fold(self, model: Any) -> tuple[str, ...]:
        """Turns what `apply` multiplied into plain weights (see `tensorprog.torch.fold.fold`)."""
        from tensorprog.torch.fold import fold

        return fold(model)

    def check(self, widths: Any = None, **options: Any) -> CheckReport:
        """Every operation's measured exponent against its prediction (see `tensorprog.torch.nodecheck.check_model`)."""
        from tensorprog.torch.nodecheck import check_model

        return check_model(self, widths, **options)

    def lint(self) -> LintReport:
        """What is wrong with the model as it stands (see `tensorprog.torch.lint.lint`)."""
        from tensorprog.torch.lint import lint

        return lint(self)

    def explain(self, param: str, quantity: str | None = None) -> str:
        """The whole chain behind the numbers of one parameter."""
        return self.derivation.explain(param, quantity)

    def to_json(self) -> dict[str, Any]:
        """As `Derivation.to_json`, and for every parameter of the model what it is now."""
        from tensorprog.torch.report import to_json

        return to_json(self)

    def render(self, format: str = "table", *, color: bool = False) -> str:
        """As `table` or `json`."""
        if format == "json":
            return json.dumps(self.to_json(), indent=2) + "\n"
        from tensorprog.torch.report import table

        return table(self, color=color)

    def to_tp(self) -> str:
        """The architecture as a .tp file, which derives to the same exponents.

        Raises TensorProgError for what the language has no notation for, and if the text would derive to others.
        """
        from tensorprog.torch.emit_tp.faithful import faithful_text

        classes = {path: type(m).__name__ for path, m in self.reading.module.named_modules()}
        points = self.reading.points[:2]
        return faithful_text(self.derivation, self.reading.lowered.graph, classes, points)

    def __str__(self) -> str:
        return self.render()


def derive(
    build: Callable[..., Any],
    inputs: Any = None,
    optimizer: str | Optimizer | Choice = "adam",
    widths: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    *,
    name: str | None = None,
    vectors: str | Optimizer | None = None,
    optimizer_for: Mapping[str, str | Optimizer] | None = None,
    decay_policy: str | None = None,
) -> ImportedDerivation:
    """The exponents that every parameter of an existing model needs, under an optimizer.

    `build(n)`, or `build(hidden=.., ffn=..)` for independent axes, returns a module, or (module, inputs, loss) where
    `loss` maps the module's result to a number. `inputs`: a tensor, a tuple or dict of arguments, or a function of n
    that returns one. `widths`: the values of n to look at (four or more; by default small ones that the builder
    accepts), or symbol -> values. `vectors`, `optimizer_for`, `decay_policy`: as in `tensorprog.derivation.derive`.

    Raises TensorProgError where an operation is not covered or sizes follow no law.
    """
    choice = choose(optimizer, vectors, optimizer_for or {})
    return derive_reading(read(build, inputs, widths, name), choice, decay_policy)


def derive_reading(
    reading: Reading, optimizer: str | Optimizer | Choice, decay_policy: str | None = None
) -> ImportedDerivation:
    """The exponents of a model that has been read."""
    policy = decay_policy or DEFAULT_POLICY
    if policy not in POLICIES:
        raise TensorProgError(f"unknown policy of weight decay `{policy}`", fix=", ".join(POLICIES))
    architecture = reading.architecture
    choice = choose(optimizer)
    with _collector_at_rest():
        try:
            solution = solve(architecture.program, _units(architecture.graph), choice, {})
        except TensorProgError as error:
            raise error.located("", reading.name) from None
        parametrization = without_multipliers(solution, policy)
        derivation = Derivation(architecture, choice.default.name, FORM, solution, parametrization, policy)
    return ImportedDerivation(reading, derivation)


def without_multipliers(solution: Solution, policy: str = DEFAULT_POLICY) -> Parametrization:
    """The solution in the gauge W = w: multipliers only where the uses of one parameter need different ones."""
    solver = solution.solver
    forward, exponents = solver.program.forward, solution.exponents
    params = {name: _exponents(solution, name, sized(solution, name), FORM, policy) for name in forward.parameters}
    unknowns = {name: solver.units.unpack(exponents.M[name]) for name in forward.unknowns}
    return Parametrization(FORM, solver.choice.default.name, params, unknowns, solver.choice)


# --- reading --------------------------------------------------------------------------------------------


def read(
    build: Callable[..., Any],
    inputs: Any = None,
    widths: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    name: str | None = None,
) -> Reading:
    """A model, run at several widths and lowered to a graph (arguments as in `derive`)."""
    symbols = _symbols(build)
    if widths is not None:
        return _read(build, inputs, _points(symbols, widths), name)
    failure: TensorProgError | None = None
    for multiple in MULTIPLES:
        try:
            return _read(build, inputs, _points(symbols, [multiple * w for w in WIDTHS]), name)
        except BuildError as error:
            failure = failure or error
        except TensorProgError as error:
            if "follows no law" not in error.message and "no law" not in error.why:
                raise
            failure = error
    assert failure is not None
    raise failure


class BuildError(TensorProgError):
    """The builder, or the module's forward pass, raised an exception."""


def _symbols(build: Callable[..., Any]) -> tuple[str, ...]:
    """The builder's integers: its parameters without defaults."""
    try:
        parameters = inspect.signature(build).parameters.values()
    except (TypeError, ValueError):
        return ("n",)
    names = tuple(
        p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    )
    if not names or BATCH_SYMBOL in names:
        raise TensorProgError(
            "the builder takes no width" if not names else f"a width may not be called `{BATCH_SYMBOL}`",
            why="sizes are found by building the model at several widths",
            fix="`def build(n): ...` that returns a module",
        )
    return names


def _points(symbols: tuple[str, ...], widths: Sequence[int] | Mapping[str, Sequence[int]]) -> list[dict[str, int]]:
    """Where to build: a base, every symbol varied alone, all together."""
    if len(symbols) == 1:
        values = list(widths[symbols[0]] if isinstance(widths, Mapping) else widths)
        if len(set(values)) < 4 or any(v < 2 for v in values):
            raise TensorProgError("at least four different widths above 1 are needed",
                                  why="two decide an exponent, a third a constant beside it, the fourth is the check",
                                  fix="--widths 3,5,7,10")  # fmt: skip
        return [{symbols[0]: v} for v in values]
    if isinstance(widths, Mapping):
        given = {s: list(widths[s]) for s in symbols}
    else:
        unit = widths[0] // WIDTHS[0] if widths[0] % WIDTHS[0] == 0 else 1
        given = {s: [unit * (2 * k + 3), unit * (4 * k + 8), unit * (6 * k + 13)] for k, s in enumerate(symbols)}
    base = {s: v[0] for s, v in given.items()}
    points = [base]
    for s in symbols:
        points += [{**base, s: v} for v in given[s][1:]]
    points.append({s: v[1] for s, v in given.items()})
    return points


def _call(build: Callable[..., Any], point: Mapping[str, int]) -> Any:
    values = {s: v for s, v in point.items() if s != BATCH_SYMBOL}
    if len(values) == 1:
        (symbol,) = values
        parameter = inspect.signature(build).parameters.get(symbol)
        if parameter is None or parameter.kind != parameter.KEYWORD_ONLY:
            return build(next(iter(values.values())))
    return build(**values)


@dataclass(slots=True)
class _Run:
    """One build and the arguments of its run."""

    module: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    loss: Any
    starts: Any
    random_buffers: frozenset[str]


def _prepare(build: Callable[..., Any], inputs: Any, point: Mapping[str, int]) -> _Run:
    where = ", ".join(f"{s}={v}" for s, v in point.items() if s != BATCH_SYMBOL)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            built, module, starts, buffers = build_traced(lambda: _call(build, point))
        except TensorProgError:
            raise
        except Exception as error:
            raise BuildError(f"build({where}) failed: {type(error).__name__}: {error}",
                             fix="widths that it accepts, such as --widths 64,128,192,320") from error  # fmt: skip
        if not isinstance(module, torch.nn.Module):
            raise TensorProgError(f"build({where}) returned {type(module).__name__}, not a torch.nn.Module",
                                  fix="a module, or (module, inputs, loss)")  # fmt: skip
        loss = None
        if isinstance(built, tuple):
            inputs = built[1] if len(built) > 1 and built[1] is not None else inputs
            loss = built[2] if len(built) > 2 else None
        if callable(inputs) and not isinstance(inputs, torch.Tensor):
            inputs = _call(inputs, point)
    if inputs is None:
        raise TensorProgError("nothing to run the module on", fix="`inputs=`: a tensor, a tuple or a dict of arguments")
    if isinstance(inputs, Mapping):
        return _Run(module, (), dict(inputs), loss, starts, buffers)
    args = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    return _Run(module, args, {}, loss, starts, buffers)


def _trace(run: _Run, point: Mapping[str, int]) -> Trace:
    where = ", ".join(f"{s}={v}" for s, v in point.items())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        try:
            return record(run.module, run.args, run.kwargs, run.loss, run.random_buffers)
        except TensorProgError:
            raise
        except Exception as error:
            raise BuildError(f"the module's forward pass failed at {where}: {type(error).__name__}: {error}",
                             fix="`inputs` that the module accepts, other `widths`") from error  # fmt: skip


def _read(build: Callable[..., Any], inputs: Any, points: list[dict[str, int]], name: str | None) -> Reading:
    runs = [_prepare(build, inputs, point) for point in points]
    zipped = None
    for axis, size in _batches(runs):
        whole = [_resized(run, axis, size) for run in runs]
        varied = [{**p, BATCH_SYMBOL: size} for p in points] + [{**points[0], BATCH_SYMBOL: size - 1}]
        try:
            traces = [_trace(r, p) for r, p in zip([*whole, _resized(runs[0], axis, size - 1)], varied, strict=True)]
            zipped, runs = zip_traces(Laws(varied), traces), whole
            break
        except TensorProgError:  # no batch: the module needs that size
            continue
    if zipped is None:
        zipped = zip_traces(Laws(points), [_trace(run, point) for run, point in zip(runs, points, strict=True)])
    starts = start_laws(Laws(points), [run.starts for run in runs])
    module = runs[0].module
    aliases: dict[int, list[str]] = {}
    for alias, p in module.named_parameters(remove_duplicate=False):
        aliases.setdefault(id(p), []).append(alias)
    trained = {n: p.requires_grad for n, p in module.named_parameters()}
    inits = {n: Init(s.kind, s.coefficient if s.kind == "constant" else None) for n, s in starts.items()}
    frozen = frozenset(n for n, t in trained.items() if not t) | runs[0].random_buffers
    label = name or type(module).__name__
    shapes = tuple({n: tuple(p.shape) for n, p in run.module.named_parameters()} for run in runs)
    lowered = lower(zipped, inits, frozen, label)
    return Reading(build, inputs, label, tuple(zipped.laws.points), zipped, lowered, starts,
                   {names[0]: tuple(names[1:]) for names in aliases.values()}, trained,
                   shapes, runs[0])  # fmt: skip


def _leaves(run: _Run) -> list[torch.Tensor]:
    from torch.utils._pytree import tree_leaves

    return [t for t in tree_leaves((run.args, run.kwargs)) if isinstance(t, torch.Tensor) and t.dim()]


def _batches(runs: list[_Run]) -> Iterator[tuple[int, int]]:
    """(axis, size) of what may be the batch: all inputs share it in front. At least 3, so that one less is not 1."""
    leaves = [t for run in runs for t in _leaves(run)]
    for axis in (0, 1):
        sizes = {t.shape[axis] if t.dim() > axis else 0 for t in leaves}
        if len(sizes) == 1 and (size := sizes.pop()):
            yield axis, max(size, 3)


def _resized(run: _Run, axis: int, size: int) -> _Run:
    """The run with the first entries of its inputs along an axis, repeated where there are too few."""
    from torch.utils._pytree import tree_map

    def cut(t: Any) -> Any:
        if not isinstance(t, torch.Tensor) or not t.dim():
            return t
        return t.index_select(axis, torch.arange(size, device=t.device) % t.shape[axis])

    return _Run(
        run.module, tree_map(cut, run.args), tree_map(cut, run.kwargs), run.loss, run.starts, run.random_buffers
    )

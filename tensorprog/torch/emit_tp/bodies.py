"""The text of a region: its lines, of which some are uses of blocks, and repeats of such uses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from textwrap import indent

from tensorprog.torch.emit_tp.expressions import Line
from tensorprog.torch.emit_tp.plan import Key
from tensorprog.torch.emit_tp.regions import Region
from tensorprog.torch.emit_tp.scope import Scope

LONGEST = 100


@dataclass(frozen=True, slots=True)
class Callee:
    """What stands for a region: `call` with a `{}` per argument. `arguments`: what is passed at this use.
    `parameters`, `multipliers`: as in `Body`."""

    call: str
    arguments: tuple[Key, ...]
    parameters: tuple[str, ...]
    multipliers: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Use:
    """A region that is written as a call."""

    region: Region
    callee: Callee

    @property
    def output(self) -> int:
        assert self.region.output is not None
        return self.region.output


@dataclass(frozen=True, slots=True)
class Repeat:
    """Uses of one block, each of which takes the result of the one before in argument `carried`."""

    uses: tuple[Use, ...]
    carried: int


@dataclass(frozen=True, slots=True)
class Row:
    """`keyword name[left] = right`; `left` None: a statement on whole tensors."""

    name: str
    left: str | None
    right: str
    keyword: str = ""
    is_call: bool = False

    @property
    def text(self) -> str:
        return f"{self.keyword}{self.name}{'' if self.left is None else f'[{self.left}]'} = {self.right}"


Find = Callable[[Region], Callee | None]  # what stands for a region, if anything does


@dataclass(frozen=True)
class Body:
    """The text of a region. `parameters`: in the order in which the language declares them when the body is run;
    `multipliers`: likewise, those of all layers of a repeat, which are one in the text, together."""

    scope: Scope
    rows: tuple[str, ...]
    result: str
    parameters: tuple[str, ...]
    multipliers: tuple[tuple[str, ...], ...]

    @property
    def text(self) -> str:
        """All that stands between the name of the block and its end."""
        formals = ", ".join(pattern for _, pattern in self.scope.arguments)
        head = [f"axis {', '.join(self.scope.axes)}"] if self.scope.axes else []
        declared = list(self.scope.parameters.values())
        head += [f"param {', '.join(declared[k : k + 4])}" for k in range(0, len(declared), 4)]
        inside = "\n".join((*head, *self.rows, f"return {self.result}"))
        return f"({formals}) {{\n{indent(inside, '  ')}\n}}"


def write_body(region: Region, find: Find, taken: Iterable[str]) -> Body:
    """The text of a region. `taken`: names that it may not use."""
    steps = list(_repeats(_steps(region, find), region))
    inside = {line for step in steps for use in _uses(step) for line in use.region.lines if line != use.output}
    scope = Scope(region.plan, region.path, set(region.lines) - inside, region.own, taken)
    called = _module_of_lines(region)
    for step in steps:
        if isinstance(step, Repeat):
            _name_carried(step, scope)
    rows: list[Row | list[str]] = []
    for step in steps:
        if isinstance(step, Repeat):
            rows.append(_repeat_rows(step, scope))
        elif isinstance(step, Use):
            row = _row(step.output, None, _call(step.callee, scope), scope, {step.output: step.region.path})
            rows.append(replace(row, is_call=True))
        else:
            left, right = Line(region.plan, scope).sides(region.plan.graph.nodes[step])
            rows.append(_whole(_row(step, left, right, scope, called)))
    result = "" if region.output is None else scope.of_line(region.output)
    parameters = [*scope.parameters, *(p for step in steps for use in _uses(step) for p in use.callee.parameters)]
    multipliers = [(u,) for u in scope.unknowns]
    for step in steps:
        layers = zip(*(use.callee.multipliers for use in _uses(step)), strict=True)
        multipliers += [tuple(u for group in layer for u in group) for layer in layers]
    if not scope.is_file and isinstance(last := rows[-1], Row) and (last.name, last.left) == (result, None):
        rows[-1] = replace(last, name="return")
    kept = {result, *(scope.of_line(line) for line in region.plan.results & set(region.lines))}
    texts = _nested(rows, kept)
    result = texts.pop().removeprefix("return = ") if texts[-1].startswith("return = ") else result
    return Body(scope, tuple(texts), result, tuple(parameters), tuple(multipliers))


# --- steps ----------------------------------------------------------------------------------------------


def _steps(region: Region, find: Find) -> Iterator[int | Use]:
    """The lines of a region, with those of some modules inside replaced by uses."""
    for item in region.items:
        if isinstance(item, int):
            yield item
        elif (callee := find(item)) is not None:
            yield Use(item.core, callee)
        else:
            yield from _steps(item, find)


def _uses(step: int | Use | Repeat) -> tuple[Use, ...]:
    return step.uses if isinstance(step, Repeat) else (step,) if isinstance(step, Use) else ()


def _repeats(steps: Iterator[int | Use], region: Region) -> Iterator[int | Use | Repeat]:
    """The steps, with chains of the same use as one."""
    for call, group in groupby(steps, key=lambda s: s.callee.call if isinstance(s, Use) else None):
        if call is None:
            yield from group
            continue
        chain: list[Use] = []
        for use in group:
            assert isinstance(use, Use)
            if chain and _carried((*chain, use)) is None:
                yield from _chain(chain)
                chain = []
            chain.append(use)
        yield from _chain(chain)


def _chain(uses: list[Use]) -> Iterator[Use | Repeat]:
    carried = _carried(tuple(uses))
    if carried is None:
        yield from uses
    else:
        yield Repeat(tuple(uses), carried)


def _carried(uses: Sequence[Use]) -> int | None:
    """The argument in which each use takes the result of the one before, which nothing else reads; None if it is not
    so, or if other arguments differ."""
    if len(uses) < 2:
        return None
    first, second = uses[0], uses[1]
    at = [k for k, key in enumerate(second.callee.arguments) if key == ("node", first.output)]
    if len(at) != 1:
        return None
    for one, other in pairwise(uses):
        expected = list(first.callee.arguments)
        expected[at[0]] = ("node", one.output)
        plan = one.region.plan
        private = one.output not in plan.results
        if not private or list(other.callee.arguments) != expected:
            return None
        if not plan.readers[one.output] <= set(other.region.lines):
            return None
    return at[0]


# --- rows -----------------------------------------------------------------------------------------------


def _module_of_lines(region: Region) -> dict[int, str]:
    """Line -> the innermost module inside whose only result it is."""
    found: dict[int, str] = {}
    for inner in region.regions():
        if inner.output is not None:
            found.setdefault(inner.output, inner.path)
    return found


def _row(line: int, left: str | None, right: str, scope: Scope, called: dict[int, str]) -> Row:
    wishes = scope.wishes(called[line]) if line in called else ()
    keyword = "output " if line in scope.plan.outputs and scope.is_file else ""
    return Row(scope.of_line(line, wishes), left, right, keyword)


def _call(callee: Callee, scope: Scope) -> str:
    return callee.call.format(*(scope.of_key(key) for key in callee.arguments))


def _name_carried(step: Repeat, scope: Scope) -> None:
    """The result of a repeat, and what it starts with, have one name: that of the list of modules."""
    last, (kind, start) = step.uses[-1], step.uses[0].callee.arguments[step.carried]
    path = step.uses[0].region.path.split(".")
    while path and path[-1].isdigit():
        path.pop()
    name = scope.fresh(*scope.wishes(".".join(path)))
    scope.names["node", last.output] = name
    plan = scope.plan
    own = kind == "node" and int(start) in scope.lines and int(start) not in plan.results
    if own and plan.readers[int(start)] <= set(step.uses[0].region.lines):
        scope.names["node", int(start)] = name


def _repeat_rows(step: Repeat, scope: Scope) -> list[str]:
    name = scope.of_line(step.uses[-1].output)
    callee = step.uses[0].callee
    start = scope.of_key(callee.arguments[step.carried])
    inside = [scope.of_key(key) for key in callee.arguments]
    inside[step.carried] = name
    rows = [] if start == name else [f"{name} = {start}"]
    rows += [f"repeat {len(step.uses)} {{", f"  {name} = {callee.call.format(*inside)}", "}"]
    if step.uses[-1].output in scope.plan.outputs and scope.is_file:
        rows.append(f"output {scope.fresh('result')} = {name}")
    return rows


def _whole(row: Row) -> Row:
    """A row in which every tensor has the same indices, on whole tensors."""
    if not row.left or "(" in row.left:
        return row
    right = re.sub(rf"{re.escape(f'[{row.left}]')}(?!\()", "", row.right)  # but what a softmax works over
    if right == row.right or re.search(r"[\[?]|[\w)] +[\w(]", right):
        return row
    return replace(row, left=None, right=right, is_call=re.fullmatch(r"\w+\(\w+\)", right) is not None)


def _nested(rows: list[Row | list[str]], kept_names: set[str]) -> list[str]:
    """The rows as text; a call whose value only the next row reads is written there."""
    texts = [row.text if isinstance(row, Row) else "\n".join(row) for row in rows]
    last: Row | None = None
    done: list[str] = []
    for k, row in enumerate(rows):
        new = texts[k]
        if isinstance(row, Row):
            if last is not None and row.left is None and last.name not in kept_names:
                word = rf"\b{last.name}\b"
                right = re.sub(word, lambda _, call=last.right: call, row.right)  # type: ignore[misc]
                if (
                    len(re.findall(word, row.right)) == 1
                    and len(right) < LONGEST
                    and not re.search(word, "\n".join(texts[k + 1 :]))
                ):
                    row = replace(row, right=right)
                    done.pop()
            new = row.text
        last = row if isinstance(row, Row) and row.is_call and not row.keyword else None
        done.append(new)
    return done

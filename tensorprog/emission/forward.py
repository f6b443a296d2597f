"""The body of a method: which values become statements, which are written in place, what variables are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from tensorprog.dims import BATCH
from tensorprog.emission.format import Code, call, ints, number
from tensorprog.emission.frame import Frame, Match, Owner
from tensorprog.emission.names import singular
from tensorprog.emission.ops import match_value
from tensorprog.emission.variables import (
    REFERENCE,
    Assign,
    For,
    Names,
    Statement,
    number_of,
    reference,
    rename,
    text_of,
    texts,
    variable_name,
)
from tensorprog.graph import Const, Input, Param
from tensorprog.model import Compute, Loop, Use

LONGEST_INLINE = 64


class Children(Protocol):
    """What a method needs of its class to call blocks and loops."""

    def submodule(self, frame: Frame, instance: str, step: Use | Loop, tokens: frozenset[int]) -> str: ...
    def count(self, loop: Loop) -> Code: ...


@dataclass(slots=True)
class Method:
    """One method under construction. Variables are numbered, `§3§`, until `lines` gives them names."""

    owner: Owner
    children: Children
    wanted: list[str] = field(default_factory=list)
    formals: list[int] = field(default_factory=list)

    def variable(self, name: str) -> int:
        """A new variable that would like to be called `name`."""
        self.wanted.append(name)
        return len(self.wanted) - 1

    def formal(self, name: str) -> Code:
        number = self.variable(name)
        self.formals.append(number)
        return reference(number)

    # --- values to statements -------------------------------------------------------------------------

    def body(self, frame: Frame, given: dict[int, Code], out: list[Statement], last: bool = True) -> list[Code]:
        """Appends the statements that compute the frame's roots; their code. `last`: the roots are returned."""
        codes = dict(given)
        matches, counts, pinned = self._plan(frame)
        if last:
            pinned -= set(frame.roots)
        self._set_references(frame, codes)
        for step in frame.module.steps:
            match step:
                case Compute(value) if value in matches:
                    found = matches[value]
                    code = found.render(
                        [self.get(frame, codes, i, k in found.tokens) for k, i in enumerate(found.inputs)]
                    )
                    inline = counts[value] == 1 and value not in pinned
                    codes[value] = self._kept(frame, value, code, inline, last, out)
                case Use(value, instance, _, args) if counts[value]:
                    raw = frozenset(k for k, a in enumerate(args) if frame.resolve(a) in frame.tokens)
                    attribute = self.children.submodule(frame, instance, step, raw)
                    given_codes = [self.get(frame, codes, frame.resolve(a), k in raw) for k, a in enumerate(args)]
                    code = call(f"self.{attribute}", *given_codes)
                    inline = counts[value] == 1 and value not in pinned
                    codes[value] = self._kept(frame, value, code, inline, last, out)
                case Loop() if any(counts[o] for o in (*step.outs, *(c for c, _ in step.collected))):
                    self._loop(frame, codes, step, out)
                case _:
                    pass
        return [self.get(frame, codes, root) for root in frame.roots]

    def get(self, frame: Frame, codes: dict[int, Code], value: int, tokens: bool = False) -> Code:
        """The code of a value that was planned earlier."""
        match frame.op(value):
            case Param(name):
                return Code(f"self.{self.owner.parameter(name)}")
            case Const(filling):
                return self._filled(frame, codes, value, filling)
            case _:
                code = codes[value]
        if value in frame.tokens and not tokens:
            size = frame.axes(value)[-1]
            hot = call("F.one_hot", code, frame.size(size.dim, size.label))
            return call(f"{hot.text}.to", self._dtype(frame, codes))
        return code

    def _plan(self, frame: Frame) -> tuple[dict[int, Match], Counter[int], set[int]]:
        """Backwards from the roots: how each needed value is computed, how often it is mentioned, what must be
        a variable."""
        counts = Counter(frame.roots)
        pinned = set(frame.roots)
        matches: dict[int, Match] = {}
        for step in reversed(frame.module.steps):
            match step:
                case Compute(value):
                    op = frame.op(value)
                    if counts[value] and op is not None and not isinstance(op, Param | Const | Input):
                        matches[value] = match_value(frame, value)
                        counts.update(matches[value].inputs)
                case Use(value, _, _, args):
                    if counts[value]:
                        counts.update(frame.resolve(a) for a in args)
                case Loop():
                    if any(counts[o] for o in (*step.outs, *(c for c, _ in step.collected))):
                        counts.update(frame.resolve(v) for v in step.carried)
                        outer = [frame.resolve(v) for v in (*step.captured, *(s for s, _ in step.sliced))]
                        counts.update(outer)
                        pinned.update(outer)
        return matches, counts, pinned

    def _kept(self, frame: Frame, value: int, code: Code, inline: bool, last: bool, out: list[Statement]) -> Code:
        """The value where it is used: its own code if that stays readable, else a variable."""
        if not (last and frame.roots == (value,)):
            inline = inline and len(code.text) <= LONGEST_INLINE and not frame.name(value)
        return code if inline else self._store(frame.hint(value), code, out)

    def _store(self, name: str, code: Code, out: list[Statement]) -> Code:
        variable = self.variable(variable_name(name))
        out.append(Assign([variable], code.text))
        return reference(variable)

    # --- loops ------------------------------------------------------------------------------------------

    def _loop(self, frame: Frame, codes: dict[int, Code], loop: Loop, out: list[Statement]) -> None:
        values = [frame.resolve(v) for v in (*loop.carried, *loop.captured, *(s for s, _ in loop.sliced))]
        if loop.count == 0:
            codes.update({o: self.get(frame, codes, v) for o, v in zip(loop.outs, values, strict=False)})
            return
        count = len(loop.carried)
        raw = frozenset(
            k
            for k, v in enumerate(values)
            if k >= count and v in frame.tokens and not self._drops_words(frame, loop, k)
        )
        carried = [self._store(self._carried_name(frame, loop, k), self.get(frame, codes, v), out)
                   for k, v in enumerate(values[:count])]  # fmt: skip
        captured = [
            self.get(frame, codes, v, k + count in raw) for k, v in enumerate(values[count:]) if k < len(loop.captured)
        ]
        header, slices, targets = self._header(frame, codes, loop, raw)
        lists = []
        for value, _ in loop.collected:
            lists.append(self.variable(variable_name(frame.name(value) or "item") + "s"))
            out.append(Assign([lists[-1]], "[]"))
        statements: list[Statement] = []
        arguments = [*carried, *captured, *slices]
        if inlined(loop):
            results = self._inline(frame, loop, arguments, raw, statements)
        else:
            attribute = self.children.submodule(frame, loop.instance, loop, raw)
            if loop.kind == "repeat":
                layer = self.variable(singular(attribute))
                header, targets = f"self.{attribute}", [layer]
                function = reference(layer).text
            else:
                function = f"self.{attribute}"
            code = call(function, *arguments)
            if count == 1 and not loop.collected:
                results = [code]
            else:
                news = [self.variable(self.wanted[number_of(c)]) for c in carried]
                news += [self.variable(variable_name(frame.name(c) or "item")) for c, _ in loop.collected]
                statements.append(Assign(news, code.text))
                results = [reference(n) for n in news]
        for variable, result in zip(lists, results[count:], strict=True):
            statements.append(Assign([], f"§{variable}§.append({result.text})"))
        self._carry([number_of(c) for c in carried], results[:count], statements)
        out.append(For(targets, header, statements))
        codes.update(zip(loop.outs, carried, strict=True))
        for (value, axis), variable in zip(loop.collected, lists, strict=True):
            codes[value] = self._store(frame.name(value), call("torch.stack", f"§{variable}§", dim=str(axis)), out)

    @staticmethod
    def _drops_words(frame: Frame, loop: Loop, k: int) -> bool:
        """Whether a scan slices one-hot rows along the vocabulary itself."""
        first = len(loop.carried) + len(loop.captured)
        return k >= first and loop.sliced[k - first][1] == frame.rank(loop.sliced[k - first][0]) - 1

    def _carried_name(self, frame: Frame, loop: Loop, k: int) -> str:
        return frame.name(loop.outs[k]) or loop.body.values[loop.body.formals[k]].name or frame.name(loop.carried[k])

    def _header(
        self, frame: Frame, codes: dict[int, Code], loop: Loop, raw: frozenset[int]
    ) -> tuple[str, list[Code], list[int]]:
        if not loop.sliced:
            return f"range({self.children.count(loop).text})", [], [self.variable("_")]
        first = len(loop.carried) + len(loop.captured)
        parts, variables = [], []
        for k, (value, axis) in enumerate(loop.sliced):
            code = self.get(frame, codes, frame.resolve(value), first + k in raw)
            parts.append(f"{code.text}.unbind({axis})")
            variables.append(self.variable(variable_name(frame.name(value) or "x") + "_t"))
        header = parts[0] if len(parts) == 1 else f"zip({', '.join(parts)})"
        return header, [reference(v) for v in variables], variables

    def _inline(
        self, frame: Frame, loop: Loop, arguments: list[Code], raw: frozenset[int], out: list[Statement]
    ) -> list[Code]:
        paths = tuple((f"{graph}{loop.instance}.", attribute) for graph, attribute in frame.paths)
        formals = loop.body.formals
        tokens = frozenset(formals[k] for k in raw)
        inner = Frame(loop.body, frame.owner, paths, tokens, loop.body.results)
        inner.batch_reference = frame.batch_reference
        inner.outer_float = frame.outer_float
        return self.body(inner, dict(zip(formals, arguments, strict=True)), out, last=False)

    def _carry(self, carried: list[int], results: list[Code], body: list[Statement]) -> None:
        """Ends a loop body with the new values of the carried variables, in place where nothing reads the old."""
        pairs = []
        for variable, result in zip(carried, results, strict=True):
            assigned = (k for k, s in enumerate(body) if isinstance(s, Assign) and number_of(result) in s.targets)
            made = next(assigned, None) if result.text[0] == "§" and result.text[1:-1].isdigit() else None
            others = [r.text for r in results if r is not result]
            if made is not None and not any(text_of(variable) in text for text in [*texts(body[made + 1 :]), *others]):
                rename(body, number_of(result), variable)
            elif result.text != text_of(variable):
                pairs.append((variable, result))
        if pairs:
            body.append(Assign([v for v, _ in pairs], ", ".join(r.text for _, r in pairs)))

    # --- constants --------------------------------------------------------------------------------------

    def _set_references(self, frame: Frame, codes: dict[int, Code]) -> None:
        """Where the batch size, the device and the dtype can be read off."""
        batched = next((value for value in sorted(codes) if BATCH in frame.dims(value)), None)
        if batched is not None:
            text = f"{codes[batched].text}.shape[{frame.dims(batched).index(BATCH)}]"
            frame.batch_reference = lambda: text
        floating = next((value for value in sorted(codes) if value not in frame.tokens), None)
        if floating is not None:
            frame.outer_float = codes[floating].text

    def _float(self, frame: Frame) -> str | None:
        parameter = self.owner.any_parameter()
        return f"self.{parameter}" if parameter else frame.outer_float

    def _dtype(self, frame: Frame, codes: dict[int, Code]) -> str:
        like = self._float(frame)
        return f"{like}.dtype" if like else "torch.get_default_dtype()"

    def _filled(self, frame: Frame, codes: dict[int, Code], value: int, filling: float) -> Code:
        sizes = [frame.size(axis.dim, axis.label).text for axis in frame.axes(value)]
        shape = ints(sizes) if sizes else "()"
        like = self._float(frame)
        if like and filling in (0.0, 1.0):
            return call(f"{like}.new_{'ones' if filling else 'zeros'}", shape)
        if like:
            return call(f"{like}.new_full", shape, number(filling))
        device = frame.batch_reference().removesuffix(".shape[0]")
        options = {"device": f"{device}.device"} if device != frame.batch_reference() else {}
        return call("torch.full", shape, number(filling), **options)

    # --- names ------------------------------------------------------------------------------------------

    def lines(self, statements: list[Statement], result: str) -> tuple[list[str], list[str], str]:
        """(names of the formals, lines of the body, the result) with every variable named."""
        names = Names(self.wanted, self.formals).choose(statements, result)

        def named(text: str) -> str:
            return REFERENCE.sub(lambda found: names[int(found[1])], text)

        def printed(block: list[Statement]) -> Iterator[str]:
            for statement in block:
                targets = ", ".join(names[t] for t in statement.targets)
                text = named(statement.text)
                if isinstance(statement, For):
                    yield f"for {targets} in {text}:"
                    yield from ("    " + line for line in printed(statement.body))
                elif not targets:
                    yield text
                elif targets != text:
                    yield f"{targets} = {text}"

        return [names[f] for f in self.formals], list(printed(statements)), named(result)


def inlined(loop: Loop) -> bool:
    """Whether a loop's body is written where it stands (it owns nothing), not as a class."""
    simple = all(isinstance(step, Compute) for step in loop.body.steps)
    return loop.kind != "repeat" and not loop.body.parameters and simple

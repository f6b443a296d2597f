"""The smallest program that still does what a larger one was found to do.

Greedy: try every simplification of the text, keep the first after which the finding still holds, and start again.
Simplifications only remove or replace: a statement (its uses read the tensor it was computed from), a term, a factor,
a nonlinearity, an initialiser, a call of a block; then parameters, axes and widths that nothing needs any more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from benchmarks.agreement.family import Look
from tensorprog.architecture import parse
from tensorprog.deriving import derive
from tensorprog.errors import TensorProgError
from tensorprog.functions import BUILTIN

Holds = Callable[[str], bool]
_CALL = re.compile(r"\b(" + "|".join(BUILTIN) + r")\(")
_DEFINED = re.compile(r"^(\w+)(\[[^\]]*\])? = (.*)$")
_ATOM = re.compile(r"\b(\w+)(\[[^\]]*\])?")


def shrink(source: str, holds: Holds) -> str:
    """The smallest program in which `holds`, which must hold in `source`, by greedy simplification."""
    current, tried = tidy(source), {source}
    if not holds(current):
        current = source
    again = True
    while again:
        again = False
        for candidate in simplifications(current):
            text = tidy(candidate)
            if text in tried or len(text) >= len(current):
                continue
            tried.add(text)
            if valid(text) and holds(text):
                current, again = text, True
                break
    return current


def valid(source: str) -> bool:
    """Whether the text is a program."""
    try:
        parse(source).program  # noqa: B018 (the stages are computed when asked for)
    except TensorProgError:
        return False
    return True


def simplifications(source: str) -> Iterator[str]:
    """Programs (or texts that are none) that are simpler than this one, the boldest first."""
    lines = source.splitlines()
    for k, line in enumerate(lines):
        if line.startswith(("width", "regime", "dim", "axis", "input", "param", "loss", "output")):
            continue
        rest = lines[:k] + lines[k + 1 :]
        yield "\n".join(rest)
        if found := _DEFINED.match(line):
            name, _, body = found.groups()
            for other, _ in _ATOM.findall(body):
                if other != name:
                    yield "\n".join([*rest[:k], *(re.sub(rf"\b{name}\b", other, later) for later in rest[k:])])
    for k, line in enumerate(lines):
        if line.startswith("param"):
            names = re.findall(r"\w+\[[^\]]*\][^,\[]*(?=,|$)", line.removeprefix("param "))
            for one in names:
                bare = re.match(r"\w+\[[^\]]*\]", one)
                if bare and bare.group() != one.strip():
                    yield _with(lines, k, line.replace(one, bare.group()))
            continue
        if line.startswith(("width", "regime", "dim", "axis", "input")):
            continue
        if line.startswith("loss") and " + " in line:
            yield _with(lines, k, line.split(" + ")[0])
            continue
        head, equals, body = line.partition(" = ")
        if not equals:
            continue
        for shorter in _bodies(body):
            yield _with(lines, k, f"{head} = {shorter}")


def _with(lines: list[str], k: int, line: str) -> str:
    return "\n".join([*lines[:k], line, *lines[k + 1 :]])


def _bodies(body: str) -> Iterator[str]:
    """Simpler right-hand sides: fewer terms, fewer factors, no nonlinearity or a simpler one, no call."""
    for separator in (" + ", " - ", " * "):
        parts = _split(body, separator)
        for k in range(len(parts)):
            if len(parts) > 1:
                yield separator.join(parts[:k] + parts[k + 1 :])
    for found in _CALL.finditer(body):
        inner = _inside(body, found.end())
        yield body[: found.start()] + f"({inner})" + body[found.end() + len(inner) + 1 :]
        for simpler in ("tanh", "relu", "abs"):
            if len(simpler) < len(found.group(1)):
                yield body[: found.start()] + simpler + body[found.end() - 1 :]
    for found in re.finditer(r"\b\w+\((\w+)(?=[,)])", body):  # a block of one tensor
        inner = _inside(body, body.index("(", found.start()) + 1)
        end = body.index("(", found.start()) + 1 + len(inner) + 1
        yield body[: found.start()] + found.group(1) + body[end:]
    if body.startswith("(") and len(_inside(body, 1)) == len(body) - 2:
        yield body[1:-1]


def _split(text: str, separator: str) -> list[str]:
    """At separators outside all brackets."""
    parts, depth, start, k = [], 0, 0, 0
    while k < len(text):
        depth += text[k] in "([{"
        depth -= text[k] in ")]}"
        if not depth and text.startswith(separator, k):
            parts.append(text[start:k])
            start = k = k + len(separator)
            continue
        k += 1
    return [*parts, text[start:]]


def _inside(text: str, start: int) -> str:
    """What stands between an opening bracket just before `start` and its closing one."""
    depth = 1
    for k in range(start, len(text)):
        depth += (text[k] in "([") - (text[k] in ")]")
        if not depth:
            return text[start:k]
    return text[start:]


def tidy(source: str) -> str:
    """Without the parameters, axes and widths that no statement uses, and without superfluous brackets."""
    lines = [re.sub(r"\((\w+(\[[^\]]*\])?)\)(?=$| [+*-])", r"\1", line) if " = (" in line else line
             for line in source.splitlines()]  # fmt: skip
    body = "\n".join(line for line in lines if not line.startswith(("width", "regime", "dim", "axis", "param")))
    kept: list[str] = []
    for line in lines:
        if line.startswith("param "):
            entries = re.split(r", (?=\w+\[)", line.removeprefix("param "))
            used = [entry for entry in entries if re.search(rf"\b{entry.split('[')[0]}\b", body)]
            if used:
                kept.append("param " + ", ".join(used))
        else:
            kept.append(line)
    rest = "\n".join(line for line in kept if not line.startswith(("axis", "dim", "width", "regime")))
    for k, line in enumerate(kept):
        if line.startswith("axis "):
            entries = [e for e in line.removeprefix("axis ").split(", ") if re.search(rf"\b{e.split(':')[0]}\b", rest)]
            kept[k] = "axis " + ", ".join(entries)
    text = "\n".join(kept)
    if text.startswith("width n, m\n") and not re.search(r"\bm\b", "\n".join(kept[2:])):
        kept = ["width n", *kept[2:]]
    return "\n".join(kept) + "\n"


def disagrees(optimizer: str, tensor_step: int, excess: bool, looks: Sequence[Look]) -> Holds:
    """A finding to be kept: some tensor at that step is measured above (or below) its prediction."""
    from benchmarks.agreement import evidence, trial

    def holds(source: str) -> bool:
        try:
            derivation = derive(parse(source), optimizer)
        except TensorProgError:
            return False
        rows = trial.judged(derivation, derivation.parametrization, looks=looks).rows
        found = [row for row in rows if row.verdict == "disagrees" and row.step == tensor_step]
        return any((row.reason == evidence.FASTER) == excess for row in found)

    return holds


def refused(optimizer: str, why: str) -> Holds:
    """A finding to be kept: the program is refused for that reason."""

    def holds(source: str) -> bool:
        try:
            derive(parse(source), optimizer)
        except TensorProgError as error:
            return bool(error.why) and error.why == why
        return False

    return holds


def shrink_network(number: int) -> str:
    """The smallest program that is refused, or disagrees, as network `number` of the campaign does (in the derived
    parametrization). Raises ValueError if it does neither."""
    from benchmarks.agreement import evidence, trial
    from benchmarks.agreement.campaign import campaign_program

    source, optimizer = campaign_program(number), trial.OPTIMIZERS[number % len(trial.OPTIMIZERS)]
    try:
        derivation = derive(parse(source), optimizer)
    except TensorProgError as error:
        return f"# {optimizer}. {error.message}\n" + shrink(source, refused(optimizer, error.why))
    rows = trial.judged(derivation, derivation.parametrization).rows
    wrong = [row for row in rows if row.verdict == "disagrees"]
    if not wrong:
        raise ValueError(f"network {number} agrees with its derived parametrization")
    row = wrong[0]
    holds = disagrees(optimizer, row.step, row.reason == evidence.FASTER, (Look(24, widths=(64, 256, 1024)),))
    return f"# {optimizer}. {row.tensor} at step {row.step}: {row.reason}\n" + shrink(source, holds)

"""The bits that stand for a random parameter in parities, and the grades that it starts with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tensorprog.calculus.grades import CONSTANT, EVEN, FLIPS, NOTHING, STAYS, Grade, Parity
from tensorprog.calculus.layers import LoopBits
from tensorprog.calculus.terms import Term, interned
from tensorprog.graph import Program
from tensorprog.parameters import Parameter


def is_random(parameter: Parameter, growing: int) -> bool:
    """Whether a parameter with so many growing axes has signs to flip: one that is alike in all entries has none, nor
    has a vector that starts at zero."""
    kind = parameter.init.kind
    return kind not in ("ones", "constant") and (kind != "zeros" or growing >= 2)


def allotted(
    program: Program, groups: Mapping[int, Sequence[Sequence[str]]]
) -> tuple[dict[str, int], dict[str, int], dict[int, LoopBits], int]:
    """A bit for every random parameter; a matrix gets three (itself, and see `multiply.wild`). One for every group of
    parameters that a layer flips together (`groups`, by loop), which each of them has. Those of a symbolic loop follow
    one another, four times (see layers.py); what all layers of an inner loop have is one layer's own of the outer. And
    how many there are."""
    bits: dict[str, int] = {}
    joint: dict[str, int] = {}
    loops: dict[int, LoopBits] = {}

    def allot(number: int, first: int) -> int:  # 0: outside of all loops
        used = first
        for name, parameter in program.forward.parameters.items():
            growing = sum(axis.dim.grows for axis in parameter.axes)
            if (parameter.layers[-1].loop if parameter.layers else 0) == number and is_random(parameter, growing):
                bits[name] = 1 << used
                used += 3 if growing >= 2 else 1
        for names in groups.get(number, ()):
            joint.update({name: joint.get(name, 0) | 1 << used for name in names})
            used += 1
        own, inner = (1 << used) - (1 << first), 0
        for k, loop in enumerate(program.forward.loops, 1):
            if loop.around == number:
                used = allot(k, used)
                own |= loops[k].everywhere
                inner |= loops[k].inside | loops[k].inner
        if not number:
            return used
        loops[number] = LoopBits(own, used - first, inner)
        return first + 4 * (used - first)

    used = allot(0, 0)
    return bits, joint, loops, used


def start(parameter: Parameter, bit: int, joint: Sequence[int], mirrors: Sequence[int], layer: int = 0) -> Term:
    """The initial term of a parameter at size 0, or, for a vector that starts at zero, that of its later, aligned
    values. `joint`: for each growing axis the bit of what its slices are flipped together with (see together.py);
    `mirrors`: whether they flip under reflection (see gates.py); `layer`: the bits of what it is flipped together with
    in a layer."""
    growing = len(joint)
    layered = len(parameter.layers)
    if not is_random(parameter, growing):
        if parameter.init.kind == "zeros":
            return 0, 0, interned((EVEN,) * growing + ((NOTHING, NOTHING, FLIPS),) * layered)
        return 0, 0, interned((CONSTANT,) * growing + (EVEN,) * layered)
    owns: list[Parity] = [(bit << min(k, 2) | others, 0, 0) for k, others in enumerate(joint)]
    whole: Parity = (bit, 0, 0) if growing < 2 else NOTHING  # a matrix is raw, and says it there
    layers: Grade = ((whole[0] | layer, 0, 0), NOTHING, STAYS)
    widths: list[Grade] = [(whole, own, mirror) for own, mirror in zip(owns, mirrors, strict=True)]
    return 0, bit if growing >= 2 else 0, interned((*widths, *[layers] * layered))

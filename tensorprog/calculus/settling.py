"""What the solver remembers from sweep to sweep: the largest demand for each key, and whether sweeps run in circles."""

from __future__ import annotations

from dataclasses import dataclass, field

from tensorprog.calculus.exponents import Exponents
from tensorprog.errors import CalculusError
from tensorprog.graph import Param, Program


@dataclass
class Largest:
    """The largest value reported for each key during a sweep. A key reported from several places keeps its old
    value until all of them have spoken, unless one asks for more."""

    places: dict[str, int]
    value: dict[str, int] = field(default_factory=dict)
    seen: dict[str, list[int]] = field(default_factory=dict)
    floor: dict[str, int] = field(default_factory=dict)  # what is taken at least

    def report(self, key: str, value: int) -> bool:
        """True if the value in force for the key changed."""
        seen = self.seen.setdefault(key, [])
        seen.append(max(value, self.floor.get(key, value)))
        target = max(seen)
        if len(seen) < self.places[key] and key in self.value:
            target = max(target, self.value[key])
        changed = self.value.get(key) != target
        self.value[key] = target
        return changed

    def close(self) -> bool:
        """End of a sweep; True if a value in force was larger than all that was reported."""
        changed = False
        for key, seen in self.seen.items():
            if self.value[key] != max(seen):
                self.value[key] = max(seen)
                changed = True
        self.seen = {}
        return changed


QUIET = 10  # sweeps without any exponent moving, more than any term needs to travel from the loss to an exponent


@dataclass
class Circle:
    """Whether sweeps run in circles. `held`: use or multiplier -> the largest demand in the circle that was found;
    `known`: whether those were let go again; `moving`: a parameter whose exponents go round; `still`: for how many
    sweeps no exponent moved."""

    past: list[tuple[Exponents, dict[str, int]]] = field(default_factory=list)
    held: dict[str, int] = field(default_factory=dict)
    known: bool = False
    moving: str = ""
    still: int = 0

    def quiet(self, same: bool) -> bool:
        """Whether no exponent has moved for `QUIET` sweeps, this one the `same` as the one before."""
        self.still = self.still + 1 if same else 0
        return self.still >= QUIET

    def closes(self, exponents: Exponents, demands: dict[str, int]) -> bool:
        """Takes note of a sweep's end; True if it is an earlier one's, and what is held has grown."""
        now = Exponents(dict(exponents.A), dict(exponents.C), dict(exponents.M))
        start = next((k for k in range(len(self.past) - 2, -1, -1) if self.past[k][0] == now), None)
        self.past.append((now, dict(demands)))
        if start is None:
            return False
        round_, self.past = self.past[start:], []
        self.moving = next((p for quantity in ("A", "C") for p in getattr(now, quantity)
                            if len({getattr(e, quantity)[p] for e, _ in round_}) > 1), "")  # fmt: skip
        most = {name: max(d.get(name, value) for _, d in round_) for name, value in demands.items()
                if len({d.get(name) for _, d in round_}) > 1}  # fmt: skip
        before, self.held = self.held, {**self.held, **{u: max(v, self.held.get(u, v)) for u, v in most.items()}}
        self.known = self.known and self.held == before  # back in the same circle: the larger demands stay
        return bool(self.held)


def unsettled(program: Program, name: str) -> CalculusError:
    """The refusal of a parameter whose exponents move with every sweep."""
    nodes = program.forward.nodes
    node = next((n for n in nodes if isinstance(n.op, Param) and n.op.name == name), nodes[0])
    return CalculusError(
        f"the exponents of `{name}` do not settle", node.span,
        why="each sweep over the graph asks for other exponents than the one before",
        fix=f"`fix lr[{name}] = 0` (in PyTorch `requires_grad_(False)`), or one parameter for each of its uses",
    )  # fmt: skip

"""Layers: what a tensor of one layer knows of the random parameters of its own layer and of all others.

The layer index is one more growing axis. A parameter W inside a symbolic loop is a different random tensor in every
layer, so that, seen from layer l, it stands for four: its own W_l, those of earlier layers (flipped all together),
those of later layers, and, seen from outside of the loop, all of them. Each has bits of its own in the masks of a
grade; `LoopBits` translates them where a value goes from layer to layer or crosses the border of the loop:

- what layers k < l add to a stream: own and earlier of k are earlier of l; later of k may be anything;
- a sum over all layers: own, earlier and later are all;
- a value from outside, seen in a layer: all are own, earlier and later.

Where "all" or "later" comes to include a layer's own parameters, it does so as one of L: what depends on the own ones
is smaller by L^(1/2) (by the variance that one of L independent parameters contributes to a Theta(1) value), a term
apart.

A loop inside of a layer has own, earlier and later parameters within that layer. All of them are what this layer has of
its own, seen from the outer loop.

Parity in a set of layers is parity under flipping the whole set. Where pieces of a sum are odd in single layers of
a set, but not in the set, the parity is unknown, with the set as `cover`.

Along the layer axis itself only the own bits count: what varies at random from layer to layer is uncorrelated
between layers, everything else adds up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tensorprog.calculus.grades import ANYTHING, EVEN, NOTHING, STAYS, Grade, Parity, depends_on
from tensorprog.calculus.terms import Term, as_entries

if TYPE_CHECKING:
    from tensorprog.calculus.multiply import ContractPlan


@dataclass(frozen=True, slots=True)
class LoopBits:
    """The masks of one loop: `own`, and the same shifted by `span`, twice and three times. `inner`: those by which
    the layers of loops inside of a layer are told apart there."""

    own: int
    span: int
    inner: int = 0

    @property
    def earlier(self) -> int:
        return self.own << self.span

    @property
    def later(self) -> int:
        return self.own << 2 * self.span

    @property
    def everywhere(self) -> int:
        return self.own << 3 * self.span

    @property
    def inside(self) -> int:
        return self.own | self.earlier | self.later

    def accumulated(self, size: int, grades: tuple[Grade, ...], half: int, *, reverse: bool) -> list[Term]:
        """A sum over earlier (`reverse`: later) layers, of that size; `half`: the packed exponent of L^(1/2)."""
        span = self.span
        sources, target, scattered = ((0, 2 * span), 2 * span, span) if reverse else ((0, span), span, 2 * span)
        return self._seen(size, grades, half, sources, target, scattered)

    def left(self, g: Grade) -> Grade:
        """The grade of a sum over all layers."""
        return self._seen_along(g, (0, self.span, 2 * self.span), 3 * self.span, None, 0)

    def entered(self, size: int, grades: tuple[Grade, ...], half: int) -> list[Term]:
        """An outer value in a layer."""
        return self._seen(size, grades, half, (), 0, 3 * self.span)

    def _seen(
        self, size: int, grades: tuple[Grade, ...], half: int, sources: tuple[int, ...], target: int, scattered: int
    ) -> list[Term]:
        """The term in a layer (the layer axis last), and the part of it that depends on the layer's own parameters."""
        others = tuple([self._seen_along(g, sources, target, scattered, self.earlier | self.later) for g in grades])
        terms = [(size, 0, (*others, EVEN))]
        if any(depends_on(g) >> scattered & self.own for g in grades):
            own = tuple([self._seen_along(g, sources, target, scattered, self.inside) for g in grades])
            terms.append((size - half, 0, (*own, ((0, self.own, 0), NOTHING, STAYS))))
        return terms

    def _seen_along(self, g: Grade, sources: tuple[int, ...], target: int, scattered: int | None, reach: int) -> Grade:
        whole, own = (self._translate(parity, sources, target, scattered, reach) for parity in g[:2])
        return (whole, own, g[2])

    def _translate(
        self, parity: Parity, sources: tuple[int, ...], target: int, scattered: int | None, reach: int
    ) -> Parity:
        """Bits at the shifts `sources` go to `target`; those at `scattered` to every place within `reach`."""
        odd, free, cover = parity
        own, span = self.own, self.span
        mine = self.inside | self.everywhere
        if not (odd | free) & mine or parity == ANYTHING:
            return parity
        new_odd, new_free, covers = odd & ~mine, free & ~mine, [cover & ~mine] if cover & ~mine else []
        once = twice = depends = 0  # per parameter: odd in one source, in several, unknown in one
        claimed = 0
        for shift in sources:
            is_odd, is_free = odd >> shift & own, free >> shift & own
            twice |= once & is_odd
            once |= is_odd
            depends |= is_free
            claimed |= cover >> shift & own
        lost = depends | twice
        new_odd |= (once & ~lost) << target
        new_free |= (once & lost | depends) << target
        if (once & lost) << target:
            covers.append(_lowest(once & lost) << target)
        if claimed:
            covers = [c | claimed << target for c in covers] if cover & ~mine else [*covers, claimed << target]
        if scattered is not None:
            is_odd, is_free, is_cover = (m >> scattered & own for m in (odd, free, cover))
            spread = is_odd | is_free
            everywhere = (spread | spread << span | spread << 2 * span) & reach
            if new_odd & everywhere:  # each piece is odd in its own layer, the sum is not
                covers.append(_lowest(new_odd & everywhere))
            new_odd &= ~everywhere
            new_free |= everywhere
            reliable = _lowest(is_odd) or is_cover
            if reliable:
                wide = (reliable | reliable << span | reliable << 2 * span) & reach
                covers = [wide] if is_odd else [c | wide for c in covers] or [wide]
        keep = min(covers) if covers and not new_odd else 0
        return (new_odd, new_free, keep)

    def seen_from_layer(self, g: Grade) -> Grade:
        """The grade along the layer axis: own bits only."""
        odd, free, cover = g[0]
        own = self.own | self.inner
        return ((odd & own, free & own, cover if cover and not cover & ~own else 0), NOTHING, STAYS)

    def crossed(self, term: Term) -> Term:
        """A term that is summed over layers: as a Gaussian matrix of one layer it is forgotten."""
        return as_entries(term) if term[1] & self.own else term


def finish(term: Term, plan: ContractPlan) -> Term:
    """What a contraction leaves of a term where it sums over layers, or keeps them apart."""
    for loop in plan.crossed:
        size, raw, grades = loop.crossed(term)
        term = (size, raw, tuple([loop.left(g) for g in grades]))
    for position, loop in plan.layers:
        size, raw, grades = term
        term = (size, raw, (*grades[:position], loop.seen_from_layer(grades[position]), *grades[position + 1 :]))
    return term


def _lowest(mask: int) -> int:
    return mask & -mask

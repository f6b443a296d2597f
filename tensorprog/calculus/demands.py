"""What every use of a parameter gives, and what it demands: sizes at one use, at the exponents as they stand.

A use is a contraction of a parameter with some x, followed by its fixed scalars (see uses.py). Its value must stay
Theta(1), and so must the sum over layers that it feeds (see depth.py).
"""

from __future__ import annotations

from fractions import Fraction
from math import prod

from tensorprog.calculus.affine import greatest
from tensorprog.calculus.analysis import Analysis, largest
from tensorprog.calculus.depth import Depth, Feed
from tensorprog.calculus.multiply import ContractPlan
from tensorprog.calculus.nonlinear import entrywise, facts_of
from tensorprog.calculus.settling import unsettled
from tensorprog.calculus.shared import products
from tensorprog.calculus.terms import Term, Terms, interned, reduce_terms
from tensorprog.calculus.uses import Occurrence, matters, occurrences, scale_free
from tensorprog.functions import find
from tensorprog.graph import Add, Contract, Map, Scale


class Demands(Analysis):
    """An Analysis that knows the uses of every parameter. `all_uses`: with those behind functions; `waiting`: the
    parameters that have such, and move only after these spoke. `uses_of`: parameter -> the implicit multipliers of its
    uses; `multiplier_at`: Scale node -> its unknown multiplier, where no parameter settles that; `scale_free`: those
    parameters of whose size nothing depends; `started`: those whose start is given; `always_free`: those whose every
    use has an unknown multiplier behind it; `gains`: see depth.py."""

    def __post_init__(self) -> None:
        super().__post_init__()
        forward = self.program.forward
        self.all_uses = occurrences(self.program)
        self.uses = [occurrence for occurrence in self.all_uses if not occurrence.behind]
        self.waiting = {occurrence.param for occurrence in self.all_uses if occurrence.behind}
        self.depth = Depth(self.program, self.sizes, self.uses, self.functions)
        self.gains: dict[int, int] = {}
        self._by_param: dict[str, list[Occurrence]] = {}
        self._moving: dict[str, list[Occurrence]] = {}
        for occurrence in self.all_uses:
            self._moving.setdefault(occurrence.param, []).append(occurrence)
            if not occurrence.behind:
                self._by_param.setdefault(occurrence.param, []).append(occurrence)
        self.uses_of: dict[str, tuple[str, ...]] = {}
        for name, unknown in forward.unknowns.items():
            if unknown.kind == "use":
                self.uses_of[unknown.param] = (*self.uses_of.get(unknown.param, ()), name)
        still_weights = {node for occurrence in self.uses for node in occurrence.chain}  # their parameters settle them
        self.multiplier_at = {
            node.id: name
            for node in forward.nodes if isinstance(node.op, Scale) and node.id not in still_weights
            for name in node.op.scalar.unknowns if forward.unknowns[name].kind == "multiplier"
        }  # fmt: skip
        divided = {o.param for o in self.uses if scale_free(self.program, o)}
        self.scale_free = {name for name in divided if not matters(self.program, name, self.functions)}  # A is 0
        self.started = {name for name, p in forward.parameters.items() if p.start is not None}
        self.always_free = {param for param, uses in self._by_param.items()
                            if all(o.multiplier is not None for o in uses)}  # fmt: skip

    def uses_by_param(self, param: str) -> list[Occurrence]:
        """The uses of one parameter, in graph order."""
        return self._by_param[param]

    def moves_at(self, param: str) -> list[Occurrence]:
        """Those, and the ones behind functions of it: where its updates show."""
        return self._moving.get(param, [])

    def constrains(self, occurrence: Occurrence) -> bool:
        """Whether a use has a say in its parameter's initial size: no unknown multiplier stands behind it, or behind
        every use one does."""
        return occurrence.multiplier is None or occurrence.param in self.always_free

    def through(self, occurrence: Occurrence, terms: Terms, *, whole: bool = False) -> Terms:
        """Terms of W at size 0, carried along the chain to the operand (without the implicit multiplier). In a product
        of a weight with itself they stand once, beside the weight as it is; with `whole` in both places."""
        before = occurrence.chain[0]
        for k in occurrence.chain[1:]:
            rule, op, args = self.rules[k], self.program.nodes[k].op, self.program.nodes[k].args
            assert rule is not None
            if isinstance(op, Map):
                terms = self._sloped(k, op, terms)
            else:
                alone, square = isinstance(op, Add), isinstance(op, Contract) and len(args) == 2 and args[0] == args[1]
                terms = rule.initial([
                    terms if a == before and (whole or not (square and position)) else () if alone
                    else self.initial[a] + self.change[a] for position, a in enumerate(args)
                ])  # fmt: skip
            before = k
            if isinstance(op, Scale) and occurrence.use in op.scalar.unknowns:
                shift = self.exponents.M[occurrence.use]
                terms = tuple([(size - shift, raw, grades) for size, raw, grades in terms])
        return terms

    def _sloped(self, k: int, op: Map, moved: Terms) -> Terms:
        """What an update of its argument changes of a function, to first order."""
        at, function = self.program.nodes[k].args[0], find(op.fn, self.functions)
        entries = len(self.sizes.growing(self.program.nodes[k].axes))
        start, change = entrywise(facts_of(function, 1), entries)
        x, dx = [self.initial[at]], [self.change[at]]
        plan = self.sizes.same(ContractPlan((), tuple((axis, axis) for axis in range(entries))))
        return reduce_terms(products(start(x) + change(x, dx), moved, plan))

    def used(self, occurrence: Occurrence, weight: Terms) -> int | None:
        """The size of a use's value for given terms of W, over initial and change terms of x, after its tail.

        An unknown multiplier in the tail counts; the implicit multiplier of the use does not."""
        initial, change = self.used_terms(occurrence, weight)
        size = self.depth.judged(initial, change)
        if size is None:
            return None
        if not initial:  # what it multiplies starts at zero
            size += self.depth.part(largest(self.through(occurrence, weight)) or 0) + self.late_size(occurrence)
        return size + self.tail_size(occurrence)

    def late_size(self, occurrence: Occurrence) -> int:
        """The power of the depth of what a use multiplies, should that start at zero: that of its change in training,
        when all layers' changes of it have moved the stream by Theta(1)."""
        args = self.program.nodes[occurrence.node].args
        other = args[1 - occurrence.position] if len(args) == 2 else -1
        if other not in self.gains or self.initial[other]:
            return 0
        return -self.depth.layers(other) - self.gains[other]

    def begun(self, param: str) -> Terms:
        """The terms of W at size 0 for which its uses demand a start. What meets a vector that starts at random gets
        aligned with it in training. One that starts at zero gets aligned with what it meets, and demands the same: its
        terms are those of its change, in every layer with a sign of their own, as they would be at a random start."""
        parameter = self.program.forward.parameters[param]
        ((_, raw, alike),) = unit = self.unit_terms(parameter)
        moved = self.moved.get(param)
        if raw or not moved or not self.starts_at_zero(parameter):
            return unit
        top, widths = greatest(size for size, _, _ in moved), len(self.sizes.growing(parameter.axes))
        found: list[Term] = [
            (0, 0, interned((*grades[:widths], *alike[widths:]))) for size, _, grades in moved if size == top
        ]
        return reduce_terms(found)

    def demanded(self, occurrence: Occurrence, weight: Terms) -> int | None:
        """The size that must not exceed Theta(1): of the use's value, and of the sum over layers that it feeds. None
        where nothing is met, or only a function of W is."""
        if occurrence.behind:
            return None
        initial, change = self.used_terms(occurrence, weight, whole=True)
        size = self.depth.judged(initial, change)
        if size is None:
            return None
        tail = self.tail_size(occurrence)
        feeds = self.depth.feeds.get(occurrence.node)
        if feeds is None:
            return self._root(occurrence, size + tail)
        alone = size + tail - self.depth.part(tail)
        sums = [
            alone + self._small_enough(occurrence.node, feed, initial) if feed.bent
            else self.depth.over_layers(occurrence.node, size, initial, feed.loop) + self.scales_size(feed.scales)
            for feed in feeds
        ]  # fmt: skip
        return self._root(occurrence, max(*sums, alone))  # no need to fill up what the file makes small

    def _root(self, occurrence: Occurrence, size: int) -> int:
        """What of the size of a power of W is that of one factor. Raises CalculusError if that is no exponent."""
        if occurrence.degree == 1:
            return size
        try:
            return self.units.pack_power(self.units.unpack(size) ** Fraction(1, occurrence.degree))
        except ValueError:
            raise unsettled(self.program, occurrence.param) from None

    def _small_enough(self, node: int, feed: Feed, initial: Terms) -> int:
        """The power of the depth by which a use's value must be small, for the sum over layers of what functions like
        tanh make of it to stay Theta(1): 1/2 if what is left of it then has zero mean, like tanh, else 1, like relu;
        of a square 1/2."""
        full, top = self.depth.layers(node, feed.loop), largest(initial) or 0
        ops = [self.program.nodes[k].op for k in feed.path]
        order = prod(self.depth.order(op) for op in ops if isinstance(op, Map))
        for small in (0, full // (2 * order), full // order):
            terms, before = tuple((size - top - small, raw, grades) for size, raw, grades in initial), node
            for k in feed.path:
                rule = self.rules[k]
                assert rule is not None
                terms = rule.initial([terms if a == before else () for a in self.program.nodes[k].args])
                before = k
            if self.depth.part(self.depth.summed(before, terms, feed.loop) or 0) <= 0:
                return small
        return full

    def asked(self, param: str) -> int | None:
        """The gain that a parameter's start should take away, at the sizes as they stand: of its least demanding use
        that constrains it. None: nothing asks, or it has no say."""
        if param in self.scale_free or param in self.started:
            return None
        weight = self.begun(param)
        gains = []
        for occurrence in filter(self.constrains, self.uses_by_param(param)):
            gain = self.demanded(occurrence, weight)
            if gain is not None:
                taken = 0 if occurrence.multiplier is None else self.exponents.M[occurrence.multiplier]
                gains.append(gain - taken)
        return min(gains, default=None)

    def held(self) -> dict[str, int]:
        """Parameters that start smaller than the sizes ask for at the derived exponents -> what those ask: at larger
        starts they ask for more, so that none is in balance, and the update of none of their uses is Theta(1)."""
        degree, found = self.units.degree, {}
        for name, size in self.exponents.A.items():
            asked = self.asked(name) if self.program.forward.parameters[name].init.kind != "zeros" else None
            if asked is not None and degree(asked) < degree(size):
                found[name] = asked
        return found

    def used_terms(self, occurrence: Occurrence, weight: Terms, *, whole: bool = False) -> tuple[Terms, Terms]:
        """The terms of a use's value for given terms of W, with the initial x and with its change, before its tail."""
        node = self.program.nodes[occurrence.node]
        operand = self.through(occurrence, weight, whole=whole)
        if not isinstance(node.op, Contract):
            return operand, ()
        other = node.args[1 - occurrence.position]
        rule = self.rules[occurrence.node]
        assert rule is not None

        def product(x: Terms) -> Terms:
            return rule.initial([operand, x] if occurrence.position == 0 else [x, operand])

        return product(self.initial[other]), product(self.change[other]) if self.change[other] else ()

    def tail_size(self, occurrence: Occurrence) -> int:
        """The packed exponent of the scalars that follow a use."""
        return self.scales_size(occurrence.tail)

    def scales_size(self, nodes: tuple[int, ...]) -> int:
        """The packed exponent of the product of some Scale nodes."""
        return sum(self.scalar_size(op) for k in nodes if isinstance(op := self.program.nodes[k].op, Scale))

    def share(self, occurrence: Occurrence) -> int:
        """How much less than Theta(1) one layer may move, for all layers together to move the stream by Theta(1)."""
        node = occurrence.tail[-1] if occurrence.tail else occurrence.node
        return self.depth.layers(node) + self.gains.get(node, 0)

"""What a residual stack asks of its exponents: everything that layers add to a stream is summed over them.

Three objectives, in this order:
1. the update of every parameter contributes Theta(1) to the stream, all layers together: their contributions are
   aligned, so that in one layer the update moves the use of a parameter by 1 / (L * the gain from there to the
   stream);
2. so does every product of two updates of matrices in one branch (the change of W contracted with the change of its
   input, or multiplied with that of a gate): the branch must then be multiplied by L^-1, so that what happens inside
   of a layer is Theta(1);
3. then initial contributions are as large as the stream stays Theta(1): L^-1/2 if they are of zero mean over layers.

With one matrix in a branch the second says nothing; in one that starts at zero the third says nothing, and its
update is taken as large as it may be, Theta(1) in every layer. What a multiplier written `?name` in front of a branch
cannot take, because there is none, the last parameter of the branch takes (3 alone), also in front of functions like
tanh, which are the identity at what is then left.

Source: Yang, Yu, Zhu, Hayou 2023 (Tensor Programs VI, arXiv:2310.02244), sections 3 and 4: one matrix per block;
Dey et al. 2025 (CompleteP, arXiv:2505.01618), section 6: two or more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from tensorprog.calculus.grades import is_zero_mean
from tensorprog.calculus.nonlinear import facts_of
from tensorprog.calculus.shared import Sizes
from tensorprog.calculus.terms import Terms, largest
from tensorprog.calculus.uses import Occurrence
from tensorprog.functions import Function, find
from tensorprog.graph import Accumulate, Add, Contract, Fold, InvRms, Map, Merge, Param, Program, Scale, Split, Window


@dataclass(frozen=True, slots=True)
class Feed:
    """How a node reaches the stream of its loop: through sums and the fixed scalars `scales` alone, or (`bent`) also
    through functions like tanh, which leave what is small as it is. `path`: the nodes on the way, from its consumer.
    `loop`: the number of the loop, whose layers and those of loops inside of it are summed."""

    loop: int = 0
    scales: tuple[int, ...] = ()
    path: tuple[int, ...] = ()
    bent: bool = False


class Depth:
    """The loops of one program. `feeds`: nodes that a stream sums. `takes`: the Scale nodes of unknown multipliers
    that do, and whether objective 2 binds them; `over`: these -> the outermost loop whose stream does; `alone`: those
    that multiply nothing of a layer's own, only what it reads of a stream. `behind`: Scale nodes behind all layers, of
    what weights that are trained in these make."""

    def __init__(
        self, program: Program, sizes: Sizes, uses: list[Occurrence], functions: Mapping[str, Function]
    ) -> None:
        self.program, self.sizes, self.functions = program, sizes, functions
        self.part = cache(self._part)
        self.feeds: dict[int, list[Feed]] = {}
        self.takes: dict[int, bool] = {}
        self.over: dict[int, int] = {}
        self.alone: set[int] = set()
        for loop in program.forward.loops:
            for stream in loop.streams:
                self._walk(stream.increment, Feed(loop.axis.loop))
        self.symbols = tuple(sorted({symbol for loop in program.forward.loops for symbol in loop.axis.dim.symbols}))
        self.paths = {loop.axis.loop: {k for stream in loop.streams for k in stream.path}
                      for loop in program.forward.loops}  # fmt: skip
        self.path = set().union(*self.paths.values())
        self.behind = self._behind(uses)
        if program.forward.loops:
            matrices = {o.node for o in uses if o.param in program.updates and self._sums(o)}
            for node in self.takes:
                self.takes[node] = self._two_matrices(node, matrices)

    def _walk(self, node: int, feed: Feed) -> None:
        here = self.program.nodes[node]
        if not here.axes or not here.axes[-1].loop:
            return
        op = here.op
        if isinstance(op, Scale) and any(
            self.program.forward.unknowns[u].kind == "multiplier" for u in op.scalar.unknowns
        ):
            self.takes[node] = False
            self.over.setdefault(node, feed.loop)  # outer loops come first
            return
        self.feeds.setdefault(node, []).append(feed)
        bends = isinstance(op, Map) and self.order(op) > 0
        one_operand = isinstance(op, Contract) and op.right is None
        if bends or one_operand or isinstance(op, Add | Scale | Split | Merge | Window | Fold):
            scales = (*feed.scales, node) if isinstance(op, Scale) else feed.scales
            for a in here.args:
                self._walk(a, Feed(feed.loop, scales, (node, *feed.path), feed.bent or bends))

    def _behind(self, uses: list[Occurrence]) -> set[int]:
        moved = {o.node for o in uses if o.param in self.program.updates and self.loops_of(o.node)}
        for node in self.program.forward.nodes if moved else ():
            if not moved.isdisjoint(node.args):
                moved.add(node.id)
        return {k for k in moved if isinstance(self.program.nodes[k].op, Scale) and not self.loops_of(k)}

    def order(self, op: Map) -> int:
        """The power of what is small that a function makes of it: 1 for tanh, 2 for the square; 0: it has a value
        at 0."""
        facts = facts_of(find(op.fn, self.functions), 0)
        return 0 if facts.constant else facts.order or 0

    def _sums(self, occurrence: Occurrence) -> bool:
        """Whether a use contracts: it sums over an index of the parameter."""
        op = self.program.nodes[occurrence.node].op
        if not isinstance(op, Contract) or op.right is None:
            return False
        own = (op.left, op.right)[occurrence.position]
        return any(i not in op.out for i in own)

    def _two_matrices(self, node: int, matrices: set[int]) -> bool:
        """Whether in the branch below `node` two matrices multiply: the output of one reaches the input of another, or
        meets that of another in a product (sigmoid(W x) * (U x)). Layers of a loop inside of it read each other. A
        stream that is read with nothing of a layer's own moves by Theta(1) too, in every layer."""
        nodes, loops = self.program.nodes, self.loops_of(node)
        path = set().union(*(self.paths[loop] for loop in loops))
        reached: dict[int, set[int]] = {}  # the matrices that a node is made with
        stack = [node]
        while stack:
            k = stack[-1]
            stops = k in path or isinstance(nodes[k].op, Accumulate)
            below = [] if stops else [a for a in nodes[k].args if a not in self.takes or self.loops_of(a) > loops]
            missing = [a for a in below if a not in reached]
            if missing:
                stack += missing
                continue
            stack.pop()
            factors = [reached[a] for a in below] + [{k} & matrices]
            found = set().union(*factors)
            if isinstance(nodes[k].op, Contract) and len(found) > 1 and sum(map(bool, factors)) > 1:
                return True
            if found and any(self.loops_of(a) > self.loops_of(k) for a in below):
                return True
            reached[k] = set() if isinstance(nodes[k].op, InvRms) else found  # an inverse norm only rescales
        own = any(isinstance(nodes[k].op, Param) and self.loops_of(k) for k in reached)
        if not own and not path.isdisjoint(reached):
            self.alone.add(node)
        return node in self.alone

    # --- sizes --------------------------------------------------------------------------------------

    def _part(self, size: int) -> int:
        """The powers of depths in a packed exponent."""
        return sum(self.sizes.units.part(size, symbol) for symbol in self.symbols)

    def judged(self, initial: Terms, change: Terms) -> int | None:
        """The size of a tensor as initial sizes and multipliers see it: its powers of widths at any time, its powers
        of depths at initialisation. (What updates add in powers of depths, the learning rates answer for.)"""
        size = largest(initial + change)
        if size is None or not self.symbols:
            return size
        return size - self.part(size) + self.part(largest(initial) or 0)

    def loops_of(self, node: int) -> frozenset[int]:
        """The loops in whose layers a node has copies."""
        return frozenset(axis.loop for axis in self.program.nodes[node].axes if axis.loop)

    def layers(self, node: int, loop: int = 0) -> int:
        """The packed exponent of the number of layers that a node has a copy in, one for each of a layer outside of
        `loop`."""
        return sum(self.sizes(axis.dim) for axis in self.program.nodes[node].axes if axis.loop >= max(loop, 1))

    def summed(self, node: int, terms: Terms, loop: int = 0) -> int | None:
        """The size of the sum over these layers of a node's terms."""
        counts = [self.sizes(axis.dim) for axis in self.program.nodes[node].axes if axis.loop >= max(loop, 1)]
        return max((size + sum(full // 2 if is_zero_mean(g) else full
                               for full, g in zip(reversed(counts), reversed(grades), strict=False))
                    for size, _, grades in terms), default=None)  # fmt: skip

    def aligned(self, node: int, terms: Terms, loop: int = 0) -> bool:
        """Whether that sum is as large as it is by the law of large numbers."""
        counts = sum(axis.loop >= max(loop, 1) for axis in self.program.nodes[node].axes)
        unlike = tuple(term for term in terms if all(map(is_zero_mean, term[2][-counts:])))
        return self.summed(node, terms, loop) != self.summed(node, unlike, loop)

    def over_layers(self, node: int, size: int, initial: Terms, loop: int = 0) -> int:
        """That size of a node, summed over these layers as its initial terms are."""
        return size - self.part(size) + self.part(self.summed(node, initial, loop) or 0)

    # --- gains --------------------------------------------------------------------------------------

    def gains(self, initial: Sequence[Terms], scalar_size: Callable[[Scale], int]) -> dict[int, int]:
        """For every node inside of a layer: the power of the depth by which a change of it changes the stream (a
        change of the stream counts relative to the stream, should it grow). A factor that starts at zero (a gate)
        counts as it is in training, when all layers' changes of it have moved the stream by Theta(1)."""
        gain: dict[int, int] = {}
        nodes = self.program.nodes

        def raise_to(node: int, value: int) -> None:
            if node not in self.path and (node not in gain or gain[node] < value):
                gain[node] = value

        for loop in self.program.forward.loops:
            for stream in loop.streams if not loop.around else ():
                gain[stream.increment] = -max(0, self.part(largest(initial[stream.path[-1]]) or 0))
        for node in reversed(self.program.forward.nodes):
            here = gain.get(node.id)
            if here is None:
                continue
            for position, a in enumerate(node.args):
                if not nodes[a].axes or not nodes[a].axes[-1].loop:
                    continue
                factor = max(0, self.layers(node.id) - self.layers(a)) if isinstance(node.op, Add) else 0  # all read it
                if isinstance(node.op, Scale):
                    factor = self.part(scalar_size(node.op))
                elif isinstance(node.op, Map):  # the slope of a square is as small as its argument
                    factor = max(0, self.order(node.op) - 1) * self.part(largest(initial[a]) or 0)
                elif isinstance(node.op, Contract) and len(node.args) == 2:
                    size = largest(initial[node.args[1 - position]])
                    moved = -self.layers(node.id) - here - self.part(largest(initial[a]) or 0)
                    factor = moved if size is None and initial[a] else self.part(size or 0)
                raise_to(a, here + factor)
        return gain

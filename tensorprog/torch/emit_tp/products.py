"""Products and reductions: what is summed over which indices."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tensorprog.graph import Const, Contract, Input, Node, Param, Scalar, Scale, Split, Window
from tensorprog.torch.emit_tp.references import ATOM, PRODUCT, SUM, References
from tensorprog.torch.emit_tp.scope import seen
from tensorprog.torch.emit_tp.text import is_count, refuse

Side = tuple[tuple[int, ...], Node]  # one factor: the numbers of its indices, and its node


class Products(References):
    """Contractions, and reductions over named indices."""

    def product(self, node: Node, op: Contract, indices: list[str]) -> tuple[str, int]:
        """A sum of products; parameters stand first."""
        if op.right is None:
            return self.over("sum", node, indices), ATOM
        if self.plan.sums_batch(node):
            raise refuse("a product that is summed over the batch")
        known: dict[int, str | None] = dict(zip(op.out, self.spread(node, indices), strict=True))
        sides = list(zip((op.left, op.right), (self.nodes[a] for a in node.args), strict=True))
        for numbers, arg in sides:
            for number, axis in zip(numbers, arg.axes, strict=True):
                if number not in known:
                    dim = seen(axis.dim)
                    known[number] = None if dim is None else self.index(dim)
        rows = next((side for side in sides if isinstance(side[1].op, Input) and side[1].op.kind == "tokens"), None)
        if rows is not None:
            sides.remove(rows)
            self._look_up(rows, sides[0], op, known)
        sides.sort(key=lambda side: not self._is_parameter(side[1]))
        repeated = set(sides[0][0]).intersection(*(numbers for numbers, _ in sides))
        factors = []
        for numbers, arg in sides:
            if isinstance(arg.op, Const) and arg.op.value == 1.0 and not arg.axes:
                continue
            alone = [i for n in numbers if n not in op.out and n not in repeated and (i := known[n]) is not None]
            text = self.operand(arg.id, [i for n in numbers if (i := known[n]) is not None], PRODUCT)
            factors.append(f"sum[{','.join(alone)}]({text})" if alone and rows is None else text)
        if len(factors) < 2:
            return (factors[0], PRODUCT) if factors else ("1", ATOM)
        juxtaposed = all(re.fullmatch(r"\w+\[[^()]*\]", f) for f in factors)
        return (" " if juxtaposed else " * ").join(factors), PRODUCT

    def _look_up(self, rows: Side, table: Side, op: Contract, known: dict[int, str | None]) -> None:
        """The index of the vocabulary, which the one-hot rows are summed over, becomes `tokens[t]`."""
        word = rows[0][-1]
        if word in op.out or word not in table[0]:
            raise refuse("one-hot rows that are not used as a look-up")
        inside = ",".join(i for n in rows[0][:-1] if (i := known[n]) is not None)
        known[word] = f"{self.scope.of_input(rows[1])}[{inside}]"

    def _is_parameter(self, node: Node) -> bool:
        while (
            self.written_here(node) and isinstance(node.op, Scale | Split | Window | Contract) and len(node.args) == 1
        ):
            node = self.nodes[node.args[0]]
        return isinstance(node.op, Param)

    def mean(self, node: Node, scalar: Scalar, indices: list[str]) -> tuple[str, int] | None:
        """`mean[i](..)` where a sum is divided by the number of its terms."""
        sum_node = self.nodes[node.args[0]]
        if scalar.unknowns or not isinstance(sum_node.op, Contract) or sum_node.op.right is not None:
            return None
        if len(self.plan.consumers[sum_node.id]) != 1:
            return None
        op, arg = sum_node.op, self.nodes[sum_node.args[0]]
        gone = [k for k, i in enumerate(op.left) if i not in op.out]
        sign = -1 if scalar.coefficient < 0 else 1
        if not gone or not is_count(scalar, [arg.axes[k].dim for k in gone], sign):
            return None
        text = self.over("mean", sum_node, indices)
        return (f"-{text}", SUM) if sign < 0 else (text, ATOM)

    def over(self, word: str, node: Node, indices: list[str]) -> str:
        """A reduction that names the indices it works over."""
        op = node.op
        assert isinstance(op, Contract)
        arg = self.nodes[node.args[0]]
        kept = dict(zip(op.out, self.spread(node, indices), strict=True))
        inside: list[str] = []
        bound: list[str] = []
        for axis, number in zip(arg.axes, op.left, strict=True):
            dim = seen(axis.dim)
            if number in kept:
                name = kept[number]
                if name is not None:
                    inside.append(name)
                continue
            if dim is None:
                bound.append("batch")
            else:
                name = self.index(dim)
                inside.append(name)
                bound.append(name)
                if dim != axis.dim:
                    bound.append("batch")
        return f"{word}[{','.join(bound)}]({self.operand(arg.id, inside, SUM)})"

    def reduced(self, node: Node, axes: Sequence[int], indices: list[str]) -> tuple[str, str]:
        arg = self.nodes[node.args[0]]
        rest = iter(indices)
        inside: list[str] = []
        bound: list[str] = []
        for k, axis in enumerate(arg.axes):
            dim = seen(axis.dim)
            if k not in axes:
                if dim is not None:
                    inside.append(next(rest))
                continue
            if dim is None or dim != axis.dim:
                bound.append("batch")
            if dim is not None:
                name = self.index(dim)
                inside.append(name)
                bound.append(name)
        return self.operand(arg.id, inside, SUM), ",".join(bound)

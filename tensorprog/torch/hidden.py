"""What may hide the law of a tensor on the whole ladder: a part of it that vanishes with width, but slowly."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tensorprog.arrays import rms
from tensorprog.coordcheck.ladder import Ladder
from tensorprog.torch.predicted import Predicted
from tensorprog.torch.training import Floats


class Hidden:
    """For the values [spot, step, size and size of independent terms over it, rung, seed]; `at`: node -> its spot."""

    def __init__(self, predictor: Predicted, at: Mapping[int, int], values: Floats, ladder: Ladder) -> None:
        self._predictor, self._at, self._values, self._ladder = predictor, at, values, ladder

    def behind(self, node: int, step: int) -> float:
        """How large the vanishing part of a node is at the top of the ladder: at the start (step 0), or of its change.
        0 if there is none that the operands show."""
        own = max(self._independent(node, step), self._other_terms(node, step), self._first_order(node, step))
        below = self._predictor.linear(node)
        if below is None or below not in self._at:
            return own
        share = min(self.behind(below, t) / (self._top(below, t) or 1.0) for t in {0, step})
        return max(own, share * self._top(node, step))  # a linear map keeps the shares of the parts of what it is given

    def independent(self, node: int, step: int) -> float:
        """Of a sum over axes of a tensor: how large it would be at the top of the ladder if the entries it sums were
        independent; 0 for all else."""
        summed, top = self._predictor.summed(node), self._ladder.rungs[-1]
        if summed is None or summed[0] not in self._at or not set(summed[1].symbols) <= set(top):
            return 0.0
        return self._top(summed[0], step) * float(np.sqrt(float(summed[1].evaluate(top))))

    def _independent(self, node: int, step: int) -> float:
        """Behind an aligned sum: how large it would be if its terms were independent. Its aligned part may be small: an
        update that many positions share is aligned little with each, and few entries of the logits of a tied embedding
        are."""
        sums = [self._at[n] for n in self._predictor.aligned(node, step) if n in self._at]
        over = next((self._values[k, step, 1, -1] for k in sums if not np.isnan(self._values[k, step, 1]).any()), None)
        return 0.0 if over is None else self._top(node, step) * float(np.mean(over))

    def _other_terms(self, node: int, step: int) -> float:
        """Of a sum of tensors, all but those that have its law: a first output beside a bias, say."""
        ruling = self._predictor.ruling(node, step)
        if not ruling or any(n not in self._at for n in ruling):
            return 0.0
        rest = self._top(node, step) ** 2 - sum(self._top(n, step) ** 2 for n in ruling)
        return float(np.sqrt(max(0.0, rest)))

    def _first_order(self, node: int, step: int) -> float:
        """How much a norm would change if the change of its argument had nothing to do with the argument: relative to
        itself, by |dx| / |x| / sqrt(n)."""
        norm = self._predictor.norm(node) if step else None
        if norm is None or norm[0] not in self._at:
            return 0.0
        start, change = (self._top(norm[0], t) for t in (0, 1))
        size = float(norm[1].evaluate(self._ladder.rungs[-1]))
        return change / start / size**0.5 * self._top(node, 0) if start else 0.0

    def _top(self, node: int, step: int) -> float:
        """The root mean square over all seeds at the top of the ladder."""
        return rms(self._values[self._at[node], step, 0, -1])

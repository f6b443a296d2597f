"""Any parametrization, classified: stable or not, trivial, kernel regime, feature learning, maximal.

regime.py: the verdicts. rate.py: the largest stable learning rate. needed.py: what to change to make it maximal.
show.py: the result for people and as JSON.
"""

from tensorprog.classify.classification import Classification, Growth, Moves
from tensorprog.classify.regime import classify

__all__ = ["Classification", "Growth", "Moves", "classify"]

"""The calculus: how large every tensor is, as an exact exponent of the widths, at initialisation and in training.

terms.py: what is known of a tensor (terms, grades), and products of terms. rules.py: one rule per node kind
(nonlinear.py: entrywise maps; normalising.py: norms and losses; shared.py: what they have in common). analysis.py:
training as a fixpoint. uses.py: where parameters are used. solve.py: exponents that make every update Theta(1).
forms.py: equivalent parametrizations. explain.py: why a number is what it is.
"""

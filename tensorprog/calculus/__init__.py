"""The calculus: how large every tensor is, as an exact exponent of the widths, at initialisation and in training.

terms.py, grades.py: what is known of a tensor; bits.py: what a parameter starts with; multiply.py: products of terms.
rules.py: one rule per node kind (contracting.py: contractions; nonlinear.py: entrywise maps; normalising.py: norms
and losses; shared.py: what they have in common). analysis.py: training as a fixpoint. uses.py: where parameters are
used; demands.py: what each use demands. solver.py, solve.py: exponents that make every update Theta(1); depth.py,
layers.py, pieces.py: loops of symbolic length; stable.py: what must not grow. stepping.py: steps of optimizers.
forms.py: equivalent parametrizations. explain.py, chains.py: why a number is what it is.
"""

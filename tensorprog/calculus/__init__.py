"""The calculus: how large every tensor is, as an exact exponent of the widths, at initialisation and in training.

terms.py: what is known of a tensor (terms, grades). rules.py: one rule per node kind. analysis.py: training as
a fixpoint. solve.py: exponents that make every update Theta(1). forms.py: equivalent parametrizations.
"""

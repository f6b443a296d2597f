"""Exact linear programmes over the exponents.

forms.py: sizes that remember which affine form of the unknowns they are. trajectory.py: training until something
exceeds Theta(1), or for ever. simplex.py: the exact solver. cuts.py: a program's constraints, found by prediction.
"""

"""Exact linear programmes over the exponents.

forms.py: sizes that remember which affine form of the unknowns they are. trajectory.py: training until something
exceeds Theta(1), or for ever. simplex.py: the exact solver. unknowns.py: the variables. fixes.py: what the user fixes.
complete.py: the constraints, found by prediction; stages.py: the objectives; refusals.py: why there is no answer.
completion.py: the result; show.py: shown.
"""

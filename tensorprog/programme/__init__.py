"""Exact linear programmes over the exponents.

trajectory.py: training until something exceeds Theta(1), or for ever. simplex.py: the exact solver. unknowns.py: the
variables. fixes.py: what the user fixes. knowledge.py: constraints and aims, found by prediction. branches.py: where
these are linear. stages.py: the objectives. complete.py: the search. refusals.py: why there is no answer.
completion.py: the result. show.py: shown.
"""

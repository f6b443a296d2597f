"""Exact linear programmes over the exponents.

trajectory.py: training until something exceeds Theta(1), or for ever. simplex.py: the exact solver. unknowns.py: the
variables. fixes.py: what the user fixes. knowledge.py: constraints and aims, found by prediction. branches.py: where
these are linear. stages.py: the objectives. search.py: the search. corners.py: other forms to aim at. complete.py: the
solution. refusals.py: why there is none. completion.py: the result. show.py: shown.
"""

"""Random networks as judges: what the calculus predicts of programs that nobody chose, held against training them.

networks.py: random programs. parametrizations.py: random exponents. trial.py: one network, trained and judged.
rows.py: the verdict on a row.
evidence.py: what a row of measurements is evidence for. shrink.py: the smallest program that still disagrees.
"""

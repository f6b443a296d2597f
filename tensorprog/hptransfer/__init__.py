"""Transfer experiments: train the emitted module over a grid of one hyperparameter at every size, under several
parametrizations, and see whether the best value stays where it is.

    data.py -> plan.py -> train.py (in processes: pool.py; recorded: store.py) -> fit.py -> report.py

The experiment never looks at the derivation's numbers: it trains the program that `tpcalc emit` writes.
"""

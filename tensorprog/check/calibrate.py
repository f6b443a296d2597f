"""Base learning rates at which every update shows: constants, which no exponent depends on.

A change of relative size 0.01 hides what it does to second order (a mean square, say) behind the first-order
effects that vanish with width. So each parameter gets the base learning rate at which its first update changes
the value of its use by the fraction `STRENGTH`, measured once at the base width.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

import numpy as np

from tensorprog.derive import Derivation
from tensorprog.graph import Contract
from tensorprog.interpret import Interpreter

STRENGTH = 0.5


def base_rates(derivation: Derivation, base: Mapping[str, int], *, batch: int, seed: int = 0) -> dict[str, float]:
    """Parameter -> base learning rate."""
    program, solver = derivation.architecture.program, derivation.solution.solver
    network = Interpreter(
        program, base, base, derivation.parametrization, batch=batch, seed=seed, lr=1.0,
        functions=derivation.architecture.functions,
    )  # fmt: skip
    wanted = {o.node for o in solver.uses} | {a for o in solver.uses for a in program.nodes[o.node].args}
    values = network.step(keep=wanted, changes=True)
    effect: dict[str, float] = {}
    for o in solver.uses:
        if o.param not in program.updates:
            continue
        moved = values[program.updates[o.param]]
        for k in o.chain[1:]:
            moved = network.apply(k, moved)
        node = program.nodes[o.node]
        if isinstance(node.op, Contract) and node.op.right is not None:
            args = [values[a] for a in node.args]
            args[o.position] = moved
            moved = network.apply(o.node, *args)
        size, change = (float(np.sqrt(np.mean(np.square(x)))) for x in (values[o.node], moved))
        effect[o.param] = max(effect.get(o.param, 0.0), change / size if size else change)
    rates = {name: STRENGTH / e for name, e in effect.items() if e > 0 and np.isfinite(e)}
    usual = median(rates.values()) if rates else 1.0
    return {name: rates.get(name, usual) for name in program.updates}

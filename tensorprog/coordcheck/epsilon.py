"""Where the epsilon of a norm takes over: exponents are those without it, and what a norm divides by may vanish."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import replace

from tensorprog.arrays import rms
from tensorprog.calculus.shared import describe
from tensorprog.coordcheck.calibrate import base_rates
from tensorprog.coordcheck.predict import Predictor
from tensorprog.coordcheck.probes import Probe
from tensorprog.coordcheck.runs import Measurement, Runs
from tensorprog.derivation import Derivation
from tensorprog.graph import InvRms, Node

SHARE = 0.01  # of what a norm divides by, squared: from here on its epsilon is not negligible
TINY = 1e-30  # what it is then put to


def taken_over(runs: Runs, values: Measurement, demanded: Predictor) -> dict[int, str]:
    """The norms (nodes) in which, at the top of the ladder, epsilon is a share of what the network starts to divide by
    -> how that is called. Not those of what starts at exactly zero: there the predictions have an epsilon."""
    nodes = runs.derivation.architecture.graph.nodes
    found: dict[int, str] = {}
    for k, probe in enumerate(runs.probes):
        op = nodes[probe.node].op if probe.node < len(nodes) and probe.kind == "value" else None
        if isinstance(op, InvRms) and op.eps * rms(values[k, 0, -1]) ** 2 > SHARE:
            argument = nodes[probe.node].args[0]
            if demanded.at(Probe("", argument), 0).exponent is not None:
                found[probe.node] = f"the norm of `{describe(nodes[argument], nodes)}` ({op.eps:g})"
    return found


def without(runs: Runs, norms: Collection[int]) -> Runs:
    """The same networks with next to no epsilon in these norms, at learning rates calibrated for them."""
    derivation, rates = _cleaned(runs.derivation, norms), runs.rates
    if isinstance(rates, Mapping):
        rates = base_rates(derivation, runs.ladder.rungs[0], runs.base, batch=runs.batch)
    return replace(runs, derivation=derivation, rates=rates)


def _cleaned(derivation: Derivation, norms: Collection[int]) -> Derivation:
    def cleaned(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        return tuple(replace(n, op=replace(n.op, eps=TINY)) if n.id in norms and isinstance(n.op, InvRms) else n
                     for n in nodes)  # fmt: skip

    architecture, program = copy.copy(derivation.architecture), derivation.architecture.program
    graph = replace(program.forward, nodes=cleaned(program.forward.nodes))
    architecture.__dict__.update(graph=graph, program=replace(program, forward=graph, nodes=cleaned(program.nodes)))
    return replace(derivation, architecture=architecture)

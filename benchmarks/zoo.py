"""Every model of the tests' zoo: derived, applied and checked, and checked as it stands.

    python -m benchmarks.zoo                     # all, over an hour on one core
    python -m benchmarks.zoo gpt2 lstm --steps 1 # some

Needs `pip install 'tensorprog[models]'` (transformers, timm, torchvision); nothing is downloaded. One line per model:
how many tensors and steps agree with the prediction after applying, how many are inconclusive or disagree, and how many
disagree in the unmodified model. The table is Markdown, as in docs/reference/models.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

import tensorprog.torch as tpt
from tensorprog.errors import TensorProgError
from tests.packages import torchvision_of_another_build
from tests.torch.handwritten import CASES
from tests.torch.timm_families import TIMM
from tests.torch.transformers_families import MORE
from tests.torch.wild import WILD
from tests.torch.zoo import ZOO

Entry = tuple[Callable[..., Any], Callable[[], Any]]
SMALL = (2, 4, 8)  # for mixtures of experts that copy the weights of its experts for every token
LADDERS = dict.fromkeys(("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss", "deepseek_v2", "deepseek_v3", "jamba",
                         "minimax"), SMALL)  # fmt: skip
UNTRAINABLE = {"writes_in_place"}  # autograd refuses its backward pass


def entries() -> dict[str, Entry]:
    """Name -> builder, and what makes its inputs."""
    hand = {name: (case.build, lambda case=case: case.inputs.float() if case.float_inputs else case.inputs)
            for name, case in CASES.items() if name not in UNTRAINABLE}  # fmt: skip
    return {**ZOO, **hand, **WILD, **MORE, **{f"timm_{name}": entry for name, entry in TIMM.items()}}


def line(name: str, entry: Entry, optimizer: str, seeds: int, steps: int) -> str:
    """One row of the table."""
    build, inputs = entry
    began = time.process_time()
    try:
        p = tpt.derive(build, inputs=inputs(), optimizer=optimizer)
        ladder = LADDERS.get(name)
        right = p.check(ladder, seeds=seeds, steps=steps)
        wrong = p.check(right.widths, seeds=seeds, max_seeds=seeds, steps=1, unmodified=True)
    except TensorProgError as error:
        return f"| {name} | refused: {error.message} ||||||"
    why = Counter(row.reason for row in right.rows if row.verdict == "inconclusive").most_common(1)
    counts = (right.count(verdict) for verdict in ("agrees", "inconclusive", "disagrees"))
    cells = [name, ", ".join(map(str, right.widths)), *counts,
             f"{wrong.count('disagrees')} of {len(wrong.rows)}", why[0][0] if why else ""]  # fmt: skip
    print(f"{name}: {time.process_time() - began:.0f} s", file=sys.stderr)
    for row in right.rows:
        if row.verdict == "disagrees":
            print(f"  {row.tensor} {row.part} {row.step}: {row.measured} against {row.predicted}", file=sys.stderr)
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    every = entries()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(every)}")
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in every]
    if unknown:
        parser.error(f"no model called {', '.join(unknown)}")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torchvision_of_another_build()
    print("| model | widths | agrees | inconclusive | disagrees | unmodified: disagrees | most common reason |")
    print("|---|---|---|---|---|---|---|")
    for name in options.names or every:
        print(line(name, every[name], options.optimizer, options.seeds, options.steps), flush=True)


if __name__ == "__main__":
    main()

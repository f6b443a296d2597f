"""`python -m benchmarks.agreement --networks 2000 --seed 0`: random networks, predicted and measured, tensor by tensor.

One line of JSON per network goes to `--out` as soon as it is done; networks already there are not run again, so a
campaign can be stopped, continued, and split between machines (`--seed` is the number of the first network).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # the jobs are the parallelism


def run(number: int, ladders: int) -> dict[str, Any]:
    """One network, as a line of the output."""
    from benchmarks.agreement.trial import trial

    start = time.process_time()
    try:
        line = trial(number, ladders).to_json()
    except Exception as error:  # a campaign goes on, and says so at its end
        return {"number": number, "crashed": f"{type(error).__name__}: {error}"}
    return {**line, "seconds": round(time.process_time() - start, 1)}


def summary(lines: Iterable[dict[str, Any]]) -> str:
    """How many tensors agree, disagree, are inconclusive; every disagreement; why networks are refused."""
    counts, how, control, reasons, refused = (Counter[str]() for _ in range(5))
    networks, seconds, wrong, caught = 0, 0.0, 0, 0
    shown: list[str] = []
    crashed: list[str] = []
    for line in lines:
        networks += 1
        if "crashed" in line:
            crashed.append(f"  {line['number']:>6} {line['crashed']}")
            continue
        seconds += line.get("seconds", 0.0)
        if line["refused"]:
            refused[line["refused"].split(": ")[-1]] += 1
        counts.update(line["counts"])
        how.update(line["how"])
        control.update(line["control"])
        wrong += bool(line["control"])
        caught += bool(line["control"].get("disagrees"))
        for row in line["rows"]:
            if row["verdict"] == "inconclusive":
                reasons[row["reason"]] += 1
            else:
                shown.append(f"  {line['number']:>6} {line['optimizer']:<5} {row['tensor']} {row['kind']} step "
                             f"{row['step']}: predicted {row['predicted']}, measured {row['slope']:+.2f} "
                             f"[{row['low']:+.2f}, {row['high']:+.2f}] ({row['reason']})")  # fmt: skip
    judged = counts["agrees"] + counts["disagrees"] + counts["inconclusive"]
    share = 100 / max(judged, 1)
    parts = [
        f"{networks} networks, {refused.total()} refused, {judged} tensors judged, {seconds:.0f} s of processor time",
        *(f"  {verdict:<13} {counts[verdict]:>7}  {counts[verdict] * share:6.2f}%"
          for verdict in ("agrees", "disagrees", "inconclusive")),
        f"  left out      {counts['left out']:>7}  (after a blow-up)",
    ]  # fmt: skip
    for title, found in (("agrees, though not plainly", how), ("inconclusive because", reasons),
                         ("refused because", refused)):  # fmt: skip
        if found:
            parts += [title, *(f"  {count:>7}  {reason}" for reason, count in found.most_common())]
    if control:
        parts += [f"control: {wrong} networks with wrong exponents, held against the derived ones where they differ; "
                  f"in {caught} of them some row disagrees",
                  *(f"  {verdict:<13} {count:>7}  {100 * count / control.total():6.2f}%"
                    for verdict, count in control.most_common())]  # fmt: skip
    if crashed:
        parts += ["crashed", *crashed]
    if shown:
        parts += ["disagreements (network, optimizer, tensor)", *shown]
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__.split("\n")[0])
    parser.add_argument("--networks", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the number of the first network")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes")
    parser.add_argument("--ladders", type=int, default=4, choices=(1, 2, 3, 4),
                        help="how far to go where rows are not settled: 8, 24 or 64 seeds, or 1024 wide")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("agreement.jsonl"), metavar="FILE")
    parser.add_argument("--shrink", type=int, metavar="NUMBER", help="reduce a network that disagrees; prints the file")
    parser.add_argument("--show", type=int, metavar="NUMBER", help="print the program of a network")
    arguments = parser.parse_args()
    if arguments.show is not None:
        from benchmarks.agreement.campaign import campaign_program

        print(campaign_program(arguments.show), end="")
        return 0
    if arguments.shrink is not None:
        from benchmarks.agreement.shrink import shrink_network

        print(shrink_network(arguments.shrink), end="")
        return 0
    out: Path = arguments.out
    known = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    wanted = range(arguments.seed, arguments.seed + arguments.networks)
    done = {line["number"] for line in known}
    left = [number for number in wanted if number not in done]
    with out.open("a") as file, ProcessPoolExecutor(arguments.jobs) as pool:
        for count, line in enumerate(pool.map(run, left, repeat(arguments.ladders)), 1):
            file.write(json.dumps(line) + "\n")
            file.flush()
            known.append(line)
            if sys.stderr.isatty():
                print(f"\r{count} of {len(left)}", end="", file=sys.stderr)
    found = [line for line in known if line["number"] in wanted]
    print(summary(found))
    return 1 if any("crashed" in line or line["counts"].get("disagrees") for line in found) else 0


if __name__ == "__main__":
    sys.exit(main())

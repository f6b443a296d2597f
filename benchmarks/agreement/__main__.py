"""`python -m benchmarks.agreement --networks 2000 --seed 0`: random networks, predicted and measured, tensor by tensor.

One line of JSON per network goes to `--out` as soon as it is done; networks already there are not run again, so a
campaign can be stopped, continued, and split between machines (`--seed` is the number of the first network). `--again`
after a change of the calculus: networks of which all is predicted as before are trained as before, so their verdicts
stay; the others, and what is new, are run again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # the jobs are the parallelism


SHOWN = 6  # rows of a network that disagrees


def run(number: int, looks: int) -> dict[str, Any]:
    """One network, as a line of the output."""
    from benchmarks.agreement.trial import LOOKS, trial
    from tensorprog.coordcheck.machine import kept_memory

    start = time.process_time()
    try:
        with kept_memory():
            line = trial(number, LOOKS[:looks]).to_json()
    except Exception as error:  # a campaign goes on, and says so at its end
        return {"number": number, "crashed": f"{type(error).__name__}: {error}"}
    return {**line, "seconds": round(time.process_time() - start, 1)}


def predicted(number: int) -> str:
    """The digest of what is predicted of a network now; "" if it is refused."""
    from benchmarks.agreement.trial import opened, posed
    from tensorprog.errors import TensorProgError

    try:
        return opened(number, *posed(number)).predicted
    except TensorProgError:
        return ""


def summary(lines: Iterable[dict[str, Any]]) -> str:
    """How many tensors agree, disagree, are inconclusive; why networks are refused; what disagrees."""
    counts, how, control, reasons, refused = (Counter[str]() for _ in range(5))
    networks, seconds, wrong, caught = 0, 0.0, 0, 0
    disagree: list[dict[str, Any]] = []
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
        reasons.update(row["reason"] for row in line["rows"] if row["verdict"] == "inconclusive")
        if any(row["verdict"] == "disagrees" for row in line["rows"]):
            disagree.append(line)
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
    if disagree:
        from benchmarks.agreement.classes import classified, disagreeing

        parts.append("what is known of the networks that disagree: networks, rows, class")
        parts += [f"  {len(found):>7} {sum(len(disagreeing(line)) for line in found):>7}  {name}"
                  for name, found in classified(disagree).items() if found]  # fmt: skip
        help_line = "`--show N` prints the program of network N, `--shrink N` reduces one that is as derived"
        parts += [f"networks that disagree ({help_line})", *disagreements(disagree)]
    return "\n".join(parts)


def disagreements(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Of every network its first rows that disagree: in the order of the steps, then of the graph."""
    from tensorprog.tables import columns

    def slope(low: float, value: float, high: float) -> str:
        return "" if math.isnan(value) else f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"

    table: list[tuple[str, ...]] = [("tensor, step", "predicted", "measured", "at larger widths", "")]
    heads = []
    for line in lines:
        rows = sorted((row for row in line["rows"] if row["verdict"] == "disagrees"), key=lambda row: row["step"])
        exponents = f"wrong: {', '.join(line['wrong'])}" if line["wrong"] else "as derived"
        more = f", the first {SHOWN}" if len(rows) > SHOWN else ""
        heads.append(f"{line['number']}  {line['optimizer']}, {exponents}; {len(rows)} rows{more}")
        for row in rows[:SHOWN]:
            wide, low, high = row.get("wider") or (math.nan, 0, 0)
            table.append((f"{row['tensor']} {row['kind']} {row['step']}", row["predicted"],
                          slope(row["low"], row["slope"], row["high"]), slope(low, wide, high), row["reason"],
                          ))  # fmt: skip
        heads += [""] * (len(rows[:SHOWN]) - 1)
    head, *texts = columns(table)
    yield f"    {head}"
    for network, text in zip(heads, texts, strict=True):
        if network:
            yield f"  {network}"
        yield f"    {text}"


def finished(out: Path) -> Iterator[dict[str, Any]]:
    """The networks in a file; a last line that was cut off when the campaign was stopped is taken away from it."""
    if not out.exists():
        return
    text = out.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        out.write_text(whole)
    yield from map(json.loads, whole.splitlines())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__.split("\n")[0])
    parser.add_argument("--networks", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the number of the first network")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes")
    parser.add_argument("--looks", type=int, default=100, metavar="N",
                        help="how often to look at what is not settled (default: in all ways)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("agreement.jsonl"), metavar="FILE")
    parser.add_argument("--again", action="store_true", help="run those again of which something else is predicted now")
    parser.add_argument("--report", action="store_true", help="train nothing: what the file holds so far")
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
    known = list(finished(out))
    wanted = range(arguments.seed, arguments.seed + arguments.networks)
    with ExitStack() as stack:
        each = map if arguments.jobs == 1 else stack.enter_context(ProcessPoolExecutor(arguments.jobs)).map
        if arguments.again:
            from tensorprog.cli.terminal import write_whole

            now = each(predicted, [line["number"] for line in known])
            known = [line for line, digest in zip(known, now, strict=True) if line.get("predicted") == digest]
            write_whole(out, "".join(json.dumps(line) + "\n" for line in known))
        done = {line["number"] for line in known}
        left = [] if arguments.report else [number for number in wanted if number not in done]
        file = stack.enter_context(out.open("a"))
        start = time.monotonic()
        for count, line in enumerate(each(run, left, repeat(arguments.looks)), 1):
            file.write(json.dumps(line) + "\n")
            file.flush()
            known.append(line)
            if sys.stderr.isatty():
                minutes = (time.monotonic() - start) / count * (len(left) - count) / 60
                print(f"\r{count} of {len(left)}, {minutes:.0f} minutes left ", end="", file=sys.stderr)
    found = [line for line in known if line["number"] in wanted]
    print(summary(found))
    return 1 if any("crashed" in line or line["counts"].get("disagrees") for line in found) else 0


if __name__ == "__main__":
    sys.exit(main())

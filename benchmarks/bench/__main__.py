"""Run all cases, or some; print each one's table, and the table of targets at the end.

    make bench                                     all; writes benchmarks/results/
    make bench ARGS="--only public --rounds 3"     one case; writes nothing
    make bench ARGS=--list

Exits with 1 when a case could not be measured. A target that is not met is a result like any other.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from bench.case import Case, Comparison, Figures, Options
from bench.cases import CASES
from bench.ground import Ground, open_ground
from bench.machine import LOAD_CORE, Failed, let_many_files_be_open, require
from bench.report import FOOTNOTE, case_table, plain, target_table
from bench.results import write
from bench.targets import TARGETS

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="CASE")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement")
    parser.add_argument("--requests", type=int, default=1_000_000, help="of the case `memory`")
    parser.add_argument("--results", type=Path, help="a folder to write to")
    parser.add_argument("--list", action="store_true", help="the cases")
    chosen = parser.parse_args()
    if chosen.list:
        for case in CASES:
            print(f"{case.name:<13}{case.title}")
        return
    require("nginx", "wrk", "redis-server", "taskset")
    let_many_files_be_open()
    os.sched_setaffinity(0, {LOAD_CORE})
    options = Options(chosen.rounds, chosen.seconds, chosen.requests)
    cases = [case for case in CASES if case.name in chosen.only]
    results, failures = run(cases, options)
    whole = len(cases) == len(CASES)
    verdicts = [target.verdict(results) for target in TARGETS]
    shown = [verdict for verdict in verdicts if whole or verdict.met is not None]
    print(f"\n{plain(target_table(shown))}")
    folder = chosen.results or (RESULTS if whole else None)
    if folder is not None:
        write(folder, cases, options, results, failures)
    sys.exit(bool(failures))


def run(cases: list[Case], options: Options) -> tuple[dict[str, Figures], dict[str, str]]:
    """What each case found, or why it could not."""
    results, failures = {}, {}
    for case in cases:
        print(f"\n{case.title}", flush=True)
        began = time.monotonic()
        try:
            with open_ground() as ground:
                results[case.name] = measured(case, ground, options)
        except Failed as error:
            failures[case.name] = str(error)
            print(f"FAILED: {error}", flush=True)
            continue
        print(plain(case_table(case, results[case.name])))
        if isinstance(case, Comparison):
            print(FOOTNOTE)
        print(f"({time.monotonic() - began:.0f} s)", flush=True)
    return results, failures


def measured(case: Case, ground: Ground, options: Options) -> Figures:
    def say(words: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K  {words}", end="", file=sys.stderr, flush=True)

    try:
        return case.run(ground, options, say)
    finally:
        say("\r\033[K")


if __name__ == "__main__":
    main()

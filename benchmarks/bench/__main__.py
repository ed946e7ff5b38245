"""Run all cases, or some; print each one's table, and the table of targets at the end.

    make bench                                     all; writes benchmarks/results/
    make bench ARGS="--only public --rounds 3"     one case; writes nothing
    make bench ARGS=--list

Exits with 1 when a case could not be measured. A target that is not met is a result like any other.
"""

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.case import GATEWAY, Case, Comparison, Figures, Options, median, ratio
from bench.cases import CASES
from bench.ground import Ground, open_ground
from bench.machine import LOAD_CORE, Failed, let_many_files_be_open, require
from bench.peers import versions
from bench.plot import Bar, Panel, svg
from bench.report import FOOTNOTE, case_table, markdown, plain, target_table
from bench.targets import TARGETS, Results

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="CASE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement")
    parser.add_argument("--requests", type=int, default=1_000_000, help="of the case `memory`")
    parser.add_argument("--results", type=Path, help="a folder to write to")
    parser.add_argument("--list", action="store_true", help="the cases")
    chosen = parser.parse_args()
    if chosen.list:
        print(plain([[case.name, case.title] for case in CASES]))
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


def write(
    folder: Path,
    cases: list[Case],
    options: Options,
    results: dict[str, Figures],
    failures: dict[str, str],
) -> None:
    """bench.json: all figures of all rounds; bench.md: the tables; bench.svg: the plot."""
    folder.mkdir(parents=True, exist_ok=True)
    verdicts = [target.verdict(results) for target in TARGETS]
    known = versions()
    whole: dict[str, Any] = {
        "machine": machine(),
        "versions": known,
        "options": asdict(options),
        "cases": {
            case.name: {"title": case.title, "figures": results.get(case.name, {})}
            for case in cases
        },
        "failures": failures,
        "targets": [
            {"what": each.target.what, "wanted": each.target.wanted}
            | {"reached": each.reached, "met": each.met}
            for each in verdicts
        ],
    }
    (folder / "bench.json").write_text(json.dumps(whole, indent=1) + "\n")
    parts = ["# What `make bench` found", described(known), markdown(target_table(verdicts))]
    for case in cases:
        parts.append(f"## {case.title}")
        if case.name in failures:
            parts.append(f"Not measured: {failures[case.name]}")
        else:
            parts.append(markdown(case_table(case, results[case.name])))
    (folder / "bench.md").write_text("\n\n".join([*parts, FOOTNOTE.replace("*", r"\*")]) + "\n")
    panels = plotted(results)
    if panels:
        (folder / "bench.svg").write_text(svg(panels, described(known)))


def machine() -> dict[str, str]:
    name = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
    day = time.strftime("%Y-%m-%d", time.gmtime())
    cores = str(os.cpu_count())
    return {"processor": name, "cores": cores, "python": platform.python_version(), "day": day}


def described(known: dict[str, str]) -> str:
    here = machine()
    peers = ", ".join(f"{name} {known[name]}" for name in known if known[name] and "+" not in name)
    return f"One core of {here['processor']}, {here['day']}. Python {here['python']}, {peers}."


def plotted(results: Results) -> list[Panel]:
    """The public route by proxy, the fastest first; the gateway by what is asked of it."""
    panels = []
    for case, title, ours in (
        ("public", "Requests a second on one core: 1.5 KB answers, 32 connections", {GATEWAY}),
        ("patterns", "The gateway, by what a request has to show", set[str]()),
    ):
        figures = results.get(case)
        if not figures:
            continue
        first = next(iter(figures))
        bars = []
        for side in figures:
            values = figures[side]["rate"]
            note = f"{ratio(figures, side, first, 'rate')[0]:.2f}"
            middle = median(figures, side, "rate")
            is_ours = side in ours or not ours
            bars.append(Bar(side, middle, min(values), max(values), is_ours, f"({note} ×)"))
        if ours:
            bars.sort(key=lambda bar: -bar.value)
        panels.append(Panel(title, bars))
    return panels


if __name__ == "__main__":
    main()

"""A run as files: all figures of all rounds, the tables, the plot."""

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.case import GATEWAY, Case, Figures, Options, median, ratio
from bench.peers import versions
from bench.plot import Bar, Panel, svg
from bench.report import FOOTNOTE, case_table, markdown, target_table
from bench.targets import TARGETS, Results


def write(
    folder: Path,
    cases: Sequence[Case],
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

"""A run's figures as tables: to read in a terminal, and as Markdown to put into a page."""

import statistics
from collections.abc import Iterable, Sequence

from bench.case import Case, Comparison, Figures, ratio
from bench.targets import Verdict

SPARE = 0.9  # a proxy that used less of its core than this was not the limit
UNITS = {
    "rate": "requests/s",
    "megabytes": "MB/s",
    "cpu_us": "CPU µs each",
    "per_cpu_second": "for a CPU second",
}
HEAD = ["median", "spread", "ratio", "its spread", "by CPU", "p50 ms", "p99 ms", "CPU µs", "core"]
FOOTNOTE = "* its core had time to spare: load, backend or latency were the limit, not the proxy"

Row = list[str]


def case_table(case: Case, figures: Figures) -> list[Row]:
    """The first row is the heading."""
    if isinstance(case, Comparison):
        return comparison_table(case, figures)
    rows = [["", "what", "median", "spread"]]
    for side, metrics in figures.items():
        for metric, values in metrics.items():
            low, high = number(min(values)), number(max(values))
            spread = f"{low}-{high}" if len(values) > 1 else ""
            rows.append([side, metric, number(statistics.median(values)), spread])
    return rows


def comparison_table(case: Comparison, figures: Figures) -> list[Row]:
    rows = [[UNITS[case.metric], *HEAD]]
    for side, metrics in figures.items():
        values = metrics[case.metric]
        reference = case.reference(figures, side)
        middle, low, high = ratio(figures, side, reference, case.metric)
        by_cpu, *_ = ratio(figures, side, reference, "per_cpu_second")
        busy = statistics.median(metrics["busy"])
        rows.append(
            [
                side,
                number(statistics.median(values)),
                f"{number(min(values))}-{number(max(values))}",
                f"{middle:.2f}",
                f"{low:.2f}-{high:.2f}",
                f"{by_cpu:.2f}",
                *(milliseconds(metrics[name]) for name in ("p50_ms", "p99_ms")),
                f"{statistics.median(metrics['cpu_us']):.1f}",
                f"{busy:.0%}{'*' if busy < SPARE else ''}",
            ]
        )
    return rows


def milliseconds(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}" if any(values) else ""


def number(value: float) -> str:
    """Three digits that count, or all before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def target_table(verdicts: Iterable[Verdict]) -> list[Row]:
    rows = [["what", "wanted", "reached", ""]]
    for verdict in verdicts:
        target, reached = verdict.target, verdict.reached
        shown = "" if reached is None else target.text(reached)
        rows.append([target.what, target.wanted, shown, verdict.word])
    return rows


def plain(rows: Sequence[Row]) -> str:
    """In columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(rows: Sequence[Row]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

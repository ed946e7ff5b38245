"""How a command answers: results on standard output, errors on standard error, and exit codes.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage. What is not printable is escaped: a name
that somebody gave himself must not command the operator's terminal.
"""

import json
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from gateway.cli.options import Output

REFUSED = 1
WRONG_USAGE = 2
ABSENT = "-"


class Failure(Exception):
    """A command that was refused or failed. `complaints` are what it has to say one by one."""

    def __init__(
        self, message: str, *, complaints: Sequence[str] = (), exit_code: int = REFUSED
    ) -> None:
        super().__init__(message)
        self.complaints = tuple(complaints)
        self.exit_code = exit_code


@contextmanager
def failures(output: Output) -> Iterator[None]:
    """What fails inside is told on standard error and becomes the exit code."""
    try:
        yield
    except Failure as failure:
        if output is Output.JSON:
            error: dict[str, Any] = {"error": str(failure)}
            if failure.complaints:
                error["complaints"] = failure.complaints
            print(printable(json.dumps(error, ensure_ascii=False)), file=sys.stderr)
        else:
            for line in failure.complaints or [f"error: {failure}"]:
                print(printable(line), file=sys.stderr)
        raise typer.Exit(failure.exit_code) from None


def show(result: Any, output: Output, tables: Sequence[str] = ()) -> None:
    """Print a result: an object, or an array of objects.

    `tables` are fields of an object that hold such arrays, and are shown below it.
    """
    if output is Output.JSON:
        print(printable(json.dumps(result, ensure_ascii=False)))
    elif isinstance(result, list):
        show_table(result)
    else:
        width = max(map(len, result.keys() - set(tables)), default=0) + 1
        for name, value in result.items():
            if name not in tables:
                print(f"{name + ':':<{width}} {cell(value)}")
        for name in tables:
            if name in result:
                print()
                show_table(result[name])


def show_table(rows: Sequence[dict[str, Any]]) -> None:
    """Rows with the same names, aligned; in a terminal with its own means."""
    if not rows:
        print("none")
        return
    names = list(rows[0])
    lines = [[cell(row[name]) for name in names] for row in rows]
    if sys.stdout.isatty():
        _show_in_terminal(names, lines)
        return
    table = [[name.upper() for name in names], *lines]
    widths = [max(columns(line[at]) for line in table) for at in range(len(names))]
    for line in table:
        cells = zip(line, widths, strict=True)
        print("  ".join(text + " " * (width - columns(text)) for text, width in cells).rstrip())


def cell(value: Any) -> str:
    """A value as people read it."""
    match value:
        case None | "":
            return ABSENT
        case bool():
            return "yes" if value else "no"
        case list():
            return "; ".join(map(cell, value)) or ABSENT
        case dict():
            return " ".join(f"{name}={cell(inner)}" for name, inner in value.items())
    return printable(str(value))


def printable(text: str) -> str:
    """`text` with control characters and their like as JSON escapes; in JSON it means the same."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def columns(text: str) -> int:
    """How many columns of a terminal `text` takes: East Asian wide characters take two."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def _show_in_terminal(names: list[str], lines: list[list[str]]) -> None:
    from rich import box  # noqa: PLC0415  # takes 0.1 s, which a script need not wait for
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    for line in lines:
        table.add_row(*map(Text, line))
    Console().print(table)

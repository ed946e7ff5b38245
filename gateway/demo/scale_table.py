"""What `gateway demo --scale` shows: a row for each kind of client in each step, while it runs.

On a terminal the table is drawn anew as it changes; elsewhere a row is printed when it is done.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

TIMES_A_SECOND = 4


@dataclass(slots=True)
class Row:
    """Clients of one kind in one step, what became of their requests, and what was promised."""

    step: str  # empty: it is known by the number of its clients
    clients: int  # that take turns
    most: int | None = None  # that may be admitted; None: all
    least: int = 0  # that must be, when that many were sent and nothing had to be sent again
    sent: int = 0
    admitted: int = 0
    refused: int = 0
    again: int = 0
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0  # how long it took, in the end

    @property
    def title(self) -> str:
        if self.step:
            return self.step
        reached = "" if self.sent >= self.clients else f"{self.sent:,} of "
        return f"{reached}{self.clients:,} clients"

    @property
    def lost(self) -> int:
        return self.sent - self.admitted - self.refused

    @property
    def problem(self) -> str | None:
        """What differs from the promise."""
        if self.lost:
            return f"{self.lost:,} lost"
        if self.most is None:
            return f"{self.refused:,} refused" if self.refused else None
        if self.admitted > self.most:
            return f"{self.admitted - self.most:,} too many"
        missing = min(self.least, self.sent) - self.again - self.admitted
        return f"{missing:,} too few" if missing > 0 else None

    def count(self, status: int) -> None:
        self.sent += 1
        self.admitted += status == 200
        self.refused += status == 429

    def finish(self) -> None:
        self.seconds = time.monotonic() - self.began

    def cells(self) -> tuple[str, ...]:
        seconds = self.seconds or time.monotonic() - self.began
        a_second = round(self.sent / max(seconds, 0.001))
        numbers = (self.sent, a_second, self.admitted, self.refused, self.again, self.lost)
        promised = "all" if self.most is None else f"{self.most:,}"
        return (self.title, *(f"{number:,}" for number in numbers), promised)


COLUMNS = ("", "sent", "/s", "admitted", "refused", "again", "lost", "promised")


class Board:
    """All rows so far."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        """`quiet`: show nothing."""
        self.rows: list[Row] = []
        self._console = console
        self._quiet = quiet
        self._live: Live | None = None

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        if self._quiet or not self._console.is_terminal:
            yield
            return
        with Live(
            get_renderable=self._table, console=self._console, refresh_per_second=TIMES_A_SECOND
        ) as self._live:
            yield

    def say(self, text: str) -> None:
        """A line beside the table."""
        if not self._quiet:
            self._console.print(text, style="dim", highlight=False)

    @contextlib.contextmanager
    def step(self, *rows: Row) -> Iterator[None]:
        self.rows += rows
        try:
            yield
        finally:
            for row in rows:
                row.finish()
                if self._live is None and not self._quiet:
                    told = zip(COLUMNS[1:], row.cells()[1:], strict=True)
                    words = ", ".join(f"{name} {value}" for name, value in told)
                    self._console.print(f"{row.title}: {words}", highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold cyan")
        for column in COLUMNS:
            table.add_column(column, justify="right" if column else "left", no_wrap=True)
        table.add_column("", no_wrap=True)
        for row in self.rows:
            verdict = Text("…", style="dim")
            if row.seconds:
                good = row.problem is None
                verdict = Text(row.problem or "ok", style="green" if good else "bold red")
            table.add_row(*row.cells(), verdict)
        return table

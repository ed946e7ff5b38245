"""`gateway demo` and `gateway demo --check`: start the stage, then print the lines or run them.

SIGINT, SIGTERM and SIGHUP end either at any moment, with all that it started.
"""

import asyncio
import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gateway.demo.check import Outcome, outcomes, proxied
from gateway.demo.lines import Line, groups, setup
from gateway.demo.ports import HOST, DemoError, Ports
from gateway.demo.stage import Stage, stage

CHECK_SECONDS = 60.0
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ENDED_BY_SIGNAL = -1
EXPECTED_COLUMNS = 26
GOT_COLUMNS = 9


def run_demo(ports: Ports, routes: Path | None, console: Console, *, as_json: bool = False) -> int:
    """Print the lines and stay until a signal; the exit code. Raises DemoError."""
    print_all = _print_json if as_json else _print_all
    ended = until_signal(_show(ports, routes, console, print_all))
    if ended == ENDED_BY_SIGNAL and not as_json:
        console.print("\nThe demo has ended, with all that it started.")
    return 0 if ended == ENDED_BY_SIGNAL else 1


def run_check(ports: Ports, routes: Path | None, console: Console, *, as_json: bool = False) -> int:
    """Run the lines; 0 when all came out as printed, else 1. Raises DemoError."""
    print_rows = _print_json_rows if as_json else _print_table
    return 0 if until_signal(_check(ports, routes, console, print_rows)) == 0 else 1


def until_signal(
    work: Coroutine[Any, Any, int],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """The result of `work`, or ENDED_BY_SIGNAL when a signal ended it."""

    async def to_the_end() -> int:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        came: list[int] = []

        def end(number: int) -> None:
            if not came:  # one that comes while all is being ended must not interrupt that
                came.append(number)
                task.cancel()

        for number in ENDING_SIGNALS:
            loop.add_signal_handler(number, end, number)
        try:
            return await task
        except asyncio.CancelledError:
            if not came:
                raise
            return ENDED_BY_SIGNAL
        finally:
            for number in ENDING_SIGNALS:
                loop.remove_signal_handler(number)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(to_the_end())


async def _show(
    ports: Ports,
    routes: Path | None,
    console: Console,
    print_all: Callable[[Stage, Console], None],
) -> int:
    waiting = console.status("starting backends, stand-ins and gateway")
    waiting.start()
    try:
        async with stage(ports, routes) as running:
            waiting.stop()
            print_all(running, console)
            code = await running.gateway.wait()
            last_words = running.gateway.last_words()
            raise DemoError(f"the gateway ended by itself, with exit code {code}:\n{last_words}")
    finally:
        waiting.stop()


def _print_all(running: Stage, console: Console) -> None:
    facts, ports = running.facts, running.ports
    console.rule("The demo is running", style="dim")
    for name, what in (
        ("gateway", f"{facts.gateway_url}   one worker, store memory://"),
        ("its admin port", facts.admin_url),
        ("market-data", f"http://{HOST}:{ports.market_data}   unchanged, no authentication"),
        ("strategy", f"http://{HOST}:{ports.strategy}   unchanged, no authentication"),
        ("stand-ins", f"{facts.identity_url}   for Google, Apple and Binance"),
        ("its access log", f"tail -f {running.gateway.log}"),
    ):
        console.print(f"  {name:<16}{escape(what)}", highlight=False, soft_wrap=True)
    console.print()
    console.print("Open another terminal and paste. Ctrl-C ends the demo.", style="bold")
    if shutil.which("curl") is None:
        console.print("The lines need curl, and it isn't installed here.", style="yellow")
    _print_title("Paste this block first", console)
    _print_plain(Text(setup(facts, proxied=proxied(os.environ))), console)
    for group in groups(facts):
        _print_title(group.title, console)
        for line in group.lines:
            _print_plain(_styled(line), console)
    console.print()
    console.rule("Ctrl-C ends the demo", style="dim")


def _print_json(running: Stage, _console: Console) -> None:
    lines = [
        {"group": group.title, "command": line.command, "expected": line.expectation}
        for group in groups(running.facts)
        for line in group.lines
    ]
    whole = {"setup": setup(running.facts, proxied=proxied(os.environ)), "lines": lines}
    print(json.dumps(whole, ensure_ascii=False), flush=True)


def _print_title(title: str, console: Console) -> None:
    console.print()
    _print_plain(Text(f"# {title}", style="bold cyan"), console)


def _print_plain(text: Text, console: Console) -> None:
    """As it is: a wrapped row could not be pasted."""
    console.print(text, soft_wrap=True, highlight=False, markup=False, emoji=False)


def _styled(line: Line) -> Text:
    text = Text(str(line))
    if line.expectation:
        refused = line.status is None or line.status >= 400
        length = len(line.expectation) + len("# ")
        text.stylize("yellow" if refused else "green", len(text) - length)
    return text


async def _check(
    ports: Ports,
    routes: Path | None,
    console: Console,
    print_rows: Callable[[list[Outcome], Console], None],
) -> int:
    rows: list[Outcome] = []
    failed = 0
    words = "starting backends, stand-ins and gateway"
    with console.status(words) as waiting:
        try:
            async with asyncio.timeout(CHECK_SECONDS), stage(ports, routes) as running:
                async for row in outcomes(running.facts):
                    rows.append(row)
                    waiting.update(f"{len(rows)} lines run")
                    failed += row.problem is not None
                if failed:
                    last_words = f"The gateway's last words:\n{running.gateway.last_words()}\n"
                    Console(stderr=True).print(Text(last_words), soft_wrap=True)
        except TimeoutError:
            raise DemoError(
                f"ended after {CHECK_SECONDS:.0f} s, with {len(rows)} lines run"
            ) from None
    print_rows(rows, console)
    return 1 if failed else 0


def _print_table(rows: list[Outcome], console: Console) -> None:
    """A table for each group, with columns of one width so that they read as one."""
    for title, members in itertools.groupby(rows, key=lambda row: row.group):
        table = Table(
            title=Text(f"# {title}", style="bold cyan"),
            title_justify="left",
            box=None,
            pad_edge=False,
            padding=(0, 2, 0, 0),
            show_header=False,
            expand=True,
        )
        table.add_column("line", no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column("expected", no_wrap=True, overflow="ellipsis", width=EXPECTED_COLUMNS)
        table.add_column("got", no_wrap=True, overflow="ellipsis", width=GOT_COLUMNS)
        for row in members:
            good = row.problem is None
            table.add_row(
                Text(" ".join(row.command.replace("\\\n", " ").split())),
                Text(row.expected, style="dim"),
                Text("ok", style="green") if good else Text(f"! {row.got}", style="bold red"),
            )
        console.print(table)
    failed = [row for row in rows if row.problem is not None]
    for row in failed:
        console.print(Text(f"\n{row.command}\n  {row.problem}", style="red"))
    passed = len(rows) - len(failed)
    console.print(f"\n{passed} lines came out as printed, {len(failed)} did not.", highlight=False)


def _print_json_rows(rows: list[Outcome], _console: Console) -> None:
    print(json.dumps([asdict(row) for row in rows], ensure_ascii=False))

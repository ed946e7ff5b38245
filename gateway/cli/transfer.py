"""`gateway keys export` and `import`: all plan keys as JSON lines, without the keys themselves."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.configuration import read_settings
from gateway.cli.operate import STORE_SECONDS, store_failures
from gateway.cli.options import (
    DEFAULT_ROUTES,
    ConfigFile,
    Options,
    Output,
    OutputForm,
    RoutesFile,
    example,
)
from gateway.cli.output import Failure, failures, show

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.store.transfer import Transfer

PROGRESS_SECONDS = 0.5
STANDARD = Path("-")


def add_commands(app: typer.Typer) -> None:
    app.command("export", epilog=example("gateway keys export > keys.jsonl"))(export_keys)
    app.command(
        "import",
        epilog=example("gateway keys import keys.jsonl", "gateway keys import - < keys.jsonl"),
    )(import_keys)


def export_keys(
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Write every key's record to standard output, as JSON lines with hashes only."""
    options = Options(config, routes, output)
    with failures(output):
        asyncio.run(_export(read_settings(options)))


def import_keys(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines; - is standard input.")],
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Take keys in from JSON lines as `export` writes them; users who are unknown are created.

    Lines that can't be taken are told, with their numbers, and the others are taken; then the exit
    code is 1. Interrupted, begin anew: what is here already is passed over. A key that is revoked
    here stays revoked.
    """
    options = Options(config, routes, output)
    with failures(output):
        settings = read_settings(options)
        with _opened(file) as lines:
            result = asyncio.run(_import(settings, lines))
        complaints = result.pop("complaints")
        show(result, output)
        if result["refused"]:
            more = result["refused"] - len(complaints)
            complaints += [f"and {more} lines more"] if more else []
            raise Failure(f"{result['refused']} lines were not taken", complaints=complaints)


async def _export(settings: "Settings") -> None:
    async with _transfer(settings) as transfer:
        async for line in transfer.export():
            print(line)


async def _import(settings: "Settings", lines: Iterator[str]) -> dict[str, Any]:
    began = told = time.monotonic()
    result: dict[str, Any] = {"complaints": []}
    on_terminal = sys.stderr.isatty()
    async with _transfer(settings) as transfer:
        async for tally in transfer.take(lines):
            result = asdict(tally)
            now = time.monotonic()
            if on_terminal and now - told > PROGRESS_SECONDS:
                told = now
                rate = tally.lines / (now - began)
                print(f"\r{tally.lines:,} lines, {rate:,.0f} a second", end="", file=sys.stderr)
    if on_terminal:
        print(file=sys.stderr)
    return {**result, "seconds": round(time.monotonic() - began, 1)}


@asynccontextmanager
async def _transfer(settings: "Settings") -> "AsyncIterator[Transfer]":
    from gateway.admin.operations import open_context  # noqa: PLC0415  # brings redis
    from gateway.store.transfer import Transfer  # noqa: PLC0415

    if settings.store.url.startswith("memory://"):
        raise Failure("memory:// ends with its gateway: set store.url to a Redis to move keys")
    with store_failures(settings, "transfer"):
        async with open_context(settings, timeout_seconds=STORE_SECONDS) as context:
            yield Transfer(context.store, context.users)


@contextmanager
def _opened(file: Path) -> Iterator[IO[str]]:
    """Bytes that aren't UTF-8 make their line a bad one."""
    if file == STANDARD:
        yield sys.stdin
        return
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            yield lines
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise Failure(f"{file} can't be read: {reason}") from None

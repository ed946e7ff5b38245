"""`gateway vault list`, `import` and `rotate`: all registered keys, some at a time."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.configuration import read_settings
from gateway.cli.operate import STORE_SECONDS, ask_gateway, store_failures
from gateway.cli.options import (
    DEFAULT_ROUTES,
    ConfigFile,
    Options,
    Output,
    OutputForm,
    RoutesFile,
    example,
)
from gateway.cli.output import REFUSED, Failure, cell, failures, printable, show
from gateway.cli.transfer import PROGRESS_SECONDS, STANDARD, Lines, opened

if TYPE_CHECKING:
    from gateway.admin.operation import Context
    from gateway.settings import Settings

LINES_A_BATCH = 100  # a request to the admin listener takes them
LONGEST_LINE = 4096  # characters that are taken; of a longer one so much is told of that it is
MOST_COMPLAINTS = 1000
COUNTS = ("lines", "new", "changed", "same", "kept", "refused")
COLUMNS = {  # with their widths; the last has what it needs
    "is_active": 10,
    "verification_status": 20,
    "can_withdraw": 13,
    "last_verified": 20,
    "created_at": 20,
    "master_key_id": 14,
    "email": 0,
}


def add_commands(app: typer.Typer) -> None:
    app.command("list", epilog=example("gateway vault list --output json"))(list_records)
    app.command(
        "import",
        epilog=example(
            "gateway vault import - < keys.jsonl", "gateway vault import keys.jsonl --overwrite"
        ),
    )(import_keys)
    app.command("rotate", epilog=example("gateway vault rotate"))(rotate)


def list_records(
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """List the registered keys without their secrets, in no order, as they are read."""
    options = Options(config, routes, output)
    with failures(output):
        try:
            asyncio.run(_list(read_settings(options), output), debug=False)
        except BrokenPipeError:  # whoever reads has enough, as `head` has
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(REFUSED) from None


def import_keys(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines; - is standard input.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="The file goes before what is here.")
    ] = False,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Register keys from JSON lines, {"email": ..., "api_key": ..., "api_secret": ...} each.

    They are encrypted here, before Redis sees them, and not verified. A key that is registered
    stays, unless --overwrite is given; one that is switched off stays so.

    Lines that can't be taken are told, with their numbers, and the others are taken; then the exit
    code is 1. The same lines again change nothing: interrupted, run it again. Remove the file then.
    """
    options = Options(config, routes, output)
    with failures(output):
        settings = read_settings(options)
        with opened(file) as lines:
            try:
                result = asyncio.run(_import(settings, lines, overwrite=overwrite), debug=False)
            except KeyboardInterrupt:
                raise Failure("interrupted; the same command goes on where it was") from None
        source = "standard input" if file == STANDARD else file
        complaints = [f"{source}:{number}: {why}" for number, why in result.pop("complaints")]
        _conclude(result, output, complaints, result["refused"], "lines were not taken")


def rotate(
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Encrypt every registered key anew under the first of vault.encryption_keys.

    The gateways serve meanwhile; each must know the new key already, behind the old one, before
    any of them has it first. A record that can't be opened is named and left; then the exit code
    is 1. Interrupted, the same command goes on where it was.
    """
    options = Options(config, routes, output)
    with failures(output):
        try:
            result = asyncio.run(_rotate(read_settings(options)), debug=False)
        except KeyboardInterrupt:
            raise Failure("interrupted; the same command goes on where it was") from None
        complaints = result.pop("complaints")
        _conclude(result, output, complaints, result["left"], "records were left as they were")


def _conclude(
    result: dict[str, Any], output: Output, complaints: list[str], bad: int, what: str
) -> None:
    show(result, output)
    if bad:
        more = bad - len(complaints)
        told = [*complaints, *([f"and {more} more"] if more else [])]
        raise Failure(f"{bad} {what}", complaints=told)


async def _list(settings: "Settings", output: Output) -> None:
    unread: list[str] = []
    if output is Output.JSON:
        print("[", end="")
    else:
        print(_row({name: name.upper() for name in COLUMNS}))
    between = "\n"
    async with aclosing(_records(settings, unread)) as records:
        async for record in records:
            if output is Output.JSON:
                print(between + printable(json.dumps(record, ensure_ascii=False)), end="")
                between = ",\n"
            else:
                print(_row({name: cell(record[name]) for name in COLUMNS}))
    if output is Output.JSON:
        print("]")
    if unread:
        raise Failure(f"{len(unread)} records can't be read", complaints=unread)


async def _records(settings: "Settings", unread: list[str]) -> AsyncGenerator[dict[str, Any]]:
    """Each once; `unread` is told of those that can't be read."""
    if settings.store.url.startswith("memory://"):
        for record in ask_gateway(settings, "vault.list", {}):
            yield record
        return
    from gateway.vault.records import masked  # noqa: PLC0415  # brings redis

    async with _context(settings, "vault.list") as context:
        seen: set[int] = set()  # a scan may name a record twice
        async for emails in context.vault.records.emails():
            new = [email for email in dict.fromkeys(emails) if hash(email) not in seen]
            seen.update(map(hash, new))
            records, bad = await context.vault.records.read_all(new)
            unread += [f"{masked(email)} can't be read" for email in bad]
            for record in records:
                yield record.shown()


async def _import(settings: "Settings", lines: Lines, *, overwrite: bool) -> dict[str, Any]:
    total: dict[str, Any] = dict.fromkeys(COUNTS, 0) | {"complaints": []}
    progress = _Progress()
    numbered = iter(lines)
    async with _runner(settings, "vault.import") as run:
        while batch := list(islice(numbered, LINES_A_BATCH)):
            cut = [line[: LONGEST_LINE + 1] for line in batch]
            given = {"lines": cut, "first": total["lines"] + 1, "overwrite": overwrite}
            tally = await run(given)
            total |= {name: total[name] + tally[name] for name in COUNTS}
            total["complaints"] = [*total["complaints"], *tally["complaints"]][:MOST_COMPLAINTS]
            progress.tell(f"{lines.share}{total['lines']:,} lines")
    return total | {"seconds": progress.ended()}


async def _rotate(settings: "Settings") -> dict[str, Any]:
    progress = _Progress()
    if settings.store.url.startswith("memory://"):
        result: dict[str, Any] = ask_gateway(settings, "vault.rotate", {})
        return result | {"seconds": progress.ended()}
    from gateway.admin.vault import check_master_key  # noqa: PLC0415  # brings redis
    from gateway.vault.resealing import Resealing  # noqa: PLC0415  # as above

    async with _context(settings, "vault.rotate") as context:
        check_master_key(context)
        rotation = Resealing(context.vault)
        async for _ in rotation.run():
            shown = rotation.tally.shown()
            progress.tell(f"{shown['records']:,} records, {shown['rotated']:,} rotated")
        return rotation.tally.shown() | {"seconds": progress.ended()}


@asynccontextmanager
async def _runner(
    settings: "Settings", operation: str
) -> AsyncIterator[Callable[[Mapping[str, Any]], Awaitable[Any]]]:
    """Runs `operation` with one set of arguments after the other, where the data is."""
    if settings.store.url.startswith("memory://"):

        async def ask(arguments: Mapping[str, Any]) -> Any:
            return ask_gateway(settings, operation, dict(arguments))

        yield ask
        return
    from gateway.admin.operations import OPERATIONS  # noqa: PLC0415  # brings redis

    async with _context(settings, operation) as context:

        async def run(arguments: Mapping[str, Any]) -> Any:
            return await OPERATIONS[operation].run(context, **arguments)

        yield run


@asynccontextmanager
async def _context(settings: "Settings", operation: str) -> "AsyncIterator[Context]":
    from gateway.admin.operation import open_context  # noqa: PLC0415  # brings redis

    with store_failures(settings, operation):
        async with open_context(settings, timeout_seconds=STORE_SECONDS) as context:
            yield context


def _row(cells: Mapping[str, str]) -> str:
    return "  ".join(cells[name].ljust(width) for name, width in COLUMNS.items()).rstrip()


class _Progress:
    """Tells people at a terminal how far it is."""

    def __init__(self) -> None:
        self._began = self._told = time.monotonic()
        self._on_terminal = sys.stderr.isatty()

    def tell(self, text: str) -> None:
        now = time.monotonic()
        if self._on_terminal and now - self._told > PROGRESS_SECONDS:
            self._told = now
            print(f"\r{text} ", end="", file=sys.stderr, flush=True)

    def ended(self) -> float:
        """The seconds that it took."""
        if self._on_terminal:
            print(file=sys.stderr)
        return round(time.monotonic() - self._began, 1)

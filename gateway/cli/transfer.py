"""`gateway keys export` and `import`, and those of users: records as JSON lines.

Of plan keys there are hashes only, never the keys themselves.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

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
    from gateway.store.lines import Transfer

Kind: TypeAlias = Literal["keys", "users"]

PROGRESS_SECONDS = 0.5
LONGEST_LINE_BYTES = 65_536  # more than the longest that is taken
STANDARD = Path("-")

Source = Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines; - is standard input.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="The file goes before what is here.")]


def add_key_commands(app: typer.Typer) -> None:
    app.command("export", epilog=example("gateway keys export > keys.jsonl"))(export_keys)
    app.command(
        "import",
        epilog=example("gateway keys import keys.jsonl", "gateway keys import - < keys.jsonl"),
    )(import_keys)


def add_user_commands(app: typer.Typer) -> None:
    app.command("export", epilog=example("gateway users export > users.jsonl"))(export_users)
    app.command(
        "import",
        epilog=example("gateway users import users.jsonl", "gateway users import - < users.jsonl"),
    )(import_users)


def export_keys(
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Write every key's record to standard output, as JSON lines with hashes only."""
    _export("keys", Options(config, routes, output))


def import_keys(
    file: Source,
    overwrite: Overwrite = False,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Take keys in from JSON lines as `export` writes them; users who are unknown are created.

    A key that is here stays as it is, but a revocation is taken over; with --overwrite the file's
    name, times and networks are too. What is revoked here stays revoked, and no key changes its
    id or its user.

    Lines that can't be taken are told, with their numbers, and the others are taken; then the exit
    code is 1. Interrupted, or with those lines mended, the same command goes on where it was.
    """
    _import("keys", Options(config, routes, output), file, overwrite=overwrite)


def export_users(
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Write every user's record to standard output, as JSON lines; deleted ones too."""
    _export("users", Options(config, routes, output))


def import_users(
    file: Source,
    overwrite: Overwrite = False,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Take users in from JSON lines as `export` writes them; each has an id.

    A user who is here stays as they are, but what ends access is taken over: disabled_at, the end
    of tokens, links that were taken away; with --overwrite the file's name, plan and the like are
    too. No Google or Apple account and no email moves from one user to another, nobody who was
    deleted comes back, and no line deletes anybody.

    Lines that can't be taken are told, with their numbers, and the others are taken; then the exit
    code is 1. Interrupted, or with those lines mended, the same command goes on where it was.
    """
    _import("users", Options(config, routes, output), file, overwrite=overwrite)


def _import(kind: Kind, options: Options, file: Path, *, overwrite: bool) -> None:
    with failures(options.output):
        settings = read_settings(options)
        with opened(file) as lines:
            try:
                result = asyncio.run(_take(kind, settings, lines, overwrite=overwrite), debug=False)
            except KeyboardInterrupt:
                raise Failure("interrupted; the same command goes on where it was") from None
        source = "standard input" if file == STANDARD else file
        complaints = [f"{source}:{number}: {why}" for number, why in result.pop("complaints")]
        show(result, options.output)
        if refused := result["refused"]:
            more = refused - len(complaints)
            complaints += [f"and {more} lines more"] if more else []
            raise Failure(f"{refused} lines were not taken", complaints=complaints)


def _export(kind: Kind, options: Options) -> None:
    with failures(options.output):
        asyncio.run(_give(kind, read_settings(options)), debug=False)


async def _give(kind: Kind, settings: "Settings") -> None:
    async with _transfer(kind, settings) as transfer:
        async for line in transfer.export():
            print(line)
        if transfer.unread:
            raise Failure(f"{transfer.unread} records could not be read, and are left out")


async def _take(
    kind: Kind, settings: "Settings", lines: "Lines", *, overwrite: bool
) -> dict[str, Any]:
    began = told = time.monotonic()
    result: dict[str, Any] = {"complaints": []}
    on_terminal = sys.stderr.isatty()
    async with _transfer(kind, settings, overwrite=overwrite) as transfer:
        async for tally in transfer.take(lines):
            result = asdict(tally)
            now = time.monotonic()
            if on_terminal and now - told > PROGRESS_SECONDS:
                told = now
                rate = tally.lines / (now - began)
                print(
                    f"\r{lines.share}{tally.lines:,} lines, {rate:,.0f} a second ",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
    if on_terminal:
        print(file=sys.stderr)
    return {**result, "seconds": round(time.monotonic() - began, 1)}


@asynccontextmanager
async def _transfer(
    kind: Kind, settings: "Settings", *, overwrite: bool = False
) -> "AsyncIterator[Transfer[Any]]":
    from gateway.admin.operations import open_context  # noqa: PLC0415  # brings redis
    from gateway.identity.transfer import UserTransfer  # noqa: PLC0415
    from gateway.store.transfer import KeyTransfer  # noqa: PLC0415

    if settings.store.url.startswith("memory://"):
        raise Failure(f"memory:// ends with its gateway: set store.url to a Redis to move {kind}")
    with store_failures(settings, "transfer"):
        async with open_context(settings, timeout_seconds=STORE_SECONDS) as context:
            if kind == "keys":
                plans = settings.plans
                yield KeyTransfer(context.store, context.users, plans, overwrite=overwrite)
            else:
                yield UserTransfer(context.store, settings.plans, overwrite=overwrite)


class Lines:
    """The lines of a file, as text; bytes that aren't UTF-8 make their line a bad one.

    Of a line that is too long only the beginning is kept, which is still too long.
    """

    def __init__(self, file: IO[bytes], size_bytes: int = 0) -> None:
        self._file = file
        self._read_bytes = 0
        self._size_bytes = size_bytes

    @property
    def share(self) -> str:
        """How much of it is read, in words that others follow; '' if its size isn't known."""
        return f"{self._read_bytes / self._size_bytes:.0%}: " if self._size_bytes else ""

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(LONGEST_LINE_BYTES):
            self._read_bytes += len(line)
            rest = line
            while len(rest) == LONGEST_LINE_BYTES and not rest.endswith(b"\n"):
                rest = self._file.readline(LONGEST_LINE_BYTES)
                self._read_bytes += len(rest)
            yield line.decode("utf-8", "surrogateescape").removeprefix("\ufeff")


@contextmanager
def opened(file: Path) -> Iterator[Lines]:
    if file == STANDARD:
        yield Lines(sys.stdin.buffer)
        return
    try:
        with file.open("rb") as opened:
            yield Lines(opened, file.stat().st_size)
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise Failure(f"{file} can't be read: {reason}") from None

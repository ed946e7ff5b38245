"""The access log: one line per request on standard output, without any secret.

Rules:
- Writing a line never waits: lines go to a bounded queue, and a thread of its own writes them
  ten times a second. When nobody reads what it writes, the queue fills up, further lines are
  dropped and counted, and a line says how many as soon as writing goes on.
- Workers share one standard output. Their lines don't mix: a write ends at a line's end, and on a
  pipe it has at most PIPE_BUF bytes, which POSIX makes atomic; files are appended to.
- Every text in a line is printable ASCII without quotes and backslashes (the rest is
  percent-encoded), so that any line is valid JSON, in any locale, in one piece.

Fields: `time` is the end of the request, UTC; `seconds` its whole duration, `upstream_seconds`
the upstream's part; `bytes` what was sent to the client; `reason` why it was refused. A socket's
line is written at its end and has two more: `received_bytes`, what its client sent, and `end`, why.
"""

import contextlib
import fcntl
import os
import re
import select
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache

from gateway.exchange import Exchange, Identity
from gateway.observe.counts import METHODS
from gateway.observe.metrics import Reading, Sourced
from gateway.observe.redaction import safe_path, safe_word
from gateway.sections import LoggingSettings

STANDARD_OUTPUT = 1
INTERVAL_SECONDS = 0.1
MAX_LINES = 16_384
FILE_WRITE_BYTES = 1 << 16
CLOSE_SECONDS = 2.0

NO_ROUTE = ("null", "null")
NOBODY = '"user_id": null, "key_id": null'
WELL = '"reason": null, "fault": null'

_KNOWN_METHODS = frozenset(METHODS)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}").fullmatch
_ADDRESS = re.compile(r"[0-9a-f.:]{2,64}").fullmatch


@lru_cache(maxsize=4096)
def _word(value: str | None) -> str:
    """A name from the route table, a reason, a key id: as JSON."""
    return "null" if value is None else f'"{safe_word(value)}"'


@lru_cache(maxsize=4096)
def _address(client_ip: str) -> str:
    return client_ip if _ADDRESS(client_ip) else safe_word(client_ip)


def _who(identity: Identity) -> str:
    user_id = "null" if identity.user_id is None else identity.user_id
    return f'"user_id": {user_id}, "key_id": {_word(identity.key_id)}'


def _why(exchange: Exchange) -> str:
    failure = exchange.failure
    fault = "null" if failure is None else _word(failure.fault)
    return f'"reason": {_word(exchange.refusal)}, "fault": {fault}'


class AccessLog:
    """One worker's access log."""

    def __init__(
        self,
        options: LoggingSettings,
        *,
        descriptor: int = STANDARD_OUTPUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` tells Unix seconds."""
        self._json = options.format == "json"
        self._enabled = options.access
        self._clock = clock
        self._second = self._millisecond = -1
        self._second_text = self._text = ""
        self._writer = LineWriter(descriptor, self._dropped_line)

    def start(self) -> None:
        """Begin to write; in the worker, since threads don't survive a fork."""
        if self._enabled:
            self._writer.start()

    def close(self, timeout_seconds: float = CLOSE_SECONDS) -> None:
        """Write what is left, unless nobody reads it within `timeout_seconds`."""
        self._writer.close(timeout_seconds)

    def readings(self) -> tuple[Reading]:
        """For `Metrics.add_source`."""
        return (Reading(Sourced.LOG_LINES_DROPPED, (), self._writer.dropped),)

    def write(self, exchange: Exchange, seconds: float) -> None:
        """Log a finished request that took `seconds`."""
        if not self._enabled:
            return
        request_id = exchange.request_id
        if not _REQUEST_ID(request_id) or "pk_" in request_id or "eyJ" in request_id:
            request_id = safe_word(request_id)
        method = exchange.method
        if method not in _KNOWN_METHODS:
            method = safe_word(method, 32)
        route, identity, failure = exchange.route, exchange.identity, exchange.failure
        name, pattern = NO_ROUTE if route is None else (_word(route.name), _word(route.pattern))
        upstream = exchange.upstream_seconds
        line = (
            f'{{"time": "{self._time()}", "request_id": "{request_id}", '
            f'"client_ip": "{_address(exchange.client_ip)}", "method": "{method}", '
            f'"route": {name}, "path": "{safe_path(exchange.path)}", '
            f'"status": {exchange.status}, "bytes": {exchange.sent_bytes}, '
            f'"seconds": {seconds:.6f}, '
            f'"upstream_seconds": {"null" if upstream is None else f"{upstream:.6f}"}, '
            f'"pattern": {pattern}, {NOBODY if identity is None else _who(identity)}, '
            f"{WELL if exchange.refusal is None and failure is None else _why(exchange)}"
        )
        if exchange.socket_end is not None:
            line += (
                f', "received_bytes": {exchange.body_received_bytes}, '
                f'"end": {_word(exchange.socket_end)}'
            )
        line += "}\n"
        self._writer.put((line if self._json else as_text(line)).encode("ascii"))

    def _time(self) -> str:
        now = int(self._clock() * 1000)
        if now != self._millisecond:
            self._millisecond = now
            second, rest = divmod(now, 1000)
            if second != self._second:
                self._second = second
                self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._text = f"{self._second_text}.{rest:03d}Z"
        return self._text

    def _dropped_line(self, count: int) -> bytes:
        """Runs in the writer's thread, so it leaves the clock's cache alone."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))
        line = f'{{"time": "{now}", "log_lines_dropped": {count}}}\n'
        return (line if self._json else as_text(line)).encode("ascii")


def as_text(line: str) -> str:
    """A JSON line of ours as `name=value` pairs; no text in it holds a quote or a space."""
    return line[2:-2].replace('": ', "=").replace(', "', " ") + "\n"


class LineWriter:
    """A thread that writes whole lines to a file descriptor, so that nobody else has to wait."""

    def __init__(
        self, descriptor: int, dropped_line: Callable[[int], bytes], max_lines: int = MAX_LINES
    ) -> None:
        self._descriptor = descriptor
        self._dropped_line = dropped_line
        self._max_lines = max_lines
        self._lines: deque[bytes] = deque()  # appending and taking are safe between threads
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._refused = 0  # lines that found the queue full; counted by those who call `put`
        self._lost = 0  # lines that could not be written; counted by the thread
        self._told = 0  # dropped lines that a line has told of
        self._max_bytes = select.PIPE_BUF

    @property
    def dropped(self) -> int:
        """Lines that were not written, since the beginning."""
        return self._refused + self._lost

    def start(self) -> None:
        mode = os.fstat(self._descriptor).st_mode
        if stat.S_ISREG(mode):
            flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags | os.O_APPEND)
            self._max_bytes = FILE_WRITE_BYTES
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue a line, which ends with a newline."""
        if len(self._lines) < self._max_lines and not self._closing.is_set():
            self._lines.append(line)
        else:
            self._refused += 1

    def close(self, timeout_seconds: float) -> None:
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while not self._closing.wait(INTERVAL_SECONDS):
            self._write_all()
        self._write_all()

    def _write_all(self) -> None:
        while self._lines or self.dropped > self._told:
            lines: list[bytes] = []
            size = 0
            dropped = self.dropped
            if dropped > self._told:
                lines.append(self._dropped_line(dropped - self._told))
                size = len(lines[0])
            while self._lines and (not lines or size + len(self._lines[0]) <= self._max_bytes):
                lines.append(self._lines.popleft())
                size += len(lines[-1])
            if not self._write(b"".join(lines)):
                self._lost += len(lines) - (dropped > self._told)
                return
            self._told = dropped

    def _write(self, piece: bytes) -> bool:
        """Has it been written? It waits as long as the reader lets it."""
        view = memoryview(piece)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:  # somebody else made the descriptor non-blocking
                with contextlib.suppress(OSError):
                    select.select((), (self._descriptor,), (), 1.0)
            except OSError:
                return False
        return True

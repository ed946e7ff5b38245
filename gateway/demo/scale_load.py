"""What plays the world around the two gateways: a load balancer before them, a backend behind.

The balancer does what any of its kind does: it takes gateways in turn, names the client in
`X-Forwarded-For`, and sends a GET again, to the other gateway, when a connection broke before its
answer was whole (nginx: `proxy_next_upstream`, HAProxy: `retry-on`). A gateway that could not be
reached is left alone for a moment.

The ledger keeps both sides' books: what each request's client was told, and how often the backend
saw that request. Requests are known by a number, which is their `X-Request-ID`.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from gateway.demo.ports import HOST

NOTHING, ADMITTED, REFUSED, OTHER = range(4)  # what a client was told
AVOID_SECONDS = 0.3  # a gateway that could not be reached
AGAIN_SECONDS = 0.01
GIVE_UP_SECONDS = 10.0
MOST_TIMES = 255

BODY = b'{"ok":true}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)
REQUEST_ID = re.compile(rb"\r\nX-Request-ID: (\d+)\r\n").search
LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE).search
CLOSES = re.compile(rb"\r\nConnection: close\r\n", re.IGNORECASE).search


@dataclass(slots=True)
class Ledger:
    """`told`, `seen` and `sent` are of each request, by its number."""

    told: bytearray = field(default_factory=bytearray)
    seen: bytearray = field(default_factory=bytearray)
    sent: bytearray = field(default_factory=bytearray)

    def open(self) -> int:
        """A new request's number."""
        for column in (self.told, self.seen, self.sent):
            column.append(0)
        return len(self.told) - 1

    def arrived(self, number: int) -> None:
        self.seen[number] = min(self.seen[number] + 1, MOST_TIMES)

    def differences(self) -> dict[str, int]:
        """How many requests were dealt with otherwise than their clients were told."""
        found = {
            "admitted, and the backend never saw it": 0,
            "refused, and the backend saw it": 0,
            "sent once, and the backend saw it twice": 0,
        }
        admitted, refused, twice = found
        for told, seen, sent in zip(self.told, self.seen, self.sent, strict=True):
            found[admitted] += told == ADMITTED and seen == 0
            # What was sent twice may have been admitted by the gateway that died.
            found[refused] += told == REFUSED and seen > 0 and sent == 1
            found[twice] += sent == 1 and seen > 1
        return found


class Backend(asyncio.Protocol):
    """Answers every GET, and notes its number. The gateway sends one at a time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._bytes = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its type

    def data_received(self, data: bytes) -> None:
        self._bytes += data
        if self._bytes.endswith(b"\r\n\r\n"):
            if (found := REQUEST_ID(self._bytes)) is not None:
                self._ledger.arrived(int(found[1]))
            self._bytes = b""
            self._transport.write(ANSWER)


class Connection(asyncio.Protocol):
    """From the balancer to a gateway, for one request at a time."""

    def __init__(self) -> None:
        self.usable = True
        self._bytes = b""
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its type

    def ask(self, head: bytes) -> asyncio.Future[int]:
        """The status of the answer, or ConnectionError when there is none."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(head)
        return self._answer

    def close(self) -> None:
        self.usable = False
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._bytes += data
        end = self._bytes.find(b"\r\n\r\n")
        if end < 0 or self._answer is None or self._answer.done():
            return
        head = self._bytes[: end + 2]
        length = LENGTH(head)
        if len(self._bytes) < end + 4 + (int(length[1]) if length is not None else 0):
            return
        self._bytes = b""
        if CLOSES(head) is not None:
            self.close()
        self._answer.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError())


@dataclass(slots=True)
class Gateway:
    """One, as the balancer sees it."""

    port: int
    idle: deque[Connection] = field(default_factory=deque)
    avoid_until: float = 0.0


class Balancer:
    """Sends requests to the gateways at these ports, and writes down what came of them."""

    def __init__(self, ports: tuple[int, ...], ledger: Ledger) -> None:
        self._gateways = [Gateway(port) for port in ports]
        self._ledger = ledger
        self._turn = 0

    async def ask(self, client: str) -> tuple[int, int]:
        """One request of `client`: its status (0: none came), and how often it was sent again."""
        number = self._ledger.open()
        head = (
            f"GET /klines HTTP/1.1\r\nHost: demo\r\nX-Forwarded-For: {client}\r\n"
            f"X-Request-ID: {number}\r\n\r\n"
        ).encode()
        deadline = time.monotonic() + GIVE_UP_SECONDS
        status = 0
        while not status and time.monotonic() < deadline:
            gateway = self._next()
            try:
                connection = await self._connection(gateway)
            except OSError:
                gateway.avoid_until = time.monotonic() + AVOID_SECONDS
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            self._ledger.sent[number] += 1
            try:
                status = await connection.ask(head)
            except OSError:
                continue
            if connection.usable:
                gateway.idle.append(connection)
        told = {200: ADMITTED, 429: REFUSED, 0: NOTHING}
        self._ledger.told[number] = told.get(status, OTHER)
        return status, max(0, self._ledger.sent[number] - 1)

    def close(self) -> None:
        for gateway in self._gateways:
            for connection in gateway.idle:
                connection.close()

    def _next(self) -> Gateway:
        now = time.monotonic()
        for _ in self._gateways:
            self._turn = (self._turn + 1) % len(self._gateways)
            if self._gateways[self._turn].avoid_until <= now:
                break
        return self._gateways[self._turn]

    async def _connection(self, gateway: Gateway) -> Connection:
        while gateway.idle:
            connection = gateway.idle.popleft()
            if connection.usable:
                return connection
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, HOST, gateway.port)
        return connection


def addresses(network: int, number: int) -> Iterator[str]:
    """`number` clients of 10.0.0.0/8, over and over; another `network` has none of them."""
    while True:
        for at in range(network << 17, (network << 17) + number):
            yield f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}"

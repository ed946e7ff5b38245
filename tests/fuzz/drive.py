"""The real client connection and pipeline on a mock transport: bytes in, what is carried out.

Nothing listens, nothing is sent. A route for every path takes what the pipeline admits, and has
its head written by the `Forwarder` that would send it.
"""

import asyncio
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

from gateway.auth.public import Public
from gateway.exchange import Answer, Exchange
from gateway.limits import ClientAddresses
from gateway.listener import Listener
from gateway.observe.access_log import AccessLog
from gateway.observe.metrics import Metrics
from gateway.pipeline import Gateway, Route
from gateway.proxy.forward import Forwarder, _framing
from gateway.proxy.headers import request_drops
from gateway.routing import Match, RouteTable
from gateway.sections import ClientIpSettings, LoggingSettings
from gateway.settings import Settings

MAX_BODY_BYTES = 1 << 20
TURNS = 12  # of the event loop, for a request to be taken and answered
BACKEND: Any = SimpleNamespace(authority="backend:1")


@dataclass(frozen=True, slots=True)
class Carried:
    """A request as a backend would get it, its body unframed."""

    head: bytes
    body: bytes


def cut(data: bytes) -> tuple[bytes, bytes]:
    """The first byte says where the rest is cut into two reads."""
    at, rest = data[0] * len(data) // 255, data[1:]
    return rest[:at], rest[at:]


class MockTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.written: list[bytes] = []
        self.closing = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = write_eof = close  # whichever way: nothing follows

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def is_reading(self) -> bool:
        return True


class Driver:
    """One listener for any number of connections; needs the running loop."""

    def __init__(self) -> None:
        addresses = ClientAddresses(ClientIpSettings())
        drops = request_drops(pass_credentials=False, takes_authorization=False, sets=())
        pool: Any = None
        store: Any = None  # no route asks it
        self._forwarder = Forwarder(pool, addresses=addresses, drops=drops)
        self._carried: list[Carried] = []
        metrics = _metrics()
        route = Route(
            "all", "public", Public(), self._respond, metrics.for_route("all", "public", None), ""
        )
        every = [(Match(path, None, loose_path=True), route) for path in ("/", "/{rest...}")]
        gateway = Gateway(
            table=RouteTable(every),
            routes={route.name: route},
            addresses=addresses,
            limits=(),
            store=store,
            when_store_is_down="local",
            exempt=frozenset(),
            metrics=metrics,
            access_log=AccessLog(LoggingSettings(access=False)),
        )
        self._listener = Listener(gateway, Settings(), addresses)

    async def _respond(self, exchange: Exchange) -> Answer:
        # The head is written as for a body that is passed on as it comes.
        framing = _framing(exchange)
        await exchange.read_body(MAX_BODY_BYTES)
        head = self._forwarder.head(exchange, BACKEND, framing=framing)
        self._carried.append(Carried(head, exchange.body or b""))
        return Answer(200, content_type=None)

    async def feed(self, *pieces: bytes) -> tuple[list[Carried], bytes]:
        """What would be carried of the bytes of one connection, and what its client gets."""
        self._carried = []
        connection, transport = self._listener(), MockTransport()
        connection.connection_made(transport)
        await _turns()
        for piece in pieces:
            if transport.closing:
                break
            asyncio.get_running_loop().call_soon(connection.data_received, piece)
            await _turns()
        while not transport.closing and (before := len(transport.written)):
            await _turns()
            if len(transport.written) == before:
                break
        connection.connection_lost(None)
        await _turns()
        return self._carried, b"".join(transport.written)


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


@cache
def _metrics() -> Metrics:
    return Metrics()

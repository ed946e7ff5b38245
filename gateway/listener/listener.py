"""Takes connections for a `Gateway`, and ends what passed its deadline."""

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from gateway.errors import BadRequest, HeadersTooLarge, RequestLineTooLong
from gateway.limits import ClientAddresses
from gateway.limits.address import parse
from gateway.listener.census import Census
from gateway.listener.connection import LINGER_SECONDS, NEVER, ClientConnection
from gateway.listener.entrance import Entrance
from gateway.pipeline import Gateway
from gateway.sections import BoundsSettings
from gateway.settings import Settings
from gateway.tls import ServerTls

ENDED_AT_ONCE = 16  # in one turn of the event loop
READ_BYTES = 1 << 16  # of a body that is not taken: reading stops at twice as much


class Listener(web.Server):
    """Accepts connections for a `Gateway`; call it for a connection's protocol object."""

    def __init__(
        self,
        gateway: Gateway,
        settings: Settings,
        addresses: ClientAddresses,
        tls: ServerTls | None = None,
    ) -> None:
        super().__init__(None)  # type: ignore[arg-type]  # connections call the gateway themselves
        self.census = Census(settings.bounds, addresses, self._count_refused)
        proxies = settings.listen.proxy_protocol
        self._announced = () if proxies is None else proxies.trusted
        self._plain = tls is None and proxies is None
        self.entering: set[Entrance] = set()
        self._retires = False
        self.use(gateway, settings.bounds, addresses, tls)

    def use(
        self,
        gateway: Gateway,
        bounds: BoundsSettings,
        addresses: ClientAddresses,
        tls: ServerTls | None,
    ) -> None:
        """Have `gateway` decide requests from now on; the rest holds for new connections."""
        self.gateway = gateway
        self.bounds = bounds
        self.tls = tls
        self.census.use(bounds, addresses)
        # aiohttp tells the two kinds of too long lines apart by nothing but the limit it names.
        field_bytes = bounds.headers + (bounds.headers == bounds.request_line)
        self._options: dict[str, Any] = {
            "loop": self._loop,
            "keepalive_timeout": bounds.keep_alive,
            "access_log": None,
            "max_line_size": bounds.request_line,
            "max_field_size": field_bytes,
            "max_headers": bounds.header_fields,
            "read_bufsize": READ_BYTES,
            "lingering_time": LINGER_SECONDS,  # for the rest of a body before the next request
            "auto_decompress": False,
        }

    def __call__(self) -> Any:
        return self.connection() if self._plain else Entrance(self)

    def connection(self, peer: str = "") -> ClientConnection:
        connection = ClientConnection(self, peer, **self._options)
        connection.draining = self._retires  # it was on its way in already
        return connection

    def is_announced(self, peer: str) -> bool:
        """Must a connection of `peer` begin with a PROXY header?"""
        address = parse(peer)
        return address is not None and any(address in network for network in self._announced)

    def _count_refused(self, reason: str) -> None:
        self.gateway.count_refused_connection(reason)

    def complaint(self, error: BaseException | None) -> BadRequest:
        """The parser's error in our words (RFC 9110 §15.5.15, RFC 6585 §5)."""
        if isinstance(error, BadRequest):  # ours
            return error
        if isinstance(error, LineTooLong):
            if error.args[1] == self.bounds.request_line:
                return RequestLineTooLong()
            return HeadersTooLarge()
        if "Too many headers" in str(error):
            return HeadersTooLarge()
        return BadRequest("Bad Request", reason="malformed_request")

    async def sweep(self, now: float) -> None:
        """End what passed its deadline. `now` is loop time.

        Those who came together are late together: a thousand at once would hold up the others.
        """
        ended = 0
        for entrance in list(self.entering):
            entrance.check(now)
        for connection in self.connections:
            assert isinstance(connection, ClientConnection)
            if connection.deadline == NEVER:
                continue
            ended += connection.deadline <= now
            connection.check(now)
            if ended == ENDED_AT_ONCE:
                ended = 0
                await asyncio.sleep(0)

    def drain(self) -> None:
        """No further requests on any connection; those under way may finish."""
        self._retires = True
        for entrance in list(self.entering):
            entrance.leave()
        for connection in self.connections:
            if isinstance(connection, ClientConnection):
                connection.drain()

    def retire(self) -> None:
        """Say with the next answer on each connection that it is the last."""
        self._retires = True
        for connection in self.connections:
            if isinstance(connection, ClientConnection):
                connection.draining = True

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # aiohttp's
        for entrance in list(self.entering):
            entrance.leave()
        await super().shutdown(timeout)

"""Where an upstream runs: its targets, and the addresses that they lead to.

A *target* is an entry of the upstream's list. An *address* is one place it leads to: an IP address
of its name, or a unix socket. Connections, load and health belong to the address, so that one dead
machine behind a name doesn't condemn the others.
"""

import asyncio
import ssl
from collections.abc import Callable
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

from gateway.proxy.connection import UpstreamConnection
from gateway.upstreamspec import UpstreamTls, WeightedTarget

P = TypeVar("P", bound=asyncio.BaseProtocol)


class Target:
    """One entry of an upstream's targets, for its lifetime.

    `authority` is what its Host header says; a unix socket has no name of its own and is
    `localhost`. Raises UnusableFile for TLS files that can't be used.
    """

    __slots__ = ("authority", "host", "path", "port", "server_name", "tls", "url", "weight")

    def __init__(self, spec: WeightedTarget, tls: UpstreamTls) -> None:
        parts = urlsplit(spec.url)
        self.url = spec.url
        self.weight = spec.weight
        self.tls: ssl.SSLContext | None = tls.context() if parts.scheme == "https" else None
        self.path = parts.path if parts.scheme == "unix" else None
        self.host = parts.hostname or "localhost"
        self.port = parts.port or (443 if self.tls else 80)
        self.authority = parts.netloc or "localhost"
        self.server_name = (tls.server_name or self.host) if self.tls else None

    @property
    def place(self) -> str | None:
        """Its only address, where no name has to be looked up to know it."""
        if self.path is not None:
            return self.path
        try:
            return str(ip_address(self.host))
        except ValueError:
            return None


class Address:
    """One place of a target, with the connections to it and what is known of its health."""

    __slots__ = (
        "active",
        "back_off",
        "ejected_until",
        "failures",
        "gone",
        "healthy",
        "idle",
        "outstanding",
        "place",
        "returned_at",
        "target",
        "weight",
    )

    def __init__(self, target: Target, place: str) -> None:
        self.target = target
        self.place = place
        self.idle: dict[UpstreamConnection, None] = {}  # in the order they began to wait
        self.active: set[UpstreamConnection] = set()
        self.outstanding = 0  # requests: those that are connecting too
        self.gone = False  # the name leads here no more: only what is under way ends
        self.healthy = True  # as its health checks say
        self.failures = 0  # of requests, in a row
        self.ejected_until: float | None = None  # loop time
        self.back_off = 0.0  # seconds, of its last ejection
        self.returned_at: float | None = None  # loop time; None: it was never away
        self.weight = target.weight  # less while it starts slowly

    @property
    def name(self) -> str:
        """For the log."""
        url = self.target.url
        return url if self.place in (self.target.path, self.target.host) else f"{url} {self.place}"

    @property
    def state(self) -> str:
        """`up`, `down` (its health checks say so) or `ejected` (its requests failed)."""
        if not self.healthy:
            return "down"
        return "up" if self.ejected_until is None else "ejected"

    async def connect(self, loop: asyncio.AbstractEventLoop, make: Callable[[], P]) -> P:
        """A new connection, its TLS handshake done. Raises OSError; doesn't end by itself."""
        target = self.target
        if target.path is not None:
            _, protocol = await loop.create_unix_connection(make, target.path)
        else:
            _, protocol = await loop.create_connection(
                make,
                self.place,
                target.port,
                ssl=target.tls,
                server_hostname=target.server_name,
            )
        return protocol

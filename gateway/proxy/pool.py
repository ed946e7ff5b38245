"""The targets of one upstream, and the connections to them.

Rules: the connection used last is used next (it is the likeliest to be alive, and the others can
be let go); among healthy targets the one with the least under way is chosen; a target that its
health check finds down gets nothing until a check finds it up. All of it is per worker.

Terms: *active* connections carry a request, *idle* ones wait for the next.
"""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Sequence
from urllib.parse import urlsplit

from gateway.errors import UpstreamFailed, UpstreamTimeout, UpstreamUnavailable
from gateway.proxy.connection import UpstreamConnection

logger = logging.getLogger("gateway.proxy")

IDLE_SECONDS = 60.0
MAX_CONNECTIONS = 16_384
FAILURES_TO_DOWN = 2


class Target:
    """One address of an upstream."""

    __slots__ = ("active", "authority", "failures", "healthy", "host", "idle", "port", "tls")

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.hostname is None:
            raise ValueError(f"a target needs a host: {url}")
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.host = parts.hostname
        self.port = parts.port or (443 if self.tls else 80)
        self.authority = parts.netloc
        self.healthy = True
        self.failures = 0
        self.idle: deque[UpstreamConnection] = deque()
        self.active: set[UpstreamConnection] = set()


class Pool:
    """Connections to one upstream."""

    def __init__(
        self,
        name: str,
        targets: Sequence[str],
        *,
        connect_timeout: float = 2.0,
        health_path: str | None = None,
        health_interval: float = 5.0,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.name = name
        self.targets = tuple(Target(url) for url in targets)
        self._connect_timeout = connect_timeout  # seconds, of health checks; a route has its own
        self._health_path = health_path
        self._health_interval = health_interval  # seconds
        self._max_connections = max_connections
        self._connecting = 0
        self._owner: dict[UpstreamConnection, Target] = {}
        self._checks: list[asyncio.Task[None]] = []
        self._loop = asyncio.get_running_loop()

    @property
    def idle_connections(self) -> int:
        return sum(len(target.idle) for target in self.targets)

    @property
    def active_connections(self) -> int:
        return sum(len(target.active) for target in self.targets)

    def start(self) -> None:
        """Begin the health checks; needs the running loop."""
        if self._health_path is not None:
            self._checks = [self._loop.create_task(self._watch(t)) for t in self.targets]

    async def close(self) -> None:
        for check in self._checks:
            check.cancel()
        await asyncio.gather(*self._checks, return_exceptions=True)
        for connection in list(self._owner):
            connection.close()

    def choose(self) -> Target:
        """The healthy target with the least under way. Raises UpstreamUnavailable: none."""
        healthy = [target for target in self.targets if target.healthy]
        if not healthy:
            raise UpstreamUnavailable
        if len(healthy) == 1:
            return healthy[0]
        return min(healthy, key=lambda target: len(target.active))

    async def acquire(
        self, *, connect_timeout: float, fresh: bool = False
    ) -> tuple[UpstreamConnection, Target, bool]:
        """A connection, its target, and whether it was in use before.

        Does not suspend when an idle connection is there. `fresh` asks for a new one. Raises
        UpstreamUnavailable (no healthy target, or too many connections), UpstreamFailed
        (refused), UpstreamTimeout (`connect_timeout` seconds passed).
        """
        target = self.choose()
        while target.idle and not fresh:
            connection = target.idle.pop()
            if connection.is_usable:
                target.active.add(connection)
                return connection, target, True
        if len(self._owner) + self._connecting >= self._max_connections:
            raise UpstreamUnavailable
        connection = await self._connect(target, connect_timeout)
        target.active.add(connection)
        return connection, target, False

    async def _connect(self, target: Target, timeout: float) -> UpstreamConnection:  # noqa: ASYNC109  # mapped to our own error here
        self._connecting += 1
        try:
            async with asyncio.timeout(timeout):
                _, connection = await self._loop.create_connection(
                    lambda: UpstreamConnection(self._loop),
                    target.host,
                    target.port,
                    ssl=target.tls,
                )
        except TimeoutError:
            raise UpstreamTimeout from None
        except OSError:
            raise UpstreamFailed(reason="upstream_refused") from None
        finally:
            self._connecting -= 1
        self._owner[connection] = target
        connection.on_lost = self._lost
        return connection

    def release(self, connection: UpstreamConnection) -> None:
        """Take a connection back when its exchange is over, however it ended."""
        target = self._owner.get(connection)
        reusable = connection.detach()
        if target is None:
            return
        target.active.discard(connection)
        if reusable:
            connection.idle_since = self._loop.time()
            target.idle.append(connection)
        else:
            connection.close()

    def _lost(self, connection: UpstreamConnection) -> None:
        target = self._owner.pop(connection, None)
        if target is not None:
            target.active.discard(connection)
            if connection in target.idle:
                target.idle.remove(connection)

    def sweep(self, now: float) -> None:
        """End what passed its deadline, and what waited too long. `now` is loop time."""
        for target in self.targets:
            late = [connection for connection in target.active if connection.deadline < now]
            for connection in late:
                connection.expire()
            while target.idle and target.idle[0].idle_since + IDLE_SECONDS < now:
                target.idle.popleft().close()

    async def _watch(self, target: Target) -> None:
        while True:
            up = await self._check(target)
            target.failures = 0 if up else target.failures + 1
            healthy = target.failures < FAILURES_TO_DOWN
            if healthy != target.healthy:
                target.healthy = healthy
                state = "up" if healthy else "down"
                logger.warning("upstream %s: target %s is %s", self.name, target.authority, state)
            await asyncio.sleep(self._health_interval)

    async def _check(self, target: Target) -> bool:
        """Does the target answer its health path with 2xx or 3xx in time?"""
        request = (
            f"GET {self._health_path} HTTP/1.1\r\nHost: {target.authority}\r\n"
            "User-Agent: primit-gateway-health\r\nConnection: close\r\n\r\n"
        )
        writer = None
        try:
            async with asyncio.timeout(max(self._connect_timeout, self._health_interval)):
                reader, writer = await asyncio.open_connection(
                    target.host, target.port, ssl=target.tls
                )
                writer.write(request.encode())
                status_line = (await reader.readline()).split()
                return len(status_line) > 1 and status_line[1][:1] in b"23"
        except (OSError, ValueError, TimeoutError):
            return False
        finally:
            if writer is not None:
                writer.close()

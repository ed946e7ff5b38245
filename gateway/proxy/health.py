"""Is an address well? Asked now and then (active checks), and learnt from requests (ejection).

Active: a GET of the health path over the target's own transport. An address begins as well, since
a gateway that has just started knows nothing bad; several checks in a row change its state, so
that one hiccup doesn't.

Passive: requests that fail in a row eject an address for a back-off that doubles each time. Rules:
- Failures are what the upstream did: refused, reset, timed out, or answered what is not HTTP. An
  answer is none, whatever its status, unless the upstream's `statuses` say so; nor is anything
  that the client did.
- Ejection never takes more than its share of the addresses, counted with the one to be ejected and
  with those that are down already: an upstream with one address is never ejected into an outage.
  Active checks know no such bound: what they find down is down.
- An address that returns is on probation: the next failure ejects it again, a success frees it.
"""

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Collection

from gateway.proxy.target import Address
from gateway.upstreamspec import Ejection, Health

logger = logging.getLogger("gateway.proxy")

LONGEST_STATUS_LINE = 1024  # bytes


class Checks:
    """The active checks of one upstream; `on_change` is called when an address goes up or down."""

    def __init__(
        self, upstream: str, health: Health | None, on_change: Callable[[Address], None]
    ) -> None:
        self._upstream = upstream
        self._health = health
        self.on_change = on_change
        self._tasks: dict[Address, asyncio.Task[None]] = {}

    def watch(self, address: Address) -> None:
        """Begin to check `address`. Needs the running loop."""
        if self._health is not None:
            loop = asyncio.get_running_loop()
            self._tasks[address] = loop.create_task(self._watch(address, self._health))

    def forget(self, address: Address) -> None:
        task = self._tasks.pop(address, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for address in list(self._tasks):
            self.forget(address)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, address: Address, health: Health) -> None:
        # Not all workers, upstreams and addresses at the same moment, then and ever after.
        await asyncio.sleep(health.interval * random.random())  # noqa: S311  # no secret
        streak = 0  # checks in a row that contradict what is held of the address
        while True:
            problem = await check(address, health)
            streak = streak + 1 if address.healthy == (problem is not None) else 0
            needed = health.unhealthy_after if address.healthy else health.healthy_after
            if streak >= needed:
                streak = 0
                address.healthy = problem is None
                state = "up" if problem is None else f"down: {problem}"
                logger.warning("upstream %s: %s is %s", self._upstream, address.name, state)
                self.on_change(address)
            await asyncio.sleep(health.interval)


async def check(address: Address, health: Health) -> str | None:
    """Does the address answer its health path with 2xx or 3xx in time? None, or what is wrong."""
    request = (
        f"GET {health.path} HTTP/1.1\r\nHost: {address.target.authority}\r\n"
        "User-Agent: primit-gateway-health\r\nConnection: close\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    writer = None
    try:
        async with asyncio.timeout(health.timeout):
            reader = asyncio.StreamReader(limit=LONGEST_STATUS_LINE, loop=loop)
            protocol = await address.connect(loop, lambda: _Probe(reader, loop=loop))
            writer = protocol.transport
            assert writer is not None
            writer.write(request.encode())
            words = (await reader.readline()).split()
    except TimeoutError:
        return "no answer in time"
    except ssl.SSLCertVerificationError:
        return "its certificate is not good"
    except ssl.SSLError:
        return "no TLS"
    except OSError:
        return "no connection"
    except ValueError:
        return "no HTTP"
    finally:
        if writer is not None:
            writer.abort()
    if len(words) < 2 or not words[0].startswith(b"HTTP/1."):
        return "no HTTP"
    return None if words[1][:1] in (b"2", b"3") and len(words[1]) == 3 else "a bad status"


class _Probe(asyncio.StreamReaderProtocol):
    """A stream that keeps its transport: nothing is written that one has to wait for."""

    transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # sockets give a Transport
        super().connection_made(transport)


class Ejector:
    """The passive side: what requests say of the addresses of one upstream."""

    def __init__(self, upstream: str, ejection: Ejection, addresses: Collection[Address]) -> None:
        self._upstream = upstream
        self._ejection = ejection
        self._addresses = addresses  # the pool's own, as they change
        self.statuses: frozenset[int] = frozenset(ejection.statuses)

    def failed(self, address: Address, now: float) -> bool:
        """A request failed there. True when that ejects the address."""
        address.failures += 1
        ejection = self._ejection
        if (
            address.failures < ejection.failures
            or address.ejected_until is not None
            or address.gone
            or not address.healthy
        ):
            return False
        out = sum(other.state != "up" for other in self._addresses)
        if out + 1 > ejection.share * len(self._addresses):
            return False
        returned = address.returned_at
        again = address.back_off and returned is not None and now < returned + ejection.longest
        address.back_off = min(
            ejection.longest, 2 * address.back_off if again else ejection.seconds
        )
        address.ejected_until = now + address.back_off
        logger.warning(
            "upstream %s: %s is ejected for %.0f s: %d requests in a row failed",
            self._upstream,
            address.name,
            address.back_off,
            address.failures,
        )
        return True

    def returned(self, address: Address, now: float) -> bool:
        """Is its back-off over at loop time `now`? Then it is on probation from here on."""
        if address.ejected_until is None or now < address.ejected_until:
            return False
        address.ejected_until = None
        address.failures = self._ejection.failures - 1
        address.returned_at = now
        logger.warning("upstream %s: %s is back", self._upstream, address.name)
        return True

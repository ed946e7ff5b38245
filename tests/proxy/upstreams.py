"""Pools as tests need them: a spec from a few fields, a clock-free wait, and answers by hand."""

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.proxy.connection import UpstreamConnection
from gateway.proxy.pool import Pool
from gateway.upstreamspec import UpstreamFields, UpstreamSpec

WAIT = 10.0  # seconds; generous: nothing is measured


def spec(*targets: Any, **fields: Any) -> UpstreamSpec:
    given = UpstreamFields(targets=targets, **fields)
    return UpstreamSpec.model_construct(name="backend", **dict(given))


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT):
        while not true():
            await asyncio.sleep(0.005)


class Silent:
    """Takes an answer and says nothing; `ended` or `failed` show in `end`."""

    def __init__(self) -> None:
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def head(self, upstream: UpstreamConnection) -> None:
        pass

    informational = head

    def data(self, chunk: bytes) -> None:
        pass

    def flush(self) -> None:
        pass

    def switched(self, first: bytes) -> None:
        pass

    def ended(self) -> None:
        self.end.set_result(None)

    def failed(self, error: Exception) -> None:
        self.end.set_exception(error)


async def exchange(pool: Pool, connection: UpstreamConnection) -> None:
    """One request and its answer on an acquired connection, which is released."""
    receiver = Silent()
    connection.start(receiver, head_only=False, read_timeout=WAIT)
    connection.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    await receiver.end
    pool.release(connection)

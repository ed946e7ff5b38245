"""Clients that remember when they asked, when they were answered, and what.

A request is counted somewhere between its `sent` and its `answered`. So what these two allow for
certain can be asserted on a machine of any speed: `surely_within` never counts too many requests,
`perhaps_within` never too few.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

# Redis's clock is read in whole milliseconds, and may be slewed a little against ours.
CLOCK_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, in monotonic seconds of the client."""

    sent: float
    answered: float
    status: int
    text: str


Ask = Callable[[str], Awaitable[Asked]]


@asynccontextmanager
async def client(address: str, connections: int):
    """Asks for URLs from `address` (one of 127.0.0.0/8), on so many connections at most."""
    connector = aiohttp.TCPConnector(limit=connections, local_addr=(address, 0))
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def ask(url: str) -> Asked:
            sent = time.monotonic()
            async with session.get(url) as answer:
                text = await answer.text()
                return Asked(sent, time.monotonic(), answer.status, text)

        yield ask


async def hammer(ask: Ask, urls: Sequence[str], *, requests: int, connections: int) -> list[Asked]:
    """So many requests as fast as they are answered, in turn to all of `urls`."""
    left = iter(range(requests))

    async def connection() -> list[Asked]:
        return [await ask(urls[number % len(urls)]) for number in left]

    asked = await asyncio.gather(*(connection() for _ in range(connections)))
    return [each for some in asked for each in some]


def admitted(asked: Iterable[Asked]) -> list[Asked]:
    return [each for each in asked if each.status == 200]


def refused(asked: Iterable[Asked]) -> list[Asked]:
    return [each for each in asked if each.status == 429]


def surely_within(asked: Iterable[Asked], start: float, end: float) -> int:
    return sum(start <= each.sent and each.answered <= end for each in asked)


def perhaps_within(asked: Iterable[Asked], start: float, end: float) -> int:
    return sum(start <= each.answered and each.sent <= end for each in asked)

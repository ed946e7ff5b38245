"""The limit over two gateways of two workers each, as processes, on one Redis: exact.

Counts are asserted, never how long something took: what a client saw of its own requests bounds
when each was counted (asking.py). Each test has addresses of its own, of 127.0.0.0/8.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from asking import (
    CLOCK_SECONDS,
    Asked,
    admitted,
    client,
    hammer,
    perhaps_within,
    refused,
    surely_within,
)
from backend import RawBackend, backend_in_thread
from gateway_process import MODULE, GatewayProcess
from harness import route, upstream

OFF_SECONDS = 5.0
CLOCK_OFF = str(Path(__file__).with_name("clock_off.py"))
CONNECTIONS = 48  # so that each worker has some

Start = Callable[..., list[str]]


@pytest.fixture
def backend() -> Iterator[RawBackend]:
    with backend_in_thread() as running:
        yield running


@pytest.fixture
def gateways(backend: RawBackend, redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Starts two gateways, the second with clocks that far off; their addresses."""
    started: list[GatewayProcess] = []

    def start(
        limit: dict[str, Any], own: dict[str, Any] | None = None, off: float = 0
    ) -> list[str]:
        config = {
            "listen": {"host": "127.0.0.1", "workers": 2},
            "store": {"url": redis_url, "timeout": 2},  # a busy machine is no outage
            "rate_limit": limit,
        }
        more = {} if own is None else {"rate_limit": own}
        routes = {"version": 1, "upstreams": upstream(backend.url), "routes": [route(**more)]}
        for number, program in enumerate((MODULE, (CLOCK_OFF, str(off)) if off else MODULE)):
            folder = tmp_path / f"gateway-{number}"
            gateway = GatewayProcess(folder, config=config, routes=routes, program=program)
            started.append(gateway)
            gateway.launch()
        for gateway in started:
            gateway.await_ready(workers=2)
        return [f"{gateway.url}/klines" for gateway in started]

    yield start
    for gateway in started:
        gateway.__exit__()


def seen_of(backend: RawBackend, address: str) -> int:
    """How many requests of a client reached the backend."""
    return sum(each.one(b"X-Forwarded-For") == address.encode() for each in backend.requests)


async def test_the_second_gateway_s_clock_is_off_indeed(gateways: Start) -> None:
    on_time, off = gateways({"enabled": False}, off=OFF_SECONDS)
    async with aiohttp.ClientSession() as session:
        for url, ahead in ((on_time, 0), (off, OFF_SECONDS)):
            sent = time.time()
            async with session.get(url.replace("klines", "health")) as answer:
                answered = time.time()
                says = parsedate_to_datetime(answer.headers["Date"]).timestamp()
            assert sent + ahead - 1 < says <= answered + ahead  # whole seconds


@pytest.mark.parametrize("off", [0, OFF_SECONDS, -OFF_SECONDS])
async def test_four_workers_hammered_from_one_address_admit_exactly_1000_and_refuse_nobody_else(
    gateways: Start, backend: RawBackend, off: float
) -> None:
    urls = gateways({"requests": 1000, "window": 60, "block": 3600}, off=off)
    async with client("127.0.0.2", CONNECTIONS) as loud, client("127.0.0.3", 8) as quiet:
        shouted, whispered = await asyncio.gather(
            hammer(loud, urls, requests=3000, connections=CONNECTIONS),
            hammer(quiet, urls, requests=400, connections=8),
        )
    assert Counter(each.status for each in shouted) == {200: 1000, 429: 2000}
    assert seen_of(backend, "127.0.0.2") == 1000
    assert Counter(each.status for each in whispered) == {200: 400}
    assert seen_of(backend, "127.0.0.3") == 400


async def test_no_window_wherever_it_begins_has_more_than_the_limit_and_no_refusal_is_wrong(
    gateways: Start,
) -> None:
    limit, window = 100, 1.0
    urls = gateways({"enabled": False}, {"requests": limit, "window": 1}, off=OFF_SECONDS)
    asked: list[Asked] = []
    async with client("127.0.0.4", CONNECTIONS) as ask:
        while not asked or asked[-1].answered < asked[0].sent + 3 * window:
            asked += await hammer(ask, urls, requests=200, connections=CONNECTIONS)
    passed = admitted(asked)
    assert len(passed) > 2 * limit, "the window slid"
    for each in passed:
        end = each.sent + window - CLOCK_SECONDS
        assert surely_within(passed, each.sent, end) <= limit
    for each in refused(asked):
        start = each.sent - window - CLOCK_SECONDS
        assert perhaps_within(passed, start, each.answered) >= limit
    assert len(passed) + len(refused(asked)) == len(asked)


async def test_a_client_at_a_steady_99_percent_of_the_limit_is_never_refused(
    gateways: Start,
) -> None:
    """It sends evenly, and never the 991st before the first of them is a window old."""
    limit, share, window, windows = 1000, 990, 2.0, 3
    urls = gateways({"requests": limit, "window": round(window), "block": 3600}, off=OFF_SECONDS)
    answered: list[asyncio.Future[Asked]] = []
    loop = asyncio.get_running_loop()
    async with client("127.0.0.5", CONNECTIONS) as ask:
        began = loop.time()
        for number in range(windows * share):
            due = began + number * window / share
            await asyncio.sleep(max(0.0, due - loop.time()))
            if number >= share:
                first = await answered[number - share]
                await asyncio.sleep(first.answered + window + CLOCK_SECONDS - loop.time())
            answered.append(asyncio.ensure_future(ask(urls[number % len(urls)])))
        asked = await asyncio.gather(*answered)
    assert Counter(each.status for each in asked) == {200: windows * share}


async def test_a_block_lasts_exactly_its_time_on_every_worker(gateways: Start) -> None:
    block = 2.0
    urls = gateways({"requests": 50, "window": 1, "block": round(block)}, off=OFF_SECONDS)
    async with client("127.0.0.6", CONNECTIONS) as ask:
        burst = await hammer(ask, urls, requests=200, connections=CONNECTIONS)
        blocking = [each for each in refused(burst) if "封锁" not in each.text]
        assert blocking, "whose refusal began the block is told of the limit"
        earliest = min(each.sent for each in blocking) + block - CLOCK_SECONDS
        latest = max(each.answered for each in blocking) + block + CLOCK_SECONDS
        later = list(burst)
        while later[-1].sent < latest:
            later += await hammer(ask, urls, requests=8, connections=8)
            await asyncio.sleep(0.02)
    early = [each for each in later[len(burst) :] if each.answered < earliest]
    late = [each for each in later if each.sent > latest]
    assert early
    assert {each.status for each in early} == {429}
    assert {each.status for each in late} == {200}

"""Names of targets: looked up beside the requests, again and again; the last good answer stays."""

import asyncio
import socket

import pytest
from backend import RawBackend
from upstreams import WAIT, eventually, exchange, spec

from gateway.errors import UpstreamUnavailable
from gateway.proxy import resolve as resolve_module
from gateway.proxy.pool import Pool
from gateway.proxy.resolve import look_up

TIMEOUT = {"connect_timeout": WAIT}


class Names:
    """A resolver that says what a test tells it to; it answers when `ready` is set."""

    def __init__(self, *places: str) -> None:
        self.places: tuple[str, ...] = places
        self.error: OSError | None = None
        self.asked = 0
        self.ready = asyncio.Event()
        self.ready.set()

    async def __call__(self, host: str, port: int) -> tuple[str, ...]:
        assert (host, port) == ("backend.test", self.port)
        await self.ready.wait()
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.places

    port = 0


async def neighbours() -> tuple[RawBackend, RawBackend]:
    while True:
        one = await RawBackend().start()
        try:
            return one, await RawBackend(host="127.0.0.2", port=one.port).start()
        except OSError:  # someone else has that port there
            await one.stop()


@pytest.fixture
async def backends():
    """Two on different addresses of this machine, on one port."""
    one, two = await neighbours()
    yield one, two
    await one.stop()
    await two.stop()


@pytest.fixture
async def names(backends):
    names = Names("127.0.0.1")
    names.port = backends[0].port
    return names


@pytest.fixture
async def pool(names):
    pool = Pool(
        spec(f"http://backend.test:{names.port}", resolve_every=0.01, slow_start=0),
        resolve=names,
    )
    yield pool
    await pool.close()


def places(pool: Pool) -> list[str]:
    return sorted(address.place for address in pool._addresses)


async def ask(pool: Pool, times: int = 1) -> None:
    for _ in range(times):
        await exchange(pool, (await pool.acquire(**TIMEOUT))[0])


async def test_all_addresses_of_a_name_share_the_load(pool, names, backends) -> None:
    names.places = ("127.0.0.1", "127.0.0.2")
    pool.start()
    await ask(pool, 40)
    assert all(backend.requests for backend in backends)
    assert pool._addresses[1].target.authority == f"backend.test:{names.port}"


async def test_the_first_request_waits_for_the_first_look_up_and_no_later_one(pool, names) -> None:
    names.ready.clear()
    pool.start()
    first = asyncio.create_task(ask(pool))
    await asyncio.sleep(0.02)
    assert not first.done()
    names.ready.set()
    await asyncio.wait_for(first, WAIT)
    names.ready.clear()  # from here on the resolver hangs
    await eventually(lambda: pool.idle_connections == 1)
    await asyncio.wait_for(ask(pool, 3), WAIT)


async def test_a_changed_name_moves_the_requests_and_drains_the_old_place(
    pool, names, backends
) -> None:
    one, two = backends
    pool.start()
    active = (await pool.acquire(**TIMEOUT))[0]
    await ask(pool)
    assert (pool.idle_connections, pool.active_connections) == (1, 1)
    names.places = ("127.0.0.2",)
    await eventually(lambda: places(pool) == ["127.0.0.2"])
    assert pool.idle_connections == 0  # nothing idle leads to where the name doesn't
    before = len(one.requests)
    await ask(pool, 5)
    assert len(one.requests) == before
    assert len(two.requests) == 5
    assert pool.active_connections == 1
    await exchange(pool, active)  # what was under way there ends well, and is not kept
    assert len(one.requests) == before + 1
    assert pool.active_connections == 0
    await eventually(lambda: one.open_connections == 0)
    pool.sweep(0)
    assert pool._leaving == []


async def test_what_is_under_way_at_a_place_that_is_gone_keeps_its_deadline(
    pool, names, backends
) -> None:
    async def hang(_backend, _request, reader, _writer) -> None:
        await reader.read()

    backends[0].script = hang
    pool.start()
    using = asyncio.create_task(ask(pool))
    await eventually(lambda: backends[0].requests != [])
    names.places = ("127.0.0.2",)
    await eventually(lambda: places(pool) == ["127.0.0.2"])
    pool.sweep(asyncio.get_running_loop().time() + 2 * WAIT)
    with pytest.raises(Exception, match="Gateway Timeout"):
        await using


@pytest.mark.parametrize("failure", ["error", "nothing"])
async def test_a_look_up_that_fails_keeps_the_last_good_answer(
    pool, names, failure, caplog
) -> None:
    pool.start()
    await ask(pool)
    asked = names.asked
    if failure == "error":
        names.error = socket.gaierror(socket.EAI_AGAIN, "later")
    else:
        names.places = ()
    await eventually(lambda: names.asked > asked + 5)
    assert places(pool) == ["127.0.0.1"]
    await ask(pool)
    told = [record.getMessage() for record in caplog.records if "looked up" in record.message]
    assert len(told) == 1  # once, not every time


async def test_a_name_that_was_never_found_is_503_and_is_asked_for_again(
    pool, names, monkeypatch
) -> None:
    monkeypatch.setattr(resolve_module, "UNKNOWN_RETRY_SECONDS", 0.01)
    names.error = socket.gaierror(socket.EAI_NONAME, "no")
    pool.start()
    with pytest.raises(UpstreamUnavailable):
        await pool.acquire(**TIMEOUT)
    assert pool.turns.under_way == 0
    names.error = None
    await eventually(lambda: places(pool) == ["127.0.0.1"])
    await ask(pool)


async def test_the_first_request_does_not_wait_longer_than_for_a_connection(pool, names) -> None:
    names.ready.clear()
    pool.start()
    with pytest.raises(UpstreamUnavailable):
        await asyncio.wait_for(pool.acquire(connect_timeout=0.02), WAIT)


async def test_who_waits_for_the_first_look_up_is_told_when_the_pool_closes(pool, names) -> None:
    names.ready.clear()
    pool.start()
    waiting = asyncio.create_task(pool.acquire(connect_timeout=1000 * WAIT))
    await asyncio.sleep(0.02)
    await pool.close()
    with pytest.raises(UpstreamUnavailable):
        await asyncio.wait_for(waiting, WAIT)


async def test_an_address_keeps_what_is_known_of_it_when_others_come(pool, names) -> None:
    pool.start()
    await ask(pool)
    known = pool._addresses[0]
    names.places = ("127.0.0.1", "127.0.0.2")
    await eventually(lambda: len(pool._addresses) == 2)
    assert pool._addresses[0] is known
    assert pool.idle_connections == 1
    assert known.returned_at is None
    assert pool._addresses[1].returned_at is not None  # a newcomer starts slowly


async def test_the_systems_resolver_is_asked() -> None:
    assert await look_up("localhost", 80) in (["127.0.0.1"], ["::1"])
    with pytest.raises(socket.gaierror):
        await look_up("no-such-name.invalid", 80)


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        ([("::1", 6), ("10.0.0.2", 4), ("10.0.0.1", 4), ("10.0.0.2", 4)], "10.0.0.1 10.0.0.2"),
        ([("2001:db8::2", 6), ("2001:db8::1", 6)], "2001:db8::1 2001:db8::2"),
        ([], ""),
    ],
)
async def test_of_two_families_the_ipv4_addresses_stand_for_the_name(
    found, kept, monkeypatch
) -> None:
    async def getaddrinfo(host, port, *, type):  # noqa: A002  # the loop's own name
        return [
            (socket.AF_INET, type, 6, "", (place, port))
            if family == 4
            else (socket.AF_INET6, type, 6, "", (place, port, 0, 0))
            for place, family in found
        ]

    class Loop:
        pass

    Loop.getaddrinfo = staticmethod(getaddrinfo)
    monkeypatch.setattr(resolve_module.asyncio, "get_running_loop", Loop)
    assert " ".join(await look_up("backend.test", 80)) == kept

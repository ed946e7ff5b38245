"""The pool over real sockets: who gets which connection, how many there may be, how it ends."""

import asyncio
import socket

import pytest
from authority import Authority
from backend import RawBackend
from upstreams import WAIT, eventually, exchange, spec

from gateway.errors import ClientGone, UpstreamFailed, UpstreamTimeout, UpstreamUnavailable
from gateway.proxy.pool import Pool

TIMEOUT = {"connect_timeout": WAIT}


@pytest.fixture
async def backend():
    backend = await RawBackend().start()
    yield backend
    await backend.stop()


@pytest.fixture
async def make():
    """Makes pools that end with the test."""
    made = []

    def make(*targets, **fields) -> Pool:
        pool = Pool(spec(*targets, **fields))
        pool.start()
        made.append(pool)
        return pool

    yield make
    for pool in made:
        await pool.close()


class Leaver:
    """A client that waits, and may leave."""

    cancel = None
    gone = False

    def leave(self) -> None:
        self.gone = True
        if self.cancel is not None:
            self.cancel()


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_an_idle_connection_is_had_without_suspending(backend, make) -> None:
    pool = make(backend.url)
    await exchange(pool, (await pool.acquire(**TIMEOUT))[0])
    assert pool.idle_connections == 1
    tasks = asyncio.all_tasks()
    acquiring = pool.acquire(**TIMEOUT)
    with pytest.raises(StopIteration) as had:  # at its first step: nothing was waited for
        acquiring.send(None)
    connection, _, reused = had.value.value
    assert reused
    assert asyncio.all_tasks() == tasks
    pool.release(connection)


async def test_the_connection_used_last_is_used_next(backend, make) -> None:
    pool = make(backend.url)
    both = [(await pool.acquire(**TIMEOUT))[0] for _ in range(2)]
    for connection in both:
        await exchange(pool, connection)
    assert (await pool.acquire(**TIMEOUT))[0] is both[1]
    assert (await pool.acquire(**TIMEOUT))[0] is both[0]


async def test_fresh_asks_for_a_new_connection(backend, make) -> None:
    pool = make(backend.url)
    await exchange(pool, (await pool.acquire(**TIMEOUT))[0])
    _, _, reused = await pool.acquire(**TIMEOUT, fresh=True)
    assert not reused
    assert (pool.idle_connections, pool.active_connections) == (1, 1)


async def test_a_request_that_can_not_be_sent_twice_gets_no_connection_whose_end_has_come(
    backend, make
) -> None:
    pool = make(backend.url)
    used = (await pool.acquire(**TIMEOUT))[0]
    await exchange(pool, used)
    used.transport.pause_reading()  # the event loop has not got to it yet
    backend.drop()
    await eventually(lambda: not used.is_quiet)
    assert used.is_usable
    connection, _, reused = await pool.acquire(**TIMEOUT, careful=True)
    assert connection is not used
    assert not reused
    assert pool.idle_connections == 0


async def test_what_is_released_twice_or_never_acquired_counts_once(backend, make) -> None:
    pool = make(backend.url)
    connection = (await pool.acquire(**TIMEOUT))[0]
    for _ in range(2):
        pool.release(connection)
    assert pool.turns.under_way == 0


@pytest.mark.parametrize("bound", ["max_requests", "max_connections"])
async def test_who_finds_no_turn_waits_and_is_served_in_order(backend, make, bound) -> None:
    pool = make(backend.url, **{bound: 1})
    held = (await pool.acquire(**TIMEOUT))[0]
    served = []

    async def wait(name: int) -> None:
        connection = (await pool.acquire(**TIMEOUT))[0]
        served.append(name)
        await exchange(pool, connection)

    waiting = []
    for name in range(5):
        waiting.append(asyncio.create_task(wait(name)))
        await eventually(lambda name=name: pool.turns.waiting == name + 1)
    await exchange(pool, held)
    await asyncio.wait_for(asyncio.gather(*waiting), WAIT)
    assert served == [0, 1, 2, 3, 4]
    assert pool.turns.under_way == 0
    assert backend.connections == 1


async def test_a_full_queue_and_a_wait_without_end_are_503_with_a_reason_of_their_own(
    backend, make
) -> None:
    pool = make(backend.url, max_requests=1, max_queue=1, queue_timeout=3)
    held = (await pool.acquire(**TIMEOUT))[0]
    waiting = asyncio.create_task(pool.acquire(**TIMEOUT))
    await eventually(lambda: pool.turns.waiting == 1)
    with pytest.raises(UpstreamUnavailable) as refused:
        await pool.acquire(**TIMEOUT)
    assert refused.value.reason == "upstream_overloaded"
    assert refused.value.headers == (("Retry-After", "1"),)
    pool.sweep(now() + 2)
    assert pool.turns.waiting == 1
    pool.sweep(now() + 4)
    with pytest.raises(UpstreamUnavailable) as late:
        await waiting
    assert late.value.reason == "upstream_overloaded"
    pool.release(held)
    assert pool.turns.under_way == 0


async def test_a_client_that_leaves_leaves_the_queue(backend, make) -> None:
    pool = make(backend.url, max_requests=1)
    held = (await pool.acquire(**TIMEOUT))[0]
    client = Leaver()
    waiting = asyncio.create_task(pool.acquire(**TIMEOUT, client=client))
    await eventually(lambda: pool.turns.waiting == 1)
    client.leave()
    assert pool.turns.waiting == 0
    with pytest.raises(ClientGone):
        await waiting
    with pytest.raises(ClientGone):
        await pool.acquire(**TIMEOUT, client=client)
    pool.release(held)
    assert pool.turns.under_way == 0


async def test_the_oldest_idle_connection_makes_room_for_one_elsewhere(backend, make) -> None:
    other = await RawBackend().start()
    pool = make(backend.url, other.url, max_connections=2)
    places = {address.target.url: address for address in pool._addresses}
    both = [(await pool.acquire(**TIMEOUT, fresh=True))[0] for _ in range(2)]
    for connection in both:
        await exchange(pool, connection)
    assert pool.idle_connections == 2
    places[backend.url].healthy = False
    pool._health_changed(places[backend.url])
    three = await pool.acquire(**TIMEOUT, fresh=True)
    assert three[1].url == other.url
    assert pool._connections == 2
    await eventually(lambda: backend.open_connections + other.open_connections == 2)
    await other.stop()


async def test_a_websocket_is_a_connection_but_no_request(backend, make) -> None:
    pool = make(backend.url, max_requests=1, max_connections=2)
    socket = (await pool.acquire(**TIMEOUT, fresh=True))[0]
    waiting = asyncio.create_task(pool.acquire(**TIMEOUT))
    await eventually(lambda: pool.turns.waiting == 1)
    pool.became_tunnel(socket)
    pool.became_tunnel(socket)
    request = (await waiting)[0]
    assert (pool.turns.requests, pool.turns.tunnels) == (1, 1)
    third = asyncio.create_task(pool.acquire(**TIMEOUT))
    await eventually(lambda: pool.turns.waiting == 1)
    pool.release(socket)
    assert pool.turns.tunnels == 0
    pool.release(request)
    pool.release((await third)[0])
    assert pool.turns.under_way == 0


async def test_a_connection_that_dies_in_use_or_idle_is_counted_no_more(backend, make) -> None:
    pool = make(backend.url)
    used = [(await pool.acquire(**TIMEOUT))[0] for _ in range(3)]
    await exchange(pool, used[0])
    assert (pool.idle_connections, pool.active_connections) == (1, 2)
    backend.drop()
    await eventually(lambda: pool.idle_connections + pool.active_connections == 0)
    assert pool.turns.under_way == 2
    for connection in used[1:]:
        pool.release(connection)
    assert (pool.turns.under_way, pool._connections) == (0, 0)


async def test_refused_connections_leave_nothing_counted(backend, make) -> None:
    pool = make(backend.url)
    await backend.stop()
    with pytest.raises(UpstreamFailed):
        await pool.acquire(**TIMEOUT)
    assert (pool.turns.under_way, pool._connections) == (0, 0)
    assert pool._addresses[0].outstanding == 0


async def test_a_draining_pool_finishes_what_it_has_and_serves_who_was_on_the_way(
    backend, make
) -> None:
    pool = make(backend.url)
    idle, active = [(await pool.acquire(**TIMEOUT))[0] for _ in range(2)]
    await exchange(pool, idle)
    pool.drain()
    assert pool.idle_connections == 0
    late, _, reused = await pool.acquire(**TIMEOUT)
    assert not reused
    for connection in (active, late):
        await exchange(pool, connection)
    assert pool.active_connections == 0
    assert pool.idle_connections == 0
    await eventually(lambda: backend.open_connections == 0)


async def test_a_closed_pool_tells_who_uses_it_and_who_waits(backend, make) -> None:
    pool = make(backend.url, max_requests=1)

    async def hang(_backend, _request, reader, _writer) -> None:
        await reader.read()

    backend.script = hang
    used = (await pool.acquire(**TIMEOUT))[0]
    using = asyncio.create_task(exchange(pool, used))
    waiting = asyncio.create_task(pool.acquire(**TIMEOUT))
    await eventually(lambda: pool.turns.waiting == 1 and len(backend.requests) == 1)
    await pool.close()
    for ended in (using, waiting):
        with pytest.raises(UpstreamUnavailable):
            await ended
    pool.release(used)
    with pytest.raises(UpstreamUnavailable):
        await pool.acquire(**TIMEOUT)


async def test_a_connection_that_does_not_stand_in_time_is_504(make) -> None:
    with socket.socket() as full, socket.socket() as first:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        first.connect(full.getsockname())
        pool = make(f"http://127.0.0.1:{full.getsockname()[1]}")
        with pytest.raises(UpstreamTimeout):
            await pool.acquire(connect_timeout=0.05)
        assert (pool.turns.under_way, pool._connections) == (0, 0)


async def test_a_pool_knows_whether_it_is_the_one_a_spec_asks_for(make, tmp_path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(Authority(tmp_path).path.read_bytes())
    fields = {"tls": {"ca": str(ca)}}
    pool = make("https://127.0.0.1:1", **fields)
    assert pool.serves(spec("https://127.0.0.1:1", **fields))
    assert not pool.serves(spec("https://127.0.0.1:2", **fields))
    assert not pool.serves(spec("https://127.0.0.1:1", **fields, max_requests=1))
    ca.write_bytes(Authority(tmp_path, "next").path.read_bytes())
    assert not pool.serves(spec("https://127.0.0.1:1", **fields))

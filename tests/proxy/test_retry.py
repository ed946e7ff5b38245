"""What is sent again, and what never is, through a whole gateway; and the budget."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from backend import OK, RawBackend
from exchanges import exchange
from harness import Running, open_gateway, read_answer, route
from upstreams import Silent, eventually

from gateway.proxy.connection import UpstreamConnection
from gateway.proxy.retry import FREE_RETRIES, Budget, may_send_again

HEAD = b"Host: api.example\r\n"
NEVER_HEALS = {"ejection": {"share": 0}}  # each request meets what the test has set up


ADDRESSES = 6  # more than any test has attempts


def known_as_many(backend: RawBackend) -> list[str]:
    """One backend behind several addresses: after a new connection, another one is tried."""
    return [f"http://127.0.0.{number}:{backend.port}" for number in range(1, ADDRESSES + 1)]


@asynccontextmanager
async def gateway_to(folder: Path, *targets: str, on_route=None, **fields):
    routes = {
        "upstreams": {"backend": {"targets": list(targets), **fields}},
        "routes": [route(**(on_route or {}))],
    }
    async with open_gateway(folder, routes) as gateway:
        yield gateway


async def send(gateway: Running, method: str, body: bytes | None = None) -> int:
    length = b"" if body is None else b"Content-Length: %d\r\n" % len(body)
    request = b"%b /x HTTP/1.1\r\n%b%b\r\n" % (method.encode(), HEAD, length) + (body or b"")
    return int((await gateway.talk(request)).split()[1])


def retries(gateway: Running) -> int:
    return gateway.parts.pools["backend"].budget.spent


async def cut(_backend, _request, _reader, writer) -> None:
    writer.transport.abort()


@pytest.fixture
async def backend():
    backend = await RawBackend(host="0.0.0.0").start()
    yield backend
    await backend.stop()


@pytest.fixture
async def dead():
    """The URL of a port where nobody listens."""
    backend = await RawBackend().start()
    await backend.stop()
    return backend.url


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("POST", b"order"), ("PATCH", b"")])
async def test_what_could_not_be_sent_goes_to_another_address_whatever_the_method(
    backend, dead, tmp_path, method, body
) -> None:
    retry = {"budget": 1}
    async with gateway_to(tmp_path, backend.url, dead, retry=retry, **NEVER_HEALS) as gateway:
        for _ in range(20):
            assert await send(gateway, method, body) == 200
            backend.drop()  # so that the next has to connect
        assert retries(gateway) > 0
    assert len(backend.requests) == 20


async def test_where_there_is_no_other_address_one_refusal_is_enough(dead, tmp_path) -> None:
    async with gateway_to(tmp_path, dead) as gateway:
        assert await send(gateway, "GET") == 502
        assert retries(gateway) == 0


@pytest.mark.parametrize(
    ("method", "body", "times"),
    [
        ("GET", None, 3),
        ("DELETE", None, 3),
        ("PUT", b"whole", 3),
        ("POST", b"order", 1),
        ("POST", None, 1),
        ("PATCH", b"x", 1),
    ],
)
async def test_what_was_sent_goes_again_only_if_the_method_is_idempotent(
    backend, tmp_path, method, body, times
) -> None:
    backend.script = cut
    async with gateway_to(tmp_path, *known_as_many(backend), **NEVER_HEALS) as gateway:
        assert await send(gateway, method, body) == 502
        assert retries(gateway) == times - 1
    assert len(backend.requests) == times
    assert {request.body for request in backend.requests} == {body or b""}


async def test_what_a_new_connection_to_the_only_address_died_of_is_not_sent_again(
    backend, tmp_path
) -> None:
    backend.script = cut
    async with gateway_to(tmp_path, backend.url) as gateway:
        assert await send(gateway, "GET") == 502
    assert len(backend.requests) == 1


async def test_a_body_that_passed_by_is_not_sent_again(backend, tmp_path) -> None:
    backend.script = cut
    async with gateway_to(tmp_path, backend.url) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"PUT /x HTTP/1.1\r\n" + HEAD + b"Content-Length: 6\r\n\r\n")
        await eventually(lambda: gateway.parts.pools["backend"].active_connections == 1)
        writer.write(b"pieces")
        assert (await read_answer(reader)).startswith(b"HTTP/1.1 502")
        writer.close()
    assert len(backend.requests) == 1


async def test_a_chunked_body_that_came_whole_is_sent_again_with_its_length(
    backend, tmp_path
) -> None:
    async def cut_once(backend, _request, _reader, writer) -> None:
        if len(backend.requests) == 1:
            writer.transport.abort()
        else:
            writer.write(OK)

    backend.script = cut_once
    async with gateway_to(tmp_path, *known_as_many(backend)) as gateway:
        answer = await gateway.talk(
            b"PUT /x HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n" % HEAD
            + b"2\r\nwh\r\n3\r\nole\r\n0\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 200")
    assert [request.body for request in backend.requests] == [b"whole", b"whole"]
    assert backend.last.one(b"Content-Length") == b"5"
    assert backend.last.all(b"Transfer-Encoding") == []


@pytest.mark.parametrize(
    ("method", "body", "state", "again"),
    [
        ("GET", None, {"sent": True}, True),
        ("GET", None, {"sent": True, "answered": True}, False),
        ("PUT", b"x", {"sent": True}, True),
        ("POST", b"x", {"sent": True}, False),
        ("POST", b"x", {"sent": False}, True),
        ("POST", b"x", {"sent": False, "answered": True}, False),
        ("POST", "on its way", {"sent": False}, False),
        ("PUT", "on its way", {"sent": True}, False),
    ],
)
async def test_what_may_be_sent_again(method, body, state, again) -> None:
    length = "0" if body is None else str(len(body))
    request = exchange(method, "/x", headers={"Content-Length": length})
    request.connection.transport = asyncio.Transport()  # the client is there
    request.body = body if isinstance(body, bytes) else None
    upstream = UpstreamConnection(asyncio.get_running_loop())
    for name, value in state.items():
        setattr(upstream, name, value)
    assert may_send_again(request, upstream) == again


async def test_what_is_written_to_a_connection_that_has_ended_was_not_sent() -> None:
    loop = asyncio.get_running_loop()
    listener = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    _, upstream = await loop.create_connection(lambda: UpstreamConnection(loop), "127.0.0.1", port)
    for sent in (True, False):
        upstream.start(Silent(), head_only=False, read_timeout=5)
        upstream.write(b"POST ")
        assert upstream.sent == sent
        upstream.close()
    listener.close()


async def test_another_address_is_tried_first(tmp_path) -> None:
    both = [await RawBackend(script=cut).start() for _ in range(2)]
    urls = [backend.url for backend in both]
    attempts = {"attempts": 2}
    async with gateway_to(tmp_path, *urls, retry=attempts, **NEVER_HEALS) as gateway:
        for count in range(1, 6):
            assert await send(gateway, "GET") == 502
            assert [len(backend.requests) for backend in both] == [count, count]
    for backend in both:
        await backend.stop()


@pytest.mark.parametrize("said", [b"H", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_nothing_is_sent_again_after_a_byte_of_an_answer(backend, tmp_path, said) -> None:
    async def break_off(_backend, _request, _reader, writer) -> None:
        writer.write(said)
        await writer.drain()
        writer.close()

    backend.script = break_off
    async with gateway_to(tmp_path, backend.url) as gateway:
        await gateway.talk(b"GET /x HTTP/1.1\r\n" + HEAD + b"\r\n", until_closed=b"200" in said)
        assert retries(gateway) == 0
    assert len(backend.requests) == 1


async def test_nothing_is_sent_again_after_a_timeout(backend, tmp_path) -> None:
    async def hang(_backend, _request, reader, _writer) -> None:
        await reader.read()

    backend.script = hang
    async with gateway_to(tmp_path, backend.url, timeout={"read": 0.2}) as gateway:
        assert await send(gateway, "GET") == 504
    assert len(backend.requests) == 1


async def test_a_kept_alive_connection_that_ended_in_time_costs_no_post(backend, tmp_path) -> None:
    async def answer_and_go(_backend, _request, _reader, writer) -> None:
        writer.write(OK)  # with no word of closing
        await writer.drain()
        writer.close()

    backend.script = answer_and_go
    async with gateway_to(tmp_path, backend.url) as gateway:
        for _ in range(30):
            assert await send(gateway, "POST", b"order") == 200
    assert len(backend.requests) == 30


async def test_a_post_is_not_sent_where_the_system_knows_of_the_end_already(
    backend, tmp_path
) -> None:
    async with gateway_to(tmp_path, backend.url) as gateway:
        assert await send(gateway, "POST", b"1") == 200
        pool = gateway.parts.pools["backend"]
        await eventually(lambda: pool.idle_connections == 1)
        idle = next(iter(pool._addresses[0].idle))
        idle.transport.pause_reading()  # the event loop is not told
        backend.drop()
        await eventually(lambda: not idle.is_quiet)
        assert await send(gateway, "POST", b"2") == 200
    assert [request.body for request in backend.requests] == [b"1", b"2"]


async def test_requests_that_fail_eject_their_target(backend, tmp_path) -> None:
    cutting = await RawBackend(script=cut).start()
    fields = {"ejection": {"failures": 2}, "retry": {"budget": 1}}
    async with gateway_to(tmp_path, backend.url, cutting.url, **fields) as gateway:
        while dict(gateway.parts.pools["backend"].states())["ejected"] == 0:
            assert await send(gateway, "GET") == 200
        for _ in range(10):
            assert await send(gateway, "POST", b"order") == 200
    assert len(cutting.requests) == 2
    await cutting.stop()


@pytest.mark.parametrize(
    ("fields", "on_route", "times"),
    [
        ({}, {}, 3),
        ({"retry": {"attempts": 1}}, {}, 1),
        ({"retry": {"attempts": 5}}, {}, 5),
        ({"retry": {"attempts": 5}}, {"retry": {"attempts": 2}}, 2),
    ],
)
async def test_a_route_has_its_own_attempts_or_those_of_the_upstream(
    backend, tmp_path, fields, on_route, times
) -> None:
    backend.script = cut
    targets, fields = known_as_many(backend), fields | NEVER_HEALS
    async with gateway_to(tmp_path, *targets, on_route=on_route, **fields) as gateway:
        assert await send(gateway, "GET") == 502
    assert len(backend.requests) == times


async def test_tries_to_connect_are_attempts_too(backend, tmp_path) -> None:
    """Two are dead, one cuts: with three attempts the one that cuts is asked once at most."""
    ports = [await RawBackend().start() for _ in range(2)]
    for port in ports:
        await port.stop()
    backend.script = cut
    urls = [backend.url, *(port.url for port in ports)]
    async with gateway_to(tmp_path, *urls, **NEVER_HEALS) as gateway:
        for count in range(1, 4):
            before = retries(gateway)
            assert await send(gateway, "GET") == 502
            assert retries(gateway) - before <= 2
            assert len(backend.requests) <= count * 3


async def test_the_budget_ends_retries_when_everything_fails(backend, tmp_path) -> None:
    backend.script = cut
    targets, fields = known_as_many(backend), {"retry": {"budget": 0.2}, **NEVER_HEALS}
    async with gateway_to(tmp_path, *targets, **fields) as gateway:
        requests = 100
        for _ in range(requests):
            assert await send(gateway, "GET") == 502
        assert FREE_RETRIES <= retries(gateway) <= 0.2 * requests + 2 * FREE_RETRIES
        assert len(backend.requests) == requests + retries(gateway)


async def test_a_waiting_client_that_leaves_is_logged_and_never_sent(backend, tmp_path) -> None:
    async def hang(_backend, _request, reader, _writer) -> None:
        await reader.read()

    backend.script = hang
    async with gateway_to(tmp_path, backend.url, max_requests=1) as gateway:
        turns = gateway.parts.pools["backend"].turns
        clients = []
        for waiting in (0, 1):
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            clients.append(writer)
            writer.write(b"GET /%d HTTP/1.1\r\n%b\r\n" % (waiting, HEAD))
            await eventually(lambda waiting=waiting: turns.requests + turns.waiting == waiting + 1)
        clients[1].transport.abort()
        await eventually(lambda: turns.waiting == 0)
        clients[0].transport.abort()
        await eventually(lambda: turns.requests == 0)
        await eventually(lambda: len(gateway.log()) == 2)
        assert Counter(line["reason"] for line in gateway.log()) == {"client_gone": 2}
    assert len(backend.requests) == 1


async def test_overload_is_503_and_says_when_to_come_again(backend, tmp_path) -> None:
    async def hang(_backend, _request, reader, _writer) -> None:
        await reader.read()

    backend.script = hang
    async with gateway_to(tmp_path, backend.url, max_requests=1, max_queue=0) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"GET /x HTTP/1.1\r\n" + HEAD + b"\r\n")
        await eventually(lambda: gateway.parts.pools["backend"].turns.requests == 1)
        answer = await gateway.talk(b"GET /x HTTP/1.1\r\n" + HEAD + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in answer
        await eventually(lambda: len(gateway.log()) == 1)
        assert gateway.log()[0]["reason"] == "upstream_overloaded"
        writer.transport.abort()


async def test_metrics_tell_of_retries_and_targets(backend, dead, tmp_path) -> None:
    async with gateway_to(tmp_path, backend.url, dead, ejection={"failures": 1}) as gateway:
        while not retries(gateway):
            assert await send(gateway, "GET") == 200
            backend.drop()
        text = gateway.parts.metrics.render()[0].decode()
    assert 'gateway_upstream_retries_total{upstream="backend"} 1.0' in text
    for state, count in (("up", 1), ("down", 0), ("ejected", 1)):
        line = f'gateway_upstream_targets{{state="{state}",upstream="backend"}} {count}.0'
        assert line in text


# The budget, with the clock in the test's hand.


def test_retries_are_a_share_of_the_requests_of_late_and_a_few_free_ones() -> None:
    budget = Budget(0.2)
    free = sum(budget.spend() for _ in range(100))
    assert free == FREE_RETRIES
    budget.requests += 1000
    assert sum(budget.spend() for _ in range(1000)) == 200


@pytest.mark.parametrize("rate", [0, 10, 1000])
def test_over_a_long_time_retries_keep_to_their_share(rate) -> None:
    budget, seconds, spent = Budget(0.2), 600, 0
    for second in range(seconds):
        budget.fade(float(second))
        budget.requests += rate
        spent += sum(budget.spend() for _ in range(2 * rate + 10))
    per_second = spent / seconds
    assert 0.2 * rate * 0.9 + 0.9 <= per_second <= 0.2 * rate * 1.02 + 1.1


def test_a_flood_of_yesterday_is_no_credit_for_today() -> None:
    budget = Budget(0.2)
    budget.requests += 1_000_000
    budget.fade(86_400.0)
    assert sum(budget.spend() for _ in range(1000)) == FREE_RETRIES

"""What is known of an address: by asking it (active checks), and by its requests (ejection)."""

import asyncio
from pathlib import Path

import pytest
from authority import Authority, server_context
from backend import OK, RawBackend
from upstreams import WAIT, eventually, exchange, spec

from gateway.errors import (
    ClientGone,
    GatewayError,
    RequestTimeout,
    UpstreamFailed,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.proxy.health import Ejector, check
from gateway.proxy.pool import Pool
from gateway.proxy.target import Address, Target
from gateway.upstreamspec import Ejection, Health, UpstreamTls, WeightedTarget

HEALTH = {"path": "/health", "interval": 0.01, "timeout": WAIT}
TIMEOUT = {"connect_timeout": WAIT}


@pytest.fixture
async def backend():
    backend = await RawBackend().start()
    yield backend
    await backend.stop()


@pytest.fixture
async def make():
    made = []

    def make(*targets, **fields) -> Pool:
        pool = Pool(spec(*targets, **fields))
        pool.start()
        made.append(pool)
        return pool

    yield make
    for pool in made:
        await pool.close()


def status(code: int) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % code


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (OK, None),
        (status(204), None),
        (status(302), None),
        (status(404), "a bad status"),
        (status(503), "a bad status"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP"),
        (b"HTTP/1.1\r\n", "no HTTP"),
        (b"HTTP/1.1 2\r\n", "a bad status"),
        (b"x" * 5000, "no HTTP"),
        (b"", "no HTTP"),
    ],
)
async def test_a_check_is_good_with_2xx_or_3xx_alone(backend, answer, problem) -> None:
    async def say(_backend, _request, _reader, writer) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    backend.script = say
    address = Address(Target(WeightedTarget(url=backend.url), UpstreamTls()), "127.0.0.1")
    assert await check(address, Health(path="/health")) == problem
    assert backend.last.line == b"GET /health HTTP/1.1"
    assert backend.last.one(b"Host") == f"127.0.0.1:{backend.port}".encode()
    await eventually(lambda: backend.open_connections == 0)


async def test_a_check_that_takes_too_long_is_bad(backend) -> None:
    async def hang(_backend, _request, reader, _writer) -> None:
        await reader.read()

    backend.script = hang
    address = Address(Target(WeightedTarget(url=backend.url), UpstreamTls()), "127.0.0.1")
    assert await check(address, Health(path="/", timeout=0.05)) == "no answer in time"
    await eventually(lambda: backend.open_connections == 0)


async def test_checks_go_the_way_of_the_requests(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    secure = await RawBackend(tls=server_context(authority.issue("127.0.0.1"))).start()
    unix = await RawBackend(path=str(tmp_path / "app.sock")).start()
    believing = UpstreamTls(ca=str(authority.path))
    for backend, tls, problem in [
        (secure, believing, None),
        (secure, UpstreamTls(), "its certificate is not good"),
        (unix, UpstreamTls(), None),
    ]:
        target = Target(WeightedTarget(url=backend.url), tls)
        assert await check(Address(target, target.place), Health(path="/")) == problem
    for backend in (secure, unix):
        await backend.stop()


async def test_a_target_that_does_not_speak_tls_is_bad() -> None:
    async def speak_plainly(_reader, writer) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    server = await asyncio.start_server(speak_plainly, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    address = Address(Target(WeightedTarget(url=url), UpstreamTls()), "127.0.0.1")
    assert await check(address, Health(path="/", timeout=WAIT)) == "no TLS"
    server.close()


async def test_an_upstream_whose_only_address_is_down_is_503_until_it_is_up(backend, make) -> None:
    backend.answer = status(500)
    pool = make(backend.url, health=HEALTH)
    await eventually(lambda: dict(pool.states())["down"] == 1)
    with pytest.raises(UpstreamUnavailable):
        await pool.acquire(**TIMEOUT)
    assert pool.turns.under_way == 0
    backend.answer = OK
    await eventually(lambda: dict(pool.states())["up"] == 1)
    await exchange(pool, (await pool.acquire(**TIMEOUT))[0])
    assert pool._addresses[0].returned_at is not None  # it starts slowly


async def test_a_state_changes_with_as_many_checks_in_a_row_as_it_takes(backend, make) -> None:
    answers: list[int] = []
    states: list[str] = []

    async def say(_backend, _request, _reader, writer) -> None:
        states.append(pool._addresses[0].state)
        writer.write(status(answers.pop(0) if answers else 200))

    backend.script = say
    answers += [500, 500, 200, 500, 500, 500, 200, 200, 500, 200, 200, 200, 200]
    pool = make(backend.url, health=HEALTH | {"unhealthy_after": 3, "healthy_after": 4})
    await eventually(lambda: len(states) >= 14)
    expected = ["up"] * 6 + ["down"] * 7 + ["up"]
    assert states[:14] == expected


async def test_of_two_targets_the_one_that_is_down_gets_nothing(backend, make) -> None:
    other = await RawBackend().start()
    pool = make(backend.url, other.url, health=HEALTH)
    await other.stop()
    await eventually(lambda: dict(pool.states()) == {"up": 1, "down": 1, "ejected": 0})
    for _ in range(20):
        _, target, _ = await pool.acquire(**TIMEOUT)
        assert target.url == backend.url


# Ejection, with the clock in the test's hand.


def addresses(count: int) -> list[Address]:
    return [
        Address(Target(WeightedTarget(url=f"http://10.0.0.{i}"), UpstreamTls()), f"10.0.0.{i}")
        for i in range(1, count + 1)
    ]


def fail(ejector: Ejector, address: Address, now: float, times: int) -> bool:
    return [ejector.failed(address, now) for _ in range(times)][-1]


@pytest.mark.parametrize(
    ("count", "share", "most"),
    [(1, 0.5, 0), (2, 0.5, 1), (3, 0.5, 1), (4, 0.5, 2), (4, 0.0, 0), (4, 0.9, 3), (2, 0.99, 1)],
)
def test_no_more_than_their_share_is_ejected_and_never_the_last(count, share, most) -> None:
    all_of_them = addresses(count)
    ejector = Ejector("u", Ejection(failures=2, share=share), all_of_them)
    ejected = [fail(ejector, address, 0.0, 2) for address in all_of_them]
    assert sum(ejected) == most
    assert sum(address.state == "ejected" for address in all_of_them) == most


def test_those_that_are_down_count_against_the_share() -> None:
    one, two, three, four = addresses(4)
    ejector = Ejector("u", Ejection(failures=1), [one, two, three, four])
    one.healthy = two.healthy = False
    assert not ejector.failed(three, 0.0)
    two.healthy = True
    assert ejector.failed(three, 0.0)


def test_the_back_off_doubles_to_its_longest_and_begins_anew_after_a_good_while() -> None:
    one, two = addresses(2)
    ejector = Ejector("u", Ejection(failures=3, seconds=10, longest=60), [one, two])
    assert not fail(ejector, one, 0.0, 2)
    assert ejector.failed(one, 0.0)
    now, lengths = 0.0, [one.back_off]
    for _ in range(4):
        now += one.back_off
        assert not ejector.returned(one, now - 0.1)
        assert ejector.returned(one, now)
        assert ejector.failed(one, now + 1)  # on probation: one is enough
        now += 1
        lengths.append(one.back_off)
    assert lengths == [10, 20, 40, 60, 60]
    now += 60
    assert ejector.returned(one, now)
    assert ejector.failed(one, now + 61)
    assert one.back_off == 10


FAILURES = {
    "refused": (UpstreamFailed(reason="upstream_refused"), True),
    "reset": (UpstreamFailed(reason="upstream_reset"), True),
    "bad answer": (UpstreamFailed(reason="upstream_bad_answer"), True),
    "timeout": (UpstreamTimeout(), True),
    "client gone": (ClientGone(), False),
    "client too slow": (RequestTimeout(), False),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_only_what_the_upstream_did_is_a_failure(backend, make, name) -> None:
    failure, counts = FAILURES[name]
    other = await RawBackend().start()
    pool = make(backend.url, other.url, ejection={"failures": 2})
    for _ in range(8):
        connection = (await pool.acquire(**TIMEOUT, fresh=True))[0]
        pool.release(connection, failure)
    assert dict(pool.states())["ejected"] == (1 if counts else 0)
    await other.stop()


@pytest.mark.parametrize(
    ("statuses", "answer", "ejected"),
    [([], 503, 0), ([503], 503, 1), ([503], 502, 0), ([502, 504], 504, 1)],
)
async def test_answers_are_failures_only_where_the_upstream_says_so(
    backend, make, statuses, answer, ejected
) -> None:
    other = await RawBackend(answer=status(answer)).start()
    backend.answer = status(answer)
    pool = make(backend.url, other.url, ejection={"failures": 2, "statuses": statuses})
    for _ in range(8):
        await exchange(pool, (await pool.acquire(**TIMEOUT))[0])
    assert dict(pool.states())["ejected"] == ejected
    await other.stop()


async def test_a_success_in_between_begins_the_count_anew(backend, make) -> None:
    pool = make(backend.url, "http://127.0.0.1:1", ejection={"failures": 3})
    address = pool._addresses[0]
    for failure in (UpstreamTimeout(), UpstreamTimeout(), None, UpstreamTimeout()):
        pool._judge(address, 200 if failure is None else 0, failure)
    assert (address.failures, address.state) == (1, "up")


async def test_an_ejected_address_gets_nothing_until_its_time_is_over(backend, make) -> None:
    dead = await RawBackend().start()
    await dead.stop()
    pool = make(backend.url, dead.url, ejection={"failures": 2, "seconds": 7})
    while dict(pool.states())["ejected"] == 0:  # no request fails: the other is tried
        await exchange(pool, (await pool.acquire(**TIMEOUT))[0])
    spent = pool.budget.spent
    assert spent == 2
    for _ in range(20):
        await exchange(pool, (await pool.acquire(**TIMEOUT, fresh=True))[0])
    assert pool.budget.spent == spent
    now = asyncio.get_running_loop().time()
    pool.sweep(now + 6)
    assert dict(pool.states())["ejected"] == 1
    pool.sweep(now + 8)
    assert dict(pool.states())["ejected"] == 0


async def test_a_single_address_is_never_ejected_whatever_fails(backend, make) -> None:
    pool = make(backend.url, ejection={"failures": 1})
    for _ in range(20):
        connection = (await pool.acquire(**TIMEOUT))[0]
        failure: GatewayError = UpstreamFailed()
        pool.release(connection, failure)
    assert dict(pool.states()) == {"up": 1, "down": 0, "ejected": 0}

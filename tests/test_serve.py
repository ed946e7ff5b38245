"""The gateway as operators run it: processes, signals, ports, the shipped files, a real Redis.

What crosses a process is shown here; what a request is answered is shown in test_contract.py. The
backend runs in a thread of its own, so that a test may simply wait.
"""

import asyncio
import http.client
import json
import os
import re
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from backend import RawBackend, Received, backend_in_thread
from gateway_process import GatewayProcess, is_alive, until
from harness import route, upstream
from redis_process import RedisProcess, free_port

from gateway.store.keys import new_key

ROOT = Path(__file__).parents[1]
SHIPPED_SETTINGS, SHIPPED_ROUTES = ROOT / "config/gateway.yaml", ROOT / "routes.yaml"
KLINES, STOCK = "/fapi/v1/klines?symbol=BTCUSDT", "/stock/v1/klines?symbol=AAPL"
LIMITED = '{"detail": "请求过于频繁。每个 IP 每分钟最多允许 1000 次请求。"}'
BLOCKED = '{"detail": "IP 127.0.0.1 已被暂时封锁。请求过于频繁,请稍后再试。"}'
SPREAD = 40  # connections, so that each of two workers gets some but for one time in 2^39

Start = Callable[..., GatewayProcess]


@pytest.fixture
def backend() -> Iterator[RawBackend]:
    with backend_in_thread() as running:
        yield running


@pytest.fixture
def shipped(backend: RawBackend, tmp_path: Path) -> Iterator[Start]:
    """Starts a gateway on the shipped files; only ports, targets and the store are the test's."""
    text = SHIPPED_ROUTES.read_text()
    for port in (9001, 9002):
        assert f"http://127.0.0.1:{port}" in text
        text = text.replace(f"http://127.0.0.1:{port}", backend.url)
    routes = tmp_path / "routes.yaml"
    routes.write_text(text)
    started: list[GatewayProcess] = []

    def start(url: str, workers: int = 1, **environ: str) -> GatewayProcess:
        environ |= {"GATEWAY_STORE__URL": url, "GATEWAY_LISTEN__WORKERS": str(workers)}
        folder = tmp_path / f"gateway-{len(started)}"
        gateway = GatewayProcess(folder, config=SHIPPED_SETTINGS, routes=routes, environ=environ)
        started.append(gateway)
        gateway.start(workers)
        return gateway

    yield start
    for gateway in started:
        gateway.__exit__()


Reply = tuple[int, dict[str, str], str]


def fetch(
    gateway: GatewayProcess, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> Reply:
    """One request on a connection of its own: status, headers (lower-case names), body."""
    with closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)) as connection:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, fields, answer.read().decode()


def statuses(gateway: GatewayProcess, path: str, key: str | None = None) -> set[int]:
    """What comes back over so many connections that every worker is asked."""
    headers = None if key is None else {"X-Primit-API-Key": key}
    return {fetch(gateway, path, headers)[0] for _ in range(SPREAD)}


def at_once(gateways: list[GatewayProcess], requests: int) -> Counter[tuple[int, str]]:
    """As many requests as that, evenly to all gateways, all begun before any has its answer."""

    async def one(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
        async with session.get(url + KLINES) as answer:
            return answer.status, await answer.text()

    async def all_of_them() -> Counter[tuple[int, str]]:
        connector = aiohttp.TCPConnector(limit=300)
        async with aiohttp.ClientSession(connector=connector) as session:
            urls = [gateways[at % len(gateways)].url for at in range(requests)]
            return Counter(await asyncio.gather(*(one(session, url) for url in urls)))

    return asyncio.run(all_of_them())


# The limit, over processes.


@pytest.mark.parametrize("gateways", [1, 2])
def test_of_1200_requests_at_once_exactly_1000_pass(
    shipped: Start, redis_url: str, gateways: int
) -> None:
    running = [shipped(redis_url, workers=2) for _ in range(gateways)]
    answers = at_once(running, 1200)
    assert sum(count for (status, _), count in answers.items() if status == 200) == 1000
    assert sum(count for (status, _), count in answers.items() if status == 429) == 200
    assert answers[429, LIMITED] >= 1
    assert answers[429, LIMITED] + answers[429, BLOCKED] == 200
    for gateway in running:
        for path in (KLINES, "/nowhere"):
            status, headers, body = fetch(gateway, path)
            assert (status, body) == (429, BLOCKED)
            # The next minute it is still blocked, and most of an hour after that.
            assert 3500 < int(headers["retry-after"]) <= 3600
        assert fetch(gateway, "/health")[0] == 200


def test_a_blocked_address_is_listed_and_let_in_again(shipped: Start, redis_url: str) -> None:
    gateway = shipped(redis_url, workers=2, GATEWAY_RATE_LIMIT__REQUESTS="5")
    assert gateway.result("ips", "list") == []
    assert [fetch(gateway, KLINES)[0] for _ in range(7)] == [200] * 5 + [429] * 2
    (blocked,) = gateway.result("ips", "list")
    assert blocked["ip"] == "127.0.0.1"
    gateway.result("ips", "unblock", "127.0.0.1")
    assert [fetch(gateway, KLINES)[0] for _ in range(5)] == [200] * 5
    assert gateway.result("ips", "list") == []
    again = gateway.command("ips", "unblock", "127.0.0.1")
    assert again.returncode == 1
    assert "not blocked" in again.stderr


# Redis, there and away.


def issue(gateway: GatewayProcess, user: int = 42) -> tuple[str, str]:
    """A new key and its id."""
    issued = gateway.result("keys", "issue", "--user", str(user), "--name", "laptop")
    return issued["key"], issued["id"]


def give_plan(gateway: GatewayProcess, user: int = 42) -> None:
    words = ("--user", str(user), "--plan", "standard", "--until", "2999-01-01")
    gateway.result("plans", "set", *words)


def test_without_redis_it_goes_on_and_with_redis_it_is_as_before(
    shipped: Start, redis_process: RedisProcess
) -> None:
    gateway = shipped(redis_process.url, workers=2)
    key, key_id = issue(gateway)
    give_plan(gateway)
    assert statuses(gateway, STOCK, key) == {200}
    assert gateway.metric("gateway_store_up") == 1

    redis_process.stop()
    until(lambda: gateway.readyz()[1]["store"]["available"] is False, "one notices")
    until(lambda: gateway.metric("gateway_store_up") == 0, "the metric says so")
    assert gateway.readyz()[0] == 200
    assert statuses(gateway, KLINES) == {200}
    assert statuses(gateway, STOCK, key) == {200}
    assert statuses(gateway, STOCK, new_key()) == {503}
    status, headers, body = fetch(gateway, STOCK, {"X-Primit-API-Key": new_key()})
    assert (status, json.loads(body)) == (503, {"detail": "Service Unavailable"})
    assert int(headers["retry-after"]) >= 1
    told = gateway.command("keys", "revoke", key_id)
    assert told.returncode == 1
    assert "start Redis" in told.stderr

    redis_process.start()
    until(lambda: gateway.metric("gateway_store_up") == 1, "both workers are back")
    assert gateway.readyz()[1]["store"]["available"] is True
    assert statuses(gateway, STOCK, key) == {200}
    assert statuses(gateway, STOCK, new_key()) == {401}
    gateway.result("keys", "revoke", key_id)
    until(lambda: statuses(gateway, STOCK, key) == {401}, "the key is revoked everywhere")


def test_it_starts_without_redis_and_finds_it_later(
    shipped: Start, redis_process: RedisProcess
) -> None:
    redis_process.stop()
    gateway = shipped(redis_process.url)
    assert gateway.readyz() == (
        200,
        {"ready": True, "reason": None, "store": {"available": False, "kind": "redis"}},
    )
    assert "going on without it" in gateway.stderr()
    assert fetch(gateway, KLINES)[0] == 200
    assert fetch(gateway, STOCK, {"X-Primit-API-Key": new_key()})[0] == 503

    redis_process.start()
    until(lambda: gateway.readyz()[1]["store"]["available"], "it finds Redis")
    key, _ = issue(gateway)
    give_plan(gateway)
    assert fetch(gateway, STOCK, {"X-Primit-API-Key": key})[0] == 200


# Commands, beside a running gateway.


def test_keys_and_plans_change_what_every_worker_says(shipped: Start, redis_url: str) -> None:
    gateway = shipped(redis_url, workers=2)
    key, key_id = issue(gateway)
    assert statuses(gateway, STOCK, key) == {403}
    give_plan(gateway)
    until(lambda: statuses(gateway, STOCK, key) == {200}, "the plan opens")
    gateway.result("keys", "revoke", key_id)
    until(lambda: statuses(gateway, STOCK, key) == {401}, "the key is revoked everywhere")
    assert {line["key_id"] for line in gateway.access_log() if line["status"] == 200} == {key_id}


# Workers.


def test_a_killed_worker_is_replaced_and_counts_stay_exact(shipped: Start, redis_url: str) -> None:
    gateway = shipped(redis_url, workers=2)
    labels = {"route": "binance-mirror", "method": "GET", "status": "2xx"}

    def counted() -> float:
        return gateway.metric("gateway_requests_total", **labels)

    for _ in range(100):
        assert fetch(gateway, KLINES)[0] == 200
    until(lambda: counted() == 100, "all are counted")
    until(lambda: len(gateway.access_log()) == 100, "all are logged")

    before = gateway.workers()
    os.kill(before[0], signal.SIGKILL)
    # The connections that wait at its socket are its successor's; nobody is turned away.
    for _ in range(SPREAD):
        assert fetch(gateway, KLINES)[0] == 200
        assert counted() >= 100
    after = until(lambda: (now := gateway.workers())[0] != before[0] and now, "another has come")
    assert after[1] == before[1]
    assert not is_alive(before[0])
    for _ in range(SPREAD):
        assert fetch(gateway, KLINES)[0] == 200
    until(lambda: counted() == 100 + 2 * SPREAD, "all are counted")
    assert gateway.readyz()[0] == 200
    gateway.terminate()
    assert gateway.wait() == 0
    assert len(gateway.access_log()) == 100 + 2 * SPREAD


def test_workers_end_when_the_arbiter_is_killed(shipped: Start, redis_url: str) -> None:
    gateway = shipped(redis_url, workers=2)
    workers = gateway.workers().values()
    os.kill(gateway.pid, signal.SIGKILL)
    gateway.wait()
    until(lambda: not any(map(is_alive, workers)), "the workers end")
    assert is_refused(gateway)


def is_refused(gateway: GatewayProcess) -> bool:
    """Does a new connection come to nothing, at once?"""
    try:
        socket.create_connection(("127.0.0.1", gateway.port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


# The end.


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_drains_before_it_ends(
    shipped: Start, backend: RawBackend, redis_url: str, how: signal.Signals
) -> None:
    asked, answer = threading.Event(), threading.Event()

    async def hold(
        _: RawBackend, received: Received, _reader: Any, writer: asyncio.StreamWriter
    ) -> None:
        if b"/slow" in received.line:
            asked.set()
            await asyncio.to_thread(answer.wait, 20)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole")

    backend.script = hold
    grace = {"GATEWAY_SHUTDOWN__GRACE": "1"}
    gateway = shipped(redis_url, workers=2, **grace)
    replies: list[Reply] = []
    client = threading.Thread(target=lambda: replies.append(fetch(gateway, "/fapi/v1/slow")))
    client.start()
    try:
        assert asked.wait(10)
        gateway.process.send_signal(how)
        # In the time of grace it says that it goes, and still serves.
        _, state = until(lambda: (got := gateway.readyz())[0] == 503 and got, "it isn't ready")
        assert (state["ready"], state["reason"]) == (False, "draining")
        assert fetch(gateway, KLINES)[0] == 200
        until(lambda: is_refused(gateway), "new connections are refused")
        assert gateway.process.poll() is None
        assert replies == []
    finally:
        answer.set()
        client.join()
    ((status, headers, body),) = replies
    assert (status, body, headers["connection"]) == (200, "whole", "close")
    assert gateway.wait() == 0
    until(lambda: not any(map(is_alive, gateway.workers().values())), "no worker is left")
    assert {line["status"] for line in gateway.access_log()} == {200}
    # Its folder is also the one for temporary files: nothing stays behind there.
    assert {path.name for path in gateway.folder.iterdir()} == {"stdout", "stderr"}


def test_a_request_that_outlasts_the_deadline_is_cut(
    shipped: Start, backend: RawBackend, redis_url: str
) -> None:
    asked = threading.Event()

    async def never(
        _: RawBackend,
        received: Received,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if b"/slow" not in received.line:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return
        asked.set()
        await reader.read()

    backend.script = never
    gateway = shipped(redis_url, GATEWAY_SHUTDOWN__DEADLINE="1")
    outcome: list[Any] = []

    def wait_for_it() -> None:
        try:
            outcome.append(fetch(gateway, "/fapi/v1/slow"))
        except (OSError, http.client.HTTPException) as error:
            outcome.append(error)

    client = threading.Thread(target=wait_for_it)
    client.start()
    assert asked.wait(10)
    gateway.terminate()
    assert gateway.wait() == 0
    client.join()
    assert isinstance(outcome[0], (OSError, http.client.HTTPException))
    assert [line["status"] for line in gateway.access_log()] == [499]


# What keeps it from starting.


@pytest.fixture
def unstarted(tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """A gateway that a test launches by itself, on a route table of one route."""
    made: list[GatewayProcess] = []

    def make(**options: Any) -> GatewayProcess:
        options.setdefault(
            "routes",
            {
                "version": 1,
                "upstreams": upstream(f"http://127.0.0.1:{free_port()}"),
                "routes": [route()],
            },
        )
        made.append(GatewayProcess(tmp_path / f"gateway-{len(made)}", **options))
        return made[-1]

    yield make
    for gateway in made:
        gateway.__exit__()


@pytest.mark.parametrize("listener", ["LISTEN", "ADMIN"])
def test_a_port_in_use_is_named(unstarted: Start, listener: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        gateway = unstarted(
            environ={
                f"GATEWAY_{listener}__PORT": str(port),
                f"GATEWAY_{listener}__HOST": "127.0.0.1",
            }
        )
        gateway.launch()
        assert gateway.wait() == 1
    (complaint,) = (line for line in gateway.stderr().splitlines() if '"error"' in line)
    assert f"127.0.0.1:{port}" in json.loads(complaint)["message"]
    assert "in use" in json.loads(complaint)["message"]
    assert "Traceback" not in gateway.stderr()


def test_a_second_gateway_does_not_share_the_port_of_the_first(unstarted: Start) -> None:
    first = unstarted()
    first.start()
    second = unstarted(environ={"GATEWAY_LISTEN__PORT": str(first.port)})
    second.launch()
    assert second.wait() == 1
    assert f":{first.port}" in second.stderr()
    assert first.readyz()[0] == 200


def test_a_broken_route_file_is_told_with_its_place(unstarted: Start, tmp_path: Path) -> None:
    routes = tmp_path / "broken.yaml"
    routes.write_text(
        SHIPPED_ROUTES.read_text().replace("upstream: strategy}", "upsteam: strategy}")
    )
    gateway = unstarted(routes=routes)
    gateway.launch()
    assert gateway.wait() == 1
    told = gateway.stderr().splitlines()
    place = re.compile(re.escape(str(routes)) + r":[1-9]\d*:[1-9]\d*: ").match
    assert all(map(place, told))
    assert any("upsteam" in line and "did you mean" in line for line in told)
    assert gateway.stdout() == ""


def test_the_embedded_store_says_so_and_keeps_to_one_process(unstarted: Start) -> None:
    gateway = unstarted()
    gateway.start()
    assert "the store is embedded (memory://)" in gateway.stderr()
    assert gateway.readyz()[1]["store"] == {"available": True, "kind": "memory"}
    two = unstarted(environ={"GATEWAY_LISTEN__WORKERS": "2"})
    two.launch()
    assert two.wait() == 1
    assert "workers" in two.stderr()
    assert "memory://" in two.stderr()

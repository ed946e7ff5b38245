"""Backends and workers that die while requests run: whose requests fail, and whose are sent again.

A kept-alive connection that dies before the first byte of an answer is nobody's fault: what is
safe to repeat is repeated, and a POST is never sent twice (RFC 9110 §9.2.2).
"""

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from backend_process import BackendProcess, say
from faulty_stage import NO_LIMIT, Stage
from gateway_process import GatewayProcess, until
from harness import route, upstream
from raw_client import RawClient

CONNECTIONS = 8
RESTARTS = 3


class Load:
    """Requests on several connections, one after the other on each, until told to stop.

    `outcomes` has the status of each request by its name; 0 when no whole answer came.
    """

    def __init__(self, stage: Stage, method: str) -> None:
        self._stage = stage
        self._method = method
        self._body = b"1" if method == "POST" else b""
        self._stop = threading.Event()
        self.outcomes: dict[str, int] = {}
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(CONNECTIONS)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        client, asked = None, 0
        while not self._stop.is_set():
            asked += 1
            name = f"{self._method}-{id(self)}-{number}-{asked}"
            try:
                client = client or self._stage.client()
                client.request(f"/{name}", method=self._method, name=name, body=self._body)
                seen = client.answer()
                status = seen.status if seen.head and seen.is_whole else 0
            except ConnectionError:
                status = 0
            self.outcomes[name] = status
            if client is not None and (status == 0 or b"\r\nConnection: close" in seen.head):
                client.socket.close()
                client = None
        if client is not None:
            client.socket.close()

    def goes_on(self) -> None:
        """Return when more requests have succeeded, several on each connection."""
        before = self.succeeded
        until(lambda: self.succeeded >= before + 4 * CONNECTIONS, "requests succeed")

    @property
    def succeeded(self) -> int:
        return list(self.outcomes.values()).count(200)


def test_no_post_reaches_a_restarting_backend_twice(stage: Stage) -> None:
    with Load(stage, "POST") as load:
        for _ in range(RESTARTS):
            load.goes_on()
            stage.backend.restart()
        load.goes_on()
    assert set(load.outcomes.values()) <= {200, 502}
    sent = sent_to(stage.backend)
    for name, status in load.outcomes.items():
        assert sent[f"/{name}"] <= 1, (name, status)
        assert sent[f"/{name}"] == 1 or status == 502, (name, status)


def test_no_get_fails_when_a_backend_drops_its_connections_under_load(stage: Stage) -> None:
    with Load(stage, "GET") as load:
        for _ in range(RESTARTS):
            load.goes_on()
            drop_connections(stage)
        load.goes_on()
    assert set(load.outcomes.values()) == {200}


def test_no_post_is_sent_twice_when_a_backend_drops_its_connections_under_load(
    stage: Stage,
) -> None:
    with Load(stage, "POST") as load:
        for _ in range(RESTARTS):
            load.goes_on()
            drop_connections(stage)
        load.goes_on()
    assert set(load.outcomes.values()) <= {200, 502}
    assert max(sent_to(stage.backend).values()) == 1


def drop_connections(stage: Stage) -> None:
    with RawClient(stage.backend.port) as control:
        control.request("/control?drop&ok", method="OPTIONS")
        assert control.answer().status == 200


def sent_to(backend: BackendProcess) -> Counter[str]:
    """How often each target of a load's POSTs came."""
    return Counter(
        event["target"] for event in backend.events("request") if event["method"] == "POST"
    )


def test_no_get_fails_for_a_kept_alive_connection_that_died(stage: Stage) -> None:
    for steps in (["reset"], ["fin"]):
        for _ in range(20):
            stage.keep_one_alive()
            target = stage.target("once", *steps)
            _, seen = stage.ask(target)
            assert (seen.status, seen.body) == (200, b"ok")
            assert len(stage.backend.events("request", target)) == 2


def test_a_post_on_a_kept_alive_connection_that_died_is_a_502(stage: Stage) -> None:
    stage.keep_one_alive()
    target = stage.target("once", "body", "reset")
    name, seen = stage.ask(target, method="POST", body=b"1")
    assert seen.status == 502
    assert stage.logged(name) == (502, "upstream_reset", "upstream")
    assert len(stage.backend.events("request", target)) == 1


def test_a_get_whose_answer_had_begun_is_not_sent_again(stage: Stage) -> None:
    stage.keep_one_alive()
    target = stage.target("once", say(b"HTTP/1.1 200 OK\r\nContent-Le"), "fin")
    _, seen = stage.ask(target)
    assert seen.status == 502
    assert len(stage.backend.events("request", target)) == 1


def test_of_two_targets_a_dead_one_costs_no_more_than_a_few_requests(tmp_path: Path) -> None:
    backends = [BackendProcess(tmp_path / f"{number}.log") for number in range(2)]
    for backend in backends:
        backend.start()
    table = {
        "version": 1,
        "upstreams": {"backend": {"targets": [backend.url for backend in backends]}},
        "routes": [route()],
    }
    try:
        with GatewayProcess(tmp_path / "gateway", routes=table, config=NO_LIMIT) as gateway:
            gateway.start()
            stage = Stage(gateway, backends[1])
            assert stage.is_well()
            backends[0].kill()
            statuses = [stage.ask("/x")[1].status for _ in range(100)]
    finally:
        for backend in backends:
            backend.kill()
    assert statuses.count(200) >= 95
    assert statuses[50:] == [200] * 50


@pytest.fixture
def two_workers(redis_url: str, tmp_path: Path) -> Iterator[Stage]:
    backend = BackendProcess(tmp_path / "backend.log")
    backend.start()
    config = {**NO_LIMIT, "listen": {"workers": 2}, "store": {"url": redis_url}}
    table = {"version": 1, "upstreams": upstream(backend.url), "routes": [route()]}
    with GatewayProcess(tmp_path / "gateway", routes=table, config=config) as gateway:
        gateway.start(workers=2)
        yield Stage(gateway, backend)
    backend.kill()


def test_a_killed_worker_costs_its_own_requests_alone_and_is_replaced(two_workers: Stage) -> None:
    stage = two_workers
    gateway = stage.gateway
    target = stage.target("body", "sleep=1500", "ok")
    waiting = [stage.client() for _ in range(40)]
    for client in waiting:
        client.request(target)
    until(lambda: len(stage.backend.events("request", target)) == len(waiting), "all are asked")
    with Load(stage, "GET") as load:
        load.goes_on()
        before = gateway.workers()
        os.kill(before[0], signal.SIGKILL)
        after = until(lambda: (now := gateway.workers())[0] != before[0] and now, "it is replaced")
        load.goes_on()
    assert after[1] == before[1]
    # Each connection was the dead worker's or the other's; what the other had goes on to its end.
    seen = []
    for client in waiting:
        with client:
            seen.append(client.answer())
    lost = [one for one in seen if not one.head]
    assert 0 < len(lost) < len(waiting)
    assert all(one.status == 200 and one.body == b"ok" for one in seen if one.head)
    # A connection has one request at a time, so at most one of each is lost, and none is refused.
    assert set(load.outcomes.values()) <= {200, 0}
    assert list(load.outcomes.values()).count(0) <= CONNECTIONS
    until(lambda: all(pid for pid in gateway.workers().values()), "both run")
    assert {stage.ask("/x")[1].status for _ in range(40)} == {200}
    until(stage.is_quiet, "no connection is left")

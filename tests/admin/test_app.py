import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from gateway.admin import arguments
from gateway.admin.app import MAX_BODY_BYTES, AdminState, _on_loopback, make_admin_app
from gateway.admin.operations import OPERATIONS, BadArgument, Operation, Refused
from gateway.errors import StoreUnavailable
from gateway.observe.metrics import Metrics

TOKEN = "a-token-for-operators"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
CANARY = "canaryCANARY7c1f"


@dataclass
class Away:
    available: bool = True


@dataclass
class Work:
    """What stands behind an operation: notes its calls, or fails."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    error: Exception | None = None

    async def __call__(self, context: object, *, ip: str = "") -> Any:
        assert context == "context"
        if self.error is not None:
            raise self.error
        self.calls.append({"ip": ip})
        return {"ip": ip, "name": "简"}


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def operations(work) -> Mapping[str, Operation]:
    return {
        "ips.list": Operation(work, changes=False, optional={"ip": arguments.ip}),
        "ips.unblock": Operation(work, changes=True, optional={"ip": arguments.ip}),
    }


@pytest.fixture
def state() -> AdminState:
    return AdminState(
        metrics=Metrics(),
        store=Away(),
        store_kind="redis",
        context="context",
        token=TOKEN,
        table_loaded=True,
    )


@pytest.fixture
async def client(aiohttp_client, state, operations):
    return await aiohttp_client(make_admin_app(state, operations))


async def test_a_living_process_is_healthy_even_before_it_is_ready(client, state):
    state.table_loaded = False

    answer = await client.get("/healthz")

    assert answer.status == 200
    assert await answer.json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("table_loaded", "draining", "available", "status", "reason"),
    [
        (True, False, True, 200, None),
        (True, False, False, 200, None),  # the gateway goes on without Redis
        (False, False, True, 503, "no route table yet"),
        (True, True, True, 503, "draining"),
        (False, True, False, 503, "draining"),
    ],
)
async def test_a_worker_is_ready_with_a_table_until_it_drains(
    client, state, table_loaded, draining, available, status, reason
):
    state.table_loaded, state.draining = table_loaded, draining
    state.store.available = available

    answer = await client.get("/readyz")

    assert answer.status == status
    assert await answer.json() == {
        "ready": status == 200,
        "reason": reason,
        "store": {"available": available, "kind": "redis"},
    }


async def test_metrics_are_in_prometheus_s_text_format_without_a_token(client):
    answer = await client.get("/metrics")

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "gateway_build_info{" in await answer.text()


async def test_a_scrape_brings_what_was_counted_since_the_last_flush(client, state):
    state.metrics.for_route("klines", "public", None)._requests[2] += 1

    text = await (await client.get("/metrics")).text()

    assert 'gateway_requests_total{method="GET",route="klines",status="2xx"} 1.0' in text


async def test_every_answer_forbids_caching_and_sniffing(client):
    for path in ("/healthz", "/readyz", "/metrics", "/absent"):
        answer = await client.get(path)
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Server"] == "primit-gateway"


@pytest.mark.parametrize(
    ("configured", "sent", "operation", "status"),
    [
        (TOKEN, BEARER, "ips.unblock", 200),
        (TOKEN, BEARER, "ips.list", 200),
        (TOKEN, {"Authorization": f"bearer  {TOKEN}"}, "ips.list", 200),
        (TOKEN, {}, "ips.unblock", 401),
        (TOKEN, {}, "ips.list", 401),
        (TOKEN, {}, "absent", 401),
        (TOKEN, {"Authorization": f"Bearer {TOKEN}x"}, "ips.list", 401),
        (TOKEN, {"Authorization": f"Bearer {TOKEN[:-1]}"}, "ips.list", 401),
        (TOKEN, {"Authorization": f"Basic {TOKEN}"}, "ips.list", 401),
        (TOKEN, {"Authorization": TOKEN}, "ips.list", 401),
        (TOKEN, {"Authorization": "Bearer"}, "ips.list", 401),
        (TOKEN, {"Authorization": "Bearer \xfc"}, "ips.list", 401),
        (TOKEN, [*BEARER.items(), *BEARER.items()], "ips.list", 401),
        (None, {}, "ips.list", 200),
        (None, {}, "ips.unblock", 403),
        (None, BEARER, "ips.unblock", 403),
        (None, {"Authorization": "Bearer "}, "ips.unblock", 403),
        ("", {"Authorization": "Bearer "}, "ips.unblock", 403),
        (None, {}, "absent", 404),
        (TOKEN, BEARER, "absent", 404),
    ],
)
async def test_operations_ask_for_the_token(
    client, state, work, configured, sent, operation, status
):
    state.token = configured

    answer = await client.post(f"/api/{operation}", json={"ip": "192.0.2.7"}, headers=sent)

    assert answer.status == status
    body = await answer.json()
    if status == 200:
        assert body == {"ip": "192.0.2.7", "name": "简"}
        assert work.calls == [{"ip": "192.0.2.7"}]
    else:
        assert list(body) == ["detail"]
        assert work.calls == []
    if status == 401:
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="primit-admin"'
    if status == 403:
        assert "admin.token" in body["detail"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:9901", 200),
        ("[::1]:9901", 200),
        ("localhost:9901", 200),
        ("LOCALHOST", 200),
        ("192.0.2.1", 200),
        ("attacker.example", 403),
        ("127.0.0.1.attacker.example", 403),
        ("localhost.attacker.example:9901", 403),
        ("localhost@attacker.example", 403),
        ("127.0.0.1:x", 403),
        ("", 403),
    ],
)
@pytest.mark.parametrize("configured", [TOKEN, None])
async def test_a_page_whose_name_points_here_is_refused(client, state, configured, host, status):
    state.token = configured

    answer = await client.post("/api/ips.list", headers=BEARER | {"Host": host})

    assert answer.status == status


@pytest.mark.parametrize(("configured", "status"), [(TOKEN, 200), (None, 403)])
async def test_on_a_network_the_token_takes_the_place_of_the_host_check(
    client, state, monkeypatch, configured, status
):
    monkeypatch.setattr("gateway.admin.app._on_loopback", lambda request: False)
    state.token = configured

    answer = await client.post("/api/ips.list", headers=BEARER | {"Host": "gateway.internal:9901"})

    assert answer.status == status


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        (("127.0.0.1", 9901), True),
        (("127.8.8.8", 9901), True),
        (("::1", 9901, 0, 0), True),
        (("::ffff:127.0.0.1", 9901, 0, 0), True),
        (("192.0.2.1", 9901), False),
        (("fe80::1%eth0", 9901, 0, 2), False),
    ],
)
def test_the_address_a_connection_came_in_on_tells_loopback(address, loopback):
    class Transport:
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return address if name == "sockname" else default

    assert _on_loopback(make_mocked_request("GET", "/", transport=Transport())) is loopback


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "", 200),
        (b"", "text/plain", 200),
        (b"{}", "application/json", 200),
        (b'{"ip": "192.0.2.7"}', "application/json; charset=utf-8", 200),
        (b'{"ip": "x"}', "application/x-www-form-urlencoded", 415),
        (b'{"ip": "x"}', "text/plain", 415),
        (b"[]", "application/json", 422),
        (b'"canaryCANARY7c1f"', "application/json", 422),
        (b"{canaryCANARY7c1f", "application/json", 422),
        (b"\xff", "application/json", 422),
        (b"[" * 100_000, "application/json", 422),
        (b'{"canaryCANARY7c1f": 1}', "application/json", 422),
        (b'{"context": 1, "self": 2}', "application/json", 422),
        (b'{"ip": "canaryCANARY7c1f"}', "application/json", 422),
        (b'{"ip": 5}', "application/json", 422),
        (b" " * (MAX_BODY_BYTES + 1), "application/json", 413),
    ],
)
async def test_arguments_are_a_bounded_json_object_and_never_echoed(
    client, body, content_type, status
):
    headers = BEARER | ({"Content-Type": content_type} if content_type else {})

    answer = await client.post("/api/ips.unblock", data=body, headers=headers)

    assert answer.status == status
    assert CANARY not in await answer.text()
    if status != 200:
        assert list(json.loads(await answer.text())) == ["detail"]


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (Refused("There is no such block."), 409, "There is no such block."),
        (BadArgument("ip is missing"), 422, "ip is missing"),
        (StoreUnavailable(), 503, "Service Unavailable"),
        (RuntimeError(CANARY), 500, "Internal Server Error"),
        (TypeError(CANARY), 500, "Internal Server Error"),
    ],
)
async def test_an_operation_that_fails_says_whether_it_was_refused(
    client, work, error, status, detail
):
    work.error = error

    answer = await client.post("/api/ips.unblock", headers=BEARER)

    assert answer.status == status
    assert await answer.json() == {"detail": detail}
    assert ("Retry-After" in answer.headers) == (status == 503)


async def test_what_changes_something_is_noted_without_its_arguments(client, caplog):
    with caplog.at_level(logging.INFO, "gateway.admin"):
        await client.post("/api/ips.unblock", json={"ip": "192.0.2.7"}, headers=BEARER)
        await client.post("/api/ips.list", headers=BEARER)

    assert [record.getMessage() for record in caplog.records] == ["ips.unblock done"]


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/", 404, None),
        ("GET", "/api/ips.unblock", 405, "POST"),
        ("DELETE", "/metrics", 405, "GET,HEAD"),
    ],
)
async def test_errors_of_the_listener_are_json_too(client, method, path, status, allow):
    answer = await client.request(method, path)

    assert answer.status == status
    assert list(await answer.json()) == ["detail"]
    assert answer.headers.get("Allow") == allow


async def test_every_operation_that_can_change_something_is_closed_without_a_token(
    aiohttp_client, state
):
    state.token = None
    client = await aiohttp_client(make_admin_app(state))
    changing = [name for name, operation in OPERATIONS.items() if operation.changes]
    assert "keys.issue" in changing

    answers = {name: (await client.post(f"/api/{name}")).status for name in changing}

    assert set(answers.values()) == {403}


async def test_scrapes_at_once_are_all_whole(client):
    answers = await asyncio.gather(*(client.get("/metrics") for _ in range(20)))

    assert {answer.status for answer in answers} == {200}

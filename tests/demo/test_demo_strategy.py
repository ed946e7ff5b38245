"""The demo strategy service: strategies kept in bounded memory, credentials told by last four."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from gateway.demo.strategy import MAX_STRATEGIES, last_four, strategy_application

NOW = datetime(2026, 4, 29, 14, 0, tzinfo=timezone(timedelta(hours=2)))
BREAKOUT = {"name": "Breakout", "symbol": "BTCUSDT", "parameters": {"window": 20}}
PAIR = {"api_key": "demo-api-key-ABCD", "api_secret": "demo-api-secret-WXYZ"}
SEEN = {"api_key": "…ABCD", "api_secret": "…WXYZ"}


@pytest.fixture
async def strategy(aiohttp_client):
    return await aiohttp_client(strategy_application(lambda: NOW))


async def test_a_strategy_is_created_shown_changed_and_deleted(strategy):
    created = await strategy.post("/strategies", json=BREAKOUT)
    assert created.status == 201
    body = await created.json()
    assert body == {
        "id": 1,
        "name": "Breakout",
        "symbol": "BTCUSDT",
        "interval": "1h",
        "description": "",
        "parameters": {"window": 20},
        "is_active": False,
        "created_at": "2026-04-29T12:00:00",
        "updated_at": "2026-04-29T12:00:00",
    }
    assert await (await strategy.get("/strategies/1")).json() == body
    changed = await strategy.put("/strategies/1", json={"is_active": True})
    assert await changed.json() == body | {"is_active": True}
    assert await (await strategy.get("/strategies")).json() == [body | {"is_active": True}]
    deleted = await strategy.delete("/strategies/1")
    assert (deleted.status, await deleted.read()) == (204, b"")
    gone = await strategy.get("/strategies/1")
    assert (gone.status, await gone.json()) == (404, {"detail": "Strategy not found"})


async def test_at_most_a_thousand_strategies_are_kept(strategy):
    for _ in range(MAX_STRATEGIES):
        assert (await strategy.post("/strategies", json=BREAKOUT)).status == 201
    refused = await strategy.post("/strategies", json=BREAKOUT)
    assert refused.status == 409
    assert isinstance((await refused.json())["detail"], str)
    await strategy.delete("/strategies/7")
    assert (await strategy.post("/strategies", json=BREAKOUT)).status == 201
    assert len(await (await strategy.get("/strategies?skip=995")).json()) == 5


@pytest.mark.parametrize(
    ("body", "places"),
    [
        (b"", [["body"]]),
        (b"{", [["body"]]),
        (b"\xff", [["body"]]),
        (b"[" * 100_000, [["body"]]),
        (b"[]", [["body"]]),
        (b"{}", [["body", "name"], ["body", "symbol"]]),
        (b'{"name": 5, "symbol": "BTCUSDT"}', [["body", "name"]]),
        (
            b'{"name": "x", "symbol": "X", "parameters": {"a": "' + b"b" * 5000 + b'"}}',
            [["body", "parameters"]],
        ),
    ],
)
async def test_a_bad_body_is_a_422_in_fastapis_form(strategy, body, places):
    answer = await strategy.post("/strategies", data=body)
    assert answer.status == 422
    problems = (await answer.json())["detail"]
    assert [problem["loc"] for problem in problems] == places
    assert all(set(problem) == {"loc", "msg", "type"} for problem in problems)


async def test_an_id_that_is_no_number_is_a_422(strategy):
    answer = await strategy.get("/strategies/first")
    assert answer.status == 422
    assert (await answer.json())["detail"][0]["loc"] == ["path", "id"]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/orders/auth", {"side": "BUY", "quantity": 0.01}),
        ("/orders/registered", {"side": "SELL", "quantity": 1, "email": "user@example.com"}),
        ("/orders/cancel/auth", {"order_id": 100001}),
        ("/positions/close/auth", {}),
        ("/leverage/auth", {"leverage": 20}),
        ("/margin-type/auth", {"margin_type": "ISOLATED"}),
    ],
)
async def test_trading_tells_the_credentials_it_saw_by_their_last_four(strategy, path, fields):
    answer = await strategy.post(path, json={**PAIR, "symbol": "BTCUSDT", **fields})
    assert answer.status == 200
    body = await answer.json()
    assert body["credentials"] == SEEN
    text = await answer.text()
    assert PAIR["api_key"] not in text
    assert PAIR["api_secret"] not in text

    missing = await strategy.post(path, json={"symbol": "BTCUSDT", **fields})
    assert missing.status == 422
    places = [problem["loc"] for problem in (await missing.json())["detail"]]
    assert places == [["body", "api_key"], ["body", "api_secret"]]


@pytest.mark.parametrize(
    ("secret", "shown"), [("", "…"), ("1234", "…"), ("1234567", "…"), ("12345678", "…5678")]
)
def test_a_short_secret_is_not_shown_at_all(secret, shown):
    assert last_four(secret) == shown


async def test_the_user_is_who_the_headers_say(strategy):
    named = await strategy.get(
        "/users/me", headers={"X-User-Id": "42", "X-User-Email": "user@example.com"}
    )
    assert await named.json() == {"id": 42, "email": "user@example.com"}
    nobody = await strategy.get("/users/me")
    assert nobody.status == 422
    assert (await nobody.json())["detail"][0]["loc"] == ["header", "x-user-id"]


async def test_health_is_in_utc_without_offset(strategy):
    answer = await strategy.get("/health")
    assert await answer.json() == {"status": "healthy", "timestamp": "2026-04-29T12:00:00"}
    assert NOW.astimezone(UTC).hour == 12

"""Limits of routes through whole gateways on a real Redis: per what, how much, what is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from backend import OK, RawBackend
from harness import Running, open_gateway, route, upstream
from redis_process import eventually
from tunnels import agree, echo, opened


@pytest.fixture
async def backend() -> AsyncIterator[RawBackend]:
    running = await RawBackend().start()
    yield running
    await running.stop()


@pytest.fixture
def serve(backend, tmp_path, redis_url):
    """Gateways over one route table, on one Redis."""

    @asynccontextmanager
    async def opened(*routes: dict[str, Any], **settings: Any) -> AsyncIterator["Client"]:
        settings = {"store": {"url": redis_url, "timeout": 2}, **settings}
        table = {"upstreams": upstream(backend.url), "routes": list(routes)}
        async with (
            open_gateway(tmp_path, table, settings) as gateway,
            aiohttp.ClientSession(gateway.url) as session,
        ):
            yield Client(gateway, session)

    return opened


class Client:
    def __init__(self, gateway: Running, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self._session = session

    async def get(self, path: str, **headers: str) -> tuple[int, Any, str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.get(path, headers=named) as answer:
            return answer.status, answer.headers, await answer.text()

    async def statuses(self, path: str, number: int, **headers: str) -> list[int]:
        return [(await self.get(path, **headers))[0] for _ in range(number)]

    async def key(self, user: int, plan: str = "standard") -> str:
        parts = self.gateway.parts
        await parts.plans.set(user, plan)
        return (await parts.keys.issue(user, "a key"))[1]


KLINES = {"auth": "plan_key", "plan": "standard", "name": "klines"}


async def test_each_policy_of_a_request_is_told_with_its_name(serve):
    limits = [
        {"requests": 90, "window": 10},
        {"per": "route", "requests": 500},
        {"per": "user", "requests": 40},
        {"per": "key", "requests": 30},
    ]
    async with serve(route("/klines", rate_limit=limits, **KLINES)) as client:
        status, headers, _ = await client.get("/klines", X_Primit_API_Key=await client.key(42))
        assert status == 200
        assert headers["RateLimit-Policy"].split(", ") == [
            '"ip";q=1000;w=60',
            '"route-klines-ip-10";q=90;w=10',
            '"route-klines-route-60";q=500;w=60',
            '"route-klines-user-60";q=40;w=60',
            '"route-klines-key-60";q=30;w=60',
        ]
        left = [item.split(";")[1] for item in headers["RateLimit"].split(", ")]
        assert left == ["r=999", "r=89", "r=499", "r=39", "r=29"]
        status, headers, _ = await client.get("/klines")
        assert status == 401
        assert headers["RateLimit"].count('"') == 3 * 2, "who calls is not known"


@pytest.mark.parametrize(
    ("per", "detail"),
    [
        ("ip", "请求过于频繁。每个 IP 每分钟最多允许 2 次请求。"),
        ("route", "请求过于频繁。此接口每分钟最多允许 2 次请求。"),
        ("user", "请求过于频繁。每个用户每分钟最多允许 2 次请求。"),
        ("key", "请求过于频繁。每个密钥每分钟最多允许 2 次请求。"),
    ],
)
async def test_a_limit_counts_by_what_it_says_and_blocks_nobody(serve, per, detail):
    limited = route("/klines", rate_limit={"per": per, "requests": 2}, **KLINES)
    free = route("/free", name="free")
    async with serve(limited, free) as client:
        one, other = await client.key(42), await client.key(42)
        third = await client.key(43)
        assert await client.statuses("/klines", 2, X_Primit_API_Key=one) == [200, 200]
        status, headers, body = await client.get("/klines", X_Primit_API_Key=one)
        assert status == 429
        assert detail in body
        assert 58 <= int(headers["Retry-After"]) <= 60
        assert f'"route-klines-{per}-60";r=0;t={headers["Retry-After"]}' in headers["RateLimit"]
        shared = {"ip": 2, "route": 2, "user": 1, "key": 0}[per]
        got = [
            (await client.statuses("/klines", 1, X_Primit_API_Key=key))[0] for key in (other, third)
        ]
        assert got == [429] * shared + [200] * (2 - shared)
        assert await client.statuses("/free", 1) == [200]


async def test_what_an_earlier_policy_counted_stays_and_a_later_one_is_not_asked(serve):
    limits = [{"requests": 3}, {"requests": 2, "window": 5}, {"per": "route", "requests": 9}]
    async with serve(route("/a", name="a", rate_limit=limits)) as client:
        assert await client.statuses("/a", 4) == [200, 200, 429, 429]
        _, headers, _ = await client.get("/a")
        assert [item.split(";")[:2] for item in headers["RateLimit"].split(", ")] == [
            ['"ip"', "r=995"],
            ['"route-a-ip-60"', "r=0"],
        ]
        redis = client.gateway.parts.store.client
        assert await redis.exists("gw:limit:route-a-route-60:{a}")


async def test_who_is_refused_by_its_pattern_costs_no_user_or_key_anything(serve):
    limits = [{"per": "key", "requests": 1}, {"per": "user", "requests": 1}]
    async with serve(route("/klines", rate_limit=limits, **KLINES)) as client:
        key = await client.key(42, "free")
        assert await client.statuses("/klines", 3, X_Primit_API_Key=key) == [403] * 3
        await client.gateway.parts.plans.set(42, "standard")
        assert await client.statuses("/klines", 2, X_Primit_API_Key=key) == [200, 429]


async def test_a_token_s_user_is_limited_over_all_its_tokens(serve):
    limited = route("/me", "app_token", name="me", rate_limit={"per": "user", "requests": 2})
    async with serve(limited) as client:
        parts = client.gateway.parts
        await parts.plans.set(42, "free")
        user = await parts.users.show(42)
        sent = [f"Bearer {parts.tokens.issue(user)}" for _ in range(3)]
        got = [(await client.get("/me", Authorization=each))[0] for each in sent]
        assert got == [200, 200, 429]


async def test_a_report_only_route_counts_nobody_it_does_not_know(serve):
    limited = route("/klines", rate_limit={"per": "key", "requests": 1}, enforce=False, **KLINES)
    async with serve(limited) as client:
        assert await client.statuses("/klines", 3) == [200] * 3
        key = await client.key(42)
        assert await client.statuses("/klines", 2, X_Primit_API_Key=key) == [200, 429]


STEPS = [{"to": 100, "weight": 1}, {"to": 1500, "weight": 10}]


async def test_requests_count_by_their_weight_and_a_light_one_passes_where_a_heavy_one_does_not(
    serve,
):
    weighed = route(
        "/klines",
        name="klines",
        weight={"parameter": "limit", "steps": STEPS, "default": 100},
        rate_limit=[{"requests": 25}, {"requests": 9, "window": 30, "weight": 1}],
    )
    async with serve(weighed) as client:
        asked = [1500, 2000, 1500, 100, 50, 1500, 7]
        statuses = [(await client.get(f"/klines?limit={each}"))[0] for each in asked]
        assert statuses == [200, 200, 429, 200, 200, 429, 200]
        _, headers, _ = await client.get("/klines")
        left = [item.split(";")[1] for item in headers["RateLimit"].split(", ")]
        assert left == ["r=992", "r=1", "r=3"], "the one over all counts requests"


async def test_two_gateways_weigh_into_one_window(serve):
    weighed = route("/a", name="a", weight=5, rate_limit={"requests": 23})
    async with serve(weighed) as one, serve(weighed) as two:
        statuses = [(await client.get("/a"))[0] for client in (one, two) * 3]
        assert statuses == [200] * 4 + [429] * 2


QUOTAS = {
    "free": {"requests": 4, "daily": 6},
    "standard": {"requests": 50, "window": 10, "daily": 8, "monthly": 10},
}
ME = route("/me", "app_token", name="me")


async def test_a_quota_is_its_user_s_whatever_the_key_and_goes_on_with_the_next_plan(serve):
    async with serve(route("/klines", **KLINES), ME, plan_limits=QUOTAS) as client:
        one, other = await client.key(42), await client.key(42)
        status, headers, _ = await client.get("/klines", X_Primit_API_Key=one)
        assert status == 200
        assert headers["RateLimit-Policy"].split(", ") == [
            '"ip";q=1000;w=60',
            '"plan-standard-10";q=50;w=10',
            '"plan-standard-day";q=8;w=86400',
            '"plan-standard-month";q=10',
        ]
        assert await client.statuses("/klines", 4, X_Primit_API_Key=other) == [200] * 4
        assert await client.statuses("/klines", 4, X_Primit_API_Key=one) == [200] * 3 + [429]
        status, headers, body = await client.get("/klines", X_Primit_API_Key=other)
        assert (status, "每个用户每天最多允许 8 次请求" in body) == (429, True)
        assert 0 < int(headers["Retry-After"]) <= 86_400
        counted = client.gateway.parts.metrics.render()[0].decode()
        assert 'gateway_refusals_total{pattern="plan_key",reason="over_quota"} 2.0' in counted
        third = await client.key(43)
        assert await client.statuses("/klines", 1, X_Primit_API_Key=third) == [200]
        parts = client.gateway.parts
        await parts.plans.set(42, "free")
        token = f"Bearer {parts.tokens.issue(await parts.users.show(42))}"
        assert await client.statuses("/me", 1, Authorization=token) == [429], "8 of 6 are used"


async def test_who_has_no_plan_has_the_limits_of_the_lowest(serve):
    async with serve(ME, plan_limits=QUOTAS) as client:
        parts = client.gateway.parts
        await parts.users.create(id=7, email="jane@example.com")
        token = f"Bearer {parts.tokens.issue(await parts.users.show(7))}"
        assert await client.statuses("/me", 5, Authorization=token) == [200] * 4 + [429]


async def test_what_a_shorter_window_refuses_costs_a_longer_one_nothing(serve):
    limits = {"free": {"requests": 2, "window": 1, "daily": 5}}
    async with serve(ME, plan_limits=limits) as client:
        parts = client.gateway.parts
        await parts.users.create(id=7, email="jane@example.com")
        token = f"Bearer {parts.tokens.issue(await parts.users.show(7))}"
        statuses = await client.statuses("/me", 12, Authorization=token)
        _, headers, _ = await client.get("/me", Authorization=token)
        assert statuses.count(200) >= 2
        day = '"plan-free-day";r='
        if day in headers["RateLimit"]:
            left = int(headers["RateLimit"].partition(day)[2].partition(";")[0])
            assert left <= 5 - statuses.count(200)
        counted = await parts.limiters["plan-free-day"].admit("7")
        assert counted.remaining == 5 - statuses.count(200) - 1


async def test_weights_count_in_a_plan_s_quota(serve):
    weighed = route("/klines", weight=4, **KLINES)
    plain = route("/quotes", auth="plan_key", plan="standard", name="quotes")
    async with serve(weighed, plain, plan_limits={"standard": {"daily": 10}}) as client:
        key = await client.key(42)
        assert await client.statuses("/klines", 3, X_Primit_API_Key=key) == [200, 200, 429]
        assert await client.statuses("/quotes", 3, X_Primit_API_Key=key) == [200, 200, 429]


async def test_a_day_of_a_key_s_own_can_stand_on_a_route(serve):
    limited = route("/k", rate_limit={"per": "key", "requests": 1, "window": "day"}, **KLINES)
    async with serve(limited) as client:
        one, other = await client.key(42), await client.key(42)
        got = [(await client.get("/k", X_Primit_API_Key=key))[0] for key in (one, other, one)]
        assert got == [200, 200, 429]


class Gate:
    """A backend's answers, all held back until it opens."""

    def __init__(self, backend: RawBackend) -> None:
        self.opens = asyncio.Event()
        self.reached = 0
        backend.script = self._answer

    async def _answer(self, _backend, _got, _reader, writer) -> None:
        self.reached += 1
        await self.opens.wait()
        writer.write(OK)
        await writer.drain()

    async def holds(self, number: int) -> None:
        await eventually(lambda: self.reached == number)


@pytest.mark.parametrize(
    ("per", "status", "detail"),
    [
        ("key", 429, "每个密钥最多允许 2 个并发请求"),
        ("user", 429, "每个用户最多允许 2 个并发请求"),
        ("ip", 429, "每个 IP 最多允许 2 个并发请求"),
        ("route", 503, "Service Unavailable"),
    ],
)
async def test_so_many_may_be_under_way_on_all_gateways_and_others_when_they_have_ended(
    serve, backend, per, status, detail
):
    limited = route("/klines", rate_limit={"per": per, "concurrent": 2}, **KLINES)
    async with serve(limited) as one, serve(limited) as two:
        gate, key = Gate(backend), await one.key(42)
        under_way = [
            asyncio.create_task(client.get("/klines", X_Primit_API_Key=key))
            for client in (one, two)
        ]
        await gate.holds(2)
        for client in (one, two):
            got, headers, body = await client.get("/klines", X_Primit_API_Key=key)
            assert (got, headers["Retry-After"], detail in body) == (status, "1", True)
            policy = f'"route-klines-{per}-concurrent"'
            assert f'{policy};q=2;qu="concurrent-requests"' in headers["RateLimit-Policy"]
            assert f"{policy};r=0" in headers["RateLimit"]
        gate.opens.set()
        assert [(await each)[0] for each in under_way] == [200, 200]
        assert await two.statuses("/klines", 3, X_Primit_API_Key=key) == [200] * 3


async def test_whoever_is_refused_or_leaves_holds_no_slot(serve, backend):
    limits = [{"concurrent": 1}, {"requests": 3}]
    async with serve(route("/a", name="a", rate_limit=limits)) as client:
        gate = Gate(backend)
        leaves = asyncio.create_task(client.get("/a"))
        await gate.holds(1)
        assert await client.statuses("/a", 1) == [429]
        leaves.cancel()
        redis = client.gateway.parts.store.client
        held = "gw:limit:route-a-ip-concurrent:{127.0.0.1}"
        await eventually(lambda: _gone(redis, held))
        gate.opens.set()
        assert await client.statuses("/a", 4) == [200, 200, 429, 429]
        await eventually(lambda: _gone(redis, held))


async def _gone(redis, key: str) -> bool:
    return not await redis.exists(key)


async def test_a_socket_is_under_way_until_it_ends(serve, backend):
    backend.script = agree(echo)
    limited = route("/ws", name="ws", websocket=True, rate_limit={"concurrent": 1})
    async with serve(limited) as one, serve(limited) as two:
        async with opened(one.gateway):
            assert await two.statuses("/ws", 1) == [429]
        held = "gw:limit:route-ws-ip-concurrent:{127.0.0.1}"
        await eventually(lambda: _gone(one.gateway.parts.store.client, held))
        async with opened(two.gateway):
            pass

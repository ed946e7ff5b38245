"""The platform contract as tables: each pattern, each cause -> status, headers, body.

Byte for byte where the contract gives bytes. The data is written as billing writes it: plain HSET
of what ARCHITECTURE.md documents. Runs on the embedded store and on a real Redis.
"""

import asyncio
import json
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from backend import RawBackend
from harness import TOKEN_SECRET, Running, open_gateway, route, upstream
from yarl import URL

from gateway.store.keys import new_key

STANDARD, EXPIRED_PLAN, NO_PLAN, PRO = 42, 43, 44, 45
KEYS = {name: new_key() for name in ("good", "pro", "plan_expired", "no_plan", "revoked", "old")}
IMPORTED = "pk_imported-from-elsewhere"
ROUTES = [
    route("/fapi/v1/{rest...}", methods=["GET"], name="mirror"),
    route("/stock/v1/klines", "plan_key", plan="standard", methods=["GET"], name="stock"),
    route("/orders/auth", "body_credentials", methods=["POST"], name="orders"),
    route("/orders/small", "body_credentials", methods=["POST"], max_body=100, name="small"),
    route("/orders/registered", "registered_key", methods=["POST"], name="registered"),
    route("/orders/injected", "registered_key", methods=["POST"], inject=True, name="injected"),
    route("/orders/owned", "registered_key", methods=["POST"], owner="app_token", name="owned"),
    route("/users/me", "app_token", name="me"),
    route("/trades", "app_token", scope=["trade"], name="trades"),
]


@pytest.fixture
async def backend():
    backend = await RawBackend().start()
    yield backend
    await backend.stop()


@pytest.fixture(params=["memory", "redis"])
async def gateway(request, backend: RawBackend, tmp_path: Path):
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    settings: dict[str, Any] = {"store": {"url": url, "timeout": 2}}
    routes = {"upstreams": upstream(backend.url), "routes": ROUTES}
    async with open_gateway(tmp_path, routes, settings) as running:
        await arrange(running)
        yield running


async def arrange(running: Running) -> None:
    """Users, plans and keys, written by another program: plain HSET of the documented fields."""
    client = running.parts.store.client
    users = {
        STANDARD: {"plan": "standard", "plan_expires_at": "2999-01-01T00:00:00"},
        EXPIRED_PLAN: {"plan": "standard", "plan_expires_at": "2020-01-01T00:00:00"},
        NO_PLAN: {},
        PRO: {"plan": "professional", "plan_expires_at": "2999-01-01T00:00:00"},
    }
    for user_id, plan in users.items():
        fields = {"id": user_id, "email": f"u{user_id}@example.com", "is_vip": 0}
        fields |= {"created_at": "2026-06-01T00:00:00", "updated_at": "2026-06-01T00:00:00"}
        await client.hset(f"gw:user:{user_id}", mapping=fields | plan)
    owners = {"good": STANDARD, "pro": PRO, "plan_expired": EXPIRED_PLAN, "no_plan": NO_PLAN}
    more = {
        "revoked": {"revoked_at": "2026-01-01T00:00:00"},
        "old": {"expires_at": "2020-01-01T00:00:00"},
    }
    for name, key in {**KEYS, "imported": IMPORTED}.items():
        fields = {
            "id": f"k_{name}",
            "user_id": owners.get(name, STANDARD),
            "name": name,
            "created_at": "2026-01-01T00:00:00",
        }
        digest = sha256(key.encode()).hexdigest()
        await client.hset(f"gw:key:{digest}", mapping=fields | more.get(name, {}))
        await client.set(f"gw:keyid:k_{name}", digest)
    await running.parts.vault.add("owner@example.com", "B" * 64, "S" * 64)
    await running.parts.vault.add("u42@example.com", "B" * 64, "S" * 64)
    await running.parts.vault.add("off@example.com", "B" * 64, "S" * 64)
    await client.hset("gw:vault:off@example.com", "is_active", "0")


def token(user_id: int = STANDARD, secret: str = TOKEN_SECRET, **changes: Any) -> str:
    claims = {
        "iss": "primit",
        "aud": "primit-app",
        "sub": str(user_id),
        "iat": 1_700_000_000,
        "nbf": 1_700_000_000,
        "exp": 4_000_000_000,
        "jti": "t1",
        "scope": "user",
        "ver": 1,
    }
    return jwt.encode(claims | changes, secret, "HS256", headers={"kid": "k1"})


@dataclass
class Case:
    name: str
    method: str
    path: str
    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | None = None
    detail: str | None = None
    challenge: str | None = None
    expect: dict[str, str] = field(default_factory=dict)
    problems: list[tuple[list[Any], str]] | None = None


def key(value: str) -> list[tuple[str, str]]:
    return [("X-Primit-API-Key", value)]


def bearer(value: str, scheme: str = "Bearer") -> list[tuple[str, str]]:
    return [("Authorization", f"{scheme} {value}")]


API_KEY = 'ApiKey realm="primit"'
BEARER = 'Bearer realm="primit"'
INVALID_TOKEN = 'Bearer realm="primit", error="invalid_token"'
CREDENTIALS = b'{"api_key": "k", "api_secret": "s", "n": 1.50}'
BAD_CHECKSUM = KEYS["good"][:-1] + ("0" if KEYS["good"][-1] != "0" else "1")

CASES = [
    # The path decides first, then the method.
    Case("no such path", "GET", "/nowhere", 404, detail="Not Found"),
    Case("no such path, any method", "POST", "/nowhere", 404, detail="Not Found"),
    Case("known path, other method", "POST", "/fapi/v1/klines", 405, expect={"Allow": "GET, HEAD"}),
    Case(
        "plan route, other method", "DELETE", "/stock/v1/klines", 405, expect={"Allow": "GET, HEAD"}
    ),
    Case("orders, other method", "GET", "/orders/auth", 405, expect={"Allow": "POST"}),
    Case("encoded slash", "GET", "/fapi/v1/a%2Fb", 400),
    Case("dot segments", "GET", "/fapi/v1/../../users/me", 400),
    Case("encoded dot segments", "GET", "/fapi/v1/%2e%2E/users/me", 400),
    Case("empty segment", "GET", "/fapi//v1/klines", 400),
    # Pattern 1.
    Case("public", "GET", "/fapi/v1/klines?symbol=BTCUSDT", 200),
    Case("public, HEAD", "HEAD", "/fapi/v1/klines", 200),
    Case("public, with a bad key beside", "GET", "/fapi/v1/klines", 200, key("pk_bad")),
    # Pattern 1b.
    Case("no key", "GET", "/stock/v1/klines", 401, challenge=API_KEY),
    Case("empty key", "GET", "/stock/v1/klines", 401, key(""), challenge=API_KEY),
    Case("good key", "GET", "/stock/v1/klines", 200, key(KEYS["good"])),
    Case("key of a higher plan", "GET", "/stock/v1/klines", 200, key(KEYS["pro"])),
    Case("imported key", "GET", "/stock/v1/klines", 200, key(IMPORTED)),
    Case("unknown key", "GET", "/stock/v1/klines", 401, key(new_key()), challenge=API_KEY),
    Case("wrong checksum", "GET", "/stock/v1/klines", 401, key(BAD_CHECKSUM), challenge=API_KEY),
    Case("revoked key", "GET", "/stock/v1/klines", 401, key(KEYS["revoked"]), challenge=API_KEY),
    Case("expired key", "GET", "/stock/v1/klines", 401, key(KEYS["old"]), challenge=API_KEY),
    Case("odd bytes", "GET", "/stock/v1/klines", 401, key("pk_\xff\u4e2d"), challenge=API_KEY),
    Case(
        "overlong key", "GET", "/stock/v1/klines", 401, key("pk_" + "a" * 5000), challenge=API_KEY
    ),
    Case(
        "two keys",
        "GET",
        "/stock/v1/klines",
        401,
        key(KEYS["good"]) + key(KEYS["good"]),
        challenge=API_KEY,
    ),
    Case("plan expired", "GET", "/stock/v1/klines", 403, key(KEYS["plan_expired"])),
    Case("plan never bought", "GET", "/stock/v1/klines", 403, key(KEYS["no_plan"])),
    # Pattern 2.
    Case("credentials", "POST", "/orders/auth", 200, body=CREDENTIALS),
    Case("no body", "POST", "/orders/auth", 422, problems=[(["body"], "missing")]),
    Case(
        "no api_secret",
        "POST",
        "/orders/auth",
        422,
        body=b'{"api_key": "k"}',
        problems=[(["body", "api_secret"], "missing")],
    ),
    Case(
        "neither",
        "POST",
        "/orders/auth",
        422,
        body=b"{}",
        problems=[(["body", "api_key"], "missing"), (["body", "api_secret"], "missing")],
    ),
    Case(
        "wrong type",
        "POST",
        "/orders/auth",
        422,
        body=b'{"api_key": 1, "api_secret": "s"}',
        problems=[(["body", "api_key"], "string_type")],
    ),
    Case(
        "empty string",
        "POST",
        "/orders/auth",
        422,
        body=b'{"api_key": "", "api_secret": "s"}',
        problems=[(["body", "api_key"], "string_too_short")],
    ),
    Case("a list", "POST", "/orders/auth", 422, body=b"[1]"),
    Case("not JSON", "POST", "/orders/auth", 422, body=b"{api_key: k}"),
    Case("not UTF-8", "POST", "/orders/auth", 422, body=b'{"api_key": "\xff", "api_secret": "s"}'),
    Case(
        "a name twice",
        "POST",
        "/orders/auth",
        422,
        body=b'{"api_key": "k", "api_key": "j", "api_secret": "s"}',
    ),
    Case("a nesting bomb", "POST", "/orders/auth", 422, body=b"[" * 100_000),
    Case("too long", "POST", "/orders/small", 413, body=CREDENTIALS + b" " * 100),
    Case("too long for the default", "POST", "/orders/auth", 413, body=b" " * (1 << 20) + b"{}"),
    # Pattern 3.
    Case("registered", "POST", "/orders/registered", 200, body=b'{"email": "owner@example.com"}'),
    Case("as typed", "POST", "/orders/registered", 200, body=b'{"email": " Owner@Example.COM "}'),
    Case("unknown email", "POST", "/orders/registered", 403, body=b'{"email": "no@example.com"}'),
    Case("switched off", "POST", "/orders/registered", 403, body=b'{"email": "off@example.com"}'),
    Case(
        "no email",
        "POST",
        "/orders/registered",
        422,
        body=b"{}",
        problems=[(["body", "email"], "missing")],
    ),
    Case(
        "email of another type",
        "POST",
        "/orders/registered",
        422,
        body=b'{"email": 1}',
        problems=[(["body", "email"], "string_type")],
    ),
    Case(
        "injected beside own",
        "POST",
        "/orders/injected",
        422,
        body=b'{"email": "owner@example.com", "api_key": "mine"}',
        problems=[(["body", "api_key"], "extra_forbidden")],
    ),
    Case(
        "owned, no token",
        "POST",
        "/orders/owned",
        401,
        body=b'{"email": "u42@example.com"}',
        challenge=BEARER,
    ),
    Case(
        "owned, by its owner",
        "POST",
        "/orders/owned",
        200,
        bearer(token()),
        body=b'{"email": "u42@example.com"}',
    ),
    Case(
        "owned, by another",
        "POST",
        "/orders/owned",
        403,
        bearer(token()),
        body=b'{"email": "owner@example.com"}',
    ),
    # Pattern 4.
    Case("no token", "GET", "/users/me", 401, challenge=BEARER),
    Case("another scheme", "GET", "/users/me", 401, bearer("Zm9v", "Basic"), challenge=BEARER),
    Case("good token", "GET", "/users/me", 200, bearer(token())),
    Case("scheme in lower case", "GET", "/users/me", 200, bearer(token(), "bearer")),
    Case("expired", "GET", "/users/me", 401, bearer(token(exp=1)), challenge=INVALID_TOKEN),
    Case(
        "forged", "GET", "/users/me", 401, bearer(token(secret="x" * 40)), challenge=INVALID_TOKEN
    ),
    Case("not a token", "GET", "/users/me", 401, bearer("abc"), challenge=INVALID_TOKEN),
    Case("odd bytes", "GET", "/users/me", 401, bearer("\xff\u4e2d"), challenge=INVALID_TOKEN),
    Case("unknown user", "GET", "/users/me", 401, bearer(token(999)), challenge=INVALID_TOKEN),
    Case(
        "two tokens",
        "GET",
        "/users/me",
        401,
        bearer(token()) + bearer(token()),
        challenge='Bearer realm="primit", error="invalid_request"',
    ),
    Case(
        "scope missing",
        "GET",
        "/trades",
        403,
        bearer(token()),
        challenge='Bearer realm="primit", error="insufficient_scope", scope="trade"',
    ),
    Case("scope there", "GET", "/trades", 200, bearer(token(scope="user trade"))),
    # The gateway's own.
    Case("status", "GET", "/", 200),
    Case("health", "GET", "/health", 200),
    Case("own endpoint, other method", "GET", "/api-key/verify", 405, expect={"Allow": "POST"}),
    Case("sign-in that is not configured", "POST", "/auth/mobile/google", 404, detail="Not Found"),
    Case("refresh that is not configured", "POST", "/auth/refresh", 404, detail="Not Found"),
    Case("logout without a token", "POST", "/auth/logout", 401, challenge=BEARER),
    Case("logout, bad token", "POST", "/auth/logout", 401, bearer("x"), challenge=INVALID_TOKEN),
]


async def send(running: Running, case: Case) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """The request as raw bytes, so that odd ones get through; status, fields, body."""
    fields = [("Host", "api.example"), *case.headers]
    if case.body is not None or case.method == "POST":
        fields.append(("Content-Length", str(len(case.body or b""))))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    request = f"{case.method} {case.path} HTTP/1.1\r\n{head}\r\n".encode() + (case.body or b"")
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(request)
    async with asyncio.timeout(10):
        lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        pairs = [tuple(line.split(b": ", 1)) for line in lines[1:] if line]
        length = next((int(v) for n, v in pairs if n.lower() == b"content-length"), 0)
        body = b"" if case.method == "HEAD" else await reader.readexactly(length)
    writer.transport.abort()
    return int(lines[0].split()[1]), pairs, body


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.method} {case.path} {case.name}"[:70]
)
async def test_each_cause_has_its_answer(gateway: Running, backend: RawBackend, case: Case) -> None:
    status, pairs, body = await send(gateway, case)
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in pairs}
    assert status == case.status
    assert headers.get("www-authenticate") == case.challenge
    assert len(headers["x-request-id"]) == 32
    exempt = case.path in ("/", "/health")
    assert ("ratelimit" in headers) is not exempt
    assert ("ratelimit-policy" in headers) is not exempt
    for name, value in case.expect.items():
        assert headers[name.lower()] == value
    if 200 <= status < 300:
        assert len(backend.requests) == (0 if exempt else 1)
        if case.body is not None and "injected" not in case.path:
            assert backend.last.body == case.body
        return
    assert backend.requests == []
    assert headers["content-type"] == "application/json"
    answer = json.loads(body)
    assert list(answer) == ["detail"]
    if case.detail is not None:
        assert body == json.dumps({"detail": case.detail}).encode()
    if status == 422:
        assert all(set(problem) == {"loc", "msg", "type"} for problem in answer["detail"])
        if case.problems is not None:
            assert [(p["loc"], p["type"]) for p in answer["detail"]] == case.problems
    else:
        assert isinstance(answer["detail"], str)


async def test_identity_reaches_the_backend_and_the_credential_does_not(gateway, backend) -> None:
    forged = [("X-User-Id", "1"), ("x_user_email", "root@example.com"), ("X-Plan", "professional")]
    await send(gateway, Case("", "GET", "/stock/v1/klines", 200, key(KEYS["good"]) + forged))
    got = backend.last
    assert got.all(b"X-User-Id") == [b"42"]
    assert got.all(b"X-User-Email") == [b"u42@example.com"]
    assert got.all(b"X-Plan") == [b"standard"]
    assert got.all(b"X-Auth-Pattern") == [b"plan_key"]
    assert got.all(b"X-Primit-API-Key") == []
    assert b"root@example.com" not in got.head
    await send(gateway, Case("", "GET", "/users/me", 200, bearer(token())))
    assert backend.last.all(b"Authorization") == []
    assert backend.last.one(b"X-User-Id") == b"42"
    await send(gateway, Case("", "GET", "/fapi/v1/x", 200, bearer("theirs") + key("pk_theirs")))
    assert backend.last.all(b"Authorization") == [b"Bearer theirs"]
    assert backend.last.all(b"X-Primit-API-Key") == []


async def test_injected_credentials_leave_the_rest_of_the_body_as_it_came(gateway, backend) -> None:
    body = (
        b' {"qty": 1.500,"email":"owner@example.com" , "\\u006eote": "\xe4\xbd\xa0", '
        b'"big": 12345678901234567890123}'
    )
    status, _, _ = await send(gateway, Case("", "POST", "/orders/injected", 200, body=body))
    assert status == 200
    start = b' {"api_key": "%b", "api_secret": "%b", ' % (b"B" * 64, b"S" * 64)
    assert backend.last.body == start + body[2:]
    assert backend.last.one(b"Content-Length") == str(len(backend.last.body)).encode()


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        (
            "POST",
            "/api-key/verify",
            b'{"email": "nobody@example.com"}',
            (
                '{"success": false, "message": "用户不存在或没有API密钥", '
                '"email": "nobody@example.com", "has_api_key": false}'
            ),
        ),
        (
            "POST",
            "/api-key/verify",
            b'{"email": "off@example.com"}',
            (
                '{"success": false, "message": "API 密钥验证失败", '
                '"email": "off@example.com", "has_api_key": true}'
            ),
        ),
        (
            "GET",
            "/api-key/status/nobody@example.com",
            None,
            (
                '{"success": false, "message": "用户不存在或没有API密钥", '
                '"email": "nobody@example.com", "has_api_key": false}'
            ),
        ),
        ("GET", "/", None, '{"status": "ok"}'),
    ],
)
async def test_own_endpoints_answer_the_contracts_very_bytes(
    gateway, method, path, body, expected
) -> None:
    status, _, got = await send(gateway, Case("", method, path, 200, body=body))
    assert (status, got.decode()) == (200, expected)


async def test_the_status_of_a_registered_key_has_the_contracts_form(gateway) -> None:
    client = gateway.parts.store.client
    fields = {
        "verification_status": "verified",
        "last_verified": "2026-04-29T12:00:00",
        "created_at": "2026-04-01T00:00:00",
    }
    await client.hset("gw:vault:owner@example.com", mapping=fields)
    status, _, got = await send(
        gateway, Case("", "GET", "/api-key/status/owner%40example.com", 200)
    )
    assert status == 200
    assert got.decode() == (
        '{"success": true, "message": "获取状态成功", "email": "owner@example.com", '
        '"has_api_key": true, "verification_status": "verified", '
        '"last_verified": "2026-04-29T12:00:00", "created_at": "2026-04-01T00:00:00", '
        '"is_active": true}'
    )


async def test_health_tells_the_time_in_utc_without_offset(gateway) -> None:
    _, pairs, body = await send(gateway, Case("", "GET", "/health", 200))
    answer = json.loads(body)
    assert list(answer) == ["status", "timestamp"]
    assert answer["status"] == "healthy"
    assert len(answer["timestamp"]) == len("2026-04-29T12:00:00")
    assert not any(name.lower().startswith(b"ratelimit") for name, _ in pairs)


async def test_the_key_endpoints_have_a_limit_of_their_own(gateway) -> None:
    for path, body in (
        ("/api-key/verify", b'{"email": "nobody@example.com"}'),
        ("/api-key/status/nobody@example.com", None),
    ):
        case = Case("", "GET" if body is None else "POST", path, 200, body=body)
        statuses = [(await send(gateway, case))[0] for _ in range(32)]
        assert statuses == [200] * 30 + [429] * 2
        _, pairs, answer = await send(gateway, case)
        assert dict(pairs)[b"Retry-After"].isdigit()
        assert "30 次" in json.loads(answer)["detail"]
        policies = dict(pairs)[b"RateLimit-Policy"]
        assert policies.startswith(b'"ip";q=1000;w=60, "api-key-')
        assert policies.endswith(b";q=30;w=60")


async def test_the_request_that_exceeds_the_limit_is_refused_and_blocks(
    backend, tmp_path, redis_url
) -> None:
    settings = {
        "store": {"url": redis_url, "timeout": 2},
        "rate_limit": {"requests": 5, "window": 60, "block": 3600},
    }
    routes = {"upstreams": upstream(backend.url), "routes": ROUTES}
    async with open_gateway(tmp_path, routes, settings) as running:
        # Refusals count like everything else.
        sent = ["/nowhere", "/stock/v1/klines", "/fapi/v1/x", "/users/me", "/fapi/v1/x"]
        got = [await send(running, Case("", "GET", path, 0)) for path in sent]
        assert [status for status, _, _ in got] == [404, 401, 200, 401, 200]
        status, pairs, body = await send(running, Case("", "GET", "/fapi/v1/x", 0))
        limited = '{"detail": "请求过于频繁。每个 IP 每分钟最多允许 5 次请求。"}'
        assert (status, body.decode()) == (429, limited)
        assert dict(pairs)[b"Retry-After"].isdigit()
        for path in ("/fapi/v1/x", "/nowhere"):
            status, pairs, body = await send(running, Case("", "GET", path, 0))
            blocked = '{"detail": "IP 127.0.0.1 已被暂时封锁。请求过于频繁,请稍后再试。"}'
            assert (status, body.decode()) == (429, blocked)
            assert 3590 <= int(dict(pairs)[b"Retry-After"]) <= 3600
        for path in ("/", "/health"):
            assert (await send(running, Case("", "GET", path, 0)))[0] == 200
        assert await running.parts.limiter.unblock("127.0.0.1")
        assert (await send(running, Case("", "GET", "/health", 0)))[0] == 200
        async with asyncio.timeout(5):
            while (await send(running, Case("", "GET", "/nowhere", 0)))[0] != 404:
                await asyncio.sleep(0.2)


CORS = {"origins": ["https://app.example.com"], "headers": ["X-Primit-API-Key"], "max_age": 60}


async def test_a_preflight_is_answered_before_the_pattern_and_counted(backend, tmp_path) -> None:
    routes = {"upstreams": upstream(backend.url), "routes": ROUTES}
    async with (
        open_gateway(tmp_path, routes, {"cors": CORS}) as running,
        aiohttp.ClientSession(running.url) as session,
    ):
        asks = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "GET"}
        async with session.options("/stock/v1/klines", headers=asks) as answer:
            assert answer.status == 204
            assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
            assert answer.headers["Access-Control-Allow-Methods"] == "GET, HEAD"
            assert answer.headers["Access-Control-Allow-Headers"] == "X-Primit-API-Key"
            assert answer.headers["Access-Control-Max-Age"] == "60"
            assert "RateLimit" in answer.headers
        async with session.options("/nowhere", headers=asks) as answer:
            assert answer.status == 404
        stranger = asks | {"Origin": "https://evil.example"}
        async with session.options("/stock/v1/klines", headers=stranger) as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers
        assert backend.requests == []
        backend.answer = (
            b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 2\r\n\r\nok"
        )
        origin = {"Origin": "https://app.example.com"}
        async with session.get("/fapi/v1/x", headers=origin) as answer:
            allowed = answer.headers.getall("Access-Control-Allow-Origin")
            assert allowed == ["https://app.example.com"]
        async with session.get("/stock/v1/klines", headers=origin) as answer:
            assert answer.status == 401  # and a script may read that it was
            assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.com"


async def test_a_preflight_meets_the_route_that_its_request_will_meet(backend, tmp_path) -> None:
    other = CORS | {"origins": ["https://admin.example.com"]}
    table = [
        route("/things", methods=["GET"], name="read", cors=CORS),
        route("/things", methods=["POST"], name="write", cors=other),
        route("/things", methods=["DELETE"], name="remove", cors=False),
    ]
    async with (
        open_gateway(tmp_path, {"upstreams": upstream(backend.url), "routes": table}) as running,
        aiohttp.ClientSession(running.url) as session,
    ):
        for asked, origin, methods in [
            ("GET", "https://app.example.com", "GET, HEAD"),
            ("POST", "https://admin.example.com", "POST"),
        ]:
            asks = {"Origin": origin, "Access-Control-Request-Method": asked}
            async with session.options("/things", headers=asks) as answer:
                assert answer.headers["Access-Control-Allow-Origin"] == origin
                assert answer.headers["Access-Control-Allow-Methods"] == methods
        asks = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "DELETE"}
        async with session.options("/things", headers=asks) as answer:
            assert "DELETE" not in answer.headers["Access-Control-Allow-Methods"]
    assert backend.requests == []


async def test_a_script_can_read_every_refusal_where_cors_is_for_all(backend, tmp_path) -> None:
    table = [
        route("/fapi/{rest...}", methods=["GET"], name="mirror"),
        route("/own", name="own", cors=CORS | {"origins": ["https://own.example.com"]}),
        route("/slow", name="slow", rate_limit={"requests": 1, "window": 60}),
    ]
    settings = {"cors": CORS, "rate_limit": {"requests": 8}}
    allowed = "Access-Control-Allow-Origin"
    async with (
        open_gateway(
            tmp_path, {"upstreams": upstream(backend.url), "routes": table}, settings
        ) as running,
        aiohttp.ClientSession(running.url) as session,
    ):
        origin = {"Origin": "https://app.example.com"}
        for method, path, status in [
            ("GET", "/nowhere", 404),
            ("POST", "/fapi/x", 405),
            ("GET", "/fapi//x", 400),
            ("GET", "/slow", 200),
            ("GET", "/slow", 429),
        ]:
            url = URL(path, encoded=True)
            async with session.request(method, url, headers=origin) as answer:
                assert answer.status == status
                assert answer.headers.getall(allowed) == ["https://app.example.com"]
                assert answer.headers.getall("X-Request-ID")
        async with session.get("/own", headers=origin) as answer:
            assert allowed not in answer.headers
        own = {"Origin": "https://own.example.com"}
        async with session.get("/own", headers=own) as answer:
            assert answer.headers.getall(allowed) == ["https://own.example.com"]
        for _ in range(3):
            async with session.get("/fapi/x", headers=origin) as answer:
                last = answer
        assert last.status == 429  # blocked
        assert last.headers.getall(allowed) == ["https://app.example.com"]
        assert "Retry-After" in last.headers

"""A gateway that serves registered keys, before a stand-in for Binance, and who calls it."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import jwt
from backend import RawBackend
from binance_stand_in import BinanceStandIn
from harness import TOKEN_SECRET, Running, open_gateway, route, upstream

EMAIL, OTHER = "user@example.com", "other@example.com"
USERS = {1: EMAIL, 2: OTHER, 3: None}
PAIR = {"api_key": "binance-key", "api_secret": "binance-secret"}
NEW = {"api_key": "second-key", "api_secret": "second-secret"}
VERIFY, REGISTER, STATUS = "/api-key/verify", "/api-key/register", "/api-key/status/"
NOT_REGISTERED = {
    "success": False,
    "message": "用户不存在或没有API密钥",
    "email": EMAIL,
    "has_api_key": False,
}
ROUTES = [
    route("/registered", "registered_key", methods=["POST"], name="registered"),
    route("/injected", "registered_key", methods=["POST"], inject=True, name="injected"),
    route(
        "/owned", "registered_key", methods=["POST"], owner="app_token", inject=True, name="owned"
    ),
]


def bearer(user_id: int = 1, secret: str = TOKEN_SECRET, **changes: Any) -> dict[str, str]:
    """What a signed-in user sends."""
    now = int(time.time())
    claims = {"iss": "primit", "aud": "primit-app", "sub": str(user_id), "jti": f"t{user_id}"}
    claims |= {"iat": now, "nbf": now, "exp": now + 3600, "scope": "user", "ver": 1} | changes
    token = jwt.encode(claims, secret, "HS256", headers={"kid": "k1"})
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def serving(
    folder: Path,
    store_url: str,
    binance: BinanceStandIn,
    backend: RawBackend,
    *,
    routes: list[dict[str, Any]] = ROUTES,
    **vault: Any,
) -> AsyncIterator[Running]:
    """It asks Binance each time, unless `vault` says otherwise."""
    settings = {
        "store": {"url": store_url, "timeout": 2},
        "vault": {"binance_url": binance.base_url, "verify_every": 0, "requests": 1000, **vault},
    }
    folder.mkdir(exist_ok=True)
    table = {"upstreams": upstream(backend.url), "routes": routes}
    async with open_gateway(folder, table, settings) as running:
        client = running.parts.store.client
        for user_id, email in USERS.items():
            fields = {"id": user_id, "is_vip": 0, "created_at": "2026-06-01T00:00:00"}
            fields |= {} if email is None else {"email": email}
            await client.hset(f"gw:user:{user_id}", mapping=fields)
        yield running


async def call(
    gateway: Running,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
    *,
    method: str = "POST",
) -> tuple[int, Any, Any]:
    """Status, answer and headers. A body of bytes is sent as it is."""
    raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, gateway.url + path, data=raw, headers=headers) as answer,
    ):
        text = await answer.read()
        # What does not begin like an object is the backend's, and no JSON.
        return answer.status, json.loads(text) if text[:1] == b"{" else text, answer.headers


async def register(
    gateway: Running, pair: dict[str, str] = PAIR, user_id: int = 1, email: str | None = EMAIL
) -> tuple[int, Any, Any]:
    return await call(gateway, REGISTER, {"email": email, **pair}, bearer(user_id))


async def withdraw(gateway: Running, body: Any = None, user_id: int = 1) -> tuple[int, Any, Any]:
    return await call(gateway, REGISTER, body, bearer(user_id), method="DELETE")


async def handed_out(gateway: Running, backend: RawBackend, email: str = EMAIL) -> Any:
    """The status of an injected route, and what its backend got."""
    status, _, _ = await call(gateway, "/injected", {"email": email})
    return json.loads(backend.last.body) if status == 200 else status

"""Real WebSockets through the gateway: aiohttp's client at one end, its server at the other."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from harness import Running, open_gateway, route, upstream
from redis_process import eventually

SETTINGS: dict[str, Any] = {"rate_limit": {"requests": 100_000}}


class Echo:
    """Says back what it hears, closes with the code that it is told, and knows `app.v1`."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.closed_with: list[int | None] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        self.requests.append(request)
        socket = web.WebSocketResponse(protocols=("app.v1",))
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
            elif message.data.startswith("close "):
                await socket.close(code=int(message.data[6:]), message=b"as told")
            elif message.data == "ping me":
                await socket.ping(b"are you there")
            else:
                await socket.send_str(message.data)
        self.closed_with.append(socket.close_code)
        return socket


@pytest.fixture
async def backend() -> AsyncIterator[Echo]:
    echo = Echo()
    runner = web.ServerRunner(web.Server(echo.handle))  # type: ignore[arg-type]
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    echo.url = f"http://127.0.0.1:{port}"
    yield echo
    await runner.cleanup()


@pytest.fixture
async def gateway(backend: Echo, tmp_path: Path) -> AsyncIterator[Running]:
    keyed = {"auth": "plan_key", "plan": "standard", "websocket": True}
    routes = [
        route("/ws", name="ws", websocket=True),
        route("/keyed", name="keyed", subprotocol_credential=True, **keyed),
        route("/header", name="header", **keyed),
        route("/passed", name="pass", pass_credentials=True, subprotocol_credential=True, **keyed),
        route("/me", "app_token", name="me", websocket=True, subprotocol_credential=True),
    ]
    table = {"upstreams": upstream(backend.url), "routes": routes}
    async with open_gateway(tmp_path, table, SETTINGS) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as opened:
        yield opened


@pytest.fixture
async def key(gateway: Running) -> str:
    await gateway.parts.plans.set(42, "standard")
    return (await gateway.parts.keys.issue(42))[1]


@pytest.fixture
async def token(gateway: Running) -> str:
    parts = gateway.parts
    return parts.tokens.issue(await parts.users.create("user@example.com"))


async def test_messages_of_any_kind_and_size_come_back_whole(
    gateway: Running, session: aiohttp.ClientSession
) -> None:
    async with session.ws_connect(gateway.url + "/ws", max_msg_size=0) as socket:
        for size in (0, 1, 125, 126, 65_535, 65_536, 3 << 20):
            await socket.send_bytes(bytes(size))
            assert await socket.receive_bytes() == bytes(size)
            await socket.send_str("é" * (size // 2))
            assert await socket.receive_str() == "é" * (size // 2)


async def test_compression_is_negotiated_end_to_end(
    gateway: Running, session: aiohttp.ClientSession
) -> None:
    async with session.ws_connect(gateway.url + "/ws", compress=15) as socket:
        assert socket.compress == 15
        await socket.send_str("a" * 100_000)
        assert await socket.receive_str() == "a" * 100_000
    await eventually(lambda: bool(gateway.log()))
    assert gateway.log()[0]["bytes"] < 2_000


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
async def test_a_close_code_of_the_backend_reaches_the_client(
    gateway: Running, session: aiohttp.ClientSession, code: int
) -> None:
    async with session.ws_connect(gateway.url + "/ws") as socket:
        await socket.send_str(f"close {code}")
        message = await socket.receive()
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, code, "as told")


async def test_a_close_code_of_the_client_reaches_the_backend(
    gateway: Running, backend: Echo, session: aiohttp.ClientSession
) -> None:
    async with session.ws_connect(gateway.url + "/ws") as socket:
        await socket.close(code=4321)
    await eventually(lambda: backend.closed_with == [4321])


async def test_pings_go_both_ways(gateway: Running, session: aiohttp.ClientSession) -> None:
    async with session.ws_connect(gateway.url + "/ws", autoping=False) as socket:
        await socket.ping(b"hello")
        answer = await socket.receive()
        assert (answer.type, answer.data) == (WSMsgType.PONG, b"hello")
        await socket.send_str("ping me")
        asked = await socket.receive()
        assert (asked.type, asked.data) == (WSMsgType.PING, b"are you there")


async def test_a_client_sees_1001_and_its_code_when_the_gateway_drains(
    gateway: Running, session: aiohttp.ClientSession
) -> None:
    async with session.ws_connect(gateway.url + "/ws") as socket:
        await socket.send_str("x")
        await socket.receive_str()
        gateway.parts.sockets.drain()
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)


# Credentials from subprotocols.


@pytest.mark.parametrize(
    ("offered", "passed", "selected"),
    [
        (["primit", "primit.{}"], None, "primit"),
        (["primit.{}", "primit"], None, "primit"),
        (["app.v1", "primit.{}"], "app.v1", "app.v1"),
        (["primit.{}", "app.v1"], "app.v1", "app.v1"),
        (["primit", "primit.{}", "app.v1"], "app.v1", "app.v1"),
        (["primit", "primit.{}", "app.v2"], "app.v2", "primit"),
        (["primit.{}"], None, None),  # no browser takes this: see websocket.py
    ],
)
async def test_a_browser_gives_its_key_as_a_subprotocol(
    gateway: Running,
    backend: Echo,
    session: aiohttp.ClientSession,
    key: str,
    offered: list[str],
    passed: str | None,
    selected: str | None,
) -> None:
    names = [name.format(key) for name in offered]
    async with session.ws_connect(gateway.url + "/keyed", protocols=names) as socket:
        assert socket.protocol == selected
        assert socket._response.headers.get("Sec-WebSocket-Protocol") == selected
        assert key not in str(socket._response.headers)
        await socket.send_str("hello")
        assert await socket.receive_str() == "hello"
    (request,) = backend.requests
    assert request.headers.get("Sec-WebSocket-Protocol") == passed
    assert key not in str(request.raw_headers)
    assert request.headers["X-User-Id"] == "42"
    await eventually(lambda: bool(gateway.log()))
    assert key not in gateway.log_path.read_text()
    assert gateway.log()[0]["user_id"] == 42


async def test_an_app_token_fits_too(
    gateway: Running, backend: Echo, session: aiohttp.ClientSession, token: str
) -> None:
    names = ["primit", f"primit.{token}"]
    async with session.ws_connect(gateway.url + "/me", protocols=names) as socket:
        assert socket.protocol == "primit"
    (request,) = backend.requests
    assert "Authorization" not in request.headers
    assert token not in str(request.raw_headers)


async def test_a_backend_that_gets_credentials_gets_it_as_the_header(
    gateway: Running, backend: Echo, session: aiohttp.ClientSession, key: str
) -> None:
    async with session.ws_connect(gateway.url + "/passed", protocols=[f"primit.{key}"]):
        pass
    assert backend.requests[0].headers["X-Primit-API-Key"] == key


@pytest.mark.parametrize(
    ("path", "offered", "header", "reason"),
    [
        ("/keyed", ["primit.{key}", "primit.{key}"], None, "repeated_credential"),
        ("/keyed", ["primit.{key}"], "X-Primit-API-Key", "repeated_credential"),
        ("/me", ["primit.{token}"], "Authorization", "repeated_credential"),
        ("/keyed", ["primit.pk_wrong"], None, "invalid_key"),
        ("/keyed", ["primit."], None, "invalid_key"),
        ("/keyed", ["primit"], None, "missing_key"),
        ("/keyed", ["app.v1"], None, "missing_key"),
        ("/me", ["primit.{key}"], None, "invalid_token"),
        ("/me", ["primit."], None, "missing_token"),
        ("/header", ["primit.{key}"], None, "missing_key"),
    ],
)
async def test_a_bad_credential_is_a_plain_401(
    gateway: Running,
    backend: Echo,
    session: aiohttp.ClientSession,
    key: str,
    token: str,
    path: str,
    offered: list[str],
    header: str | None,
    reason: str,
) -> None:
    names = [name.format(key=key, token=token) for name in offered]
    sent = {"X-Primit-API-Key": key, "Authorization": f"Bearer {token}"}
    headers = {header: sent[header]} if header else None
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await session.ws_connect(gateway.url + path, protocols=names, headers=headers)
    assert refused.value.status == 401
    await eventually(lambda: bool(gateway.log()))
    assert gateway.log()[0]["reason"] == reason
    assert backend.requests == []
    assert key not in gateway.log_path.read_text()


async def test_many_small_messages_keep_their_order_both_ways(
    gateway: Running, session: aiohttp.ClientSession
) -> None:
    async with session.ws_connect(gateway.url + "/ws") as socket:

        async def send() -> None:
            for number in range(2_000):
                await socket.send_str(str(number))

        sending = asyncio.create_task(send())
        got = [int(await socket.receive_str()) for _ in range(2_000)]
        await sending
    assert got == list(range(2_000))

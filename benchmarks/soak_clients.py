"""The soak's clients: each function is one thing that a client does, well-behaved or not, and says
what came of it: a status, or a word. `WEIGHTED` has how often which one is chosen; `websocket_kept`
is for clients that do nothing else.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
from backend_process import say
from gateway_process import GatewayProcess

PAUSE_SECONDS = 0.04  # of a client between two things that it does, on average
ACTION_SECONDS = 60.0  # longer: "late"
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
MALFORMED = (
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /x HTTP/3.7\r\nHost: a\r\n\r\n",
    b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(200),
    b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n",
    b"GET /x HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 70_000,
)


@dataclass
class Clients:
    """The traffic, and what came of it: outcomes by what was done."""

    gateway: GatewayProcess
    key: str
    session: aiohttp.ClientSession
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)

    async def act(self, end: float, only: "Action | None" = None) -> None:
        """One client after the other, each doing one thing, until `end` (monotonic seconds)."""
        while time.monotonic() < end:
            action = only or random.choices(ACTIONS, WEIGHTS)[0]
            outcome = "cut"
            try:
                async with asyncio.timeout(ACTION_SECONDS):
                    outcome = await action(self)
            except (OSError, aiohttp.ClientError, EOFError):
                pass
            except TimeoutError:
                outcome = "late"
            self.outcomes.setdefault(action.__name__, Counter())[outcome] += 1
            await asyncio.sleep(random.expovariate(1 / PAUSE_SECONDS))

    async def ask(self, path: str, method: str = "GET", **options: object) -> str:
        url = self.gateway.url + path
        async with self.session.request(method, url, **options) as answer:  # type: ignore[arg-type]
            async for _ in answer.content.iter_any():
                pass
            return str(answer.status)

    @contextlib.asynccontextmanager
    async def connection(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


def sized(number: int) -> str:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % number
    return f"body&{say(head)}&fill={number}"


async def small_get(clients: Clients) -> str:
    return await clients.ask("/a/x")


async def get_from_either(clients: Clients) -> str:
    return await clients.ask("/either/x")


async def medium_get(clients: Clients) -> str:
    return await clients.ask(f"/a/x?{sized(200_000)}")


async def large_get(clients: Clients) -> str:
    return await clients.ask(f"/b/x?{sized(8_000_000)}")


async def chunked_get(clients: Clients) -> str:
    return await clients.ask(f"/b/x?body&chunks={1 << 20}")


async def with_key(clients: Clients) -> str:
    return await clients.ask("/paid/x", headers={"X-Primit-API-Key": clients.key})


async def with_wrong_key(clients: Clients) -> str:
    return await clients.ask("/paid/x", headers={"X-Primit-API-Key": "pk_wrong"})


async def with_credentials_in_body(clients: Clients) -> str:
    body = {"api_key": "k" * 64, "api_secret": "s" * 64, "symbol": "BTCUSDT"}
    return await clients.ask("/orders/x", "POST", json=body)


async def upload(clients: Clients) -> str:
    return await clients.ask("/b/x", "POST", data=bytes(1_000_000))


async def chunked_upload(clients: Clients) -> str:
    async def pieces():
        for _ in range(20):
            yield bytes(20_000)
            await asyncio.sleep(0)

    return await clients.ask("/a/x", "POST", data=pieces())


async def events(clients: Clients) -> str:
    return await clients.ask("/b/x?events=20,50")


async def websocket(clients: Clients) -> str:
    async with clients.session.ws_connect(f"{clients.gateway.url}/ws/x?websocket") as socket:
        for number in range(10):
            await socket.send_str(f"message {number}")
            if (await socket.receive()).data != f"message {number}":
                return "cut"
            await asyncio.sleep(0.02)
    return "101"


async def websocket_kept(clients: Clients) -> str:
    """Outlives route tables, and backends now and then."""
    async with clients.session.ws_connect(f"{clients.gateway.url}/ws/x?websocket") as socket:
        for _ in range(30):
            await socket.send_str("still there")
            answer = await socket.receive()
            if answer.type is aiohttp.WSMsgType.CLOSE:
                return str(answer.data)
            if answer.data != "still there":
                return "cut"
            await asyncio.sleep(0.3)
    return "101"


async def websocket_left(clients: Clients) -> str:
    async with clients.connection() as (reader, writer):
        writer.write(
            b"GET /ws/x?websocket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: a2V5\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
    return "left"


async def left_before_the_answer(clients: Clients) -> str:
    async with clients.connection() as (_, writer):
        writer.write(b"GET /b/x?body&hang HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.sleep(0.05)
    return "left"


async def left_amid_a_download(clients: Clients) -> str:
    async with clients.connection() as (reader, writer):
        target = f"/b/x?{sized(8_000_000)}".encode()
        writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readexactly(100_000)
    return "left"


async def left_amid_an_upload(clients: Clients) -> str:
    async with clients.connection() as (_, writer):
        writer.write(b"POST /b/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        writer.write(bytes(100_000))
        await asyncio.sleep(0.05)
    return "left"


async def slow_download(clients: Clients) -> str:
    async with clients.connection() as (reader, writer):
        target = f"/b/x?{sized(4_000_000)}".encode()
        writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        for _ in range(40):
            await reader.readexactly(100_000)
            await asyncio.sleep(0.05)
    return "slow"


async def slow_upload(clients: Clients) -> str:
    async with clients.connection() as (reader, writer):
        writer.write(b"POST /b/x HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")
        for _ in range(20):
            writer.write(bytes(10_000))
            await asyncio.sleep(0.05)
        return (await reader.readline()).split()[1].decode()


async def malformed(clients: Clients) -> str:
    async with clients.connection() as (reader, writer):
        writer.write(random.choice(MALFORMED))
        return (await reader.readline()).split()[1].decode()


async def unknown_path(clients: Clients) -> str:
    return await clients.ask("/nowhere")


async def reset_by_backend(clients: Clients) -> str:
    return await clients.ask("/a/x?body&reset", "POST")


async def half_an_answer(clients: Clients) -> str:
    return await clients.ask(f"/a/x?body&{say(HALF)}&fin")


async def garbage(clients: Clients) -> str:
    return await clients.ask(f"/a/x?body&{say(bytes(range(256)))}&fin")


async def hung_backend(clients: Clients) -> str:
    return await clients.ask("/short/x?body&hang", "POST")


Action = Callable[[Clients], Awaitable[str]]
WEIGHTED: dict[Action, int] = {
    small_get: 20,
    get_from_either: 10,
    medium_get: 8,
    large_get: 2,
    chunked_get: 3,
    with_key: 10,
    with_wrong_key: 2,
    with_credentials_in_body: 6,
    upload: 4,
    chunked_upload: 4,
    events: 2,
    websocket: 3,
    websocket_left: 1,
    left_before_the_answer: 2,
    left_amid_a_download: 2,
    left_amid_an_upload: 2,
    slow_download: 1,
    slow_upload: 1,
    malformed: 4,
    unknown_path: 2,
    reset_by_backend: 2,
    half_an_answer: 2,
    garbage: 2,
    hung_backend: 1,
}
ACTIONS, WEIGHTS = list(WEIGHTED), list(WEIGHTED.values())

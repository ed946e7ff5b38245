"""The lane: a request that goes by it fares as one that goes by its connection's task.

The same random traffic goes through a gateway with the lane and one without; answers, logs, counts
and what the backends saw must be the same.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from backend import RawBackend, Received
from harness import Running, open_gateway, route, upstream
from redis_process import eventually

SEEDS = range(6)
CONNECTIONS = 40
AT_ONCE = 8
OK = b"HTTP/1.1 200 OK\r\n"
# What the backend says, by path; None: it ends the connection.
ANSWERS: dict[bytes, tuple[bytes | None, ...]] = {
    b"/plain": (OK + b"Content-Length: 2\r\nX-Thing: 1\r\nx-thing: 2\r\n\r\nok",),
    b"/halves": (OK + b"Content-Le", b"ngth: 4\r\n\r\nha", b"lf"),
    b"/chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", b"1\r\nc\r\n0\r\n\r\n"),
    b"/both": (OK + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",),
    b"/large": (OK + b"Content-Length: 300000\r\n\r\n", bytes(300_000)),
    b"/named": (OK + b"Connection: x-a, close\r\nX-A: 1\r\nContent-Length: 1\r\n\r\na", None),
    b"/last": (OK + b"Connection: close\r\nContent-Length: 1\r\n\r\na", None),
    b"/until-the-end": (OK + b"\r\nall of it", None),
    b"/empty": (b"HTTP/1.1 204 No Content\r\n\r\n",),
    b"/same": (b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",),
    b"/early": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        OK + b"Content-Length: 0\r\n\r\n",
    ),
    b"/excess": (OK + b"Content-Length: 1\r\n\r\nabc",),
    b"/nonsense": (b"SSH-2.0-x\r\n\r\n",),
    b"/cut": (OK + b"Content-Length: 9\r\n\r\nabc", None),
    b"/gone": (None,),
    b"/failing": (b"HTTP/1.1 503 Not now\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n",),
}
# With an answer that ends by itself, so that another one can follow.
STEADY = (b"/plain", b"/halves", b"/chunks", b"/empty", b"/same", b"/early", b"/failing")
CREDENTIALS = b'{"api_key": "a", "api_secret": "b"}'


@dataclass(frozen=True)
class Request:
    """What a client sends; `method` says how its answer is read."""

    head: bytes
    body: bytes = b""

    @property
    def method(self) -> bytes:
        return self.head.partition(b" ")[0]


@dataclass
class Seen:
    """All that a gateway did."""

    answers: list[list[bytes]] = field(default_factory=list)
    carried: set[bytes] = field(default_factory=set)
    log: list[tuple[Any, ...]] = field(default_factory=list)
    counts: list[str] = field(default_factory=list)


def request(draw: random.Random, number: str, *, steady: bool) -> Request:
    """Any; `steady`: a good one, with others behind it in the same write."""
    path = draw.choice(STEADY if steady else tuple(ANSWERS))
    method = draw.choice((b"GET", b"GET", b"GET", b"HEAD", b"POST", b"PUT"))
    fields, body = [b"Host: a", b"X-Request-ID: " + number.encode()], b""
    if method in (b"POST", b"PUT"):
        body = draw.choice((b"", b"12345", bytes(70_000)))
        fields.append(b"Content-Length: %d" % len(body))
    if not steady:
        path = draw.choice(
            (path, path, path, b"/key", b"/token", b"/body", b"/nowhere", b"/a/../b")
        )
        fields += draw.choice(ODD_FIELDS)
        if path == b"/body":
            body = draw.choice((CREDENTIALS, b"{}", b"[", b""))
            fields = [b"Host: a", fields[1], b"Content-Length: %d" % len(body)]
            method = b"POST"
        elif draw.random() < 0.1:
            fields = [*fields[:2], b"Transfer-Encoding: chunked"]
            body, method = b"5\r\nabcde\r\n0\r\n\r\n", b"POST"
    version = b"HTTP/1.1" if steady or draw.random() < 0.95 else b"HTTP/1.0"
    line = b"%b %b?q=1 %b" % (method, path, version)
    return Request(b"\r\n".join((line, *fields, b"", b"")), body)


ODD_FIELDS: tuple[tuple[bytes, ...], ...] = (
    *[()] * 8,
    (b"Connection: close",),
    (b"Connection: keep-alive, X-Mine", b"X-Mine: 1"),
    (b"X-User-Id: 7", b"X_Plan: high", b"X-Forwarded-For: 1.2.3.4"),
    (b"Expect: 100-continue",),
    (b"Upgrade: websocket", b"Connection: Upgrade"),
    (b"X-Primit-API-Key: pk_no",),
    (b"Authorization: Bearer no",),
    (b"Host: b",),
    (b"Origin: https://x.example",),
    (b"Content-Length: 1", b"Content-Length: 2"),
    (b"X-Long: " + b"x" * 70_000,),
)


async def answer(backend: RawBackend, received: Received, _: Any, writer: Any) -> None:
    path = received.line.split(b" ")[1].partition(b"?")[0]
    for piece in ANSWERS.get(path, ANSWERS[b"/plain"]):
        if piece is None:
            writer.close()
            return
        if received.line.startswith(b"HEAD"):
            piece = piece.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"  # noqa: PLW2901
        writer.write(piece)
        await asyncio.sleep(0.001)
        if received.line.startswith(b"HEAD") and b"HTTP/1.1 1" not in piece:
            return


@asynccontextmanager
async def gateway_with(
    folder: Path, *, lane: bool, limit: dict[str, Any] | None = None
) -> AsyncIterator[tuple[Running, RawBackend]]:
    folder.mkdir()
    backend = await RawBackend(script=answer).start()
    routes = [
        route(),
        route("/key", "plan_key", name="key", plan="standard"),
        route("/token", "app_token", name="token"),
        route("/body", "body_credentials", name="body", methods=["POST"]),
        route("/nowhere", name="nowhere", methods=["PATCH"]),
    ]
    files = {"upstreams": upstream(backend.url, ejection={"failures": 1_000_000}), "routes": routes}
    settings = {"rate_limit": limit or {"requests": 10_000}, "bounds": {"headers": 65_536}}
    environ = {"GATEWAY_LISTEN__LANE": str(lane).lower()}
    async with open_gateway(folder, files, settings, environ) as running:
        yield running, backend
    await backend.stop()


async def read_answer(reader: asyncio.StreamReader, method: bytes) -> bytes:
    """One answer with those of 1xx before it."""
    got = b""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            got += head
            status = head[9:12]
            if status[:1] == b"1":
                continue
            length = re.search(rb"\r\nContent-Length: (\d+)", head)
            if method == b"HEAD" or status in (b"204", b"304"):
                return got
            if b"Transfer-Encoding: chunked" in head:
                return got + await reader.readuntil(b"0\r\n\r\n")
            if length is None:
                return got + await reader.read()
            return got + await reader.readexactly(int(length[1]))
    except (asyncio.IncompleteReadError, ConnectionError):
        return b"<end>"  # how much one still reads of what was cut is chance


async def talk(gateway: Running, seed: int, number: int) -> list[bytes]:
    """What one connection is answered: a few requests, one by one or in one write, in pieces."""
    draw = random.Random(f"{seed} {number}")
    together = draw.random() < 0.3
    requests = [
        request(draw, f"c{number}-{at}", steady=together) for at in range(draw.randint(1, 6))
    ]
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    answers: list[bytes] = []
    try:
        async with asyncio.timeout(20):
            if together:
                writer.write(b"".join(one.head + one.body for one in requests))
            for one in requests:
                if not together:
                    sent = one.head + one.body
                    cut = draw.choice((0, draw.randrange(len(sent))))
                    for piece in (sent[:cut], sent[cut:]):
                        if writer.is_closing():  # it was refused by its first piece
                            break
                        writer.write(piece)
                        await asyncio.sleep(0.002 if cut else 0)
                answers.append(await read_answer(reader, one.method))
                if answers[-1].endswith(b"<end>"):
                    break
    finally:
        writer.transport.abort()
    return [without_chance(one) for one in answers]


def without_chance(text: bytes) -> bytes:
    """Less what differs from one run to the next."""
    text = re.sub(rb"\r\n(Date|RateLimit): [^\r]*", rb"\r\n\1", text)
    text = re.sub(rb":\d{4,5}\r\n", b":port\r\n", text)
    return re.sub(rb"\b[0-9a-f]{32}\b", b"id", text)


async def all_of(seed: int, folder: Path, *, lane: bool) -> Seen:
    seen = Seen()
    async with gateway_with(folder, lane=lane) as (gateway, backend):
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> list[bytes]:
            async with turns:
                return await talk(gateway, seed, number)

        seen.answers = await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))
        await eventually(lambda: not gateway.listener.connections)
        text = gateway.parts.metrics.render()[0].decode()
        seen.counts = sorted(
            line
            for line in text.splitlines()
            if re.match(r"gateway_(requests_total|refusals_total|request_seconds_count)", line)
        )
        seen.carried = {
            # Whether a request that was cut off is sent again is chance; then it says its length.
            without_chance(each.head).replace(b"\r\nContent-Length: 0\r\n", b"\r\n")
            + each.body
            + each.trailers
            for each in backend.requests
        }
    fields = ("request_id", "client_ip", "method", "route", "path", "status", "bytes")
    fields += ("pattern", "user_id", "key_id", "reason", "fault")
    seen.log = sorted(
        (tuple(str(line[name]) for name in fields) for line in gateway.log()),
        key=lambda line: (len(line[0]) == 32, line),
    )
    seen.log = [("id", *line[1:]) if len(line[0]) == 32 else line for line in seen.log]
    seen.log.sort()
    return seen


@pytest.mark.parametrize("seed", SEEDS)
async def test_what_goes_by_the_lane_fares_as_what_does_not(seed: int, tmp_path: Path) -> None:
    by_lane = await all_of(seed, lane=True, folder=tmp_path / "lane")
    by_task = await all_of(seed, lane=False, folder=tmp_path / "task")
    for one, other in zip(by_lane.answers, by_task.answers, strict=True):
        assert one == other
    assert by_lane.carried == by_task.carried
    assert by_lane.log == by_task.log
    assert by_lane.counts == by_task.counts


@pytest.mark.parametrize("lane", [True, False])
async def test_a_whole_request_is_in_the_lane_unless_that_is_closed(
    tmp_path: Path, *, lane: bool
) -> None:
    unlimited = {"enabled": False}  # what asks for a limit may have to wait
    async with gateway_with(tmp_path / "gateway", lane=lane, limit=unlimited) as (gateway, backend):
        go_on = asyncio.Event()

        async def wait(backend: RawBackend, received: Received, reader: Any, writer: Any) -> None:
            await go_on.wait()
            await answer(backend, received, reader, writer)

        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        get = Request(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
        writer.write(get.head)  # makes the backend's connection, which takes a task
        await read_answer(reader, get.method)
        backend.script = wait
        writer.write(get.head)
        await eventually(lambda: len(backend.requests) == 2)
        (connection,) = gateway.listener.connections
        assert connection.in_lane == lane
        go_on.set()
        assert (await read_answer(reader, get.method)).endswith(b"ok")
        assert not connection.in_lane
        writer.close()

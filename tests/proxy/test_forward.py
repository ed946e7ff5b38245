"""Forwarding, over real sockets: what the backend sees, and what the client sees."""

import asyncio
import gzip
import socket
from pathlib import Path

import pytest
from backend import OK, RawBackend
from harness import Running, open_gateway, read_answer, route, upstream

HEAD = b"Host: api.example\r\n"
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a2V5\r\n"


@pytest.fixture
async def backend():
    backend = await RawBackend().start()
    yield backend
    await backend.stop()


@pytest.fixture
async def gateway(backend: RawBackend, tmp_path: Path):
    routes = {
        "upstreams": upstream(backend.url, timeout={"connect": 1, "read": 1}),
        "routes": [route()],
    }
    async with open_gateway(tmp_path, routes) as running:
        yield running


async def get(
    gateway: Running, target: str = "/x", *fields: bytes, method: bytes = b"GET"
) -> bytes:
    lines = b"".join(field + b"\r\n" for field in fields)
    return await gateway.talk(
        b"%b %b HTTP/1.1\r\n%b%b\r\n" % (method, target.encode(), HEAD, lines)
    )


def head_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[0]


def field(answer: bytes, name: bytes) -> list[bytes]:
    pairs = [line.split(b": ", 1) for line in head_of(answer).split(b"\r\n")[1:]]
    return [value for field, value in pairs if field.lower() == name.lower()]


@pytest.mark.parametrize(
    "target",
    [
        "/x",
        "/x?",
        "/x?a=b&c=%2F%00&a=b",
        "/x/%E4%BD%A0%E5%A5%BD?q=%zz",
        "/a%20b/c+d/~e/!$&'()*,=:@",
        "/x?q=//../;\\",
        "/x/",
    ],
)
async def test_the_target_reaches_the_backend_byte_for_byte(gateway, backend, target) -> None:
    assert (await get(gateway, target)).startswith(b"HTTP/1.1 200")
    assert backend.last.line == f"GET {target} HTTP/1.1".encode()


async def test_the_request_tells_the_backend_who_asked_and_how(gateway, backend) -> None:
    await get(
        gateway,
        "/x",
        b"X-Forwarded-For: 6.6.6.6",
        b"x_user_id: 1",
        b"X-Request-ID: mine-1",
        b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        b"X-Bytes: \xff\xe4",
        b"Accept: a",
        b"Accept: b",
    )
    got = backend.last
    assert got.one(b"X-Forwarded-For") == b"127.0.0.1"
    assert got.one(b"X-Forwarded-Proto") == b"http"
    assert got.one(b"X-Forwarded-Host") == b"api.example"
    assert got.one(b"Host") == f"127.0.0.1:{backend.port}".encode()
    assert got.one(b"X-Request-ID") == b"mine-1"
    assert got.one(b"X-Auth-Pattern") == b"public"
    assert got.one(b"traceparent").startswith(b"00-4bf9")
    assert got.one(b"X-Bytes") == b"\xff\xe4"
    assert got.all(b"Accept") == [b"a", b"b"]
    assert got.all(b"x_user_id") == []


async def test_fields_that_connection_names_stop_here(gateway, backend) -> None:
    await get(gateway, "/x", b"Connection: X-Hop, keep-alive", b"X-Hop: 1", b"X-Other: 2")
    assert backend.last.all(b"X-Hop") == []
    assert backend.last.all(b"Connection") == []
    assert backend.last.one(b"X-Other") == b"2"


async def test_connection_can_not_name_away_what_the_gateway_says(gateway, backend) -> None:
    await get(gateway, "/x", b"Connection: X-Forwarded-For, X-Auth-Pattern, Host")
    assert backend.last.one(b"X-Forwarded-For") == b"127.0.0.1"
    assert backend.last.one(b"X-Auth-Pattern") == b"public"
    assert backend.last.all(b"Host")


@pytest.mark.parametrize(
    ("body", "framing"),
    [
        (b"", b"Content-Length: 0"),
        (b"hello", b"Content-Length: 5"),
        (bytes(range(256)) * 4000, b"Content-Length: 1024000"),
    ],
    ids=["empty", "small", "large"],
)
async def test_a_body_of_known_length_arrives_as_it_was_sent(
    gateway, backend, body, framing
) -> None:
    answer = await gateway.talk(b"POST /x HTTP/1.1\r\n" + HEAD + framing + b"\r\n\r\n", body)
    assert answer.startswith(b"HTTP/1.1 200")
    assert backend.last.body == body
    assert backend.last.one(b"Content-Length") == str(len(body)).encode()


@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_chunked_body_arrives_whole_and_its_trailers_nowhere(
    gateway, backend, pieces
) -> None:
    chunks = [b"5\r\nhello\r\n", b"6\r\n world\r\n", b"0\r\nAuthorization: Bearer stolen\r\n\r\n"]
    if pieces == 1:
        chunks = [b"".join(chunks)]
    head = b"POST /x HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    after = b"GET /after HTTP/1.1\r\n" + HEAD + b"\r\n"
    answer = await gateway.talk(head, *chunks, after, until_closed=True)
    assert answer.count(b"HTTP/1.1 200") == 1
    assert b"Connection: close" in answer
    assert backend.last.body == b"hello world"
    assert len(backend.requests) == 1
    assert b"stolen" not in backend.last.head + backend.last.trailers


async def test_a_compressed_body_passes_untouched_in_both_directions(gateway, backend) -> None:
    packed = gzip.compress(b"x" * 1000)
    backend.answer = (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
        + packed
    )
    answer = await gateway.talk(
        b"POST /x HTTP/1.1\r\n%bContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b"
        % (HEAD, len(packed), packed)
    )
    assert backend.last.body == packed
    assert backend.last.one(b"Content-Encoding") == b"gzip"
    assert answer.endswith(packed)


async def test_answers_pass_with_their_cookies_redirects_and_odd_bytes(gateway, backend) -> None:
    backend.answer = (
        b"HTTP/1.1 302 Found Elsewhere\r\nLocation: /y\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        b"X-Odd: \xff\xe4\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Request-ID: theirs\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    answer = await get(gateway, "/x", b"X-Request-ID: mine")
    assert answer.startswith(b"HTTP/1.1 302 Found Elsewhere\r\n")
    assert field(answer, b"Location") == [b"/y"]
    assert field(answer, b"Set-Cookie") == [b"a=1", b"b=2"]
    assert field(answer, b"X-Odd") == [b"\xff\xe4"]
    assert field(answer, b"X-Hop") == []
    assert field(answer, b"X-Request-ID") == [b"mine"]


async def test_every_limited_answer_tells_its_limit(gateway, backend) -> None:
    for expected in (b'"ip";r=999;t=', b'"ip";r=998;t='):
        answer = await get(gateway)
        assert field(answer, b"RateLimit-Policy") == [b'"ip";q=1000;w=60']
        assert field(answer, b"RateLimit")[0].startswith(expected)


async def test_a_chunked_answer_stays_chunked_and_one_until_close_becomes_it(
    gateway, backend
) -> None:
    backend.answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    request = b"GET /x HTTP/1.1\r\n" + HEAD + b"Connection: close\r\n\r\n"
    assert (await gateway.talk(request, until_closed=True)).endswith(b"\r\n2\r\nhi\r\n0\r\n\r\n")

    async def until_close(_backend, _request, _reader, writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall")
        writer.close()

    backend.script = until_close
    answer = await gateway.talk(request, until_closed=True)
    assert b"Transfer-Encoding: chunked" in answer
    assert answer.endswith(b"\r\n3\r\nall\r\n0\r\n\r\n")


async def test_an_http_1_0_client_gets_no_chunks(gateway, backend) -> None:
    backend.answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    answer = await gateway.talk(b"GET /x HTTP/1.0\r\n\r\n", until_closed=True)
    assert b"chunked" not in answer
    assert answer.endswith(b"\r\n\r\nhi")


@pytest.mark.parametrize(
    ("method", "answer", "status"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", b"200"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", b"204"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 999\r\n\r\n", b"304"),
    ],
)
async def test_answers_without_a_body_leave_the_connection_usable(
    gateway, backend, method, answer, status
) -> None:
    backend.answer = answer
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    for _ in range(2):
        writer.write(method + b" /x HTTP/1.1\r\n" + HEAD + b"\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.split()[1] == status
    backend.answer = OK
    writer.write(b"GET /x HTTP/1.1\r\n" + HEAD + b"\r\n")
    assert (await read_answer(reader)).endswith(b"ok")
    writer.close()
    assert backend.connections == 1


async def test_pipelined_requests_are_answered_in_order(gateway, backend) -> None:
    async def name(_backend, request, _reader, writer) -> None:
        path = request.line.split()[1]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    backend.script = name
    requests = b"".join(b"GET /%d HTTP/1.1\r\n%b\r\n" % (number, HEAD) for number in range(20))
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(requests)
    for number in range(20):
        assert (await read_answer(reader)).endswith(b"/%d" % number)
    writer.close()


async def test_a_client_that_waits_for_leave_gets_it_once_it_is_admitted(gateway, backend) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        b"POST /x HTTP/1.1\r\n" + HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    )
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"abc")
    assert (await read_answer(reader)).startswith(b"HTTP/1.1 200")
    assert backend.last.body == b"abc"
    assert backend.last.all(b"Expect") == []
    writer.close()


async def test_refused_before_any_answer_is_502(gateway, backend) -> None:
    await backend.stop()
    answer = await get(gateway)
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert answer.endswith(b'{"detail": "Bad Gateway"}')


@pytest.mark.parametrize(
    "said",
    [b"", b"HTTP/1.1 200 OK\r\nConte", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n"],
)
async def test_reset_or_nonsense_before_an_answer_is_502(gateway, backend, said) -> None:
    async def break_off(_backend, _request, _reader, writer) -> None:
        writer.write(said)
        await writer.drain()
        writer.close()

    backend.script = break_off
    assert (await get(gateway)).startswith(b"HTTP/1.1 502 ")


async def test_no_answer_in_time_is_504(gateway, backend) -> None:
    async def hang(_backend, _request, reader, _writer) -> None:
        await reader.read()

    backend.script = hang
    answer = await get(gateway)
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert answer.endswith(b'{"detail": "Gateway Timeout"}')


@pytest.mark.parametrize(
    "half",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
    ids=["length", "chunked"],
)
async def test_an_answer_that_breaks_off_is_never_ended_well(gateway, backend, half) -> None:
    async def break_off(_backend, _request, _reader, writer) -> None:
        writer.write(half)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    backend.script = break_off
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /x HTTP/1.1\r\n" + HEAD + b"\r\n")
    got = b""
    try:
        while piece := await reader.read(1000):
            got += piece
    except ConnectionResetError:
        pass
    assert b"half" in got
    assert not got.endswith(b"0\r\n\r\n")


async def test_a_kept_alive_connection_that_died_is_tried_again_for_get_but_not_for_post(
    gateway, backend
) -> None:
    async def answer_once(backend, request, _reader, writer) -> None:
        if len(backend.requests) in (2, 5):  # the second on a connection: dies unanswered
            writer.transport.abort()
            return
        writer.write(OK)

    backend.script = answer_once
    assert (await get(gateway)).startswith(b"HTTP/1.1 200")
    assert (await get(gateway)).startswith(b"HTTP/1.1 200")
    assert len(backend.requests) == 3
    post = b"POST /x HTTP/1.1\r\n" + HEAD + b"Content-Length: 1\r\n\r\n1"
    assert (await gateway.talk(post)).startswith(b"HTTP/1.1 200")
    assert (await gateway.talk(post)).startswith(b"HTTP/1.1 502")
    assert len(backend.requests) == 5


async def test_a_client_that_leaves_ends_the_upstream_request(gateway, backend) -> None:
    arrived = asyncio.Event()

    async def hang(_backend, _request, reader, _writer) -> None:
        arrived.set()
        await reader.read()

    backend.script = hang
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /x HTTP/1.1\r\n" + HEAD + b"\r\n")
    await arrived.wait()
    assert backend.open_connections == 1
    writer.transport.abort()
    async with asyncio.timeout(0.9):  # well before the read timeout would end it
        while backend.open_connections:
            await asyncio.sleep(0.01)


async def test_a_slow_client_holds_the_backend_back(gateway, backend) -> None:
    size = 64 << 20
    sent = 0

    async def flood(_backend, _request, _reader, writer) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        block = bytes(1 << 16)
        while sent < size:
            writer.write(block)
            await writer.drain()
            sent += len(block)

    backend.script = flood
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /x HTTP/1.1\r\n" + HEAD + b"\r\n")
    await reader.readuntil(b"\r\n\r\n")
    before = -1
    while before != sent:  # until nothing moves any more
        before = sent
        await asyncio.sleep(0.2)
    assert sent < size / 2
    total = 0
    while total < size:
        total += len(await reader.read(1 << 20))
    assert total == size
    writer.close()


async def test_an_early_answer_ends_the_upload(gateway, backend) -> None:
    backend.read_bodies = False

    async def refuse(_backend, _request, _reader, writer) -> None:
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    backend.script = refuse
    head = b"POST /x HTTP/1.1\r\n" + HEAD + b"Content-Length: 1000000\r\n\r\n"
    answer = await gateway.talk(head, b"x" * 1000)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"Connection: close" in answer


async def test_a_client_that_leaves_after_a_refusal_amid_its_body_is_let_go(
    backend, tmp_path
) -> None:
    routes = {"upstreams": upstream(backend.url), "routes": [route(max_body=10)]}
    async with open_gateway(tmp_path, routes) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"POST /x HTTP/1.1\r\n" + HEAD + b"Content-Length: 1000\r\n\r\nsome")
        assert (await read_answer(reader)).startswith(b"HTTP/1.1 413")
        assert gateway.listener.connections
        writer.transport.abort()
        async with asyncio.timeout(5):  # aiohttp lingers for ten
            while gateway.listener.connections:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("handshake", [b"", WEBSOCKET], ids=["request", "handshake"])
async def test_a_routes_own_time_for_connecting_counts(tmp_path, handshake) -> None:
    with socket.socket() as full, socket.socket() as first:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # one connection waits in it; Linux lets the next ones hang
        first.connect(full.getsockname())
        routes = {
            "upstreams": upstream(f"http://127.0.0.1:{full.getsockname()[1]}"),
            "routes": [route(websocket=True, timeout={"connect": 0.1})],
        }
        async with open_gateway(tmp_path, routes) as gateway, asyncio.timeout(1.5):
            request = b"GET /x HTTP/1.1\r\n" + HEAD + handshake + b"\r\n"
            assert (await gateway.talk(request)).startswith(b"HTTP/1.1 504")


@pytest.mark.parametrize(
    ("target", "sent", "host"),
    [
        (b"http://other.example/x?a=%2F", b"/x?a=%2F", b"other.example"),
        (b"HTTPS://other.example:8443/x", b"/x", b"other.example:8443"),
        (b"http://[::1]:80/x", b"/x", b"[::1]:80"),
    ],
)
async def test_a_target_in_absolute_form_names_path_and_host_whatever_host_says(
    gateway, backend, target, sent, host
) -> None:
    answer = await gateway.talk(b"GET %b HTTP/1.1\r\n%b\r\n" % (target, HEAD))
    assert answer.startswith(b"HTTP/1.1 200")
    assert backend.last.line == b"GET %b HTTP/1.1" % sent
    assert backend.last.one(b"X-Forwarded-Host") == host


async def test_a_host_in_absolute_form_decides_the_route(backend, tmp_path) -> None:
    table = [route("/x", name="one", host="one.example"), route("/health2", name="two")]
    async with open_gateway(tmp_path, {"upstreams": upstream(backend.url), "routes": table}) as own:
        for target, status in [(b"http://one.example/x", b"200"), (b"/x", b"404")]:
            answer = await own.talk(b"GET %b HTTP/1.1\r\n%b\r\n" % (target, HEAD))
            assert answer.split()[1] == status

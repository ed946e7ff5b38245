"""The life of a connection: versions, keep-alive, pipelining, Expect, upgrades."""

from case import CHUNKED, HEAD, SMUGGLED, Case, Saw, carried, chunks, post, refused, request

GET = request()
LAST = request(b"Connection: close\r\n", target=b"/last")
X, LAST_SAW = Saw(b"GET /x HTTP/1.1"), Saw(b"GET /last HTTP/1.1")
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def old(fields: bytes = b"", target: bytes = b"/x") -> bytes:
    return request(fields, target=target, version=b"HTTP/1.0")


KEEPING = [
    carried("HTTP/1.1 is kept alive", "9112 §9.3", GET, got_not=(b"Connection: close",)),
    carried(
        "HTTP/1.1 with keep-alive",
        "9112 §9.3",
        request(b"Connection: keep-alive\r\n"),
        lacks=(b"Connection",),
    ),
    carried("HTTP/1.1 with close", "9112 §9.6", request(b"Connection: close\r\n"), closes=True),
    carried("close in capitals", "9110 §7.6.1", request(b"Connection: CLOSE\r\n"), closes=True),
    carried(
        "close in a list", "9110 §7.6.1", request(b"Connection: X-One, close\r\n"), closes=True
    ),
    carried(
        "close and keep-alive",
        "9112 §9.3",
        request(b"Connection: close, keep-alive\r\n"),
        closes=True,
    ),
    carried(
        "close in a second line",
        "9110 §7.6.1",
        request(b"Connection: keep-alive\r\nConnection: close\r\n"),
        closes=True,
    ),
    carried("HTTP/1.0 is not kept alive", "9112 §9.3", old(), closes=True),
    carried(
        "HTTP/1.0 with keep-alive",
        "9112 §9.3",
        old(b"Connection: keep-alive\r\n"),
        got=(b"\r\nConnection: keep-alive\r\n",),
    ),
    carried("HTTP/1.0 with close", "9112 §9.3", old(b"Connection: close\r\n"), closes=True),
    carried(
        "HTTP/1.0 with a length",
        "9112 §6.3",
        request(b"Content-Length: 5\r\n", b"hello", method=b"POST", version=b"HTTP/1.0"),
        seen=b"hello",
        closes=True,
    ),
    carried("what follows close is not read", "9112 §9.6", LAST + SMUGGLED, closes=True),
    carried("what follows in HTTP/1.0 is not read", "9112 §9.3", old() + SMUGGLED, closes=True),
    Case("a refusal that keeps the connection", "9112 §9.3", request(target=b"/health"), (200,)),
    Case("404 keeps the connection", "9112 §9.3", request(target=b"/auth/mobile/google"), (405,)),
]

PIPELINES = [
    Case("two requests at once", "9112 §9.3.2", GET + LAST, (200, 200), (X, LAST_SAW), closes=True),
    Case(
        "three requests at once",
        "9112 §9.3.2",
        GET + GET + LAST,
        (200,) * 3,
        (X, X, LAST_SAW),
        closes=True,
    ),
    Case(
        "ten requests at once",
        "9112 §9.3.2",
        GET * 9 + LAST,
        (200,) * 10,
        (X,) * 9 + (LAST_SAW,),
        closes=True,
    ),
    Case(
        "a body, then a request",
        "9112 §9.3.2",
        post(b"Content-Length: 5\r\n", b"hello") + LAST,
        (200, 200),
        (Saw(b"POST /x HTTP/1.1", body=b"hello"), LAST_SAW),
        closes=True,
    ),
    Case(
        "HEAD, then a request",
        "9112 §9.3.2",
        request(method=b"HEAD") + LAST,
        (200, 200),
        (Saw(b"HEAD /x HTTP/1.1"), LAST_SAW),
        closes=True,
    ),
    Case(
        "an empty line between requests",
        "9112 §2.2",
        GET + b"\r\n" + LAST,
        (200, 200),
        (X, LAST_SAW),
        closes=True,
    ),
    Case(
        "a refusal amid requests",
        "9112 §9.3.2",
        GET + request(target=b"/get", method=b"PUT") + LAST,
        (200, 405, 200),
        (X, LAST_SAW),
        closes=True,
    ),
    Case(
        "own answers amid requests",
        "9112 §9.3.2",
        GET + request(target=b"/health") + LAST,
        (200, 200, 200),
        (X, LAST_SAW),
        closes=True,
    ),
    Case(
        "OPTIONS * amid requests",
        "9112 §9.3.2",
        GET + request(method=b"OPTIONS", target=b"*") + LAST,
        (200, 200, 200),
        (X, LAST_SAW),
        closes=True,
    ),
    Case(
        "a bad request behind a good one",
        "9112 §9.3.2",
        GET + request(host=HEAD + HEAD) + SMUGGLED,
        (200, 400),
        (X,),
        closes=True,
    ),
    Case(
        "garbage behind a request",
        "9112 §9.3.2",
        GET + b"\x00\x01\x02\r\n\r\n",
        (200, 400),
        (X,),
        closes=True,
    ),
    Case(
        "two lengths behind a good request",
        "9112 §6.3",
        GET + post(b"Content-Length: 0\r\nContent-Length: 61\r\n") + SMUGGLED,
        (200, 400),
        (X,),
        closes=True,
    ),
    Case(
        "a body left by a refusal is not the next request",
        "9112 §9.3",
        request(b"Content-Length: %d\r\n" % len(SMUGGLED), SMUGGLED, method=b"PUT", target=b"/get"),
        (405,),
    ),
    Case(
        "a body left by the gateway's own answer",
        "9112 §9.3",
        request(b"Content-Length: %d\r\n" % len(SMUGGLED), SMUGGLED, target=b"/health"),
        (200,),
    ),
    carried(
        "a request behind chunks is not read",
        "9112 §7.1.2",
        chunks(b"5\r\nhello\r\n0\r\n\r\n") + SMUGGLED,
        seen=b"hello",
        closes=True,
    ),
]

EXPECT = b"Expect: 100-continue\r\nContent-Length: 5\r\n"
EXPECTING = [
    carried(
        "Expect: leave is given",
        "9110 §10.1.1",
        post(EXPECT),
        after_continue=b"hello",
        seen=b"hello",
        statuses=(100, 200),
        lacks=(b"Expect",),
    ),
    carried(
        "Expect in capitals",
        "9110 §10.1.1",
        post(b"EXPECT: 100-CONTINUE\r\nContent-Length: 5\r\n"),
        after_continue=b"hello",
        seen=b"hello",
        statuses=(100, 200),
    ),
    carried(
        "Expect with chunks",
        "9110 §10.1.1",
        post(b"Expect: 100-continue\r\n" + CHUNKED),
        after_continue=b"5\r\nhello\r\n0\r\n\r\n",
        seen=b"hello",
        statuses=(100, 200),
        closes=True,
    ),
    carried(
        "Expect in HTTP/1.0 is ignored",
        "9110 §10.1.1",
        request(EXPECT, b"hello", method=b"POST", version=b"HTTP/1.0"),
        seen=b"hello",
        closes=True,
    ),
    carried("Expect without a body", "9110 §10.1.1", request(b"Expect: 100-continue\r\n")),
    Case(
        "Expect: no leave for who is not admitted",
        "9110 §10.1.1",
        post(EXPECT, target=b"/key"),
        (401,),
        lingers=True,
        closes=True,
    ),
    Case(
        "Expect: no leave for too much",
        "9110 §10.1.1",
        post(b"Expect: 100-continue\r\nContent-Length: 17\r\n", target=b"/small"),
        (413,),
        lingers=True,
        closes=True,
    ),
    Case(
        "Expect: no leave where nothing is",
        "9110 §10.1.1",
        post(EXPECT, target=b"/get"),
        (405,),
        lingers=True,
        closes=True,
    ),
    Case(
        "Expect: no leave for bad framing",
        "9110 §10.1.1",
        post(EXPECT + b"Transfer-Encoding: chunked\r\n"),
        (400,),
        closes=True,
    ),
    carried(
        "Expect of something else",
        "9110 §10.1.1",
        post(b"Expect: 200-ok\r\nContent-Length: 5\r\n", b"hello"),
        seen=b"hello",
        lacks=(b"Expect",),
    ),
    carried(
        "Expect twice, one of something else",
        "9110 §10.1.1",
        post(b"Expect: 200-ok\r\nExpect: 100-continue\r\nContent-Length: 5\r\n", b"hello"),
        seen=b"hello",
        lacks=(b"Expect",),
    ),
]


def socket(fields: bytes = WEBSOCKET, **more: bytes) -> bytes:
    return request(fields, target=b"/ws", **more)


UPGRADES = [
    carried(
        "WebSocket",
        "6455 §4.1",
        socket(),
        statuses=(101,),
        answer=SWITCHED + b"tunnel",
        answer_ends=True,
        closes=True,
        body=b"tunnel",
        has=(b"Upgrade: websocket", b"Connection: Upgrade"),
    ),
    carried(
        "WebSocket in capitals",
        "6455 §4.1",
        socket(WEBSOCKET.replace(b"websocket", b"WebSocket")),
        statuses=(101,),
        answer=SWITCHED,
        answer_ends=True,
        closes=True,
    ),
    carried(
        "WebSocket, Connection lists more",
        "9110 §7.8",
        socket(WEBSOCKET.replace(b": Upgrade", b": keep-alive, Upgrade")),
        statuses=(101,),
        answer=SWITCHED,
        answer_ends=True,
        closes=True,
    ),
    carried(
        "WebSocket that the backend declines",
        "6455 §4.2.2",
        socket() + SMUGGLED,
        statuses=(403,),
        answer=b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        closes=True,
    ),
    carried(
        "WebSocket where no route takes one",
        "9110 §7.8",
        request(WEBSOCKET) + SMUGGLED,
        lacks=(b"Upgrade",),
        closes=True,
    ),
    carried(
        "Upgrade without Connection",
        "9110 §7.8",
        socket(b"Upgrade: websocket\r\n"),
        lacks=(b"Upgrade",),
    ),
    carried(
        "WebSocket by POST",
        "6455 §4.1",
        socket(method=b"POST") + SMUGGLED,
        lacks=(b"Upgrade",),
        closes=True,
    ),
    carried(
        "WebSocket in HTTP/1.0",
        "9110 §7.8",
        socket(version=b"HTTP/1.0") + SMUGGLED,
        lacks=(b"Upgrade",),
        closes=True,
    ),
    carried(
        "h2c",
        "9113 §3.1",
        request(
            b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        )
        + SMUGGLED,
        lacks=(b"Upgrade", b"HTTP2-Settings"),
        closes=True,
    ),
    refused(
        "WebSocket with a length",
        "6455 §4.1",
        socket(WEBSOCKET + b"Content-Length: %d\r\n" % len(SMUGGLED)),
    ),
    refused(
        "WebSocket with chunks",
        "6455 §4.1",
        socket(WEBSOCKET + CHUNKED) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED),
    ),
]

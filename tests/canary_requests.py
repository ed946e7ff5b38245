"""What the gateway of the canary test is sent: its routes and backends, and the odd requests.

Each table names its cases; `secret` and `x` are canaries, put where they don't belong.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

from arena import ROUTES
from backend import OK, RawBackend, Received
from harness import route
from redis_process import free_port

PATTERNS: dict[str, dict[str, Any]] = {
    "public": {"auth": "public"},
    "plan": {"auth": "plan_key", "plan": "standard"},
    "own-credentials": {"auth": "body_credentials", "max_body": 4096},
    "registered": {"auth": "registered_key", "max_body": 4096},
    "injected": {"auth": "registered_key", "inject": True, "max_body": 4096},
    "owned": {"auth": "registered_key", "owner": "app_token", "max_body": 4096},
    "token": {"auth": "app_token"},
    "scoped": {"auth": "app_token", "scope": ["trade"]},
}
WITH_BODY = frozenset({"own-credentials", "registered", "injected", "owned"})
WITH_TOKEN = frozenset({"owned", "token", "scoped"})
# What becomes of a good request, by the upstream it goes to.
UPSTREAMS = {
    "good": 200,
    "refusing": 502,
    "resetting": 502,
    "garbled": 502,
    "breaking": 200,  # and then the connection is cut
    "silent": 504,
    "down": 503,
}


def route_table(backend: RawBackend) -> dict[str, Any]:
    """Each pattern on each upstream: `POST /{pattern}/{upstream}/…`."""
    usual = {"targets": [backend.url], "headers": {"X-Backend-Key": "${BACKEND_KEY}"}}
    upstreams = dict.fromkeys(("good", "resetting", "garbled", "breaking", "hanging"), usual)
    upstreams["refusing"] = {"targets": [f"http://127.0.0.1:{free_port()}"]}
    upstreams["silent"] = usual | {"timeout": {"read": 0.2}}
    upstreams["down"] = usual | {"health": {"path": "/never-well", "interval": 0.1}}
    routes = [
        route(f"/{pattern}/{kind}/{{rest...}}", name=f"{pattern}-{kind}", methods=["POST"])
        | fields
        | {"upstream": kind}
        for pattern, fields in PATTERNS.items()
        for kind in upstreams
    ]
    stream = route("/ws", name="stream", methods=["GET"], websocket=True) | {"upstream": "good"}
    attacked = [each | {"upstream": "good"} for each in ROUTES]
    return {"version": 1, "upstreams": upstreams, "routes": [*routes, stream, *attacked]}


async def misbehave(
    _backend: RawBackend,
    received: Received,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Fail as the request's path says."""
    _, _, kind, *_ = (*received.line.split(b"/"), b"", b"")
    if kind == b"resetting":
        writer.transport.abort()
    elif kind == b"garbled":
        writer.write(b"SPDY/9 what?\r\n\r\n")
    elif kind == b"breaking":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()
    elif kind in (b"silent", b"hanging"):
        await reader.read()  # until the gateway gives up
    elif received.all(b"Upgrade"):
        switch = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n" % switch)
        await writer.drain()
        writer.close()
    elif b"/never-well" in received.line:
        writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    else:
        writer.write(OK)


def bad_bodies(secret: str) -> Iterator[tuple[str, bytes, int]]:
    """Bodies that no pattern takes, and the status of the refusal."""
    pair = f'"api_key": "{secret}", "api_secret": "{secret}", "email": "{secret}"'
    listed = f'"api_key": ["{secret}"], "api_secret": {{"{secret}": 1}}, "email": ["{secret}"]'
    unwritable = pair.replace(secret, secret + "\\ud800")
    for name, text in {
        "no object": f'["{secret}"]',
        "not JSON": f"{{{pair}, {secret}: 1}}",
        "cut": f"{{{pair}",
        "a name twice": f"{{{pair}, {pair}}}",
        "wrong types": f"{{{listed}}}",
        "other names": f'{{"{secret}": "{secret}"}}',
        "not UTF-8": f"{{{pair}}}\udcff",
        "no number": f'{{{pair}, "n": NaN}}',
        "a surrogate": f"{{{unwritable}}}",
        "a nesting bomb": f'{{{pair}, "n": ' + "[" * 3500,
    }.items():
        yield name, text.encode(errors="surrogateescape"), 422
    yield "too long", f"{{{pair}}}".encode() + b" " * 5000, 413


def broken_chunks(x: bytes) -> dict[str, bytes]:
    """Chunked bodies that are malformed."""
    return {
        "size": b"%b\r\nx\r\n0\r\n\r\n" % x,
        "end": b"5\r\n%b\r\n0\r\n\r\n" % x,
        "extension": b"5;%b=\x00\r\nhello\r\n0\r\n\r\n" % x,
        "trailer": b"2\r\n{}\r\n0\r\n%b\r\n\r\n" % x,
    }


def malformed_heads(x: bytes, load: bytes) -> dict[str, tuple[bytes, int]]:
    """What is no request, or none that may pass; `load` are head lines with canaries."""
    line, end = b"GET /public/good/x?%b HTTP/1.1\r\nHost: a\r\n" % x + load, b"\r\n"
    chunks, length = b"Transfer-Encoding: chunked\r\n", b"Content-Length: 1\r\n"
    return {
        "nothing but a secret": (x + b"\r\n\r\n", 400),
        "unknown method": (b"%b /x HTTP/1.1\r\nHost: a\r\n" % x.upper() + load + end, 400),
        "HTTP/0.9": (b"GET /?%b\r\n\r\n" % x, 400),
        "odd version": (b"GET /?%b HTTP/3.%b\r\n\r\n" % (x, x), 400),
        "version 2": (b"GET /?%b HTTP/2.0\r\nHost: a\r\n" % x + load + end, 400),
        "preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + x, 400),
        "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + x, 400),
        "no colon": (line + x + end * 2, 400),
        "a blank in a name": (line + b"X %b: 1\r\n" % x + end, 400),
        "odd bytes in a name": (line + b"X\xff%b: 1\r\n" % x + end, 400),
        "a NUL in a value": (line + b"X: %b\0\r\n" % x + end, 400),
        "folded": (line + b"X: 1\r\n %b\r\n" % x + end, 400),
        "bare LF": (line + b"X: %b\n\n" % x, 400),
        "two lengths": (line + length + b"Content-Length: 2\r\n" + end + x, 400),
        "no length": (line + b"Content-Length: %b\r\n" % x + end, 400),
        "length and chunks": (line + length + chunks + end + x, 400),
        "unknown coding": (line + b"Transfer-Encoding: %b\r\n" % x + end, 400),
        "odd host": (b"GET / HTTP/1.1\r\nHost: %b@%b\r\n" % (x, x) + load + end, 400),
        "two hosts": (line + b"Host: %b\r\n" % x + end, 400),
        "no host": (b"GET /?%b HTTP/1.1\r\n" % x + load + end, 400),
        "CONNECT": (b"CONNECT u:%b@a:443 HTTP/1.1\r\nHost: a\r\n" % x + load + end, 400),
        "a whole URL": (b"GET http://u:%b@a/ HTTP/1.1\r\nHost: a\r\n" % x + load + end, 400),
        "a long line": (b"GET /%b HTTP/1.1\r\n\r\n" % (x * 500), 414),
        "a long value": (line + b"X: %b\r\n" % (x * 2000) + end, 431),
        "many headers": (line + b"X: %b\r\n" % x * 200 + end, 431),
        "behind another": (line + end + x + end * 2, 405),  # the answer to the one before it
    }


def malformed_for_admin(x: bytes, authorization: bytes) -> dict[str, bytes]:
    """What is no request, for the admin listener."""
    line = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    chunked = b"POST /api/keys.list HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
    return {
        "no request": x + b"\r\n\r\n",
        "no colon": line + b"%b\r\n\r\n" % x,
        "odd name": line + b"X %b: 1\r\n\r\n" % x,
        "bad chunk": chunked + b"Authorization: %b\r\n\r\n%b\r\n" % (authorization, x),
        "long line": b"GET /%b HTTP/1.1\r\n\r\n" % (x * 1000),
    }

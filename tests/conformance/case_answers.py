"""What backends answer in all forms that HTTP/1.1 has: it passes."""

from case import CHUNKED, OK, answered, post, request

HEADING = request(method=b"HEAD")
OLD = request(version=b"HTTP/1.0")


def answer(fields: bytes = b"", body: bytes = b"", status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\n" + fields + b"\r\n" + body


def hints(answers: bytes) -> bytes:
    return b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + answers


ENDS: dict[str, object] = {"answer_ends": True}
CARRIED = [
    answered("answer with a length", "9112 §6.3", OK, body=b"ok"),
    answered("answer without a body", "9112 §6.3", answer(b"Content-Length: 0\r\n"), body=b""),
    answered(
        "length with leading zeros, answered",
        "9110 §8.6",
        answer(b"Content-Length: 02\r\n", b"ok"),
        body=b"ok",
    ),
    answered(
        "chunks answered",
        "9112 §7.1",
        answer(CHUNKED, b"2\r\nok\r\n0\r\n\r\n"),
        body=b"ok",
        got=(b"\r\nTransfer-Encoding: chunked\r\n",),
    ),
    answered(
        "chunks with extensions answered",
        "9112 §7.1.1",
        answer(CHUNKED, b"2;a=b\r\nok\r\n0\r\n\r\n"),
        body=b"ok",
    ),
    answered("no chunk answered", "9112 §7.1", answer(CHUNKED, b"0\r\n\r\n"), body=b""),
    answered(
        "chunks with a trailer answered",
        "9110 §6.5",
        answer(CHUNKED, b"2\r\nok\r\n0\r\nX-Check: 1\r\n\r\n"),
        body=b"ok",
    ),
    answered(
        "a trailer is no header",
        "9110 §6.5.1",
        answer(CHUNKED, b"2\r\nok\r\n0\r\nSet-Cookie: a=b\r\n\r\n"),
        body=b"ok",
        got_not=(b"\r\nSet-Cookie: a=b\r\nX-Request-ID",),
    ),
    answered(
        "body until the end of the connection", "9112 §6.3", answer(b"", b"ok"), body=b"ok", **ENDS
    ),
    answered(
        "body until the end, for HTTP/1.0",
        "9112 §6.3",
        answer(b"", b"ok"),
        send=OLD,
        body=b"ok",
        closes=True,
        got_not=(b"Transfer-Encoding",),
        **ENDS,
    ),
    answered(
        "chunks for HTTP/1.0",
        "9112 §7.1",
        answer(CHUNKED, b"2\r\nok\r\n0\r\n\r\n"),
        send=OLD,
        body=b"ok",
        closes=True,
        got_not=(b"Transfer-Encoding",),
    ),
    answered(
        "the backend speaks HTTP/1.0", "9112 §2.3", b"HTTP/1.0 200 OK\r\n\r\nok", body=b"ok", **ENDS
    ),
    answered(
        "the backend closes",
        "9112 §9.6",
        answer(b"Connection: close\r\nContent-Length: 2\r\n", b"ok"),
        body=b"ok",
        got_not=(b"Connection: close\r\nX-Req",),
        **ENDS,
    ),
    answered("204", "9110 §15.3.5", answer(status=b"204 No Content"), (204,), body=b""),
    answered(
        "204 with a length",
        "9110 §8.6",
        answer(b"Content-Length: 5\r\n", status=b"204 No Content"),
        (204,),
        body=b"",
        got_not=(b"Content-Length",),
    ),
    answered(
        "304 with a length",
        "9110 §15.4.5",
        answer(b'Content-Length: 5\r\nETag: "a"\r\n', status=b"304 Not Modified"),
        (304,),
        body=b"",
        got=(b'\r\nETag: "a"\r\n',),
    ),
    answered("304", "9110 §15.4.5", answer(status=b"304 Not Modified"), (304,), body=b""),
    answered(
        "HEAD with a length",
        "9110 §9.3.2",
        answer(b"Content-Length: 5\r\n"),
        send=HEADING,
        body=b"",
        got=(b"\r\nContent-Length: 5\r\n",),
    ),
    answered("HEAD with chunks", "9112 §6.1", answer(CHUNKED), send=HEADING, body=b""),
    answered("HEAD with neither", "9110 §9.3.2", answer(), send=HEADING, body=b""),
    answered(
        "205", "9110 §15.3.6", answer(b"Content-Length: 0\r\n", status=b"205 Reset Content"), (205,)
    ),
    answered(
        "206",
        "9110 §15.3.7",
        answer(
            b"Content-Range: bytes 0-1/5\r\nContent-Length: 2\r\n", b"ok", b"206 Partial Content"
        ),
        (206,),
        body=b"ok",
    ),
    answered(
        "302",
        "9110 §15.4.3",
        answer(b"Location: /y\r\nContent-Length: 0\r\n", status=b"302 Found"),
        (302,),
        got=(b"\r\nLocation: /y\r\n",),
    ),
    answered(
        "401 of the backend",
        "9110 §15.5.2",
        answer(b"WWW-Authenticate: Basic\r\nContent-Length: 0\r\n", status=b"401 Unauthorized"),
        (401,),
        got=(b"\r\nWWW-Authenticate: Basic\r\n",),
    ),
    answered(
        "500 of the backend",
        "9110 §15.6.1",
        answer(b"Content-Length: 2\r\n", b"ok", b"500 Oops"),
        (500,),
        body=b"ok",
    ),
    answered(
        "503 of the backend",
        "9110 §15.6.4",
        answer(b"Content-Length: 0\r\n", status=b"503 Busy"),
        (503,),
    ),
    answered("status 999", "9110 §15", answer(b"Content-Length: 0\r\n", status=b"999 Odd"), (999,)),
    answered("status 600", "9110 §15", answer(b"Content-Length: 0\r\n", status=b"600 Odd"), (600,)),
    answered(
        "a status that nobody knows",
        "9110 §15",
        answer(b"Content-Length: 0\r\n", status=b"299 Odd"),
        (299,),
    ),
    answered(
        "status without a reason", "9112 §4", answer(b"Content-Length: 0\r\n", status=b"200 ")
    ),
    answered(
        "reason beyond ASCII", "9112 §4", answer(b"Content-Length: 0\r\n", status=b"200 \xc3\xa9")
    ),
    answered(
        "100 is not passed on unasked",
        "9110 §15.2.1",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        body=b"ok",
    ),
    answered("102", "2518 §10.1", b"HTTP/1.1 102 Processing\r\n\r\n" + OK, (102, 200), body=b"ok"),
    answered("103", "8297 §2", hints(OK), (103, 200), body=b"ok", got=(b"\r\nLink: </a.css>\r\n",)),
    answered("103 twice", "8297 §2", hints(hints(OK)), (103, 103, 200), body=b"ok"),
    answered(
        "103 for HTTP/1.0 is dropped", "9110 §15.2", hints(OK), send=OLD, body=b"ok", closes=True
    ),
    answered(
        "103 before HEAD's answer",
        "8297 §2",
        hints(answer(b"Content-Length: 5\r\n")),
        (103, 200),
        send=HEADING,
        body=b"",
    ),
    answered(
        "Set-Cookie twice",
        "6265 §3",
        answer(b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n"),
        got=(b"\r\nSet-Cookie: a=1\r\n", b"\r\nSet-Cookie: b=2\r\n"),
    ),
    answered(
        "a value beyond ASCII, answered",
        "9110 §5.5",
        answer(b"A: \xfc\r\nContent-Length: 0\r\n"),
        got=(b"\r\nA: \xfc\r\n",),
    ),
    answered(
        "gzip is not touched, answered",
        "9110 §8.4",
        answer(b"Content-Encoding: gzip\r\nContent-Length: 2\r\n", b"ok"),
        body=b"ok",
        got=(b"\r\nContent-Encoding: gzip\r\n",),
    ),
    answered(
        "hop-by-hop fields of an answer stop",
        "9110 §7.6.1",
        answer(b"Keep-Alive: timeout=5\r\nProxy-Connection: a\r\nContent-Length: 0\r\n"),
        got_not=(b"Keep-Alive:", b"Proxy-Connection:"),
    ),
    answered(
        "an answer's Connection names a field",
        "9110 §7.6.1",
        answer(b"Connection: X-One\r\nX-One: 1\r\nContent-Length: 0\r\n"),
        got_not=(b"X-One",),
    ),
    answered(
        "an answer can't name its length away",
        "9110 §7.6.1",
        answer(b"Connection: Content-Length\r\nContent-Length: 2\r\n", b"ok"),
        body=b"ok",
    ),
    answered(
        "an answer can't say who limits",
        "design §4",
        answer(b"X-Request-ID: evil\r\nRateLimit: evil\r\nContent-Length: 0\r\n"),
        got_not=(b"evil",),
    ),
    answered(
        "Upgrade offered in an answer",
        "9110 §7.8",
        answer(b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n"),
        got_not=(b"h2c",),
    ),
    answered(
        "an answer before the body",
        "9112 §9.3",
        answer(b"Content-Length: 4\r\nConnection: close\r\n", b"full", b"413 Content Too Large"),
        (413,),
        send=post(b"Content-Length: 100000\r\n", b"a" * 10),
        closes=True,
        early=True,
        lingers=True,
        body=b"full",
    ),
    answered("bytes behind an answer", "9112 §6.3", OK + OK, body=b"ok"),
    answered(
        "a body behind HEAD's answer",
        "9110 §9.3.2",
        answer(b"Content-Length: 2\r\n", b"ok"),
        send=HEADING,
        body=b"",
    ),
    answered(
        "a body behind 204", "9112 §6.3", answer(b"", b"ok", b"204 No Content"), (204,), body=b""
    ),
    answered(
        "answer of 200,000 bytes",
        "9112 §6.2",
        answer(b"Content-Length: 200000\r\n", b"a" * 200_000),
        body=b"a" * 200_000,
    ),
]

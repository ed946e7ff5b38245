"""What backends answer that breaks off, or is no HTTP/1.1: never passed on as a whole answer."""

from case import CHUNKED, OK, answered
from case_answers import ENDS, answer

CUT = [
    answered(
        "length that is not reached",
        "9112 §8",
        answer(b"Content-Length: 5\r\n", b"ok"),
        cut=True,
        closes=True,
        **ENDS,
    ),
    answered(
        "chunks that do not end",
        "9112 §8",
        answer(CHUNKED, b"2\r\nok\r\n"),
        cut=True,
        closes=True,
        **ENDS,
    ),
    answered(
        "chunk that breaks off",
        "9112 §8",
        answer(CHUNKED, b"5\r\nok"),
        cut=True,
        closes=True,
        **ENDS,
    ),
    answered(
        "bad chunk behind a good one",
        "9112 §7.1",
        answer(CHUNKED, b"2\r\nok\r\nzz\r\n"),
        statuses=(502,),
        late=(200,),
        cut=True,
        closes=True,
    ),
    answered(
        "bare LF behind a chunk, answered",
        "9112 §7.1",
        answer(CHUNKED, b"2\r\nok\n0\r\n\r\n"),
        statuses=(502,),
        late=(200,),
        cut=True,
        closes=True,
    ),
]

EMPTY = b"Content-Length: 0\r\n"
BAD = [
    answered(name, rfc, said, (502,), **more)  # type: ignore[arg-type]
    for name, rfc, said, more in (
        (
            "answer: length and chunked",
            "9112 §6.3",
            answer(b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n"),
            {},
        ),
        (
            "answer: chunked and length",
            "9112 §6.3",
            answer(CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n"),
            {},
        ),
        (
            "answer: two lengths",
            "9112 §6.3",
            answer(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!"),
            {},
        ),
        ("answer: list of lengths", "9112 §6.3", answer(b"Content-Length: 5, 6\r\n", b"hello"), {}),
        ("answer: length with plus", "9110 §8.6", answer(b"Content-Length: +5\r\n", b"hello"), {}),
        ("answer: length in hex", "9110 §8.6", answer(b"Content-Length: 0x5\r\n", b"hello"), {}),
        ("answer: length below zero", "9110 §8.6", answer(b"Content-Length: -5\r\n", b"hello"), {}),
        (
            "answer: length past 64 bits",
            "9110 §8.6",
            answer(b"Content-Length: 18446744073709551617\r\n", b"a"),
            {},
        ),
        (
            "answer: gzip, chunked",
            "9112 §6.1",
            answer(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
            {},
        ),
        ("answer: gzip", "9112 §6.3", answer(b"Transfer-Encoding: gzip\r\n", b"hello"), ENDS),
        ("answer: identity", "9112 §7", answer(b"Transfer-Encoding: identity\r\n", b"hello"), ENDS),
        ("answer: chunked twice", "9112 §7.1", answer(CHUNKED + CHUNKED, b"0\r\n\r\n"), {}),
        ("answer: folded line", "9112 §5.2", answer(b"A: b\r\n c\r\n" + EMPTY), {}),
        ("answer: space before the colon", "9112 §5.1", answer(b"A : b\r\n" + EMPTY), {}),
        ("answer: no colon", "9112 §5", answer(b"A\r\n" + EMPTY), {}),
        ("answer: no name", "9112 §5", answer(b": b\r\n" + EMPTY), {}),
        ("answer: name with a space", "9110 §5.6.2", answer(b"A B: c\r\n" + EMPTY), {}),
        ("answer: name beyond ASCII", "9110 §5.6.2", answer(b"\xc3\xa9: c\r\n" + EMPTY), {}),
        ("answer: NUL in a value", "9110 §5.5", answer(b"A: b\0c\r\n" + EMPTY), {}),
        ("answer: control character in a value", "9110 §5.5", answer(b"A: b\x01c\r\n" + EMPTY), {}),
        ("answer: bare LF", "9112 §2.2", answer(b"A: b\nSet-Cookie: c\r\n" + EMPTY), {}),
        ("answer: bare CR", "9112 §2.2", answer(b"A: b\rSet-Cookie: c\r\n" + EMPTY), {}),
        (
            "answer: bare LF behind the status",
            "9112 §2.2",
            b"HTTP/1.1 200 OK\n" + EMPTY + b"\r\n",
            {},
        ),
        (
            "answer: control character in the reason",
            "9112 §4",
            answer(EMPTY, status=b"200 O\x01K"),
            {},
        ),
        ("answer: status 000", "9112 §4", answer(EMPTY, status=b"000 No"), {}),
        ("answer: status 099", "9112 §4", answer(EMPTY, status=b"099 No"), {}),
        ("answer: status of two digits", "9112 §4", answer(EMPTY, status=b"20 OK"), {}),
        ("answer: status of four digits", "9112 §4", answer(EMPTY, status=b"2000 OK"), {}),
        ("answer: status of letters", "9112 §4", answer(EMPTY, status=b"abc OK"), {}),
        ("answer: version 2.0", "9112 §2.3", b"HTTP/2.0 200 OK\r\n" + EMPTY + b"\r\n", {}),
        ("answer: another protocol", "9112 §4", b"SSH-2.0-OpenSSH\r\n\r\n", {}),
        ("answer: nothing but a body", "9112 §4", b"hello\r\n\r\n", ENDS),
        ("answer: none", "9110 §15.6.3", b"", ENDS),
        ("answer: half a head", "9110 §15.6.3", b"HTTP/1.1 200 OK\r\nContent-Le", ENDS),
        (
            "answer: 101 unasked",
            "9110 §7.8",
            answer(
                b"Connection: upgrade\r\nUpgrade: websocket\r\n",
                b"x" * 100,
                b"101 Switching Protocols",
            ),
            {},
        ),
        (
            "answer: 1xx with a body",
            "9110 §8.6",
            answer(b"Content-Length: 5\r\n", b"hello", b"199 Odd") + OK,
            {},
        ),
        (
            "answer: head of 300,000 bytes",
            "6585 §5",
            answer(b"A: " + b"b" * 700_000 + b"\r\n" + EMPTY),
            {},
        ),
    )
]

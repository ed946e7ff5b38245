"""Heads made of pieces that parsers stumble over; and the kept corpus, through the same rules.

A short run of what `make fuzz` does for a minute.
"""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from drive import Carried, Driver, cut
from hypothesis import given, settings
from hypothesis import strategies as st
from rules import Finding, check_carried, check_rewriting, claim, pairs_in

CORPUS = Path(__file__).parent / "corpus"
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))
NAMES = st.sampled_from(
    b"Host|host|Content-Length|content-length|Content_Length|Transfer-Encoding|Transfer_Encoding"
    b"|TE|Trailer|Connection|Expect|Upgrade|X-User-Id|x_user_id|X-USER_ID|X-Plan|X-Forwarded-For"
    b"|X_Forwarded_Host|X-Forwarded-Other|Forwarded|X-Real-IP|X-Backend-Key|X-Request-ID|Cookie"
    b"|X-One|x_one|X-Primit-API-Key|A|!#$%&'*+".split(b"|")
)
VALUES = st.one_of(
    *[st.sampled_from([b"a", b"api.example", b"5", b"X-One"])] * 3,
    st.sampled_from(
        [
            b"api.example",
            b"5",
            b"0",
            b"05",
            b"5, 5",
            b"+5",
            b"chunked",
            b"Chunked",
            b"gzip, chunked",
            b"chunked ",
            b"\x0bchunked",
            b"close",
            b"keep-alive, X-One",
            b"x_one",
            b"100-continue",
            b"websocket",
            b"h2c",
            b"",
            b" ",
            b"a\tb",
            b"\xff\xfe",
            b"a\rb",
            b"a\nb",
            b"a\r\n b",
            b"a\0b",
        ]
    ),
    st.binary(max_size=12),
)
COLONS = st.sampled_from([b": "] * 40 + [b":", b" :", b":\t", b"", b" ", b"\t: "])
ENDS = st.sampled_from([b"\r\n"] * 60 + [b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n ", b""])
METHODS = st.sampled_from(
    [b"GET", b"POST"] * 4 + b"HEAD|PUT|OPTIONS|CONNECT|PRI|get|G T|QUERY|SOURCE".split(b"|")
)
TARGETS = st.sampled_from(
    [b"/x"] * 8
    + b"/|/x?y#z|*|http://a/x|http://a?b|http:///x|//x|/%2e%2e/x|/x y|a:80|/\xff|/x\0|?|".split(
        b"|"
    )
)
VERSIONS = st.sampled_from(
    [b"HTTP/1.1"] * 8 + [b"HTTP/1.0"] * 2 + [b"HTTP/1.2", b"HTTP/2.0", b"", b"RTSP/1.0"]
)
BODIES = st.sampled_from(
    [
        b"",
        b"",
        b"hello",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5;a=b\r\nhello\r\n0\r\nHost: b\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"f" * 17 + b"\r\n",
    ]
)
LINES = st.tuples(NAMES, COLONS, VALUES, ENDS).map(b"".join)
HOST_LINES = st.sampled_from([b"Host: api.example\r\n"] * 6 + [b""])


CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
FRAMED = st.one_of(  # fields and a body that fit, or nearly
    st.tuples(st.just(b""), BODIES),
    st.tuples(
        st.sampled_from([b"Content-Length: 5\r\n", b"content-length:05\r\n"]), st.just(b"hello")
    ),
    st.tuples(
        st.sampled_from([b"Transfer-Encoding: chunked\r\n", b"TRANSFER-ENCODING:CHUNKED \r\n"]),
        st.one_of(st.just(CHUNKS), BODIES),
    ),
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    line = b" ".join((draw(METHODS), draw(TARGETS), draw(VERSIONS))) + draw(ENDS)
    fields = b"".join(draw(st.lists(LINES, max_size=2)))
    framing, body = draw(FRAMED)
    return line + draw(HOST_LINES) + fields + framing + draw(ENDS) + body


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Some requests on a connection, with a few bytes of them changed."""
    data = b"".join(draw(st.lists(requests(), min_size=1, max_size=3)))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=2)) + data[at + draw(st.integers(0, 2)) :]
    return data


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


async def check(data: bytes, at: int) -> None:
    for pieces in ((data,), (data[:at], data[at:])):
        carried, _ = await Driver().feed(*filter(None, pieces))
        check_carried(data, carried)


@settings(deadline=None, max_examples=EXAMPLES)
@given(data=streams(), cut=st.floats(0, 1))
def test_what_is_carried_is_what_a_strict_reader_reads(
    runner: asyncio.Runner, data: bytes, cut: float
) -> None:
    runner.run(check(data, int(len(data) * cut)))


TOKENS = st.one_of(NAMES, st.from_regex(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", fullmatch=True))
CLEAN = st.one_of(
    st.sampled_from([b"close", b"X-One, x_one", b"Host, Content-Length", b"192.0.2.9", b"https"]),
    st.binary(max_size=20).map(lambda value: bytes(b for b in value if b >= 32 or b == 9)),
)


@settings(deadline=None, max_examples=EXAMPLES)
@given(pairs=st.lists(st.tuples(TOKENS, CLEAN), max_size=8), trusted=st.booleans())
def test_rewriting_makes_no_line_and_lets_no_name_through(pairs: list, *, trusted: bool) -> None:
    check_rewriting(pairs, trusted=trusted)


@pytest.mark.parametrize("path", sorted((CORPUS / "heads").iterdir()), ids=lambda path: path.name)
def test_no_kept_head_breaks_a_rule(runner: asyncio.Runner, path: Path) -> None:
    first, second = cut(path.read_bytes())
    runner.run(check(first + second, len(first)))


@pytest.mark.parametrize("path", sorted((CORPUS / "fields").iterdir()), ids=lambda path: path.name)
def test_no_kept_fields_break_a_rule(path: Path) -> None:
    for trusted in (False, True):
        check_rewriting(pairs_in(path.read_bytes()), trusted=trusted)


@pytest.mark.parametrize(
    ("data", "head"),
    [
        (b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /y HTTP/1.1\r\nHost: a\r\n\r\n"),
        (b"GET /x HTTP/1.1\r\n\r\n", b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
        (b"", b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
    ],
)
def test_the_rules_can_be_broken(data: bytes, head: bytes) -> None:
    with pytest.raises(Finding):
        check_carried(data, [Carried(head, b"")])
    with pytest.raises(Finding):
        claim(holds=False)


def test_a_plain_request_is_carried(runner: asyncio.Runner) -> None:
    """The driver drives: a fuzzer whose requests were all refused would find nothing."""
    data = b"POST /x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nA: b\r\n\r\nhello" * 2

    async def feed() -> None:
        for pieces in ((data,), tuple(data[at : at + 1] for at in range(len(data)))):
            carried, answers = await Driver().feed(*pieces)
            assert [request.body for request in carried] == [b"hello", b"hello"]
            assert carried[0].head.startswith(b"POST /x?y HTTP/1.1\r\nHost: backend:1\r\n")
            assert b"\r\nA: b\r\n" in carried[0].head
            assert answers.count(b"HTTP/1.1 200 OK\r\n") == 2

    runner.run(feed())

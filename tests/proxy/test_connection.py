"""One table of answers, run through the connection whole and byte by byte, on a fake transport."""

import asyncio
from dataclasses import dataclass, field

import pytest

from gateway.errors import GatewayError
from gateway.proxy.connection import UpstreamConnection


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.aborted = False

    def write(self, data) -> None:
        self.sent += data

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted


@dataclass
class Recorder:
    status: int = 0
    body: bytes = b""
    informed: list[int] = field(default_factory=list)
    end: str = ""
    switched_with: bytes | None = None

    def informational(self, upstream) -> None:
        self.informed.append(upstream.status)

    def head(self, upstream) -> None:
        self.status = upstream.status

    def data(self, chunk: bytes) -> None:
        self.body += chunk

    def flush(self) -> None:
        pass

    def ended(self) -> None:
        assert not self.end
        self.end = "whole"

    def switched(self, first: bytes) -> None:
        self.switched_with = first

    def failed(self, error: GatewayError) -> None:
        assert not self.end
        self.end = error.reason


@dataclass
class Case:
    name: str
    answer: bytes
    status: int = 200
    body: bytes = b""
    end: str = "whole"
    reusable: bool = True
    head_only: bool = False
    closes: bool = False
    informed: tuple[int, ...] = ()


CASES = [
    Case("length", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", body=b"hello"),
    Case("empty", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    Case(
        "chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
        body=b"hello!",
    ),
    Case(
        "chunked with trailers",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n",
        body=b"hi",
    ),
    Case("no content", b"HTTP/1.1 204 No Content\r\n\r\n", status=204),
    Case("not modified", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", status=304),
    Case("head", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", head_only=True),
    Case(
        "head, chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        head_only=True,
    ),
    Case(
        "early hints",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        body=b"ok",
        informed=(103,),
    ),
    Case(
        "continue",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
        status=201,
        informed=(100,),
    ),
    Case(
        "until close",
        b"HTTP/1.1 200 OK\r\n\r\nall of it",
        body=b"all of it",
        closes=True,
        reusable=False,
    ),
    Case(
        "connection: close",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        body=b"ok",
        reusable=False,
    ),
    Case("HTTP/1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", reusable=False),
    Case(
        "more than asked for",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
        body=b"ok",
        reusable=False,
    ),
    Case(
        "a body behind HEAD",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        head_only=True,
        reusable=False,
    ),
    Case(
        "cut in the middle",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        body=b"half",
        end="upstream_reset",
        closes=True,
        reusable=False,
    ),
    Case(
        "cut among chunks",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        body=b"half",
        end="upstream_reset",
        closes=True,
        reusable=False,
    ),
    Case("nothing", b"", status=0, end="upstream_reset", closes=True, reusable=False),
    Case(
        "cut in the head",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        status=0,
        end="upstream_reset",
        closes=True,
        reusable=False,
    ),
    Case("garbage", b"SSH-2.0-x\r\n", status=0, end="upstream_bad_answer", reusable=False),
    Case(
        "two lengths",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk",
        status=0,
        end="upstream_bad_answer",
        reusable=False,
    ),
    Case(
        "a coding under the chunks",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        status=0,
        end="upstream_bad_answer",
        reusable=False,
    ),
    Case(
        "a bad chunk",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        end="upstream_bad_answer",
        reusable=False,
    ),
    Case(
        "NUL in a field",
        b"HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 0\r\n\r\n",
        status=0,
        end="upstream_bad_answer",
        reusable=False,
    ),
]


@pytest.mark.parametrize("step", [1, 7, 1 << 20], ids=["by byte", "by seven", "whole"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_an_answer_is_read_as_far_as_it_goes(case: Case, step: int) -> None:
    connection, recorder = UpstreamConnection(asyncio.get_running_loop()), Recorder()
    connection.connection_made(FakeTransport())
    connection.start(recorder, head_only=case.head_only, read_timeout=5)
    reusable = False
    for start in range(0, len(case.answer), step):
        if recorder.end and case.answer[start:]:
            # The pool has taken it back by then; what comes now nobody asked for.
            reusable = connection.detach()
        connection.data_received(case.answer[start : start + step])
    if recorder.end == "whole":
        reusable = connection.detach()
    if case.closes:
        connection.connection_lost(None)
    assert (recorder.status, recorder.body, recorder.end) == (case.status, case.body, case.end)
    assert tuple(recorder.informed) == case.informed
    assert reusable == case.reusable


async def test_a_connection_serves_one_answer_after_the_other_head_among_them() -> None:
    connection = UpstreamConnection(asyncio.get_running_loop())
    connection.connection_made(FakeTransport())
    for head_only, rest in [(False, b"ok"), (True, b""), (True, b""), (False, b"ok")]:
        recorder = Recorder()
        connection.start(recorder, head_only=head_only, read_timeout=5)
        connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + rest)
        assert (recorder.end, recorder.body) == ("whole", rest)
        assert connection.detach()


async def test_bytes_that_nobody_asked_for_end_an_idle_connection() -> None:
    connection, transport = UpstreamConnection(asyncio.get_running_loop()), FakeTransport()
    connection.connection_made(transport)
    connection.data_received(b"HTTP/1.1 200 OK\r\n")
    assert transport.aborted


async def test_what_follows_a_101_belongs_to_the_new_protocol() -> None:
    connection, recorder = UpstreamConnection(asyncio.get_running_loop()), Recorder()
    connection.connection_made(FakeTransport())
    connection.start(recorder, head_only=False, read_timeout=5)
    connection.data_received(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        b"\x81\x02hi"
    )
    assert recorder.switched_with == b"\x81\x02hi"
    connection.data_received(b"\x81\x00")
    assert recorder.body == b"\x81\x00"
    connection.connection_lost(None)
    assert recorder.end == "whole"

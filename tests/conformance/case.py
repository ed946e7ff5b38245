"""What one row of the conformance tables is, and short ways to write one.

A row says which bytes a client sends, and what must come of them: the answers, whether the
connection ends, and what the backend sees. Rows know nothing of who is under test.
"""

from dataclasses import dataclass

HEAD = b"Host: api.example\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\n" + HEAD + b"\r\n"


@dataclass(frozen=True, slots=True)
class Saw:
    """A request as the backend must see it: `has` are lines, `lacks` names of fields."""

    line: bytes
    has: tuple[bytes, ...] = ()
    lacks: tuple[bytes, ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    rfc: str  # number and section, or what else decides
    send: bytes
    statuses: tuple[int, ...]  # of all answers, 1xx among them
    saw: tuple[Saw, ...] = ()
    closes: bool = False
    after_continue: bytes = b""  # sent when a 100 has come
    answer: bytes = OK  # what the backend says
    answer_ends: bool = False  # and whether it closes then
    early: bool = False  # the backend answers without reading the body
    methods: tuple[bytes, ...] = ()  # of the requests, where they are not those of `send`
    got: tuple[bytes, ...] = ()  # stand in what the client gets
    got_not: tuple[bytes, ...] = ()
    body: bytes | None = None  # of the last answer
    cut: bool = False  # the last answer, if it is a 200, breaks off
    late: tuple[int, ...] = ()  # `statuses` byte by byte, where what is bad comes too late
    lingers: bool = False  # the other side waits some time for a body that does not come

    @property
    def asked(self) -> tuple[bytes, ...]:
        """The methods in order; what is not named is no HEAD."""
        return self.methods or (self.send.lstrip(b"\r\n").split(b" ", 1)[0],)


def request(
    fields: bytes = b"",
    body: bytes = b"",
    *,
    method: bytes = b"GET",
    target: bytes = b"/x",
    version: bytes = b"HTTP/1.1",
    host: bytes = HEAD,
) -> bytes:
    return b"%b %b %b\r\n%b%b\r\n%b" % (method, target, version, host, fields, body)


def post(fields: bytes = b"", body: bytes = b"", target: bytes = b"/x") -> bytes:
    return request(fields, body, method=b"POST", target=target)


def chunks(body: bytes, fields: bytes = b"", target: bytes = b"/x") -> bytes:
    """A POST whose body is `body`, its framing written out."""
    return post(CHUNKED + fields, body, target)


def carried(
    name: str,
    rfc: str,
    send: bytes,
    *,
    line: bytes | None = None,
    has: tuple[bytes, ...] = (),
    lacks: tuple[bytes, ...] = (),
    seen: bytes = b"",
    statuses: tuple[int, ...] = (200,),
    **more: object,
) -> Case:
    """One request that reaches the backend; `line` as it is sent, unless said; `seen` its body."""
    if line is None:
        first = send.lstrip(b"\r\n").split(b"\r\n", 1)[0]
        line = first.rsplit(b" ", 1)[0] + b" HTTP/1.1"
    saw = (Saw(line, has, lacks, seen),)
    return Case(name, rfc, send, statuses, saw, **more)  # type: ignore[arg-type]


def refused(
    name: str, rfc: str, send: bytes, status: int = 400, *, follow: bytes = SMUGGLED, **more: object
) -> Case:
    """No backend sees it, nor what `follow`s it, and the connection ends."""
    return Case(name, rfc, send + follow, (status,), closes=True, **more)  # type: ignore[arg-type]


def answered(
    name: str, rfc: str, answer: bytes, statuses: tuple[int, ...] = (200,), **more: object
) -> Case:
    """What becomes of a backend's `answer` to a plain request (`send` may say another)."""
    send = more.pop("send", request())
    assert isinstance(send, bytes)
    saw = (Saw(send.split(b"\r\n", 1)[0].rsplit(b" ", 1)[0] + b" HTTP/1.1"),)
    return Case(name, rfc, send, statuses, saw, answer=answer, **more)  # type: ignore[arg-type]

"""The rules that no input may break, and the checks of them. Raises `Finding` for one that did.

What must stop at the gateway is listed here a second time, by hand, and not taken from it.
"""

from drive import Carried
from multidict import CIMultiDict, CIMultiDictProxy
from reference import Request, read_request

from gateway.proxy.headers import (
    answer_lines,
    connection_names,
    forwarded_lines,
    kind_of,
    request_drops,
    request_lines,
)

STOPPED = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authentication-info proxy-authorization"
    b" proxy-connection te trailer transfer-encoding upgrade content-length expect host"
    b" x-auth-pattern x-plan x-user-email x-user-id x-request-id x-primit-api-key".split()
)
OF_PROXIES = frozenset(b"forwarded x-backend-key x-real-ip".split())
WRITTEN = frozenset(b"x-forwarded-for x-forwarded-host x-forwarded-proto".split())
ANSWER_STOPPED = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authentication-info proxy-authorization"
    b" proxy-connection te trailer transfer-encoding upgrade x-request-id ratelimit"
    b" ratelimit-policy".split()
)
Pairs = list[tuple[bytes, bytes]]


class Finding(AssertionError):
    """A rule that was broken: which one, and by what."""


def claim(holds: object, *what: object) -> None:
    if not holds:
        raise Finding(*what)


def stops(name: bytes, named: set[bytes], *, trusted: bool) -> bool:
    """Must a request's field of this name stop here?"""
    folded = name.lower().replace(b"_", b"-")
    if folded in STOPPED or folded in named or folded in WRITTEN:
        return True
    return not trusted and (folded in OF_PROXIES or folded.startswith(b"x-forwarded-"))


def named_by(connections: list[bytes]) -> set[bytes]:
    names = {name.strip(b" \t").lower() for value in connections for name in value.split(b",")}
    names |= {name.replace(b"_", b"-") for name in names}
    return names - {b"", b"close", b"keep-alive"}


def check_carried(data: bytes, carried: list[Carried]) -> None:
    """What is carried of `data` is what the reference parser reads in it, in order."""
    for request in carried:
        meant = read_request(data)
        while meant is not None and meant.method == b"OPTIONS" and meant.target == b"*":
            data = data[meant.end :]  # the gateway answers it
            meant = read_request(data)
        claim(meant is not None and meant.whole and meant.valid, "carried, and no request", data)
        assert meant is not None
        _check_same(meant, request)
        data = data[meant.end :] if meant.end else b""


def _check_same(meant: Request, request: Carried) -> None:
    chunked = bool(meant.all(b"transfer-encoding"))
    framed = b"%x\r\n%b\r\n" % (len(request.body), request.body) if request.body else b""
    sent = request.head + (framed + b"0\r\n\r\n" if chunked else request.body)
    seen = read_request(sent)
    claim(seen is not None and seen.whole and seen.valid, "sent, and no request", sent)
    assert seen is not None
    claim(chunked or seen.end == len(sent), "sent, and more than one request", sent)
    claim(seen.method == meant.method, "another method", meant, seen)
    claim(seen.body == meant.body == request.body, "another body", meant, seen)
    if meant.target.startswith(b"/"):
        claim(seen.target == meant.target, "another target", meant, seen)
    claim(len(seen.all(b"host")) == 1 and len(seen.all(b"x-forwarded-for")) == 1, "own", seen)
    named = named_by(meant.all(b"connection"))
    passed = [pair for pair in meant.fields if not stops(pair[0], named, trusted=False)]
    own = {
        b"host",
        b"x-auth-pattern",
        b"x-request-id",
        b"content-length",
        b"transfer-encoding",
        *WRITTEN,
    }
    got = [pair for pair in seen.fields if pair[0].lower() not in own]
    claim(got == passed, "other fields", passed, got)


def check_rewriting(pairs: Pairs, *, trusted: bool) -> None:
    """Fields as parsers hand them on: no line gains a second one, and only those stop that must."""
    drops = request_drops(pass_credentials=False, takes_authorization=False, sets=())
    values = [
        value.decode("utf-8", "surrogateescape")
        for name, value in pairs
        if name.lower() == b"connection"
    ]
    named = connection_names(values)
    claim(not named & {b"host", b"content-length", b"expect"}, "framing named away", named)
    lines = request_lines(pairs, drops | named, trusted=trusted)
    expected = [
        b"%b: %b\r\n" % pair for pair in pairs if not stops(pair[0], set(named), trusted=trusted)
    ]
    claim(lines == expected, "other lines", lines, expected)
    _check_lines(b"".join(lines), len(lines))
    fields = [(kind_of(name), name, value) for name, value in pairs]
    answer = answer_lines(fields, named, own_cors=False, chunked=False)
    kept = [b"%b: %b\r\n" % pair for pair in pairs if pair[0].lower() not in ANSWER_STOPPED | named]
    claim(answer == kept, "other lines of an answer", answer, kept)
    _check_lines(b"".join(answer), len(answer))
    sent = CIMultiDictProxy(
        CIMultiDict(
            (name.decode(), value.decode("utf-8", "surrogateescape")) for name, value in pairs
        )
    )
    written = forwarded_lines(
        client="192.0.2.1",
        peer="192.0.2.2",
        scheme="http",
        host="api.example",
        trusted=sent if trusted else None,
    ).encode("utf-8", "surrogateescape")
    _check_lines(written, 3)
    if not trusted:
        claim(
            written == b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n"
            b"X-Forwarded-Host: api.example\r\n",
            "a client speaks for the gateway",
            written,
        )


def _check_lines(text: bytes, count: int) -> None:
    claim(
        text.count(b"\r\n") == text.count(b"\r") == text.count(b"\n") == count, "a line break", text
    )


def pairs_in(data: bytes) -> Pairs:
    """Any bytes as fields that a parser could have handed on."""
    pairs: Pairs = []
    for line in data.split(b"\n")[:40]:
        name, _, value = line.partition(b":")
        token = bytes(byte for byte in name if byte in TOKEN_BYTES)
        if token:
            pairs.append((token, bytes(byte for byte in value if byte >= 32 or byte == 9)))
    return pairs


TOKEN_BYTES = frozenset(
    b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

"""What of a head crosses the gateway, and what the gateway writes into it. Pure functions.

Rules (RFC 9110 §7.6, design of the platform):
- Hop-by-hop fields, and those that `Connection` names, end here in both directions.
- A request's identity and forwarding fields are the gateway's to say. A client's are removed in
  any case of letters, and with `_` for `-` too: many backends fold the two.
- Everything else passes in order, repeated where it was repeated, byte for byte.

Terms: a *line* is `Name: value` with its CRLF; *raw headers* are the pairs that the parser saw.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from multidict import CIMultiDictProxy

RawHeaders = Iterable[tuple[bytes, bytes]]
AnswerFields = Iterable[tuple[int, bytes, bytes]]  # kind, name, value

# What a field of a backend's answer is to a gateway. CORS: passes, unless the gateway speaks CORS
# itself. From CONNECTION on they say how a message is framed.
PASSES, STOPS, CORS, CONNECTION, CODING, LENGTH = range(6)

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Written anew for each hop: where the message ends, whom it is for, and whether to wait.
FRAMING = frozenset({b"content-length", b"expect", b"host"})
IDENTITY = frozenset({b"x-auth-pattern", b"x-plan", b"x-user-email", b"x-user-id"})
FORWARDING = frozenset({b"forwarded", b"x-backend-key", b"x-real-ip"})
FORWARDED_PREFIX = b"x-forwarded-"
FORWARDED_WRITTEN = frozenset({b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"})
API_KEY = b"x-primit-api-key"
AUTHORIZATION = b"authorization"
REQUEST_ID = b"x-request-id"
# Of an answer: what a 1xx or 204 must not have (RFC 9110 §8.6),
NO_LENGTH = frozenset({b"content-length"})
# and what the gateway itself says.
ANSWERED_HERE = frozenset({REQUEST_ID, b"ratelimit", b"ratelimit-policy"})
FRAMING_KINDS = {
    b"connection": CONNECTION,
    b"transfer-encoding": CODING,
    b"content-length": LENGTH,
}
SAYS_NO_NAMES = frozenset({b"close", b"keep-alive"})
CORS_PREFIX = b"access-control-"


def without_prefix(target: str, prefix: str) -> str:
    """A request's target less as many segments as `prefix` has: escapes may spell them otherwise.

    Where nothing is left, `/` is.
    """
    path, mark, query = target.partition("?")
    first_left = prefix.count("/") + 1
    rest = path.split("/", first_left)[first_left:]
    return f"/{''.join(rest)}{mark}{query}"


def request_drops(
    *, pass_credentials: bool, takes_authorization: bool, sets: Iterable[str]
) -> frozenset[bytes]:
    """The lower-case names that never reach this route's backend from a client.

    `sets` are the names that the upstream's `headers:` writes.
    """
    drops = HOP_BY_HOP | FRAMING | IDENTITY | {REQUEST_ID}
    if not pass_credentials:
        drops |= {API_KEY}
        if takes_authorization:
            drops |= {AUTHORIZATION}
    return drops | {name.lower().replace("_", "-").encode() for name in sets}


def request_lines(raw: RawHeaders, drops: frozenset[bytes], *, trusted: bool) -> list[bytes]:
    """The lines of a client's head that go on to the backend.

    `trusted` says that the peer is a trusted proxy: its forwarding fields pass, but for
    `X-Forwarded-For`, `-Proto` and `-Host`, which `forwarded_lines` writes.
    """
    lines = []
    for name, value in raw:
        folded = name.lower().replace(b"_", b"-")
        if folded in drops:
            continue
        if folded.startswith(FORWARDED_PREFIX):
            if not trusted or folded in FORWARDED_WRITTEN:
                continue
        elif folded in FORWARDING and not trusted:
            continue
        lines.append(b"%b: %b\r\n" % (name, value))
    return lines


def connection_names(values: Iterable[str]) -> frozenset[bytes]:
    """The field names that `Connection` lists beside `close` and `keep-alive`, lower-case.

    With `_` for `-` too, as `request_lines` compares. What the framing rests on can't be named
    away.
    """
    names = {
        token.strip().lower().encode("latin-1", "replace")
        for value in values
        for token in value.split(",")
    }
    names |= {name.replace(b"_", b"-") for name in names}
    return frozenset(names - {b"", b"close", b"keep-alive"} - FRAMING)


def forwarded_lines(
    *, client: str, peer: str, scheme: str, host: str, trusted: CIMultiDictProxy[str] | None
) -> str:
    """`X-Forwarded-For`, `-Proto`, `-Host`, for one request.

    `trusted` are the head's fields when a trusted proxy sent them: its chain is continued with
    its own address, and what it says of scheme and host stands.
    """
    addresses = client
    if trusted is not None:
        chain = ", ".join(trusted.getall("X-Forwarded-For", ()))
        addresses = f"{chain}, {peer}" if chain else client
        scheme = trusted.get("X-Forwarded-Proto", scheme)
        host = trusted.get("X-Forwarded-Host", host)
    return (
        f"X-Forwarded-For: {addresses}\r\n"
        f"X-Forwarded-Proto: {scheme}\r\n"
        f"X-Forwarded-Host: {host}\r\n"
    )


def head_lines(fields: Mapping[str, str]) -> bytes:
    """Fields as head lines in UTF-8.

    Raises ValueError for a value that would end its line: a field can't make another one.
    """
    lines = []
    for name, value in fields.items():
        if any(character in value for character in "\r\n\0"):
            raise ValueError(f"{name} holds a line break or NUL")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode()


@lru_cache(maxsize=1024)
def kind_of(name: bytes) -> int:
    """What a field is in an answer."""
    folded = name.lower()
    if folded in FRAMING_KINDS:
        return FRAMING_KINDS[folded]
    if folded in HOP_BY_HOP or folded in ANSWERED_HERE:
        return STOPS
    return CORS if folded.startswith(CORS_PREFIX) else PASSES


def answer_lines(
    fields: AnswerFields, named: frozenset[bytes], *, own_cors: bool, chunked: bool
) -> list[bytes]:
    """The lines of a backend's head that go on to the client.

    `named`: what the backend's `Connection` lists. `own_cors`: the gateway speaks CORS here, the
    backend's is dropped. `chunked`: a length beside chunks is dropped (RFC 9112 §6.3).
    """
    lines = []
    for kind, name, value in fields:
        if kind and not ((kind == LENGTH and not chunked) or (kind == CORS and not own_cors)):
            continue
        if named and name.lower() in named:
            continue
        lines.append(b"%b: %b\r\n" % (name, value))
    return lines

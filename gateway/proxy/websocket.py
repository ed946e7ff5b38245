"""Of WebSockets, what a proxy must know (RFC 6455): who asks, subprotocols, where frames end.

Rules: `Sec-WebSocket-Key`, `-Accept`, `-Version` and `-Extensions` are between client and backend;
no payload is looked at. A browser can set no header on a WebSocket but can offer subprotocols, so
one of them may carry the credential: `primit.<credential>`. It becomes the header it stands for,
and is neither passed on nor ever answered.

A browser fails a WebSocket when it offered subprotocols and the answer selects none (WHATWG
WebSockets §2.2; RFC 6455 §4.1 alone would allow that). So it offers `primit` beside the credential:
the gateway answers that when the backend selects nothing else.
"""

from collections.abc import Callable, Collection

from aiohttp import HttpVersion11
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.errors import BadRequest
from gateway.exchange import Exchange

WEBSOCKET = "websocket"
SUBPROTOCOL = "Sec-WebSocket-Protocol"
MARKER = "primit"
CREDENTIAL_PREFIX = "primit."
GOING_AWAY = 1001  # RFC 6455 §7.4.1
POLICY_VIOLATION = 1008
CLOSE = 0x8  # an opcode (§5.2)


def upgrades_asked(exchange: Exchange, allowed: Collection[str]) -> tuple[str, ...]:
    """The protocols of `allowed` (lower-case) that a handshake asks for (RFC 9110 §7.8).

    None of them: the request is one like any other, and so it is where the client's connection
    can't keep what the client sends behind it. Raises BadRequest if a body follows: its bytes
    would come to a backend that declines as a request of their own, past every check.
    """
    message = exchange.message
    if not message.upgrade or message.method != "GET" or message.version != HttpVersion11:
        return ()
    named = _listed(exchange, "Upgrade")
    asked = tuple(dict.fromkeys(name.lower() for name in named if name.lower() in allowed))
    if asked and (message.chunked or exchange.headers.get("Content-Length", "0") != "0"):
        raise BadRequest("An upgrade has no body", reason="bad_framing")
    return asked if exchange.connection.holds_upgrade else ()


def move_credential(exchange: Exchange, header: str, scheme: str) -> None:
    """Make a credential among the offered subprotocols a `header` of its own, behind `scheme`.

    One beside such a header, or a second one, makes that header a repeated one.
    """
    if SUBPROTOCOL not in exchange.headers:
        return
    _take_off(exchange, lambda name: name.lower().startswith(CREDENTIAL_PREFIX), header, scheme)


def take_marker(exchange: Exchange) -> bool:
    """Did the client offer `primit`? It is not offered on."""
    if MARKER not in _listed(exchange, SUBPROTOCOL):
        return False
    _take_off(exchange, lambda name: name == MARKER)
    return True


def _listed(exchange: Exchange, header: str) -> list[str]:
    values = exchange.headers.getall(header, ())
    return [name for value in values for part in value.split(",") if (name := part.strip(" \t"))]


def _take_off(
    exchange: Exchange, goes: Callable[[str], bool], header: str = "", scheme: str = ""
) -> None:
    """Offer on what does not go; the field is left out when nothing is left."""
    offered = _listed(exchange, SUBPROTOCOL)
    if not any(map(goes, offered)):
        return
    added = [
        (header, scheme + name[len(CREDENTIAL_PREFIX) :])
        for name in offered
        if header and goes(name)
    ]
    left = ", ".join(name for name in offered if not goes(name))
    if left:
        added.append((SUBPROTOCOL, left))
    message = exchange.message
    fields = CIMultiDict(exchange.headers)
    fields.popall(SUBPROTOCOL)
    fields.extend(added)
    own = SUBPROTOCOL.lower().encode()
    raw = [pair for pair in message.raw_headers if pair[0].lower().replace(b"_", b"-") != own]
    raw += [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in added]
    exchange.headers = CIMultiDictProxy(fields)
    exchange.message = message._replace(headers=exchange.headers, raw_headers=tuple(raw))


def close_frame(code: int) -> bytes:
    """A server's Close frame (RFC 6455 §5.5.1)."""
    return bytes((0x80 | CLOSE, 2)) + code.to_bytes(2, "big")


class Frames:
    """Follows a stream of frames by their lengths, to know where another one may stand."""

    __slots__ = ("_head", "_left", "closed")

    def __init__(self) -> None:
        self._head = b""  # of a frame whose length has not come yet
        self._left = 0  # bytes, of a frame that is under way
        self.closed = False  # a Close frame has begun: none may follow (§5.5.1)

    @property
    def at_boundary(self) -> bool:
        return not self._left and not self._head

    def feed(self, data: bytes) -> int:
        """Follow what comes next; how many bytes of it stand before the first end of a frame.

        0: no frame ends in it. A control frame may stand between the fragments of a message
        (§5.4), so the end of any frame is a place.
        """
        held = len(self._head)
        if held:
            data = self._head + data
        size = len(data)
        at = first = self._left
        while at + 1 < size:
            length, head = data[at + 1], 2
            if length & 0x80:  # masked, as a server must not: passed on for the client to judge
                length, head = length & 0x7F, 6
            if length > 125:
                wide = 2 if length == 126 else 8
                if at + 2 + wide > size:
                    break
                length = wide + int.from_bytes(data[at + 2 : at + 2 + wide], "big")
            if data[at] & 0xF == CLOSE:
                self.closed = True
            at += head + length
            first = first or at
        self._left = max(0, at - size)
        self._head = data[at:]
        return first - held if 0 < first <= size else 0

"""What aiohttp's parser lets through around requests, and is judged here: pure bookkeeping.

Before a request line there may be empty lines, and chunks may bring extensions and trailers: both
within bounds that the parser does not know. And it takes RTSP and ICE for HTTP, without a word.
"""

from aiohttp import StreamReader
from aiohttp.http_parser import RawRequestMessage

# Of chunk sizes, extensions and trailers, before they are measured against the chunks' own bytes.
MAX_FRAMING_BYTES = 16_384
CR = b"\r"


class EmptyLines:
    """The CRs and LFs before one request line: each must be part of a CRLF (RFC 9112 §2.2)."""

    __slots__ = ("expected", "open_line")

    def __init__(self) -> None:
        self.expected = True  # nothing of the request line has come
        self.open_line = b""  # a CR whose LF has not come

    def are_whole(self, data: bytes) -> bool:
        """Is what `data` begins with fine, as far as it has come?"""
        if data[:1] > CR and not self.open_line:
            self.expected = False
            return True
        first = data.lstrip(b"\r\n")
        self.expected = not first
        before = self.open_line + data[: len(data) - len(first)]
        self.open_line = before.replace(b"\r\n", b"")
        return self.open_line == b"" or (self.open_line == b"\r" and not first)


class RequestLine:
    """The line that names the protocol, kept until it has come whole."""

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun = b""

    def more(self, data: bytes) -> None:
        """`data` belongs to a head, and does not end it."""
        if b"\n" not in self._begun.lstrip(b"\r\n"):
            self._begun += data

    def is_http(self, data: bytes) -> bool:
        """Is the head that `data` ends one of HTTP/1.x (RFC 9112 §2.3)? The next one begins."""
        if self._begun:
            self._begun, data = b"", self._begun + data
        line = data if data[:1] > CR else data.lstrip(b"\r\n")
        end = line.find(b"\r\n")
        return line[end - 9 : end - 1] == b" HTTP/1."


def field_bytes(message: RawRequestMessage) -> int:
    """Of all names and values in the head of `message`."""
    return sum([len(name) + len(value) for name, value in message.raw_headers])


def least_bytes(message: RawRequestMessage) -> int:
    """How long the head of `message` was at least."""
    return len(message.path) + field_bytes(message)


def has_much_framing(body: StreamReader, received_bytes: int) -> bool:
    """Do the chunks bring more of extensions and trailers than of bytes? (RFC 9112 §7.1.1)

    `received_bytes` are those of `body` with its framing. Chunks of a byte each, without any
    extension, are still fine.
    """
    framing = received_bytes - body.total_bytes
    return framing > MAX_FRAMING_BYTES + 8 * body.total_bytes

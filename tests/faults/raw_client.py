"""A client that sees bytes: what came, and how the connection ended.

A `Seen` is one answer, or as much of it as came. `ended` tells what the client knows afterwards:
`open` (the answer is whole by its own framing), `fin` or `reset`.
"""

import re
import socket
import struct
from dataclasses import dataclass
from typing import Self

DEADLINE_SECONDS = 20.0
RST_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Seen:
    head: bytes
    body: bytes  # as framed
    ended: str

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    @property
    def is_whole(self) -> bool:
        """May a client take it for the whole answer? By RFC 9112 §8, and no better."""
        if _is_chunked(self.head):
            return bool(self.body == b"0\r\n\r\n" or self.body.endswith(b"\r\n0\r\n\r\n"))
        length = _length(self.head)
        return self.ended == "fin" if length is None else len(self.body) == length


def _is_chunked(head: bytes) -> bool:
    return re.search(rb"(?i)\r\ntransfer-encoding: *chunked\r\n", head) is not None


def _length(head: bytes) -> int | None:
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)\r\n", head)
    return None if found is None else int(found[1])


class RawClient:
    """One connection to 127.0.0.1. `receive_bytes` makes it a client that takes little at once."""

    def __init__(self, port: int, *, receive_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(DEADLINE_SECONDS)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._ended = "open"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def request(
        self,
        target: str,
        *,
        method: str = "GET",
        name: str | None = None,
        version: str = "1.1",
        fields: bytes = b"",
        body: bytes = b"",
    ) -> None:
        """Send a request; `name` is its X-Request-ID. A body comes with its length."""
        lines = f"{method} {target} HTTP/{version}\r\nHost: api.example\r\n".encode()
        if name is not None:
            lines += f"X-Request-ID: {name}\r\n".encode()
        if body:
            lines += b"Content-Length: %d\r\n" % len(body)
        self.send(lines + fields + b"\r\n" + body)

    def more(self) -> bool:
        """Take what comes next; false when nothing can come any more."""
        try:
            piece = self.socket.recv(1 << 16)
        except ConnectionResetError:
            self._ended = "reset"
            return False
        if not piece:
            self._ended = "fin"
            return False
        self._buffer += piece
        return True

    def until(self, mark: bytes) -> bytes:
        """All up to and with `mark`, taken out of what came."""
        while mark not in self._buffer:
            assert self.more(), (self._ended, self._buffer[-200:])
        taken, _, self._buffer = self._buffer.partition(mark)
        return taken + mark

    def answer(self, *, to_head: bool = False) -> Seen:
        """The next answer that is not a 1xx: whole, or what came before the connection ended.

        An answer that lasts until the connection ends is read until then.
        """
        while b"\r\n\r\n" not in self._buffer and self.more():
            pass
        head, mark, self._buffer = self._buffer.partition(b"\r\n\r\n")
        head += mark
        if re.match(rb"HTTP/1\.1 1\d\d ", head):
            return self.answer(to_head=to_head)
        while not (to_head or self._is_at_end(head)) and self.more():
            pass
        length = None if _is_chunked(head) else _length(head)
        end = 0 if to_head else len(self._buffer) if length is None else length
        body, self._buffer = self._buffer[:end], self._buffer[end:]
        return Seen(head, body, self._ended)

    def _is_at_end(self, head: bytes) -> bool:
        if _is_chunked(head):
            return self._buffer == b"0\r\n\r\n" or self._buffer.endswith(b"\r\n0\r\n\r\n")
        length = _length(head)
        return length is not None and len(self._buffer) >= length

    def rest(self) -> tuple[bytes, str]:
        """All that still comes until the connection ends, and how it ends."""
        while self._ended == "open" and self.more():
            pass
        taken, self._buffer = self._buffer, b""
        return taken, self._ended

    def take(self, number: int) -> int:
        """Take `number` bytes of what comes and keep none; how many there were."""
        taken = min(number, len(self._buffer))
        self._buffer = self._buffer[taken:]
        while taken < number:
            assert self.more(), (self._ended, taken)
            piece, self._buffer = self._buffer[: number - taken], self._buffer[number - taken :]
            taken += len(piece)
        return taken

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def leave(self, *, reset: bool) -> None:
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
        self.socket.close()

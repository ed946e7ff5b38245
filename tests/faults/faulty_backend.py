"""A backend that goes wrong as each request tells it to; a process of its own, so that it can be
killed, stopped and started again.

    python faulty_backend.py PORT LOG

A request's query is a list of steps, joined by `&`, done in order; the default is `body&ok`:

    body         read the whole body             read=N        read N bytes of it
    ok           a small whole answer            say=BYTES     write these bytes (percent-encoded)
    fill=N       write N bytes                   chunks=N      a chunked answer of N bytes
    events=N,MS  N server-sent events, MS apart, each with the time at which it was written
    pause=MS     from now on, rest after each MiB of a body that was read
    websocket    take a WebSocket and send back what comes
    hang         read until the client leaves    sleep=MS      do nothing
    fin          end the connection              reset         reset it (RST)
    kill         SIGKILL to itself               drop          end all other connections
    once         do what follows only the first time that this target is asked for

What happens is written to LOG, one JSON object a line, at once: what was seen outlives a SIGKILL.
`body`, `fill` say how far they got (`bytes`), and a peer that leaves in between is a `left`.
"""

import base64
import contextlib
import hashlib
import itertools
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PIECE_BYTES = 1 << 16
MIB = 1 << 20
TOLD_EVERY_BYTES = 1 << 18
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
CLOSE_FRAME = 0x88
RST_ON_CLOSE = struct.pack("ii", 1, 0)


class Ended(Exception):
    """The connection carries nothing any more."""


class Log:
    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(self, event: str, **details: object) -> None:
        line = json.dumps({"event": event, **details}) + "\n"
        os.write(self._descriptor, line.encode())


class Connection:
    """One connection and its thread. `others` has all open ones, `seen` the targets with `once`
    that were asked for already.
    """

    def __init__(
        self,
        sock: socket.socket,
        number: int,
        log: Log,
        seen: set[str],
        others: dict[int, socket.socket],
    ) -> None:
        self._socket = sock
        self._reader: BinaryIO = sock.makefile("rb")
        self._number = number
        self._log = log
        self._seen = seen
        self._others = others
        self._target = ""
        self._fields: dict[str, str] = {}
        self._pause_seconds = 0.0

    def serve(self) -> None:
        self._others[self._number] = self._socket
        try:
            while line := self._reader.readline():
                self._take(line)
        except (Ended, OSError, ValueError):
            pass
        finally:
            del self._others[self._number]
            self._reader.close()
            self._socket.close()

    def tell(self, event: str, **details: object) -> None:
        self._log.tell(event, target=self._target, connection=self._number, **details)

    def _take(self, line: bytes) -> None:
        method, self._target, _ = line.decode("latin-1").split(" ")
        self._fields = {}
        self._pause_seconds = 0.0
        while (field := self._reader.readline()) not in (b"\r\n", b""):
            name, _, value = field.decode("latin-1").partition(":")
            self._fields[name.lower()] = value.strip()
        self.tell("request", method=method)
        for step in (self._target.partition("?")[2] or "body&ok").split("&"):
            name, _, value = step.partition("=")
            if name == "once":
                if self._target in self._seen:
                    self._read_body()
                    self._socket.sendall(OK)
                    return
                self._seen.add(self._target)
            else:
                self._do(name, value)

    def _do(self, name: str, value: str) -> None:
        match name:
            case "body":
                self._read_body()
            case "read":
                self._read_exactly(int(value))
            case "ok":
                self._socket.sendall(OK)
            case "say":
                self._socket.sendall(unquote_to_bytes(value))
            case "fill":
                self._fill(int(value))
            case "chunks":
                self._send_chunks(int(value))
            case "pause":
                self._pause_seconds = int(value) / 1000
            case "websocket":
                self._echo()
            case "events":
                number, pause_ms = map(int, value.split(","))
                self._send_events(number, pause_ms / 1000)
            case "hang":
                self._hang()
            case "sleep":
                time.sleep(int(value) / 1000)
            case "fin":
                self._socket.shutdown(socket.SHUT_WR)
                raise Ended
            case "reset":
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
                raise Ended
            case "drop":
                self._drop_others()
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case _:
                raise ValueError(name)

    def _drop_others(self) -> None:
        for number, sock in list(self._others.items()):
            if number != self._number:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _read_body(self) -> None:
        taken = 0
        if self._fields.get("transfer-encoding") == "chunked":
            while size := int(self._read_line(), 16):
                taken += self._read_exactly(size, taken)
                self._read_line()
            while self._read_line() != b"\r\n":
                pass
        else:
            taken = self._read_exactly(int(self._fields.get("content-length", "0")))
        self.tell("body", bytes=taken)

    def _read_line(self) -> bytes:
        line = self._reader.readline()
        if not line.endswith(b"\n"):
            self.tell("left")
            raise Ended
        return line

    def _read_exactly(self, number: int, before: int = 0) -> int:
        left = number
        while left:
            try:
                piece = self._reader.read(min(left, left % PIECE_BYTES or PIECE_BYTES))
            except OSError:
                piece = b""
            left -= len(piece)
            if self._pause_seconds and not left % MIB:
                time.sleep(self._pause_seconds)
            if not piece:
                self.tell("left", bytes=before + number - left)
                raise Ended
        return number

    def _fill(self, number: int) -> None:
        piece = bytes(PIECE_BYTES)
        written = told = 0
        try:
            while written < number:
                written += self._socket.send(piece[: number - written])
                if written - told >= TOLD_EVERY_BYTES:
                    told = written
                    self.tell("filling", bytes=written)
        except OSError:
            self.tell("left", bytes=written)
            raise Ended from None
        self.tell("filled", bytes=written)

    def _send_chunks(self, number: int) -> None:
        chunk = b"%x\r\n%b\r\n" % (PIECE_BYTES, bytes(PIECE_BYTES))
        try:
            self._socket.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(number // PIECE_BYTES):
                self._socket.sendall(chunk)
            self._socket.sendall(b"0\r\n\r\n")
        except OSError:
            self.tell("left")
            raise Ended from None

    def _echo(self) -> None:
        """RFC 6455, as far as a short unfragmented message needs it."""
        key = self._fields["sec-websocket-key"].encode()
        accept = base64.b64encode(hashlib.sha1(key + WEBSOCKET_GUID).digest())
        self._socket.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
        )
        first = 0
        while first != CLOSE_FRAME and (start := self._reader.read(2)):
            first, length = start[0], start[1] & 0x7F
            mask = self._reader.read(4)
            masked = self._reader.read(length)
            sent = bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked))
            self._socket.sendall(bytes([first, length]) + sent)
        raise Ended

    def _send_events(self, number: int, pause_seconds: float) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        try:
            self._socket.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(number):
                event = b"data: %.6f\n\n" % time.monotonic()
                self._socket.sendall(b"%x\r\n%b\r\n" % (len(event), event))
                time.sleep(pause_seconds)
            self._socket.sendall(b"0\r\n\r\n")
        except OSError:
            self.tell("left")
            raise Ended from None

    def _hang(self) -> None:
        try:
            while self._reader.read1(PIECE_BYTES):
                pass
        except OSError:
            pass
        self.tell("left")
        raise Ended


def main() -> None:
    port, log = int(sys.argv[1]), Log(sys.argv[2])
    seen: set[str] = set()
    connections: dict[int, socket.socket] = {}
    with socket.create_server(("127.0.0.1", port), backlog=512) as listener:
        log.tell("listening", port=listener.getsockname()[1], pid=os.getpid())
        for number in itertools.count():
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock, number, log, seen, connections)
            threading.Thread(target=connection.serve, daemon=True).start()


if __name__ == "__main__":
    main()

"""WebSockets under load: both ends in one loop over epoll, which is quicker than what is between.

Each of some sockets has one message of 64 bytes under way: to the backend, which answers with one
as long, and back. No library stands in between: a message is one read and one write.
"""

import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.gateways import Proxy
from bench.load import Sample
from bench.machine import PATIENCE_SECONDS, Failed, cpu_seconds

SOCKETS = 32
PAYLOAD = bytes(64)
QUESTION = b"\x82\xc0" + bytes(4) + PAYLOAD  # masked with zeros
ANSWER = b"\x82\x40" + PAYLOAD
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class SocketLoad:
    """`listening` is the backend's."""

    listening: socket.socket

    def check(self, proxy: Proxy) -> None:
        client, backend = self.open(proxy)
        client.close()
        backend.close()

    def warm_up(self, proxy: Proxy, folder: Path) -> None:
        self.sample(proxy, folder, 1)

    def sample(self, proxy: Proxy, folder: Path, seconds: float) -> Sample:  # noqa: ARG002
        pids = proxy.family()
        pairs = [self.open(proxy) for _ in range(SOCKETS)]
        try:
            before, began = cpu_seconds(pids), time.monotonic()
            messages = to_and_fro(pairs, began + seconds)
            took, cpu = time.monotonic() - began, cpu_seconds(pids) - before
        finally:
            for each in (end for pair in pairs for end in pair):
                each.close()
        megabytes = messages * (len(QUESTION) + len(ANSWER)) / took / 1e6
        return Sample.of(messages, took, cpu, megabytes=megabytes, p50_ms=0.0, p99_ms=0.0)

    def open(self, proxy: Proxy) -> tuple[socket.socket, socket.socket]:
        """A socket's two ends, past the handshake. Raises Failed."""
        self.listening.settimeout(PATIENCE_SECONDS)
        client = socket.create_connection(("127.0.0.1", proxy.port), PATIENCE_SECONDS)
        client.sendall(HANDSHAKE)
        backend, _ = self.listening.accept()
        backend.settimeout(PATIENCE_SECONDS)
        until_head_ends(backend)
        backend.sendall(SWITCH)
        head = until_head_ends(client)
        if not head.startswith(b"HTTP/1.1 101 "):
            raise Failed(f"no socket: {head!r}")
        for end in (client, backend):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client, backend


def until_head_ends(connection: socket.socket) -> bytes:
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        piece = connection.recv(4096)
        if not piece:
            raise Failed(f"a handshake ended with {got!r}")
        got += piece
    return got


def to_and_fro(pairs: list[tuple[socket.socket, socket.socket]], until: float) -> int:
    """Messages that went and came back. Raises Failed when one is not what was sent."""
    poll = select.epoll()
    ends: dict[int, tuple[Callable[[int], bytes], Callable[[bytes], int], bytes, bytes, int]] = {}
    for client, backend in pairs:
        ends[client.fileno()] = (client.recv, client.send, ANSWER, QUESTION, 1)
        ends[backend.fileno()] = (backend.recv, backend.send, QUESTION, ANSWER, 0)
        for end in (client, backend):
            end.setblocking(False)
            poll.register(end.fileno(), select.EPOLLIN)
        client.send(QUESTION)
    messages = 0
    with poll:
        while time.monotonic() < until:
            events = poll.poll(1.0)
            if not events:
                raise Failed("no message came for a second")
            for descriptor, _ in events:
                receive, send, expected, reply, counts = ends[descriptor]
                got = receive(4096)
                if got != expected:
                    raise Failed(f"{got!r} came instead of a message")
                send(reply)
                messages += counts
    return messages

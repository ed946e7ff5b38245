"""A backend that says exactly what a test tells it to, and remembers the bytes it was sent."""

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Received:
    """One request as it came: `head` to its empty line, `body` unframed."""

    head: bytes
    body: bytes = b""
    trailers: bytes = b""

    @property
    def line(self) -> bytes:
        return self.head.partition(b"\r\n")[0]

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        pairs = (line.split(b": ", 1) for line in self.head.split(b"\r\n")[1:] if line)
        return [(name, value) for name, value in pairs]

    def all(self, name: bytes) -> list[bytes]:
        return [value for field, value in self.fields if field.lower() == name.lower()]

    def one(self, name: bytes) -> bytes:
        (value,) = self.all(name)
        return value


Script = Callable[
    ["RawBackend", Received, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]
]


@dataclass
class RawBackend:
    """Answers every request with `answer`, or as `script` does; reads bodies by their framing.

    On `host` and `port` (0: any), with `tls` if it has that, or on the unix socket at `path`.
    """

    answer: bytes = OK
    script: Script | None = None
    read_bodies: bool = True
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    open_connections: int = 0
    port: int = 0
    host: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None
    path: str | None = None
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        if self.path is not None:
            return f"unix://{self.path}"
        return f"http{'s' if self.tls else ''}://{self.host}:{self.port}"

    @property
    def last(self) -> Received:
        return self.requests[-1]

    async def start(self) -> "RawBackend":
        if self.path is not None:
            self._server = await asyncio.start_unix_server(self._serve, self.path)
            return self
        self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.drop()

    def drop(self) -> None:
        """End every connection at once."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        self._writers.add(writer)
        try:
            while True:
                received = Received(await reader.readuntil(b"\r\n\r\n"))
                self.requests.append(received)
                if self.read_bodies:
                    await read_body(received, reader)
                if self.script is not None:
                    await self.script(self, received, reader, writer)
                else:
                    writer.write(self.answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open_connections -= 1
            self._writers.discard(writer)
            writer.close()


async def read_body(received: Received, reader: asyncio.StreamReader) -> None:
    if received.all(b"Transfer-Encoding"):
        while size := int(await reader.readuntil(b"\r\n"), 16):
            received.body += await reader.readexactly(size)
            await reader.readexactly(2)
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            received.trailers += line
    elif lengths := received.all(b"Content-Length"):
        received.body = await reader.readexactly(int(lengths[0]))


@contextmanager
def backend_in_thread() -> Iterator[RawBackend]:
    """A backend that answers while the test waits for something else."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def in_thread(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(10)

    running = in_thread(RawBackend().start())
    try:
        yield running
    finally:
        in_thread(running.stop())
        in_thread(_end_tasks())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end_tasks() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)

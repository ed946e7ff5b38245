"""What every proxy stands on: a backend, a Redis, certificates, a folder.

The backend answers anything with 1,500 bytes from memory, but `/public/200` with 200, and some
sizes from files. It carries no case by itself: it and the load generator share a core that is
busier than the proxy's only where the report says so.
"""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import redis
from certificate_files import write as write_certificate

from bench.machine import free_port, open_folder, wait_for
from bench.servers import BODY_BYTES, nginx_server, redis_server

LARGE = (15_000, 150_000, 100_000_000)  # bytes, from files

BACKEND = """
  location / {{ return 200 "{body}"; }}
  location = /public/200 {{ return 200 "{small}"; }}
  {files}
"""
FILE = """location = /public/{size} {{ open_file_cache max=8; sendfile on; tcp_nopush on; }}"""


@dataclass(frozen=True, slots=True)
class Ground:
    folder: Path
    backend: int  # ports
    redis: int
    sockets: socket.socket  # where the backend of WebSockets listens
    certificate: dict[str, str]  # `certificate` and `key`: files

    @property
    def socket_port(self) -> int:
        return int(self.sockets.getsockname()[1])

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.redis, decode_responses=True)


@contextlib.contextmanager
def open_ground() -> Iterator[Ground]:
    with open_folder() as folder, socket.socket() as sockets, contextlib.ExitStack() as stack:
        sockets.bind(("127.0.0.1", 0))
        sockets.listen(1024)
        certificate = write_certificate(folder, "bench", "localhost")
        pem = "".join(Path(certificate[part]).read_text() for part in ("certificate", "key"))
        (folder / "bench.pem").write_text(pem)  # as HAProxy reads it
        files = folder / "www" / "public"
        files.mkdir(parents=True)
        for size in LARGE:
            (files / str(size)).write_bytes(b"x" * size)
        ground = Ground(folder, free_port(), free_port(), sockets, certificate)
        stack.enter_context(redis_server(folder, ground.redis))
        answers = BACKEND.format(
            body="x" * BODY_BYTES,
            small="x" * 200,
            files="".join(FILE.format(size=size) for size in LARGE),
        )
        stack.enter_context(nginx_server(folder, "backend", ground.backend, answers))
        wait_for(f"http://127.0.0.1:{ground.backend}/", folder / "backend.log")
        yield ground

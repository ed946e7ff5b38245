"""The demo's ports: which ones, and a clear word when one is taken."""

import errno
import socket
from dataclasses import dataclass

HOST = "127.0.0.1"
BACKLOG = 128


class DemoError(Exception):
    """Why the demo can't go on, in one sentence for the person who started it."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Port 0 stands for any free one."""

    gateway: int = 8080
    admin: int = 9901
    market_data: int = 9001
    strategy: int = 9002
    identity: int = 9003

    @classmethod
    def free(cls) -> "Ports":
        return cls(0, 0, 0, 0, 0)


def bind(port: int, option: str) -> socket.socket:
    """A socket bound to `port`; raises DemoError, naming the option to choose another with."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        # Two sockets may be bound to a port with SO_REUSEADDR; only one may listen.
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise DemoError(f"port {port} is in use by another program; use {option}") from None
        raise DemoError(f"port {port} can't be used: {error.strerror}; use {option}") from None
    return listener


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def free_port() -> int:
    """A port that nobody listens on in this moment."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return port_of(listener)

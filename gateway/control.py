"""What the arbiter and its workers say to each other, over a pair of sockets for each worker.

Rules: a message is one datagram, a kind and its fields as JSON. Nobody ever waits to send one. A
worker keeps what the arbiter has no room for (the system holds some ten datagrams), and says it
later; a worker that does not read is found by its silence. A configuration
may be larger than a datagram: it lies in a file without a name (in memory, on Linux), and its
descriptor goes along. Secrets are in that file alone, and it is gone with the last process that has
it open.
"""

import contextlib
import json
import mmap
import os
import pickle
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, BinaryIO, NamedTuple

from gateway.routefile import RouteFile
from gateway.settings import Settings

MAX_MESSAGE_BYTES = 64 * 1024
# Of a bad file: what is more is counted, and stands in the log whole.
MAX_PROBLEMS = 100
MAX_PROBLEM_CHARACTERS = 1000
MAX_PROBLEMS_BYTES = 48 * 1024


class Kind(StrEnum):
    """What a message is about; those of the arbiter come first."""

    PREPARE = "prepare"  # build this configuration, and wait
    COMMIT = "commit"  # use what was prepared
    ABANDON = "abandon"  # forget what was prepared
    RETIRE = "retire"  # a successor is there: serve what is under way, and end
    LEFT = "left"  # these workers have ended: take their names off the roll
    RELOADED = "reloaded"  # what became of the reload that was asked for
    READY = "ready"  # takes requests
    ALIVE = "alive"  # the event loop turns
    PREPARED = "prepared"
    COMMITTED = "committed"
    RELOAD = "reload"  # somebody asks for one


class Message(NamedTuple):
    """`file` is the descriptor that came along, the receiver's to close; see `read`."""

    kind: Kind
    fields: dict[str, Any]
    file: int | None


@dataclass(frozen=True, slots=True)
class Configuration:
    """Both files, read and checked."""

    settings: Settings
    route_file: RouteFile


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a reload. `problems`: why nothing has changed; none: it is in use.

    `pending` names the settings that differ and that this way of reloading can't change.
    """

    problems: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    workers: int = 0

    def fields(self) -> dict[str, Any]:
        problems = in_short(self.problems)
        return {"problems": problems, "pending": self.pending, "workers": self.workers}


def in_short(problems: Sequence[str]) -> list[str]:
    """As many of them, and as much of each, as fits into a message."""
    short: list[str] = []
    room = MAX_PROBLEMS_BYTES
    for problem in problems[:MAX_PROBLEMS]:
        told = problem[:MAX_PROBLEM_CHARACTERS]
        room -= len(json.dumps(told))
        if room < 0:
            break
        short.append(told)
    if left_out := len(problems) - len(short):
        short.append(f"and {left_out} more: see the log")
    return short


class Control:
    """One end of the pair."""

    __slots__ = ("_socket",)

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    @classmethod
    def pair(cls) -> "tuple[Control, Control]":
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in ends:
            end.setblocking(False)
        return cls(ends[0]), cls(ends[1])

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, kind: Kind, *, file: int | None = None, **fields: Any) -> bool:
        """False: the other side does not read, or is gone."""
        message = json.dumps({"kind": kind, **fields}).encode()
        try:
            socket.send_fds(self._socket, [message], [] if file is None else [file])
        except OSError:
            return False
        return True

    def receive(self) -> Iterator[Message]:
        """What has come by now."""
        while True:
            try:
                data, files, _, _ = socket.recv_fds(self._socket, MAX_MESSAGE_BYTES, 1)
            except OSError:
                return
            if not data:
                return
            fields = json.loads(data)
            yield Message(Kind(fields.pop("kind")), fields, files[0] if files else None)

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def written(configuration: Configuration) -> Iterator[int]:
    """A descriptor of a file that holds `configuration`, to be sent along."""
    with unnamed() as file:
        pickle.dump(configuration, file)
        file.flush()
        yield file.fileno()


def unnamed() -> BinaryIO:
    """In memory, where the system can: no secret comes to a disk."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("configuration"), "w+b")
    return tempfile.TemporaryFile()


def read(descriptor: int) -> Configuration:
    """What was `written`; closes the descriptor. It may run in a thread.

    Several processes read the one open file: a mapping needs no position in it.
    """
    try:
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as mapped:
            configuration = pickle.loads(mapped)  # noqa: S301  # from our own parent process
    finally:
        os.close(descriptor)
    assert isinstance(configuration, Configuration)
    return configuration

"""What a process has open, by kind, as Linux tells: /proc/PID/fd, and /proc/net/tcp for sockets.

Rules: a connection is told by its port on this side (clients, admin) or the other (backends,
Redis). One whose other end has closed it (CLOSE-WAIT) is a kind of its own, whoever that was.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

CLOSE_WAIT, LISTEN = "08", "0A"  # in /proc/net/tcp
CLOSED_BY_PEER, REDIS = "closed by the other end", "Redis"  # kinds


@dataclass(frozen=True)
class Ports:
    client: int
    admin: int
    redis: int
    backends: Collection[int]

    def kind(self, local: int, remote: int) -> str:
        if local == self.client:
            return "clients"
        if local == self.admin:
            return "admin"
        if remote == self.redis:
            return REDIS
        return "backends" if remote in self.backends else "other connections"


def descriptors_by_kind(pid: int, ports: Ports) -> Counter[str]:
    """Empty: the process has ended."""
    kinds: Counter[str] = Counter()
    connections = _connections(ports)
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = entry.readlink()
            except FileNotFoundError:  # closed meanwhile
                continue
            kinds[_kind(str(target), connections)] += 1
    except (FileNotFoundError, ProcessLookupError):
        return Counter()
    return kinds


def _kind(target: str, connections: dict[str, str]) -> str:
    what, colon, rest = target.partition(":")
    if not colon or what.startswith("/"):
        return "files"
    if what == "socket":
        return connections.get(rest.strip("[]"), "other sockets")
    return "pipes" if what == "pipe" else "event loop"  # anon_inode: epoll and its like


def _connections(ports: Ports) -> dict[str, str]:
    """The kind of each TCP socket of this machine, by its inode."""
    kinds = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote, state = fields[1], fields[2], fields[3]
        if state == CLOSE_WAIT:
            kind = CLOSED_BY_PEER
        elif state == LISTEN:
            kind = "listening"
        else:
            kind = ports.kind(int(local[-4:], 16), int(remote[-4:], 16))
        kinds[fields[9]] = kind
    return kinds

"""The open sockets of one worker: how many there may be, whether they still may, how they end.

Rules:
- A socket takes its place before its handshake goes to the backend, and gives it back at its end.
- Who opened a socket is asked for again (`recheck.py`) within each second: a key, token or plan
  that opens the route no more ends it. "Could not check" does not.
- No timer per socket: a third of them is looked at in each sweep.

Terms: a *socket* is an upgraded connection, or a handshake on the way to one; its *tunnel* is what
carries its bytes; its *holder* is who may have only so many: the key, or the user of the token.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Protocol

from gateway.errors import GatewayError, Overloaded, TooManyRequests
from gateway.exchange import Exchange
from gateway.observe.metrics import Reading, Sourced
from gateway.proxy.recheck import Rechecks
from gateway.sections import SocketsSettings

NEVER = float("inf")
SHIFTS = 3  # sweeps until every socket was looked at
RETRY_AFTER_SECONDS = 10


class End(StrEnum):
    """Why a socket ended."""

    CLIENT = "client"
    BACKEND = "backend"
    IDLE = "idle"
    REVOKED = "revoked"
    DRAINING = "draining"
    ROUTE_REMOVED = "route_removed"
    STALLED = "stalled"


class Tunnel(Protocol):
    """What carries a socket's bytes (`tunnel.py` has the real one)."""

    ending: bool  # by the gateway

    def overdue(self, now: float) -> End | None:
        """Has it been quiet, or one side stuck, for too long at `now` (loop time)?"""

    def end(self, why: End) -> None: ...


class Socket:
    """One place, taken by a handshake and kept by the tunnel that comes of it."""

    __slots__ = ("bucket", "ends_at", "exchange", "holder", "shift", "tunnel")

    def __init__(self, exchange: Exchange, bucket: str, shift: int) -> None:
        identity = exchange.identity
        self.exchange = exchange
        self.bucket = bucket  # of its address
        self.holder = None if identity is None else identity.key_id or identity.user_id
        self.shift = shift
        self.tunnel: Tunnel | None = None  # until the backend has agreed
        self.ends_at = NEVER  # loop time: its route is gone


class OpenSockets:
    """All of a worker; `bucket` says what an address is counted by."""

    def __init__(self, settings: SocketsSettings, bucket: Callable[[str], str]) -> None:
        self.use(settings, bucket)
        self._shifts: tuple[set[Socket], ...] = tuple(set() for _ in range(SHIFTS))
        self._taken = 0  # places, since the beginning
        self._turn = 0
        self._by_bucket: Counter[str] = Counter()
        self._by_holder: dict[str | int, set[Socket]] = {}
        self._ends: Counter[End] = Counter()
        self._draining = False
        self._refused: set[str | int] = set()  # holders, since the last sweep
        self._rechecks = Rechecks(self._revoked)
        self._keep: Callable[[Any], Any | None] = lambda route: route
        self._deadline = NEVER

    def use(self, settings: SocketsSettings, bucket: Callable[[str], str]) -> None:
        """Hold sockets that open from now on to these."""
        self.idle_seconds = settings.idle
        self._settings = settings
        self._bucket = bucket

    def __iter__(self) -> Iterator[Socket]:
        """Every socket, handshakes under way too."""
        for shift in self._shifts:
            yield from tuple(shift)

    def __len__(self) -> int:
        return sum(map(len, self._shifts))

    @contextmanager
    def place(self, exchange: Exchange) -> Iterator[Socket]:
        """A place for as long as the handshake and its socket last.

        Raises TooManyRequests (of the address, of the holder), Overloaded (all there are).
        """
        settings = self._settings
        if len(self) >= settings.max:
            raise Overloaded(reason="too_many_sockets")
        self._taken += 1
        shift = self._taken % SHIFTS
        socket = Socket(exchange, self._bucket(exchange.client_ip), shift)
        holder = socket.holder
        if self._by_bucket[socket.bucket] >= settings.max_per_ip or (
            holder is not None and len(self._by_holder.get(holder, ())) >= settings.max_per_key
        ):
            raise TooManyRequests(
                "Too many open sockets",
                reason="too_many_sockets",
                retry_after=RETRY_AFTER_SECONDS,
            )
        self._shifts[shift].add(socket)
        self._by_bucket[socket.bucket] += 1
        if holder is not None:
            self._by_holder.setdefault(holder, set()).add(socket)
        self._follow_table(socket)  # which may be a newer one than that of its request
        try:
            yield socket
        finally:
            self._shifts[shift].discard(socket)
            # Only what is there is kept: strangers can't make the tables grow.
            self._by_bucket[socket.bucket] -= 1
            if not self._by_bucket[socket.bucket]:
                del self._by_bucket[socket.bucket]
            if holder is not None:
                self._by_holder[holder].discard(socket)
                if not self._by_holder[holder]:
                    del self._by_holder[holder]

    def opened(self, socket: Socket, tunnel: Tunnel) -> None:
        socket.tunnel = tunnel
        if self._draining:
            tunnel.end(End.DRAINING)

    def closed(self, socket: Socket, why: End) -> None:
        socket.exchange.socket_end = why
        self._ends[why] += 1

    def sweep(self, now: float) -> None:
        """End what is overdue, and begin to check who may go on, of a third; `now` is loop time."""
        self._turn = (self._turn + 1) % SHIFTS
        for socket in tuple(self._shifts[self._turn]):
            tunnel = socket.tunnel
            if tunnel is None:
                continue
            why = End.ROUTE_REMOVED if socket.ends_at <= now else tunnel.overdue(now)
            if why is not None:
                tunnel.end(why)
            elif socket.holder is not None:
                self._ask(socket)
        self._refused.clear()
        self._rechecks.start()

    def _ask(self, socket: Socket) -> None:
        if socket.tunnel is not None and not socket.tunnel.ending:
            self._rechecks.ask(socket)

    def _revoked(self, socket: Socket, _error: GatewayError) -> None:
        """End it, and ask for the holder's others at once: likely they are no better."""
        if socket.tunnel is not None:
            socket.tunnel.end(End.REVOKED)
        holder = socket.holder
        if holder is not None and holder not in self._refused:
            self._refused.add(holder)
            for other in self._by_holder.get(holder, ()):
                self._ask(other)

    def drain(self) -> None:
        """End all of them, and those that still open."""
        self._draining = True
        for socket in self:
            if socket.tunnel is not None:
                socket.tunnel.end(End.DRAINING)

    def end_routes(self, keep: Callable[[Any], Any | None], deadline: float) -> None:
        """Follow a new route table; `keep` gives a route's place in it, None if it has none.

        Sockets of routes that are gone end at `deadline` (loop time), and until then they are held
        to the route that they were opened on. All others are the new route's, and checked by its
        authenticator. So are those whose requests are still being admitted.
        """
        self._keep, self._deadline = keep, deadline
        for socket in self:
            self._follow_table(socket)

    def _follow_table(self, socket: Socket) -> None:
        if socket.ends_at != NEVER:  # its route is gone already, whatever has its name now
            return
        route = self._keep(socket.exchange.route)
        if route is None:
            socket.ends_at = self._deadline
        else:
            socket.exchange.route = route

    def readings(self) -> Iterator[Reading]:
        """What is counted here, for the metrics."""
        routes = Counter(
            socket.exchange.route.name
            for socket in self
            if socket.tunnel is not None and socket.exchange.route is not None
        )
        for name, count in routes.items():
            yield Reading(Sourced.SOCKETS, (name,), count)
        for why, count in self._ends.items():
            yield Reading(Sourced.SOCKETS_ENDED, (why.value,), count)

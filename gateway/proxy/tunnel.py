"""A client's connection and a backend's, joined: bytes go both ways untouched.

Rules:
- Each side that is slow holds the other: nothing is kept here, and the transports keep what one
  read brought beyond their high-water mark (64 KiB).
- The end of one side is passed to the other as such, and the other direction goes on. TLS can't
  end half: there the end of one is the end of both, once what was sent has been written.
- Where the gateway ends a WebSocket, the client gets a Close frame between two frames of the
  backend's, and a moment to read it. Until then nothing of the client's passes any more.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.exchange import STALLED_SECONDS
from gateway.proxy.sockets import NEVER, End
from gateway.proxy.websocket import GOING_AWAY, POLICY_VIOLATION, Frames, close_frame

BOUNDARY_SECONDS = 0.2  # that a frame may take to end before the Close frame
LEAVE_SECONDS = 0.5  # from the Close frame until the client's connection is half closed
LINGER_SECONDS = 1.0  # that a client has then to read to the end and go
CODES = {
    End.REVOKED: POLICY_VIOLATION,
    End.DRAINING: GOING_AWAY,
    End.ROUTE_REMOVED: GOING_AWAY,
    End.IDLE: GOING_AWAY,
}


class Owner(Protocol):
    """A connection's protocol before its tunnel; it goes on hearing of the connection itself."""

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...


class Side(asyncio.Protocol):
    """One end of a tunnel: what comes from it goes to the other."""

    __slots__ = (
        "ends_as",
        "full_since",
        "gone",
        "has_ended",
        "other",
        "owner",
        "received_bytes",
        "transport",
        "tunnel",
    )

    other: "Side"
    tunnel: "Tunnel"
    frames: Frames | None = None

    def __init__(self, transport: asyncio.Transport, owner: Owner, ends_as: End) -> None:
        self.transport = transport
        self.owner = owner
        self.ends_as = ends_as
        self.received_bytes = 0
        self.full_since = NEVER  # loop time: it does not take what was written to it
        self.has_ended = False  # it sends no more
        self.gone = False

    def data_received(self, data: bytes) -> None:
        tunnel = self.tunnel
        if tunnel.ending:
            return
        tunnel.moved = True
        self.received_bytes += len(data)
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        self.owner.pause_writing()
        self.hold()

    def hold(self) -> None:
        """Leave what the other one sends in its socket: this one is slower."""
        self.full_since = self.tunnel.loop.time()
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.owner.resume_writing()
        self.full_since = NEVER
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        return self.tunnel.half_ended(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self.full_since = NEVER
        self.owner.connection_lost(exc)
        self.tunnel.lost(self)


class WebSocketBackend(Side):
    """A backend whose frames are followed."""

    __slots__ = ("frames",)

    frames: Frames

    def __init__(self, transport: asyncio.Transport, owner: Owner) -> None:
        super().__init__(transport, owner, End.BACKEND)
        self.frames = Frames()

    def data_received(self, data: bytes) -> None:
        tunnel = self.tunnel
        end_of_frame = self.frames.feed(data)
        if tunnel.ending:
            self._last_frame(data, end_of_frame)
            return
        tunnel.moved = True
        self.received_bytes += len(data)
        self.other.transport.write(data)

    def _last_frame(self, data: bytes, end_of_frame: int) -> None:
        if self.tunnel.is_leaving:
            return
        if end_of_frame:
            data = data[:end_of_frame]
        self.received_bytes += len(data)
        self.other.transport.write(data)
        if end_of_frame:
            self.tunnel.say_goodbye()


class Tunnel:
    """Two sides, joined until both are gone; `on_end` is called then, once."""

    __slots__ = (
        "_closing_since",
        "_idle_seconds",
        "_on_end",
        "_quiet_since",
        "_timer",
        "backend",
        "client",
        "ending",
        "is_leaving",
        "loop",
        "moved",
        "reason",
    )

    def __init__(
        self,
        client: Side,
        backend: Side,
        idle_seconds: float,
        on_end: Callable[["Tunnel"], None],
    ) -> None:
        client.other, backend.other = backend, client
        client.tunnel = backend.tunnel = self
        self.loop = asyncio.get_running_loop()
        self.client = client
        self.backend = backend
        self.reason: End | None = None  # the first one, and the gateway's before all others
        self.moved = False  # since the last look
        self.ending = False  # by the gateway
        self.is_leaving = False  # the client has got all that it will get
        self._idle_seconds = idle_seconds
        self._quiet_since = self.loop.time()
        self._closing_since = NEVER  # one side is gone
        self._on_end = on_end
        self._timer: asyncio.TimerHandle | None = None

    def overdue(self, now: float) -> End | None:
        """Has it been quiet, or one side stuck, for too long at `now` (loop time)?"""
        if self.moved:
            self.moved = False
            self._quiet_since = now
        stuck_since = min(self.client.full_since, self.backend.full_since, self._closing_since)
        if now - stuck_since > STALLED_SECONDS:
            return End.STALLED
        return End.IDLE if now - self._quiet_since > self._idle_seconds else None

    def half_ended(self, side: Side) -> bool:
        """`side` sends no more. Does its connection stay, for what the other one still sends?"""
        side.has_ended = True
        self.reason = self.reason or side.ends_as
        other = side.other
        if self.ending or other.has_ended or not side.transport.can_write_eof():
            return False
        if other.transport.can_write_eof():
            other.transport.write_eof()
        else:
            other.transport.close()
        return True

    def lost(self, side: Side) -> None:
        """`side` is gone. The other one still gets what was written for it, and goes too."""
        self.reason = self.reason or side.ends_as
        other = side.other
        if other.gone:
            if self._timer is not None:
                self._timer.cancel()
            self._on_end(self)
            # Let go of each other: a collection is not needed to be rid of them.
            del side.other, other.other, side.tunnel, other.tunnel, self._on_end
        elif not self.ending:
            self._closing_since = self.loop.time()
            other.transport.close()
        elif side is self.client:
            other.transport.abort()
        elif not self.is_leaving:  # amid a frame
            self._leave()

    # From here on: what the gateway ends.

    def end(self, why: End) -> None:
        """End both sides, a WebSocket's client with the Close code for it if there is one."""
        if self.ending:
            return
        self.ending = True
        self.reason = why
        frames = self.backend.frames
        if why is End.STALLED or self.client.gone or self.backend.gone:
            self.cut()
        elif frames is None or self.backend.has_ended:
            self._leave()
        elif frames.at_boundary:
            self.say_goodbye()
        else:
            self._timer = self.loop.call_later(BOUNDARY_SECONDS, self._leave)

    def say_goodbye(self) -> None:
        """Where one frame has ended and no other begun: write a Close frame.

        All else waits a little: of thousands that end at once, each gets its frame first.
        """
        assert self.reason is not None
        self.is_leaving = True
        frames = self.backend.frames
        if frames is None or not frames.closed:  # the frame that has just ended may be one
            self.client.transport.write(close_frame(CODES[self.reason]))
        for side in (self.client, self.backend):
            if not side.transport.is_closing():
                side.transport.pause_reading()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(LEAVE_SECONDS, self._leave)

    def _leave(self) -> None:
        """Let the backend go, and the client once it has read to the end.

        Closed at once, a client that is still sending would be answered with a reset, and lose
        what it has not read yet.
        """
        self.is_leaving = True
        if self._timer is not None:
            self._timer.cancel()
        self.backend.transport.abort()
        client = self.client.transport
        self._timer = self.loop.call_later(LINGER_SECONDS, client.abort)
        if self.client.has_ended or not client.can_write_eof():
            client.close()
            return
        if not self.backend.has_ended:
            client.write_eof()
        if not client.is_closing():
            client.resume_reading()

    def cut(self) -> None:
        """End both at once, whatever was written."""
        for side in (self.client, self.backend):
            if not side.gone:
                side.transport.abort()

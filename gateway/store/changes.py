"""Who has to hear that something in Redis has changed, and whether the news can be relied on.

Each in-process copy (`watch.py`) listens to one *space*: the word after the prefix, `key` in
`gw:key:…`. The news comes from Redis itself (`channel.py`) for whatever any client wrote, and
directly, by `Store.changed`, for what this process wrote. Without a channel (`memory://`) the
direct way is all there is, and enough: no other process can write. Registered keys (`vault`) have
no copies yet: they are read each time. A `barrier` comes behind a change (`barrier.py`).

Terms: *up*: every change is sure to be heard. *Current*: and those of a moment ago have been heard:
this process did not stand still while news waited in its socket. Who is not up is not current.
"""

import math
import time
from collections.abc import Callable
from typing import Protocol

CURRENT_SECONDS = 1.5  # longer than the channel takes to find that Redis is silent
WATCHED_SPACES = ("barrier", "key", "user", "vault")


class Listener(Protocol):
    def changed(self, name: str) -> None:
        """What `name` stands for has a new value, or none any more."""

    def all_changed(self) -> None:
        """Nothing remembered can be trusted."""


class Changes:
    """`clock` gives seconds that never run backwards."""

    def __init__(self, prefix: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.up = False
        self.down_since = clock()
        self.current_until = -math.inf  # on `clock`
        self._start = f"{prefix}:"
        self._listeners: dict[str, list[Listener]] = {space: [] for space in WATCHED_SPACES}

    @property
    def prefixes(self) -> list[str]:
        """What the names of all watched keys begin with."""
        return [f"{self._start}{space}:" for space in WATCHED_SPACES]

    @property
    def current(self) -> bool:
        return self.clock() < self.current_until

    def heard_all(self, until: float) -> None:
        """Every change up to this time, on `clock`, has been heard; to be told again and again."""
        if self.up:
            self.current_until = until + CURRENT_SECONDS

    def listen(self, space: str, listener: Listener) -> None:
        """`space` is one of WATCHED_SPACES."""
        self._listeners[space].append(listener)

    def changed(self, key: str) -> None:
        """A key, by its whole name, was written. Names outside the watched spaces are ignored."""
        space, _, name = key.removeprefix(self._start).partition(":")
        for listener in self._listeners.get(space, ()):
            listener.changed(name)

    def all_changed(self) -> None:
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.all_changed()

    def came_up(self) -> None:
        """From now on every change is heard. What changed until now is unknown."""
        self.all_changed()
        self.up = True
        self.current_until = math.inf  # without a channel nobody will tell

    def went_down(self, since: float) -> None:
        """Changes after `since`, on `clock`, may not have been heard."""
        self.up = False
        self.down_since = since
        self.current_until = -math.inf

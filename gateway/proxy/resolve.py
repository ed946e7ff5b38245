"""Names of targets -> addresses, looked up in the background.

Rules:
- No request waits for a look-up, except the first ones of an upstream whose name is not known yet.
- The system's resolver is asked (`getaddrinfo`, in the loop's threads), so hosts files and search
  domains count. It doesn't tell how long its answer is good: the look-up is repeated every
  `resolve_every` seconds instead.
- A look-up that fails, or says nothing, changes nothing: the last good answer stays.
- A name with addresses of both families stands for its IPv4 ones: the others are the same machines
  once more, and often can't be reached. Who means IPv6 has a name without IPv4, or writes [::1].
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gateway.proxy.target import Target

logger = logging.getLogger("gateway.proxy")

UNKNOWN_RETRY_SECONDS = 1.0  # while a name has never been found

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]  # host and port -> places; or OSError


async def look_up(host: str, port: int) -> Sequence[str]:
    """All addresses of `host`, of one family, sorted. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family in (socket.AF_INET, socket.AF_INET6):
        places = {_place(entry[4]) for entry in found if entry[0] == family}
        if places:
            return sorted(places)
    return ()


def _place(address: tuple[Any, ...]) -> str:
    """With its scope, where it has one: a link-local address is nothing without it."""
    scope = address[3] if len(address) > 3 else 0
    return f"{address[0]}%{scope}" if scope else str(address[0])


class Lookups:
    """Keeps the places of an upstream's named targets; says each change to `on_change`."""

    def __init__(
        self,
        targets: Sequence[Target],
        every: float,
        on_change: Callable[[Target, Sequence[str]], None],
        resolve: Resolve = look_up,
    ) -> None:
        self._targets = [target for target in targets if target.place is None]
        self._every = every  # seconds
        self.on_change = on_change
        self._resolve = resolve
        self._tasks: list[asyncio.Task[None]] = []
        self._to_come = len(self._targets)  # names whose first look-up has not ended
        self._settled = asyncio.Event()
        if not self._targets:
            self._settled.set()

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep(target)) for target in self._targets]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._settled.set()

    async def settled(self, seconds: float) -> None:
        """Return when something is known, or every name was looked up once, or in `seconds`."""
        if not self._settled.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._settled.wait()
            except TimeoutError:
                return

    async def _keep(self, target: Target) -> None:
        """Look up one name again and again; there is never more than one look-up of it."""
        known: Sequence[str] = ()
        failing = first = True
        while True:
            places = await self._ask(target)
            if places and places != known:
                known = places
                self.on_change(target, places)
            if first or failing != (not places):
                failing = not places
                self._tell(target, known, failing=failing)
            if first:
                first = False
                self._to_come -= 1
            if known or not self._to_come:
                self._settled.set()
            await asyncio.sleep(self._every if known else min(self._every, UNKNOWN_RETRY_SECONDS))

    async def _ask(self, target: Target) -> Sequence[str]:
        try:
            return sorted(set(await self._resolve(target.host, target.port)))
        except (OSError, UnicodeError):  # the latter for a label that no name can have
            return ()

    def _tell(self, target: Target, known: Sequence[str], *, failing: bool) -> None:
        if failing:
            kept = f"; {len(known)} known addresses stay" if known else ""
            logger.warning("target %s: its name can't be looked up%s", target.url, kept)
        else:
            logger.info("target %s: %d addresses", target.url, len(known))

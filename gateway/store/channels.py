"""What changes in a Redis Cluster: each master tells of its own keys, so every one is listened to.

Rules: changes are heard (`up`) while every node that any master calls a master has a channel that
is open, and every slot has a master. Who is a master is asked each second, and at once when an
answer or an error shows that it may have changed. When the set of masters has changed, or an answer
leads to a node that isn't in it, nothing is sure to be heard until all are heard again; then all
copies go.

So a slot that moves between masters that are heard loses nothing: the old one tells that each key
is gone from it, the new one of every write. What has moved to a new master is never kept from there
before that one is heard. The one thing that can be missed is that a name comes into being, within
the second in which a new master is unknown.
"""

import asyncio
import logging
import math
from collections.abc import Callable

from redis.exceptions import RedisError

from gateway.errors import ConfigurationError
from gateway.store.changes import Changes
from gateway.store.channel import (
    CONNECT_SECONDS,
    TICK_SECONDS,
    Channel,
    NewerLayoutError,
    check_layout,
)
from gateway.store.cluster import Address, ClusterClient

logger = logging.getLogger("gateway.store")

REFRESH_SECONDS = 1.0


class _MasterChanges(Changes):
    """What the channel of one master keeps true; passes all of it on."""

    def __init__(
        self, whole: Changes, on_change: Callable[[], None], on_heard: Callable[[], None]
    ) -> None:
        super().__init__("", whole.clock)
        self.heard_until = -math.inf
        self._whole = whole
        self._on_change = on_change
        self._on_heard = on_heard

    @property
    def prefixes(self) -> list[str]:
        return self._whole.prefixes

    def heard_all(self, until: float) -> None:
        self.heard_until = until
        self._on_heard()

    def changed(self, key: str) -> None:
        self._whole.changed(key)

    def all_changed(self) -> None:
        self._whole.all_changed()

    def came_up(self) -> None:
        self.up = True
        self._on_change()

    def went_down(self, since: float) -> None:
        super().went_down(since)
        self._on_change()


class Channels:
    """Keeps `changes` and the client's map of slots true. To be used as `Channel` is."""

    def __init__(
        self, client: ClusterClient, changes: Changes, version_key: str, where: str
    ) -> None:
        self.refused = False  # by this gateway, for the layout
        self._client = client
        self._changes = changes
        self._version_key = version_key
        self._where = where
        self._masters: dict[Address, tuple[_MasterChanges, Channel]] = {}
        self._told = False  # that no node was reached
        self._doubt = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        client.on_doubt = self._doubt.set
        client.on_stranger = self._met_stranger

    async def start(self, connect_seconds: float = CONNECT_SECONDS) -> None:
        """As Channel.start. Raises ConfigurationError if the data has a newer layout."""
        try:
            await self._follow(connect_seconds)
        except NewerLayoutError as error:
            await self.close()
            raise ConfigurationError([str(error)]) from error
        except (RedisError, OSError) as error:
            self._told = True
            logger.warning(
                "Redis at %s can't be reached (%s: %s); going on without it until it is back",
                self._where,
                type(error).__name__,
                error,
            )
        self._task = asyncio.create_task(self._run(connect_seconds))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await asyncio.gather(*(channel.close() for _, channel in self._masters.values()))
        self._masters.clear()

    async def _run(self, connect_seconds: float) -> None:
        while True:
            pause = REFRESH_SECONDS if self._changes.up else TICK_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await self._doubt.wait()
                await asyncio.sleep(TICK_SECONDS / 5)  # doubts come in crowds
            except TimeoutError:
                pass
            self._doubt.clear()
            try:
                await self._follow(connect_seconds)
            except NewerLayoutError as error:
                if not self.refused:
                    self.refused = True
                    logger.error("%s", error)
            except (RedisError, OSError):
                pass  # the channels know, and have said so
            except Exception:
                logger.exception("the store's channels failed")

    async def _follow(self, connect_seconds: float) -> None:
        """Have a channel to each master, and to no other."""
        await self._client.refresh()
        masters = self._client.masters
        gone, new = self._masters.keys() - masters.keys(), masters.keys() - self._masters.keys()
        if gone or new:
            self._unsure()
            if self._masters:
                names = ", ".join(f"{host}:{port}" for host, port in masters)
                logger.info("Redis at %s: the masters are %s now", self._where, names)
        left = [self._masters.pop(address)[1] for address in gone]
        for address in new:
            changes = _MasterChanges(self._changes, self._on_change, self._on_heard)
            pool = masters[address].connection_pool
            name = "{}:{}".format(*address)
            self._masters[address] = changes, Channel(pool, changes, None, name)
        await asyncio.gather(*(channel.close() for channel in left))
        await asyncio.gather(*(self._masters[each][1].start(connect_seconds) for each in new))
        if not self._changes.up and self._all_heard():
            await check_layout(self._client.execute_command, self._version_key, self._where)
            self.refused = False
            if self._all_heard():
                self._changes.came_up()
                if self._told:
                    self._told = False
                    logger.warning("Redis at %s is back", self._where)

    def _all_heard(self) -> bool:
        return self._client.covered and all(changes.up for changes, _ in self._masters.values())

    def _on_change(self) -> None:
        if not self._all_heard():
            self._unsure()
        self._doubt.set()

    def _on_heard(self) -> None:
        self._changes.heard_all(min(each.heard_until for each, _ in self._masters.values()))

    def _met_stranger(self) -> None:
        self._unsure()
        self._doubt.set()

    def _unsure(self) -> None:
        if self._changes.up:
            downs = [each.down_since for each, _ in self._masters.values() if not each.up]
            self._changes.went_down(min(downs, default=self._changes.clock()))

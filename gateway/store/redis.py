"""The one way to Redis, and what happens when Redis is away. `topology.py` makes the client.

`memory://` is the same code on fakeredis, a new and empty one per Store, in this process alone.

Rules: `open` never fails because Redis is away: the gateway starts degraded, says so in the log,
and is as before within about a second of Redis's return. Every call stands in `guard()`: it takes
`timeout` seconds at most, and whatever goes wrong in it is a StoreUnavailable. While Redis doesn't
answer (`standing.py`) it is one at once. There are no retries: a call that was cut off may have
been carried out, and its caller knows best what then.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

from redis.exceptions import RedisError

from gateway.errors import ConfigurationError, StoreUnavailable
from gateway.sections import StoreSettings
from gateway.store.changes import Changes
from gateway.store.channel import CONNECT_SECONDS, LAYOUT, Channel, Connection
from gateway.store.channels import Channels
from gateway.store.cluster import ClusterClient
from gateway.store.patience import Patience
from gateway.store.script import PooledScript, Script
from gateway.store.standing import Meaning, Standing, meaning
from gateway.store.topology import Client, client_for, where

logger = logging.getLogger("gateway.store")

KEYS_A_SCAN = 500

_note: ContextVar[Callable[[str], None] | None] = ContextVar("note", default=None)


class Store:
    """Opened by `open`, ended by `close`."""

    def __init__(
        self,
        client: Client,
        *,
        prefix: str,
        timeout_seconds: float,
        changes: Changes,
        channel: Channel | Channels | None,
    ) -> None:
        self.client = client
        self.prefix = prefix
        self.timeout_seconds = timeout_seconds
        self.changes = changes
        self.errors = 0  # calls that failed or took too long, since the start
        self._channel = channel
        self._cluster = client if isinstance(client, ClusterClient) else None
        self._standing = None  # of a cluster: each of its nodes has its own
        if isinstance(channel, Channel):
            self._standing = Standing(changes, self._probe, channel.renew)

    @classmethod
    async def open(
        cls,
        settings: StoreSettings,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  # of each later call, not of this one
        clock: Callable[[], float] = time.monotonic,
    ) -> "Store":
        """Ready for use, with Redis or without.

        `timeout` in seconds is for callers with more patience than a request has. Raises
        ConfigurationError: a URL that redis-py refuses, or data of a newer layout.
        """
        timeout_seconds = settings.timeout if timeout is None else timeout
        changes = Changes(settings.prefix, clock)
        client = client_for(settings.url)
        version_key = f"{settings.prefix}:version"
        channel: Channel | Channels | None = None
        if settings.url == "memory://":
            await client.set(version_key, LAYOUT)
            changes.came_up()
        else:
            place = where(settings.url)
            if isinstance(client, ClusterClient):
                channel = Channels(client, changes, version_key, place)
            else:
                channel = Channel(client.connection_pool, changes, version_key, place)
            try:
                await channel.start(max(timeout_seconds, CONNECT_SECONDS))
            except ConfigurationError:
                await client.aclose()
                raise
        return cls(
            client,
            prefix=settings.prefix,
            timeout_seconds=timeout_seconds,
            changes=changes,
            channel=channel,
        )

    @property
    def embedded(self) -> bool:
        """Is all of it in this process, and gone with it?"""
        return self._channel is None

    @property
    def available(self) -> bool:
        """Did Redis answer when last asked, about a second ago at most?"""
        return self.changes.up and (self._standing is None or self._standing.answers)

    @property
    def takes_writes(self) -> bool:
        """Is it available, and has it refused no write since it last took one?"""
        return self.available and (self._standing is None or self._standing.refusal is None)

    @property
    def trouble(self) -> str:
        """What keeps it from taking writes, in a word or two."""
        refusal = None if self._standing is None else self._standing.refusal
        return refusal if refusal and self.available else "no answer"

    @property
    def spread(self) -> bool:
        """Do keys lie on several servers, so that not all of them go in one script?"""
        return self._cluster is not None

    def key(self, *parts: str) -> str:
        """`gw:part:part`."""
        return ":".join((self.prefix, *parts))

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """Bounds the calls within to `timeout_seconds` together; raises StoreUnavailable."""
        if self._channel is not None and self._channel.refused:
            self.errors += 1
            raise StoreUnavailable
        if self._standing is not None and not self._standing.answers:
            raise StoreUnavailable
        try:
            async with Patience(self.timeout_seconds):
                yield
        except (RedisError, OSError, TimeoutError) as error:
            self.errors += 1
            means = meaning(error) if self._standing is None else self._standing.failed(error)
            if means is Meaning.MISTAKE:
                # An unknown command is answered with its arguments, which are nobody's business.
                said = str(error).partition(", with args")[0]
                logger.error("Redis refused a command: %s: %s", type(error).__name__, said)
            raise StoreUnavailable from error

    def script(self, text: str) -> Script:
        """Lua as a function of keys and arguments, to be awaited within `guard()`."""
        if self._channel is not None and self._cluster is None:
            return PooledScript(self.client, text)
        script: Script = self.client.register_script(text)
        return script

    def slot_groups(self, keys: Sequence[str]) -> Mapping[Hashable, Sequence[int]]:
        """The positions of `keys`, grouped so that one script call may take all keys of a group.

        One server: all of them. A cluster: those of one slot, as names with one `{tag}` are.
        """
        if self._cluster is None:
            return {"": range(len(keys))}
        return self._cluster.slot_groups(keys)

    def server_groups(self, keys: Sequence[str]) -> Mapping[Hashable, Sequence[int]]:
        """The positions of `keys`, by the server that has them."""
        if self._cluster is None:
            return {"": range(len(keys))}
        return self._cluster.node_groups(keys)

    async def call_each(
        self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]
    ) -> list[Any]:
        """A script's answers to several calls, by keys and arguments, in one round trip.

        None for one that failed while others did not. Raises StoreUnavailable.
        """
        async with self.guard():
            if len(calls) == 1:
                return [await script(*calls[0])]
            pipeline = self.client.pipeline(transaction=False)
            for keys, arguments in calls:
                await script(keys, arguments, client=pipeline)
            answers = await pipeline.execute(raise_on_error=False)
            failed = [answer for answer in answers if isinstance(answer, Exception)]
            if len(failed) == len(answers):
                raise failed[0]
        for error in failed:
            self.errors += 1
            if meaning(error) is Meaning.MISTAKE:
                logger.error("Redis refused one call of several: %s", type(error).__name__)
        return [None if isinstance(answer, Exception) else answer for answer in answers]

    def connection_to(self, key: str) -> Connection:
        """A new connection to the server that has `key`, not yet connected; to be closed by who
        asked. Raises StoreUnavailable if that isn't known.
        """
        pool = self.client.connection_pool if self._cluster is None else self._cluster.pool_of(key)
        if pool is None:
            raise StoreUnavailable
        return pool.make_connection()

    def changed(self, *keys: str) -> None:
        """Forget what is remembered of these keys, by whole names: this process wrote to them.

        Redis tells all processes the same by itself. For `memory://` this is the only news, so
        whoever writes to a watched space calls it, after the write.
        """
        for key in keys:
            self.changes.changed(key)
        note = _note.get()
        if note is not None:
            for key in keys:
                note(key)

    @contextmanager
    def noting(self, note: Callable[[str], None]) -> Iterator[None]:
        """Have `note` called with each key that `changed` is told of within, in this task."""
        token = _note.set(note)
        try:
            yield
        finally:
            _note.reset(token)

    async def read_hashes(self, keys: Sequence[str]) -> list[dict[str, str] | None]:
        """The hashes under these names, in one round trip; one that isn't there is empty.

        None for what is there and no hash, and for what lies on a server that can't be asked while
        others can. Raises StoreUnavailable.
        """
        if self._cluster is None:
            return await self._read_hashes(keys)
        groups = list(self._cluster.node_groups(keys).values())
        parts = await asyncio.gather(
            *(self._read_hashes([keys[at] for at in group]) for group in groups),
            return_exceptions=True,
        )
        hashes: list[dict[str, str] | None] = [None] * len(keys)
        failures = [part for part in parts if isinstance(part, BaseException)]
        for failure in failures:
            if len(failures) == len(parts) or not isinstance(failure, StoreUnavailable):
                raise failure
        for group, part in zip(groups, parts, strict=True):
            if not isinstance(part, BaseException):
                for at, fields in zip(group, part, strict=True):
                    hashes[at] = fields
        return hashes

    async def _read_hashes(self, keys: Sequence[str]) -> list[dict[str, str] | None]:
        async with self.guard():
            pipeline = self.client.pipeline(transaction=False)
            for key in keys:
                pipeline.hgetall(key)
            answers = await pipeline.execute(raise_on_error=False)
            for answer in answers:
                if isinstance(answer, OSError) or (
                    isinstance(answer, RedisError) and meaning(answer) is not Meaning.MISTAKE
                ):
                    raise answer
        hashes: list[dict[str, str] | None] = []
        for answer in answers:
            refused = isinstance(answer, RedisError)
            if refused:
                self.errors += 1
                logger.error("Redis refused to read a hash: %s", answer)
            hashes.append(None if refused else answer)
        return hashes

    async def scan(self, pattern: str) -> AsyncIterator[list[str]]:
        """Names that match `pattern`, some at a time; a name may come twice.

        In a cluster, one whose slot moves meanwhile may be left out. Raises StoreUnavailable.
        """
        if self._cluster is not None and not self._cluster.covered:
            raise StoreUnavailable
        servers: Sequence[Client] = (self.client,)
        if self._cluster is not None:
            servers = list(self._cluster.masters.values())
        for server in servers:
            cursor: int | None = None
            while cursor != 0:
                async with self.guard():
                    answer = await server.scan(cursor or 0, pattern, count=KEYS_A_SCAN)
                cursor, keys = int(answer[0]), answer[1]
                if keys:
                    yield keys

    async def _probe(self) -> None:
        async with Patience(self.timeout_seconds):
            await self.client.connection_pool.disconnect(inuse_connections=False)
            await self.client.set(self.key("version"), LAYOUT, nx=True)

    async def close(self) -> None:
        if self._standing is not None:
            await self._standing.close()
        if self._channel is not None:
            await self._channel.close()
        await self.client.aclose()
        if self._cluster is not None:
            return
        sentinels = getattr(self.client.connection_pool, "sentinel_manager", None)
        if sentinels is not None:
            await sentinels.aclose()

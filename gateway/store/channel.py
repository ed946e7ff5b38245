"""The one connection on which Redis tells what has changed, and whether it is there at all.

Server-assisted client-side caching (redis.io/docs, "Client-side caching reference") in
broadcasting mode: Redis sends the name of every key written under the watched prefixes, whoever
wrote it. In RESP2 the messages come by a Pub/Sub channel; the connection redirects them to
itself, so the same one says "alive" (PING) and "changed", and one break ends both. Needs Redis
6.2, and under ACLs `+client|id +client|tracking +subscribe +ping +get +set`, with
`&__redis__:invalidate`.

Rules: Redis is asked every tick whether it is there, which also tells that all news of until then
have come; a silent one counts as gone after three ticks. A new connection is tried every tick;
going and coming back are each logged once. On every connection the layout's version is looked at.
While Redis is gone no idle connection to it is kept: its end would go unnoticed until its next use.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from redis.exceptions import RedisError, ResponseError

from gateway.errors import ConfigurationError
from gateway.store.changes import Changes

Connection: TypeAlias = Any  # redis-py's, which has no types for `connect`
Pool: TypeAlias = Any  # redis-py's, of whichever kind

logger = logging.getLogger("gateway.store")

LAYOUT = 1  # of the data in Redis; `{prefix}:version` holds it
INVALIDATIONS = "__redis__:invalidate"
TICK_SECONDS = 0.25
SILENT_TICKS = 2  # that PING may stay without an answer
CONNECT_SECONDS = 1.0


class NewerLayoutError(Exception):
    """The data in Redis has a layout that this gateway doesn't know."""


async def check_layout(ask: Callable[..., Awaitable[Any]], version_key: str, where: str) -> None:
    """Raises NewerLayoutError. Data without a version gets ours."""
    version = await ask("GET", version_key)
    if version is None:
        with contextlib.suppress(ResponseError):  # it may take no writes: use it all the same
            await ask("SET", version_key, LAYOUT, "NX")
        version = await ask("GET", version_key) or LAYOUT
    if not str(version).isdecimal() or int(version) > LAYOUT:
        raise NewerLayoutError(
            f"Redis at {where}: {version_key} says that the data has another "
            f"layout than this gateway knows ({LAYOUT}); run a newer gateway"
        )


class Channel:
    """Keeps `changes` true, by a connection of its own that is made as those of `pool` are."""

    def __init__(
        self,
        pool: Pool,
        changes: Changes,
        version_key: str | None,
        where: str,
    ) -> None:
        """Without a `version_key` the layout isn't looked at."""
        self.refused = False  # by this gateway, for the layout
        self._pool = pool
        self._changes = changes
        self._version_key = version_key
        self._where = where
        self._heard_at = changes.clock()
        self._told: str | None = None  # the last state that was logged
        self._renewing = False
        self._task: asyncio.Task[None] | None = None
        self._tried: asyncio.Future[None] | None = None

    async def start(self, connect_seconds: float = CONNECT_SECONDS) -> None:
        """Return when the first attempt has ended, well or not. It goes on in the background.

        Raises ConfigurationError if Redis is there and holds a newer layout.
        """
        self._tried = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(connect_seconds))
        try:
            await asyncio.shield(self._tried)
        except NewerLayoutError as error:
            await self.close()
            raise ConfigurationError([str(error)]) from error

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._changes.up:
            self._changes.went_down(self._heard_at)

    def renew(self) -> None:
        """Connect anew: what is connected now may no longer be where the data is written."""
        if self._changes.up:
            self._changes.went_down(self._heard_at)
            self._renewing = True

    async def _run(self, connect_seconds: float) -> None:
        while True:
            connection = self._pool.make_connection()
            try:
                async with asyncio.timeout(connect_seconds):
                    await self._open(connection)
                self._came_up()
                await self._hear(connection)
                continue
            except NewerLayoutError as error:
                self.refused = True
                self._went_down(error)
            except (RedisError, OSError, TimeoutError) as error:
                self._went_down(error)
            except Exception as error:
                logger.exception("the store's channel failed")
                self._went_down(error)
            finally:
                await connection.disconnect(nowait=True)
            await self._drop_idle()
            await asyncio.sleep(TICK_SECONDS)

    async def _drop_idle(self) -> None:
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(TICK_SECONDS):  # by TLS a hung Redis would be waited for
                await self._pool.disconnect(inuse_connections=False)

    async def _open(self, connection: Connection) -> None:
        async def ask(*words: Any) -> Any:
            await connection.send_command(*words)
            return await connection.read_response()

        await connection.connect()
        if self._version_key is not None:
            await check_layout(ask, self._version_key, self._where)
        own_id = await ask("CLIENT", "ID")
        prefixes = [word for prefix in self._changes.prefixes for word in ("PREFIX", prefix)]
        await ask("CLIENT", "TRACKING", "ON", "REDIRECT", own_id, "BCAST", *prefixes)
        await ask("SUBSCRIBE", INVALIDATIONS)

    async def _hear(self, connection: Connection) -> None:
        """Pass the news on until it is time to renew. Raises when the connection breaks."""
        clock = self._changes.clock
        silent_ticks = 0
        pinged_at: float | None = None  # without an answer yet
        ping_at = clock()
        self._renewing = False
        while not self._renewing:
            if pinged_at is None and clock() >= ping_at:
                pinged_at = clock()
                await connection.send_command("PING", check_health=False)
            message = await connection.read_response(timeout=TICK_SECONDS)
            if message is not None:
                silent_ticks = 0
                self._heard_at = clock()
                if message[0] == "message":
                    self._pass_on(message[2])
                elif pinged_at is not None:  # what Redis said before its answer has come before it
                    self._changes.heard_all(pinged_at)
                    ping_at, pinged_at = pinged_at + TICK_SECONDS, None
            elif pinged_at is not None:
                silent_ticks += 1
                if silent_ticks > SILENT_TICKS:
                    raise TimeoutError("no answer to PING")

    def _pass_on(self, keys: list[str] | None) -> None:
        if keys is None:  # FLUSHALL, FLUSHDB
            self._changes.all_changed()
        else:
            for key in keys:
                self._changes.changed(key)

    def _came_up(self) -> None:
        self.refused = False
        self._heard_at = self._changes.clock()
        self._changes.came_up()
        self._changes.heard_all(self._heard_at)
        if self._told is not None:
            logger.warning("Redis at %s is back", self._where)
            self._told = None
        self._settle_first_try(None)

    def _went_down(self, error: Exception) -> None:
        if self._changes.up:
            self._changes.went_down(self._heard_at)
        state = "refused" if self.refused else "gone"
        if self._told != state:
            self._told = state
            if self.refused:
                logger.error("%s", error)
            else:
                logger.warning(
                    "Redis at %s can't be reached (%s); going on without it until it is back",
                    self._where,
                    f"{type(error).__name__}: {error}" if str(error) else type(error).__name__,
                )
        self._settle_first_try(error if isinstance(error, NewerLayoutError) else None)

    def _settle_first_try(self, error: NewerLayoutError | None) -> None:
        if self._tried is None or self._tried.done():
            return
        if error is None:
            self._tried.set_result(None)
        else:
            self._tried.set_exception(error)

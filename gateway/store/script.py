"""Calls of Lua scripts on one server, or on the one that Sentinels name.

redis-py's own way costs three times as much of this process's time, most of it for packing the
command in Python; requests near a limit, and those of quiet clients, wait for such a call.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from hiredis import pack_command
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

FLUSHES_ENDURED = 3  # SCRIPT FLUSH can come between loading a script and calling it


class Script(Protocol):
    """A Lua script that Redis knows by its hash; it is sent once."""

    async def __call__(
        self, keys: Sequence[str] = ..., args: Sequence[Any] = ..., client: Any = ...
    ) -> Any:
        """`client` may be a pipeline, whose answers then have this one's."""


class PooledScript:
    """A script that is called on a connection of a client's pool."""

    def __init__(self, client: Redis, text: str) -> None:
        self._in_pipeline = client.register_script(text)
        self._pool: Any = client.connection_pool
        self._text = text
        self._sha1 = self._in_pipeline.sha

    async def __call__(
        self, keys: Sequence[str] = (), args: Sequence[Any] = (), client: Any = None
    ) -> Any:
        """Raises what redis-py raises."""
        if client is not None:
            return await self._in_pipeline(keys, args, client=client)
        for _ in range(FLUSHES_ENDURED):
            try:
                return await self._call("EVALSHA", self._sha1, len(keys), *keys, *args)
            except NoScriptError:
                await self._call("SCRIPT", "LOAD", self._text)
        return await self._call("EVALSHA", self._sha1, len(keys), *keys, *args)

    async def _call(self, *words: Any) -> Any:
        packed = pack_command(words)
        connection = await self._pool.get_connection()
        try:
            # Both close the connection when they are cut off: no answer is left to the next call.
            await connection.send_packed_command(packed)
            return await connection.read_response()
        finally:
            await self._pool.release(connection)

"""The one way to Redis: a client for each topology, and what happens when Redis is away.

`memory://` is the same code on fakeredis, a new and empty one per Store, in this process alone.

Rules: `open` never fails because Redis is away: the gateway starts degraded, says so in the log,
and is as before within about a second of Redis's return. Every call stands in `guard()`: it takes
`timeout` seconds at most, and whatever goes wrong in it is a StoreUnavailable. While Redis doesn't
answer (`standing.py`) it is one at once. There are no retries: a call that was cut off may have
been carried out, and its caller knows best what then.

Terms: *topology*: one server, or several behind Sentinels, which name the one that takes writes.
"""

import logging
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from fakeredis import FakeAsyncRedis, FakeServer
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.errors import ConfigurationError, StoreUnavailable
from gateway.sections import StoreSettings
from gateway.store.changes import Changes
from gateway.store.channel import CONNECT_SECONDS, LAYOUT, Channel
from gateway.store.patience import Patience
from gateway.store.standing import Meaning, Standing, meaning

logger = logging.getLogger("gateway.store")

Client: TypeAlias = Any  # redis-py's commands are typed for its sync and async clients at once

CONNECTIONS = 16  # per process: beyond that, waiting is cheaper than connecting
SENTINEL_SECONDS = 0.2  # for one Sentinel's answer, so that a hung one leaves time for the next
SENTINEL_PORT = 26379
KEYS_A_SCAN = 500

_noted: ContextVar[set[str] | None] = ContextVar("noted", default=None)


class Script(Protocol):
    """A Lua script that Redis knows by its hash; it is sent once."""

    async def __call__(
        self, keys: Sequence[str] = ..., args: Sequence[Any] = ..., client: Client = ...
    ) -> Any: ...


class Store:
    """Opened by `open`, ended by `close`."""

    def __init__(
        self,
        client: Client,
        *,
        prefix: str,
        timeout_seconds: float,
        changes: Changes,
        channel: Channel | None,
    ) -> None:
        self.client = client
        self.prefix = prefix
        self.timeout_seconds = timeout_seconds
        self.changes = changes
        self.errors = 0  # calls that failed or took too long, since the start
        self._channel = channel
        self._standing = None if channel is None else Standing(changes, self._probe, channel.renew)

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
        client = _client(settings.url)
        version_key = f"{settings.prefix}:version"
        channel = None
        if settings.url == "memory://":
            await client.set(version_key, LAYOUT)
            changes.came_up()
        else:
            place = where(settings.url)
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
        script: Script = self.client.register_script(text)
        return script

    def slot_groups(self, keys: Sequence[str]) -> Mapping[Hashable, Sequence[int]]:
        """The positions of `keys`, grouped so that one script call may take all keys of a group."""
        return {"": range(len(keys))}

    def changed(self, *keys: str) -> None:
        """Forget what is remembered of these keys, by whole names: this process wrote to them.

        Redis tells all processes the same by itself. For `memory://` this is the only news, so
        whoever writes to a watched space calls it, after the write.
        """
        for key in keys:
            self.changes.changed(key)
        noted = _noted.get()
        if noted is not None:
            noted.update(keys)

    @contextmanager
    def noting(self) -> Iterator[set[str]]:
        """The keys, by whole names, that `changed` is called for within, in this task."""
        keys: set[str] = set()
        token = _noted.set(keys)
        try:
            yield keys
        finally:
            _noted.reset(token)

    async def read_hashes(self, keys: Sequence[str]) -> list[dict[str, str] | None]:
        """The hashes under these names, in one round trip; one that isn't there is empty.

        None for what is there and no hash. Raises StoreUnavailable.
        """
        async with self.guard():
            pipeline = self.client.pipeline(transaction=False)
            for key in keys:
                pipeline.hgetall(key)
            answers = await pipeline.execute(raise_on_error=False)
            for answer in answers:
                if isinstance(answer, RedisError) and meaning(answer) is not Meaning.MISTAKE:
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

        Raises StoreUnavailable.
        """
        cursor: int = 0
        while True:
            async with self.guard():
                cursor, keys = await self.client.scan(cursor, pattern, count=KEYS_A_SCAN)
            if keys:
                yield keys
            if int(cursor) == 0:
                return

    async def _probe(self, refusal: str | None) -> None:
        async with Patience(self.timeout_seconds):
            if refusal == "READONLY":
                await self.client.connection_pool.disconnect(inuse_connections=False)
            await self.client.set(self.key("version"), LAYOUT, nx=True)

    async def close(self) -> None:
        if self._standing is not None:
            await self._standing.close()
        if self._channel is not None:
            await self._channel.close()
        await self.client.aclose()
        sentinels = getattr(self.client.connection_pool, "sentinel_manager", None)
        if sentinels is not None:
            await sentinels.aclose()


def _client(url: str) -> Client:
    """Not connected yet. RESP2: it is what fakeredis, Redis 6 and the channel have in common."""
    scheme, _, rest = url.partition("://")
    if scheme == "memory":
        return FakeAsyncRedis(server=FakeServer(), decode_responses=True, protocol=2)
    options: dict[str, Any] = {
        "decode_responses": True,
        "encoding_errors": "replace",  # bytes that aren't UTF-8 make no request fail
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,  # `guard` bounds time, once for all calls in it
        "socket_connect_timeout": None,
        "driver_info": None,  # saves two commands on each new connection
    }
    try:
        if scheme == "redis+sentinel":
            client = _sentinel_client(rest, options)
        else:
            options |= {"max_connections": CONNECTIONS, "timeout": None}
            client = Redis.from_pool(BlockingConnectionPool.from_url(url, **options))
        client.connection_pool.make_connection()  # the options in the URL reach it only now
    except (TypeError, ValueError, RedisError):
        # The original message may repeat the URL, and with it a password.
        raise ConfigurationError(["store.url: has an option that redis-py doesn't take"]) from None
    return client


def _sentinel_client(rest: str, options: dict[str, Any]) -> Client:
    """`rest` is `[user:password@]host:port,host:port/master/0[?sentinel_password=…]`.

    User and password are Redis's own; `sentinel_username` and `sentinel_password` the Sentinels'.
    """
    place, _, query = rest.partition("?")
    credentials, _, addresses = place.rpartition("@")
    addresses, _, path = addresses.partition("/")
    master, _, database = path.partition("/")
    username, _, password = credentials.partition(":")
    extra = dict(parse_qsl(query))
    sentinels = [urlsplit(f"//{address}") for address in addresses.split(",")]
    manager = Sentinel(  # type: ignore[no-untyped-call]  # redis-py has no types there
        [(sentinel.hostname, sentinel.port or SENTINEL_PORT) for sentinel in sentinels],
        sentinel_kwargs={
            "socket_timeout": SENTINEL_SECONDS,
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "username": extra.get("sentinel_username"),
            "password": extra.get("sentinel_password"),
        },
    )
    return manager.master_for(
        unquote(master),
        db=int(database or 0),
        username=unquote(username) or None,
        password=unquote(password) or None,
        **options,
    )


def where(url: str) -> str:
    """A store's URL without user, password and options: fit to be shown."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"

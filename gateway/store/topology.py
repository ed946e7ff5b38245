"""The client for each topology that `store.url` can name. Nothing here connects.

| scheme | |
|---|---|
| `redis`, `rediss`, `unix` | one server: plain, by TLS, by a unix socket |
| `redis+sentinel`, `rediss+sentinel` | whichever server the Sentinels name as the master |
| `redis+cluster`, `rediss+cluster` | a Redis Cluster, found by any of its nodes |

What stands behind `?` is redis-py's: `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`,
`ssl_check_hostname`, … Besides, `sentinel_username` and `sentinel_password`.
"""

import ssl
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from fakeredis import FakeAsyncRedis, FakeServer
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from gateway.errors import ConfigurationError
from gateway.store.cluster import ClusterClient

Client: TypeAlias = Any  # redis-py's commands are typed for its sync and async clients at once

CONNECTIONS = 16  # per process and node: beyond that, waiting is cheaper than connecting
SENTINEL_SECONDS = 0.2  # for one Sentinel's answer, so that a hung one leaves time for the next
REDIS_PORT, SENTINEL_PORT = 6379, 26379


def client_for(url: str) -> Client:
    """Not connected yet. RESP2: it is what fakeredis, Redis 6 and the channel have in common.

    Raises ConfigurationError for options that redis-py doesn't take, or files it can't read.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "memory":
        return FakeAsyncRedis(server=FakeServer(), decode_responses=True, protocol=2)
    options: dict[str, Any] = {
        "decode_responses": True,
        "encoding_errors": "replace",  # bytes that aren't UTF-8 make no request fail
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,  # the store's `guard` bounds time, once for all calls in it
        "socket_connect_timeout": None,
        "driver_info": None,  # saves two commands on each new connection
    }
    client: Client
    try:
        if scheme.endswith("+sentinel"):
            client = _sentinel_client(rest, options, tls=scheme.startswith("rediss"))
            sample = client.connection_pool.make_connection()
        elif scheme.endswith("+cluster"):
            client = _cluster_client(scheme.removesuffix("+cluster"), rest, options)
            sample = client.sample().connection_pool.make_connection()
        else:
            client = _one_server(url, options)
            sample = client.connection_pool.make_connection()
        # The options in the URL have reached redis-py only now.
        if isinstance(sample, SSLConnection):
            sample.ssl_context.get()
    except (OSError, ssl.SSLError) as error:
        problem = f"store.url: the files that it names for TLS can't be used ({error})"
        raise ConfigurationError([problem]) from None
    except (TypeError, ValueError, RedisError):
        # The original message may repeat the URL, and with it a password.
        raise ConfigurationError(["store.url: has an option that redis-py doesn't take"]) from None
    return client


def where(url: str) -> str:
    """A store's URL without user, password and options: fit to be shown."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"


def _one_server(url: str, options: dict[str, Any]) -> Client:
    pool = BlockingConnectionPool.from_url(
        url, **options, max_connections=CONNECTIONS, timeout=None
    )
    return Redis.from_pool(pool)


def _cluster_client(scheme: str, rest: str, options: dict[str, Any]) -> ClusterClient:
    """`rest` is `[user:password@]host:port,host:port[?options]`."""
    place, mark, query = rest.partition("?")
    credentials, at, addresses = place.rpartition("@")
    seeds = _addresses(addresses.partition("/")[0], REDIS_PORT)

    def connect(host: str, port: int) -> Client:
        name = f"[{host}]" if ":" in host else host
        return _one_server(f"{scheme}://{credentials}{at}{name}:{port}{mark}{query}", options)

    return ClusterClient(seeds, connect)


class _MasterConnection(SentinelManagedConnection):
    """Is sure that it leads to a master: a Sentinel may know less than the server itself."""

    async def connect_to(self, address: tuple[str, int]) -> None:
        await super().connect_to(address)  # type: ignore[no-untyped-call]
        await self.send_command("ROLE")
        role = await self.read_response()
        if role[0] != "master":
            await self.disconnect(nowait=True)
            sentinels = self.connection_pool.sentinel_manager.sentinels
            sentinels.append(sentinels.pop(0))  # this one was wrong: the next time another's word
            raise RedisConnectionError("what the Sentinel named as the master is a replica")


class _MasterTlsConnection(_MasterConnection, SSLConnection):
    pass


def _sentinel_client(rest: str, options: dict[str, Any], *, tls: bool) -> Client:
    """`rest` is `[user:password@]host:port,host:port/master/0[?options]`.

    User and password are Redis's own; `sentinel_username` and `sentinel_password` the Sentinels'.
    The other options are for both.
    """
    place, _, query = rest.partition("?")
    credentials, _, addresses = place.rpartition("@")
    addresses, _, path = addresses.partition("/")
    master, _, database = path.partition("/")
    username, _, password = credentials.partition(":")
    extra = dict(parse_qsl(query))
    own = {"username": extra.pop("sentinel_username", None)}
    own["password"] = extra.pop("sentinel_password", None)
    common: dict[str, Any] = dict(parse_url(f"redis://?{urlencode(extra)}"))
    manager = Sentinel(  # type: ignore[no-untyped-call]  # redis-py has no types there
        _addresses(addresses, SENTINEL_PORT),
        sentinel_kwargs={
            "socket_timeout": SENTINEL_SECONDS,
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "ssl": tls,
            **common,
            **own,
        },
    )
    return manager.master_for(
        unquote(master),
        db=int(database or 0),
        username=unquote(username) or None,
        password=unquote(password) or None,
        connection_class=_MasterTlsConnection if tls else _MasterConnection,
        **(options | common),
    )


def _addresses(text: str, default_port: int) -> list[tuple[str, int]]:
    parts = [urlsplit(f"//{address}") for address in text.split(",")]
    return [(part.hostname or "", part.port or default_port) for part in parts]

"""Looks at the Redis that the settings name, whichever topology: is it what a gateway needs?

Nothing is changed there: what a right is tried on is a name that nobody has, and gone at once. No
call takes longer than `PATIENCE_SECONDS`, and one that fails is a finding, never the end.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from secrets import token_hex
from statistics import median
from typing import Any

from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from gateway.sections import StoreSettings
from gateway.store import judgement, rights
from gateway.store.channel import INVALIDATIONS, LAYOUT
from gateway.store.cluster import ClusterClient
from gateway.store.judgement import Finding
from gateway.store.topology import Client, client_for, where

PATIENCE_SECONDS = 3.0
PINGS = 20


async def check(settings: StoreSettings) -> list[Finding]:
    """Raises ConfigurationError for a URL with options that can't be used."""
    place = where(settings.url)
    if settings.url == "memory://":
        message = "for trying out: one process, and all is forgotten at its end; set store.url"
        return [Finding("warning", place, "store", message)]
    client = client_for(settings.url)
    try:
        return [finding async for finding in _check(client, place, settings)]
    finally:
        await client.aclose()
        manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
        if manager is not None:
            await manager.aclose()


async def _check(client: Client, place: str, settings: StoreSettings) -> AsyncIterator[Finding]:
    servers: Mapping[str, Client] = {place: client}
    wanted = {**rights.DATA}
    try:
        if isinstance(client, ClusterClient):
            await _patiently(client.refresh())
            servers = {"{}:{}".format(*address): node for address, node in client.masters.items()}
            wanted |= rights.CLUSTER
            async for finding in _cluster(client, place):
                yield finding
        elif hasattr(client.connection_pool, "sentinel_manager"):
            async for finding in _sentinels(client.connection_pool):
                yield finding
            servers = {"{}:{}".format(*await _master(client.connection_pool)): client}
            wanted |= rights.SENTINEL
        yield await _layout(client, place, f"{settings.prefix}:version")
    except (RedisError, OSError) as error:
        yield _unreachable(place, error)
        return
    for name, server in servers.items():
        try:
            async for finding in _server(name, server, settings, {**wanted, **rights.LAST}):
                yield finding
        except (RedisError, OSError) as error:
            yield _unreachable(name, error)


async def _server(
    name: str, server: Client, settings: StoreSettings, wanted: rights.Calls
) -> AsyncIterator[Finding]:
    yield await _latency(name, server, settings.timeout)
    yield await _rights(name, server, settings.prefix, wanted)
    try:
        info = await _patiently(server.info())
    except NoPermissionError:
        message = (
            "INFO isn't allowed, so version, persistence, eviction and replicas are unknown; "
            "allow +info, or check with another user in GATEWAY_STORE__URL"
        )
        yield Finding("warning", name, "rights", message)
    else:
        try:
            config = await _patiently(server.config_get("save", "appendfsync"))
        except RedisError:  # not allowed: it would show passwords; or one name at a time (6.2)
            config = {}
        for found in (
            judgement.version(name, info),
            judgement.persistence(name, info, config),
            judgement.memory(name, info),
            judgement.replication(name, info),
        ):
            for finding in found:
                yield finding
    yield await _clock(name, server)


async def _layout(client: Client, place: str, key: str) -> Finding:
    try:
        layout = await _patiently(client.get(key))
    except NoPermissionError:
        return Finding("error", place, "layout", f"{key} can't be read; allow +get and its name")
    if layout is None:
        return Finding("ok", place, "layout", f"no {key} yet: the first gateway writes it")
    if not str(layout).isdecimal() or int(layout) > LAYOUT:
        message = f"{key} is {layout!r}, this gateway knows {LAYOUT}; run a newer gateway"
        return Finding("error", place, "layout", message)
    return Finding("ok", place, "layout", f"{key} is {layout}")


async def _latency(name: str, server: Client, allowed_seconds: float) -> Finding:
    connection = server.connection_pool.make_connection()
    try:
        started = time.perf_counter()
        await _patiently(connection.connect())
        connect_seconds = time.perf_counter() - started
        taken = []
        for _ in range(PINGS):
            started = time.perf_counter()
            await connection.send_command("PING")
            await _patiently(connection.read_response())
            taken.append(time.perf_counter() - started)
    except NoPermissionError:
        return Finding("warning", name, "latency", "PING isn't allowed, so it is unknown")
    finally:
        await connection.disconnect(nowait=True)
    (finding,) = judgement.latency(name, median(taken), connect_seconds, allowed_seconds)
    return finding


async def _rights(name: str, server: Client, prefix: str, wanted: rights.Calls) -> Finding:
    probe = f"{prefix}:check:{token_hex(8)}"
    missing: list[str] = []
    connection = server.connection_pool.make_connection()
    try:
        await _patiently(connection.connect())
        for right, words in wanted.items():
            await connection.send_command(*(probe if w is rights.PROBE else w for w in words))
            try:
                await _patiently(connection.read_response())
            except ResponseError as error:  # for another reason: so it may be called
                if "has no permissions" in str(error):
                    missing.append(_missing(right, prefix, str(error)))
    finally:
        await connection.disconnect(nowait=True)
    if missing:
        words = " ".join(dict.fromkeys(missing))
        user = connection.username or "default"
        message = f"the user {user} lacks rights; ACL SETUSER {user} {words}"
        return Finding("error", name, "rights", message)
    return Finding("ok", name, "rights", "all that a gateway needs")


def _missing(right: str, prefix: str, said: str) -> str:
    """Redis says whether it is the command, the key or the channel."""
    if "command" in said:
        return right
    return f"&{INVALIDATIONS}" if "channel" in said else f"~{prefix}:*"


async def _clock(name: str, server: Client) -> Finding:
    before = time.time()
    seconds, microseconds = await _patiently(server.time())
    ahead = seconds + microseconds / 1_000_000 - (before + time.time()) / 2
    message = f"{abs(ahead) * 1000:.0f} ms {'ahead of' if ahead > 0 else 'behind'} this machine's"
    return Finding("ok", name, "clock", f"{message}; limits go by Redis's, so no matter")


async def _cluster(client: ClusterClient, place: str) -> AsyncIterator[Finding]:
    try:
        told = await _patiently(client.execute_command("CLUSTER", "INFO"))
    except NoPermissionError:
        yield Finding("warning", place, "cluster", "CLUSTER INFO isn't allowed: state unknown")
    else:
        info = dict(line.split(":", 1) for line in told.split() if ":" in line)
        for finding in judgement.cluster(place, info):
            yield finding
    alone = [f"{host}:{port}" for host, port in client.without_replicas()]
    if alone:
        message = f"without a replica: {', '.join(alone)}; with such a master its part is gone"
        yield Finding("warning", place, "cluster", message)


async def _sentinels(pool: Any) -> AsyncIterator[Finding]:
    for sentinel in list(pool.sentinel_manager.sentinels):
        address = sentinel.connection_pool.connection_kwargs
        name = f"{address['host']}:{address['port']}"
        try:
            told = await _patiently(sentinel.sentinel_master(pool.service_name))
        except (RedisError, OSError) as error:
            reason = str(error) or type(error).__name__
            message = f"this Sentinel says nothing of the master ({reason}); start or correct it"
            yield Finding("error", name, "sentinel", message)
        else:
            for finding in judgement.sentinel(name, told):
                yield finding


async def _master(pool: Any) -> tuple[str, int]:
    address: tuple[str, int] = await _patiently(pool.get_master_address())
    return address


def _unreachable(place: str, error: Exception) -> Finding:
    reason = str(error).partition(", with args")[0].strip().removesuffix(".")
    if isinstance(error, AuthenticationError):
        hint = "correct the user and password in store.url"
    else:
        hint = "start Redis, or set store.url to where it runs"
    message = f"can't be asked ({reason or type(error).__name__}); {hint}"
    return Finding("error", place, "connection", message)


async def _patiently(awaitable: Any) -> Any:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await awaitable

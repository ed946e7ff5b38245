"""The configuration that a worker uses now, and its change for another one, whole or not at all.

Rules: the next one is built beside the one in use (`prepare`); only when all of it stands does it
take new requests (`commit`), else nothing has changed (`abandon`). Requests under way keep the
route that admitted them. On routes that are gone or changed they have `reload.drain` seconds left;
on all others nobody notices anything.
"""

import asyncio
import gc
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from time import monotonic, time
from typing import Any

from gateway.build import build_gateway
from gateway.control import Configuration
from gateway.errors import UpstreamUnavailable
from gateway.observe.access_log import AccessLog
from gateway.observe.metrics import Metrics, Reading, Sourced
from gateway.parts import Parts, open_parts
from gateway.pipeline import Gateway, Route
from gateway.proxy.forward import Relay
from gateway.routefile import RouteFile

LARGE_TABLE = 1000  # routes: a collection that goes through them takes milliseconds
LOOK_UP_SECONDS = 5.0  # that a new configuration waits for the names of its upstreams


@dataclass(frozen=True, slots=True)
class Leaving:
    """Routes that are gone: what began on them before `since` ends at `ends` (loop time)."""

    routes: frozenset[str]
    since: float
    ends: float


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configuration that is built, and not in use."""

    parts: Parts
    gateway: Gateway
    route_file: RouteFile
    gone: frozenset[str]  # routes of the one in use that are not in this one, or changed


class LiveGateway:
    """`gateway` decides requests now; `parts` are what it is made of."""

    def __init__(
        self, parts: Parts, gateway: Gateway, route_file: RouteFile, access_log: AccessLog
    ) -> None:
        self.parts = parts
        self.gateway = gateway
        self.reloaded = True  # the last configuration that was asked for is the one in use
        self._since = time()
        self._route_file = route_file
        self._access_log = access_log
        self._prepared: Prepared | None = None
        self._leaving: list[Leaving] = []

    @classmethod
    async def open(
        cls,
        configuration: Configuration,
        metrics: Metrics,
        access_log: AccessLog,
        worker: str | None = None,
    ) -> "LiveGateway":
        """Raises ConfigurationError for a store that this gateway can't work with."""
        parts = await open_parts(configuration.settings, metrics, worker)
        gateway = await build_gateway(parts, configuration.route_file, access_log)
        live = cls(parts, gateway, configuration.route_file, access_log)
        metrics.add_source(live.readings)
        gc.freeze()
        return live

    async def prepare(self, configuration: Configuration) -> None:
        """Build it. Whatever is raised: nothing has changed."""
        await self.abandon()
        parts = self.parts.successor(configuration.settings)
        pools = self.parts.pools
        try:
            gateway = await self._build(parts, configuration.route_file)
            new = set(parts.pools.values()).difference(pools.values())
            await asyncio.gather(*(pool.settled(LOOK_UP_SECONDS) for pool in new))
            replaced = {name for name, pool in pools.items() if parts.pools.get(name) is not pool}
            gone = await asyncio.to_thread(
                gone_routes, self._route_file, configuration.route_file, replaced
            )
        except BaseException:
            await parts.retire(self.parts)
            raise
        self._prepared = Prepared(parts, gateway, configuration.route_file, gone)

    async def _build(self, parts: Parts, route_file: RouteFile) -> Gateway:
        if len(route_file.routes) < LARGE_TABLE:
            return await build_gateway(parts, route_file, self._access_log)
        gc.disable()  # no collection amid so many new objects: it would stop everything for nothing
        try:
            return await build_gateway(parts, route_file, self._access_log)
        finally:
            # Nor does a later one look through the table. What is under way is frozen with it, and
            # of that, a cycle is never freed: some 50 kB at a reload under load.
            gc.freeze()
            gc.enable()

    async def abandon(self) -> None:
        """Forget what was prepared."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            await prepared.parts.retire(self.parts)

    async def commit(self) -> None:
        """Use what was prepared for all requests from now on."""
        prepared, self._prepared = self._prepared, None
        if prepared is None:
            return
        before = self.parts
        before.metrics.flush()  # what ends now is read for the last time
        self.parts, self.gateway = prepared.parts, prepared.gateway
        self._route_file = prepared.route_file
        self._since = time()
        ends = asyncio.get_running_loop().time() + self.parts.settings.reload.drain
        gone, routes = prepared.gone, prepared.gateway.routes
        self._leaving.append(Leaving(gone, monotonic(), ends))
        self.parts.sockets.use(self.parts.settings.sockets, self.parts.addresses.bucket)

        def keep(route: Any) -> Route | None:
            new = routes.get(route.name)
            return new if new is route or route.name not in gone else None

        for exchange in before.streams_under_way():  # they are asked by what is in use, too
            exchange.route = keep(exchange.route) or exchange.route
        self.parts.sockets.end_routes(keep, ends)
        await before.retire(self.parts, ends)

    def sweep(self, now: float) -> None:
        """End what passed its deadline; `now` is loop time."""
        self.parts.sweep(now)
        for leaving in [leaving for leaving in self._leaving if leaving.ends < now]:
            self._leaving.remove(leaving)
            self._end(leaving)

    def _end(self, leaving: Leaving) -> None:
        """End what is still under way on routes that are gone."""
        for pool in self.parts.pools.values():
            for connection in pool.active():
                relay = connection.receiver
                if not isinstance(relay, Relay):
                    continue
                exchange = relay.exchange
                route = exchange.route
                if route and route.name in leaving.routes and exchange.started < leaving.since:
                    connection.fail(UpstreamUnavailable())

    def readings(self) -> Iterator[Reading]:
        """What is counted in the parts of now, for the metrics."""
        yield from self.parts.readings()
        yield Reading(Sourced.RELOADED, (), float(self.reloaded))
        yield Reading(Sourced.CONFIGURED_AT, (), self._since)

    async def close(self) -> None:
        await self.abandon()
        await self.parts.close()


def gone_routes(before: RouteFile, after: RouteFile, replaced: Collection[str]) -> frozenset[str]:
    """The names of routes that are no more what they were: removed, or changed in any way.

    `replaced` names the upstreams that are gone or changed.
    """
    now = {route.name: route for route in after.routes}
    return frozenset(
        route.name
        for route in before.routes
        if route.upstream in replaced or now.get(route.name) != route
    )

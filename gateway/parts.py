"""What the routes of one configuration share, opened once per worker, and the step to the next.

Rules: a reload makes the successor of these parts: what its settings say anew is made anew, all
else is the very same object, with its connections, copies and windows. `RELOAD` says which
settings change live; the others keep the value they have until the worker, or the gateway, is
started again.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Literal

from aiohttp import ClientSession

from gateway.errors import ConfigurationError
from gateway.exchange import Exchange
from gateway.identity.apple import AppleVerifier
from gateway.identity.google import GoogleVerifier
from gateway.identity.revocation import Revocation
from gateway.identity.sessions import Sessions
from gateway.identity.tokens import AppTokens
from gateway.identity.users import Users
from gateway.limits import ClientAddresses, Courier, Limiter, Policy, Slots
from gateway.observe.metrics import Metrics, Reading, Sourced
from gateway.observe.tracing import Tracer
from gateway.proxy.cors import Cors
from gateway.proxy.forward import Relay
from gateway.proxy.pool import Pool
from gateway.proxy.sockets import OpenSockets
from gateway.proxy.streams import Streams
from gateway.routespec import label
from gateway.sections import CorsSettings
from gateway.settings import Settings
from gateway.store.degraded import DegradedMode
from gateway.store.keys import Keys
from gateway.store.ledger import Ledger
from gateway.store.plans import Plans
from gateway.store.redis import Store
from gateway.store.registry import Registry, gateway_name
from gateway.store.rotation import Rotation
from gateway.upstreamspec import UnusableFile, UpstreamSpec
from gateway.vault import Vault
from gateway.vault.binance import Binance

GOODBYE_SECONDS = 3.0  # that sockets on a pool have to say goodbye, before it ends


@dataclass(slots=True)
class Parts:
    """`close` ends all of it; `retire` only what the successor does without."""

    settings: Settings
    store: Store
    registry: Registry  # the workers of all gateways; `live` of them divide a limit
    keys: Keys
    users: Users
    plans: Plans
    vault: Vault
    tokens: AppTokens
    sessions: Sessions
    revocation: Revocation
    addresses: ClientAddresses
    courier: Courier  # of all limiters, of all configurations
    limiter: Limiter
    session: ClientSession
    cors: Cors | None
    metrics: Metrics
    sockets: OpenSockets  # of all configurations
    streams: Streams  # likewise
    rotation: Rotation
    degraded_limits: DegradedMode = field(default_factory=lambda: DegradedMode("limits"))
    degraded_keys: DegradedMode = field(default_factory=lambda: DegradedMode("keys"))
    ledger: Ledger | None = None  # None: nothing is counted
    tracer: Tracer | None = None  # None: no request is traced
    google: GoogleVerifier | None = None
    apple: AppleVerifier | None = None
    # By the name of their policy.
    limiters: dict[str, Limiter | Slots] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)  # by the name of their upstream
    # Pools of configurations before, each with the loop time until which it takes what was on its
    # way there. That may not have come yet, so none ends for having nothing to do.
    leaving: list[tuple[Pool, float]] = field(default_factory=list)
    closing: set[asyncio.Task[None]] = field(default_factory=set)

    def limiter_of(self, policy: Policy) -> Limiter:
        """The limiter of `policy`: the one that there is, unless it is of another policy."""
        known, registry = self.limiters.get(policy.name), self.registry
        if not isinstance(known, Limiter) or known.policy != policy:
            known = self.limiters[policy.name] = Limiter(
                policy,
                self.store,
                self.settings.rate_limit.when_store_is_down,
                share=lambda: registry.live,
                addresses=self.addresses,
                courier=self.courier,
            )
        return known

    def slots_of(self, policy: Policy) -> Slots:
        """As `limiter_of`, for a policy of what is concurrent."""
        known, registry = self.limiters.get(policy.name), self.registry
        if not isinstance(known, Slots) or known.policy != policy:
            known = self.limiters[policy.name] = Slots(
                policy,
                self.store,
                self.settings.rate_limit.when_store_is_down,
                share=lambda: registry.live,
                courier=self.courier,
            )
        return known

    def pool_of(self, name: str, spec: UpstreamSpec) -> Pool:
        """The pool of an upstream, started: the one that there is, unless `spec` is another.

        Raises ConfigurationError for TLS files that have become unusable since the check.
        """
        known = self.pools.get(name)
        if known is None or not known.serves(spec):
            try:
                known = self.pools[name] = Pool(spec)
            except UnusableFile as unusable:
                field = label("upstream", name, ("tls", unusable.field))
                raise ConfigurationError([f"{field} {unusable}"]) from None
            known.start()
        return known

    def sweep(self, now: float) -> None:
        """End what passed its deadline; `now` is loop time."""
        for pool in self.pools.values():
            pool.sweep(now)
        for entry in tuple(self.leaving):
            pool, ends = entry
            pool.sweep(now)
            if ends < now:
                self.leaving.remove(entry)
                closing = asyncio.create_task(pool.close())
                self.closing.add(closing)
                closing.add_done_callback(self.closing.discard)
        self.sockets.sweep(now)
        pools = (*self.pools.values(), *(pool for pool, _ in self.leaving))
        self.streams.sweep(connection for pool in pools for connection in pool.active())
        for verifier in (self.google, self.apple):
            if verifier is not None:
                verifier.keys.sweep()
        if self.ledger is not None:
            self.ledger.look(self.under_way())
        self._look_at_store(now)

    def under_way(self) -> Iterator[Exchange]:
        """What has been admitted, and has not ended."""
        for socket in self.sockets:
            yield socket.exchange
        yield from self.streams_under_way()

    def streams_under_way(self) -> Iterator[Exchange]:
        """Those of them that a backend answers, or will."""
        for pool in (*self.pools.values(), *(pool for pool, _ in self.leaving)):
            for connection in pool.active():
                if isinstance(connection.receiver, Relay):
                    yield connection.receiver.exchange

    def _look_at_store(self, now: float) -> None:
        store = self.store
        self.degraded_limits.look(
            now,
            down=not store.takes_writes,
            why=store.trouble,
            decided=sum(limiter.counts.degraded for limiter in self.limiters.values()),
        )
        self.degraded_keys.look(
            now,
            down=not store.available,
            why=store.trouble,
            decided=self.keys.copies.without_store + self.users.copies.without_store,
        )

    def readings(self) -> Iterator[Reading]:
        """What is counted here, for the metrics."""
        yield Reading(Sourced.STORE_UP, (), float(self.store.available))
        for mode in (self.degraded_limits, self.degraded_keys):
            yield Reading(Sourced.DEGRADED, (mode.what,), float(mode.since is not None))
        yield Reading(Sourced.STORE_ERRORS, (), self.store.errors)
        yield Reading(Sourced.WORKERS_LIVE, (), self.registry.live)
        for name, copies in (("keys", self.keys.copies), ("users", self.users.copies)):
            yield Reading(Sourced.KEY_CACHE, (name, "hit"), copies.hits)
            yield Reading(Sourced.KEY_CACHE, (name, "miss"), copies.misses)
        for name, limiter in self.limiters.items():
            counts = limiter.counts
            yield Reading(Sourced.LIMITER_DECISIONS, (name, "admitted"), counts.admitted)
            yield Reading(Sourced.LIMITER_DECISIONS, (name, "refused"), counts.refused)
            yield Reading(Sourced.LIMITER_DECISIONS, (name, "blocked"), counts.blocked)
            yield Reading(Sourced.LIMITER_DECISIONS, (name, "degraded"), counts.degraded)
        if self.ledger is not None:
            yield Reading(Sourced.LEDGER_DROPPED, (), self.ledger.dropped)
        yield from self.vault.readings()
        yield from self.sockets.readings()
        for pool in (*self.pools.values(), *(pool for pool, _ in self.leaving)):
            yield Reading(Sourced.UPSTREAM_CONNECTIONS, (pool.name, "idle"), pool.idle_connections)
            yield Reading(
                Sourced.UPSTREAM_CONNECTIONS, (pool.name, "active"), pool.active_connections
            )
            yield Reading(Sourced.UPSTREAM_WAITING, (pool.name,), pool.turns.waiting)
        for pool in self.pools.values():
            yield Reading(Sourced.UPSTREAM_RETRIES, (pool.name,), pool.budget.spent)
            for state, addresses in pool.states():
                yield Reading(Sourced.UPSTREAM_TARGETS, (pool.name, state), addresses)

    def successor(self, settings: Settings) -> "Parts":
        """The parts for `settings`, whose fixed sections are those of now. Nothing changes here."""
        before = self.settings
        parts = replace(
            self,
            settings=settings,
            limiters=dict(self.limiters),
            pools=dict(self.pools),
            leaving=list(self.leaving),
        )
        if settings.plans != before.plans:
            parts.plans = Plans(self.users, settings.plans)
        if settings.vault != before.vault:
            parts.vault = _vault(self.store, self.session, settings)
        # What is remembered of tokens names plans.
        if (settings.app_tokens, settings.plans) != (before.app_tokens, before.plans):
            parts.tokens = AppTokens(settings.app_tokens)
            parts.sessions = Sessions(self.store, self.users, parts.tokens, settings.app_tokens)
        if settings.cors != before.cors:
            parts.cors = make_cors(settings.cors)
        if self.google is not None and settings.google != before.google:
            parts.google = self.google.successor(settings.google)
        if self.apple is not None and settings.apple != before.apple:
            parts.apple = self.apple.successor(settings.apple)
        if settings.client_ip != before.client_ip:
            parts.addresses = ClientAddresses(settings.client_ip)
            parts.limiters.clear()  # they count by the addresses of before
        if settings.rate_limit != before.rate_limit:
            parts.limiters.clear()
        parts.limiter = parts.limiter_of(_ip_policy(settings))
        return parts

    async def retire(self, successor: "Parts", drain_until: float = 0.0) -> None:
        """End what `successor` does without: pools by `drain_until` (loop time), limiters now.

        Verifiers end by themselves: somebody may be signing in. A successor that is given up is
        retired in favour of the parts it was made from.
        """
        for pool in set(self.pools.values()).difference(successor.pools.values()):
            pool.drain()
            successor.leaving.append((pool, drain_until + GOODBYE_SECONDS))
        limiters = set(self.limiters.values()).difference(successor.limiters.values())
        await asyncio.gather(*(limiter.close() for limiter in limiters))

    async def close(self) -> None:
        for pool in (*self.pools.values(), *(pool for pool, _ in self.leaving)):
            await pool.close()
        await asyncio.gather(*(limiter.close() for limiter in self.limiters.values()))
        await self.courier.close()
        for verifier in (self.google, self.apple):
            if verifier is not None:
                await verifier.keys.close()
        if self.tracer is not None:
            await self.tracer.close()
        await self.session.close()
        await self.rotation.close()
        if self.ledger is not None:
            await self.ledger.close()
        await self.registry.close()
        await self.store.close()


async def open_parts(settings: Settings, metrics: Metrics, worker: str | None = None) -> Parts:
    """Open the store and everything on it. Redis may be away: the gateway starts without it.

    `worker` is this worker's name among those of all gateways.
    """
    store = await Store.open(settings.store)
    registry = Registry(
        store,
        worker or gateway_name(),
        assumed=settings.listen.workers,
        kept_seconds=settings.keys.stale_for,
    )
    await registry.start()
    session = ClientSession()
    addresses = ClientAddresses(settings.client_ip)
    users = Users(store, settings.keys)
    courier = Courier(store)
    limiter = Limiter(
        _ip_policy(settings),
        store,
        settings.rate_limit.when_store_is_down,
        share=lambda: registry.live,
        addresses=addresses,
        courier=courier,
    )
    keys = Keys(store, settings.keys, users)
    tokens = AppTokens(settings.app_tokens)
    parts = Parts(
        settings=settings,
        store=store,
        registry=registry,
        keys=keys,
        users=users,
        plans=Plans(users, settings.plans),
        vault=_vault(store, session, settings),
        tokens=tokens,
        sessions=Sessions(store, users, tokens, settings.app_tokens),
        revocation=Revocation(store),
        addresses=addresses,
        courier=courier,
        limiter=limiter,
        session=session,
        cors=make_cors(settings.cors),
        metrics=metrics,
        sockets=OpenSockets(settings.sockets, addresses.bucket),
        streams=Streams(),
        rotation=Rotation(store, keys),
        limiters={limiter.policy.name: limiter},
    )
    if settings.ledger.enabled:
        parts.ledger = Ledger(store, settings.ledger)
        parts.ledger.start()
        parts.rotation.start(parts.ledger)
    if settings.tracing.endpoint is not None:
        parts.tracer = Tracer(settings.tracing, session)
        parts.tracer.start()
    return parts


def make_cors(policy: CorsSettings | Literal[False] | None) -> Cors | None:
    return Cors(policy.origins, policy.headers, policy.max_age) if policy else None


def _ip_policy(settings: Settings) -> Policy:
    limit = settings.rate_limit
    return Policy("ip", limit.requests, limit.window, limit.block)


def _vault(store: Store, session: ClientSession, settings: Settings) -> Vault:
    vault = settings.vault
    return Vault(store, vault, Binance(session, vault))


class Reload(Enum):
    """What it takes for a changed section of the settings to come into use."""

    LIVE = "gateway reload"
    WORKERS = "gateway reload --workers"
    RESTART = "a restart"


RELOAD: dict[str, Reload] = {
    "listen": Reload.RESTART,
    "admin": Reload.RESTART,
    "store": Reload.WORKERS,
    "client_ip": Reload.LIVE,
    "networks": Reload.LIVE,
    "rate_limit": Reload.LIVE,
    "plans": Reload.LIVE,
    "plan_limits": Reload.LIVE,
    "keys": Reload.WORKERS,
    "ledger": Reload.WORKERS,
    "app_tokens": Reload.LIVE,
    "google": Reload.LIVE,
    "apple": Reload.LIVE,
    "sign_in": Reload.LIVE,
    "vault": Reload.LIVE,
    "cors": Reload.LIVE,
    "bounds": Reload.LIVE,
    "sockets": Reload.LIVE,
    "reload": Reload.LIVE,
    "shutdown": Reload.LIVE,
    "logging": Reload.WORKERS,
    "tracing": Reload.WORKERS,
}


def reloadable(before: Settings, after: Settings, *, workers: bool) -> tuple[Settings, list[str]]:
    """`after` as far as it can come into use now, and sentences about what of it can't.

    `workers`: new processes will use it.
    """
    able = {Reload.LIVE, Reload.WORKERS} if workers else {Reload.LIVE}
    kept: dict[str, Any] = {}
    pending: list[str] = []
    for section, takes in RELOAD.items():
        old, new = getattr(before, section), getattr(after, section)
        if old == new or takes in able:
            continue
        if section == "listen" and before.listen.tls and after.listen.tls:
            old = old.model_copy(update={"tls": new.tls})  # other certificates come live
        kept[section] = old
        pending += [
            f"{section}.{name} takes {takes.value}"
            for name in type(old).model_fields
            if getattr(old, name) != getattr(new, name)
        ]
    return after.model_copy(update=kept), pending

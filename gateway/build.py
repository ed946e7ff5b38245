"""Settings and routes become ready objects, once; what is shared is opened and closed here.

Everything a route needs is bound to it here: its authenticator, its way to the backend, its limits,
its counters. After this, no request looks anything up by name.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from aiohttp import ClientSession

from gateway.auth.app_token import AppToken
from gateway.auth.base import Authenticator, FromSubprotocol
from gateway.auth.body_credentials import BodyCredentials
from gateway.auth.plan_key import HEADER, PlanKey
from gateway.auth.public import Public
from gateway.auth.registered_key import RegisteredKey
from gateway.errors import NotFound
from gateway.exchange import Answer, Exchange, json_answer
from gateway.identity.apple import AppleVerifier
from gateway.identity.google import GoogleVerifier
from gateway.identity.signin import AppleSignIn, GoogleSignIn
from gateway.identity.tokens import AppTokens
from gateway.identity.users import Users
from gateway.limits import ClientAddresses, Limiter, Policy
from gateway.observe.access_log import AccessLog
from gateway.observe.metrics import NO_PATTERN, UNMATCHED, Metrics, Reading, Sourced
from gateway.observe.tracing import Tracer
from gateway.pipeline import Gateway, Responder, Route
from gateway.proxy.cors import Cors
from gateway.proxy.forward import Forwarder
from gateway.proxy.headers import head_lines, request_drops
from gateway.proxy.pool import Pool
from gateway.proxy.sockets import OpenSockets
from gateway.proxy.upgrade import Upgrader
from gateway.proxy.websocket import WEBSOCKET
from gateway.routefile import RouteFile
from gateway.routespec import (
    OWN_ENDPOINTS,
    OwnEndpoint,
    OwnName,
    RouteSpec,
    UpstreamSpec,
    own_endpoints,
)
from gateway.routing import Match, RouteTable
from gateway.settings import CorsSettings, Settings
from gateway.store.keys import Keys
from gateway.store.plans import Plans
from gateway.store.redis import Store
from gateway.vault import Vault
from gateway.vault.binance import Binance
from gateway.vault.endpoints import KeyStatus, VerifyKey

ALL_METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


@dataclass(slots=True)
class Parts:
    """What the routes share. Opened once per worker; `close` ends it all."""

    settings: Settings
    store: Store
    keys: Keys
    users: Users
    plans: Plans
    vault: Vault
    tokens: AppTokens
    addresses: ClientAddresses
    limiter: Limiter
    session: ClientSession
    cors: Cors | None
    metrics: Metrics
    sockets: OpenSockets
    tracer: Tracer | None = None  # None: no request is traced
    verifiers: list[GoogleVerifier | AppleVerifier] = field(default_factory=list)
    limiters: list[Limiter] = field(default_factory=list)
    pools: dict[str, Pool] = field(default_factory=dict)

    def sweep(self, now: float) -> None:
        """End what passed its deadline; `now` is loop time."""
        for pool in self.pools.values():
            pool.sweep(now)
        self.sockets.sweep(now)

    def readings(self) -> Iterator[Reading]:
        """What is counted here, for the metrics."""
        yield Reading(Sourced.STORE_UP, (), float(self.store.available))
        yield Reading(Sourced.STORE_ERRORS, (), self.store.errors)
        for name, copies in (("keys", self.keys.copies), ("users", self.users.copies)):
            yield Reading(Sourced.KEY_CACHE, (name, "hit"), copies.hits)
            yield Reading(Sourced.KEY_CACHE, (name, "miss"), copies.misses)
        for limiter in self.limiters:
            name, counts = limiter.policy.name, limiter.counts
            yield Reading(Sourced.LIMITER_DECISIONS, (name, "admitted"), counts.admitted)
            yield Reading(Sourced.LIMITER_DECISIONS, (name, "refused"), counts.refused)
            yield Reading(Sourced.LIMITER_DECISIONS, (name, "blocked"), counts.blocked)
            yield Reading(Sourced.LIMITER_DECISIONS, (name, "degraded"), counts.degraded)
        yield from self.sockets.readings()
        for pool in self.pools.values():
            yield Reading(Sourced.UPSTREAM_CONNECTIONS, (pool.name, "idle"), pool.idle_connections)
            yield Reading(
                Sourced.UPSTREAM_CONNECTIONS, (pool.name, "active"), pool.active_connections
            )

    async def close(self) -> None:
        for pool in self.pools.values():
            await pool.close()
        for limiter in self.limiters:
            await limiter.close()
        for verifier in self.verifiers:
            await verifier.keys.close()
        if self.tracer is not None:
            await self.tracer.close()
        await self.session.close()
        await self.store.close()


async def open_parts(settings: Settings, metrics: Metrics) -> Parts:
    """Open the store and everything on it. Redis may be away: the gateway starts without it."""
    store = await Store.open(settings.store)
    session = ClientSession()
    limit = settings.rate_limit
    addresses = ClientAddresses(settings.client_ip)
    limiter = Limiter(
        Policy("ip", limit.requests, limit.window, limit.block),
        store,
        limit.when_store_is_down,
        share=settings.listen.workers,
        addresses=addresses,
    )
    vault = settings.vault
    users = Users(store, settings.keys)
    parts = Parts(
        settings=settings,
        store=store,
        keys=Keys(store, settings.keys, users),
        users=users,
        plans=Plans(users, settings.plans),
        vault=Vault(store, vault, Binance(session, vault.binance_url, vault.timeout)),
        tokens=AppTokens(settings.app_tokens),
        addresses=addresses,
        limiter=limiter,
        session=session,
        cors=_cors(settings.cors),
        metrics=metrics,
        sockets=OpenSockets(settings.sockets, addresses.bucket),
        limiters=[limiter],
    )
    if settings.tracing.endpoint is not None:
        parts.tracer = Tracer(settings.tracing, session)
        parts.tracer.start()
    metrics.add_source(parts.readings)
    return parts


def build_gateway(parts: Parts, route_file: RouteFile, access_log: AccessLog) -> Gateway:
    """The gateway over `route_file`; needs the running loop. Its pools are started."""
    parts.pools = {name: _pool(name, spec) for name, spec in route_file.upstreams.items()}
    for pool in parts.pools.values():
        pool.start()
    entries = list(_own_routes(parts, route_file))
    for spec in route_file.routes:
        route = _route(parts, spec, route_file.upstreams[spec.upstream])
        entries.append((spec.claims, route))
    limit = parts.settings.rate_limit
    return Gateway(
        table=RouteTable(entries),
        addresses=parts.addresses,
        limiter=parts.limiter if limit.enabled else None,
        exempt=frozenset(limit.exempt),
        metrics=parts.metrics,
        access_log=access_log,
        cors=parts.cors,
        tracer=parts.tracer,
    )


def _pool(name: str, spec: UpstreamSpec) -> Pool:
    health = spec.health
    return Pool(
        name,
        spec.targets,
        connect_timeout=spec.timeout.connect,
        health_path=None if health is None else health.path,
        health_interval=5.0 if health is None else health.interval,
    )


def _route(parts: Parts, spec: RouteSpec, upstream: UpstreamSpec) -> Route:
    cors = parts.cors if spec.cors is None else _cors(spec.cors)
    sets = {name: secret.get_secret_value() for name, secret in upstream.headers.items() if secret}
    timeout = spec.timeout or upstream.timeout
    forwarder = Forwarder(
        parts.pools[spec.upstream],
        addresses=parts.addresses,
        drops=request_drops(
            pass_credentials=spec.pass_credentials,
            takes_authorization=spec.takes_app_token,
            sets=sets,
        ),
        set_lines=head_lines(sets),
        preserve_host=upstream.host == "preserve",
        strip_prefix=spec.strip_prefix,
        max_body_bytes=spec.max_body,
        connect_timeout=timeout.connect,
        read_timeout=timeout.read,
        own_cors=cors is not None,
    )
    served = spec.claims.served
    return Route(
        name=spec.name,
        pattern=spec.auth,
        authenticator=_authenticator(parts, spec),
        respond=_respond(parts, spec, forwarder),
        metrics=parts.metrics.for_route(spec.name, spec.auth, spec.upstream),
        allow=ALL_METHODS if served is None else ", ".join(sorted(served)),
        limiter=_own_limiter(parts, spec),
        cors=cors,
        enforce=spec.enforce,
    )


def _respond(parts: Parts, spec: RouteSpec, forwarder: Forwarder) -> Responder:
    protocols = (*spec.upgrade, WEBSOCKET) if spec.websocket else spec.upgrade
    if not protocols:
        return forwarder.respond
    marks = spec.subprotocol_credential
    return Upgrader(forwarder, parts.sockets, protocols, answers_marker=marks).respond


def _authenticator(parts: Parts, spec: RouteSpec) -> Authenticator:
    inner = _by_pattern(parts, spec)
    if not spec.subprotocol_credential:
        return inner
    if spec.auth == "plan_key":
        return FromSubprotocol(inner, HEADER)
    return FromSubprotocol(inner, "Authorization", "Bearer ")


def _by_pattern(parts: Parts, spec: RouteSpec) -> Authenticator:
    match spec.auth:
        case "public":
            return Public()
        case "plan_key":
            assert spec.plan is not None  # routefile refuses a plan_key route without one
            return PlanKey(parts.keys, parts.users, parts.plans, spec.plan)
        case "body_credentials":
            assert spec.max_body is not None  # routefile gives the body patterns a bound
            return BodyCredentials(spec.max_body)
        case "registered_key":
            assert spec.max_body is not None
            owner = _app_token(parts, spec) if spec.owner == "app_token" else None
            return RegisteredKey(parts.vault, spec.max_body, inject=spec.inject, owner=owner)
        case "app_token":
            return _app_token(parts, spec)


def _app_token(parts: Parts, spec: RouteSpec) -> AppToken:
    return AppToken(parts.tokens, parts.users, parts.plans, frozenset(spec.scope))


def _own_limiter(parts: Parts, spec: RouteSpec) -> Limiter | None:
    if spec.rate_limit is None:
        return None
    return _limiter(
        parts, Policy(f"route-{spec.name}", spec.rate_limit.requests, spec.rate_limit.window, 0)
    )


def _limiter(parts: Parts, policy: Policy) -> Limiter:
    settings = parts.settings
    limiter = Limiter(
        policy,
        parts.store,
        settings.rate_limit.when_store_is_down,
        share=settings.listen.workers,
        addresses=parts.addresses,
    )
    parts.limiters.append(limiter)
    return limiter


def _cors(policy: CorsSettings | Literal[False] | None) -> Cors | None:
    return Cors(policy.origins, policy.headers, policy.max_age) if policy else None


def _own_routes(parts: Parts, route_file: RouteFile) -> Iterator[tuple[Match, Route]]:
    """What the gateway answers itself, through the same limits, log and metrics as any route.

    It is there for every host that a route names, so that no route takes it away; what is not
    configured is a 404 there, and not some catch-all route's.
    """
    own = {endpoint.claims.path: _own(parts, endpoint) for endpoint in OWN_ENDPOINTS}
    for match in own_endpoints(route_file.routes):
        yield match, own[match.path]


def _own(parts: Parts, endpoint: OwnEndpoint) -> Route:
    settings = parts.settings
    is_on = endpoint.is_on(settings)
    name, pattern = (endpoint.name, endpoint.auth) if is_on else (UNMATCHED, NO_PATTERN)
    limiter = None
    if is_on and endpoint.has_limit:
        policy = Policy(name, settings.vault.requests, settings.vault.window, 0)
        limiter = _limiter(parts, policy)
    return Route(
        name=name,
        pattern=pattern,
        authenticator=Public(),
        respond=_responder(parts, endpoint.name) if is_on else _absent,
        metrics=parts.metrics.for_route(name, pattern, None),
        allow=", ".join(sorted(endpoint.claims.served or ())),
        limiter=limiter,
        cors=parts.cors,
    )


def _responder(parts: Parts, name: OwnName) -> Responder:
    settings = parts.settings
    match name:
        case "status":
            return _status
        case "health":
            return _health
        case "api-key-verify":
            return VerifyKey(parts.vault).respond
        case "api-key-status":
            return KeyStatus(parts.vault).respond
        case "sign-in-google":
            google = settings.google
            by_google = GoogleVerifier(parts.session, google.certificates_url, google.audiences)
            parts.verifiers.append(by_google)
            return GoogleSignIn(by_google, parts.users, parts.tokens).respond
        case "sign-in-apple":
            apple = settings.apple
            by_apple = AppleVerifier(parts.session, apple.keys_url, apple.audiences)
            parts.verifiers.append(by_apple)
            return AppleSignIn(by_apple, parts.users, parts.tokens).respond


async def _absent(_exchange: Exchange) -> Answer:
    raise NotFound


async def _status(_exchange: Exchange) -> Answer:
    return json_answer(200, {"status": "ok"})


async def _health(_exchange: Exchange) -> Answer:
    now = datetime.now(UTC).replace(tzinfo=None)
    return json_answer(200, {"status": "healthy", "timestamp": now.isoformat(timespec="seconds")})

"""Settings and routes become ready objects, once; what they share stands in `parts.py`.

Everything a route needs is bound to it here: its authenticator, its way to the backend, its limits,
its counters. After this, no request looks anything up by name.
"""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

from gateway.auth.app_token import AppToken
from gateway.auth.base import Authenticator, FromSubprotocol
from gateway.auth.body_credentials import BodyCredentials
from gateway.auth.plan_key import HEADER, PlanKey
from gateway.auth.public import Public
from gateway.auth.registered_key import RegisteredKey
from gateway.errors import NotFound
from gateway.exchange import Answer, Exchange, json_answer
from gateway.fields import Period
from gateway.identity.apple import AppleVerifier
from gateway.identity.endpoints import Logout, RefreshToken
from gateway.identity.google import GoogleVerifier
from gateway.identity.replay import SignedInTokens
from gateway.identity.signin import AppleSignIn, GoogleSignIn
from gateway.limits import (
    AnyLimit,
    Limit,
    Limiter,
    PlanLimit,
    Policy,
    SlotLimit,
    Slots,
    by_address,
    by_key,
    by_route,
    by_user,
    weigher,
)
from gateway.limits.limit import Subject
from gateway.limits.policy import window_seconds
from gateway.observe.access_log import AccessLog
from gateway.observe.metrics import NO_PATTERN, UNMATCHED
from gateway.ownendpoints import (
    OWN_ENDPOINTS,
    OwnEndpoint,
    OwnName,
    own_endpoints,
)
from gateway.parts import Parts, make_cors
from gateway.pipeline import ALL_METHODS, Gateway, Responder, Route
from gateway.proxy.forward import Forwarder
from gateway.proxy.headers import head_lines, request_drops
from gateway.proxy.upgrade import Upgrader
from gateway.proxy.websocket import WEBSOCKET
from gateway.routefile import RouteFile
from gateway.routespec import (
    Per,
    RouteSpec,
)
from gateway.routing import Match, RouteTable
from gateway.store.usage import KeyUsage, Usage
from gateway.upstreamspec import UpstreamSpec
from gateway.vault.endpoints import KeyStatus, VerifyKey
from gateway.vault.registration import Registration

ROUTES_A_TURN = 16  # of the event loop: a millisecond or so


async def build_gateway(parts: Parts, route_file: RouteFile, access_log: AccessLog) -> Gateway:
    """The gateway over `route_file`; its pools are started.

    Limiters and pools that `parts` have already are used where they fit; what no route uses any
    more is taken out of them. Other requests are served meanwhile: a large table takes its time.
    """
    pools = {name: parts.pool_of(name, spec) for name, spec in route_file.upstreams.items()}
    table: RouteTable[Route] = RouteTable()
    limiters: list[Limiter | Slots] = [parts.limiter]
    routes: dict[str, Route] = {}
    for number, (claims, route) in enumerate(_routes(parts, route_file)):
        table.add(claims, route)
        routes[route.name] = route
        for limit in (*route.limits, *route.own_limits):
            limiters += limit.limiters
        if number % ROUTES_A_TURN == 0:
            await asyncio.sleep(0)
    parts.pools = pools
    parts.limiters = {limiter.policy.name: limiter for limiter in limiters}
    over_all = parts.settings.rate_limit
    return Gateway(
        table=table,
        routes=routes,
        addresses=parts.addresses,
        access=parts.settings.networks.access,
        limits=(Limit(parts.limiter, by_address(parts.addresses)),) if over_all.enabled else (),
        store=parts.store,
        when_store_is_down=over_all.when_store_is_down,
        exempt=frozenset(over_all.exempt),
        metrics=parts.metrics,
        access_log=access_log,
        cors=parts.cors,
        tracer=parts.tracer,
        ledger=parts.ledger,
    )


def _routes(parts: Parts, route_file: RouteFile) -> Iterator[tuple[Match, Route]]:
    yield from _own_routes(parts, route_file)
    for spec in route_file.routes:
        yield spec.claims, _route(parts, spec, route_file.upstreams[spec.upstream])


def _route(parts: Parts, spec: RouteSpec, upstream: UpstreamSpec) -> Route:
    cors = parts.cors if spec.cors is None else make_cors(spec.cors)
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
        attempts=(spec.retry or upstream.retry).attempts,
        own_cors=cors is not None,
    )
    served = spec.claims.served
    over_all = parts.settings.rate_limit
    exempt = spec.when_store_is_down is None and spec.path in over_all.exempt
    when_store_is_down = spec.when_store_is_down or over_all.when_store_is_down
    return Route(
        name=spec.name,
        pattern=spec.auth,
        authenticator=_authenticator(parts, spec),
        respond=_respond(parts, spec, forwarder),
        metrics=parts.metrics.for_route(spec.name, spec.auth, spec.upstream),
        allow=ALL_METHODS if served is None else ", ".join(sorted(served)),
        access=spec.networks.access,
        when_store_is_down=when_store_is_down,
        needs_store=when_store_is_down == "deny" and not exempt,
        limits=tuple(_limits(parts, spec, ("ip", "route"))),
        own_limits=(*_limits(parts, spec, ("user", "key")), *_plan_limits(parts, spec)),
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
            owner = None
            if spec.owner == "app_token":
                owner = _app_token(parts, spec.scope, vip=spec.vip)
            return RegisteredKey(parts.vault, spec.max_body, inject=spec.inject, owner=owner)
        case "app_token":
            return _app_token(parts, spec.scope, vip=spec.vip)


def _app_token(parts: Parts, scope: tuple[str, ...] = (), *, vip: bool = False) -> AppToken:
    return AppToken(parts.tokens, parts.users, parts.plans, frozenset(scope), vip=vip)


def _limits(parts: Parts, spec: RouteSpec, by: tuple[Per, ...]) -> Iterator[AnyLimit]:
    """Those of the route's own limits that count by one of `by`."""
    subjects: dict[Per, Subject] = {
        "ip": by_address(parts.addresses),
        "route": by_route,
        "user": by_user,
        "key": by_key,
    }
    for limit in spec.limits:
        name, per = limit.name(spec.name), limit.per
        if per not in by:
            continue
        if limit.concurrent is not None:
            slots = parts.slots_of(Policy(name, limit.concurrent, "concurrent", per=per))
            yield SlotLimit(slots, subjects[per])
        else:
            assert limit.requests is not None  # routefile refuses a limit that has neither
            limiter = parts.limiter_of(Policy(name, limit.requests, limit.window, per=per))
            yield Limit(limiter, subjects[per], weigher(limit.weight or spec.weight))


def _plan_limits(parts: Parts, spec: RouteSpec) -> Iterator[PlanLimit]:
    """Those of the plans; who has no plan has those of the lowest. Shorter windows come first."""
    settings = parts.settings
    if not spec.knows_user:
        return
    windows: dict[int | Period, dict[str | None, Limiter]] = {}
    for plan, limits in settings.plan_limits.items():
        for window, requests in limits.windows.items():
            name = f"plan-{plan}-{window}"
            policy = Policy(name, requests, window, per="user", space=f"plan-{window}")
            limiter = windows.setdefault(window, {})[plan] = parts.limiter_of(policy)
            if plan == settings.plans[0]:
                windows[window][None] = limiter
    for window in sorted(windows, key=window_seconds):
        yield PlanLimit(windows[window], weigher(spec.weight))


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
    limits: tuple[Limit, ...] = ()
    if is_on and (limit := endpoint.limit(settings)) is not None:
        limits = (Limit(parts.limiter_of(Policy(*limit)), by_address(parts.addresses)),)
    return Route(
        name=name,
        pattern=pattern,
        authenticator=_holder(parts, endpoint) if is_on else Public(),
        respond=_responder(parts, endpoint.name) if is_on else _absent,
        metrics=parts.metrics.for_route(name, pattern, None),
        allow=", ".join(sorted(endpoint.claims.served or ())),
        when_store_is_down=settings.rate_limit.when_store_is_down,
        limits=limits,
        cors=parts.cors,
    )


def _holder(parts: Parts, endpoint: OwnEndpoint) -> Authenticator:
    """Whoever has a valid key, with whatever plan, or a valid token; what is in a body is judged
    by the endpoint.
    """
    match endpoint.asks_for:
        case "key":
            return PlanKey(parts.keys, parts.users, parts.plans, None)
        case "token":
            return _app_token(parts)
        case None:
            return Public()


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
        case "api-key-register":
            return Registration(parts.vault).respond
        case "api-key-usage":
            return KeyUsage(Usage(parts.store)).respond
        case "sign-in-google":
            parts.google = parts.google or GoogleVerifier(parts.session, settings.google)
            return GoogleSignIn(parts.google, parts.users, parts.sessions, _once(parts)).respond
        case "sign-in-apple":
            parts.apple = parts.apple or AppleVerifier(parts.session, settings.apple)
            return AppleSignIn(parts.apple, parts.users, parts.sessions, _once(parts)).respond
        case "token-refresh":
            return RefreshToken(parts.sessions).respond
        case "sign-out":
            return Logout(parts.store, parts.revocation, _app_token(parts).claims).respond


def _once(parts: Parts) -> SignedInTokens | None:
    """What keeps a provider's token from signing in twice, where that is asked for."""
    return SignedInTokens(parts.store) if parts.settings.sign_in.replay == "refuse" else None


async def _absent(_exchange: Exchange) -> Answer:
    raise NotFound


async def _status(_exchange: Exchange) -> Answer:
    return json_answer(200, {"status": "ok"})


async def _health(_exchange: Exchange) -> Answer:
    now = datetime.now(UTC).replace(tzinfo=None)
    return json_answer(200, {"status": "healthy", "timestamp": now.isoformat(timespec="seconds")})

"""A request's whole life. `Gateway.handle` tells it from top to bottom; the rest are its steps.

    who is it -> may that network come -> limit -> is it well formed -> which route
    -> route's networks and limits -> preflight? -> authenticate -> limits of users and keys
    -> forward (or answer here) -> count and log

Rules: nothing passes that a route does not name; every way out is one answer, one count, one log
line; a step that knows its answer in this process never suspends.
"""

import logging
import random
import re
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from gateway.auth.base import Authenticator
from gateway.auth.public import Public
from gateway.errors import (
    BadRequest,
    ClientGone,
    Forbidden,
    GatewayError,
    Overloaded,
    StoreUnavailable,
    TooManyRequests,
)
from gateway.exchange import Answer, Exchange, json_answer
from gateway.limits import (
    AnyLimit,
    ClientAddresses,
    Decision,
    release_slots,
)
from gateway.networks import AccessList
from gateway.observe.access_log import AccessLog
from gateway.observe.counts import RouteMetrics
from gateway.observe.metrics import Metrics
from gateway.observe.tracing import Tracer
from gateway.proxy.answer import cut, write_answer
from gateway.proxy.cors import Cors, is_preflight
from gateway.routing import RouteTable
from gateway.sections import WhenStoreIsDown
from gateway.store.ledger import Ledger
from gateway.store.redis import Store
from gateway.wellformed import check_head

logger = logging.getLogger("gateway.pipeline")

LIMITED = "请求过于频繁。{subject}每{window}最多允许 {requests} 次请求。"
WINDOWS: dict[int | str, str] = {60: "分钟", "day": "天", "month": "月"}
UNDER_WAY = "请求过于频繁。{subject}最多允许 {requests} 个并发请求。"
SUBJECTS = {"ip": "每个 IP ", "user": "每个用户", "key": "每个密钥", "route": "此接口"}
BLOCKED = "IP {ip} 已被暂时封锁。请求过于频繁,请稍后再试。"
CLIENT_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}").fullmatch
# What a route takes that names no methods, and `OPTIONS *` says of the server as a whole.
ALL_METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
SERVER_OPTIONS = "server-options"


class Responder(Protocol):
    """Answers an admitted request: writes the answer itself, or returns one to be written."""

    def __call__(self, exchange: Exchange, /) -> Awaitable[Answer | None]: ...


@dataclass(frozen=True, slots=True)
class Route:
    """A route with everything a request on it needs, bound when the table is built."""

    name: str
    pattern: str
    authenticator: Authenticator
    respond: Responder
    metrics: RouteMetrics
    allow: str  # the methods, as `Allow` and preflights list them
    access: AccessList | None = None
    when_store_is_down: WhenStoreIsDown = "local"
    needs_store: bool = False  # nothing passes while Redis is away
    limits: tuple[AnyLimit, ...] = ()  # judged before it is known who calls,
    own_limits: tuple[AnyLimit, ...] = ()  # and after that
    cors: Cors | None = None
    enforce: bool = True


@dataclass(frozen=True, slots=True)
class Written:
    """What aiohttp's connection gets back: the answer is already on its way."""

    keep_alive: bool

    async def prepare(self, exchange: Exchange) -> None:
        """The next request waits until the client has taken the answer to this one."""
        if exchange.connection.writing_paused:
            await exchange.connection.drained()
        if not self.keep_alive:
            await exchange.connection.finish(exchange)

    async def write_eof(self) -> None:
        return None


KEEP, CLOSE = Written(keep_alive=True), Written(keep_alive=False)


class Gateway:
    """Decides every request of one worker."""

    def __init__(
        self,
        *,
        table: RouteTable[Route],
        routes: Mapping[str, Route],
        addresses: ClientAddresses,
        limits: tuple[AnyLimit, ...],
        store: Store,
        when_store_is_down: WhenStoreIsDown,
        exempt: frozenset[str],
        metrics: Metrics,
        access_log: AccessLog,
        access: AccessList | None = None,
        cors: Cors | None = None,
        tracer: Tracer | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.table = table
        self.routes = routes  # those of the table, by name
        self._addresses = addresses
        self._access = access
        self._limits = limits
        self._store = store
        self._when_store_is_down: WhenStoreIsDown = when_store_is_down
        self._exempt = exempt
        self._metrics = metrics
        self._access_log = access_log
        self._cors = cors  # where no route is known to have another
        self._tracer = tracer
        self._ledger = ledger
        self._server_options: Route = Route(
            name=SERVER_OPTIONS,
            pattern="public",
            authenticator=Public(),
            respond=server_options,
            metrics=metrics.for_route(SERVER_OPTIONS, "public", None),
            allow=ALL_METHODS,
            when_store_is_down=when_store_is_down,
        )

    async def handle(self, exchange: Exchange, malformed: BadRequest | None = None) -> Written:
        """Serve one request, or refuse it. `malformed` is the parser's complaint, if it has one."""
        self.identify(exchange)
        try:
            if self._access is not None:
                check_network(exchange, self._access)
            if self._limits and exchange.path not in self._exempt:
                await self.limit(exchange, self._limits)
            if malformed is not None:
                raise malformed
            check_head(exchange)
            route = self.match(exchange)
            if route.access is not None:
                check_network(exchange, route.access)
            if route.needs_store and not self._store.takes_writes:
                raise StoreUnavailable
            if route.limits:
                await self.limit(exchange, route.limits)
            answer: Answer | None
            if route.cors is not None and is_preflight(exchange):
                answer = route.cors.preflight(route.allow)
            else:
                await self.authenticate(exchange, route)
                if route.own_limits:
                    await self.limit(exchange, route.own_limits)
                answer = await route.respond(exchange)
            if answer is not None:
                write_answer(exchange, answer)
        except GatewayError as error:
            refuse(exchange, error)
        except Exception as error:  # whatever it was, the client gets an answer
            logger.error("request %s failed", exchange.request_id, exc_info=error)
            refuse(exchange, GatewayError())
        finally:
            release_slots(exchange)
        self.observe(exchange)
        return CLOSE if exchange.close_after or exchange.connection.ending else KEEP

    def identify(self, exchange: Exchange) -> None:
        """Who asks, and what the request is called from here on."""
        headers = exchange.headers
        exchange.client_ip = self._addresses.resolve(exchange.connection.peer, headers)
        named = headers.getall("X-Request-ID", ())
        if len(named) == 1 and CLIENT_REQUEST_ID(named[0]):
            exchange.request_id = named[0]
        else:
            exchange.request_id = f"{random.getrandbits(128):032x}"  # a name, no secret
        if self._cors is not None:
            speak_cors(exchange, self._cors)
        if self._tracer is not None:
            exchange.trace = self._tracer.begin(headers)

    async def limit(self, exchange: Exchange, limits: tuple[AnyLimit, ...]) -> None:
        """Count the request by each, in order, up to one that refuses. Raises TooManyRequests.

        What those before it have counted stays counted.
        """
        for limit in limits:
            decision = await limit.judge(exchange, self.without_store)
            if decision is not None:
                exchange.limits += (decision,)
                if not decision.admitted:
                    raise over_limit(decision, exchange.client_ip)

    def without_store(self, exchange: Exchange) -> WhenStoreIsDown:
        """How limits decide on this request while Redis is away: as its route says, if it has one.

        The first limit is judged before the route is known; then it is looked for here, too.
        """
        if isinstance(exchange.route, Route):
            return exchange.route.when_store_is_down
        try:
            check_head(exchange)
            return self.find(exchange).when_store_is_down
        except GatewayError:
            return self._when_store_is_down

    def match(self, exchange: Exchange) -> Route:
        """The route, kept in the exchange for everything that follows."""
        route = self.find(exchange)
        exchange.route = route
        if route.cors is not self._cors:
            speak_cors(exchange, route.cors)
        return route

    def find(self, exchange: Exchange) -> Route:
        """The route. Raises NotFound, MethodNotAllowed, BadRequest."""
        host, path = exchange.host, exchange.path
        if exchange.target == "*" and exchange.method == "OPTIONS":  # RFC 9110 §9.3.7
            return self._server_options
        if is_preflight(exchange):
            asked = exchange.headers["Access-Control-Request-Method"]
            speaking = [route for route in self.table.match_path(host, path) if route.cors]
            # The one that the request itself will meet; else any, which then lists what it takes.
            speaking.sort(key=lambda route: asked not in route.allow.split(", "))
            return speaking[0] if speaking else self.table.match("OPTIONS", host, path)
        return self.table.match(exchange.method, host, path)

    async def authenticate(self, exchange: Exchange, route: Route) -> None:
        """Admit the request by the route's pattern; a report-only route only notes a refusal."""
        try:
            exchange.identity = await route.authenticator.authenticate(exchange)
        except GatewayError as error:
            if route.enforce or error.closes_connection:
                raise
            exchange.refusal = f"report_only:{error.reason}"

    def count_refused_connection(self, reason: str) -> None:
        """Count one that ended before its first request."""
        self._metrics.unmatched.count_refusal(reason)

    def observe(self, exchange: Exchange) -> None:
        """Count and log, once per request."""
        seconds = monotonic() - exchange.started
        route = exchange.route
        metrics = route.metrics if isinstance(route, Route) else self._metrics.unmatched
        metrics.observe(exchange, seconds)
        if self._ledger is not None and exchange.key_id is not None:
            self._ledger.count(exchange, exchange.key_id, seconds)
        self._access_log.write(exchange, seconds)
        if self._tracer is not None and exchange.trace is not None:
            self._tracer.finish(exchange, exchange.trace, seconds)


def check_network(exchange: Exchange, access: AccessList) -> None:
    """Refuse an address that the lists of networks don't let in."""
    if not access.admits(exchange.client_ip):
        raise Forbidden("Forbidden", reason="network_denied")


async def server_options(_exchange: Exchange) -> Answer:
    """What this server takes, whatever the path."""
    return Answer(200, headers=(("Allow", ALL_METHODS),), content_type=None)


def speak_cors(exchange: Exchange, cors: Cors | None) -> None:
    """Let whatever answer goes out say to browsers what `cors` says of it, and nothing else."""
    fields = () if cors is None else cors.fields(exchange)
    exchange.cors_lines = "".join(f"{name}: {value}\r\n" for name, value in fields).encode()


def over_limit(decision: Decision, client_ip: str) -> GatewayError:
    """The contract's words for a client that is over a limit, or blocked for having been."""
    if decision.blocked:
        return TooManyRequests(
            BLOCKED.format(ip=client_ip), reason="blocked", retry_after=decision.retry_after
        )
    policy = decision.policy
    if policy.window == "concurrent":
        if policy.per == "route":
            return Overloaded(reason="too_many_under_way", retry_after=decision.retry_after)
        return TooManyRequests(
            UNDER_WAY.format(subject=SUBJECTS[policy.per], requests=policy.requests),
            reason="too_many_under_way",
            retry_after=decision.retry_after,
        )
    return TooManyRequests(
        LIMITED.format(
            subject=SUBJECTS[policy.per],
            window=WINDOWS.get(policy.window, f" {policy.window} 秒"),
            requests=policy.requests,
        ),
        reason="rate_limited" if isinstance(policy.window, int) else "over_quota",
        retry_after=decision.retry_after,
    )


def refuse(exchange: Exchange, error: GatewayError) -> None:
    """Turn an error into the client's answer; the one place where errors are rendered.

    When an answer has begun already, its connection is cut: the client must be able to tell.
    """
    exchange.refusal = error.reason
    # Without what it knows of frames: they lead back to it, and only a collection would free them.
    exchange.failure = error.with_traceback(None)
    if error.closes_connection:
        exchange.close_after = True
    if exchange.answered or isinstance(error, ClientGone):
        exchange.close_after = True
        exchange.status = exchange.status or error.status
        cut(exchange)
        return
    write_answer(exchange, json_answer(error.status, {"detail": error.detail}, error.headers))

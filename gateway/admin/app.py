"""The admin listener: probes, metrics, and the commands for whoever may give them.

Rules:
- `/healthz`, `/readyz` and `/metrics` ask for no credential: the listener is private.
- `POST /api/{operation}` runs one operation; its arguments are the JSON object in the body. What
  changes something asks for `Authorization: Bearer <admin.token>`, and is refused while no token
  is configured. What only reads asks for the token when there is one.
- A web page must not be able to call the API from its visitor's browser: a body is
  `application/json` or refused (a form can't send that), and on a loopback address, or without a
  token, `Host` must be an IP address or `localhost` (a page's own name that was made to point here
  is neither; DNS rebinding).
- Every error is `{"detail": ...}`, and never repeats what was sent.
"""

import asyncio
import hmac
import ipaddress
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestHandler
from yarl import URL

from gateway.admin.operations import OPERATIONS, BadArgument, Context, Operation, Refused
from gateway.errors import GatewayError
from gateway.observe.metrics import Metrics

logger = logging.getLogger("gateway.admin")

MAX_BODY_BYTES = 1 << 20
CHALLENGE = 'Bearer realm="primit-admin"'

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class StoreState(Protocol):
    @property
    def available(self) -> bool: ...


@dataclass(slots=True)
class AdminState:
    """What the admin listener says of its worker; the worker keeps it true.

    `context` is what operations run on. `token` is None when nothing may be changed here.
    """

    metrics: Metrics
    store: StoreState
    store_kind: str  # the scheme of store.url: memory, redis, rediss, unix, ...
    context: Context
    token: str | None = None
    reload: Callable[..., Awaitable[dict[str, Any]]] | None = None  # takes `workers`
    table_loaded: bool = False
    draining: bool = False

    @property
    def reason(self) -> str | None:
        """Why this worker takes no requests; None: it does."""
        if self.draining:
            return "draining"
        return None if self.table_loaded else "no route table yet"


def make_admin_app(
    state: AdminState, operations: Mapping[str, Operation] = OPERATIONS
) -> web.Application:
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[errors_as_json])
    app.on_response_prepare.append(_set_headers)
    admin = _Admin(state, operations)
    app.router.add_get("/healthz", admin.healthz)
    app.router.add_get("/readyz", admin.readyz)
    app.router.add_get("/metrics", admin.metrics)
    app.router.add_post("/api/reload", admin.reload)
    app.router.add_post("/api/{operation}", admin.operate)
    return app


class AdminRunner(web.AppRunner):
    """Runs the app on connections that answer in our form what is no request, too."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, **self._kwargs)


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(RequestHandler):
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # it repeats the malformed line
    ) -> web.StreamResponse:
        if status >= 500:
            logger.error("an admin request failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun")
        response = _json(status, {"detail": HTTPStatus(status).phrase})
        response.force_close()
        return response


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every way out that isn't an answer becomes one: a status and a detail."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        headers: dict[str, str] = {
            name: error.headers[name]
            for name in (hdrs.ALLOW, hdrs.WWW_AUTHENTICATE)
            if name in error.headers
        }
        return _json(error.status, {"detail": error.reason}, headers)
    except GatewayError as error:
        return _json(error.status, {"detail": error.detail}, dict(error.headers))
    except Exception:
        logger.exception("%s failed", request.match_info.get("operation", "an admin request"))
        return _json(500, {"detail": "Internal Server Error"})


class _Admin:
    """The handlers."""

    def __init__(self, state: AdminState, operations: Mapping[str, Operation]) -> None:
        self._state = state
        self._operations = operations

    async def healthz(self, _request: web.Request) -> web.Response:
        """The process lives and its event loop turns."""
        return _json(200, {"status": "ok"})

    async def readyz(self, _request: web.Request) -> web.Response:
        """Redis's state is told and doesn't decide: a gateway goes on without it."""
        state = self._state
        return _json(
            200 if state.reason is None else 503,
            {
                "ready": state.reason is None,
                "reason": state.reason,
                "store": {"available": state.store.available, "kind": state.store_kind},
            },
        )

    async def metrics(self, _request: web.Request) -> web.Response:
        """The text is made in a thread: requests don't wait for it."""
        self._state.metrics.flush()
        body, content_type = await asyncio.to_thread(self._state.metrics.exposition)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    async def reload(self, request: web.Request) -> web.Response:
        """Both files are read again. 409 with what is wrong, and then nothing has changed."""
        self._check_caller(request, changes=True)
        arguments = await _arguments(request)
        workers = arguments.pop("workers", False)
        if arguments or not isinstance(workers, bool):
            return _json(422, {"detail": "It takes workers, true or false, and nothing else."})
        assert self._state.reload is not None
        try:
            outcome = await self._state.reload(workers=workers)
        except TimeoutError:
            return _json(504, {"detail": "The arbiter did not answer: see the log."})
        if outcome["problems"]:
            problems = outcome["problems"]
            return _json(409, {"detail": "nothing was changed", "problems": problems})
        return _json(200, outcome)

    async def operate(self, request: web.Request) -> web.Response:
        name = request.match_info["operation"]
        operation = self._operations.get(name)
        self._check_caller(request, changes=operation is not None and operation.changes)
        if operation is None:
            raise _error(web.HTTPNotFound, "There is no such operation.")
        arguments = await _arguments(request)
        try:
            result = await operation.run(self._state.context, **arguments)
        except BadArgument as mistake:
            return _json(422, {"detail": str(mistake)})
        except Refused as refusal:
            return _json(409, {"detail": str(refusal)})
        if operation.changes:
            logger.info("%s done", name)
        return _json(200, result)

    def _check_caller(self, request: web.Request, *, changes: bool) -> None:
        """Raise the refusal of a caller who may not do this."""
        token = self._state.token or None  # an empty one would let everybody in
        if (token is None or _on_loopback(request)) and not _names_an_address(request):
            raise _error(web.HTTPForbidden, "Host must be an IP address or localhost here.")
        if token is not None and not _carries(request, token):
            raise _error(web.HTTPUnauthorized, "The admin token is missing or wrong.")
        if changes and token is None:
            raise _error(
                web.HTTPForbidden, "This changes something: set admin.token to allow it here."
            )


async def _arguments(request: web.Request) -> dict[str, Any]:
    """The body: a JSON object, or nothing at all."""
    body = await request.read()
    if not body:
        return {}
    if request.content_type != "application/json":
        raise _error(web.HTTPUnsupportedMediaType, "Content-Type must be application/json.")
    try:
        arguments = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _error(web.HTTPUnprocessableEntity, "The body is not valid JSON.") from error
    if not isinstance(arguments, dict):
        raise _error(web.HTTPUnprocessableEntity, "The body must be a JSON object.")
    return arguments


def _carries(request: web.Request, token: str) -> bool:
    """Exactly one Authorization header, with the token; compared in constant time."""
    values = request.headers.getall(hdrs.AUTHORIZATION, [])
    if len(values) != 1:
        return False
    scheme, _, credential = values[0].partition(" ")
    sent = credential.strip().encode("utf-8", "surrogateescape")
    return hmac.compare_digest(sent, token.encode()) and scheme.lower() == "bearer"


def _on_loopback(request: web.Request) -> bool:
    transport = request.transport
    address = None if transport is None else transport.get_extra_info("sockname")
    return _is_loopback(address[0]) if address else False


def _is_loopback(host: str) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _names_an_address(request: web.Request) -> bool:
    try:
        host = URL(f"http://{request.headers.get(hdrs.HOST, '')}").host or ""
        if host == "localhost":
            return True
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _error(kind: type[web.HTTPException], detail: str) -> web.HTTPException:
    headers = {hdrs.WWW_AUTHENTICATE: CHALLENGE} if kind is web.HTTPUnauthorized else None
    return kind(reason=detail, headers=headers)


def _json(status: int, value: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        text=json.dumps(value, ensure_ascii=False),
        content_type="application/json",
        headers=headers,
    )


async def _set_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers[hdrs.SERVER] = "primit-gateway"

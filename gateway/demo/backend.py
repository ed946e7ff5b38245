"""What the demo backends share: the manner of a FastAPI service, on aiohttp.

Errors are `{"detail": …}`, validation failures the 422 list, and nothing that was sent is echoed
(no `input`). There is no authentication here, and no thought of a gateway.
"""

import argparse
import json
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

MAX_BODY_BYTES = 2 * 1024 * 1024
SHUTDOWN_SECONDS = 1.0

Model = TypeVar("Model", bound=BaseModel)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RequestError(Exception):
    """A request that ends with `{"detail": detail}`."""

    def __init__(self, status: int, detail: str | Sequence[Mapping[str, Any]]) -> None:
        super().__init__(status)
        self.status = status
        self.detail = detail


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """JSON without spaces, as FastAPI and Binance write it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return web.Response(text=text, status=status, headers=headers, content_type="application/json")


def query_of(request: web.Request, model: type[Model]) -> Model:
    """The query as `model`; RequestError 422 otherwise."""
    return _validated(model, dict(request.query), "query")


def headers_of(request: web.Request, model: type[Model]) -> Model:
    """The headers, by lower-case name, as `model`; RequestError 422 otherwise."""
    return _validated(model, {k.lower(): v for k, v in request.headers.items()}, "header")


async def body_of(request: web.Request, model: type[Model]) -> Model:
    """The JSON body as `model`; RequestError 422 otherwise."""
    raw = await request.read()
    if not raw:
        raise RequestError(422, [{"loc": ["body"], "msg": "Field required", "type": "missing"}])
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        problem = {"loc": ["body"], "msg": "JSON decode error", "type": "json_invalid"}
        raise RequestError(422, [problem]) from None
    return _validated(model, value, "body")


def _validated(model: type[Model], value: Any, place: str) -> Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestError(
            422,
            [{"loc": [place, *p["loc"]], "msg": p["msg"], "type": p["type"]} for p in problems],
        ) from None


@web.middleware
async def render_refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RequestError as refusal:
        return json_response({"detail": refusal.detail}, refusal.status)
    except web.HTTPException as error:
        allow = error.headers.get("Allow")
        headers = {"Allow": allow} if allow else None
        return json_response({"detail": error.reason}, error.status, headers)


def new_application() -> web.Application:
    """An application in this manner, to add routes to."""
    return web.Application(middlewares=[render_refusals], client_max_size=MAX_BODY_BYTES)


async def start(application: web.Application, listener: socket.socket) -> web.AppRunner:
    """Serve `application` on a bound socket; end it with the runner's `cleanup()`."""
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return runner


def run_alone(application: web.Application, description: str, port: int) -> None:
    """Serve until a signal ends it: `python -m gateway.demo.strategy --port 9002`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=port)
    options = parser.parse_args()
    web.run_app(
        application,
        host=options.host,
        port=options.port,
        access_log=None,
        shutdown_timeout=SHUTDOWN_SECONDS,
    )

"""The demo strategy service: strategies, orders, and the user a request comes from.

It has no authentication at all and knows nothing of a gateway: orders are placed with the
credentials in the body, `/users/me` believes the identity headers it is given. Credentials are
never kept; an answer says which ones it saw by their last four characters alone. Strategies live
in memory, a bounded number of them.

    python -m gateway.demo.strategy --port 9002
"""

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import AfterValidator, BaseModel, Field

from gateway.demo.backend import (
    RequestError,
    body_of,
    headers_of,
    json_response,
    new_application,
    query_of,
    run_alone,
)

PORT = 9002
MAX_STRATEGIES = 1000
MAX_PARAMETERS_BYTES = 4096
SHOWN_CHARACTERS = 4
SHORTEST_SHOWN = 8  # four characters of less would give away half of it


def small(parameters: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(parameters)) > MAX_PARAMETERS_BYTES:
        raise ValueError(f"must be at most {MAX_PARAMETERS_BYTES} bytes")
    return parameters


Symbol = Annotated[str, Field(pattern=r"^[A-Z0-9._-]{1,20}$")]
Parameters = Annotated[dict[str, Any], AfterValidator(small)]


class StrategyBody(BaseModel):
    name: str = Field(min_length=1, max_length=100)
    symbol: Symbol
    interval: str = Field("1h", max_length=5)
    description: str = Field("", max_length=1000)
    parameters: Parameters = Field(default_factory=dict)
    is_active: bool = False


class StrategyChanges(BaseModel):
    name: str | None = Field(None, min_length=1, max_length=100)
    symbol: Symbol | None = None
    interval: str | None = Field(None, max_length=5)
    description: str | None = Field(None, max_length=1000)
    parameters: Parameters | None = None
    is_active: bool | None = None


class Page(BaseModel):
    skip: int = Field(0, ge=0)
    limit: int = Field(100, ge=1, le=MAX_STRATEGIES)


class Credentials(BaseModel):
    api_key: str = Field(min_length=1, max_length=256)
    api_secret: str = Field(min_length=1, max_length=256)
    symbol: Symbol


class Order(Credentials):
    side: Literal["BUY", "SELL"]
    type: Literal["MARKET", "LIMIT"] = "MARKET"
    quantity: float = Field(gt=0)
    price: float | None = Field(None, gt=0)


class Cancellation(Credentials):
    order_id: int


class PositionClose(Credentials):
    pass


class Leverage(Credentials):
    leverage: int = Field(ge=1, le=125)


class MarginType(Credentials):
    margin_type: Literal["ISOLATED", "CROSSED"]


class UserHeaders(BaseModel):
    id: int = Field(alias="x-user-id")
    email: str | None = Field(None, alias="x-user-email")


def last_four(secret: str) -> str:
    return "…" + (secret[-SHOWN_CHARACTERS:] if len(secret) >= SHORTEST_SHOWN else "")


def now_iso(now: datetime) -> str:
    """ISO 8601 in UTC, without offset."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


class Strategies:
    """What `/strategies` serves."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._kept: dict[int, dict[str, Any]] = {}
        self._ids = itertools.count(1)

    async def create(self, request: web.Request) -> web.Response:
        body = await body_of(request, StrategyBody)
        if len(self._kept) >= MAX_STRATEGIES:
            raise RequestError(409, f"At most {MAX_STRATEGIES} strategies can be kept")
        at = now_iso(self._now())
        new = {"id": next(self._ids), **body.model_dump(), "created_at": at, "updated_at": at}
        self._kept[new["id"]] = new
        return json_response(new, status=201)

    async def list(self, request: web.Request) -> web.Response:
        page = query_of(request, Page)
        chosen = itertools.islice(self._kept.values(), page.skip, page.skip + page.limit)
        return json_response([*chosen])

    async def show(self, request: web.Request) -> web.Response:
        return json_response(self._find(request))

    async def change(self, request: web.Request) -> web.Response:
        found = self._find(request)
        changes = await body_of(request, StrategyChanges)
        found |= changes.model_dump(exclude_none=True)
        found["updated_at"] = now_iso(self._now())
        return json_response(found)

    async def delete(self, request: web.Request) -> web.Response:
        del self._kept[self._find(request)["id"]]
        return web.Response(status=204)

    def _find(self, request: web.Request) -> dict[str, Any]:
        text = request.match_info["id"]
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            problem = {
                "loc": ["path", "id"],
                "msg": "Input should be a valid integer",
                "type": "int_parsing",
            }
            raise RequestError(422, [problem])
        found = self._kept.get(int(text))
        if found is None:
            raise RequestError(404, "Strategy not found")
        return found


class Trading:
    """What is done on an exchange with the caller's credentials; here, only told."""

    def __init__(self) -> None:
        self._order_ids = itertools.count(100_001)

    def _told(self, message: str, body: Credentials, **facts: Any) -> web.Response:
        return json_response(
            {
                "success": True,
                "message": message,
                "symbol": body.symbol,
                **facts,
                "credentials": {
                    "api_key": last_four(body.api_key),
                    "api_secret": last_four(body.api_secret),
                },
            }
        )

    async def order(self, request: web.Request) -> web.Response:
        body = await body_of(request, Order)
        return self._told(
            "Order placed",
            body,
            order_id=next(self._order_ids),
            side=body.side,
            type=body.type,
            quantity=body.quantity,
            price=body.price,
        )

    async def cancel(self, request: web.Request) -> web.Response:
        body = await body_of(request, Cancellation)
        return self._told("Order cancelled", body, order_id=body.order_id)

    async def close_position(self, request: web.Request) -> web.Response:
        return self._told("Position closed", await body_of(request, PositionClose))

    async def leverage(self, request: web.Request) -> web.Response:
        body = await body_of(request, Leverage)
        return self._told("Leverage set", body, leverage=body.leverage)

    async def margin_type(self, request: web.Request) -> web.Response:
        body = await body_of(request, MarginType)
        return self._told("Margin type set", body, margin_type=body.margin_type)


async def me(request: web.Request) -> web.Response:
    user = headers_of(request, UserHeaders)
    return json_response({"id": user.id, "email": user.email})


def wall_clock() -> datetime:
    return datetime.now(UTC)


def strategy_application(now: Callable[[], datetime] = wall_clock) -> web.Application:
    strategies, trading = Strategies(now), Trading()

    async def health(_request: web.Request) -> web.Response:
        return json_response({"status": "healthy", "timestamp": now_iso(now())})

    application = new_application()
    application.add_routes(
        [
            web.get("/health", health),
            web.get("/users/me", me),
            web.get("/strategies", strategies.list),
            web.post("/strategies", strategies.create),
            web.get("/strategies/{id}", strategies.show),
            web.put("/strategies/{id}", strategies.change),
            web.delete("/strategies/{id}", strategies.delete),
            web.post("/orders/auth", trading.order),
            web.post("/orders/registered", trading.order),
            web.post("/orders/cancel/auth", trading.cancel),
            web.post("/positions/close/auth", trading.close_position),
            web.post("/leverage/auth", trading.leverage),
            web.post("/margin-type/auth", trading.margin_type),
        ]
    )
    return application


if __name__ == "__main__":
    run_alone(strategy_application(), "The demo strategy service.", PORT)

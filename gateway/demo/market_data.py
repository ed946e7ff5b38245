"""The demo market-data service: every market-data route of the platform, with made-up values.

It has no authentication at all and knows nothing of a gateway. The same question at the same
time has the same answer (`market_values.py`).

    python -m gateway.demo.market_data --port 9001
"""

import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import AfterValidator, BaseModel, Field

from gateway.demo import market_values as values
from gateway.demo.backend import json_response, new_application, query_of, run_alone
from gateway.demo.market_stream import CONNECTIONS, Stream, close_all

PORT = 9001
TICK_SECONDS = 0.1
EIGHT_HOURS_MS = 8 * values.HOUR_MS

Symbol = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9._-]{1,20}$"), AfterValidator(lambda text: text.upper())
]
Milliseconds = Annotated[int, Field(ge=0, le=4_102_444_800_000)]  # the year 2100
Interval = Literal[
    "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"
]
Period = Literal["5m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d"]


class OneSymbol(BaseModel):
    symbol: Symbol


class MaybeSymbol(BaseModel):
    symbol: Symbol | None = None


class KlineQuery(OneSymbol):
    interval: Interval = "1h"
    limit: int = Field(100, ge=1, le=1500)
    startTime: Milliseconds | None = None  # noqa: N815 - the platform's name
    endTime: Milliseconds | None = None  # noqa: N815 - the platform's name


class AdjustedKlineQuery(KlineQuery):
    adjusted: bool = True


class DepthQuery(OneSymbol):
    limit: Literal["5", "10", "20", "50", "100", "500", "1000"] = "100"


class HistoryQuery(MaybeSymbol):
    limit: int = Field(30, ge=1, le=500)


class PeriodQuery(OneSymbol):
    period: Period = "5m"
    limit: int = Field(30, ge=1, le=500)


class RatioQuery(BaseModel):
    period: Period = "5m"
    limit: int = Field(30, ge=1, le=500)


def iso(at_ms: int) -> str:
    """ISO 8601 in UTC, without offset."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def listed(symbol: str | None, one: Callable[[str], dict[str, Any]]) -> Any:
    """One object for a named symbol, a list of all without."""
    return one(symbol) if symbol else [one(each) for each in values.SYMBOLS]


class MarketData:
    """The handlers, on one clock."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms

    async def health(self, _request: web.Request) -> web.Response:
        return json_response({"status": "healthy", "timestamp": iso(self._now_ms())})

    async def time(self, _request: web.Request) -> web.Response:
        return json_response({"serverTime": self._now_ms()})

    async def ping(self, _request: web.Request) -> web.Response:
        return json_response({})

    async def klines(self, request: web.Request) -> web.Response:
        return self._klines(query_of(request, KlineQuery))

    async def adjusted_klines(self, request: web.Request) -> web.Response:
        return self._klines(query_of(request, AdjustedKlineQuery))

    def _klines(self, query: KlineQuery) -> web.Response:
        now = self._now_ms()
        end = now if query.endTime is None else min(query.endTime, now)
        rows = values.klines(query.symbol, query.interval, query.limit, query.startTime, end)
        return json_response(rows)

    async def ticker_24hr(self, request: web.Request) -> web.Response:
        now = self._now_ms()
        symbol = query_of(request, MaybeSymbol).symbol
        return json_response(listed(symbol, lambda each: values.ticker_24hr(each, now)))

    async def ticker_price(self, request: web.Request) -> web.Response:
        now = self._now_ms()

        def one(symbol: str) -> dict[str, Any]:
            last = values.number(values.price(symbol, now))
            return {"symbol": symbol, "price": last, "time": now}

        return json_response(listed(query_of(request, MaybeSymbol).symbol, one))

    async def depth(self, request: web.Request) -> web.Response:
        query = query_of(request, DepthQuery)
        return json_response(values.depth(query.symbol, self._now_ms(), int(query.limit)))

    async def exchange_info(self, _request: web.Request) -> web.Response:
        def one(symbol: str) -> dict[str, Any]:
            return {
                "symbol": symbol,
                "pair": symbol,
                "contractType": "PERPETUAL",
                "status": "TRADING",
                "baseAsset": symbol.removesuffix("USDT"),
                "quoteAsset": "USDT",
                "pricePrecision": 2,
                "quantityPrecision": 3,
                "orderTypes": ["LIMIT", "MARKET", "STOP", "TAKE_PROFIT"],
            }

        return json_response(
            {
                "timezone": "UTC",
                "serverTime": self._now_ms(),
                "rateLimits": [],
                "symbols": [one(symbol) for symbol in values.SYMBOLS],
            }
        )

    async def premium_index(self, request: web.Request) -> web.Response:
        now = self._now_ms()

        def one(symbol: str) -> dict[str, Any]:
            mark = values.price(symbol, now)
            return {
                "symbol": symbol,
                "markPrice": values.number(mark),
                "indexPrice": values.number(mark * 0.9999),
                "lastFundingRate": values.funding_rate(symbol, now),
                "nextFundingTime": (now // EIGHT_HOURS_MS + 1) * EIGHT_HOURS_MS,
                "interestRate": "0.00010000",
                "time": now,
            }

        return json_response(listed(query_of(request, MaybeSymbol).symbol, one))

    async def funding_rate(self, request: web.Request) -> web.Response:
        query = query_of(request, HistoryQuery)
        return json_response(self._funding_history(query.symbol or "BTCUSDT", query.limit))

    def _funding_history(self, symbol: str, limit: int) -> list[dict[str, Any]]:
        last = self._now_ms() // EIGHT_HOURS_MS * EIGHT_HOURS_MS
        times = [last - step * EIGHT_HOURS_MS for step in range(limit)][::-1]
        return [
            {
                "symbol": symbol,
                "fundingTime": at,
                "fundingRate": values.funding_rate(symbol, at),
                "markPrice": values.number(values.price(symbol, at)),
            }
            for at in times
        ]

    async def funding_rates(self, request: web.Request) -> web.Response:
        now = self._now_ms()
        symbol = query_of(request, MaybeSymbol).symbol
        return json_response(listed(symbol, lambda each: self._funding(each, now)))

    async def funding_rates_of(self, request: web.Request) -> web.Response:
        return json_response(self._funding(request.match_info["symbol"].upper(), self._now_ms()))

    async def funding_history_of(self, request: web.Request) -> web.Response:
        query = query_of(request, HistoryQuery)
        symbol = request.match_info["symbol"].upper()
        return json_response(self._funding_history(symbol, query.limit))

    def _funding(self, symbol: str, now: int) -> dict[str, Any]:
        return {
            "symbol": symbol,
            "fundingRate": values.funding_rate(symbol, now),
            "nextFundingTime": (now // EIGHT_HOURS_MS + 1) * EIGHT_HOURS_MS,
        }

    async def open_interest(self, request: web.Request) -> web.Response:
        symbol, now = query_of(request, OneSymbol).symbol, self._now_ms()
        held = 80_000 * (1 + values.noise(symbol, now // values.MINUTE_MS))
        return json_response({"symbol": symbol, "openInterest": f"{held:.3f}", "time": now})

    async def open_interest_history(self, request: web.Request) -> web.Response:
        query = query_of(request, PeriodQuery)

        def one(at: int) -> dict[str, Any]:
            held = 80_000 * (1 + values.noise(query.symbol, at))
            return {
                "symbol": query.symbol,
                "sumOpenInterest": f"{held:.3f}",
                "sumOpenInterestValue": f"{held * values.price(query.symbol, at):.2f}",
                "timestamp": at,
            }

        return json_response([one(at) for at in self._steps(query.period, query.limit)])

    async def ratios(self, request: web.Request) -> web.Response:
        query = query_of(request, PeriodQuery)
        return self._ratios(query.symbol, query.period, query.limit, request.path)

    async def ratios_of(self, request: web.Request) -> web.Response:
        query = query_of(request, RatioQuery)
        symbol = request.match_info["symbol"].upper()
        return self._ratios(symbol, query.period, query.limit, request.path)

    def _ratios(self, symbol: str, period: str, limit: int, what: str) -> web.Response:
        def one(at: int) -> dict[str, Any]:
            long = values.share(symbol, at, what)
            return {
                "symbol": symbol,
                "longShortRatio": f"{long / (1 - long):.4f}",
                "longAccount": f"{long:.4f}",
                "shortAccount": f"{1 - long:.4f}",
                "timestamp": at,
            }

        return json_response([one(at) for at in self._steps(period, limit)])

    def _steps(self, period: str, limit: int) -> list[int]:
        length = values.INTERVALS_MS[period]
        last = self._now_ms() // length * length
        return [last - step * length for step in range(limit)][::-1]

    async def insurance_balance(self, request: web.Request) -> web.Response:
        symbol = query_of(request, MaybeSymbol).symbol
        assets = [
            {"asset": asset, "marginBalance": balance, "updateTime": self._now_ms()}
            for asset, balance in (("USDT", "793930579.31"), ("BTC", "310.98"), ("BNB", "1204.5"))
        ]
        return json_response({"symbols": [symbol] if symbol else ["BTCUSDT"], "assets": assets})

    async def active_tickers(self, _request: web.Request) -> web.Response:
        now = self._now_ms()
        tickers = [values.ticker_24hr(symbol, now) for symbol in values.SYMBOLS]
        return json_response(sorted(tickers, key=lambda each: -float(each["quoteVolume"])))

    async def launches(self, _request: web.Request) -> web.Response:
        day = self._now_ms() // values.DAY_MS * values.DAY_MS
        return json_response([{"symbol": "NEWUSDT", "launchTime": iso(day + values.DAY_MS)}])

    async def delistings(self, _request: web.Request) -> web.Response:
        day = self._now_ms() // values.DAY_MS * values.DAY_MS
        return json_response([{"symbol": "OLDUSDT", "delistTime": iso(day + 7 * values.DAY_MS)}])

    async def capital_flow(self, request: web.Request) -> web.Response:
        now = self._now_ms()

        def one(symbol: str) -> dict[str, Any]:
            into, out = (1e6 * (1 + values.noise(symbol, now // values.HOUR_MS, x)) for x in "io")
            return {
                "symbol": symbol,
                "inflow": f"{into:.2f}",
                "outflow": f"{out:.2f}",
                "net": f"{into - out:.2f}",
                "timestamp": now,
            }

        return json_response(listed(query_of(request, MaybeSymbol).symbol, one))


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def market_data_application(
    now_ms: Callable[[], int] = wall_clock_ms, tick_seconds: float = TICK_SECONDS
) -> web.Application:
    service = MarketData(now_ms)
    application = new_application()
    application[CONNECTIONS] = weakref.WeakSet()
    application.on_shutdown.append(close_all)
    application.add_routes(
        web.get(path, handler)
        for path, handler in {
            "/health": service.health,
            "/ws": Stream(now_ms, tick_seconds).handle,
            "/fapi/v1/ping": service.ping,
            "/fapi/v1/time": service.time,
            "/fapi/v1/klines": service.klines,
            "/fapi/v1/ticker/24hr": service.ticker_24hr,
            "/fapi/v1/ticker/price": service.ticker_price,
            "/fapi/v1/depth": service.depth,
            "/fapi/v1/exchangeInfo": service.exchange_info,
            "/fapi/v1/premiumIndex": service.premium_index,
            "/fapi/v1/fundingRate": service.funding_rate,
            "/fapi/v1/openInterest": service.open_interest,
            "/fapi/v1/insuranceBalance": service.insurance_balance,
            "/ticker/24hr/active": service.active_tickers,
            "/funding/rates": service.funding_rates,
            "/funding/rates/{symbol}": service.funding_rates_of,
            "/funding/rates/{symbol}/history": service.funding_history_of,
            "/openInterestHist": service.open_interest_history,
            "/topLongShortPositionRatio": service.ratios,
            "/topLongShortAccountRatio": service.ratios,
            "/long-short/position-ratio/{symbol}": service.ratios_of,
            "/long-short/account-ratio/{symbol}": service.ratios_of,
            "/launchfutures": service.launches,
            "/delist": service.delistings,
            "/spot/capital-flow": service.capital_flow,
            "/stock/v1/klines": service.adjusted_klines,
            "/index/v1/klines": service.adjusted_klines,
            "/commodity/v1/klines": service.adjusted_klines,
        }.items()
    )
    return application


if __name__ == "__main__":
    run_alone(market_data_application(), "The demo market-data service.", PORT)

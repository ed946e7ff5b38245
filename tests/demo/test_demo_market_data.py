"""The demo market-data service answers in the contract's forms, and the same every time."""

import itertools
import re

import pytest

from gateway.demo import market_values
from gateway.demo.market_data import market_data_application

NOW_MS = 1_790_000_000_000
DECIMAL = re.compile(r"\d+\.\d+")


@pytest.fixture
async def market(aiohttp_client):
    return await aiohttp_client(market_data_application(lambda: NOW_MS, tick_seconds=0.001))


async def fetch(client, target):
    answer = await client.get(target)
    assert answer.content_type == "application/json"
    return answer.status, await answer.json()


@pytest.mark.parametrize(
    "target",
    [
        "/health",
        "/fapi/v1/ping",
        "/fapi/v1/time",
        "/fapi/v1/klines?symbol=BTCUSDT",
        "/fapi/v1/ticker/24hr",
        "/fapi/v1/ticker/24hr?symbol=btcusdt",
        "/fapi/v1/ticker/price?symbol=BTCUSDT",
        "/fapi/v1/depth?symbol=BTCUSDT&limit=5",
        "/fapi/v1/exchangeInfo",
        "/fapi/v1/premiumIndex?symbol=BTCUSDT",
        "/fapi/v1/fundingRate?symbol=BTCUSDT&limit=3",
        "/fapi/v1/openInterest?symbol=BTCUSDT",
        "/fapi/v1/insuranceBalance",
        "/ticker/24hr/active",
        "/funding/rates",
        "/funding/rates/BTCUSDT",
        "/funding/rates/BTCUSDT/history",
        "/openInterestHist?symbol=BTCUSDT&period=1h",
        "/topLongShortPositionRatio?symbol=BTCUSDT",
        "/topLongShortAccountRatio?symbol=BTCUSDT",
        "/long-short/position-ratio/BTCUSDT",
        "/long-short/account-ratio/BTCUSDT",
        "/launchfutures",
        "/delist",
        "/spot/capital-flow",
        "/stock/v1/klines?symbol=AAPL&adjusted=false",
        "/index/v1/klines?symbol=SPX",
        "/commodity/v1/klines?symbol=GOLD",
    ],
)
async def test_every_route_of_the_platform_answers(market, target):
    status, first = await fetch(market, target)
    assert status == 200
    assert (await fetch(market, target))[1] == first


async def test_a_kline_row_has_the_twelve_fields_of_the_contract(market):
    _, rows = await fetch(market, "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1500")
    assert len(rows) == 1500
    for row, following in itertools.pairwise(rows):
        opened, *prices, volume, closed, quote, trades, taker, taker_quote, last = row
        assert closed == opened + 59_999
        assert following[0] == opened + 60_000
        assert all(DECIMAL.fullmatch(text) for text in (*prices, volume, quote))
        assert all(DECIMAL.fullmatch(text) for text in (taker, taker_quote))
        open_price, high, low, close_price = map(float, prices)
        assert low <= min(open_price, close_price) <= max(open_price, close_price) <= high
        assert prices[3] == following[1]
        assert isinstance(trades, int)
        assert last == "0"


async def test_a_hundred_klines_are_about_fifteen_kilobytes(market):
    answer = await market.get("/fapi/v1/klines?symbol=BTCUSDT&interval=1h")
    body = await answer.read()
    assert len(await answer.json()) == 100
    assert 10_000 < len(body) < 20_000


@pytest.mark.parametrize(
    ("window", "opens_ms"),
    [
        ("limit=3", [3, 4, 5]),
        ("limit=2&startTime=0", [0, 1]),
        ("limit=3&startTime=1&endTime=180000", [1, 2, 3]),
        ("limit=2&endTime=240000", [3, 4]),
        ("limit=5&startTime=900000", []),
        ("limit=9&endTime=99999999", [0, 1, 2, 3, 4, 5]),
    ],
)
async def test_klines_are_those_of_the_window(aiohttp_client, window, opens_ms):
    market = await aiohttp_client(market_data_application(lambda: 5 * 60_000))
    _, rows = await fetch(market, f"/fapi/v1/klines?symbol=BTCUSDT&interval=1m&{window}")
    assert [row[0] // 60_000 for row in rows] == opens_ms


@pytest.mark.parametrize(
    ("target", "field", "kind"),
    [
        ("/fapi/v1/klines", "symbol", "missing"),
        ("/fapi/v1/klines?symbol=BTCUSDT&limit=1501", "limit", "less_than_equal"),
        ("/fapi/v1/klines?symbol=BTCUSDT&interval=7m", "interval", "literal_error"),
        ("/fapi/v1/klines?symbol=B%20C", "symbol", "string_pattern_mismatch"),
        ("/stock/v1/klines?symbol=AAPL&adjusted=perhaps", "adjusted", "bool_parsing"),
    ],
)
async def test_a_bad_query_is_a_422_that_echoes_nothing(market, target, field, kind):
    status, body = await fetch(market, target)
    assert status == 422
    (problem,) = body["detail"]
    assert problem["loc"] == ["query", field]
    assert problem["type"] == kind
    assert set(problem) == {"loc", "msg", "type"}


async def test_unknown_paths_and_methods_are_refused_as_fastapi_does(market):
    assert await fetch(market, "/nothing") == (404, {"detail": "Not Found"})
    answer = await market.post("/fapi/v1/time")
    assert answer.status == 405
    assert await answer.json() == {"detail": "Method Not Allowed"}
    assert "GET" in answer.headers["Allow"]


def test_ticker_and_klines_tell_one_price():
    now_ms = NOW_MS // 60_000 * 60_000
    last_closed = market_values.klines("BTCUSDT", "1m", 1, None, now_ms - 1)[0]
    assert market_values.ticker_24hr("BTCUSDT", now_ms)["lastPrice"] == last_closed[4]

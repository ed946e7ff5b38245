"""Made-up market values: the same question at the same time always has the same answer.

A price is a function of symbol and time alone (slow and fast waves, and noise by checksum), so a
kline closes where the next one opens, and ticker, depth and klines agree. Prices are strings,
times are Unix milliseconds.
"""

import math
import zlib
from typing import Any

BASE_PRICES = {
    "BTCUSDT": 64_000.0,
    "ETHUSDT": 3_100.0,
    "BNBUSDT": 590.0,
    "SOLUSDT": 145.0,
    "XRPUSDT": 0.62,
    "DOGEUSDT": 0.16,
    "AAPL": 212.0,
    "SPX": 5_400.0,
    "GOLD": 2_350.0,
}
SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT")

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
INTERVALS_MS = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "6h": 6 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1d": DAY_MS,
    "3d": 3 * DAY_MS,
    "1w": 7 * DAY_MS,
    "1M": 30 * DAY_MS,
}

# Height of a wave in parts of the price, and its period.
WAVES = ((0.03, 7.3 * DAY_MS), (0.01, 5.1 * HOUR_MS), (0.002, 6.9 * MINUTE_MS))


def noise(*names: object) -> float:
    """A number in [0, 1) that depends on `names` alone."""
    return zlib.crc32(":".join(map(str, names)).encode()) / 2**32


def price(symbol: str, at_ms: int) -> float:
    base = BASE_PRICES.get(symbol) or 1 + 999 * noise(symbol)
    drift = sum(
        height * math.sin(math.tau * (at_ms / period + noise(symbol, period)))
        for height, period in WAVES
    )
    return base * (1 + drift + 0.0005 * (noise(symbol, at_ms // 1000) - 0.5))


def number(value: float) -> str:
    """A number as market data writes it: a string, with digits that suit its size."""
    return f"{value:.2f}" if abs(value) >= 100 else f"{value:.5f}"


def kline(symbol: str, open_ms: int, length_ms: int) -> list[Any]:
    """One row, in the twelve fields of the platform."""
    opened, closed = price(symbol, open_ms), price(symbol, open_ms + length_ms)
    wick = max(opened, closed) * 0.001
    high = max(opened, closed) + wick * noise(symbol, open_ms, "high")
    low = min(opened, closed) - wick * noise(symbol, open_ms, "low")
    volume = 10 + 990 * noise(symbol, open_ms, "volume")
    taker = volume * (0.3 + 0.4 * noise(symbol, open_ms, "taker"))
    middle = (opened + closed) / 2
    return [
        open_ms,
        number(opened),
        number(high),
        number(low),
        number(closed),
        f"{volume:.3f}",
        open_ms + length_ms - 1,
        f"{volume * middle:.2f}",
        int(volume * 7),
        f"{taker:.3f}",
        f"{taker * middle:.2f}",
        "0",
    ]


def klines(
    symbol: str, interval: str, limit: int, start_ms: int | None, end_ms: int
) -> list[list[Any]]:
    """Rows that open in [start, end], oldest first: from the start, or the last without one."""
    length = INTERVALS_MS[interval]
    last = end_ms // length * length
    if start_ms is None:
        first = max(0, last - (limit - 1) * length)
    else:
        first = -(-start_ms // length) * length
        last = min(last, first + (limit - 1) * length)
    return [kline(symbol, opens, length) for opens in range(first, last + 1, length)]


def ticker_24hr(symbol: str, now_ms: int) -> dict[str, Any]:
    last, first = price(symbol, now_ms), price(symbol, now_ms - DAY_MS)
    volume = 50_000 * (1 + noise(symbol, now_ms // DAY_MS))
    return {
        "symbol": symbol,
        "priceChange": number(last - first),
        "priceChangePercent": f"{(last - first) / first * 100:.3f}",
        "weightedAvgPrice": number((last + first) / 2),
        "lastPrice": number(last),
        "lastQty": f"{noise(symbol, now_ms // 1000):.3f}",
        "openPrice": number(first),
        "highPrice": number(max(last, first) * 1.004),
        "lowPrice": number(min(last, first) * 0.996),
        "volume": f"{volume:.3f}",
        "quoteVolume": f"{volume * (last + first) / 2:.2f}",
        "openTime": now_ms - DAY_MS,
        "closeTime": now_ms,
        "count": int(volume * 3),
    }


def depth(symbol: str, now_ms: int, limit: int) -> dict[str, Any]:
    middle = price(symbol, now_ms)
    step = middle * 0.00005

    def side(name: str, sign: int) -> list[list[str]]:
        return [
            [number(middle + sign * step * level), f"{5 * noise(symbol, now_ms, name, level):.3f}"]
            for level in range(1, limit + 1)
        ]

    return {
        "lastUpdateId": now_ms,
        "E": now_ms,
        "T": now_ms,
        "bids": side("bid", -1),
        "asks": side("ask", 1),
    }


def funding_rate(symbol: str, at_ms: int) -> str:
    """The rate of the eight hours that `at_ms` lies in."""
    return f"{0.0002 * (noise(symbol, at_ms // (8 * HOUR_MS), 'funding') - 0.4):.8f}"


def share(symbol: str, at_ms: int, what: str) -> float:
    """A share of longs, between 0.4 and 0.6."""
    return 0.4 + 0.2 * noise(symbol, at_ms, what)

"""The market-data WebSocket: subscribe by JSON messages, ticker every second, depth ten times.

    {"method": "SUBSCRIBE", "params": ["btcusdt@ticker"], "id": 1}   ->   {"result": null, "id": 1}

Streams can also be named in the query (`/ws?streams=btcusdt@ticker/btcusdt@depth`), which is how
a client that can't send messages, curl, sees some. A connection has a bounded number of streams
and takes bounded messages.
"""

import asyncio
import json
import re
import weakref
from collections.abc import Callable
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from gateway.demo import market_values

MAX_STREAMS = 64
MAX_MESSAGE_BYTES = 16 * 1024
TICKS_PER_SECOND = 10
DEPTH_LEVELS = 5
STREAM = re.compile(r"([a-z0-9]{1,20})@(ticker|depth)")

CONNECTIONS = web.AppKey("CONNECTIONS", weakref.WeakSet[web.WebSocketResponse])


class MessageError(Exception):
    """What the client sent is not a message of this protocol."""


class Subscriptions:
    """One connection's streams, and the answers to its messages."""

    def __init__(self) -> None:
        self.streams: dict[str, None] = {}  # in the order they came

    def answer(self, text: str) -> dict[str, Any]:
        """Act on one message; what is wrong with it is in the answer."""
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            return {"error": {"code": 3, "msg": "Invalid JSON"}, "id": None}
        if not isinstance(message, dict):
            return {"error": {"code": 2, "msg": "Invalid request"}, "id": None}
        name = message.get("id")
        if not isinstance(name, int | str | None):
            name = None
        try:
            return {"result": self._act(message), "id": name}
        except MessageError as error:
            return {"error": {"code": 2, "msg": str(error)}, "id": name}

    def _act(self, message: dict[str, Any]) -> list[str] | None:
        method = message.get("method")
        if method == "LIST_SUBSCRIPTIONS":
            return list(self.streams)
        if method not in ("SUBSCRIBE", "UNSUBSCRIBE"):
            raise MessageError("Invalid request: unknown method")
        names = message.get("params")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise MessageError("Invalid request: params must be a list of strings")
        if method == "SUBSCRIBE":
            self.add(names)
        else:
            for name in names:
                self.streams.pop(name, None)
        return None

    def add(self, names: list[str]) -> None:
        """Subscribe to all of `names`, or to none; raises MessageError."""
        if not all(STREAM.fullmatch(name) for name in names):
            raise MessageError("Invalid request: a stream is symbol@ticker or symbol@depth")
        if len(self.streams | dict.fromkeys(names)) > MAX_STREAMS:
            raise MessageError(f"Invalid request: at most {MAX_STREAMS} streams")
        self.streams |= dict.fromkeys(names)

    def due(self, tick: int) -> list[str]:
        """The streams that say something at this tick, counted from 1."""
        whole_second = tick % TICKS_PER_SECOND == 0
        return [name for name in self.streams if whole_second or name.endswith("@depth")]


def event(stream: str, now_ms: int) -> dict[str, Any]:
    """What a stream says at a time."""
    symbol, _, kind = stream.partition("@")
    symbol = symbol.upper()
    if kind == "depth":
        book = market_values.depth(symbol, now_ms, DEPTH_LEVELS)
        return {
            "e": "depthUpdate",
            "E": now_ms,
            "s": symbol,
            "u": now_ms,
            "b": book["bids"],
            "a": book["asks"],
        }
    day = market_values.ticker_24hr(symbol, now_ms)
    return {
        "e": "24hrTicker",
        "E": now_ms,
        "s": symbol,
        "p": day["priceChange"],
        "P": day["priceChangePercent"],
        "c": day["lastPrice"],
        "o": day["openPrice"],
        "h": day["highPrice"],
        "l": day["lowPrice"],
        "v": day["volume"],
        "q": day["quoteVolume"],
    }


class Stream:
    """The handler of `/ws`. `tick_seconds` is a tenth of a second, and less in tests."""

    def __init__(self, now_ms: Callable[[], int], tick_seconds: float) -> None:
        self._now_ms = now_ms
        self._tick_seconds = tick_seconds

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        subscriptions = Subscriptions()
        asked = request.query.get("streams")
        if asked:
            try:
                subscriptions.add(asked.split("/"))
            except MessageError as error:
                raise web.HTTPBadRequest(reason=str(error)) from None
        socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE_BYTES, heartbeat=30)
        await socket.prepare(request)
        connections = request.app[CONNECTIONS]
        connections.add(socket)
        events = asyncio.create_task(self._send_events(socket, subscriptions))
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await socket.send_json(subscriptions.answer(message.data))
        except ConnectionError:
            pass  # the client left while we were writing
        finally:
            events.cancel()
            connections.discard(socket)
        return socket

    async def _send_events(
        self, socket: web.WebSocketResponse, subscriptions: Subscriptions
    ) -> None:
        tick = 0
        try:
            while not socket.closed:
                await asyncio.sleep(self._tick_seconds)
                tick += 1
                for stream in subscriptions.due(tick):
                    await socket.send_json(event(stream, self._now_ms()))
        except ConnectionError:
            pass  # the reading side sees the end too


async def close_all(application: web.Application) -> None:
    """At shutdown: no client keeps the service from ending."""
    connections = application[CONNECTIONS]
    for socket in list(connections):
        await socket.close(code=WSCloseCode.GOING_AWAY, message=b"shutdown")

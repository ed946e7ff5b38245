"""Binance on 127.0.0.1, with faults to switch on; what it checks is `gateway/demo/binance.py`'s."""

import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from stand_ins import StandIn

from gateway.demo.binance import TRADING, Binance, BinanceKey


class BinanceStandIn(StandIn):
    """`keys` are the pairs it knows, `permissions` what some of them may do; `ahead_ms` is how far
    its clock is ahead of ours.

    `answer`, if set, is (status, body) instead of judging accounts, `headers` go with it, and
    `told`, if set, stands for what it says of permissions. `time_asked`, `account_asked` and
    `permissions_asked` count by endpoint; `most_at_once` is how many accounts were asked for
    together.
    """

    def __init__(self) -> None:
        super().__init__()
        self.keys = {"binance-key": "binance-secret"}
        self.permissions: dict[str, frozenset[str]] = {}
        self.ahead_ms = 0
        self.answer: tuple[int, Any] | None = None
        self.told: tuple[int, Any] | None = None
        self.headers: dict[str, str] = {}
        self.time_asked = 0
        self.account_asked = 0
        self.permissions_asked = 0
        self.most_at_once = 0
        self._at_once = 0

    def _routes(self, router: web.UrlDispatcher) -> None:
        for path in ("/fapi/v1/time", "/api/v3/time"):
            router.add_get(path, self._time)
        for path in ("/fapi/v2/account", "/api/v3/account"):
            router.add_get(path, self._account)
        router.add_get("/sapi/v1/account/apiRestrictions", self._restrictions)

    def _binance(self) -> Binance:
        known = {
            key: BinanceKey(key, secret, self.permissions.get(key, TRADING))
            for key, secret in self.keys.items()
        }
        return Binance(known, lambda: int(time.time() * 1000) + self.ahead_ms)

    async def _time(self, request: web.Request) -> web.Response:
        self.time_asked += 1
        return await self._binance().time(request)

    async def _account(self, request: web.Request) -> web.Response:
        self.account_asked += 1
        if self.answer is not None:
            return _answer(*self.answer, self.headers)
        return await self._binance().account(request)

    async def _restrictions(self, request: web.Request) -> web.Response:
        self.permissions_asked += 1
        if self.told is not None:
            return _answer(*self.told, self.headers)
        return await self._binance().restrictions(request)

    @web.middleware
    async def _misbehave(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return await super()._misbehave(request, handler)
        finally:
            self._at_once -= 1


def _answer(status: int, body: Any, headers: Mapping[str, str]) -> web.Response:
    """Text and bytes as they are, all else as JSON."""
    elsewhere = {"Location": "/elsewhere"} if 300 <= status < 400 else {}
    if isinstance(body, bytes):
        return web.Response(status=status, body=body, headers={**elsewhere, **headers})
    return web.json_response(body, status=status, headers={**elsewhere, **headers})

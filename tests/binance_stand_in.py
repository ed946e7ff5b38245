"""Binance on 127.0.0.1: real HTTP, real signatures. It checks what the real one checks."""

import hashlib
import hmac
import time
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web
from stand_ins import StandIn


class BinanceStandIn(StandIn):
    """Binance's futures API: its clock, and the account behind a signed request.

    `keys` are the pairs it knows; `ahead_ms` is how far its clock is ahead of ours; `answer`, if
    set, is (status, body) instead of judging. `time_asked` and `account_asked` count by endpoint.
    """

    def __init__(self) -> None:
        super().__init__()
        self.keys = {"binance-key": "binance-secret"}
        self.ahead_ms = 0
        self.answer: tuple[int, Any] | None = None
        self.time_asked = 0
        self.account_asked = 0

    def _routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/fapi/v1/time", self._time)
        router.add_get("/fapi/v2/account", self._account)

    def _now_ms(self) -> int:
        return int(time.time() * 1000) + self.ahead_ms

    async def _time(self, _request: web.Request) -> web.Response:
        self.time_asked += 1
        return web.json_response({"serverTime": self._now_ms()})

    async def _account(self, request: web.Request) -> web.Response:
        self.account_asked += 1
        if self.answer is not None:
            status, body = self.answer
            headers = {"Location": "/elsewhere"} if 300 <= status < 400 else None
            return web.json_response(body, status=status, headers=headers)
        secret = self.keys.get(request.headers.get("X-MBX-APIKEY", ""))
        if secret is None:
            return _binance_refusal(401, -2015, "Invalid API-key, IP, or permissions for action.")
        signed, _, signature = request.raw_path.partition("?")[2].rpartition("&signature=")
        fields = parse_qs(signed, strict_parsing=True)
        behind_ms = self._now_ms() - int(fields["timestamp"][0])
        if not -1000 < behind_ms <= int(fields["recvWindow"][0]):
            return _binance_refusal(400, -1021, "Timestamp is outside of the recvWindow.")
        right = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(signature, right):
            return _binance_refusal(400, -1022, "Signature for this request is not valid.")
        return web.json_response({"canTrade": True, "assets": [], "positions": []})


def _binance_refusal(status: int, code: int, message: str) -> web.Response:
    return web.json_response({"code": code, "msg": message}, status=status)

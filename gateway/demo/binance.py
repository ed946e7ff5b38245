"""A stand-in for Binance's futures API: the server's time, and the account behind a signed request.

It checks what Binance checks, in its order and with its codes: the key header, the timestamp
within `recvWindow`, and the signature, which is HMAC-SHA256 of the query before it, in hex.
"""

import hashlib
import hmac
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs

from aiohttp import web

from gateway.demo.backend import json_response

ALPHABET = string.ascii_letters + string.digits
RECV_WINDOW_MS = 5000
MAX_RECV_WINDOW_MS = 60_000


@dataclass(frozen=True, slots=True)
class BinanceKey:
    """A key pair in Binance's form: 64 letters and digits each."""

    api_key: str
    api_secret: str

    @classmethod
    def new(cls) -> "BinanceKey":
        return cls(*("".join(secrets.choice(ALPHABET) for _ in range(64)) for _ in range(2)))


def refused(status: int, code: int, message: str) -> web.Response:
    return json_response({"code": code, "msg": message}, status)


class Binance:
    """Knows one key pair, and nobody else."""

    def __init__(self, key: BinanceKey, now_ms: Callable[[], int]) -> None:
        self._key = key
        self._now_ms = now_ms

    async def time(self, _request: web.Request) -> web.Response:
        return json_response({"serverTime": self._now_ms()})

    async def account(self, request: web.Request) -> web.Response:
        key = request.headers.get("X-MBX-APIKEY", "")
        if not key:
            return refused(401, -2014, "API-key format invalid.")
        if not hmac.compare_digest(key.encode(), self._key.api_key.encode()):
            return refused(401, -2015, "Invalid API-key, IP, or permissions for action.")
        return self._signed(request.raw_path.partition("?")[2])

    def _signed(self, query: str) -> web.Response:
        signed, _, signature = query.rpartition("&signature=")
        fields = parse_qs(signed)
        try:
            at_ms = int(fields["timestamp"][0])
            window_ms = int(fields.get("recvWindow", [str(RECV_WINDOW_MS)])[0])
        except (KeyError, ValueError):
            return refused(400, -1102, "Mandatory parameter 'timestamp' was not sent.")
        if not 0 < window_ms <= MAX_RECV_WINDOW_MS:
            return refused(400, -1131, "recvWindow must be less than 60000")
        ahead_ms = at_ms - self._now_ms()
        if ahead_ms >= 1000 or -ahead_ms > window_ms:
            return refused(400, -1021, "Timestamp for this request is outside of the recvWindow.")
        right = hmac.digest(self._key.api_secret.encode(), signed.encode(), hashlib.sha256).hex()
        if not hmac.compare_digest(signature.encode(), right.encode()):
            return refused(400, -1022, "Signature for this request is not valid.")
        return json_response(
            {
                "feeTier": 0,
                "canTrade": True,
                "canDeposit": True,
                "canWithdraw": False,
                "totalWalletBalance": "1000.00000000",
                "availableBalance": "1000.00000000",
                "assets": [{"asset": "USDT", "walletBalance": "1000.00000000"}],
                "positions": [],
            }
        )

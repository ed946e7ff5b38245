"""A stand-in for Binance: its clock, the account behind a signed request, and what a key may do.

It checks what Binance checks, in its order and with its codes: the key header, the timestamp
within `recvWindow`, and the signature, which is HMAC-SHA256 of the query before it, in hex.
"""

import hmac
import re
import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from aiohttp import web

from gateway.demo.backend import json_response

ALPHABET = string.ascii_letters + string.digits
RECV_WINDOW_MS = 5000
MAX_RECV_WINDOW_MS = 60_000
TRADING = frozenset({"enableReading", "enableFutures"})
# What `/sapi/v1/account/apiRestrictions` tells of.
WORDS = (
    "ipRestrict",
    "enableReading",
    "enableWithdrawals",
    "enableInternalTransfer",
    "enableMargin",
    "enableFutures",
    "permitsUniversalTransfer",
    "enableVanillaOptions",
    "enableSpotAndMarginTrading",
)

Signed = Callable[["BinanceKey"], web.Response]


@dataclass(frozen=True, slots=True)
class BinanceKey:
    """A key pair; `permissions` are those of WORDS that are true of it."""

    api_key: str
    api_secret: str = field(repr=False)
    permissions: frozenset[str] = TRADING

    @classmethod
    def new(cls) -> "BinanceKey":
        """In Binance's form: 64 letters and digits each."""
        key, secret = ("".join(secrets.choice(ALPHABET) for _ in range(64)) for _ in range(2))
        return cls(key, secret)


class Binance:
    """Knows the pairs in `keys`, by their api_key, and nobody else."""

    def __init__(self, keys: Mapping[str, BinanceKey], now_ms: Callable[[], int]) -> None:
        self._keys = keys
        self._now_ms = now_ms

    def routes(self) -> list[web.RouteDef]:
        return [
            *(web.get(path, self.time) for path in ("/fapi/v1/time", "/api/v3/time")),
            *(web.get(f"/fapi/v{version}/account", self.account) for version in (2, 3)),
            web.get("/api/v3/account", self.account),
            web.get("/sapi/v1/account/apiRestrictions", self.restrictions),
        ]

    async def time(self, _request: web.Request) -> web.Response:
        return json_response({"serverTime": self._now_ms()})

    async def account(self, request: web.Request) -> web.Response:
        return self._judged(request, _spot if request.path.startswith("/api/") else _futures)

    async def restrictions(self, request: web.Request) -> web.Response:
        return self._judged(request, _restrictions)

    def _judged(self, request: web.Request, answer: Signed) -> web.Response:
        sent = request.headers.getall("X-MBX-APIKEY", [])
        if len(sent) != 1 or not sent[0]:
            return _refused(401, -2014, "API-key format invalid.")
        key = self._keys.get(sent[0])
        if key is None or "enableReading" not in key.permissions:
            return _refused(401, -2015, "Invalid API-key, IP, or permissions for action.")
        signed, _, signature = request.raw_path.partition("?")[2].rpartition("&signature=")
        return self._complaint(signed, signature, key.api_secret) or answer(key)

    def _complaint(self, signed: str, signature: str, secret: str) -> web.Response | None:
        pairs = parse_qsl(signed, keep_blank_values=True)
        fields = dict(pairs)
        if len(fields) != len(pairs):
            return _refused(400, -1101, "Duplicate values for a parameter detected.")
        try:
            at_ms = int(fields["timestamp"])
            window_ms = int(fields.get("recvWindow", RECV_WINDOW_MS))
        except (KeyError, ValueError):
            return _refused(400, -1102, "Mandatory parameter 'timestamp' was not sent.")
        if not 0 < window_ms <= MAX_RECV_WINDOW_MS:
            return _refused(400, -1131, "recvWindow must be less than 60000")
        ahead_ms = at_ms - self._now_ms()
        if ahead_ms >= 1000 or -ahead_ms > window_ms:
            return _refused(400, -1021, "Timestamp for this request is outside of the recvWindow.")
        right = hmac.digest(secret.encode(), signed.encode(), "sha256")
        if not re.fullmatch("[0-9a-fA-F]{64}", signature) or not hmac.compare_digest(
            bytes.fromhex(signature), right
        ):
            return _refused(400, -1022, "Signature for this request is not valid.")
        return None


def _refused(status: int, code: int, message: str) -> web.Response:
    return json_response({"code": code, "msg": message}, status)


def _futures(_key: BinanceKey) -> web.Response:
    return json_response(
        {
            "feeTier": 0,
            # Of the account, whatever the key may do.
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": True,
            "totalWalletBalance": "1000.00000000",
            "availableBalance": "1000.00000000",
            "assets": [{"asset": "USDT", "walletBalance": "1000.00000000"}],
            "positions": [],
        }
    )


def _spot(_key: BinanceKey) -> web.Response:
    return json_response(
        {
            "canTrade": True,
            "canWithdraw": True,
            "canDeposit": True,
            "accountType": "SPOT",
            "balances": [{"asset": "USDT", "free": "1000.00000000", "locked": "0.00000000"}],
            "permissions": ["SPOT"],
        }
    )


def _restrictions(key: BinanceKey) -> web.Response:
    told = {word: word in key.permissions for word in WORDS}
    return json_response({"createTime": 1_767_225_600_000, **told})

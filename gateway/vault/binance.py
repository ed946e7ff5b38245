"""Does Binance take a key? Asked with a signed request for the account (USER_DATA security type).

The signature is HMAC-SHA256, in hex, of the very query that is sent. Binance refuses a request
whose timestamp is more than `recvWindow` off; then its clock is asked once and the difference
remembered. Outcomes are three: taken, refused, and "could not ask" (BinanceFailed). A ban, a
limit, a server error or an answer that is not Binance's says nothing about the key.
"""

import asyncio
import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from aiohttp import ClientError, ClientSession
from yarl import URL

from gateway.errors import BinanceFailed
from gateway.vault.encryption import Credentials

ACCOUNT_PATH = "/fapi/v2/account"
TIME_PATH = "/fapi/v1/time"
RECV_WINDOW_MS = 5000
MAX_ANSWER_BYTES = 4 * 1024 * 1024  # an account lists every symbol

TIMESTAMP_OUTSIDE_WINDOW = -1021
# Unauthorized, signature not valid, no such key, key malformed, key or address or permission wrong.
REFUSALS = frozenset({-1002, -1022, -2008, -2014, -2015})
LIMITED = frozenset({418, 429})


class Binance:
    """Asks Binance's futures API at `base_url`. `clock` is Unix seconds."""

    def __init__(
        self,
        session: ClientSession,
        base_url: str,
        timeout_seconds: float,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._session = session
        self._base_url = base_url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._ahead_ms = 0  # Binance's clock less ours

    async def takes(self, credentials: Credentials) -> bool:
        """Does Binance take this key? Raises BinanceFailed if it can't be asked."""
        if not sendable(credentials.api_key):
            return False  # Binance would not, and no header can carry it
        try:
            async with asyncio.timeout(self._timeout_seconds):
                status, answer = await self._account(credentials)
                if answer.get("code") == TIMESTAMP_OUTSIDE_WINDOW:
                    await self._learn_time()
                    status, answer = await self._account(credentials)
        except TimeoutError:
            raise BinanceFailed("timeout") from None
        except (ClientError, OSError):
            # The error would quote the URL, and with it the signature.
            raise BinanceFailed("connection failed") from None
        return _judged(status, answer)

    async def _account(self, credentials: Credentials) -> tuple[int, dict[str, Any]]:
        now_ms = int(self._clock() * 1000) + self._ahead_ms
        query = urlencode({"timestamp": now_ms, "recvWindow": RECV_WINDOW_MS})
        secret = credentials.api_secret.encode("utf-8", "surrogatepass")
        signature = hmac.digest(secret, query.encode(), "sha256").hex()
        return await self._get(
            f"{ACCOUNT_PATH}?{query}&signature={signature}", {"X-MBX-APIKEY": credentials.api_key}
        )

    async def _learn_time(self) -> None:
        _status, answer = await self._get(TIME_PATH, {})
        server_ms = answer.get("serverTime")
        if type(server_ms) is not int:
            raise BinanceFailed("unexpected answer")
        self._ahead_ms = server_ms - int(self._clock() * 1000)

    async def _get(self, target: str, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        url = URL(self._base_url + target, encoded=True)
        # A redirect would carry the key to wherever it points.
        async with self._session.get(url, headers=headers, allow_redirects=False) as response:
            if response.status in LIMITED:
                raise BinanceFailed("rate limit")
            if response.status >= 500:
                raise BinanceFailed(f"HTTP {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise BinanceFailed("unexpected answer")
            return response.status, _object(bytes(body))


def _object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`; empty if it is none, which no judgement takes for a yes."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _judged(status: int, answer: dict[str, Any]) -> bool:
    if status == 200:
        if "canTrade" in answer or "assets" in answer:
            return True
        raise BinanceFailed("unexpected answer")
    code = answer.get("code")
    if status == 401 or (400 <= status < 500 and type(code) is int and code in REFUSALS):
        return False
    if code == TIMESTAMP_OUTSIDE_WINDOW:
        raise BinanceFailed("timestamp")
    raise BinanceFailed(f"HTTP {status}")


def sendable(text: str) -> bool:
    """Can `text` be a Binance key or secret: visible ASCII, of a sane length?"""
    return 0 < len(text) <= 256 and text.isascii() and text.isprintable() and " " not in text

"""Does Binance take a key, and what may the key do? Asked with signed requests (USER_DATA).

The signature is HMAC-SHA256, in hex, of the very query that is sent. Binance refuses a request
whose timestamp is more than `recvWindow` off; then its clock is asked once and the difference
remembered. Outcomes are three: taken, refused, and "could not ask" (BinanceFailed). A ban, a
limit, a server error or an answer that is not Binance's says nothing about the key.

The account that takes a key tells of itself alone: its `canWithdraw` says whether the account may,
with whatever key. What this key may do is told by `/sapi/v1/account/apiRestrictions`, which only
spot's host has. If that can't be had, the permissions are unknown, and the verdict stands.
"""

import asyncio
import hmac
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aiohttp import ClientError, ClientResponse, ClientSession
from yarl import URL

from gateway.errors import BinanceFailed
from gateway.sections import FUTURES_URL, SPOT_URL, VaultSettings
from gateway.vault.encryption import Credentials
from gateway.vault.records import MAY_WITHDRAW
from gateway.vault.turns import LIMITED

# Of account and server time.
PATHS = {
    "futures": ("/fapi/v2/account", "/fapi/v1/time"),
    "spot": ("/api/v3/account", "/api/v3/time"),
}
PERMISSIONS_PATH = "/sapi/v1/account/apiRestrictions"
RECV_WINDOW_MS = 5000
MAX_ANSWER_BYTES = 4 * 1024 * 1024  # an account lists every symbol
MAX_PERMISSIONS = 32

TIMESTAMP_OUTSIDE_WINDOW = -1021
# Unauthorized, signature not valid, no such key, key malformed, key or address or permission wrong.
REFUSALS = frozenset({-1002, -1022, -2008, -2014, -2015})
# Statuses that ask for silence, with the seconds of it where Retry-After is missing: a ban is 2
# minutes at first, and 3 days at most.
LIMITS = {429: 60, 418: 120}
LONGEST_BAN_SECONDS = 3 * 86_400

_WORD = re.compile(r"[A-Za-z]{1,40}").fullmatch


@dataclass(frozen=True, slots=True)
class Judgement:
    """`permissions` are those words of Binance that are true of the key; None: unknown.

    `pause_seconds`: Binance wants to hear nothing for so long.
    """

    taken: bool
    permissions: tuple[str, ...] | None = None
    pause_seconds: int | None = None

    @property
    def can_withdraw(self) -> bool:
        return self.permissions is not None and MAY_WITHDRAW in self.permissions


class Binance:
    """Asks Binance as the settings say. `clock` is Unix seconds."""

    def __init__(
        self,
        session: ClientSession,
        settings: VaultSettings,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._session = session
        self._timeout_seconds = settings.timeout
        self._clock = clock
        self._ahead_ms = 0  # Binance's clock less ours
        base_url = settings.binance_url.rstrip("/")
        account, server_time = PATHS[settings.account]
        self._account_url, self._time_url = base_url + account, base_url + server_time
        told_at = settings.permissions_url or (SPOT_URL if base_url == FUTURES_URL else base_url)
        self._permissions_url = told_at.rstrip("/") + PERMISSIONS_PATH

    async def judge(self, credentials: Credentials) -> Judgement:
        """Within the timeout. Raises BinanceFailed if it can't be asked."""
        if not sendable(credentials.api_key):
            return Judgement(taken=False)  # Binance would not, and no header can carry it
        ends = asyncio.get_running_loop().time() + self._timeout_seconds
        if not _judged(*await self._signed(self._account_url, credentials, ends)):
            return Judgement(taken=False)
        try:
            status, answer = await self._signed(self._permissions_url, credentials, ends)
        except BinanceFailed as failed:
            return Judgement(taken=True, pause_seconds=failed.retry_after)
        return Judgement(taken=True, permissions=_permissions(answer) if status == 200 else None)

    async def _signed(
        self, url: str, credentials: Credentials, ends: float
    ) -> tuple[int, dict[str, Any]]:
        """Status and answer, by `ends` (loop time)."""
        try:
            async with asyncio.timeout_at(ends):
                status, answer = await self._ask(url, credentials)
                if answer.get("code") == TIMESTAMP_OUTSIDE_WINDOW:
                    await self._learn_time()
                    status, answer = await self._ask(url, credentials)
        except TimeoutError:
            raise BinanceFailed("timeout") from None
        except (ClientError, OSError):
            # The error would quote the URL, and with it the signature.
            raise BinanceFailed("connection failed") from None
        return status, answer

    async def _ask(self, url: str, credentials: Credentials) -> tuple[int, dict[str, Any]]:
        now_ms = int(self._clock() * 1000) + self._ahead_ms
        query = urlencode({"timestamp": now_ms, "recvWindow": RECV_WINDOW_MS})
        secret = credentials.api_secret.encode("utf-8", "surrogatepass")
        signature = hmac.digest(secret, query.encode(), "sha256").hex()
        return await self._get(
            f"{url}?{query}&signature={signature}", {"X-MBX-APIKEY": credentials.api_key}
        )

    async def _learn_time(self) -> None:
        asked_ms = int(self._clock() * 1000)
        _status, answer = await self._get(self._time_url, {})
        server_ms = answer.get("serverTime")
        if type(server_ms) is not int:
            raise BinanceFailed("unexpected answer")
        # It was read somewhere between question and answer.
        self._ahead_ms = server_ms - (asked_ms + int(self._clock() * 1000)) // 2

    async def _get(self, target: str, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        url = URL(target, encoded=True)
        # A redirect would carry the key to wherever it points.
        async with self._session.get(url, headers=headers, allow_redirects=False) as response:
            if response.status in LIMITS:
                raise BinanceFailed(LIMITED, retry_after=_silence(response))
            if response.status >= 500:
                raise BinanceFailed(f"HTTP {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise BinanceFailed("unexpected answer")
            return response.status, _object(bytes(body))


def _silence(response: ClientResponse) -> int:
    """The seconds that a 418 or 429 asks for."""
    given = response.headers.get("Retry-After", "")
    if given.isascii() and given.isdecimal() and len(given) < 10:
        return min(max(int(given), 1), LONGEST_BAN_SECONDS)
    return LIMITS[response.status]


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


def _permissions(answer: dict[str, Any]) -> tuple[str, ...] | None:
    if type(answer.get("enableWithdrawals")) is not bool:
        return None  # whatever this is, it says nothing of what matters most
    words = [name for name, value in answer.items() if value is True and _WORD(name)]
    return tuple(sorted(sorted(words, key=lambda word: word != MAY_WITHDRAW)[:MAX_PERMISSIONS]))


def sendable(text: str) -> bool:
    """Can `text` be a Binance key or secret: visible ASCII, of a sane length?"""
    return 0 < len(text) <= 256 and text.isascii() and text.isprintable() and " " not in text

"""The public keys of a provider, fetched when needed and kept while it is away.

Rules:
- Keys are good for the max-age that came with them (60 s to 24 h, an hour if none came). `sweep`,
  called some times a second, fetches them anew when a fifth of that is left, so no request waits;
  but only if they were used within the last such time. A gateway where nobody signs in asks nobody:
  the first who comes then waits for a fetch.
- One fetch serves all who wait for it. A key id that is not among the keys, and each failure, cause
  at most one more in 30 s.
- When a fetch fails the keys at hand stay in use past their age, and nobody waits for the next
  ones: a provider that is down does not lock people out. That ends `kept_for` seconds after it.
- Whoever can't be judged for want of a key is never called a fraud. `get` says None, "there is no
  such key", only on the word of a fetch that succeeded; otherwise it raises DependencyUnavailable.
  A key that the provider names, but that came spoiled, is one that can't be had.
"""

import asyncio
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from aiohttp import ClientResponse, ClientSession, ClientTimeout

from gateway.errors import DependencyUnavailable, Invalid
from gateway.jsonbody import parse_object

logger = logging.getLogger("gateway.identity")

MAX_ANSWER_BYTES = 64 * 1024  # real ones have 1 to 4 thousand; this many keys take 10 ms to read
MIN_AGE_SECONDS, DEFAULT_AGE_SECONDS, MAX_AGE_SECONDS = 60.0, 3600.0, 24 * 3600.0
REFETCH_SECONDS = 30.0  # between fetches for an unknown key id, or after a failure
FIRST_FETCH_SECONDS = 5.0  # after a failure, when there are no keys at all
REFRESHED_AT = 0.8  # of their age

_MAX_AGE = re.compile(r'(?:^|[\s,])max-age="?(\d+)', re.IGNORECASE)
_NOT_KEPT = re.compile(r"(?:^|[\s,])no-(?:cache|store)(?:$|[\s,=])", re.IGNORECASE)

Key = TypeVar("Key")


class UnusableKeysError(ValueError):
    """What came is not what the provider publishes its keys as."""


class ProviderKeys(Generic[Key]):
    """The keys at `url` by key id. `parse` makes them of the JSON object found there, with None for
    a key that can't be used, and raises ValueError if it is not what it should be. All times are
    seconds, those of `clock` monotonic.
    """

    def __init__(
        self,
        session: ClientSession,
        url: str,
        parse: Callable[[dict[str, Any]], Mapping[str, Key | None]],
        *,
        kept_for: float,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.timeout = timeout
        self._session = session
        self._url = url
        self._parse = parse
        self._kept_for = kept_for
        self._keys: Mapping[str, Key | None] = {}
        self._age = 0.0
        self._fetched_at = -math.inf  # the keys
        self._used_at = -math.inf
        self._next_fetch = -math.inf
        self._failed = False  # the last fetch
        self._fetch: asyncio.Task[None] | None = None

    async def get(self, key_id: str) -> Key | None:
        """The key of that id; None if the provider has none such.

        Raises DependencyUnavailable if that can't be known now. Does not suspend for a known key
        within its age, or while the provider is away.
        """
        now = self._used_at = self.clock()
        self._forget(now)
        key = self._keys.get(key_id)
        away = self._failed and now < self._next_fetch + REFETCH_SECONDS
        if key is not None and (away or now < self._fetched_at + self._age):
            return key
        if self._fetch is not None or now >= self._next_fetch:
            await self._fetch_shared()
            key = self._keys.get(key_id)
        if key is None and (self._failed or key_id in self._keys):
            wait = math.ceil(self._next_fetch - self.clock())
            raise DependencyUnavailable(reason="provider_unavailable", retry_after=max(1, wait))
        return key

    def sweep(self) -> None:
        """Begin to fetch the keys anew if their end comes near and they are in use."""
        now = self.clock()
        if (
            self._keys
            and now >= self._fetched_at + self._age * REFRESHED_AT
            and now >= self._next_fetch
            and now < self._used_at + self._age
        ):
            self._begin_fetch()

    @property
    def is_quiet(self) -> bool:
        """Is no fetch under way?"""
        return self._fetch is None

    async def close(self) -> None:
        """End a fetch under way."""
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.gather(self._fetch, return_exceptions=True)

    def _forget(self, now: float) -> None:
        if self._keys and now >= self._fetched_at + self._age + self._kept_for:
            self._keys = {}

    def _begin_fetch(self) -> asyncio.Task[None]:
        if self._fetch is None:
            self._fetch = asyncio.create_task(self._refresh())
        return self._fetch

    async def _fetch_shared(self) -> None:
        # A client that leaves must not take the fetch away from the others.
        await asyncio.shield(self._begin_fetch())

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(self.timeout):
                keys, age = await self._fetch_keys()
        except Exception as error:  # noqa: BLE001  # whatever it was, these are no new keys
            now = self.clock()
            self._forget(now)
            self._failed = True
            self._next_fetch = now + (REFETCH_SECONDS if self._keys else FIRST_FETCH_SECONDS)
            logger.warning("no keys from %s: %s", self._url, _cause(error))
        else:
            before = self._keys
            self._keys = {name: key or before.get(name) for name, key in keys.items()}
            self._age, self._failed = age, False
            self._fetched_at = self.clock()
            self._next_fetch = self._fetched_at + REFETCH_SECONDS
        finally:
            self._fetch = None

    async def _fetch_keys(self) -> tuple[Mapping[str, Key | None], float]:
        async with self._session.get(
            self._url,
            timeout=ClientTimeout(total=self.timeout),
            allow_redirects=False,
            # What was compressed could be any length once read.
            headers={"Accept-Encoding": "identity"},
            auto_decompress=False,
        ) as response:
            if response.status != 200:
                raise UnusableKeysError("not a 200")
            try:
                document = parse_object(await _bounded_body(response))
            except Invalid:
                raise UnusableKeysError("not a JSON object") from None
            keys = self._parse(document)
            if not any(keys.values()):
                raise UnusableKeysError("no keys")
            return keys, age_seconds(response)


def _cause(error: Exception) -> str:
    """Our own words where we have some; of foreign errors only the kind, not what they quote."""
    return str(error) if isinstance(error, UnusableKeysError) else type(error).__name__


async def _bounded_body(response: ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise UnusableKeysError("too long")
    return bytes(body)


def age_seconds(response: ClientResponse) -> float:
    """How long an answer may be used: its max-age less its Age (RFC 9111 §4.2), within bounds."""
    cache_control = ",".join(response.headers.getall("Cache-Control", []))
    if _NOT_KEPT.search(cache_control):
        return MIN_AGE_SECONDS
    directive = _MAX_AGE.search(cache_control)
    if directive is None:
        return DEFAULT_AGE_SECONDS
    age = response.headers.get("Age", "")
    # Ten digits are more than any bound, and no more work than one digit.
    left = int(directive[1][:10]) - (int(age[:10]) if age.isascii() and age.isdigit() else 0)
    return min(max(float(left), MIN_AGE_SECONDS), MAX_AGE_SECONDS)

"""The public keys of a provider, fetched when needed and kept while it is away.

Rules:
- One fetch serves all who wait for it, and none is made per request: known keys are good for the
  max-age that came with them (60 s to 24 h, an hour if none came), and a key id that is not among
  them causes at most one more fetch in 30 s.
- When a fetch fails the keys at hand stay in use, past their age: a provider that is down does not
  lock people out.
- Whoever can't be judged for want of a key is never called a fraud. `get` says None, "there is no
  such key", only on the word of a fetch that succeeded; otherwise it raises DependencyUnavailable.
"""

import asyncio
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout

from gateway.errors import DependencyUnavailable, Invalid
from gateway.jsonbody import parse_object

logger = logging.getLogger("gateway.identity")

FETCH_TIMEOUT_SECONDS = 5.0
MAX_ANSWER_BYTES = 1024 * 1024
MIN_AGE_SECONDS, DEFAULT_AGE_SECONDS, MAX_AGE_SECONDS = 60.0, 3600.0, 24 * 3600.0
REFETCH_SECONDS = 30.0  # between fetches for an unknown key id, or after a failure
FIRST_FETCH_SECONDS = 5.0  # after a failure, when there are no keys at all

_MAX_AGE = re.compile(r'(?:^|[\s,])max-age="?(\d+)', re.IGNORECASE)
_NOT_KEPT = re.compile(r"(?:^|[\s,])no-(?:cache|store)(?:$|[\s,=])", re.IGNORECASE)

Key = TypeVar("Key")


class UnusableKeysError(ValueError):
    """What came is not what the provider publishes its keys as."""


class ProviderKeys(Generic[Key]):
    """The keys at `url` by key id. `parse` makes them of the JSON object found there, and raises
    ValueError if that is not what it should be; `clock` is monotonic seconds.
    """

    def __init__(
        self,
        session: ClientSession,
        url: str,
        parse: Callable[[dict[str, Any]], Mapping[str, Key]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._url = url
        self._parse = parse
        self._clock = clock
        self._keys: Mapping[str, Key] = {}
        self._fresh_until = -math.inf
        self._next_fetch = -math.inf
        self._failed = False  # the last fetch
        self._fetch: asyncio.Task[None] | None = None

    async def get(self, key_id: str) -> Key | None:
        """The key of that id; None if the provider has none such.

        Raises DependencyUnavailable if that can't be known now. Does not suspend for a known key
        within its age.
        """
        now = self._clock()
        key = self._keys.get(key_id)
        if key is not None and now < self._fresh_until:
            return key
        if self._fetch is not None or now >= self._next_fetch:
            await self._fetch_shared()
            key = self._keys.get(key_id)
        if key is None and self._failed:
            wait = math.ceil(self._next_fetch - self._clock())
            raise DependencyUnavailable(reason="provider_unavailable", retry_after=max(1, wait))
        return key

    async def close(self) -> None:
        """End a fetch under way."""
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.gather(self._fetch, return_exceptions=True)

    async def _fetch_shared(self) -> None:
        if self._fetch is None:
            self._fetch = asyncio.create_task(self._refresh())
        # A client that leaves must not take the fetch away from the others.
        await asyncio.shield(self._fetch)

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                self._keys, age = await self._fetch_keys()
        except (ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            self._failed = True
            self._next_fetch = self._clock() + (
                REFETCH_SECONDS if self._keys else FIRST_FETCH_SECONDS
            )
            logger.warning("no keys from %s: %s", self._url, _cause(error))
        else:
            self._failed = False
            now = self._clock()
            self._fresh_until = now + age
            self._next_fetch = now + REFETCH_SECONDS
        finally:
            self._fetch = None

    async def _fetch_keys(self) -> tuple[Mapping[str, Key], float]:
        timeout = ClientTimeout(total=FETCH_TIMEOUT_SECONDS)
        async with self._session.get(self._url, timeout=timeout, allow_redirects=False) as response:
            if response.status != 200:
                raise UnusableKeysError("not a 200")
            try:
                document = parse_object(await _bounded_body(response))
            except Invalid:
                raise UnusableKeysError("not a JSON object") from None
            keys = self._parse(document)
            if not keys:
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

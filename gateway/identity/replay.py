"""A provider's token signs in once, where `sign_in.replay` is `refuse`.

What is kept in Redis, until the token is past its time, is the sha256 of what the provider signed:
of one ECDSA signature anybody can make another that is good, and of the token with it.
"""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256

from gateway.errors import StoreUnavailable
from gateway.identity.provider import Refusal, refused
from gateway.identity.verification import CLOCK_SKEW_SECONDS
from gateway.store.redis import Store


class SignedInTokens:
    """The tokens that have signed in. `now` is Unix seconds."""

    def __init__(self, store: Store, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now

    async def claim(self, token: str, expires_at: float) -> None:
        """From now on this verified token has signed in.

        Raises Unauthenticated if it has before, StoreUnavailable if nobody knows.
        """
        left = expires_at + CLOCK_SKEW_SECONDS - self._now()
        async with self._store.guard():
            claimed = await self._store.client.set(
                self._name(token), "1", px=max(1, math.ceil(left * 1000)), nx=True
            )
        if not claimed:
            raise refused(Refusal.REPLAYED)

    async def release(self, token: str) -> None:
        """Its sign-in came to nothing: it may try again, if Redis can be told."""
        with suppress(StoreUnavailable):
            async with self._store.guard():
                await self._store.client.delete(self._name(token))

    def _name(self, token: str) -> str:
        signed = token.rpartition(".")[0]
        return self._store.key("signed-in", sha256(signed.encode()).hexdigest())

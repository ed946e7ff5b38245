"""How many connections there are, in all and per client address, and which are too many.

Rules:
- A connection over a bound is closed at once, without an answer. An answer would have to be
  lingered for until its client has read it, which keeps the very connections that are too many;
  a client takes it as a failure to connect, and may try another gateway.
- It is counted as a refusal with its reason, and told in the log at most once a minute per reason:
  who floods connections must not flood the log.
- Peers that are trusted proxies carry many clients, and have no bound of their own.
- An address is known as long as it has a connection, so the memory is bounded by those.
"""

import asyncio
import logging
from collections.abc import Callable

from gateway.limits import ClientAddresses
from gateway.limits.address import canonical
from gateway.sections import BoundsSettings

logger = logging.getLogger("gateway.listener")

TELL_SECONDS = 60.0
NO_BOUND = ""  # the bucket of those who have no bound of their own


class Census:
    """The connections of one worker. Each `arrive`s, then `settle`s, and `leave`s once."""

    def __init__(
        self,
        bounds: BoundsSettings,
        addresses: ClientAddresses,
        count: Callable[[str], None],
    ) -> None:
        """`count` takes the reason of each refusal."""
        self._bounds = bounds
        self._addresses = addresses
        self._count = count
        self._clock = asyncio.get_running_loop().time
        self.total = 0
        self.by_bucket: dict[str, int] = {}
        self._told: dict[str, float] = {}  # when, by reason
        self._untold: dict[str, int] = {}

    def use(self, bounds: BoundsSettings, addresses: ClientAddresses) -> None:
        """Judge by these from now on; who is there already may stay."""
        self._bounds = bounds
        self._addresses = addresses

    def arrive(self) -> bool:
        """Is there room for one more? Whose it is may not be known yet."""
        if self.total >= self._bounds.connections:
            self.refuse("too_many_connections", f"bounds.connections is {self.total}")
            return False
        self.total += 1
        return True

    def settle(self, address: str) -> str | None:
        """The bucket in which a connection of `address` is counted; None: its bound is reached."""
        address = canonical(address) or address
        if self._addresses.trusts(address):
            return NO_BOUND
        bucket = self._addresses.bucket(address)
        count = self.by_bucket.get(bucket, 0)
        if count >= self._bounds.connections_per_ip:
            self.refuse(
                "too_many_connections_per_ip",
                f"bounds.connections_per_ip is {count}, and {bucket} has them",
            )
            return None
        self.by_bucket[bucket] = count + 1
        return bucket

    def leave(self, bucket: str | None) -> None:
        """One is gone; `bucket` is what `settle` said, or None if it never settled."""
        self.total -= 1
        if bucket:
            left = self.by_bucket[bucket] - 1
            if left:
                self.by_bucket[bucket] = left
            else:
                del self.by_bucket[bucket]

    def refuse(self, reason: str, why: str) -> None:
        """Count a connection that is refused before any request on it, and tell of it."""
        self._count(reason)
        now = self._clock()
        untold = self._untold.get(reason, 0)
        if now - self._told.get(reason, -TELL_SECONDS) < TELL_SECONDS:
            self._untold[reason] = untold + 1
            return
        self._told[reason], self._untold[reason] = now, 0
        more = f"; {untold} more since it was told last" if untold else ""
        logger.warning("a connection was refused (%s): %s%s", reason, why, more)

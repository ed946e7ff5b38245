"""Which address gets the next request.

Two addresses are drawn at random, each by its weight, and the one with less under way for its
weight is taken; at a tie the one drawn first, so that at low load too the weights hold. Against
the least loaded of all: many workers that choose so don't all turn to the same one, and nothing
grows with the number of addresses.

Available are those that their health checks find well and that are not ejected. When ejection has
left none, the ejected ones are used after all; those that are down never are. An address that
returned takes a share that grows with time (*slow start*): its caches and pools are cold.
"""

import random
from bisect import bisect
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import accumulate

from gateway.proxy.target import Address

LEAST_SHARE = 0.1  # of its weight, of an address that has just returned


class Balancer:
    """Chooses; `update` tells it what there is to choose from."""

    __slots__ = ("_available", "_draw", "_ramping", "_slow_start", "_sums")

    def __init__(
        self,
        slow_start: float,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._slow_start = slow_start  # seconds
        self._draw = draw  # from 0 to below 1
        self._available: Sequence[Address] = ()
        self._sums: list[float] = []  # of the weights up to each
        self._ramping = False

    def update(self, addresses: Iterable[Address], now: float) -> None:
        """Take `addresses` as they are at loop time `now`."""
        well = [address for address in addresses if address.healthy]
        self._available = [a for a in well if a.ejected_until is None] or well
        self._ramping = False
        for address in self._available:
            address.weight = address.target.weight * self._share(address, now)
        self._sums = list(accumulate(address.weight for address in self._available))

    def ramp(self, now: float) -> None:
        """Let shares grow; costs nothing while none has to."""
        if self._ramping:
            self.update(self._available, now)

    def _share(self, address: Address, now: float) -> float:
        if address.returned_at is None or not self._slow_start:
            return 1.0
        share = (now - address.returned_at) / self._slow_start
        if share >= 1:
            return 1.0
        self._ramping = True
        return max(LEAST_SHARE, share)

    def choose(self) -> Address | None:
        """The address for the next request; None: there is none."""
        available = self._available
        if len(available) == 1:
            return available[0]
        return _better(available, self._sums, self._draw) if available else None

    def choose_other(self, tried: Collection[Address]) -> Address | None:
        """The same among those that were not tried; None: there is no other."""
        others = [address for address in self._available if address not in tried]
        sums = list(accumulate(address.weight for address in others))
        return _better(others, sums, self._draw) if others else None


def _better(
    addresses: Sequence[Address], sums: Sequence[float], draw: Callable[[], float]
) -> Address:
    """The better of two different ones. `sums` are those of the weights."""
    last = len(addresses) - 1
    if not last:
        return addresses[0]
    first = bisect(sums, draw() * sums[-1], 0, last)
    one = addresses[first]
    spot = draw() * (sums[-1] - one.weight)
    if spot >= sums[first] - one.weight:  # step over the first one's part
        spot += one.weight
    second = bisect(sums, spot, 0, last)
    if second == first:  # by rounding
        second = (first + 1) % len(addresses)
    other = addresses[second]
    return other if other.outstanding * one.weight < one.outstanding * other.weight else one

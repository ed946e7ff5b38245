"""What a limiter keeps in mind: who waits, what it may admit on its own, what it has refused."""

import asyncio
from dataclasses import dataclass
from typing import NamedTuple

from gateway.limits.courier import Question
from gateway.limits.policy import Decision


@dataclass(slots=True)
class Reservation:
    """What this worker may admit on its own. `granted_at` is Redis's time, `ends` this worker's."""

    granted_at: int
    size: int
    ends: float
    remaining: int
    reset: int
    used: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A "no" to `cost` or more that lasts until `ends`; after `trusted_until` it is looked up."""

    blocked: bool
    ends: float
    trusted_until: float
    cost: int


class Waiter(NamedTuple):
    """A request that waits for Redis, not beyond `patience_ends`."""

    answer: asyncio.Future[Decision | None]
    cost: int
    patience_ends: float


@dataclass(slots=True)
class WindowQuestion(Question):
    """Who waits for the answer about a bucket."""

    bucket: str
    waiters: list[Waiter]


def settle(waiter: Waiter, decision: Decision | None) -> None:
    """Answer a request, unless its client has left; None: there is no answer."""
    if not waiter.answer.done():
        waiter.answer.set_result(decision)

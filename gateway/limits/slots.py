"""At most so many requests under way at once, over all workers and gateways.

Rules: how many each worker has stands in Redis (slots.lua), so who comes asks Redis, in the call
that all policies share; only what this worker knows to be full by itself is refused without. A
worker tells of an end at once, but the news may come after the client's next request, which then
asks once more after `GRACE_SECONDS` before it is refused. What is under way is told again every
`RENEW_SECONDS`; of a worker that dies it counts for `LEASE_SECONDS` more.

Without Redis it decides as its caller says, or as it was made: `local`: this worker's share of the
limit; `allow`: everyone; `deny`: StoreUnavailable. All that is under way counts when Redis is back.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.errors import StoreUnavailable
from gateway.limits.courier import Courier, Question
from gateway.limits.limiter import EXCEEDED
from gateway.limits.policy import Counts, Decision, Policy
from gateway.sections import WhenStoreIsDown
from gateway.store.redis import Store

GRACE_SECONDS = 0.02
RENEW_SECONDS = 1.0
LEASE_SECONDS = 5.0
RETRY_AFTER_SECONDS = 1
UNTOLD_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Waiter:
    """A request that waits for Redis; `last`: the next answer is final."""

    answer: asyncio.Future[Decision | None]
    last: bool


@dataclass(slots=True)
class SlotQuestion(Question):
    """Who waits for the answer about a bucket."""

    bucket: str
    waiters: list[Waiter]


class Slots:
    """One policy whose window is `concurrent`, on one store, in one event loop.

    Whoever is admitted by `admit` must be let go by `release`. `share` tells how many workers
    divide the limit among them while Redis is away.
    """

    def __init__(
        self,
        policy: Policy,
        store: Store,
        when_store_is_down: WhenStoreIsDown = "local",
        *,
        share: Callable[[], int] = lambda: 1,
        courier: Courier | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy = policy
        self.counts = Counts()
        self.courier = courier or Courier(store, clock)
        self._store = store
        self._when_store_is_down = when_store_is_down
        self._share = share
        self._clock = clock
        self._key = store.key("limit", policy.name, "")
        self._worker = secrets.randbits(32)
        self._held: dict[str, int] = {}
        self._waiting: dict[str, list[Waiter]] = {}
        self._again: dict[str, list[Waiter]] = {}
        # Where Redis does not know yet how many are under way: to be told now, and with the rest.
        self._ended: set[str] = set()
        self._untold: set[str] = set()
        self._renew_at = 0.0

    async def admit(self, bucket: str, mode: WhenStoreIsDown | None = None) -> Decision:
        """Take a slot, if there is one. Raises StoreUnavailable when Redis is away, for `deny`."""
        decision = await self._ask(bucket) if self._store.takes_writes else None
        if decision is None:
            decision = self._decide_without_store(bucket, mode or self._when_store_is_down)
        return decision

    async def _ask(self, bucket: str) -> Decision | None:
        if self._held.get(bucket, 0) >= self.policy.requests:
            return self._refuse()
        answer: asyncio.Future[Decision | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(bucket, []).append(Waiter(answer, last=False))
        self.courier.depart(self)
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled():
                decision = answer.result()
                if decision is not None and decision.admitted:
                    self.release(bucket)
            raise

    def release(self, bucket: str) -> None:
        """An admitted request has ended."""
        held = self._held[bucket] - 1
        if held:
            self._held[bucket] = held
        else:
            del self._held[bucket]
        if self._store.takes_writes:
            self._ended.add(bucket)
            self.courier.depart(self)
        else:
            self._tell_later(bucket)

    async def close(self) -> None:
        """Tell what is under way. It is told again until it has ended."""
        await self.courier.settle(self)

    def _admit(self, bucket: str, remaining: int) -> Decision:
        if not self._held:
            self._renew_at = self._clock() + RENEW_SECONDS
            self.courier.lent(self)
        self._held[bucket] = self._held.get(bucket, 0) + 1
        self.counts.admitted += 1
        return Decision(self.policy, True, remaining, 0, False, 0)

    def _tell_later(self, bucket: str) -> None:
        if len(self._untold) < UNTOLD_KEPT:  # Redis learns of the others when their lease ends
            self._untold.add(bucket)
            self.courier.lent(self)

    def _refuse(self) -> Decision:
        self.counts.refused += 1
        return Decision(self.policy, False, 0, 0, False, RETRY_AFTER_SECONDS)

    def _decide_without_store(self, bucket: str, mode: WhenStoreIsDown) -> Decision:
        self.counts.degraded += 1
        if mode == "deny":
            raise StoreUnavailable
        held = self._held.get(bucket, 0)
        share = max(1, self.policy.requests // max(1, self._share()))
        if mode == "local" and held >= share:
            return self._refuse()
        return self._admit(bucket, max(0, share - held - 1))

    # From here on: what the courier asks of it.

    @property
    def constants(self) -> tuple[int | str, ...]:
        return self.policy.requests, self.policy.window, round(LEASE_SECONDS * 1000), *[0] * 5

    @property
    def lease_keys(self) -> tuple[str, ...]:
        return ()

    def leased(self, sent_at: float, at: int, marks: Sequence[str | int] | None) -> None:
        """Of no interest: nothing is lent."""

    @property
    def lent_until(self) -> float | None:
        return self._renew_at if self._held or self._untold else None

    def questions(self) -> list[Question]:
        """One for each bucket that somebody waits for, or of which there is something to tell."""
        now = self._clock()
        renews = now >= self._renew_at
        if renews:
            self._renew_at = now + RENEW_SECONDS
        if not self._store.takes_writes and not self._waiting:
            return []
        buckets = dict.fromkeys([*self._waiting, *self._ended])
        if renews:
            buckets |= dict.fromkeys([*self._held, *self._untold])
            self._untold.clear()
        waiting, self._waiting = self._waiting, {}
        self._ended.clear()
        return [self._question(bucket, waiting.get(bucket, [])) for bucket in buckets]

    def _question(self, bucket: str, waiters: list[Waiter]) -> SlotQuestion:
        return SlotQuestion(
            asker=self,
            keys=(f"{self._key}{{{bucket or '-'}}}",),
            asked=len(waiters),
            weight=1,
            granted_at=self._worker,
            size=0,
            used=self._held.get(bucket, 0),
            bucket=bucket,
            waiters=waiters,
        )

    def take(self, question: Question, sent_at: float, answer: Sequence[int]) -> None:  # noqa: ARG002  # nothing here ends by time
        assert isinstance(question, SlotQuestion)
        admitted, verdict, remaining, *_ = answer
        bucket = question.bucket
        for waiter in question.waiters[:admitted]:
            if waiter.answer.done():  # its client has left
                self._ended.add(bucket)
                self.courier.depart(self)
            else:
                waiter.answer.set_result(self._admit(bucket, remaining))
        for waiter in question.waiters[admitted:]:
            if waiter.answer.done():
                continue
            if waiter.last or verdict != EXCEEDED:
                waiter.answer.set_result(self._refuse())
            else:
                again = Waiter(waiter.answer, last=True)
                self._again.setdefault(bucket, []).append(again)
                self.courier.undecided(self, GRACE_SECONDS)

    def fail(self, question: Question) -> None:
        assert isinstance(question, SlotQuestion)
        self._tell_later(question.bucket)
        for waiter in question.waiters:
            if not waiter.answer.done():
                waiter.answer.set_result(None)

    def ask_again(self) -> None:
        again, self._again = self._again, {}
        for bucket, waiters in again.items():
            self._waiting[bucket] = waiters + self._waiting.get(bucket, [])
        if again:
            self.courier.depart(self)

"""Decides for one worker whether a request is within a policy, exactly, with few calls to Redis.

The windows are in Redis and on Redis's clock (window.lua says how they stay exact). A request
waits for Redis only when the answer could be "no":

- What one turn of the event loop brings, and all that comes while a call is under way, goes to
  Redis in one call. There is one call at a time.
- Far from the limit (half of it used at most), a busy bucket is granted a *reservation*: this
  worker admits some requests on its own, for a moment that ends before Redis believes it does (it
  is measured from before the call was sent). Then it is given back: what was used is counted, the
  rest is free again. While it is out, it counts in full.
- A refusal that is known to last (a block, or a full window) is remembered and repeated for
  `REFUSAL_TRUSTED_SECONDS`; then Redis is asked again. So a blocked client costs Redis at most one
  look a second and worker, and an unblocked one is refused for no longer than that.

What is promised: never more than `requests` admitted in any window, nobody refused who has not
exceeded that, whatever workers and gateways do at the same time, to the millisecond of Redis's
clock. What is left open: near the limit a request can wait until it is certain (some milliseconds;
after `PATIENCE_SECONDS` it is decided as if Redis were away). A worker that dies, or
stands still for `FORGET_SECONDS`, takes its reservations along: they count as not used (until it
comes back and says otherwise). And a call that failed may have been counted nevertheless.

Without Redis, as `when_store_is_down` says: `local`: this worker's own windows (local.py);
`allow`: everyone; `deny`: StoreUnavailable. No request waits longer than the store's timeout.

Keys: `{prefix}:ip:{bucket}` and `{prefix}:ip:block:{bucket}` for the policy called "ip", for any
other `{prefix}:ip:{name}:{bucket}` and so on. Both expire by themselves.
"""

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from gateway.errors import StoreUnavailable
from gateway.limits.address import ClientAddresses
from gateway.limits.blocks import Blocked, blocked_now, lift
from gateway.limits.local import LocalWindows
from gateway.limits.policy import Counts, Decision, Policy
from gateway.sections import ClientIpSettings
from gateway.store.redis import Store

logger = logging.getLogger("gateway.limits")

WhenStoreIsDown = Literal["local", "allow", "deny"]

CLOCK = resources.files(__package__).joinpath("clock.lua").read_text()
WINDOW = resources.files(__package__).joinpath("window.lua").read_text()
ADMITTED, EXCEEDED, UNDECIDED, BLOCKED = range(4)  # verdicts of window.lua

RESERVED_SHARE = 64  # a reservation is this part of the limit,
RESERVED_MOST = 256  # and never more requests than this
RESERVED_SECONDS = 0.05
FORGET_SECONDS = 1.0
RETRY_SECONDS = 0.005
PATIENCE_SECONDS = 1.0
REFUSAL_TRUSTED_SECONDS = 1.0
BUCKETS_A_CALL = 500  # Redis serves nobody else meanwhile: some 2 ms
RESERVATIONS_KEPT = 10_000
REFUSALS_KEPT = 100_000


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
    """A "no" that lasts until `ends`; after `trusted_until` it must be looked up again."""

    blocked: bool
    ends: float
    trusted_until: float


@dataclass(frozen=True, slots=True)
class Waiter:
    """A request that waits for Redis, not beyond `patience_ends`."""

    answer: asyncio.Future[Decision]
    patience_ends: float


@dataclass(slots=True)
class Question:
    """What one call asks about one bucket, and the reservation that it gives back."""

    bucket: str
    waiters: list[Waiter]
    returned: Reservation | None


class Limiter:
    """One policy on one store, in one event loop.

    `share` is how many workers divide the limit among them while Redis is away.
    """

    def __init__(
        self,
        policy: Policy,
        store: Store,
        when_store_is_down: WhenStoreIsDown = "local",
        *,
        share: int = 1,
        addresses: ClientAddresses | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy = policy
        self.counts = Counts()
        self._store = store
        self._when_store_is_down = when_store_is_down
        self._addresses = addresses or ClientAddresses(ClientIpSettings())
        self._clock = clock
        self._script = store.script(CLOCK + WINDOW)
        space = ("ip",) if policy.name == "ip" else ("ip", policy.name)
        self._window_key = store.key(*space, "")
        self._block_key = store.key(*space, "block", "")
        self._reserved = min(policy.requests // RESERVED_SHARE, RESERVED_MOST)
        self._constants = (policy.requests, policy.window * 1000, policy.block * 1000)
        self._local = LocalWindows(policy, share)
        self._waiting: dict[str, list[Waiter]] = {}
        self._undecided: dict[str, list[Waiter]] = {}
        self._reservations: OrderedDict[str, Reservation] = OrderedDict()  # the oldest first
        self._refusals: OrderedDict[str, Refusal] = OrderedDict()
        self._flight: asyncio.Task[None] | None = None
        self._asking_again: asyncio.TimerHandle | None = None
        self._giving_back: asyncio.TimerHandle | None = None

    async def admit(self, bucket: str) -> Decision:
        """Count one request and decide on it. Doesn't suspend when `known` has the answer.

        Raises StoreUnavailable when Redis is away and that means `deny`.
        """
        decision = self.known(bucket)
        if decision is None:
            decision = await self._ask(bucket)
        return decision

    def known(self, bucket: str) -> Decision | None:
        """The decision on one request, counted, if it needs no Redis. Raises as `admit`."""
        reservation = self._reservations.get(bucket)
        if reservation is not None and reservation.used < reservation.size:
            if self._clock() < reservation.ends:
                return self._admit_reserved(reservation)
            return None
        if bucket in self._refusals:
            now = self._clock()
            refusal = self._refusals[bucket]
            if now < refusal.trusted_until:
                return self._refuse(refusal, now)
        if not self._store.available:
            return self._decide_without_store(bucket)
        return None

    async def close(self) -> None:
        """Give back what is reserved. Requests may still come, and be served."""
        for reservation in self._reservations.values():
            reservation.ends = 0.0
        self._depart()
        if self._flight is not None:
            await self._flight
        if self._giving_back is not None:
            self._giving_back.cancel()
            self._giving_back = None

    def _admit_reserved(self, reservation: Reservation) -> Decision:
        reservation.used += 1
        self.counts.admitted += 1
        remaining = reservation.remaining - reservation.used
        return Decision(self.policy, True, remaining, reservation.reset, False, 0)

    def _refuse(self, refusal: Refusal, now: float) -> Decision:
        seconds = max(1, math.ceil(refusal.ends - now))
        if refusal.blocked:
            self.counts.blocked += 1
        else:
            self.counts.refused += 1
        reset = min(seconds, self.policy.window)
        return Decision(self.policy, False, 0, reset, refusal.blocked, seconds)

    def _decide_without_store(self, bucket: str) -> Decision:
        if self._when_store_is_down == "deny":
            raise StoreUnavailable
        self.counts.degraded += 1
        if self._when_store_is_down == "allow":
            self.counts.admitted += 1
            return Decision(self.policy, True, self.policy.requests, 0, False, 0)
        now = self._clock()
        refusal = self._refusals.get(bucket)
        if refusal is not None and now < refusal.ends:
            return self._refuse(refusal, now)
        decision = self._local.admit(bucket, now)
        if decision.admitted:
            self.counts.admitted += 1
        elif decision.blocked:
            self.counts.blocked += 1
        else:
            self.counts.refused += 1
        return decision

    # From here on: the calls to Redis.

    def _ask(self, bucket: str) -> asyncio.Future[Decision]:
        answer: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        waiter = Waiter(answer, self._clock() + PATIENCE_SECONDS)
        self._waiting.setdefault(bucket, []).append(waiter)
        self._depart()
        return answer

    def _ask_again(self) -> None:
        """Put the undecided before those who came after them."""
        self._asking_again = None
        now = self._clock()
        undecided, self._undecided = self._undecided, {}
        for bucket, waiters in undecided.items():
            patient = []
            for waiter in waiters:
                if now < waiter.patience_ends:
                    patient.append(waiter)
                else:
                    self._answer_without_store(bucket, waiter)
            if patient:
                self._waiting[bucket] = patient + self._waiting.get(bucket, [])
                self._depart()

    def _depart(self) -> None:
        """Send what there is, once this turn of the event loop is over."""
        if self._flight is None:
            self._flight = asyncio.get_running_loop().create_task(self._fly())

    async def _fly(self) -> None:
        questions: list[Question] = []
        try:
            while questions := self._questions():
                for start in range(0, len(questions), BUCKETS_A_CALL):
                    await self._send(questions[start : start + BUCKETS_A_CALL])
        except StoreUnavailable:
            # Whoever came meanwhile has waited for the same silence.
            questions += self._questions()
        except Exception:
            logger.exception("policy %s: a batch failed", self.policy.name)
            questions += self._questions()
        finally:
            self._flight = None
            for question in questions:
                for waiter in question.waiters:
                    self._answer_without_store(question.bucket, waiter)
        self._give_back_later()

    def _questions(self) -> list[Question]:
        """One for each bucket that somebody waits for, or whose reservation has ended."""
        now = self._clock()
        questions = []
        waiting, self._waiting = self._waiting, {}
        for bucket, waiters in waiting.items():
            reservation = self._reservations.get(bucket)
            served = 0
            if reservation is not None and now < reservation.ends:
                served = reservation.size - reservation.used
                for waiter in waiters[:served]:
                    settle(waiter, self._admit_reserved(reservation))
            if served < len(waiters):
                self._reservations.pop(bucket, None)
                questions.append(Question(bucket, waiters[served:], reservation))
        while self._reservations:
            bucket, reservation = next(iter(self._reservations.items()))
            if now < reservation.ends:
                break
            del self._reservations[bucket]
            questions.append(Question(bucket, [], reservation))
        return questions

    async def _send(self, questions: Sequence[Question]) -> None:
        sent_at = self._clock()
        keys: list[str] = []
        room = len(self._reservations) + len(questions) <= RESERVATIONS_KEPT
        arguments: list[int] = [
            *self._constants,
            self._reserved if room else 0,
            round(RESERVED_SECONDS * 1000),
            round(FORGET_SECONDS * 1000),
        ]
        for question in questions:
            keys.append(self._window_key + question.bucket)
            keys.append(self._block_key + question.bucket)
            given = question.returned
            if given is None:
                arguments += (len(question.waiters), 0, 0, 0)
            else:
                arguments += (len(question.waiters), given.granted_at, given.size, given.used)
        self.counts.batches += 1
        async with self._store.guard():
            reply = await self._script(keys=keys, args=arguments)
        for at, question in enumerate(questions):
            self._take_answer(question, sent_at, reply[6 * at : 6 * at + 6])

    def _take_answer(self, question: Question, sent_at: float, answer: Sequence[int]) -> None:
        admitted, verdict, remaining, wait_ms, reserved, granted_at = answer
        bucket, waiters = question.bucket, question.waiters
        reset = max(0, min(math.ceil(wait_ms / 1000), self.policy.window))
        self.counts.admitted += admitted
        for at, waiter in enumerate(waiters[:admitted], 1):
            left = remaining + admitted - at
            settle(waiter, Decision(self.policy, True, left, reset, False, 0))
        if reserved:
            ends = sent_at + RESERVED_SECONDS
            self._reservations[bucket] = Reservation(granted_at, reserved, ends, remaining, reset)
        others = waiters[admitted:]
        if verdict == UNDECIDED:
            self._undecided.setdefault(bucket, []).extend(others)
            if self._asking_again is None:
                loop = asyncio.get_running_loop()
                self._asking_again = loop.call_later(RETRY_SECONDS, self._ask_again)
        elif verdict in (EXCEEDED, BLOCKED):
            self._refuse_all(bucket, others, sent_at, wait_ms / 1000, verdict)
        else:
            self._refusals.pop(bucket, None)
        waiters.clear()

    def _refuse_all(
        self, bucket: str, waiters: list[Waiter], sent_at: float, seconds: float, verdict: int
    ) -> None:
        now = self._clock()
        trusted_until = sent_at + min(seconds, REFUSAL_TRUSTED_SECONDS)
        blocked = verdict == BLOCKED or self.policy.block > 0
        refusal = Refusal(blocked, sent_at + seconds, trusted_until)
        first = Refusal(verdict == BLOCKED, refusal.ends, trusted_until)
        for at, waiter in enumerate(waiters):
            settle(waiter, self._refuse(refusal if at else first, now))
        self._refusals.pop(bucket, None)
        self._refusals[bucket] = refusal
        if len(self._refusals) > REFUSALS_KEPT:
            self._refusals.popitem(last=False)

    def _answer_without_store(self, bucket: str, waiter: Waiter) -> None:
        if waiter.answer.done():
            return
        try:
            settle(waiter, self._decide_without_store(bucket))
        except StoreUnavailable as error:
            waiter.answer.set_exception(error)

    def _give_back_later(self) -> None:
        if self._reservations and self._giving_back is None:
            first = next(iter(self._reservations.values()))
            loop = asyncio.get_running_loop()
            seconds = max(0.001, first.ends - self._clock())
            self._giving_back = loop.call_later(seconds, self._give_back)

    def _give_back(self) -> None:
        self._giving_back = None
        self._depart()

    # From here on: what operators do.

    async def blocked(self) -> list[Blocked]:
        """All that this policy blocks now. Raises StoreUnavailable."""
        return await blocked_now(self._store, self._block_key)

    async def unblock(self, ip: str) -> bool:
        """Forget the block and the window of an address, or of a network as listed.

        Returns once every worker has noticed, which takes a moment; False if there was no block.
        Raises StoreUnavailable.
        """
        bucket = self._addresses.bucket(ip.strip().partition("/")[0])
        lifted = await lift(self._store, self._block_key + bucket, self._window_key + bucket)
        if lifted:
            await asyncio.sleep(REFUSAL_TRUSTED_SECONDS)
        self._refusals.pop(bucket, None)
        self._local.forget(bucket)
        return lifted


def settle(waiter: Waiter, decision: Decision) -> None:
    """Answer a request, unless its client has left."""
    if not waiter.answer.done():
        waiter.answer.set_result(decision)

"""Decides for one worker whether a request is within a policy, exactly, with few calls to Redis.

The windows are in Redis and on Redis's clock (sliding.lua says how they stay exact). A request
waits for Redis only when the answer could be "no":

- Far from the limit (half of it used at most), a busy bucket is granted a *reservation*: this
  worker admits some requests on its own, for a moment that ends before Redis believes it does (it
  is measured from before the call was sent). Then it is given back: what was used is counted, the
  rest is free again. While it is out, it counts in full.
- While calls come and go, the worker has a *lease* (lease.py): it admits a little of any bucket
  that is far from its limit, and tells of it some milliseconds later.
- A refusal that is known to last (a block, or a full window) is remembered and repeated for
  `REFUSAL_TRUSTED_SECONDS`; then Redis is asked again. So a blocked client costs Redis at most one
  look a second and worker, and an unblocked one is refused for no longer than that.

What is promised: never more than `requests` admitted in any window, nobody refused who has not
exceeded that, whatever workers and gateways do at the same time, to the millisecond of Redis's
clock. What is left open: near the limit a request can wait until it is certain (some milliseconds,
or a unit of the policy's log; after `PATIENCE_SECONDS` it is decided as if Redis were away). A
worker that dies, or stands still for `FORGET_SECONDS`, takes its reservations along: they count as
not used (until it comes back and says otherwise). And a call that failed may have been counted
nevertheless.

Without Redis it decides as its caller says, who may know by what route a request came: `local`:
by this worker's own windows (local.py); `allow`: for it; `deny`: StoreUnavailable. No request
waits longer than the store's timeout.

Keys: `{prefix}:ip:{{address}}` and `{prefix}:ip:block:{{address}}` for the policy called "ip", for
any other `{prefix}:limit:{name}:{{subject}}`; the inner braces are there: in a cluster all keys of
a subject share a slot. They expire by themselves.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from gateway.errors import StoreUnavailable
from gateway.limits import courier
from gateway.limits.address import ClientAddresses
from gateway.limits.blocks import Blocked, blocked_now, lift
from gateway.limits.courier import Courier, Question
from gateway.limits.lease import Lease
from gateway.limits.local import local_windows
from gateway.limits.policy import Counts, Decision, Policy
from gateway.limits.waiting import Refusal, Reservation, Waiter, WindowQuestion, settle
from gateway.sections import ClientIpSettings, WhenStoreIsDown
from gateway.store.redis import Store

ADMITTED, EXCEEDED, UNDECIDED, BLOCKED = range(4)  # verdicts of window.lua

RESERVED_SHARE = 64  # a reservation is this part of the limit,
RESERVED_MOST = 256  # and never more than this
TOLD_TOGETHER = 256  # buckets that were admitted of under a lease
PATIENCE_SECONDS = 1.0
REFUSAL_TRUSTED_SECONDS = 1.0
RESERVATIONS_KEPT = 10_000
REFUSALS_KEPT = 100_000


class Limiter:
    """One policy on one store, in one event loop.

    `share` tells how many workers divide the limit among them while Redis is away; it is asked each
    time. The limiters of a worker have one `courier`.
    """

    def __init__(
        self,
        policy: Policy,
        store: Store,
        when_store_is_down: WhenStoreIsDown = "local",
        *,
        share: Callable[[], int] = lambda: 1,
        addresses: ClientAddresses | None = None,
        courier: Courier | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy = policy
        self.counts = Counts()
        self.courier = courier or Courier(store, clock)
        self._store = store
        self._when_store_is_down = when_store_is_down
        self._addresses = addresses or ClientAddresses(ClientIpSettings())
        self._clock = clock
        space = ("ip",) if policy.name == "ip" else ("limit", policy.space or policy.name)
        self._window_key = store.key(*space, "")
        self._block_key = store.key(*space, "block", "")
        self._share = share
        self._local = local_windows(policy)
        self._waiting: dict[str, list[Waiter]] = {}
        self._undecided: dict[str, list[Waiter]] = {}
        self._reservations: OrderedDict[str, Reservation] = OrderedDict()  # the oldest first
        keys = store.key(*space, "marks"), store.key(*space, "leases")
        lease = Lease(policy, keys, self._window_key)
        # In a cluster the marks of all buckets would not share a slot with theirs.
        self._lease = lease if lease.allowance and not store.spread else None
        self._superseded: list[tuple[str, Reservation]] = []
        self._refusals: OrderedDict[str, Refusal] = OrderedDict()

    async def admit(
        self, bucket: str, cost: int = 1, mode: WhenStoreIsDown | None = None
    ) -> Decision:
        """`ask`, or else `alone`."""
        decision = await self.ask(bucket, cost)
        return self.alone(bucket, cost, mode) if decision is None else decision

    async def ask(self, bucket: str, cost: int = 1) -> Decision | None:
        """Count one request and decide on it; None: Redis can't be asked, nothing is counted.

        Doesn't suspend when the answer is known in this process.
        """
        decision = self.known(bucket, cost)
        if decision is None and self._store.takes_writes:
            decision = await self._ask(bucket, cost)
        return decision

    def known(self, bucket: str, cost: int = 1) -> Decision | None:
        """The decision on one request, counted, if it needs no Redis."""
        reservation = self._reservations.get(bucket)
        if reservation is not None:
            if reservation.used + cost <= reservation.size and self._clock() < reservation.ends:
                return self._admit_reserved(reservation, cost)
            return None
        if bucket in self._refusals:
            now = self._clock()
            refusal = self._refusals[bucket]
            if now < refusal.trusted_until and cost >= refusal.cost:
                return self._refuse(refusal, now)
            return None
        lease = self._lease
        if lease is not None and (now := self._clock()) < lease.ends:
            return self._admit_leased(lease, bucket, cost, now)
        return None

    def alone(self, bucket: str, cost: int = 1, mode: WhenStoreIsDown | None = None) -> Decision:
        """Count one request and decide on it without Redis, by `mode` or as this limiter would.

        Raises StoreUnavailable when that is `deny`.
        """
        mode = mode or self._when_store_is_down
        self.counts.degraded += 1
        if mode == "deny":
            raise StoreUnavailable
        if mode == "allow":
            self.counts.admitted += 1
            return Decision(self.policy, True, self.policy.requests, 0, False, 0)
        now = self._clock()
        refusal = self._refusals.get(bucket)
        if refusal is not None and now < refusal.ends and cost >= refusal.cost:
            return self._refuse(refusal, now)
        self._local.share = self._share()
        decision = self._local.admit(bucket, now, cost)
        if decision.admitted:
            self.counts.admitted += 1
        elif decision.blocked:
            self.counts.blocked += 1
        else:
            self.counts.refused += 1
        return decision

    async def close(self) -> None:
        """Give back what is reserved. Requests may still come, and be served."""
        for reservation in self._reservations.values():
            reservation.ends = 0.0
        if self._lease is not None:
            self._lease.ends = min(self._lease.ends, self._clock())
        await self.courier.settle(self)

    def _admit_reserved(self, reservation: Reservation, cost: int) -> Decision:
        reservation.used += cost
        self.counts.admitted += 1
        remaining = reservation.remaining - reservation.used
        return Decision(self.policy, True, remaining, reservation.reset, False, 0)

    def _admit_leased(self, lease: Lease, bucket: str, cost: int, now: float) -> Decision | None:
        decision = lease.admit(bucket, cost, now)
        if decision is not None:
            self.counts.admitted += 1
            if len(lease.untold) < TOLD_TOGETHER:
                self.courier.tell(self)
            else:
                self.courier.depart(self)
        return decision

    def _refuse(self, refusal: Refusal, now: float) -> Decision:
        seconds = max(1, math.ceil(refusal.ends - now))
        if refusal.blocked:
            self.counts.blocked += 1
        else:
            self.counts.refused += 1
        reset = min(seconds, self.policy.window_seconds)
        return Decision(self.policy, False, 0, reset, refusal.blocked, seconds)

    def _ask(self, bucket: str, cost: int) -> asyncio.Future[Decision | None]:
        answer: asyncio.Future[Decision | None] = asyncio.get_running_loop().create_future()
        waiter = Waiter(answer, cost, self._clock() + PATIENCE_SECONDS)
        self._waiting.setdefault(bucket, []).append(waiter)
        self.courier.depart(self)
        return answer

    # From here on: what the courier asks of it.

    @property
    def constants(self) -> tuple[int | str, ...]:
        policy = self.policy
        sliding = isinstance(policy.window, int)
        window = policy.window_seconds * 1000 if sliding else policy.window
        room = len(self._reservations) < RESERVATIONS_KEPT
        grant = min(policy.requests // RESERVED_SHARE, RESERVED_MOST) if room else 0
        lease = self._lease.constants if self.lease_keys and self._lease else (0, 0, 0)
        return policy.requests, window, policy.unit_ms, policy.block * 1000, grant, *lease

    @property
    def lease_keys(self) -> tuple[str, ...]:
        return () if self._lease is None else self._lease.keys(self._clock())

    def leased(self, sent_at: float, at: int, marks: Sequence[str | int] | None) -> None:
        assert self._lease is not None
        if self._lease.renew(sent_at, self._clock(), at, marks):
            self.courier.depart(self)
        if self._lease.ends:
            self.courier.lent(self)

    @property
    def lent_until(self) -> float | None:
        ends = [next(iter(self._reservations.values())).ends] if self._reservations else []
        if self._lease is not None and self._lease.ends:
            ends.append(self._lease.ends)
        if self._superseded:
            ends.append(0.0)
        return min(ends, default=None)

    def questions(self) -> list[Question]:
        """One for each bucket and cost that somebody waits for, or whose reservation has ended."""
        now = self._clock()
        waiting, self._waiting = self._waiting, {}
        questions = self._told(now, wanted=bool(waiting))
        for bucket, waiters in waiting.items():
            reservation = self._reservations.get(bucket)
            by_cost: dict[int, list[Waiter]] = {}
            for waiter in waiters:
                if (
                    reservation is not None
                    and now < reservation.ends
                    and reservation.used + waiter.cost <= reservation.size
                ):
                    settle(waiter, self._admit_reserved(reservation, waiter.cost))
                else:
                    by_cost.setdefault(waiter.cost, []).append(waiter)
            if by_cost:
                self._reservations.pop(bucket, None)
                if self._lease is not None:
                    self._lease.asks_for(bucket)
            for cost, alike in by_cost.items():
                questions.append(self._question(bucket, reservation, alike, cost))
                reservation = None
        superseded, self._superseded = self._superseded, []
        questions += (self._question(bucket, each, [], 1) for bucket, each in superseded)
        while self._reservations:
            bucket, reservation = next(iter(self._reservations.items()))
            if now < reservation.ends:
                break
            del self._reservations[bucket]
            questions.append(self._question(bucket, reservation, [], 1))
        return questions

    def _told(self, now: float, *, wanted: bool) -> list[Question]:
        """What was admitted under the lease; if there is nothing, an ended one is given back."""
        lease = self._lease
        if lease is None:
            return []
        since_ms = lease.since_ms
        told = lease.depart(now, wanted=wanted)
        questions: list[Question] = [
            WindowQuestion(self, self._keys(bucket), 0, 1, since_ms, 0, used, bucket, [])
            for bucket, used in told.items()
        ]
        if lease.returning or (lease.has_news and not wanted and not told):
            questions.append(self._question("", None, [], 1))
        return questions

    def _question(
        self, bucket: str, returned: Reservation | None, waiters: list[Waiter], cost: int
    ) -> WindowQuestion:
        given = returned or Reservation(0, 0, 0.0, 0, 0)
        returned_so = given.granted_at, given.size, given.used
        return WindowQuestion(
            self, self._keys(bucket), len(waiters), cost, *returned_so, bucket, waiters
        )

    def _keys(self, bucket: str) -> tuple[str, ...]:
        tag = f"{{{bucket or '-'}}}"  # empty braces would be no tag
        if self.policy.block:
            return self._window_key + tag, self._block_key + tag
        return (self._window_key + tag,)

    def take(self, question: Question, sent_at: float, answer: Sequence[int]) -> None:
        assert isinstance(question, WindowQuestion)
        admitted, verdict, remaining, wait_ms, reserved, granted_at = answer
        bucket, waiters, cost = question.bucket, question.waiters, question.weight
        if self._lease is not None:
            self._lease.landed(bucket, remaining, sent_at + wait_ms / 1000)
            if not waiters and not reserved and verdict == ADMITTED:
                return
        reset = max(0, min(math.ceil(wait_ms / 1000), self.policy.window_seconds))
        self.counts.admitted += admitted
        for at, waiter in enumerate(waiters[:admitted], 1):
            left = remaining + (admitted - at) * cost
            settle(waiter, Decision(self.policy, True, left, reset, False, 0))
        if reserved:
            ends = sent_at + courier.RESERVED_SECONDS
            if bucket in self._reservations:  # a bucket can be in several questions of a call
                self._superseded.append((bucket, self._reservations.pop(bucket)))
            self._reservations[bucket] = Reservation(granted_at, reserved, ends, remaining, reset)
            self.courier.lent(self)
        others = waiters[admitted:]
        if verdict == UNDECIDED:
            self._undecided.setdefault(bucket, []).extend(others)
            self.courier.undecided(self, min(wait_ms / 1000, PATIENCE_SECONDS))
        elif verdict in (EXCEEDED, BLOCKED):
            self._refuse_all(bucket, others, sent_at, wait_ms / 1000, verdict)
        elif bucket in self._refusals and cost >= self._refusals[bucket].cost:
            del self._refusals[bucket]

    def _refuse_all(
        self, bucket: str, waiters: list[Waiter], sent_at: float, seconds: float, verdict: int
    ) -> None:
        now = self._clock()
        # Redis's clock tells whole milliseconds: in the last one the window may be open again.
        trusted_until = sent_at + min(seconds - 0.001, REFUSAL_TRUSTED_SECONDS)
        blocked = verdict == BLOCKED or self.policy.block > 0
        cost = waiters[0].cost if waiters else 1
        refusal = Refusal(blocked, sent_at + seconds, trusted_until, cost)
        first = Refusal(verdict == BLOCKED, refusal.ends, trusted_until, cost)
        for at, waiter in enumerate(waiters):
            settle(waiter, self._refuse(refusal if at else first, now))
        self._refusals.pop(bucket, None)
        self._refusals[bucket] = refusal
        if len(self._refusals) > REFUSALS_KEPT:
            self._refusals.popitem(last=False)

    def fail(self, question: Question) -> None:
        assert isinstance(question, WindowQuestion)
        if self._lease is not None:
            self._lease.lost(question.bucket)
        for waiter in question.waiters:
            settle(waiter, None)

    def ask_again(self) -> None:
        """Put the undecided before those who came after them."""
        now = self._clock()
        undecided, self._undecided = self._undecided, {}
        for bucket, waiters in undecided.items():
            patient = []
            for waiter in waiters:
                if now < waiter.patience_ends:
                    patient.append(waiter)
                else:
                    settle(waiter, None)
            if patient:
                self._waiting[bucket] = patient + self._waiting.get(bucket, [])
                self.courier.depart(self)

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
        window_key, block_key = self._keys(bucket)
        lifted = await lift(self._store, block_key, window_key)
        if lifted:
            await asyncio.sleep(REFUSAL_TRUSTED_SECONDS)
        self._refusals.pop(bucket, None)
        self._local.forget(bucket)
        return lifted

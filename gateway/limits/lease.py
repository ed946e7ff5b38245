"""What a worker may admit of any bucket without asking: a little, and it tells of it soon after.

So no request waits for Redis far from a limit, not even the first of an address. `leases.lua` says
how a limit stays exact nevertheless: near it a bucket is *marked*, and nothing of a marked one is
admitted under a lease. A lease ends `RESERVED_SECONDS` after the call that brought it was sent; any
call brings another one, and one that nobody needs any more is given back.

What is left of a bucket's quota is told as the last answer had it, less what was admitted since; of
a bucket that is new here, as if nobody else had seen it.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence

from gateway.limits import courier
from gateway.limits.policy import Decision, Policy

# What a lease allows is this part of the limit: what 256 workers have not told of yet fits into the
# half of it that is free before a bucket is marked;
ALLOWED_SHARE = 512
ALLOWED_MOST = 256  # and it is never more than this.
ANSWERS_KEPT = 100_000
MARKS_KEPT = 10_000
PAUSE_SECONDS = 1.0  # without leases, for a worker that can't be told of all marks


class Lease:
    """One worker's on one policy. Times are its monotonic seconds, but for those named `_ms`."""

    def __init__(self, policy: Policy, keys: tuple[str, str], window_key: str) -> None:
        self.allowance = min(policy.requests // ALLOWED_SHARE, ALLOWED_MOST)
        self.kept_seconds = 2 * (policy.window_seconds + policy.block)
        self.ends = 0.0
        self.untold: dict[str, int] = {}  # what was admitted, by bucket,
        self.since_ms = 0  # and at which of Redis's times the first of it can have been
        self._policy = policy
        self._keys = keys
        self._bucket_at = len(window_key) + 1
        self._at_ms = 0
        self._heard = 0
        self.returning = False  # with the next call
        self.has_news = False  # that others wait for this worker to have heard
        self._paused_until = 0.0
        self._marked: OrderedDict[str, float] = OrderedDict()  # until when; the oldest first
        self._under_way: dict[str, int] = {}
        # By bucket: what was left, and when the oldest request leaves the window.
        self._answers: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def admit(self, bucket: str, cost: int, now: float) -> Decision | None:
        """None: it can't be admitted so."""
        untold = self.untold.get(bucket, 0)
        if untold + self._under_way.get(bucket, 0) + cost > self.allowance:
            return None
        ends = self._marked.get(bucket)
        if ends is not None:
            if now < ends:
                return None
            del self._marked[bucket]
        policy = self._policy
        answer = self._answers.get(bucket)
        if answer is not None and now < answer[1]:
            remaining, reset = answer[0] - untold - cost, math.ceil(answer[1] - now)
        elif isinstance(policy.window, int):
            remaining, reset = policy.requests - untold - cost, policy.window
        else:
            return None  # when the period ends is Redis's to say
        if not self.untold:
            self.since_ms = self._at_ms
        self.untold[bucket] = untold + cost
        return Decision(policy, True, remaining, reset, False, 0)

    # From here on: what goes with a call, and comes with its answer.

    def keys(self, now: float) -> tuple[str, ...]:
        return self._keys if now >= self._paused_until else ()

    def depart(self, now: float, *, wanted: bool) -> dict[str, int]:
        """What there is to tell of. An ended one is given back, unless another is `wanted`."""
        self._under_way, self.untold = self.untold, {}
        wanted = wanted or self.has_news or bool(self._under_way)
        self.returning = 0 < self.ends <= now and not wanted
        if self.returning:
            self.ends = 0.0
        return self._under_way.copy()

    def asks_for(self, bucket: str) -> None:
        """With this call, so nothing more is admitted until it is answered."""
        self._under_way[bucket] = self.allowance

    def landed(self, bucket: str, remaining: int, frees: float) -> None:
        """An answer: so much was left, and the oldest request leaves the window then."""
        self._under_way.pop(bucket, None)
        answers = self._answers
        answers.pop(bucket, None)
        answers[bucket] = remaining, frees
        if len(answers) > ANSWERS_KEPT:
            answers.popitem(last=False)

    def lost(self, bucket: str) -> None:
        """There is no answer."""
        self._under_way.pop(bucket, None)

    @property
    def constants(self) -> tuple[int, int, int]:
        """As window.lua takes them."""
        return self.allowance, self.kept_seconds * 1000, -1 if self.returning else self._heard

    def renew(
        self, sent_at: float, now: float, at_ms: int, marks: Sequence[str | int] | None
    ) -> bool:
        """Take a call's answer. Is there news that others wait for this worker to have heard?"""
        if marks is None or len(self._marked) + len(marks) // 2 > 2 * MARKS_KEPT:
            self._heard, self.ends, self._paused_until = 0, 0.0, now + PAUSE_SECONDS
            self._marked.clear()
            self.has_news = False
            return False
        self._at_ms, self.ends = at_ms, sent_at + courier.RESERVED_SECONDS if at_ms else 0.0
        before = self._heard
        for key, number in zip(marks[::2], marks[1::2], strict=True):
            assert isinstance(key, str)
            assert isinstance(number, int)
            bucket, self._heard = key[self._bucket_at : -1], number
            self._marked.pop(bucket, None)
            self._marked[bucket] = now + self.kept_seconds
        while self._marked and next(iter(self._marked.values())) < now:
            self._marked.popitem(last=False)
        self.has_news = self._heard > before
        return self.has_news

"""Exact windows in this process alone, for the time that Redis is away.

The same rules as window.lua with this worker's share of the limit, on its own clocks. What Redis
had counted of a day or month is not known here, and it does not learn what was counted here. Memory
is bounded: idle buckets are dropped as others come, and of too many the ones that were quiet
longest.
"""

import math
import time
from array import array
from calendar import monthrange
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from gateway.limits.policy import Decision, Policy, Window

BUCKETS = 100_000
SWEPT_PER_REQUEST = 2


class Log:
    """One bucket: runs of requests as time (ms), what they cost, time, … and the sum of that."""

    __slots__ = ("blocked_until", "count", "runs")

    def __init__(self) -> None:
        self.runs = array("q")
        self.count = 0
        self.blocked_until = 0  # ms

    def drop_before(self, time: int) -> None:
        """Forget the runs at `time` and before."""
        runs, at = self.runs, 0
        while at < len(runs) and runs[at] <= time:
            self.count -= runs[at + 1]
            at += 2
        del runs[:at]

    def add(self, now: int, cost: int) -> None:
        runs = self.runs
        self.count += cost
        if runs and runs[-2] == now:
            runs[-1] += cost
        else:
            runs.extend((now, cost))

    def frees(self, needed: int) -> int | None:
        """The time (ms) of the run with whose end `needed` is free; None: there is not so much."""
        for at in range(0, len(self.runs), 2):
            needed -= self.runs[at + 1]
            if needed <= 0:
                return self.runs[at]
        return None


class LocalWindows:
    """A policy's windows; `share`, at any time, is how many workers divide the limit among them.

    Who exceeds a share has not exceeded the limit, for all this worker knows: it is refused here,
    and blocked only where one worker has the whole limit.
    """

    def __init__(self, policy: Policy, share: int = 1, buckets: int = BUCKETS) -> None:
        self.share = share
        self._policy = policy
        self._window = policy.window_seconds * 1000
        self._most = buckets
        self._logs: OrderedDict[str, Log] = OrderedDict()  # the quietest first

    def __len__(self) -> int:
        return len(self._logs)

    def admit(self, bucket: str, seconds: float, cost: int = 1) -> Decision:
        """Count one request at `seconds` of a monotonic clock, and decide on it."""
        now = round(seconds * 1000)
        log = self._logs.get(bucket)
        if log is None:
            log = self._logs[bucket] = Log()
        else:
            self._logs.move_to_end(bucket)
        self._sweep(now)
        if log.blocked_until > now:
            return self._refusal(log.blocked_until - now, blocked=True)
        log.drop_before(now - self._window)
        requests = max(1, self._policy.requests // max(1, self.share))
        if log.count + cost <= requests:
            log.add(now, cost)
            reset = _seconds(log.runs[0] + self._window - now)
            return Decision(self._policy, True, requests - log.count, reset, False, 0)
        block = self._policy.block * 1000 if self.share <= 1 else 0
        if block:
            log.blocked_until = now + block
            return self._refusal(block, blocked=False)
        frees = log.frees(log.count + cost - requests)
        return self._refusal((now if frees is None else frees) + self._window - now, blocked=False)

    def forget(self, bucket: str) -> None:
        """Drop a bucket's window and block."""
        self._logs.pop(bucket, None)

    def _refusal(self, wait: int, *, blocked: bool) -> Decision:
        retry_after = max(1, _seconds(wait))
        reset = min(retry_after, self._policy.window_seconds)
        return Decision(self._policy, False, 0, reset, blocked, retry_after)

    def _sweep(self, now: int) -> None:
        for _ in range(SWEPT_PER_REQUEST):
            bucket, log = next(iter(self._logs.items()))
            idle = not log.runs or log.runs[-2] <= now - self._window
            if len(self._logs) <= self._most and not (idle and log.blocked_until <= now):
                break
            if len(self._logs) == 1:
                break
            del self._logs[bucket]


class LocalQuotas:
    """A policy's counts in the current day or month (UTC). `wall_clock` gives Unix seconds.

    `share` is as that of LocalWindows.
    """

    def __init__(
        self,
        policy: Policy,
        share: int = 1,
        buckets: int = BUCKETS,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.share = share
        self._policy = policy
        self._most = buckets
        self._wall_clock = wall_clock
        self._counts: OrderedDict[str, int] = OrderedDict()  # the quietest first
        self._ends = 0.0

    def admit(self, bucket: str, _seconds: float, cost: int = 1) -> Decision:
        """Count one request, and decide on it."""
        now = self._wall_clock()
        if now >= self._ends:
            self._counts.clear()
            self._ends = end_of_period(self._policy.window, now)
        used = self._counts.pop(bucket, 0)
        reset = max(1, math.ceil(self._ends - now))
        requests = max(1, self._policy.requests // max(1, self.share))
        admitted = used + cost <= requests
        self._counts[bucket] = used + cost if admitted else used
        if len(self._counts) > self._most:
            self._counts.popitem(last=False)
        if not admitted:
            return Decision(self._policy, False, 0, reset, False, reset)
        return Decision(self._policy, True, requests - used - cost, reset, False, 0)

    def forget(self, bucket: str) -> None:
        self._counts.pop(bucket, None)


def local_windows(policy: Policy) -> LocalWindows | LocalQuotas:
    return LocalWindows(policy) if isinstance(policy.window, int) else LocalQuotas(policy)


def end_of_period(period: Window, now: float) -> float:
    """When the day or month of `now` ends (UTC); both in Unix seconds."""
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = 1 if period == "day" else monthrange(today.year, today.month)[1] - today.day + 1
    return (today + timedelta(days=days)).timestamp()


def _seconds(milliseconds: int) -> int:
    """Whole seconds, rounded up."""
    return -(-milliseconds // 1000)

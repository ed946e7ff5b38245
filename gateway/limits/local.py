"""Exact sliding windows in this process alone, for the time that Redis is away.

The same rules as window.lua, on this worker's monotonic clock to the millisecond, with its share
of the limit. Memory is bounded: idle buckets are dropped as others come, and of too many the ones
that were quiet longest.
"""

from array import array
from collections import OrderedDict

from gateway.limits.policy import Decision, Policy

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
        self._window = policy.window * 1000
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
        reset = min(retry_after, self._policy.window)
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


def _seconds(milliseconds: int) -> int:
    """Whole seconds, rounded up."""
    return -(-milliseconds // 1000)

"""The plain integers in which one worker counts requests between two flushes.

They cost a fraction of a Prometheus series per request. A flush adds them to the series and sets
them to zero; it makes a series when that first counts something.
"""

from bisect import bisect_left
from collections.abc import Sequence

from prometheus_client import Counter, Histogram

from gateway.exchange import Exchange

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER")
STATUSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")  # none: the client left before an answer
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
OTHER_REASON = "other"
MAX_REASONS = 100

_FIRST = {method: index * len(STATUSES) for index, method in enumerate(METHODS)}
_FIRST_OTHER = _FIRST["OTHER"]


class DurationFamily(Histogram):
    """A histogram that takes many observations at once."""

    def add(self, counts: Sequence[int], total_seconds: float) -> None:
        self._sum.inc(total_seconds)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


class Durations:
    """Observations since the last flush, by bucket."""

    __slots__ = ("_child", "_counts", "_family", "_label", "_total_seconds")

    def __init__(self, family: DurationFamily, label: str) -> None:
        self._family = family
        self._label = label
        self._child: DurationFamily | None = None
        self._counts = [0] * (len(BOUNDS) + 1)
        self._total_seconds = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._total_seconds += seconds

    def flush(self) -> None:
        if any(self._counts):
            if self._child is None:
                self._child = self._family.labels(self._label)
            self._child.add(self._counts, self._total_seconds)
            self._counts = [0] * len(self._counts)
            self._total_seconds = 0.0


class Refusals:
    """Refusals of one pattern since the last flush, by reason."""

    __slots__ = ("_children", "_counts", "_family", "_pattern")

    def __init__(self, family: Counter, pattern: str) -> None:
        self._family = family
        self._pattern = pattern
        self._counts: dict[str, int] = {}
        self._children: dict[str, Counter] = {}

    def count(self, reason: str) -> None:
        counts = self._counts
        if reason not in counts and len(counts) >= MAX_REASONS:
            reason = OTHER_REASON  # the set is closed; a defect must not open it
        counts[reason] = counts.get(reason, 0) + 1

    def flush(self) -> None:
        for reason, count in self._counts.items():
            if count:
                if reason not in self._children:
                    self._children[reason] = self._family.labels(self._pattern, reason)
                self._children[reason].inc(count)
                self._counts[reason] = 0


class RouteMetrics:
    """What is counted of one route. It is bound to the route when the table is built."""

    __slots__ = (
        "_children",
        "_durations",
        "_family",
        "_name",
        "_refusals",
        "_requests",
        "_upstream",
    )

    def __init__(
        self,
        name: str,
        family: Counter,
        durations: Durations,
        refusals: Refusals,
        upstream: Durations | None,
    ) -> None:
        self._name = name
        self._family = family
        self._durations = durations
        self._refusals = refusals
        self._upstream = upstream
        self._requests = [0] * (len(METHODS) * len(STATUSES))
        self._children: dict[int, Counter] = {}

    def observe(self, exchange: Exchange, seconds: float) -> None:
        """Count a finished request that took `seconds` from its head to its last byte."""
        status = exchange.status // 100
        if status > 5:
            status = 0
        self._requests[_FIRST.get(exchange.method, _FIRST_OTHER) + status] += 1
        self._durations.observe(seconds)
        if exchange.upstream_seconds is not None and self._upstream is not None:
            self._upstream.observe(exchange.upstream_seconds)
        if exchange.refusal is not None:
            self._refusals.count(exchange.refusal)

    def count_refusal(self, reason: str) -> None:
        """Count what was refused before there was a request."""
        self._refusals.count(reason)

    def flush(self) -> None:
        requests = self._requests
        if not any(requests):
            return
        for index, count in enumerate(requests):
            if count:
                if index not in self._children:
                    method, status = divmod(index, len(STATUSES))
                    self._children[index] = self._family.labels(
                        self._name, METHODS[method], STATUSES[status]
                    )
                self._children[index].inc(count)
                requests[index] = 0
        self._durations.flush()

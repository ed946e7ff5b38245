"""What the gateway counts, and how the counts of all workers become one answer to a scrape.

Rules:
- Requests are counted in plain integers of this process. `flush` adds them to the Prometheus
  series; the worker calls it once a second, and a scrape calls it for the worker that answers.
  So a scrape is at most a second behind for the other workers.
- Label values come from the route table and from closed sets in the code. Nothing that a client
  sends can add a series: an unknown method is `OTHER`, a request without a route has route `-`.
- A series begins when it first counts something; no route costs memory for what never happens.
- Everything but `exposition` runs in the event loop's thread.

With a shared directory each worker keeps its series in files of its own there, named by its
number; all files are merged for a scrape. A worker started with the number of a dead one goes on
where that one stopped, so counters never fall and files never pile up. The directory is an
argument or `PROMETHEUS_MULTIPROC_DIR`; without it the series are those of this process alone.

Terms: a *source* is asked at each flush for what another part counts; a *reading* is one value
of it.
"""

import logging
import os
import platform
from collections.abc import Callable, Iterable
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from gateway.observe.counts import BOUNDS, DurationFamily, Durations, Refusals, RouteMetrics

logger = logging.getLogger("gateway.observe")

UNMATCHED = "-"
NO_PATTERN = "none"
_FILES = ("counter", "histogram", "gauge_livesum", "gauge_livemin")
_EMPTY_FILE = bytes(1 << 16)


class Sourced(StrEnum):
    """The metrics whose values are counted elsewhere and read at each flush."""

    LIMITER_DECISIONS = "gateway_limiter_decisions_total"  # (policy, decision)
    KEY_CACHE = "gateway_key_cache_total"  # (cache, result)
    UPSTREAM_CONNECTIONS = "gateway_upstream_connections"  # (upstream, state)
    UPSTREAM_WAITING = "gateway_upstream_waiting"  # (upstream)
    UPSTREAM_TARGETS = "gateway_upstream_targets"  # (upstream, state)
    UPSTREAM_RETRIES = "gateway_upstream_retries_total"  # (upstream)
    CONNECTIONS = "gateway_connections"  # ()
    SOCKETS = "gateway_sockets"  # (route)
    SOCKETS_ENDED = "gateway_sockets_ended_total"  # (reason)
    STORE_UP = "gateway_store_up"  # ()
    DEGRADED = "gateway_degraded"  # (what)
    WORKERS_LIVE = "gateway_workers_live"  # ()
    RELOADED = "gateway_config_last_reload_successful"  # ()
    CONFIGURED_AT = "gateway_config_last_reload_success_timestamp_seconds"  # ()
    STORE_ERRORS = "gateway_store_errors_total"  # ()
    LEDGER_DROPPED = "gateway_ledger_dropped_total"  # ()
    VERIFICATIONS = "gateway_vault_verifications_total"  # (result)
    LOG_LINES_DROPPED = "gateway_log_lines_dropped_total"  # ()


class Reading(NamedTuple):
    """One value of a source: for a counter its total since the process began, for a gauge now.

    `labels` are in the order that `Sourced` names. Gauges of several sources are added up.
    """

    metric: Sourced
    labels: tuple[str, ...]
    value: float


Source = Callable[[], Iterable[Reading]]


class _SourceState:
    """A source, with the totals it named last."""

    __slots__ = ("failed", "read", "totals")

    def __init__(self, read: Source) -> None:
        self.read = read
        self.totals: dict[tuple[Sourced, tuple[str, ...]], float] = {}
        self.failed = False


class Metrics:
    """All metrics of one worker; made once, in the worker, before the route table is built."""

    def __init__(self, *, directory: Path | None = None, worker: int | None = None) -> None:
        """`worker` is this worker's number: unique among the living ones, taken again when its
        worker has died. Without it the process id takes its place.
        """
        disable_created_metrics()  # type: ignore[no-untyped-call]
        shared = os.environ.get("PROMETHEUS_MULTIPROC_DIR") if directory is None else str(directory)
        self._registry = CollectorRegistry()
        if shared:
            _join(Path(shared), os.getpid() if worker is None else worker)
            MultiProcessCollector(self._registry, shared)  # type: ignore[no-untyped-call]
        registry = None if shared else self._registry
        self._requests = Counter(
            "gateway_requests_total",
            "Requests finished, by route, method and class of the answer's status.",
            ("route", "method", "status"),
            registry=registry,
        )
        self._request_seconds = DurationFamily(
            "gateway_request_seconds",
            "Seconds from a request's head to the last byte of its answer.",
            ("route",),
            buckets=BOUNDS,
            registry=registry,
        )
        self._upstream_seconds = DurationFamily(
            "gateway_upstream_seconds",
            "Seconds of a request that were spent on its upstream.",
            ("upstream",),
            buckets=BOUNDS,
            registry=registry,
        )
        self._refusals = Counter(
            "gateway_refusals_total",
            "Requests refused here, or only reported (report_only), by pattern and reason.",
            ("pattern", "reason"),
            registry=registry,
        )
        self._counters = {
            Sourced.LIMITER_DECISIONS: Counter(
                Sourced.LIMITER_DECISIONS.value,
                "Decisions of the limiters: admitted, refused, blocked, degraded.",
                ("policy", "decision"),
                registry=registry,
            ),
            Sourced.KEY_CACHE: Counter(
                Sourced.KEY_CACHE.value,
                "Lookups in the in-process copies of what Redis holds.",
                ("cache", "result"),
                registry=registry,
            ),
            Sourced.UPSTREAM_RETRIES: Counter(
                Sourced.UPSTREAM_RETRIES.value,
                "Requests that were sent again, or to another address when one was not there.",
                ("upstream",),
                registry=registry,
            ),
            Sourced.STORE_ERRORS: Counter(
                Sourced.STORE_ERRORS.value,
                "Calls to the store that failed or took too long.",
                registry=registry,
            ),
            Sourced.SOCKETS_ENDED: Counter(
                Sourced.SOCKETS_ENDED.value,
                "Sockets that have ended, by what ended them.",
                ("reason",),
                registry=registry,
            ),
            Sourced.LEDGER_DROPPED: Counter(
                Sourced.LEDGER_DROPPED.value,
                "Requests that are missing in the ledger of usage.",
                registry=registry,
            ),
            Sourced.VERIFICATIONS: Counter(
                Sourced.VERIFICATIONS.value,
                "Questions to Binance about registered keys: verified, invalid, unreachable,"
                " postponed; and of the verified ones can_withdraw.",
                ("result",),
                registry=registry,
            ),
            Sourced.LOG_LINES_DROPPED: Counter(
                Sourced.LOG_LINES_DROPPED.value,
                "Access log lines that nobody read in time.",
                registry=registry,
            ),
        }
        self._gauges = {
            Sourced.UPSTREAM_CONNECTIONS: Gauge(
                Sourced.UPSTREAM_CONNECTIONS.value,
                "Connections to upstreams: active ones carry a request, idle ones wait for one.",
                ("upstream", "state"),
                registry=registry,
                multiprocess_mode="livesum",
            ),
            Sourced.UPSTREAM_WAITING: Gauge(
                Sourced.UPSTREAM_WAITING.value,
                "Requests that wait because as much is under way as may be.",
                ("upstream",),
                registry=registry,
                multiprocess_mode="livesum",
            ),
            Sourced.UPSTREAM_TARGETS: Gauge(
                Sourced.UPSTREAM_TARGETS.value,
                "Addresses of targets, each as often as there are workers: up, down (health"
                " checks), ejected (failed requests).",
                ("upstream", "state"),
                registry=registry,
                multiprocess_mode="livesum",
            ),
            Sourced.CONNECTIONS: Gauge(
                Sourced.CONNECTIONS.value,
                "Open connections of clients.",
                registry=registry,
                multiprocess_mode="livesum",
            ),
            Sourced.SOCKETS: Gauge(
                Sourced.SOCKETS.value,
                "Open sockets: connections that were upgraded.",
                ("route",),
                registry=registry,
                multiprocess_mode="livesum",
            ),
            Sourced.STORE_UP: Gauge(
                Sourced.STORE_UP.value,
                "1 when every worker reaches the store, else 0.",
                registry=registry,
                multiprocess_mode="livemin",
            ),
            Sourced.DEGRADED: Gauge(
                Sourced.DEGRADED.value,
                "Workers that decide on limits, or on keys, without Redis.",
                ("what",),
                registry=registry,
                multiprocess_mode="livesum",
            ),
            Sourced.WORKERS_LIVE: Gauge(
                Sourced.WORKERS_LIVE.value,
                "Workers of all gateways on this store, as seen by the one that knows of fewest.",
                registry=registry,
                multiprocess_mode="livemin",
            ),
            Sourced.RELOADED: Gauge(
                Sourced.RELOADED.value,
                "1 when every worker uses the configuration it was last asked to, else 0.",
                registry=registry,
                multiprocess_mode="livemin",
            ),
            Sourced.CONFIGURED_AT: Gauge(
                Sourced.CONFIGURED_AT.value,
                "When the worker furthest behind took its configuration into use, Unix seconds.",
                registry=registry,
                multiprocess_mode="livemin",
            ),
        }
        Gauge(
            "gateway_build_info",
            "Always 1; the labels say what runs here.",
            ("version", "python"),
            registry=registry,
            multiprocess_mode="livemin",
        ).labels(version("primit-gateway"), platform.python_version()).set(1)
        self._routes: dict[tuple[str, str, str | None], RouteMetrics] = {}
        self._durations: dict[str, Durations] = {}
        self._upstreams: dict[str, Durations] = {}
        self._patterns: dict[str, Refusals] = {}
        self._gauge_values: dict[tuple[Sourced, tuple[str, ...]], float] = {}
        self._sources: list[_SourceState] = []
        self.unmatched = self.for_route(UNMATCHED, NO_PATTERN, None)

    def for_route(self, name: str, pattern: str, upstream: str | None) -> RouteMetrics:
        """The route's counts. The same route of the next table goes on with the same ones."""
        route = self._routes.get((name, pattern, upstream))
        if route is None:
            if name not in self._durations:
                self._durations[name] = Durations(self._request_seconds, name)
            if pattern not in self._patterns:
                self._patterns[pattern] = Refusals(self._refusals, pattern)
            if upstream is not None and upstream not in self._upstreams:
                self._upstreams[upstream] = Durations(self._upstream_seconds, upstream)
            route = self._routes[name, pattern, upstream] = RouteMetrics(
                name,
                self._requests,
                self._durations[name],
                self._patterns[pattern],
                None if upstream is None else self._upstreams[upstream],
            )
        return route

    def add_source(self, read: Source) -> Callable[[], None]:
        """Ask `read` at each flush; the function that is returned reads it once more and ends it.

        `read` must not suspend, and must be cheap.
        """
        source = _SourceState(read)
        self._sources.append(source)

        def remove() -> None:
            if source in self._sources:
                self._read(source, {})
                self._sources.remove(source)

        return remove

    def flush(self) -> None:
        """Add everything counted since the last call to the series."""
        for route in self._routes.values():
            route.flush()
        for upstream in self._upstreams.values():
            upstream.flush()
        for refusals in self._patterns.values():
            refusals.flush()
        gauges = dict.fromkeys(self._gauge_values, 0.0)  # what no source names any more is 0
        for source in self._sources:
            self._read(source, gauges)
        for series, value in gauges.items():
            if self._gauge_values.get(series) != value:
                metric, labels = series
                gauge = self._gauges[metric]
                (gauge.labels(*labels) if labels else gauge).set(value)
        self._gauge_values = gauges

    def _read(
        self, source: _SourceState, gauges: dict[tuple[Sourced, tuple[str, ...]], float]
    ) -> None:
        try:
            readings = list(source.read())
        except Exception:
            if not source.failed:
                logger.exception("A source of metrics failed.")
            source.failed = True
            return
        source.failed = False
        for metric, labels, value in readings:
            series = (metric, labels)
            if metric in self._gauges:
                gauges[series] = gauges.get(series, 0.0) + value
            elif value != (before := source.totals.get(series, 0.0)):
                counter = self._counters[metric]
                more = value - before if value > before else value  # less: it began anew
                (counter.labels(*labels) if labels else counter).inc(more)
                source.totals[series] = value

    def exposition(self) -> tuple[bytes, str]:
        """The series of all workers in Prometheus's text format, and its content type.

        It may run in a thread: with thousands of routes it takes its time.
        """
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def render(self) -> tuple[bytes, str]:
        """`flush`, then `exposition`."""
        self.flush()
        return self.exposition()


def _join(directory: Path, worker: int) -> None:
    """Let the series made from now on live in this worker's files in `directory`.

    The files are made whole before they get their name: a scrape of another worker that finds an
    empty one would fail.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    # Its gauges are those of the worker that had this number before.
    mark_process_dead(worker, str(directory))  # type: ignore[no-untyped-call]
    for name in _FILES:
        path = directory / f"{name}_{worker}.db"
        if not path.exists():
            begun = path.with_suffix(".new")
            begun.write_bytes(_EMPTY_FILE)
            begun.rename(path)
    values.ValueClass = values.MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call]


def leave_seat(directory: Path, worker: int) -> None:
    """The worker with this number has ended: its gauges count no more, its counters stay."""
    mark_process_dead(worker, str(directory))  # type: ignore[no-untyped-call]

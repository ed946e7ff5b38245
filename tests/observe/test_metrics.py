import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from finished import finished
from prometheus_client.parser import text_string_to_metric_families

from gateway.observe.counts import BOUNDS, MAX_REASONS
from gateway.observe.metrics import Metrics, Reading, Sourced


def samples(metrics: Metrics) -> dict[tuple[str, frozenset], float]:
    return parsed(metrics.render()[0].decode())


def parsed(text: str) -> dict[tuple[str, frozenset], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(of: dict, name: str, **labels: str) -> float | None:
    return of.get((name, frozenset(labels.items())))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.mark.parametrize(
    ("method", "status", "labels"),
    [
        ("GET", 200, ("GET", "2xx")),
        ("HEAD", 304, ("HEAD", "3xx")),
        ("POST", 101, ("POST", "1xx")),
        ("PUT", 499, ("PUT", "4xx")),
        ("PATCH", 503, ("PATCH", "5xx")),
        ("DELETE", 204, ("DELETE", "2xx")),
        ("OPTIONS", 200, ("OPTIONS", "2xx")),
        ("PROPFIND", 405, ("OTHER", "4xx")),
        ("get", 405, ("OTHER", "4xx")),
        ("GET", 0, ("GET", "none")),
        ("GET", 999, ("GET", "none")),
    ],
)
def test_a_request_counts_under_its_route_method_and_class_of_status(
    metrics, method, status, labels
):
    metrics.for_route("klines", "public", None).observe(finished(method, status=status), 0.1)

    found = samples(metrics)

    requests = {key: count for key, count in found.items() if key[0] == "gateway_requests_total"}
    method_label, status_label = labels
    assert requests == {
        (
            "gateway_requests_total",
            frozenset({("route", "klines"), ("method", method_label), ("status", status_label)}),
        ): 1.0
    }


@pytest.mark.parametrize("seconds", [0.0, *BOUNDS, 0.0006, 29.9, 31.0])
def test_a_duration_falls_into_every_bucket_that_reaches_it(metrics, seconds):
    metrics.for_route("klines", "public", None).observe(finished(), seconds)

    found = samples(metrics)

    for bound in BOUNDS:
        count = value(found, "gateway_request_seconds_bucket", route="klines", le=str(float(bound)))
        assert count == (1.0 if seconds <= bound else 0.0), bound
    assert value(found, "gateway_request_seconds_bucket", route="klines", le="+Inf") == 1.0
    assert value(found, "gateway_request_seconds_count", route="klines") == 1.0
    assert value(found, "gateway_request_seconds_sum", route="klines") == seconds


def test_the_upstream_has_its_own_durations_shared_by_its_routes(metrics):
    first = metrics.for_route("klines", "public", "market-data")
    second = metrics.for_route("depth", "public", "market-data")
    first.observe(finished(upstream_seconds=0.25), 1.0)
    second.observe(finished(upstream_seconds=0.5), 1.0)
    second.observe(finished(status=401), 1.0)  # it never reached the upstream

    found = samples(metrics)

    assert value(found, "gateway_upstream_seconds_count", upstream="market-data") == 2.0
    assert value(found, "gateway_upstream_seconds_sum", upstream="market-data") == 0.75
    assert value(found, "gateway_request_seconds_count", route="depth") == 2.0


def test_refusals_count_by_the_pattern_of_the_route_and_the_reason(metrics):
    metrics.for_route("klines", "plan_key", "m").observe(
        finished(status=401, refusal="invalid_key"), 0.1
    )
    metrics.for_route("stocks", "plan_key", "m").observe(
        finished(status=401, refusal="invalid_key"), 0.1
    )
    metrics.unmatched.observe(finished(status=404, refusal="no_route"), 0.1)

    found = samples(metrics)

    assert value(found, "gateway_refusals_total", pattern="plan_key", reason="invalid_key") == 2.0
    assert value(found, "gateway_refusals_total", pattern="none", reason="no_route") == 1.0
    assert value(found, "gateway_requests_total", route="-", method="GET", status="4xx") == 1.0


def test_counts_of_several_flushes_add_up(metrics):
    route = metrics.for_route("klines", "public", "m")
    for _ in range(3):
        route.observe(finished(upstream_seconds=0.1, refusal="x"), 0.2)
        metrics.flush()
        metrics.flush()

    found = samples(metrics)

    assert value(found, "gateway_requests_total", route="klines", method="GET", status="2xx") == 3.0
    assert value(found, "gateway_request_seconds_count", route="klines") == 3.0
    assert value(found, "gateway_upstream_seconds_count", upstream="m") == 3.0
    assert value(found, "gateway_refusals_total", pattern="public", reason="x") == 3.0


def test_a_route_of_the_next_table_goes_on_counting(metrics):
    metrics.for_route("klines", "public", "old").observe(finished(), 0.1)
    metrics.for_route("klines", "plan_key", "new").observe(finished(), 0.1)
    assert metrics.for_route("klines", "public", "old") is metrics.for_route(
        "klines", "public", "old"
    )

    found = samples(metrics)

    assert value(found, "gateway_requests_total", route="klines", method="GET", status="2xx") == 2.0
    assert value(found, "gateway_request_seconds_count", route="klines") == 2.0


def test_nothing_a_client_sends_adds_a_series(metrics):
    route = metrics.for_route("klines", "plan_key", "market-data")
    dice = random.Random(7)

    def anything() -> str:
        return "".join(chr(dice.randrange(33, 126)) for _ in range(dice.randrange(1, 20)))

    def one(method: str) -> None:
        request = finished(
            method,
            f"/{anything()}?{anything()}",
            client_ip=f"{dice.randrange(256)}.{dice.randrange(256)}.0.1",
            request_id=anything(),
            status=dice.choice([0, 200, 304, 401, 404, 429, 499, 502]),
            refusal=dice.choice([None, "no_route", "invalid_key"]),
            upstream_seconds=dice.choice([None, dice.random()]),
        )
        dice.choice([route, metrics.unmatched]).observe(request, dice.random() * 40)

    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "X"]
    for _ in range(2000):
        one(dice.choice(methods))
    before = samples(metrics).keys()
    for _ in range(5000):
        one(dice.choice([*methods, anything()]))

    assert samples(metrics).keys() == before


def test_a_defect_that_invents_reasons_does_not_open_the_set(metrics):
    for number in range(3 * MAX_REASONS):
        metrics.unmatched.observe(finished(status=400, refusal=f"reason-{number}"), 0.1)

    found = samples(metrics)

    refusals = {key: count for key, count in found.items() if key[0] == "gateway_refusals_total"}
    assert len(refusals) == MAX_REASONS + 1
    assert value(found, "gateway_refusals_total", pattern="none", reason="other") == 2 * MAX_REASONS


def test_totals_counted_elsewhere_are_read_at_each_flush(metrics):
    counted = {"hit": 5, "miss": 0}
    metrics.add_source(
        lambda: [
            Reading(Sourced.KEY_CACHE, ("keys", result), count) for result, count in counted.items()
        ]
    )
    metrics.add_source(lambda: [Reading(Sourced.KEY_CACHE, ("keys", "hit"), 100)])
    first = samples(metrics)
    counted["hit"] = 7
    second = samples(metrics)
    counted["hit"] = 2  # what counted was made anew
    third = samples(metrics)

    hits = [
        value(found, "gateway_key_cache_total", cache="keys", result="hit")
        for found in (first, second, third)
    ]
    assert hits == [105.0, 107.0, 109.0]


def test_gauges_of_several_sources_add_up_and_fall_to_zero_when_nobody_names_them(metrics):
    remove = metrics.add_source(
        lambda: [Reading(Sourced.UPSTREAM_CONNECTIONS, ("market-data", "idle"), 3)]
    )
    metrics.add_source(
        lambda: [
            Reading(Sourced.UPSTREAM_CONNECTIONS, ("market-data", "idle"), 2),
            Reading(Sourced.CONNECTIONS, (), 9),
        ]
    )

    def idle() -> float | None:
        found = samples(metrics)
        return value(found, "gateway_upstream_connections", upstream="market-data", state="idle")

    assert idle() == 5.0
    remove()
    assert idle() == 2.0
    assert value(samples(metrics), "gateway_connections") == 9.0


def test_a_source_that_ends_is_read_once_more(metrics):
    counted = [1]
    remove = metrics.add_source(lambda: [Reading(Sourced.STORE_ERRORS, (), counted[0])])
    metrics.flush()
    counted[0] = 4
    remove()
    remove()
    counted[0] = 100

    assert value(samples(metrics), "gateway_store_errors_total") == 4.0


def test_a_source_that_fails_takes_nothing_else_with_it(metrics, caplog):
    def broken():
        raise RuntimeError("broken")

    metrics.add_source(broken)
    metrics.add_source(lambda: [Reading(Sourced.STORE_UP, (), 1)])

    assert value(samples(metrics), "gateway_store_up") == 1.0
    assert value(samples(metrics), "gateway_store_up") == 1.0
    assert len(caplog.records) == 1


def test_the_answer_has_help_texts_and_prometheus_s_content_type(metrics):
    metrics.unmatched.observe(finished(refusal="x"), 0.1)

    body, content_type = metrics.render()

    text = body.decode()
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert "# TYPE gateway_requests_total counter\n" in text
    assert "# TYPE gateway_request_seconds histogram\n" in text
    for line in text.splitlines():
        if line.startswith("# HELP "):
            assert line.split(" ", 3)[3].endswith(".")
    assert "_created" not in text
    build = [line for line in text.splitlines() if line.startswith("gateway_build_info{")]
    assert len(build) == 1
    assert build[0].endswith(" 1.0")
    assert f'python="{sys.version.split()[0]}"' in build[0]


WORKER = textwrap.dedent("""
    import os, sys
    from pathlib import Path
    from gateway.observe.metrics import Metrics, Reading, Sourced
    sys.path.insert(0, sys.argv[3])
    from finished import finished
    metrics = Metrics(directory=Path(sys.argv[1]), worker=int(sys.argv[2]))
    connections, up = 2, int(sys.argv[2]) != 1
    metrics.add_source(lambda: [
        Reading(Sourced.CONNECTIONS, (), connections),
        Reading(Sourced.STORE_UP, (), float(up)),
        Reading(Sourced.STORE_ERRORS, (), 10),
        Reading(Sourced.UPSTREAM_CONNECTIONS, (str(os.getpid()), "idle"), 1),
    ])
    route = metrics.for_route("klines", "public", "market-data")
    for command in sys.stdin:
        if command == "count\\n":
            route.observe(finished(upstream_seconds=0.01, refusal="x"), 0.02)
            metrics.flush()
            print("counted", flush=True)
        else:
            sys.stdout.buffer.write(metrics.render()[0] + b"# EOF\\n")
            sys.stdout.flush()
""")


class Worker:
    """A process of its own that counts and renders on command."""

    def __init__(self, directory: Path, number: int) -> None:
        here = str(Path(__file__).parent)
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(directory), str(number), here],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={k: v for k, v in os.environ.items() if k != "PROMETHEUS_MULTIPROC_DIR"},
        )

    def count(self) -> None:
        self._send("count\n")
        assert self.process.stdout.readline() == "counted\n"

    def scrape(self) -> dict:
        self._send("render\n")
        lines = []
        while (line := self.process.stdout.readline()) != "# EOF\n":
            assert line
            lines.append(line)
        return parsed("".join(lines))

    def _send(self, command: str) -> None:
        self.process.stdin.write(command)
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


def upstreams(found: dict) -> set[str]:
    return {
        dict(labels)["upstream"] for name, labels in found if name == "gateway_upstream_connections"
    }


@pytest.fixture
def start(tmp_path):
    workers = []

    def start(number: int) -> Worker:
        workers.append(Worker(tmp_path, number))
        return workers[-1]

    yield start
    for worker in workers:
        if worker.process.poll() is None:
            worker.kill()


def test_any_worker_answers_for_all_of_them(start):
    first, second = start(0), start(1)
    for worker in (first, second, second):
        worker.count()

    for found in (first.scrape(), second.scrape()):
        labels = {"route": "klines", "method": "GET", "status": "2xx"}
        assert value(found, "gateway_requests_total", **labels) == 3.0
        assert value(found, "gateway_request_seconds_count", route="klines") == 3.0
        assert value(found, "gateway_upstream_seconds_count", upstream="market-data") == 3.0
        assert value(found, "gateway_refusals_total", pattern="public", reason="x") == 3.0
        assert value(found, "gateway_connections") == 4.0
        assert value(found, "gateway_store_errors_total") == 20.0
        assert value(found, "gateway_store_up") == 0.0  # the second doesn't reach it
        assert sum(key[0] == "gateway_build_info" for key in found) == 1


def test_counters_outlive_a_killed_worker_and_go_on_in_its_successor(start, tmp_path):
    first, second = start(0), start(1)
    first.count()
    second.count()
    second.kill()
    labels = {"route": "klines", "method": "GET", "status": "2xx"}
    assert value(first.scrape(), "gateway_requests_total", **labels) == 2.0
    files = sorted(path.name for path in tmp_path.iterdir())

    successor = start(1)
    found = successor.scrape()
    assert value(found, "gateway_connections") == 4.0  # not 6: the dead one has none
    assert upstreams(found) == {str(first.process.pid), str(successor.process.pid)}
    successor.count()

    found = first.scrape()
    assert value(found, "gateway_requests_total", **labels) == 3.0
    assert value(found, "gateway_request_seconds_count", route="klines") == 3.0
    assert sorted(path.name for path in tmp_path.iterdir()) == files

"""Traces: who is traced, what a collector is told, and what the backend hears of it."""

import asyncio
import json
import logging
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from backend import OK, RawBackend
from finished import Labels, finished
from harness import Running, open_gateway, route, upstream
from multidict import CIMultiDict, CIMultiDictProxy
from redis_process import eventually

from gateway.errors import ClientGone, UpstreamFailed, UpstreamTimeout
from gateway.observe import tracing
from gateway.observe.tracing import BATCH_SPANS, MAX_SPANS, Trace, Tracer, traces_url
from gateway.sections import TracingSettings

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE_ID}-{PARENT_ID}-01", f"00-{TRACE_ID}-{PARENT_ID}-00"
INVALID = [
    "",
    "-",
    SAMPLED + "0",
    SAMPLED + "-extra",  # version 00 has four fields
    SAMPLED.upper(),
    SAMPLED.replace("00-", "ff-", 1),
    SAMPLED.replace("00-", "0-", 1),
    f"00-{'0' * 32}-{PARENT_ID}-01",
    f"00-{TRACE_ID}-{'0' * 16}-01",
    f"00-{TRACE_ID[1:]}-{PARENT_ID}-01",
    f"00-{TRACE_ID}-{PARENT_ID}-0g",
    f"00-{TRACE_ID}-{PARENT_ID}",
    f"00_{TRACE_ID}_{PARENT_ID}_01",
    f" {SAMPLED}",
]
BACKEND_LINE = re.compile(r"traceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-01\r\n")


class Chance(random.Random):
    """`random()` is what the test says; the ids are real ones."""

    def __init__(self, drawn: float = 1.0) -> None:
        super().__init__(7)
        self.drawn = drawn

    def random(self) -> float:
        return self.drawn


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Collector:
    """Takes OTLP over HTTP as a real one does; `status` and `hold` are its faults."""

    def __init__(self) -> None:
        self.documents: list[dict[str, Any]] = []
        self.texts: list[str] = []
        self.asked = 0
        self.status = 200
        self.hold: asyncio.Event | None = None
        application = web.Application(client_max_size=2**24)
        application.router.add_post("/v1/traces", self._take)
        self.server = TestServer(application, host="127.0.0.1")

    @property
    def url(self) -> str:
        return str(self.server.make_url(""))

    async def _take(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.hold is not None:
            await self.hold.wait()
        if self.status != 200:
            headers = {"Location": "/v1/traces"} if self.status == 302 else {}
            return web.Response(status=self.status, headers=headers)
        assert request.content_type == "application/json"
        self.texts.append(await request.text())
        self.documents.append(json.loads(self.texts[-1]))
        return web.json_response({})

    def spans(self) -> Iterator[dict[str, Any]]:
        for document in self.documents:
            for resource in document["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    yield from scope["spans"]

    def pair(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The one SERVER span and the one CLIENT span."""
        server, client = sorted(self.spans(), key=lambda span: span["kind"])
        assert (server["kind"], client["kind"]) == (2, 3)
        return server, client


@pytest.fixture
async def collector():
    collector = Collector()
    await collector.server.start_server(access_log=None)
    yield collector
    await collector.server.close()


@pytest.fixture
async def session():
    async with ClientSession() as session:
        yield session


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tracer(session, collector, clock) -> Tracer:
    """One that traces what the client asks for, and is flushed by hand."""
    options = TracingSettings(endpoint=collector.url, sample=0.25)
    return Tracer(options, session, chance=Chance(), clock=clock)


def headers(*fields: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(fields))


def begun(tracer: Tracer, *fields: tuple[str, str]) -> Trace:
    trace = tracer.begin(headers(*(fields or (("traceparent", SAMPLED),))))
    assert trace is not None
    return trace


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    said = {}
    for pair in span["attributes"]:
        ((kind, value),) = pair["value"].items()
        assert isinstance(value, str), "64-bit integers are text in OTLP's JSON"
        said[pair["key"]] = int(value) if kind == "intValue" else value
    assert len(said) == len(span["attributes"])
    return said


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


# Who is traced.


@pytest.mark.parametrize(
    ("sent", "drawn", "traced"),
    [
        ([], 0.25, False),
        ([], 0.2499, True),
        ([SAMPLED], 1.0, True),
        ([UNSAMPLED], 0.0, False),
        ([f"00-{TRACE_ID}-{PARENT_ID}-03"], 1.0, True),
        ([f"00-{TRACE_ID}-{PARENT_ID}-fe"], 0.0, False),
        ([f"cc-{TRACE_ID}-{PARENT_ID}-01-what-comes"], 1.0, True),
        ([f"cc-{TRACE_ID}-{PARENT_ID}-00"], 0.0, False),
        ([SAMPLED, SAMPLED], 1.0, False),
        *(([value], 1.0, False) for value in INVALID),
    ],
)
def test_the_clients_flag_decides_and_else_chance(tracer, sent, drawn, traced) -> None:
    tracer._chance.drawn = drawn
    trace = tracer.begin(headers(*(("TraceParent", value) for value in sent)))
    assert (trace is not None) == traced


async def test_the_whole_range_of_sample_is_kept(session) -> None:
    for sample, drawn, traced in ((0.0, 0.0, False), (1.0, 0.999999, True)):
        options = TracingSettings(endpoint="http://127.0.0.1:1", sample=sample)
        tracer = Tracer(options, session, chance=Chance(drawn))
        assert (tracer.begin(headers()) is not None) == traced


def test_a_sampled_parent_is_continued(tracer) -> None:
    trace = begun(tracer)
    assert (trace.trace_id, trace.parent_id) == (TRACE_ID, PARENT_ID)
    assert trace.line == f"traceparent: 00-{TRACE_ID}-{trace.client_id}-01\r\n".encode()
    assert trace.replaces == {b"traceparent"}
    assert len({PARENT_ID, trace.server_id, trace.client_id}) == 3


@pytest.mark.parametrize("value", INVALID)
def test_an_invalid_parent_is_replaced_with_its_tracestate(tracer, value) -> None:
    tracer._chance.drawn = 0.0
    trace = begun(tracer, ("traceparent", value), ("tracestate", "a=1"))
    assert trace.parent_id is None
    assert trace.trace_id != TRACE_ID
    assert BACKEND_LINE.fullmatch(trace.line.decode())
    assert trace.replaces == {b"traceparent", b"tracestate"}


async def test_no_id_is_all_zeros(session) -> None:
    class Zeros(Chance):
        def getrandbits(self, bits: int) -> int:
            return 0

    options = TracingSettings(endpoint="http://127.0.0.1:1")
    trace = begun(Tracer(options, session, chance=Zeros(0.0)), ("x", "y"))
    assert (trace.trace_id, trace.server_id) == (f"{1:032x}", f"{1:016x}")


# What the spans say.


async def test_spans_are_posted_as_otlp_has_them(tracer, collector) -> None:
    trace = begun(tracer)
    exchange = finished(route=Labels(), upstream_seconds=0.25, status=200)
    tracer.finish(exchange, trace, 0.5)
    await tracer.flush()
    (document,) = collector.documents
    (resource,) = document["resourceSpans"]
    assert attributes(resource["resource"])["service.name"] == "primit-gateway"
    server, client = collector.pair()
    assert server == {
        "traceId": TRACE_ID,
        "spanId": trace.server_id,
        "parentSpanId": PARENT_ID,
        "name": "GET klines",
        "kind": 2,
        "startTimeUnixNano": "1699999999500000000",
        "endTimeUnixNano": "1700000000000000000",
        "attributes": server["attributes"],
        "status": {},
    }
    assert attributes(server) == {
        "http.request.method": "GET",
        "http.route": "klines",
        "http.response.status_code": 200,
        "gateway.pattern": "plan_key",
        "client.address": "192.0.2.7",
    }
    assert client == {
        "traceId": TRACE_ID,
        "spanId": trace.client_id,
        "parentSpanId": trace.server_id,
        "name": "GET",
        "kind": 3,
        "startTimeUnixNano": "1699999999750000000",
        "endTimeUnixNano": "1700000000000000000",
        "attributes": client["attributes"],
        "status": {},
    }
    assert attributes(client) == {"http.request.method": "GET", "http.response.status_code": 200}


async def test_a_request_that_no_upstream_saw_has_one_span_and_a_root_no_parent(
    tracer, collector
) -> None:
    tracer._chance.drawn = 0.0
    refused = finished("BREW", status=404, refusal="no_route")
    tracer.finish(refused, begun(tracer, ("x", "y")), 0.5)
    await tracer.flush()
    (span,) = collector.spans()
    assert "parentSpanId" not in span
    assert span["name"] == "_OTHER"  # a client's word is no name
    assert attributes(span) == {
        "http.request.method": "_OTHER",
        "http.response.status_code": 404,
        "client.address": "192.0.2.7",
        "gateway.refusal": "no_route",
    }


@pytest.mark.parametrize(
    ("status", "failure", "error"),
    [
        (200, None, False),
        (404, None, False),
        (499, ClientGone(), False),
        (500, None, True),
        (503, None, True),
        (504, UpstreamTimeout(), True),
        (200, UpstreamFailed(), True),  # it broke off after its head
    ],
)
async def test_a_5xx_or_a_broken_answer_is_an_error(
    tracer, collector, status, failure, error
) -> None:
    exchange = finished(route=Labels(), status=status, failure=failure, upstream_seconds=0.1)
    tracer.finish(exchange, begun(tracer), 0.2)
    await tracer.flush()
    for span in collector.pair():
        assert span["status"] == ({"code": 2} if error else {})
    own, upstreams = map(attributes, collector.pair())
    assert own["http.response.status_code"] == status
    assert ("http.response.status_code" in upstreams) == (failure is None)


# The way to the collector.


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("http://c:4318/", "http://c:4318/v1/traces"),
        ("https://c/otlp", "https://c/otlp/v1/traces"),
        ("https://c/otlp/v1/traces", "https://c/otlp/v1/traces"),
    ],
)
def test_the_endpoint_is_taken_as_given_or_completed(endpoint, url) -> None:
    assert traces_url(endpoint) == url


async def test_many_spans_go_in_batches(tracer, collector) -> None:
    for _ in range(2 * BATCH_SPANS + 1):
        tracer.finish(finished(), begun(tracer), 0.1)
    await tracer.flush()
    counts = [len(d["resourceSpans"][0]["scopeSpans"][0]["spans"]) for d in collector.documents]
    assert counts == [BATCH_SPANS, BATCH_SPANS, 1]


async def test_spans_beyond_the_queue_are_dropped_and_told_once_a_minute(
    tracer, collector, clock, caplog
) -> None:
    def overflow(more: int) -> None:
        for _ in range(MAX_SPANS + more):
            tracer.finish(finished(), begun(tracer), 0.1)

    overflow(3)
    await tracer.flush()
    assert tracer.dropped == 3
    assert len(list(collector.spans())) == MAX_SPANS
    overflow(4)
    await tracer.flush()
    (said,) = warnings(caplog)
    assert "3 spans" in said
    clock.now += 60
    tracer.finish(finished(), begun(tracer), 0.1)
    await tracer.flush()
    assert "4 spans" in warnings(caplog)[1]
    clock.now += 60
    tracer.finish(finished(), begun(tracer), 0.1)
    await tracer.flush()
    assert len(warnings(caplog)) == 2


@pytest.mark.parametrize("status", [302, 400, 404, 503])
async def test_a_collector_that_fails_is_told_of_twice_when_it_goes_and_when_it_is_back(
    tracer, collector, clock, caplog, status
) -> None:
    async def one() -> None:
        tracer.finish(finished(), begun(tracer), 0.1)
        await tracer.flush()

    collector.status = status
    for _ in range(3):
        clock.now += 100
        await one()
    assert collector.asked == 3  # nothing is sent again, nor elsewhere
    assert tracer.dropped == 3
    assert len(warnings(caplog)) == 1
    collector.status = 200
    await one()
    await one()
    gone, back = warnings(caplog)
    assert f"status {status}" in gone
    assert "3 spans" in back
    assert len(list(collector.spans())) == 2


async def test_a_collector_that_is_not_there_costs_one_warning(session, caplog) -> None:
    options = TracingSettings(endpoint="http://user:canary@127.0.0.1:1/canary")
    tracer = Tracer(options, session)
    for _ in range(BATCH_SPANS + 2):
        tracer.finish(finished(), begun(tracer), 0.1)
    await tracer.flush()
    assert tracer.dropped == BATCH_SPANS
    await tracer.flush()
    assert tracer.dropped == BATCH_SPANS + 2
    (said,) = warnings(caplog)
    assert "canary" not in said


async def test_a_collector_that_never_answers_is_given_up(
    tracer, collector, caplog, monkeypatch
) -> None:
    monkeypatch.setattr(tracing, "POST_SECONDS", 0.01)
    collector.hold = asyncio.Event()
    tracer.finish(finished(), begun(tracer), 0.1)
    await tracer.flush()
    collector.hold.set()
    assert tracer.dropped == 1
    assert "Timeout" in warnings(caplog)[0]


async def test_the_queue_is_emptied_by_the_clock(tracer, collector, monkeypatch) -> None:
    monkeypatch.setattr(tracing, "INTERVAL_SECONDS", 0.01)
    tracer.start()
    for count in (1, 2):
        tracer.finish(finished(), begun(tracer), 0.1)
        await eventually(lambda count=count: len(collector.documents) == count)
    await tracer.close()


async def test_closing_delivers_what_is_left(tracer, collector, monkeypatch) -> None:
    monkeypatch.setattr(tracing, "INTERVAL_SECONDS", 1e6)
    tracer.start()
    await asyncio.sleep(0)
    tracer.finish(finished(), begun(tracer), 0.1)
    await tracer.close()
    assert len(list(collector.spans())) == 1
    assert tracer._task.done()


async def test_closing_does_not_wait_for_a_slow_collector(tracer, collector, monkeypatch) -> None:
    monkeypatch.setattr(tracing, "CLOSE_SECONDS", 0.01)
    collector.hold = asyncio.Event()
    tracer.start()
    tracer.finish(finished(), begun(tracer), 0.1)
    await tracer.close()  # it would never end
    assert tracer._task.cancelled()
    collector.hold.set()


async def test_a_tracer_that_was_never_started_can_be_closed(tracer) -> None:
    await tracer.close()


# Through a whole gateway.


@pytest.fixture
async def backend():
    backend = await RawBackend().start()
    yield backend
    await backend.stop()


@pytest.fixture
async def gateway(backend, collector, tmp_path):
    """Traces what the client asks for, and by chance nothing."""
    async with open_traced(tmp_path, backend, collector.url, 0) as running:
        yield running


def open_traced(folder: Path, backend: RawBackend, endpoint: str | None, sample: float) -> Any:
    routes = [
        route("/open/{rest...}", name="open"),
        route("/closed", "plan_key", plan="standard", name="closed"),
        route("/orders/auth", "body_credentials", methods=["POST"], name="orders"),
    ]
    settings = {"tracing": {"endpoint": endpoint, "sample": sample}}
    described = {"upstreams": upstream(backend.url), "routes": routes}
    return open_gateway(folder, described, settings)


async def ask(
    gateway: Running, target: bytes, *fields: bytes, method: bytes = b"GET", body: bytes = b""
) -> bytes:
    lines = (b"Host: api.example", b"Content-Length: %d" % len(body), *fields)
    head = b"".join(line + b"\r\n" for line in (method + b" " + target + b" HTTP/1.1", *lines))
    return await gateway.talk(head + b"\r\n" + body)


def parent(value: str) -> bytes:
    return f"traceparent: {value}".encode()


async def delivered(running: Running) -> None:
    assert running.parts.tracer is not None
    await running.parts.tracer.flush()


async def test_client_gateway_and_backend_are_one_trace(gateway, backend, collector) -> None:
    fields = (parent(SAMPLED), b"TraceState: a=1,b=2", b"Connection: traceparent, tracestate2")
    assert (await ask(gateway, b"/open/x", *fields)).startswith(b"HTTP/1.1 200")
    await delivered(gateway)
    server, client = collector.pair()
    assert server["traceId"] == client["traceId"] == TRACE_ID
    assert server["parentSpanId"] == PARENT_ID
    assert client["parentSpanId"] == server["spanId"]
    heard = backend.last.one(b"traceparent").decode()
    assert heard == f"00-{TRACE_ID}-{client['spanId']}-01"
    assert backend.last.one(b"TraceState") == b"a=1,b=2"
    assert int(server["startTimeUnixNano"]) <= int(client["startTimeUnixNano"])
    assert int(client["endTimeUnixNano"]) <= int(server["endTimeUnixNano"])
    assert server["name"] == "GET open"
    assert attributes(server)["client.address"] == "127.0.0.1"


async def test_chance_begins_a_trace_that_the_backend_continues(
    backend, collector, tmp_path
) -> None:
    async with open_traced(tmp_path, backend, collector.url, 1) as gateway:
        await ask(gateway, b"/open/x", parent("nonsense"), b"tracestate: a=1")
    server, client = collector.pair()  # delivered as the gateway ended
    assert "parentSpanId" not in server
    heard = backend.last.one(b"traceparent").decode()
    assert heard == f"00-{server['traceId']}-{client['spanId']}-01"
    assert backend.last.all(b"tracestate") == []


@pytest.mark.parametrize("traced", [False, True], ids=["no endpoint", "not sampled"])
async def test_what_is_not_traced_passes_untouched(backend, collector, tmp_path, traced) -> None:
    fields = (parent(UNSAMPLED), b"Traceparent: \xff odd", b"tracestate: ,,=\xfe")
    endpoint = collector.url if traced else None
    async with open_traced(tmp_path, backend, endpoint, 0 if traced else 1) as gateway:
        assert (gateway.parts.tracer is not None) == traced
        await ask(gateway, b"/open/x", *fields)
    for field in fields:
        assert field in backend.last.head
    assert backend.last.head.lower().count(b"traceparent") == 2
    assert collector.asked == 0


@pytest.mark.parametrize(
    ("target", "answer", "status", "expected"),
    [
        (b"/closed", OK, 401, {"gateway.refusal": "missing_key", "gateway.pattern": "plan_key"}),
        (b"/nowhere", OK, 404, {"gateway.refusal": "no_route"}),
        (b"/open//x", OK, 400, {}),
        (b"/open/x", b"nonsense\r\n\r\n", 502, {"gateway.refusal": "upstream_bad_answer"}),
        (b"/open/x", OK.replace(b"200 OK", b"500 NO"), 500, {"http.route": "open"}),
    ],
)
async def test_every_way_out_has_its_span(
    gateway, backend, collector, target, answer, status, expected
) -> None:
    backend.answer = answer
    assert (await ask(gateway, target, parent(SAMPLED))).startswith(b"HTTP/1.1 %d" % status)
    await delivered(gateway)
    server, *clients = sorted(collector.spans(), key=lambda span: span["kind"])
    said = attributes(server)
    assert said["http.response.status_code"] == status
    assert expected.items() <= said.items()
    assert ("http.route" in said) == (status in {401, 500, 502})
    assert server["status"] == ({"code": 2} if status >= 500 else {})
    assert len(clients) == len(backend.requests)


async def test_no_secret_and_nothing_a_client_wrote_is_exported(
    backend, collector, tmp_path
) -> None:
    fields = (
        parent(SAMPLED),
        b"tracestate: canary=1",
        b"X-Request-ID: canary",
        b"User-Agent: canary",
        b"X-Primit-API-Key: pk_canary",
        b"Authorization: Bearer canary",
    )
    body = b'{"api_key": "canary", "api_secret": "canary"}'
    async with open_traced(tmp_path, backend, collector.url, 1) as gateway:
        await ask(gateway, b"/open/canary?q=canary", *fields)
        await ask(gateway, b"/closed?canary", *fields)
        await ask(gateway, b"/canary", *fields)
        await ask(gateway, b"/orders/auth?canary", *fields, method=b"POST", body=body)
        await ask(gateway, b"/orders/auth", *fields, method=b"CANARY", body=body)
        await ask(gateway, b"/open/\\canary", *fields)
        backend.answer = b"canary\r\n\r\n"
        await ask(gateway, b"/open/canary", *fields)
    assert [span["kind"] for span in collector.spans()].count(2) == 7
    exported = "".join(collector.texts).lower()
    assert "canary" not in exported
    assert "example" not in exported

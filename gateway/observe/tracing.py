"""Traces: which requests are traced, what their spans say, and their way to a collector.

Rules:
- Without an endpoint there is no `Tracer`; `traceparent` and `tracestate` pass as they came.
- The client's valid `traceparent` decides by its sampled flag, else chance does. A request that
  is not traced reaches the backend unchanged.
- Attributes come from the route table, closed sets of words, and the connection: nothing of a
  path, a query, a header or a credential.
- No request waits. Spans go to a bounded queue, which one task empties each second; what has no
  room, or what the collector does not take, is dropped and counted.

Terms: W3C Trace Context (trace-id, parent-id, `traceparent`); OpenTelemetry (span, SERVER,
CLIENT); OTLP/HTTP in its JSON encoding (ids in hex, 64-bit integers as text).
"""

import asyncio
import contextlib
import logging
import random
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout
from multidict import CIMultiDictProxy

from gateway.exchange import Exchange
from gateway.observe.counts import METHODS
from gateway.sections import TracingSettings

logger = logging.getLogger("gateway.observe")

INTERVAL_SECONDS = 1.0
POST_SECONDS = 5.0
CLOSE_SECONDS = 2.0
TELL_SECONDS = 60.0
MAX_SPANS = 2048
BATCH_SPANS = 256  # a few milliseconds of JSON at a time
NANOSECONDS = 1_000_000_000
SERVER, CLIENT, ERROR = 2, 3, 2  # the numbers of opentelemetry/proto/trace/v1/trace.proto

_KNOWN_METHODS = frozenset(METHODS) - {"OTHER"}
# A tracestate belongs to its traceparent: without a valid one it goes too (W3C §3.3).
_CONTINUED = frozenset({b"traceparent"})
_BEGUN = frozenset({b"traceparent", b"tracestate"})
# W3C Trace Context §3.2: version, trace-id, parent-id, flags; later versions may append fields.
_parse = re.compile(
    r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
).fullmatch


@dataclass(frozen=True, slots=True)
class Trace:
    """A traced request's place in its trace. Ids are lower-case hex.

    `replaces` are the client's fields that don't reach the backend, `line` goes there instead.
    """

    trace_id: str
    parent_id: str | None  # the client's span
    server_id: str
    client_id: str
    replaces: frozenset[bytes]
    line: bytes


class Tracer:
    """One worker's traces. `start` and `close` it in the worker's event loop."""

    def __init__(
        self,
        options: TracingSettings,
        session: ClientSession,
        *,
        chance: random.Random | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`options` name an endpoint. `clock` tells Unix seconds."""
        self._url = traces_url(options.endpoint or "")
        self._release = version("primit-gateway")
        self._sample = options.sample
        self._session = session
        self._chance = chance or random.Random()  # noqa: S311  # ids are names, no secrets
        self._clock = clock
        self._spans: deque[dict[str, Any]] = deque()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._down = False
        self._told = 0  # dropped spans that the log knows of
        self._told_at = float("-inf")
        self.dropped = 0  # spans, since the beginning

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Deliver what is left, unless the collector takes more than `CLOSE_SECONDS`."""
        self._closing.set()
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._task

    def begin(self, headers: CIMultiDictProxy[str]) -> Trace | None:
        """The trace that a request with these headers belongs to; None: it is not traced."""
        named = headers.getall("traceparent", ())
        parent = _parse(named[0]) if len(named) == 1 else None
        if parent is None:
            if self._chance.random() >= self._sample:
                return None
            trace_id, parent_id, replaces = self._new_id(128), None, _BEGUN
        elif int(parent[3], 16) & 1:
            trace_id, parent_id, replaces = parent[1], parent[2], _CONTINUED
        else:
            return None
        client_id = self._new_id(64)
        line = f"traceparent: 00-{trace_id}-{client_id}-01\r\n".encode()
        return Trace(trace_id, parent_id, self._new_id(64), client_id, replaces, line)

    def finish(self, exchange: Exchange, trace: Trace, seconds: float) -> None:
        """Queue the spans of a request that is over, and took `seconds`."""
        method = exchange.method if exchange.method in _KNOWN_METHODS else "_OTHER"
        route, failure = exchange.route, exchange.failure
        end = int(self._clock() * NANOSECONDS)
        # An answer that broke off keeps the status it began with.
        broken = failure is not None and failure.status >= 500
        common = {
            "traceId": trace.trace_id,
            "endTimeUnixNano": str(end),
            "status": {"code": ERROR} if broken or exchange.status >= 500 else {},
        }
        said: dict[str, str | int] = {"http.request.method": method}
        if exchange.upstream_seconds is not None:  # its part ends as the request does
            answered = {} if failure else {"http.response.status_code": exchange.status}
            self._put(
                spanId=trace.client_id,
                parentSpanId=trace.server_id,
                name=method,
                kind=CLIENT,
                startTimeUnixNano=str(end - int(exchange.upstream_seconds * NANOSECONDS)),
                attributes=_attributes(said | answered),
                **common,
            )
        said |= {"http.response.status_code": exchange.status, "client.address": exchange.client_ip}
        if route is not None:
            said |= {"http.route": route.name, "gateway.pattern": route.pattern}
        if exchange.refusal is not None:
            said["gateway.refusal"] = exchange.refusal
        self._put(
            spanId=trace.server_id,
            **({} if trace.parent_id is None else {"parentSpanId": trace.parent_id}),
            name=method if route is None else f"{method} {route.name}",
            kind=SERVER,
            startTimeUnixNano=str(end - int(seconds * NANOSECONDS)),
            attributes=_attributes(said),
            **common,
        )

    def _new_id(self, bits: int) -> str:
        return f"{self._chance.getrandbits(bits) or 1:0{bits // 4}x}"  # all zeros is no id

    def _put(self, **span: Any) -> None:
        if len(self._spans) < MAX_SPANS:
            self._spans.append(span)
        else:
            self.dropped += 1

    async def _run(self) -> None:
        closing = False
        while not closing:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_SECONDS):
                    closing = await self._closing.wait()
            await self.flush()

    async def flush(self) -> None:
        """Post what is queued. A batch that can't be delivered is dropped; the rest waits."""
        problem: str | None = None
        while self._spans and problem is None:
            batch = [self._spans.popleft() for _ in range(min(len(self._spans), BATCH_SPANS))]
            problem = await self._post(batch)
            if problem is not None:
                self.dropped += len(batch)
            self._tell(problem)

    async def _post(self, batch: list[dict[str, Any]]) -> str | None:
        """Deliver; what is wrong, in a word without any address, else None."""
        try:
            async with self._session.post(
                self._url,
                json=_document(batch, self._release),
                timeout=ClientTimeout(total=POST_SECONDS),
                allow_redirects=False,
            ) as answer:
                return None if 200 <= answer.status < 300 else f"status {answer.status}"
        except (ClientError, OSError) as error:
            return type(error).__name__

    def _tell(self, problem: str | None) -> None:
        """Say when the collector goes and when it is back, and once a minute what it missed."""
        now, lost = self._clock(), self.dropped - self._told
        if problem is not None:
            if not self._down:
                logger.warning("The trace collector fails (%s): spans are dropped.", problem)
        elif self._down or (lost and now - self._told_at >= TELL_SECONDS):
            cause = "it was away" if self._down else "they were too many"
            logger.warning("The trace collector missed %d spans: %s.", lost, cause)
            self._told, self._told_at = self.dropped, now
        self._down = problem is not None


def traces_url(endpoint: str) -> str:
    """Where spans are posted (OTLP/HTTP: `/v1/traces` below the collector's base)."""
    return endpoint if endpoint.endswith("/v1/traces") else f"{endpoint.rstrip('/')}/v1/traces"


def _attributes(values: Mapping[str, str | int]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue" if type(value) is int else "stringValue": str(value)}}
        for key, value in values.items()
    ]


def _document(spans: list[dict[str, Any]], release: str) -> dict[str, Any]:
    resource = _attributes({"service.name": "primit-gateway", "service.version": release})
    scope = {"scope": {"name": "gateway", "version": release}, "spans": spans}
    return {"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [scope]}]}

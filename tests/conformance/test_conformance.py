"""Every row of the conformance tables, whole and byte by byte.

Whatever the row, the oracle holds: the backend sees no request that the gateway did not parse and
log as one, and what it sees is beyond doubt.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from backend import RawBackend, Received
from case import Case
from defects import DEFECTS, defect
from differences import BY_CASE
from harness import Running, open_gateway, upstream
from redis_process import eventually
from stage import AFTER, ROUTES, SETTINGS, cast
from table import CASES
from wire import Outcome, converse

from gateway.observe import access_log
from gateway.observe.redaction import safe_path

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
CERTAIN_HEAD = re.compile(
    rb"%b [!-~]+ HTTP/1\.1\r\n(?:%b: [\t -~\x80-\xff]*\r\n)+\r\n" % (TOKEN, TOKEN)
).fullmatch


@pytest.fixture
async def backend() -> AsyncIterator[RawBackend]:
    backend = await RawBackend().start()
    yield backend
    await backend.stop()


@pytest.fixture
async def gateway(
    backend: RawBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Running]:
    monkeypatch.setattr(access_log, "INTERVAL_SECONDS", 0.002)  # every case reads the log
    upstreams = upstream(backend.url, timeout={"connect": 2, "read": 5})
    async with open_gateway(tmp_path, {"upstreams": upstreams, "routes": ROUTES}, SETTINGS) as it:
        yield it


def test_no_two_cases_have_one_name() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 320


def test_only_cases_are_explained_or_known_to_fail() -> None:
    assert {*BY_CASE, *DEFECTS} <= {case.name for case in CASES}


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_case_comes_out_as_its_row_says(
    request: pytest.FixtureRequest,
    gateway: Running,
    backend: RawBackend,
    case: Case,
    *,
    bytewise: bool,
) -> None:
    if (reason := defect(case, bytewise=bytewise)) is not None:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    whole = cast(backend, case, bytewise=bytewise)
    statuses = case.late if bytewise and case.late else case.statuses
    # What is refused before anything of it has left does not cost the client its connection.
    closes = case.closes and (not case.cut or statuses[-1] == 200)
    outcome = await converse(
        gateway.port,
        case.send,
        case.asked,
        bytewise=bytewise,
        after_continue=case.after_continue,
        then=None if closes else (len(statuses), AFTER),
        lingers=case.lingers,
    )
    check_answers(case, outcome, statuses, closes=closes)
    # The head of a request may have left before its body turned out to be bad: such a request
    # never comes whole, and is refused and logged like any other.
    check_seen(case, whole)
    await eventually(lambda: len(gateway.log()) >= len(finals(outcome)))
    check_log(gateway.log(), backend.requests, finals(outcome))


def finals(outcome: Outcome) -> list[int]:
    return [status for status in outcome.statuses if status == 101 or status >= 200]


def check_answers(case: Case, outcome: Outcome, statuses: tuple[int, ...], *, closes: bool) -> None:
    assert outcome.statuses == statuses + (() if closes else (200,))
    assert outcome.closed
    assert all(answer.head.startswith(b"HTTP/1.1 ") for answer in outcome.answers)
    answers = outcome.answers[: len(statuses)]
    heads = b"".join(answer.head for answer in answers)
    for text in case.got:
        assert text in heads
    for text in case.got_not:
        assert text not in heads
    last = answers[-1]
    assert last.whole != (case.cut and last.status == 200)
    if case.body is not None:
        assert last.body == case.body
    if closes and last.whole and last.status != 101:
        assert last.all(b"Connection") == [b"close"]


def check_seen(case: Case, requests: list[Received]) -> None:
    assert [received.line for received in requests] == [saw.line for saw in case.saw]
    for received, saw in zip(requests, case.saw, strict=True):
        assert CERTAIN_HEAD(received.head), received.head
        names = [name.lower() for name, _ in received.fields]
        for name in (b"host", b"x-request-id", b"x-forwarded-for", b"x-auth-pattern"):
            assert names.count(name) == 1
        assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
        lines = received.head.split(b"\r\n")
        for line in saw.has:
            assert line in lines
        for name in saw.lacks:
            assert name.lower() not in names
        assert received.body == (b"" if case.early else saw.body)
        assert received.trailers == b""


def check_log(log: list[dict[str, Any]], requests: list[Received], statuses: list[int]) -> None:
    """One line per answer; one request of the backend per line that says that it was asked."""
    assert [line["status"] for line in log] == statuses
    seen = []
    for received in requests:
        method, target, _ = received.line.decode().split(" ")
        request_id = received.one(b"X-Request-ID").decode()
        seen.append((method, safe_path(target.partition("?")[0]), request_id))
    ids = {request_id for _, _, request_id in seen}
    asked = [
        line
        for line in log
        # A body that came whole and was too long was taken note of with a backend at hand.
        if line["upstream_seconds"] is not None
        and (line["reason"] != "payload_too_large" or line["request_id"] in ids)
    ]
    assert seen == [(line["method"], line["path"], line["request_id"]) for line in asked]

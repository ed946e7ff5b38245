"""What a backend can do wrong, and what the client then sees, byte for byte; the log and the
metric say whose fault it was.

The rule behind all of it: an answer that is not whole never looks whole. By its length and in
chunks it ends too soon; one that lasts until the connection ends has no other sign than a reset.
"""

import socket
from pathlib import Path
from typing import Any

import pytest
from backend_process import say
from faulty_stage import NO_LIMIT, Stage
from gateway_process import GatewayProcess, until
from harness import route, upstream

BAD_GATEWAY = b'{"detail": "Bad Gateway"}'
GATEWAY_TIMEOUT = b'{"detail": "Gateway Timeout"}'
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhalf"
RESET = (502, "upstream_reset", "upstream")
BAD_ANSWER = (502, "upstream_bad_answer", "upstream")
LATE = (504, "upstream_timeout", "upstream")

Logged = tuple[int, str | None, str | None]

BEFORE_AN_ANSWER: dict[str, tuple[list[str], Logged]] = {
    "fin": (["body", "fin"], RESET),
    "reset": (["body", "reset"], RESET),
    "killed": (["body", "kill"], RESET),
    "reset before the body was read": (["reset"], RESET),
    "half a head, then fin": ([say(b"HTTP/1.1 200 OK\r\nConte"), "fin"], RESET),
    "half a head, then reset": ([say(b"HTTP/1.1 200 OK\r\nConte"), "sleep=50", "reset"], RESET),
    "half a head, then killed": ([say(b"HTTP/1.1 200 OK\r\nConte"), "sleep=50", "kill"], RESET),
    "half a head, then nothing": ([say(b"HTTP/1.1 200 OK\r\nConte"), "hang"], LATE),
    "nothing": (["body", "hang"], LATE),
    "a banner of another protocol": ([say(b"220 mail.example ESMTP\r\n"), "hang"], BAD_ANSWER),
    "binary": ([say(bytes(range(256))), "hang"], BAD_ANSWER),
    "a TLS alert": ([say(b"\x15\x03\x03\x00\x02\x02\x46"), "hang"], BAD_ANSWER),
    "HTTP/0.9": ([say(b"<html>hello</html>"), "fin"], BAD_ANSWER),
    "NUL in a field": ([say(b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n"), "hang"], BAD_ANSWER),
    "two lengths": (
        [say(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), "hang"],
        BAD_ANSWER,
    ),
    "switching protocols unasked": (
        [
            say(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
            "hang",
        ],
        BAD_ANSWER,
    ),
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("fault", BEFORE_AN_ANSWER)
def test_without_a_whole_head_the_client_gets_an_answer_of_the_gateways_own(
    stage: Stage, fault: str, method: str
) -> None:
    steps, (status, reason, whose) = BEFORE_AN_ANSWER[fault]
    before = stage.refusals(reason or "")
    target = stage.target(*steps)
    name, seen = stage.ask(target, method=method, body=b"four" if method == "POST" else b"")
    if "kill" in steps:
        stage.backend.restart()
    assert seen.head.startswith(b"HTTP/1.1 %d " % status)
    assert seen.body == (GATEWAY_TIMEOUT if status == 504 else BAD_GATEWAY)
    assert stage.logged(name) == (status, reason, whose)
    assert stage.refusals(reason or "") == before + 1
    assert len(stage.backend.events("request", target)) == 1
    assert stage.is_well()


AMID_THE_BODY: dict[str, tuple[bytes, list[str], str]] = {
    "length, fin": (LENGTH, ["fin"], "upstream_reset"),
    "length, reset": (LENGTH, ["sleep=50", "reset"], "upstream_reset"),
    "length, killed": (LENGTH, ["sleep=50", "kill"], "upstream_reset"),
    "length, silence": (LENGTH, ["hang"], "upstream_timeout"),
    "chunked, fin": (CHUNKED, ["fin"], "upstream_reset"),
    "chunked, reset": (CHUNKED, ["sleep=50", "reset"], "upstream_reset"),
    "chunked, killed": (CHUNKED, ["sleep=50", "kill"], "upstream_reset"),
    "chunked, silence": (CHUNKED, ["hang"], "upstream_timeout"),
    "chunked, fin within a chunk": (CHUNKED + b"9\r\nhal", ["fin"], "upstream_reset"),
    "chunked, fin before the last line": (CHUNKED + b"0\r\n", ["fin"], "upstream_reset"),
    "chunked, a bad size": (
        CHUNKED,
        ["sleep=50", say(b"nonsense\r\n"), "hang"],
        "upstream_bad_answer",
    ),
    "until close, reset": (UNTIL_CLOSE, ["sleep=50", "reset"], "upstream_reset"),
    "until close, silence": (UNTIL_CLOSE, ["hang"], "upstream_timeout"),
}


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("fault", AMID_THE_BODY)
def test_an_answer_that_breaks_off_never_looks_whole(
    stage: Stage, fault: str, version: str
) -> None:
    begun, steps, reason = AMID_THE_BODY[fault]
    before = stage.refusals(reason)
    name = stage.new_name()
    with stage.client() as client:
        client.request(stage.target(say(begun), *steps), name=name, version=version)
        seen = client.answer()
        rest, _ = client.rest()
    if "kill" in steps:
        stage.backend.restart()
    assert seen.status == 200
    assert not seen.is_whole
    assert rest == b""
    if version == "1.0":
        assert b"chunked" not in seen.head.lower()
        assert seen.ended == "reset"
        assert b"halfhal".startswith(seen.body)
    # 200 is what the client was told; the rest of the line says what became of it.
    assert stage.logged(name) == (200, reason, "upstream")
    assert stage.refusals(reason) == before + 1
    assert stage.is_well()


def test_what_came_before_the_break_reaches_a_client_that_takes_it(stage: Stage) -> None:
    with stage.client() as client:
        client.request(stage.target(say(LENGTH), "sleep=500", "reset"))
        assert b"Content-Length: 10\r\n" in client.until(b"\r\n\r\n")
        assert client.until(b"half") == b"half"
        assert client.rest()[0] == b""


@pytest.mark.parametrize(
    "excess",
    [b"more than was promised", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"],
    ids=["bytes", "a second answer"],
)
@pytest.mark.parametrize("when", ["at once", "later"])
def test_more_than_an_answer_reaches_nobody(stage: Stage, excess: bytes, when: str) -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    steps = [say(whole + excess)] if when == "at once" else [say(whole), "sleep=50", say(excess)]
    target = stage.target(*steps, "hang")
    with stage.client() as client:
        client.request(target)
        assert client.answer().body == b"ok"
        # Between the two nothing tells an excess from an answer: it has to come before the request.
        stage.backend.saw("left", target)
        for _ in range(2):
            client.request(stage.target())
            assert client.answer().body == b"ok"
        client.half_close()
        assert client.rest()[0] == b""


def test_an_early_answer_reaches_the_client_and_ends_the_upload(stage: Stage) -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"
    name, target = stage.new_name(), stage.target(say(refusal), "hang")
    with stage.client() as client:
        client.request(target, method="POST", name=name, fields=b"Content-Length: 1000000\r\n")
        seen = client.answer()
    assert (seen.status, seen.body) == (413, b"big")
    assert b"Connection: close\r\n" in seen.head
    stage.backend.saw("left", target)
    assert stage.logged(name) == (413, None, None)


def test_a_backend_killed_amid_an_upload_is_a_502_and_nothing_is_sent_again(stage: Stage) -> None:
    name, target = stage.new_name(), stage.target("read=100", "kill")
    with stage.client() as client:
        fields = b"Content-Length: 1000000\r\n"
        client.request(target, method="PUT", name=name, fields=fields)
        client.send(bytes(1000))
        seen = client.answer()
    stage.backend.restart()
    assert (seen.status, seen.body) == (502, BAD_GATEWAY)
    assert stage.logged(name) == RESET
    assert len(stage.backend.events("request", target)) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_backend_killed_while_idle_is_a_502_until_it_is_back(stage: Stage, method: str) -> None:
    stage.keep_one_alive()
    stage.backend.kill()
    for _ in range(2):
        name, seen = stage.ask("/x", method=method, body=b"1" if method == "POST" else b"")
        assert (seen.status, seen.body) == (502, BAD_GATEWAY)
        assert stage.logged(name)[::2] == (502, "upstream")
    assert stage.logged(name) == (502, "upstream_refused", "upstream")
    stage.backend.start()
    assert stage.is_well()


@pytest.mark.parametrize("connection", ["kept alive", "new"])
def test_a_hung_backend_is_a_504_and_others_are_served_meanwhile(
    stage: Stage, connection: str
) -> None:
    if connection == "kept alive":
        stage.keep_one_alive()
    before = stage.refusals("upstream_timeout")
    with stage.backend.stopped(), stage.client() as waiting:
        name = stage.new_name()
        waiting.request("/hung", name=name)
        _, seen = stage.ask("/health")
        assert seen.status == 200
        seen = waiting.answer()
    assert (seen.status, seen.body) == (504, GATEWAY_TIMEOUT)
    assert stage.logged(name) == LATE
    assert stage.refusals("upstream_timeout") == before + 1
    assert stage.is_well()


def test_a_backend_whose_backlog_is_full_is_a_504(tmp_path: Path) -> None:
    with socket.socket() as full, socket.socket() as first:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # one connection waits in it; Linux lets the next ones hang
        first.connect(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        routes: dict[str, Any] = {
            "version": 1,
            "upstreams": upstream(url, timeout={"connect": 0.3}),
            "routes": [route()],
        }
        with GatewayProcess(tmp_path, routes=routes, config=NO_LIMIT) as gateway:
            gateway.start()
            stage = Stage(gateway, backend=None)  # type: ignore[arg-type]
            name, seen = stage.ask("/x")
            assert (seen.status, seen.body) == (504, GATEWAY_TIMEOUT)
            assert stage.logged(name) == LATE
            until(stage.is_quiet, "no connection is left")

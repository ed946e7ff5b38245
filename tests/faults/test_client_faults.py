"""Clients that leave, stall or close half of their connection, and what becomes of the backend's
side: an exchange that nobody waits for is ended at once, and a slow one holds its other side.

A client that closes its half (FIN) after its request is taken for one that has left, as nginx,
Envoy and Go's server take it: on the wire the two are the same, RFC 9112 §9.6 asks no server to
tell them apart, and holding a backend for everybody who left would cost more.
"""

import time
from collections.abc import Callable

import pytest
from backend_process import say
from faulty_stage import Stage
from resident import most_in_socket_buffers, resident_bytes_of

GONE = (499, "client_gone", "client")
PLENTY_BYTES = 64 << 20
MOST_GROWTH_BYTES = 32 << 20
SETTLED_SECONDS = 0.5
UPLOAD = b"Content-Length: %d\r\n" % PLENTY_BYTES
CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_client_that_leaves_before_an_answer_ends_the_backends_request(
    stage: Stage, how: str
) -> None:
    before = stage.refusals("client_gone")
    name, target = stage.new_name(), stage.target("body", "hang")
    client = stage.client()
    client.request(target, name=name)
    stage.backend.saw("request", target)
    client.leave(reset=how == "rst")
    stage.backend.saw("left", target)
    # Not by the read timeout, which would be somebody else's fault.
    assert stage.logged(name) == GONE
    assert stage.refusals("client_gone") == before + 1


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_client_that_leaves_amid_a_download_ends_it(stage: Stage, how: str) -> None:
    name = stage.new_name()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % PLENTY_BYTES
    target = stage.target("body", say(head), f"fill={PLENTY_BYTES}")
    client = stage.client()
    client.request(target, name=name)
    client.until(b"\r\n\r\n")
    client.leave(reset=how == "rst")
    assert stage.backend.saw("left", target)["bytes"] < PLENTY_BYTES
    assert stage.logged(name) == (200, *GONE[1:])


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("framing", [UPLOAD, CHUNKED], ids=["length", "chunked"])
def test_a_client_that_leaves_amid_an_upload_ends_it(
    stage: Stage, how: str, framing: bytes
) -> None:
    name, target = stage.new_name(), stage.target("body", "ok")
    client = stage.client()
    client.request(target, method="POST", name=name, fields=framing)
    client.send(b"4\r\nsome\r\n" * 100)
    stage.backend.saw("request", target)
    client.leave(reset=how == "rst")
    stage.backend.saw("left", target)
    assert stage.backend.events("body", target) == []
    assert stage.logged(name) == GONE


def test_a_client_that_closes_its_half_is_taken_for_one_that_left(stage: Stage) -> None:
    name, target = stage.new_name(), stage.target("body", "hang")
    with stage.client() as client:
        client.request(target, name=name)
        stage.backend.saw("request", target)
        client.half_close()
        stage.backend.saw("left", target)
        assert client.rest()[0] == b""
    assert stage.logged(name) == GONE


def test_a_slow_client_holds_the_backend_and_not_the_gateways_memory(stage: Stage) -> None:
    most_held = most_in_socket_buffers() + (4 << 20)
    number = most_held + PLENTY_BYTES
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % number
    target = stage.target("body", say(head), f"fill={number}", patient=True)
    before = resident_bytes(stage)
    with stage.client(receive_bytes=1 << 16) as client:
        client.request(target)
        client.until(b"\r\n\r\n")
        stage.backend.saw("filling", target)
        held = settled(lambda: stage.backend.events("filling", target)[-1]["bytes"])
        assert held < most_held
        assert resident_bytes(stage) - before < MOST_GROWTH_BYTES
        # It goes on where it stopped: a slow client is no late backend.
        assert client.take(number) == number
        assert stage.backend.saw("filled", target)["bytes"] == number


@pytest.mark.parametrize("framing", [UPLOAD, CHUNKED], ids=["length", "chunked"])
def test_a_slow_backend_holds_the_client_and_not_the_gateways_memory(
    stage: Stage, framing: bytes
) -> None:
    target = stage.target("sleep=1000", "body", "ok", patient=True)
    before = resident_bytes(stage)
    with stage.client() as client:
        piece = bytes(1 << 20)
        client.request(target, method="POST", fields=framing)
        peak = 0
        for _ in range(PLENTY_BYTES // len(piece)):
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece) if framing == CHUNKED else piece)
            peak = max(peak, resident_bytes(stage))
        if framing == CHUNKED:
            client.send(b"0\r\n\r\n")
        assert client.answer().body == b"ok"
    assert stage.backend.saw("body", target)["bytes"] == PLENTY_BYTES
    assert peak - before < MOST_GROWTH_BYTES


def resident_bytes(stage: Stage) -> int:
    """Of the gateway's only worker."""
    (pid,) = stage.gateway.workers().values()
    return resident_bytes_of(pid)


def settled(value: Callable[[], int]) -> int:
    """The value once it has stayed the same for as long as a busy machine may pause."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < SETTLED_SECONDS:
        if (now := value()) != last:
            last, since = now, time.monotonic()
        time.sleep(0.02)
    return last

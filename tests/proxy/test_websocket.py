"""What is known of WebSockets without a connection: frames by their lengths, subprotocols."""

from typing import Any

import pytest
from exchanges import exchange
from tunnels import frame

from gateway.proxy.websocket import Frames, move_credential, take_marker

MASKED = b"\x82\x85\x01\x02\x03\x04hello"
STREAMS: dict[str, list[bytes]] = {
    "one": [frame(b"hello")],
    "empty ones": [frame(b""), frame(b"", 9), frame(b"")],
    "fragments and a ping": [frame(b"a", last=False), frame(b"ping", 9), frame(b"b", 0)],
    "16 bits of length": [frame(bytes(126)), frame(bytes(65_535)), frame(b"x")],
    "64 bits of length": [frame(bytes(65_536)), frame(b"x")],
    "masked": [MASKED, frame(b"x"), MASKED],
}


@pytest.mark.parametrize("step", [1, 2, 3, 7, 4096, 1 << 20])
@pytest.mark.parametrize("frames", STREAMS.values(), ids=STREAMS.keys())
def test_boundaries_are_found_wherever_reads_end(frames: list[bytes], step: int) -> None:
    stream = b"".join(frames)
    ends = {sum(map(len, frames[: number + 1])) for number in range(len(frames))}
    follower = Frames()
    for at in range(0, len(stream), step):
        piece = stream[at : at + step]
        first = follower.feed(piece)
        found = [end - at for end in sorted(ends) if at < end <= at + len(piece)]
        assert first == (found[0] if found else 0)
        assert follower.at_boundary == (at + len(piece) in ends)
    assert not follower.closed


@pytest.mark.parametrize("step", [1, 100])
def test_a_close_frame_is_noticed(step: int) -> None:
    stream = frame(b"x") + frame(b"\x03\xe8", 8)
    follower = Frames()
    for at in range(0, len(stream), step):
        follower.feed(stream[at : at + step])
    assert follower.closed
    assert follower.at_boundary


OFFERED: dict[str, tuple[str, str | None, list[str]]] = {
    "alone": ("primit.pk_1", None, ["pk_1"]),
    "first": ("primit.pk_1, app.v1", "app.v1", ["pk_1"]),
    "last": ("app.v1,primit.pk_1", "app.v1", ["pk_1"]),
    "between": ("a , primit.pk_1\t, b", "a, b", ["pk_1"]),
    "two": ("primit.1, primit.2", None, ["1", "2"]),
    "none": ("primit, primitive", "primit, primitive", []),
    "another case": ("Primit.pk_1", None, ["pk_1"]),
    "with dots": ("primit.a.b.c", None, ["a.b.c"]),
    "nothing in it": ("primit.", None, [""]),
}


@pytest.mark.parametrize(("offered", "left", "credentials"), OFFERED.values(), ids=OFFERED.keys())
async def test_a_credential_among_the_subprotocols_becomes_its_header(
    offered: str, left: str | None, credentials: list[str]
) -> None:
    request = exchange("GET", "/ws", headers={"sec-websocket-protocol": offered, "X": "1"})
    move_credential(request, "Authorization", "Bearer ")
    sent = [f"Bearer {credential}" for credential in credentials]
    assert request.headers.getall("Authorization", []) == sent
    assert request.headers.get("Sec-WebSocket-Protocol") == left
    assert raw(request, b"Authorization") == [value.encode() for value in sent]
    assert raw(request, b"Sec-WebSocket-Protocol") == ([left.encode()] if left else [])
    assert raw(request, b"X") == [b"1"]


async def test_a_credential_beside_its_header_makes_that_a_repeated_one() -> None:
    fields = {"Authorization": "Bearer a", "Sec-WebSocket-Protocol": "primit.b"}
    request = exchange("GET", "/ws", headers=fields)
    move_credential(request, "Authorization", "Bearer ")
    assert request.headers.getall("Authorization") == ["Bearer a", "Bearer b"]


async def test_the_marker_is_not_offered_on() -> None:
    request = exchange("GET", "/ws", headers={"Sec-WebSocket-Protocol": "primit, app.v1"})
    assert take_marker(request)
    assert raw(request, b"Sec-WebSocket-Protocol") == [b"app.v1"]
    assert not take_marker(request)


def raw(request: Any, name: bytes) -> list[bytes]:
    return [value for field, value in request.message.raw_headers if field.lower() == name.lower()]

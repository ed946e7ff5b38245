import array
import fcntl
import json
import os
import select
import subprocess
import sys
import termios
import textwrap
import threading
from pathlib import Path

import pytest
from finished import Labels, finished, identity
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Forbidden, GatewayError
from gateway.observe.access_log import AccessLog, LineWriter
from gateway.observe.metrics import Reading, Sourced
from gateway.sections import LoggingSettings

NOON = 1_795_348_800.0625
ROUTES = st.builds(Labels, st.text(max_size=200), st.text(max_size=200))


class Collected:
    """An access log on a pipe of its own."""

    def __init__(self, **options) -> None:
        self._read, descriptor = os.pipe()
        self._descriptor = descriptor
        self.log = AccessLog(LoggingSettings(**options), descriptor=descriptor, clock=lambda: NOON)
        self.log.start()

    def text(self) -> str:
        """Close, and what came out; at most what a pipe holds."""
        self.log.close()
        os.close(self._descriptor)
        with os.fdopen(self._read, "rb") as pipe:
            return pipe.read().decode("ascii")

    def line(self) -> dict:
        (line,) = self.text().splitlines()
        return json.loads(line)


def test_a_line_has_all_fields_in_order():
    collected = Collected()
    request = finished(
        "POST",
        "/stock/v1/klines?symbol=AAPL&canary=1",
        status=401,
        sent_bytes=123,
        upstream_seconds=0.25,
        route=Labels(),
        identity=identity(user_id=42, key_id="k_7Qm2", email="user@example.com"),
        refusal="invalid_key",
        failure=Forbidden("no"),
    )
    collected.log.write(request, 0.5)

    fields = collected.line()

    assert list(fields.items()) == [
        ("time", "2026-11-22T12:00:00.062Z"),
        ("request_id", "r-1"),
        ("client_ip", "192.0.2.7"),
        ("method", "POST"),
        ("route", "klines"),
        ("path", "/stock/v1/klines"),
        ("status", 401),
        ("bytes", 123),
        ("seconds", 0.5),
        ("upstream_seconds", 0.25),
        ("pattern", "plan_key"),
        ("user_id", 42),
        ("key_id", "k_7Qm2"),
        ("reason", "invalid_key"),
        ("fault", "client"),
    ]


def test_what_is_not_known_is_null():
    collected = Collected()
    collected.log.write(finished(status=404), 0.5)

    fields = collected.line()

    nothing = {name for name, value in fields.items() if value is None}
    assert nothing == {
        "route",
        "upstream_seconds",
        "pattern",
        "user_id",
        "key_id",
        "reason",
        "fault",
    }


def test_the_text_form_is_one_line_of_pairs():
    collected = Collected(format="text")
    collected.log.write(finished("GET", "/a{", route=Labels(), status=204), 0.5)

    assert collected.text() == (
        'time="2026-11-22T12:00:00.062Z" request_id="r-1" client_ip="192.0.2.7" method="GET" '
        'route="klines" path="/a{" status=204 bytes=0 seconds=0.500000 upstream_seconds=null '
        'pattern="plan_key" user_id=null key_id=null reason=null fault=null\n'
    )


def test_a_log_that_is_switched_off_writes_nothing():
    collected = Collected(access=False)
    collected.log.write(finished(), 0.5)

    assert collected.text() == ""


CANARY = "canaryCANARY7c1f"


@pytest.mark.parametrize(
    "fields",
    [
        {"target": f"/x?api_secret={CANARY}"},
        {"target": f"/x%3fapi_secret={CANARY}"},
        {"target": f"/keys/pk_{CANARY}"},
        {"target": f"/keys/%70k_{CANARY}"},
        {"target": f"/token/eyJ{CANARY}.{CANARY}.{CANARY}"},
        {"target": f"/api-key/status/{CANARY}@example.com"},
        {"target": f"/api-key/status/{CANARY}%40example.com"},
        {"request_id": f"pk_{CANARY}"},
        {"request_id": f"eyJ{CANARY}"},
        {"client_ip": f"pk_{CANARY}"},
        {"method": f"pk_{CANARY}"},
        {"failure": GatewayError(CANARY, headers=(("X", CANARY),))},
        {"body": CANARY.encode()},
        {"identity": identity(email=f"{CANARY}@example.com", headers=CANARY.encode())},
    ],
    ids=lambda fields: next(iter(fields.items()))[0],
)
def test_a_canary_never_reaches_the_log(fields):
    collected = Collected()
    collected.log.write(finished(**fields), 0.5)

    text = collected.text()

    json.loads(text)
    assert CANARY not in text


@given(
    method=st.text(max_size=50),
    target=st.text(st.characters(), max_size=3000),
    client_ip=st.text(st.characters(), max_size=100),
    request_id=st.text(st.characters(), max_size=200),
    route=st.none() | ROUTES,
    refusal=st.none() | st.text(st.characters()),
    key_id=st.none() | st.text(st.characters()),
    user_id=st.none() | st.integers(),
)
def test_every_line_is_valid_json_in_one_write(
    method, target, client_ip, request_id, route, refusal, key_id, user_id
):
    log = AccessLog(LoggingSettings(), clock=lambda: NOON)
    lines = []
    log._writer.put = lines.append
    log.write(
        finished(
            method,
            target,
            client_ip=client_ip,
            request_id=request_id,
            route=route,
            refusal=refusal,
            identity=identity(user_id=user_id, key_id=key_id),
        ),
        0.5,
    )

    (line,) = lines
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert len(line) <= select.PIPE_BUF
    assert len(json.loads(line)) == 15


def held(descriptor: int) -> int:
    """Bytes that wait in a pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]


def test_nobody_waits_for_a_reader_that_does_not_read():
    read, write = os.pipe()
    writer = LineWriter(write, lambda count: b"dropped %d\n" % count, max_lines=100)
    writer.start()
    line = b"x" * 999 + b"\n"
    while held(read) < 60_000 or len(writer._lines) < 100:  # this loop is never held
        writer.put(line)
    writer.put(line)
    dropped = writer.dropped
    assert dropped > 0

    received = bytearray()
    reader = threading.Thread(target=lambda: received.extend(iter_all(read)))
    reader.start()
    writer.close(10.0)
    os.close(write)
    reader.join()
    os.close(read)

    lines = bytes(received).splitlines(keepends=True)
    notes = [note for note in lines if note != line]
    assert sum(int(note.split()[1]) for note in notes) == dropped
    assert len(notes) >= 1
    assert lines.index(notes[0]) < len(lines) - 1  # said when writing goes on, not at the end
    assert writer.dropped == dropped


def iter_all(descriptor: int) -> bytes:
    return b"".join(iter(lambda: os.read(descriptor, 65536), b""))


def test_close_does_not_wait_forever_for_a_reader():
    read, write = os.pipe()
    writer = LineWriter(write, lambda count: b"", max_lines=1000)
    writer.start()
    for _ in range(200):
        writer.put(b"x" * 999 + b"\n")

    writer.close(0.01)

    os.read(read, 1)  # the test gets here
    os.close(read)  # and lets the thread end
    writer._thread.join()
    os.close(write)


def test_a_reader_that_left_costs_lines_and_nothing_else():
    read, write = os.pipe()
    os.close(read)
    writer = LineWriter(write, lambda count: b"dropped\n")
    writer.start()
    writer.put(b"one\n")
    writer.put(b"two\n")
    writer.close(10.0)
    os.close(write)

    assert writer.dropped == 2


def test_a_line_after_the_end_counts_as_dropped():
    collected = Collected()
    collected.text()
    collected.log.write(finished(), 0.5)

    assert collected.log.readings() == (Reading(Sourced.LOG_LINES_DROPPED, (), 1),)


def test_a_file_is_appended_to(tmp_path):
    path = tmp_path / "access.log"
    path.write_text("before\n")
    descriptor = os.open(path, os.O_WRONLY)  # as a shell's `1<>`: at the beginning
    writer = LineWriter(descriptor, lambda count: b"")
    writer.start()
    for number in range(1000):
        writer.put(b"%d\n" % number)
    writer.close(10.0)
    os.close(descriptor)

    assert path.read_text().splitlines() == ["before", *map(str, range(1000))]


WORKERS = textwrap.dedent("""
    import os, sys
    sys.path.insert(0, sys.argv[1])
    from finished import finished
    from gateway.observe.access_log import AccessLog
    from gateway.settings import LoggingSettings

    children = []
    for worker in "abc":
        log = AccessLog(LoggingSettings())
        if not (child := os.fork()):
            log.start()
            for number in range(4000):
                log.write(finished(target="/" + f"{worker}/{number}/" + "seg/" * (number % 300)), 1)
            log.close(30.0)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
""")


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_lines_of_several_workers_do_not_mix(kind, tmp_path):
    command = [sys.executable, "-c", WORKERS, str(Path(__file__).parent)]
    if kind == "pipe":
        output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    else:
        with (tmp_path / "log").open("wb") as file:
            subprocess.run(command, stdout=file, check=True)
        output = (tmp_path / "log").read_bytes()

    seen = {worker: [] for worker in "abc"}
    for line in output.splitlines():
        _, worker, number, *_ = json.loads(line)["path"].split("/")
        seen[worker].append(int(number))
    assert seen == {worker: list(range(4000)) for worker in "abc"}

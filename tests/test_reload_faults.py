"""What goes wrong around a reload, with real processes: the gateway has to serve on."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from backend import RawBackend, backend_in_thread
from gateway_process import is_alive, until
from harness import route
from reloads import Files, reload, running, statuses

from gateway.control import Configuration
from gateway.processes import SIGNALS, Processes, Slot
from gateway.routefile import RouteFile
from gateway.settings import Settings
from gateway.worker import Worker


@pytest.fixture
def backend() -> Iterator[RawBackend]:
    with backend_in_thread() as running:
        yield running


@pytest.fixture
def files(tmp_path: Path, backend: RawBackend, redis_url: str) -> Files:
    return Files(tmp_path, backend, redis_url)


def test_a_file_that_python_cannot_convert_changes_nothing(files: Files) -> None:
    with running(files) as gateway:
        (files.folder / "routes.yaml").write_text("version: " + "9" * 10_000)
        code, said, _ = reload(gateway)
        assert code == 1
        assert "routes.yaml:1:10: this number is too long to be read" in said
        assert statuses(gateway, "/always") == {200}
        files.routes.append(route("/new", name="new"))
        files.write()
        assert reload(gateway)[0] == 0
        assert statuses(gateway, "/new") == {200}


def test_a_worker_that_may_not_start_again_does_not_end_the_others(
    files: Files, redis_url: str
) -> None:
    with running(files) as gateway, redis.Redis.from_url(redis_url) as client:
        dead, alive = gateway.workers()[0], gateway.workers()[1]
        version = client.get("gw:version")
        client.set("gw:version", "99")
        os.kill(dead, signal.SIGKILL)
        until(lambda: gateway.stderr().count("starting another") > 1, "its successor refuses")
        assert is_alive(alive)
        assert gateway.process.poll() is None
        assert version is not None
        client.set("gw:version", version)
        until(lambda: gateway.workers()[0] != dead, "another has come")
        assert statuses(gateway, "/always") == {200}


def test_it_ends_amid_a_roll_and_leaves_no_worker(files: Files) -> None:
    with running(files) as gateway:
        children = Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children")
        if not children.exists():
            pytest.skip("this system has no /proc")
        before = set(children.read_text().split())
        roll = threading.Thread(target=reload, args=(gateway, "--workers"))
        roll.start()
        until(lambda: set(children.read_text().split()) - before, "new workers are there")
        pids = [int(pid) for pid in children.read_text().split()]
        gateway.terminate()
        assert gateway.wait() == 0
        roll.join()
        assert not any(map(is_alive, pids))


def test_a_signal_to_a_process_that_has_just_been_forked_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_wakeup_fd = signal.set_wakeup_fd

    def slow(descriptor: int) -> int:  # the first that a new process does
        time.sleep(0.3)
        return set_wakeup_fd(descriptor)

    monkeypatch.setattr("gateway.processes.signal.set_wakeup_fd", slow)
    monkeypatch.setattr(Worker, "run", lambda _: 5)
    configuration = Configuration(Settings(), RouteFile({}, (), (), {}))
    kept = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    lifeline = os.pipe()
    with socket.socket() as listening, socket.socket() as admin:
        slot = Slot(0, listening)
        processes = Processes((slot,), admin, tmp_path, lifeline)
        try:
            process = processes.start(slot, configuration, reloaded=True)
            process.signal(signal.SIGTERM)
            ended = until(lambda: list(processes.reap(lambda _: None)), "it ends")
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)
            for end in lifeline:
                os.close(end)
    assert ended == [(process, -signal.SIGTERM)]

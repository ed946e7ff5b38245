"""What the arbiter does when workers die, fall silent or answer late amid a reload.

The workers here are the other ends of their lines to the arbiter; nothing is forked.
"""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.control import MAX_MESSAGE_BYTES, Configuration, Control, Kind, Message, in_short
from gateway.errors import ConfigurationError
from gateway.processes import Process, Processes, Slot
from gateway.reloading import Reloading, Watch
from gateway.routefile import RouteFile
from gateway.settings import Settings
from gateway.worker import ArbiterLine

WORKERS = 2


@dataclass(slots=True, eq=False)
class FakeProcess(Process):
    """A worker that only this test speaks for."""

    theirs: Control | None = None
    signals: list[int] = field(default_factory=list)

    def signal(self, number: int) -> None:
        self.signals.append(number)

    def told(self) -> list[Message]:
        """What the arbiter has said since."""
        assert self.theirs is not None
        messages = list(self.theirs.receive())
        for message in messages:
            if message.file is not None:
                os.close(message.file)
        return messages


class Arbiter:
    """`Reloading` with workers that are up; `problem` is raised by whoever reads the files."""

    def __init__(self, folder: Path) -> None:
        self.problem: Exception | None = None
        sockets = [socket.socket() for _ in range(WORKERS)]
        self.slots = tuple(Slot(number, sock) for number, sock in enumerate(sockets))
        self.processes = Processes(self.slots, sockets[0], folder, (0, 0))
        settings = Settings().model_copy(
            update={"store": Settings().store.model_copy(update={"url": "redis://127.0.0.1"})}
        )
        self.configuration = Configuration(settings, RouteFile({}, (), (), {}))
        self.reloading = Reloading(self.configuration, self._load, self.processes, self.start)
        self.first = [self.start(slot, self.configuration) for slot in self.slots]

    def _load(self) -> Configuration:
        if self.problem is not None:
            raise self.problem
        return Configuration(self.configuration.settings, RouteFile({}, (), (), {}))

    def start(self, slot: Slot, _: Configuration) -> FakeProcess:
        ours, theirs = Control.pair()
        pid = len(self.processes) + 1
        process = FakeProcess(pid, slot, pid, ours, started=0, heard=0, theirs=theirs)
        self.processes._by_pid[pid] = process
        return process

    def new(self) -> list[FakeProcess]:
        """Those that were started after the first ones."""
        return [p for p in self.processes if isinstance(p, FakeProcess) and p not in self.first]

    def hear(self, process: Process, kind: Kind, **fields: Any) -> None:
        process.ready |= kind is Kind.READY
        self.reloading.heard(process, Message(kind, fields, None))

    def end(self, process: Process) -> None:
        del self.processes._by_pid[process.pid]
        self.reloading.ended(process)

    def close(self) -> None:
        for process in self.processes:
            process.control.close()
        for slot in self.slots:
            slot.listening.close()


@pytest.fixture
def arbiter(tmp_path: Path) -> Iterator[Arbiter]:
    made = Arbiter(tmp_path)
    yield made
    made.close()


def kinds(process: FakeProcess) -> list[Kind]:
    return [message.kind for message in process.told()]


def prepare_number(process: FakeProcess) -> int:
    """The number of the reload that the arbiter asked a worker for last."""
    asked = [message for message in process.told() if message.kind is Kind.PREPARE]
    return int(asked[-1].fields["number"])


def test_a_late_answer_to_a_reload_that_failed_is_not_taken_for_one_to_the_next(
    arbiter: Arbiter,
) -> None:
    one, other = arbiter.first
    arbiter.reloading.ask()
    failed = prepare_number(one)
    arbiter.hear(one, Kind.PREPARED, number=failed, problems=["it is bad"])
    assert not arbiter.reloading.succeeded
    arbiter.reloading.ask()
    good = prepare_number(one)
    arbiter.hear(other, Kind.PREPARED, number=failed, problems=["it is bad"])  # of the first one
    arbiter.hear(one, Kind.PREPARED, number=good, problems=[])
    assert Kind.COMMIT not in kinds(one)
    arbiter.hear(other, Kind.PREPARED, number=good, problems=[])
    assert Kind.COMMIT in kinds(one)
    assert arbiter.reloading.succeeded


def test_a_new_worker_that_dies_after_it_was_ready_makes_the_roll_fail(arbiter: Arbiter) -> None:
    arbiter.reloading.ask(workers=True)
    one, other = arbiter.new()
    arbiter.hear(one, Kind.READY)
    arbiter.end(one)
    assert one.retiring  # nobody starts another in its place, on the old configuration
    arbiter.hear(other, Kind.READY)
    assert [p.retiring for p in arbiter.first] == [False, False]
    assert not arbiter.reloading.succeeded


def test_a_new_worker_that_serves_already_finishes_what_it_has_when_the_roll_fails(
    arbiter: Arbiter,
) -> None:
    arbiter.reloading.ask(workers=True)
    one, other = arbiter.new()
    arbiter.hear(one, Kind.READY)
    arbiter.end(other)
    assert one.signals == []
    assert kinds(one) == [Kind.RETIRE]
    assert one.retiring


def test_new_workers_know_that_the_roll_has_made_good_a_reload_that_failed(
    arbiter: Arbiter,
) -> None:
    arbiter.problem = ConfigurationError(["it is bad"])
    arbiter.reloading.ask()
    assert not arbiter.reloading.succeeded
    arbiter.problem = None
    told: list[bool] = []
    start = arbiter.start

    def listening_start(slot: Slot, configuration: Configuration) -> FakeProcess:
        told.append(arbiter.reloading.succeeded)
        return start(slot, configuration)

    arbiter.reloading._start = listening_start
    arbiter.reloading.ask(workers=True)
    assert told == [True, True]


def test_a_stop_amid_a_roll_ends_it_without_a_kill_and_begins_no_other(arbiter: Arbiter) -> None:
    (asker, _) = arbiter.first
    arbiter.reloading.ask(workers=True, by=(asker, 1))
    arbiter.reloading.ask(workers=True, by=(asker, 2))
    one, other = arbiter.new()
    arbiter.hear(one, Kind.READY)
    arbiter.reloading.stop()
    arbiter.end(other)  # by the signal that stops all of them
    assert one.signals == []
    assert arbiter.new() == [one]
    told = [m.fields["ask"] for m in asker.told() if m.kind is Kind.RELOADED]
    assert told == [1, 2]
    arbiter.reloading.ask(by=(asker, 3))
    (message,) = asker.told()
    assert message.fields["problems"] == ["the gateway is stopping"]


@pytest.mark.parametrize("problem", [ValueError("9999"), OSError("no space"), RecursionError()])
def test_whatever_goes_wrong_in_reading_the_files_changes_nothing(
    arbiter: Arbiter, problem: Exception
) -> None:
    arbiter.problem = problem
    (asker, _) = arbiter.first
    arbiter.reloading.ask(by=(asker, 1))
    told = [m for m in asker.told() if m.kind is Kind.RELOADED]
    assert told[0].fields["problems"]
    assert arbiter.reloading.current is arbiter.configuration


def test_a_process_that_cannot_be_started_makes_the_roll_fail(arbiter: Arbiter) -> None:
    start, started = arbiter.start, []

    def start_one(slot: Slot, configuration: Configuration) -> FakeProcess:
        if started:
            raise BlockingIOError("no more processes")
        started.append(start(slot, configuration))
        return started[0]

    arbiter.reloading._start = start_one
    arbiter.reloading.ask(workers=True)
    assert started[0].signals == [signal.SIGKILL]
    assert [p.retiring for p in arbiter.first] == [False, False]
    arbiter.reloading._start = start
    arbiter.reloading.ask(workers=True)
    assert len(arbiter.new()) == 1 + WORKERS  # the next one is not held up


def test_a_configuration_that_cannot_be_written_makes_the_reload_fail(
    arbiter: Arbiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("gateway.control.pickle.dump", full)
    arbiter.reloading.ask()
    assert not arbiter.reloading.succeeded
    monkeypatch.undo()
    arbiter.reloading.ask()
    assert Kind.PREPARE in kinds(arbiter.first[0])


def test_a_worker_that_never_says_that_it_uses_the_configuration_is_replaced(
    arbiter: Arbiter,
) -> None:
    one, other = arbiter.first
    arbiter.reloading.ask()
    number = prepare_number(one)
    for process in arbiter.first:
        arbiter.hear(process, Kind.PREPARED, number=number, problems=[])
    arbiter.hear(one, Kind.COMMITTED, number=number)
    arbiter.reloading.look_at_clock(float("inf"))
    assert (one.signals, other.signals) == ([], [signal.SIGKILL])
    assert arbiter.reloading.succeeded


def test_a_worker_that_takes_no_word_is_told_by_a_signal_that_it_has_a_successor(
    arbiter: Arbiter,
) -> None:
    one, other = arbiter.first
    while one.control.send(Kind.ABANDON):
        pass
    arbiter.reloading.ask(workers=True)
    for process in arbiter.new():
        arbiter.hear(process, Kind.READY)
    assert (one.signals, other.signals) == ([signal.SIGTERM], [])
    assert kinds(other) == [Kind.RETIRE]


def test_signals_that_come_faster_than_reloads_are_one_reload_more(arbiter: Arbiter) -> None:
    for _ in range(100):
        arbiter.reloading.ask()
    reloads = 0
    while arbiter.reloading._step is not None:
        number = arbiter.reloading._step.number
        for process in arbiter.first:
            arbiter.hear(process, Kind.PREPARED, number=number, problems=[])
        for process in arbiter.first:
            arbiter.hear(process, Kind.COMMITTED, number=number)
            process.told()
        reloads += 1
    assert reloads == 2


def test_any_number_of_problems_fits_into_a_message(arbiter: Arbiter) -> None:
    (asker, worker) = arbiter.first
    arbiter.reloading.ask(by=(asker, 1))
    number = prepare_number(asker)
    problems = ["ü" * 100_000, *("no such file" * 40 for _ in range(1000))]
    assert worker.theirs is not None
    worker.theirs.send(Kind.PREPARED, number=number, problems=in_short(problems))
    (message,) = worker.control.receive()
    arbiter.reloading.heard(worker, message)
    (answer,) = [m for m in asker.told() if m.kind is Kind.RELOADED]
    assert answer.fields["problems"]
    assert len(str(answer.fields)) < MAX_MESSAGE_BYTES


def test_what_a_worker_says_while_nobody_listens_is_said_later() -> None:
    ours, theirs = Control.pair()
    line = ArbiterLine(theirs)
    while theirs.send(Kind.ALIVE):
        pass
    line.say(Kind.RELOAD, ask=1, workers=False)
    line.say(Kind.READY)
    assert {message.kind for message in ours.receive()} == {Kind.ALIVE}
    line.beat()
    assert [message.kind for message in ours.receive()] == [Kind.RELOAD, Kind.READY, Kind.ALIVE]
    for end in (ours, theirs):
        end.close()


@pytest.fixture
def watched(tmp_path: Path) -> Callable[[], Watch]:
    (tmp_path / "file").write_text("first")
    return lambda: Watch(lambda: [tmp_path / "file"])


def test_a_file_has_to_rest_before_it_counts_as_changed(
    watched: Callable[[], Watch], tmp_path: Path
) -> None:
    watch = watched()
    (tmp_path / "file").write_text("half of the sec")
    assert not watch.changed(10.0)
    assert not watch.changed(10.001)  # workers speak many times in a second
    (tmp_path / "file").write_text("all of the second")
    assert not watch.changed(11.0)
    assert watch.changed(12.0)
    assert not watch.changed(13.0)

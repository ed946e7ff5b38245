"""The worker processes as the arbiter knows them: their places, and how one is started and ended.

Terms: a *slot* is a listening socket with its number; it outlives the process in it. A *seat* is
the number under which a process keeps its metrics: two processes that share a slot, one of them
retiring, have two seats.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway.control import Configuration, Control
from gateway.observe.metrics import leave_seat
from gateway.store.registry import gateway_name
from gateway.worker import Worker

logger = logging.getLogger("gateway.server")

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Slot:
    """A worker's place: its number and its listening socket."""

    number: int
    listening: socket.socket


@dataclass(slots=True, eq=False)
class Process:
    """A worker process. Times are monotonic seconds."""

    pid: int
    slot: Slot
    seat: int
    control: Control
    started: float
    heard: float  # its last sign of life
    ready: bool = False
    retiring: bool = False  # told to end, or given up: nobody takes its place when it does

    def __str__(self) -> str:
        return f"worker {self.slot.number} (pid {self.pid})"

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


@dataclass(slots=True)
class Processes:
    """All worker processes. `admin`, `shared` and `lifeline` are theirs together."""

    slots: tuple[Slot, ...]
    admin: socket.socket
    shared: Path
    lifeline: tuple[int, int]
    gateway: str = field(default_factory=gateway_name)
    _by_pid: dict[int, Process] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Process]:
        return iter(tuple(self._by_pid.values()))

    def __len__(self) -> int:
        return len(self._by_pid)

    def serving(self) -> list[Process]:
        """Those that are meant to go on."""
        return [process for process in self if not process.retiring]

    def name_of(self, slot: Slot, pid: int) -> str:
        """What the worker is called among those of all gateways."""
        return f"{self.gateway}/{slot.number}-{pid}"

    def start(self, slot: Slot, configuration: Configuration, *, reloaded: bool) -> Process:
        """Fork a process for `slot`; it says so when it is ready. Raises OSError: it can't be."""
        taken = {process.seat for process in self}
        seat = next(seat for seat in range(len(taken) + 1) if seat not in taken)
        ours, theirs = Control.pair()
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal to the new process has to wait until that takes it for its own.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
            if not pid:
                ours.close()
                self._become_worker(slot, seat, theirs, configuration, reloaded=reloaded)
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            theirs.close()
        now = time.monotonic()
        process = self._by_pid[pid] = Process(pid, slot, seat, ours, started=now, heard=now)
        return process

    def _become_worker(
        self,
        slot: Slot,
        seat: int,
        control: Control,
        configuration: Configuration,
        *,
        reloaded: bool,
    ) -> None:
        """Never returns into the arbiter's stack."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            # A terminal sends these to every process of the group; the arbiter says what happens.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            os.close(self.lifeline[1])
            for other in self.slots:
                if other is not slot:
                    other.listening.close()
            for process in self:
                process.control.close()
            worker = Worker(
                configuration,
                name=self.name_of(slot, os.getpid()),
                seat=seat,
                listening=slot.listening,
                admin=self.admin,
                shared=self.shared,
                lifeline=self.lifeline[0],
                control=control,
                reloaded=reloaded,
            )
            code = worker.run()
        except BaseException:
            logger.exception("worker %d failed", slot.number)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def reap(self, let_go: Callable[[Control], object]) -> Iterator[tuple[Process, int]]:
        """Those that have ended since, and their exit codes (negative: the signal).

        `let_go` is told before what leads to one is closed.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            process = self._by_pid.pop(pid, None)
            if process is not None:
                let_go(process.control)
                process.control.close()
                leave_seat(self.shared, process.seat)
                yield process, os.waitstatus_to_exitcode(status)

    def close_ports(self) -> None:
        """From now on only the workers hold the ports: with the last of them they are free."""
        self.admin.close()
        for slot in self.slots:
            slot.listening.close()

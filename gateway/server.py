"""Processes: an arbiter that forks workers and keeps their number; `worker.py` is what they run.

Rules:
- The arbiter has no event loop and no threads, so that a fork is always safe; it binds the ports,
  waits for signals and for dead children, and does nothing else.
- Every worker has a listening socket of its own on the one port (SO_REUSEPORT). The arbiter keeps
  it open, so connections that wait in it outlive a worker that dies: its successor takes them.
- All workers share the admin socket: whichever is free answers, for all of them.
- SIGTERM or SIGINT drains: no new connections, requests under way finish up to a deadline.
"""

import contextlib
import gc
import logging
import math
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from gateway.observe.logs import configure_logging
from gateway.routefile import RouteFile
from gateway.settings import Settings
from gateway.worker import Worker

logger = logging.getLogger("gateway.server")

# A worker that ends sooner than this after its start is started again only after a pause.
SHORT_LIFE_SECONDS = 1.0
PAUSE_SECONDS = 0.5
# Beyond the time that workers take for draining, by their own clock, they are killed.
OVERTIME_SECONDS = 5
MOST_DESCRIPTORS = 1 << 20  # asked for; a socket takes two
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP, signal.SIGALRM)


@dataclass(slots=True)
class Slot:
    """A worker's place: its number and socket outlive the process in it."""

    number: int
    listening: socket.socket
    pid: int = 0
    started: float = 0.0


class Arbiter:
    """Starts the workers, and starts another one where one dies."""

    def __init__(self, settings: Settings, route_file: RouteFile) -> None:
        self._settings = settings
        self._route_file = route_file
        listen = settings.listen
        self._data = _bind(listen.host, listen.port, listen.workers)
        try:
            self._admin = _bind(settings.admin.host, settings.admin.port, 1)[0]
        except OSError:
            _close(self._data)
            raise
        self._admin.listen(128)
        self._slots = [Slot(number, sock) for number, sock in enumerate(self._data)]
        self._shared = Path(tempfile.mkdtemp(prefix="primit-gateway-"))
        self._lifeline = os.pipe()
        self._stopping = False
        self._exit_code = 0

    def run(self) -> int:
        """Serve until a signal says stop; the exit code of the process."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        scheme = "http" if self._settings.listen.tls is None else "https"
        logger.info("listening on %s://%s", scheme, _address(self._data[0]))
        logger.info("admin listener on http://%s", _address(self._admin))
        gc.collect()
        gc.freeze()  # what is loaded by now is shared by all workers and never garbage
        try:
            for slot in self._slots:
                self._fork(slot)
            while any(slot.pid for slot in self._slots):
                number = signal.sigwait(SIGNALS)
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._stop()
                elif number == signal.SIGALRM:
                    self._signal_workers(signal.SIGKILL)
                self._reap()
        finally:
            shutil.rmtree(self._shared, ignore_errors=True)
        return self._exit_code

    def _fork(self, slot: Slot) -> None:
        slot.started = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            slot.pid = pid
            return
        code = 1
        try:
            code = self._become_worker(slot)
        except BaseException:
            logger.exception("worker %d failed", slot.number)
        finally:
            # Never return into the arbiter's stack.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _become_worker(self, slot: Slot) -> int:
        os.close(self._lifeline[1])
        for other in self._slots:
            if other is not slot:
                other.listening.close()
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        # A terminal sends these to every process of the group; the arbiter says what happens.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        worker = Worker(
            self._settings,
            self._route_file,
            number=slot.number,
            listening=slot.listening,
            admin=self._admin,
            shared=self._shared,
            lifeline=self._lifeline[0],
        )
        return worker.run()

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            # Only the workers hold the ports now: with the last of them they are free.
            _close([*self._data, self._admin])
            shutdown = self._settings.shutdown
            signal.alarm(math.ceil(shutdown.grace + shutdown.deadline) + OVERTIME_SECONDS)
        self._signal_workers(signal.SIGTERM)

    def _signal_workers(self, number: int) -> None:
        for slot in self._slots:
            if slot.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(slot.pid, number)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            slot = next((slot for slot in self._slots if slot.pid == pid), None)
            if slot is None:
                continue
            slot.pid = 0
            if self._stopping:
                continue
            code = os.waitstatus_to_exitcode(status)
            if code == Worker.REFUSES_TO_START:
                self._exit_code = 1  # it has said why
                self._stop()
                continue
            logger.error(
                "worker %d (pid %d) ended with %d; starting another", slot.number, pid, code
            )
            if time.monotonic() - slot.started < SHORT_LIFE_SECONDS:
                time.sleep(PAUSE_SECONDS)
            self._fork(slot)


def _bind(host: str, port: int, count: int) -> list[socket.socket]:
    """`count` sockets on one address; port 0 takes a free one. Raises OSError: it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # With SO_REUSEPORT alone, a second gateway would quietly share the port of the first.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
    sockets: list[socket.socket] = []
    for _ in range(count):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.setblocking(False)
        port = sock.getsockname()[1]
    return sockets


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _raise_descriptor_limit() -> None:
    """Take as many descriptors as the system allows; its soft limit is meant for select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def serve(
    settings: Settings, route_file: RouteFile, settings_path: Path | None, routes_path: Path
) -> int:
    """Run the gateway until a signal ends it; the process's exit code."""
    configure_logging(settings.logging)
    _raise_descriptor_limit()
    logger.info("settings from %s, routes from %s", settings_path or "defaults", routes_path)
    if settings.store.url.startswith("memory://"):
        logger.warning(
            "the store is embedded (memory://): one process, and gone when it ends; "
            "set store.url to a Redis for anything but trying out"
        )
    try:
        arbiter = Arbiter(settings, route_file)
    except OSError as error:
        listen, admin = settings.listen, settings.admin
        logger.error(
            "cannot listen on %s:%d and %s:%d: %s; end the program that holds the port, or set "
            "listen.port and admin.port",
            listen.host,
            listen.port,
            admin.host,
            admin.port,
            error.strerror,
        )
        return 1
    return arbiter.run()

"""The arbiter: binds the ports, keeps the workers' number, and brings a new configuration to them.

Rules:
- The arbiter has no asyncio loop and no threads, so that a fork is always safe. It waits for
  signals and for what its workers say, and does nothing else.
- Every worker has a listening socket of its own on the one port (SO_REUSEPORT). The arbiter keeps
  it open, so connections that wait in it outlive a worker that dies: its successor takes them.
- All workers share the admin socket: whichever is free answers, for all of them.
- A worker that says nothing for `listen.worker_timeout` hangs, and is replaced. Time in which the
  arbiter itself stood still does not count.
- SIGHUP reloads. SIGTERM or SIGINT drains: no new connections, requests under way finish up to a
  deadline.
"""

import contextlib
import gc
import logging
import os
import resource
import selectors
import shutil
import signal
import socket
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from gateway.control import Configuration, Kind, Message
from gateway.memory import keep_private
from gateway.observe.logs import configure_logging
from gateway.processes import SIGNALS, Process, Processes, Slot
from gateway.reloading import Load, Reloading, Watch
from gateway.routefile import RouteFile, load_configuration
from gateway.settings import Settings
from gateway.worker import Worker

logger = logging.getLogger("gateway.server")

TURN_SECONDS = 0.5  # so often the clock is looked at, whatever happens
LATE_SECONDS = 1.0  # a turn that took so much longer was not ours to take
# A worker that ends sooner than this after its start is started again only after a pause.
SHORT_LIFE_SECONDS = 1.0
PAUSE_SECONDS = 0.5
# Beyond the time that workers take for draining, by their own clock, they are killed.
OVERTIME_SECONDS = 5
MOST_LEFT = 100  # names that are told to who becomes ready
MOST_DESCRIPTORS = 1 << 20  # asked for; a socket takes two


class Arbiter:
    """Starts the workers, and starts another one where one dies."""

    def __init__(self, configuration: Configuration, load: Load, files: Sequence[Path]) -> None:
        """`load` reads both `files` again."""
        listen, admin = configuration.settings.listen, configuration.settings.admin
        data = _bind(listen.host, listen.port, listen.workers)
        try:
            self._admin = _bind(admin.host, admin.port, 1)[0]
        except OSError:
            _close(data)
            raise
        self._admin.listen(128)
        self._processes = Processes(
            slots=tuple(Slot(number, sock) for number, sock in enumerate(data)),
            admin=self._admin,
            shared=Path(tempfile.mkdtemp(prefix="primit-gateway-")),
            lifeline=os.pipe(),
        )
        self._selector = selectors.DefaultSelector()
        self._reloading = Reloading(configuration, load, self._processes, self._start)
        self._files = files
        self._watch = Watch(self._watched)
        self._stopping = False
        self._has_served = False  # a worker was ready once: to go on is better than to give up
        self._kill_at = float("inf")
        self._restarts: list[tuple[float, Slot]] = []  # when, for those that died at once
        # Workers that may be on the roll still: who died took no leave. All others are told, and
        # those that become ready: whoever is told may be dying as well.
        self._left: deque[str] = deque(maxlen=MOST_LEFT)
        self._exit_code = 0

    def run(self) -> int:
        """Serve until a signal says stop; the exit code of the process."""
        woken = self._take_signals()
        settings = self._reloading.current.settings
        scheme = "http" if settings.listen.tls is None else "https"
        logger.info("listening on %s://%s", scheme, _address(self._processes.slots[0].listening))
        logger.info("admin listener on http://%s", _address(self._admin))
        gc.collect()
        gc.freeze()  # what is loaded by now is shared by all workers and never garbage
        try:
            looked = time.monotonic()
            for slot in self._processes.slots:
                self._restart(slot, looked)
            while self._processes or self._restarts:
                for key, _ in self._selector.select(TURN_SECONDS):
                    if key.fileobj is woken:
                        self._take_signal(woken)
                    else:
                        self._listen_to(key.data)
                now = time.monotonic()
                self._reap(now)
                self._look_at_clock(now, late=now - looked > TURN_SECONDS + LATE_SECONDS)
                looked = time.monotonic()
        finally:
            shutil.rmtree(self._processes.shared, ignore_errors=True)
        return self._exit_code

    def _watched(self) -> Iterator[Path]:
        """What the configuration in use was read from."""
        current = self._reloading.current
        yield from self._files
        yield from current.settings.networks.files
        yield from current.settings.vault.files
        if (secrets_file := current.settings.app_tokens.secrets_file) is not None:
            yield Path(secrets_file)
        for route in current.route_file.routes:
            yield from route.networks.files
        if current.settings.listen.tls is not None:
            for pair in current.settings.listen.tls.pairs:
                yield from map(Path, pair)
        for upstream in current.route_file.upstreams.values():
            yield from upstream.tls.files

    def _take_signals(self) -> socket.socket:
        """Have each signal's number come as a byte; what wakes the selector is returned."""
        woken, wakes = socket.socketpair()
        woken.setblocking(False)
        wakes.setblocking(False)
        self._wakes = wakes  # kept open
        signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda _number, _frame: None)
        self._selector.register(woken, selectors.EVENT_READ)
        return woken

    def _take_signal(self, woken: socket.socket) -> None:
        for number in woken.recv(4096):
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop()
            elif number == signal.SIGHUP:
                self._reloading.ask()

    def _listen_to(self, process: Process) -> None:
        for message in process.control.receive():
            process.heard = time.monotonic()
            self._hear(process, message)

    def _hear(self, process: Process, message: Message) -> None:
        if message.kind is Kind.READY:
            process.ready = self._has_served = True
            if self._left:
                process.control.send(Kind.LEFT, workers=list(self._left))
            logger.info("%s is ready", process)
        if message.kind is Kind.RELOAD:
            by = (process, message.fields["ask"])
            self._reloading.ask(workers=message.fields["workers"], by=by)
        self._reloading.heard(process, message)

    def _look_at_clock(self, now: float, *, late: bool) -> None:
        if now > self._kill_at:
            for process in self._processes:
                process.signal(signal.SIGKILL)
        if self._stopping:
            return
        for due in [due for due in self._restarts if due[0] <= now]:
            self._restarts.remove(due)
            self._restart(due[1], now)
        timeout = self._reloading.current.settings.listen.worker_timeout
        for process in self._processes:
            if late:
                process.heard = now
            elif now - process.heard > timeout:
                logger.error(
                    "%s said nothing for %.0f s: it hangs, and is killed", process, timeout
                )
                process.heard = now
                process.signal(signal.SIGKILL)
        if self._reloading.current.settings.reload.watch and self._watch.changed(now):
            logger.info("a file of the configuration has changed")
            self._reloading.ask()
        self._reloading.look_at_clock(now)

    def _start(self, slot: Slot, configuration: Configuration) -> Process:
        process = self._processes.start(slot, configuration, reloaded=self._reloading.succeeded)
        self._selector.register(process.control, selectors.EVENT_READ, process)
        return process

    def _restart(self, slot: Slot, now: float) -> None:
        """Put a worker in a place that has none, or only one on trial: that may go again."""
        taken = any(process.slot is slot for process in self._processes.serving())
        if taken and not self._reloading.rolls:
            return
        try:
            self._start(slot, self._reloading.current)
        except OSError as error:
            logger.error("worker %d can't be started: %s", slot.number, error.strerror)
            self._restarts.append((now + PAUSE_SECONDS, slot))

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._reloading.stop()
            self._restarts.clear()
            self._processes.close_ports()
            shutdown = self._reloading.current.settings.shutdown
            self._kill_at = time.monotonic() + shutdown.grace + shutdown.deadline + OVERTIME_SECONDS
        for process in self._processes:
            process.signal(signal.SIGTERM)

    def _reap(self, now: float) -> None:
        for process, code in self._processes.reap(self._selector.unregister):
            self._reloading.ended(process)
            self._left.append(self._processes.name_of(process.slot, process.pid))
            for other in self._processes:
                other.control.send(Kind.LEFT, workers=[self._left[-1]])
            if self._stopping or process.retiring:
                continue
            if code == Worker.REFUSES_TO_START and not self._has_served:
                self._exit_code = 1  # it has said why
                self._stop()
                continue
            logger.error("%s ended with %d; starting another", process, code)
            if now - process.started < SHORT_LIFE_SECONDS:
                self._restarts.append((now + PAUSE_SECONDS, process.slot))
            else:
                self._restart(process.slot, now)


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
    if not keep_private():
        logger.warning("the system lets others of this user read this process's memory (prctl)")
    logger.info("settings from %s, routes from %s", settings_path or "defaults", routes_path)
    if settings.store.url.startswith("memory://"):
        logger.warning(
            "the store is embedded (memory://): one process, and gone when it ends; "
            "set store.url to a Redis for anything but trying out"
        )

    def load() -> Configuration:
        return Configuration(*load_configuration(settings_path, routes_path, os.environ))

    files = [path for path in (settings_path, routes_path) if path is not None]
    try:
        arbiter = Arbiter(Configuration(settings, route_file), load, files)
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

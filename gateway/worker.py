"""One worker process: an event loop with the data listener, the admin listener and the ticker.

In order: open what is shared, answer probes ("not ready"), build the routes, take requests, wait
for the end, drain, close. The arbiter in `server.py` starts it, gives it its sockets, and tells it
of new configurations.
"""

import asyncio
import contextlib
import itertools
import logging
import signal
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

from gateway.admin.app import AdminRunner, AdminState, make_admin_app
from gateway.admin.operations import Context
from gateway.control import Configuration, Control, Kind, Message, in_short, read
from gateway.errors import ConfigurationError
from gateway.listener import Listener
from gateway.live import LiveGateway
from gateway.observe.access_log import AccessLog
from gateway.observe.logs import log_unhandled
from gateway.observe.metrics import Metrics, Reading, Sourced
from gateway.parts import Parts
from gateway.store.usage import Usage
from gateway.tls import server_tls

logger = logging.getLogger("gateway.worker")

BACKLOG = 4096
SWEEP_SECONDS = 0.25
SWEEPS_PER_FLUSH = 4
BEAT_SECONDS = 0.25
RELOAD_SECONDS = 90.0  # more than all its steps may take


class Worker:
    """What runs in a worker process. `lifeline` ends when the arbiter does."""

    REFUSES_TO_START = 78  # an exit code: starting again would fail again (sysexits.h EX_CONFIG)

    def __init__(
        self,
        configuration: Configuration,
        *,
        name: str,
        seat: int,
        listening: socket.socket,
        admin: socket.socket,
        shared: Path,
        lifeline: int,
        control: Control,
        reloaded: bool,
    ) -> None:
        self._configuration = configuration
        self._name = name
        self._seat = seat
        self._listening = listening
        self._admin = admin
        self._shared = shared
        self._lifeline = lifeline
        self._arbiter = ArbiterLine(control)
        self._reloaded = reloaded

    def run(self) -> int:
        """Serve until told to stop; the exit code of the process."""
        # No debug mode, whatever the environment says: it logs arguments and results.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop, debug=False) as runner:
            return runner.run(self._serve())

    async def _serve(self) -> int:
        settings = self._configuration.settings
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(log_unhandled)
        arbiter = self._arbiter
        loop.add_signal_handler(signal.SIGTERM, arbiter.stop.set)
        loop.add_reader(self._lifeline, arbiter.stop.set)
        arbiter.open()
        metrics = Metrics(directory=self._shared, worker=self._seat)
        access_log = AccessLog(settings.logging)
        metrics.add_source(access_log.readings)
        access_log.start()
        try:
            live = await LiveGateway.open(self._configuration, metrics, access_log, self._name)
            live.reloaded = self._reloaded
            state = self._admin_state(live.parts)
            admin = await self._open_admin(state)
            listener = Listener(live.gateway, settings, live.parts.addresses, server_tls(settings))
            metrics.add_source(lambda: connections(listener))
            server = await loop.create_server(listener, sock=self._listening, backlog=BACKLOG)
        except ConfigurationError as error:
            logger.error("%s", error)
            return self.REFUSES_TO_START
        metrics.flush()  # a gauge that nobody has set yet says 0: "the store is away"
        ticker = loop.create_task(tick(live, metrics, listener))
        changes = loop.create_task(self._follow(live, listener, state))
        state.table_loaded = True
        arbiter.say(Kind.READY)
        await arbiter.stop.wait()
        loop.remove_reader(self._lifeline)
        state.draining = True
        shutdown = live.parts.settings.shutdown
        if arbiter.retired:
            await admin.cleanup()  # the successor answers there
        else:
            await asyncio.sleep(shutdown.grace)
        server.close()
        live.parts.sockets.drain()
        await drain(listener, shutdown.deadline, at_once=not arbiter.retired)
        changes.cancel()
        ticker.cancel()
        await admin.cleanup()
        await live.close()
        arbiter.close()
        metrics.flush()
        access_log.close()
        return 0

    async def _follow(self, live: LiveGateway, listener: Listener, state: AdminState) -> None:
        """Do what the arbiter says of new configurations, one after the other."""
        arbiter = self._arbiter
        tls = listener.tls
        while True:
            message = await arbiter.orders.get()
            if message.kind is Kind.PREPARE and message.file is not None:
                problems: Sequence[str] = ()
                try:
                    configuration = await asyncio.to_thread(read, message.file)
                    tls = server_tls(configuration.settings)
                    await live.prepare(configuration)
                except ConfigurationError as error:
                    problems = error.complaints
                except Exception as error:
                    logger.exception("the new configuration could not be built")
                    problems = (f"{type(error).__name__}: see the log",)
                number = message.fields["number"]
                arbiter.say(Kind.PREPARED, number=number, problems=in_short(problems))
            elif message.kind is Kind.COMMIT:
                await live.commit()
                live.reloaded = True
                parts = live.parts
                listener.use(live.gateway, parts.settings.bounds, parts.addresses, tls)
                state.context = _context(parts)
                parts.metrics.flush()  # whoever asked for it sees it in the metrics
                arbiter.say(Kind.COMMITTED, number=message.fields["number"])
            elif message.kind is Kind.ABANDON:
                await live.abandon()
                live.reloaded = False
            elif message.kind is Kind.LEFT:
                live.parts.registry.left(message.fields["workers"])

    def _admin_state(self, parts: Parts) -> AdminState:
        settings = parts.settings
        token = settings.admin.token
        return AdminState(
            metrics=parts.metrics,
            store=parts.store,
            store_kind=settings.store.url.partition(":")[0],
            context=_context(parts),
            token=None if token is None else token.get_secret_value(),
            reload=self._arbiter.reload,
        )

    async def _open_admin(self, state: AdminState) -> web.AppRunner:
        runner = AdminRunner(make_admin_app(state), access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.SockSite(runner, self._admin).start()
        return runner


async def drain(listener: Listener, deadline: float, *, at_once: bool) -> None:
    """Let what is under way finish within `deadline` seconds.

    `at_once` ends idle connections now. Else their clients are told with their next answer: a
    client may be sending a request in this very moment.
    """
    if at_once:
        listener.drain()
    else:
        listener.retire()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(deadline):
            while listener.connections:  # noqa: ASYNC110  # aiohttp tells nobody of the last
                await asyncio.sleep(0.05)
    await listener.shutdown(0.1)


class ArbiterLine:
    """The worker's end of the line to the arbiter (`control.py`)."""

    def __init__(self, control: Control) -> None:
        self.stop = asyncio.Event()
        self.retired = False  # why: a successor is there
        self.orders: asyncio.Queue[Message] = asyncio.Queue()
        self._control = control
        self._unsaid: deque[tuple[Kind, dict[str, Any]]] = deque()  # the arbiter was busy
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._asks = itertools.count(1)
        self._heart: asyncio.Task[None] | None = None

    def open(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._control.fileno(), self._hear)
        self._heart = loop.create_task(self._beat())

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        if self._heart is not None:
            self._heart.cancel()

    def say(self, kind: Kind, **fields: Any) -> None:
        """Say it now; if the arbiter does not listen, before the next beat."""
        self._unsaid.append((kind, fields))
        self._speak()

    def beat(self) -> None:
        """Say what is unsaid, and that the loop turns. A beat more or less is no matter."""
        self._speak()
        if not self._unsaid:
            self._control.send(Kind.ALIVE)

    def _speak(self) -> None:
        while self._unsaid:
            kind, fields = self._unsaid[0]
            if not self._control.send(kind, **fields):
                return
            self._unsaid.popleft()

    async def reload(self, *, workers: bool) -> dict[str, Any]:
        """Have the arbiter reload; an `Outcome`'s fields. Raises TimeoutError."""
        ask = next(self._asks)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[ask] = answer
        try:
            self.say(Kind.RELOAD, ask=ask, workers=workers)
            async with asyncio.timeout(RELOAD_SECONDS):
                return await answer
        finally:
            del self._asked[ask]

    def _hear(self) -> None:
        for message in self._control.receive():
            if message.kind is Kind.RETIRE:
                self.retired = True
                self.stop.set()
            elif message.kind is Kind.RELOADED:
                answer = self._asked.get(message.fields.pop("ask"))
                if answer is not None and not answer.done():
                    answer.set_result(message.fields)
            else:
                self.orders.put_nowait(message)

    async def _beat(self) -> None:
        while True:
            self.beat()
            await asyncio.sleep(BEAT_SECONDS)


def _context(parts: Parts) -> Context:
    return Context(
        settings=parts.settings,
        store=parts.store,
        keys=parts.keys,
        usage=Usage(parts.store),
        rotation=parts.rotation,
        plans=parts.plans,
        users=parts.users,
        revocation=parts.revocation,
        vault=parts.vault,
        limiter=parts.limiter,
    )


def connections(listener: Listener) -> Iterator[Reading]:
    yield Reading(Sourced.CONNECTIONS, (), len(listener.connections))


async def tick(live: LiveGateway, metrics: Metrics, listener: Listener) -> None:
    """What is done by the clock instead of by request: deadlines, and the counts' way out."""
    loop = asyncio.get_running_loop()
    while True:
        for _ in range(SWEEPS_PER_FLUSH):
            await asyncio.sleep(SWEEP_SECONDS)
            live.sweep(loop.time())
            await listener.sweep(loop.time())
        metrics.flush()

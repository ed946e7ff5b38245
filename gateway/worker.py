"""One worker process: an event loop with the data listener, the admin listener and the ticker.

In order: open what is shared, answer probes ("not ready"), build the routes, take requests, wait
for the signal, drain, close. The arbiter in `server.py` starts it and gives it its sockets.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import uvloop
from aiohttp import web

from gateway.admin.app import AdminRunner, AdminState, make_admin_app
from gateway.admin.operations import Context
from gateway.build import Parts, build_gateway, open_parts
from gateway.errors import ConfigurationError
from gateway.listener import Listener
from gateway.observe.access_log import AccessLog
from gateway.observe.logs import log_unhandled
from gateway.observe.metrics import Metrics, Reading, Sourced
from gateway.routefile import RouteFile
from gateway.settings import Settings, TlsSettings

logger = logging.getLogger("gateway.worker")

BACKLOG = 4096
SWEEP_SECONDS = 0.25
SWEEPS_PER_FLUSH = 4


class Worker:
    """What runs in a worker process. `lifeline` ends when the arbiter does."""

    REFUSES_TO_START = 78  # an exit code: starting again would fail again (sysexits.h EX_CONFIG)

    def __init__(
        self,
        settings: Settings,
        route_file: RouteFile,
        *,
        number: int,
        listening: socket.socket,
        admin: socket.socket,
        shared: Path,
        lifeline: int,
    ) -> None:
        self._settings = settings
        self._route_file = route_file
        self._number = number
        self._listening = listening
        self._admin = admin
        self._shared = shared
        self._lifeline = lifeline

    def run(self) -> int:
        """Serve until told to stop; the exit code of the process."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._serve())

    async def _serve(self) -> int:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(log_unhandled)
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_reader(self._lifeline, stop.set)
        metrics = Metrics(directory=self._shared, worker=self._number)
        access_log = AccessLog(self._settings.logging)
        metrics.add_source(access_log.readings)
        access_log.start()
        try:
            parts = await open_parts(self._settings, metrics)
            state = self._admin_state(parts)
            admin = await self._open_admin(state)
            gateway = build_gateway(parts, self._route_file, access_log)
            listener = Listener(gateway, self._settings.bounds)
            metrics.add_source(lambda: connections(listener))
            server = await loop.create_server(
                listener, sock=self._listening, backlog=BACKLOG, ssl=_tls(self._settings.listen.tls)
            )
        except ConfigurationError as error:
            logger.error("%s", error)
            return self.REFUSES_TO_START
        metrics.flush()  # a gauge that nobody has set yet says 0: "the store is away"
        ticker = loop.create_task(tick(parts, metrics))
        state.table_loaded = True
        logger.info("worker %d (pid %d) is ready", self._number, os.getpid())
        await stop.wait()
        loop.remove_reader(self._lifeline)
        state.draining = True
        await self._drain(server, listener, parts)
        ticker.cancel()
        await admin.cleanup()
        await parts.close()
        metrics.flush()
        access_log.close()
        return 0

    def _admin_state(self, parts: Parts) -> AdminState:
        token = self._settings.admin.token
        return AdminState(
            metrics=parts.metrics,
            store=parts.store,
            store_kind=self._settings.store.url.partition(":")[0],
            context=Context(
                settings=self._settings,
                store=parts.store,
                keys=parts.keys,
                plans=parts.plans,
                users=parts.users,
                vault=parts.vault,
                limiter=parts.limiter,
            ),
            token=None if token is None else token.get_secret_value(),
        )

    async def _open_admin(self, state: AdminState) -> web.AppRunner:
        runner = AdminRunner(make_admin_app(state), access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.SockSite(runner, self._admin).start()
        return runner

    async def _drain(self, server: asyncio.Server, listener: Listener, parts: Parts) -> None:
        """Stop taking requests, and let those under way finish, up to the deadline."""
        shutdown = self._settings.shutdown
        await asyncio.sleep(shutdown.grace)
        server.close()
        listener.drain()
        parts.sockets.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(shutdown.deadline):
                while listener.connections:  # noqa: ASYNC110  # aiohttp tells nobody of the last
                    await asyncio.sleep(0.05)
        await listener.shutdown(0.1)


def connections(listener: Listener) -> Iterator[Reading]:
    yield Reading(Sourced.CONNECTIONS, (), len(listener.connections))


async def tick(parts: Parts, metrics: Metrics) -> None:
    """What is done by the clock instead of by request: deadlines, and the counts' way out."""
    loop = asyncio.get_running_loop()
    while True:
        for _ in range(SWEEPS_PER_FLUSH):
            await asyncio.sleep(SWEEP_SECONDS)
            parts.sweep(loop.time())
        metrics.flush()


def _tls(files: TlsSettings | None) -> ssl.SSLContext | None:
    """TLS 1.2 or newer, by Python's server defaults."""
    if files is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            [f"listen.tls: cannot use {files.certificate} and {files.key}: {error}"]
        ) from None
    return context

"""Asks again who was admitted: by the same authenticator, some at a time, beside the requests.

A refusal of the client is passed on. "Could not check" says nothing of the credential, and neither
does a defect; where refusals are only reported, nobody is asked.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from gateway.errors import Fault, GatewayError
from gateway.exchange import Exchange

logger = logging.getLogger("gateway.proxy")

LANES = 16  # checks that may wait for the store at once
CHECKS_AT_A_TIME = 16  # by one lane, until the event loop gets its turn


class Admitted(Protocol):
    """What goes on for a while after its request was admitted."""

    @property
    def exchange(self) -> Exchange: ...


A = TypeVar("A", bound=Admitted)


class Rechecks(Generic[A]):
    """`refused` is told of each that would not be admitted now, and why."""

    def __init__(self, refused: Callable[[A, GatewayError], None]) -> None:
        self._refused = refused
        self._due: dict[A, None] = {}  # in the order they were asked for, each once
        self._lanes: set[asyncio.Task[None]] = set()

    def ask(self, admitted: A) -> None:
        """Check it, once `start` is called."""
        self._due.setdefault(admitted)

    def start(self) -> None:
        for _ in range(min(LANES, len(self._due)) - len(self._lanes)):
            lane = asyncio.get_running_loop().create_task(self._check_due())
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)

    async def _check_due(self) -> None:
        checked = 0
        while self._due:
            admitted = next(iter(self._due))
            del self._due[admitted]
            await self._check(admitted)
            checked += 1
            if checked % CHECKS_AT_A_TIME == 0:
                await asyncio.sleep(0)

    async def _check(self, admitted: A) -> None:
        exchange = admitted.exchange
        route: Any = exchange.route  # the pipeline's, which stands above this package
        if not route.enforce:
            return
        try:
            await route.authenticator.admits_still(exchange)
        except GatewayError as error:
            if error.fault is Fault.CLIENT:
                self._refused(admitted, error.with_traceback(None))
        except Exception as error:  # whatever it was, it says nothing of the credential
            logger.error("request %s: no check", exchange.request_id, exc_info=error)

"""Streams, downloads, uploads: exchanges that last. They end with what admitted them.

Rules:
- Whoever a key, token, plan or registered key has admitted is asked for again (`recheck.py`) within
  each second; a refusal ends the exchange. What has begun of its answer is cut, so that the client
  can tell. Who has sent all and waits for an answer is left alone: the backend may have done what
  was asked.
- Nothing is kept per request: a sweep looks at the connections to backends that carry one, and
  passes over those that are younger than it. No timer; a third of the others in each sweep.
"""

from collections.abc import Iterable
from time import monotonic

from gateway.proxy.connection import UpstreamConnection
from gateway.proxy.forward import Relay
from gateway.proxy.recheck import Rechecks

YOUNG_SECONDS = 0.25
SHIFTS = 3  # sweeps until everyone was looked at


class Streams:
    """Those of one worker."""

    def __init__(self) -> None:
        self._turn = 0
        self._rechecks: Rechecks[Relay] = Rechecks(Relay.end)

    def sweep(self, active: Iterable[UpstreamConnection]) -> None:
        """Begin to check a third of the `active` ones."""
        self._turn = (self._turn + 1) % SHIFTS
        old = monotonic() - YOUNG_SECONDS
        for connection in active:
            relay = connection.receiver
            if (
                isinstance(relay, Relay)
                and relay.exchange.started < old
                and (id(relay) >> 4) % SHIFTS == self._turn  # the lowest bits are the same in all
                and relay.is_moving
                and is_revocable(relay)
            ):
                self._rechecks.ask(relay)
        self._rechecks.start()


def is_revocable(relay: Relay) -> bool:
    """Is there anything that could be taken away from who was admitted?"""
    identity = relay.exchange.identity
    return identity is not None and not (
        identity.key_id is None and identity.user_id is None and identity.email is None
    )

"""Whether a request may be sent again, and how many may be.

Safe, and nothing else:
- A connection could not be established: nothing was sent. Any method, to another address.
- The connection ended before the first byte of an answer. Then only a request whose body is still
  at hand and whose method is idempotent (RFC 9110 §9.2.2), or of which no byte was written to the
  connection: what was written counts as sent, since nobody can tell what the backend has read.
  A connection that had been used before may have been let go in that moment; after a new one, only
  another address is tried: a request that its backend dies of would be sent on and on.
Never after a byte of an answer, and never after a timeout: the backend may still be working on it.

The *budget* keeps retries from becoming a second flood on a backend that is going under.
"""

from gateway.exchange import Exchange
from gateway.proxy.connection import UpstreamConnection

IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"})

FREE_RETRIES = 10.0  # of the last seconds, so that a quiet upstream may retry at all
KEPT_PER_SECOND = 0.9  # of both counts: what was 10 s ago counts little more than a third


def may_send_again(exchange: Exchange, upstream: UpstreamConnection) -> bool:
    """`upstream` ended without having answered `exchange`: may another connection have it?"""
    if upstream.answered or exchange.gone:
        return False
    at_hand = exchange.body is not None or (
        not exchange.message.chunked and exchange.headers.get("Content-Length", "0") == "0"
    )
    return at_hand and (exchange.method in IDEMPOTENT or not upstream.sent)


class Budget:
    """Lets retries be at most a share of the requests of the last seconds, and a few free ones.

    Both are counted, and both counts fade alike, so a quiet night is no credit for the morning.
    """

    __slots__ = ("_retries", "_share", "_since", "requests", "spent")

    def __init__(self, share: float) -> None:
        self._share = share
        self.requests = 0.0  # the pool counts them up
        self.spent = 0  # retries in all, for the metrics
        self._retries = 0.0
        self._since = 0.0  # loop time

    def spend(self) -> bool:
        """May there be one more retry? It is counted, then."""
        if self._retries + 1 > self.requests * self._share + FREE_RETRIES:
            return False
        self._retries += 1
        self.spent += 1
        return True

    def fade(self, now: float) -> None:
        """Forget, as far as loop time `now` asks for it."""
        passed = now - self._since
        if passed >= 1:
            kept = KEPT_PER_SECOND**passed
            self.requests *= kept
            self._retries *= kept
            self._since = now

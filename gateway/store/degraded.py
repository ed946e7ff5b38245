"""When something goes on without Redis, and when it does no more: told once each, and measured.

Looked at some times a second, so a trouble that comes and goes faster is one. A mode ends with the
first look that finds Redis well and nothing decided without it since the look before.
"""

import logging

logger = logging.getLogger("gateway.store")


class DegradedMode:
    """`what` (limits, keys) is decided without Redis while `since` is a time."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.since: float | None = None
        self._total = 0
        self._decided = 0

    def look(self, now: float, *, down: bool, why: str, decided: int) -> None:
        """`now` in seconds. `decided`: how many requests were, without Redis, since the start."""
        more = max(0, decided - self._total)  # less: what counted them has been replaced
        self._total = decided
        if down or more:
            if self.since is None:
                self.since, self._decided = now, 0
                logger.warning("%s: decided without Redis from now on (%s)", self.what, why)
            self._decided += more
        elif self.since is not None:
            logger.warning(
                "%s: decided with Redis again; it was without for %.1f s, for %d requests",
                self.what,
                now - self.since,
                self._decided,
            )
            self.since = None

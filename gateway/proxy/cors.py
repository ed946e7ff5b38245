"""CORS (Fetch standard, "CORS protocol"): preflights answered here, answers marked for browsers.

Only listed origins get the headers; `*` lists all. Credentials mode is never opened: the
platform's credentials are headers that a script sends itself, not cookies.
"""

from collections.abc import Iterable

from gateway.exchange import Answer, Exchange

# What a script may read of an answer beside the safelisted fields.
EXPOSED = "RateLimit, RateLimit-Policy, Retry-After, X-Request-ID"


class Cors:
    """The policy of one route."""

    __slots__ = ("_any", "_headers", "_max_age", "_origins")

    def __init__(self, origins: Iterable[str], headers: Iterable[str], max_age: int) -> None:
        self._origins = frozenset(origin.rstrip("/") for origin in origins)
        self._any = "*" in self._origins
        self._headers = ", ".join(headers)
        self._max_age = max_age  # seconds

    def allows(self, origin: str) -> bool:
        return self._any or origin in self._origins

    def fields(self, exchange: Exchange) -> tuple[tuple[str, str], ...]:
        """What to add to any answer on this route."""
        origin = exchange.headers.get("Origin")
        if origin is None or not self.allows(origin):
            return () if self._any else (("Vary", "Origin"),)
        if self._any:
            return (
                ("Access-Control-Allow-Origin", "*"),
                ("Access-Control-Expose-Headers", EXPOSED),
            )
        return (
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", EXPOSED),
            ("Vary", "Origin"),
        )

    def preflight(self, methods: str) -> Answer:
        """204 for an `OPTIONS` that asks for leave; `fields` says whether it is granted."""
        return Answer(
            204,
            headers=(
                ("Access-Control-Allow-Methods", methods),
                ("Access-Control-Allow-Headers", self._headers),
                ("Access-Control-Max-Age", str(self._max_age)),
            ),
            content_type=None,
        )


def is_preflight(exchange: Exchange) -> bool:
    """Is this the question a browser asks before a cross-origin request?"""
    return (
        exchange.method == "OPTIONS"
        and "Origin" in exchange.headers
        and "Access-Control-Request-Method" in exchange.headers
    )

"""The one shape of all five patterns.

An authenticator belongs to one route and is made when the route table is built, with everything
it needs. Outcomes are three and never mixed: an `Identity` (admitted), a refusal of the client
(`Unauthenticated`, `Forbidden`, `Invalid`, …), or "could not check" (`DependencyUnavailable`).
"""

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import ClassVar

from gateway.exchange import Exchange, Identity
from gateway.proxy.headers import head_lines
from gateway.proxy.websocket import move_credential


class Authenticator(ABC):
    """Decides whether a request may pass a route of its pattern."""

    pattern: ClassVar[str]

    @abstractmethod
    async def authenticate(self, exchange: Exchange) -> Identity:
        """Admit the request or raise a `GatewayError`.

        It does not suspend when everything it needs is known in this process.
        """

    async def admits_still(self, exchange: Exchange) -> None:
        """Raise what `authenticate` would now, for an `exchange` that it has admitted."""
        await self.authenticate(exchange)


class FromSubprotocol(Authenticator):
    """`inner`, for WebSockets of browsers too: `primit.<credential>` may stand for its header.

    `scheme` is what stands before the credential there. `inner` hears nothing of WebSockets.
    """

    def __init__(self, inner: Authenticator, header: str, scheme: str = "") -> None:
        self._inner = inner
        self._header = header
        self._scheme = scheme

    async def authenticate(self, exchange: Exchange) -> Identity:
        move_credential(exchange, self._header, self._scheme)
        return await self._inner.authenticate(exchange)

    async def admits_still(self, exchange: Exchange) -> None:
        await self._inner.admits_still(exchange)


@lru_cache(maxsize=16_384)
def identity(
    pattern: str,
    user_id: int | None = None,
    email: str | None = None,
    plan: str | None = None,
    key_id: str | None = None,
) -> Identity:
    """An `Identity` with its head lines ready; the same one for the same words."""
    fields = {"X-Auth-Pattern": pattern}
    if user_id is not None:
        fields["X-User-Id"] = str(user_id)
    if email is not None:
        fields["X-User-Email"] = email
    if plan is not None:
        fields["X-Plan"] = plan
    return Identity(pattern, user_id, email, plan, key_id, head_lines(fields))

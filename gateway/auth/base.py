"""The one shape of all five patterns.

An authenticator belongs to one route and is made when the route table is built, with everything
it needs. Outcomes are three and never mixed: an `Identity` (admitted), a refusal of the client
(`Unauthenticated`, `Forbidden`, `Invalid`, …), or "could not check" (`DependencyUnavailable`).
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from gateway.exchange import Exchange, Identity


class Authenticator(ABC):
    """Decides whether a request may pass a route of its pattern."""

    pattern: ClassVar[str]

    @abstractmethod
    async def authenticate(self, exchange: Exchange) -> Identity:
        """Admit the request or raise a `GatewayError`.

        It does not suspend when everything it needs is known in this process.
        """

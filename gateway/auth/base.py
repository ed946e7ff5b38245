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


class Authenticator(ABC):
    """Decides whether a request may pass a route of its pattern."""

    pattern: ClassVar[str]

    @abstractmethod
    async def authenticate(self, exchange: Exchange) -> Identity:
        """Admit the request or raise a `GatewayError`.

        It does not suspend when everything it needs is known in this process.
        """


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

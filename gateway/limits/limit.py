"""A policy as a route applies it: whom it counts a request to, and how much.

A request that has no such subject (nobody was authenticated, because a report-only route lets
everyone pass) is not counted by that policy.
"""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.exchange import Exchange
from gateway.limits.address import ClientAddresses
from gateway.limits.limiter import Limiter
from gateway.limits.policy import Decision
from gateway.limits.weight import Weigher, one
from gateway.sections import WhenStoreIsDown

Subject = Callable[[Exchange], str | None]


@dataclass(frozen=True, slots=True)
class Limit:
    """One policy over all who come."""

    limiter: Limiter
    subject: Subject
    weigh: Weigher = one

    async def judge(
        self, exchange: Exchange, without_store: Callable[[Exchange], WhenStoreIsDown]
    ) -> Decision | None:
        """Count the request and decide on it; if Redis can't be asked, as `without_store` says.

        Raises StoreUnavailable.
        """
        subject = self.subject(exchange)
        if subject is None:
            return None
        cost = self.weigh(exchange)
        decision = await self.limiter.ask(subject, cost)
        if decision is None:
            decision = self.limiter.alone(subject, cost, without_store(exchange))
        return decision


def by_address(addresses: ClientAddresses) -> Subject:
    return lambda exchange: addresses.bucket(exchange.client_ip)


def by_user(exchange: Exchange) -> str | None:
    identity = exchange.identity
    return None if identity is None or identity.user_id is None else str(identity.user_id)


def by_key(exchange: Exchange) -> str | None:
    return None if exchange.identity is None else exchange.identity.key_id


def by_route(exchange: Exchange) -> str | None:
    return None if exchange.route is None else exchange.route.name

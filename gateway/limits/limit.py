"""A policy as a route applies it: whom it counts a request to, and how much.

`judge` counts the request and decides on it, as `without_store` says if Redis can't be asked; it
raises StoreUnavailable.

A request that has no such subject (nobody was authenticated, because a report-only route lets
everyone pass) is not counted by that policy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.exchange import Exchange
from gateway.limits.address import ClientAddresses
from gateway.limits.limiter import Limiter
from gateway.limits.policy import Decision
from gateway.limits.slots import Slots
from gateway.limits.weight import Weigher, one
from gateway.sections import WhenStoreIsDown

Subject = Callable[[Exchange], str | None]
WithoutStore = Callable[[Exchange], WhenStoreIsDown]


@dataclass(frozen=True, slots=True)
class Limit:
    """One policy over all who come."""

    limiter: Limiter
    subject: Subject
    weigh: Weigher = one

    @property
    def limiters(self) -> tuple[Limiter, ...]:
        return (self.limiter,)

    async def judge(self, exchange: Exchange, without_store: WithoutStore) -> Decision | None:
        subject = self.subject(exchange)
        if subject is None:
            return None
        cost = self.weigh(exchange)
        decision = await self.limiter.ask(subject, cost)
        if decision is None:
            decision = self.limiter.alone(subject, cost, without_store(exchange))
        return decision


@dataclass(frozen=True, slots=True)
class PlanLimit:
    """Of several policies, the one of the plan that the request's user has (None: has none)."""

    by_plan: Mapping[str | None, Limiter]
    weigh: Weigher = one

    @property
    def limiters(self) -> tuple[Limiter, ...]:
        return tuple(self.by_plan.values())

    async def judge(self, exchange: Exchange, without_store: WithoutStore) -> Decision | None:
        user = by_user(exchange)
        if user is None or exchange.identity is None:
            return None
        limiter = self.by_plan.get(exchange.identity.plan)
        if limiter is None:
            return None
        return await limiter.admit(user, self.weigh(exchange), without_store(exchange))


@dataclass(frozen=True, slots=True)
class SlotLimit:
    """How many may be under way at once; the exchange lets go of its slot when it has ended."""

    taken_from: Slots
    subject: Subject

    @property
    def limiters(self) -> tuple[Slots, ...]:
        return (self.taken_from,)

    async def judge(self, exchange: Exchange, without_store: WithoutStore) -> Decision | None:
        subject = self.subject(exchange)
        if subject is None:
            return None
        decision = await self.taken_from.admit(subject, without_store(exchange))
        if decision.admitted:
            exchange.slots += ((self.taken_from, subject),)
        return decision


AnyLimit = Limit | PlanLimit | SlotLimit


def release_slots(exchange: Exchange) -> None:
    """The exchange has ended: others may take its place."""
    slots, exchange.slots = exchange.slots, ()
    for taken_from, subject in slots:
        taken_from.release(subject)


def by_address(addresses: ClientAddresses) -> Subject:
    return lambda exchange: addresses.bucket(exchange.client_ip)


def by_user(exchange: Exchange) -> str | None:
    identity = exchange.identity
    return None if identity is None or identity.user_id is None else str(identity.user_id)


def by_key(exchange: Exchange) -> str | None:
    return None if exchange.identity is None else exchange.identity.key_id


def by_route(exchange: Exchange) -> str | None:
    return None if exchange.route is None else exchange.route.name

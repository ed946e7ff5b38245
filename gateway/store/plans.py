"""Plans: their order, which one a user has and until when, and what it opens.

Rules: a plan opens what it and the plans below it open. Without a plan, or after its end, nothing
is open, not even what the lowest plan opens. A plan that the settings don't name opens nothing,
and an end that can't be read counts as passed. A plan without an end goes on.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from gateway.store.times import has_passed, iso_utc, unix_seconds


class UnknownPlanError(ValueError):
    """The settings name no such plan."""


@dataclass(frozen=True, slots=True)
class UserPlan:
    """`plan_expires_at` is ISO 8601 UTC without offset."""

    user_id: int
    plan: str | None
    plan_expires_at: str | None

    def shown(self) -> dict[str, Any]:
        return asdict(self)


class Holder(Protocol):
    """A user, as far as plans go."""

    @property
    def id(self) -> int: ...
    @property
    def plan(self) -> str | None: ...
    @property
    def plan_expires_at(self) -> str | None: ...


class Holders(Protocol):
    """What plans need of `identity/users.py`, which stands above the store."""

    async def ensure(self, user_id: int) -> None: ...
    async def show(self, user_id: int) -> Holder: ...
    async def set_plan(self, user_id: int, plan: str, expires_at: str | None, now: str) -> None: ...
    async def take_plan(self, user_id: int, now: str) -> None: ...


class Plans:
    """`order` ascends. `clock` gives Unix seconds."""

    def __init__(
        self, users: Holders, order: Sequence[str], clock: Callable[[], float] = time.time
    ) -> None:
        self._users = users
        self._ranks = {plan: rank for rank, plan in enumerate(order)}
        self._clock = clock

    def is_open(
        self, plan: str | None, plan_expires_at: str | None, needed: str, now: float
    ) -> bool:
        """Does `plan` open at `now` (Unix seconds) what `needed` opens?"""
        if plan is None or has_passed(plan_expires_at, now):
            return False
        return self._ranks.get(plan, -1) >= self._ranks[needed]

    def active(self, plan: str | None, plan_expires_at: str | None, now: float) -> str | None:
        """The plan that counts at `now` (Unix seconds); None: none does."""
        if plan not in self._ranks or has_passed(plan_expires_at, now):
            return None
        return plan

    async def set(self, user_id: int, plan: str, until: str | None = None) -> UserPlan:
        """Give a user this plan until then, or for good; an unknown user is created.

        Raises UnknownPlanError; ValueError for a time or a user id that isn't one;
        StoreUnavailable.
        """
        if plan not in self._ranks:
            raise UnknownPlanError(f"there is no plan {plan}; there are {', '.join(self._ranks)}")
        expires_at = None if until is None else iso_utc(unix_seconds(until))
        await self._users.ensure(user_id)
        await self._users.set_plan(user_id, plan, expires_at, iso_utc(self._clock()))
        return UserPlan(user_id, plan, expires_at)

    async def revoke(self, user_id: int) -> UserPlan:
        """Take the plan away. Raises LookupError for an unknown user, StoreUnavailable."""
        await self._users.take_plan(user_id, iso_utc(self._clock()))
        return UserPlan(user_id, None, None)

    async def show(self, user_id: int) -> UserPlan:
        """Raises LookupError for an unknown user, StoreUnavailable."""
        user = await self._users.show(user_id)
        return UserPlan(user.id, user.plan, user.plan_expires_at)

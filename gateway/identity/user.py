"""A user as they lie in Redis, and what is read of a record that any service may have written.

What can't be read is never in the user's favour. Which fields there are: ARCHITECTURE.md.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.store.times import has_passed

FAR_FUTURE = 253402300799.0  # the last second of the year 9999
LARGEST_ID = 2**53 - 1  # beyond it, JSON's and Lua's numbers are not exact


@dataclass(frozen=True, slots=True)
class User:
    """A user as they lie in Redis. Times are as there; `tokens_valid_after` in Unix seconds."""

    id: int
    email: str | None = None
    name: str | None = None
    google_id: str | None = None
    apple_id: str | None = None
    is_vip: bool = False
    vip_expires_at: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    plan: str | None = None
    plan_expires_at: str | None = None
    tokens_valid_after: float | None = None
    # For the token of the sign-in that gave this user: no part of the record.
    token_time: float | None = field(default=None, compare=False)

    def is_vip_at(self, now: float) -> bool:
        """`now` in Unix seconds. An end that can't be read has passed."""
        return self.is_vip and not has_passed(self.vip_expires_at, now)

    def as_contract(self) -> dict[str, Any]:
        """The user object that clients are promised."""
        return {
            "id": self.id,
            "email": self.email,
            "name": self.name,
            "google_id": self.google_id,
            "apple_id": self.apple_id,
            "is_vip": self.is_vip,
            "vip_expires_at": self.vip_expires_at,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }

    def shown(self) -> dict[str, Any]:
        """All of it, for operators."""
        return {
            **self.as_contract(),
            "plan": self.plan,
            "plan_expires_at": self.plan_expires_at,
            "tokens_valid_after": self.tokens_valid_after,
        }


def check_id(user_id: int) -> None:
    """Raises ValueError for what can't be an id."""
    if not 1 <= user_id <= LARGEST_ID:
        raise ValueError(f"a user id is a whole number from 1 to {LARGEST_ID}")


def is_id(text: str) -> bool:
    """In the one form that ids are written in: no sign, no zeros in front."""
    return re.fullmatch("[1-9][0-9]{0,15}", text) is not None and int(text) <= LARGEST_ID


def parse(user_id: str, fields: Mapping[str, str]) -> User | None:
    if not is_id(user_id):
        return None
    return User(
        id=int(user_id),
        email=fields.get("email") or None,
        name=fields.get("name") or None,
        google_id=fields.get("google_id") or None,
        apple_id=fields.get("apple_id") or None,
        is_vip=fields.get("is_vip") == "1",
        vip_expires_at=fields.get("vip_expires_at") or None,
        created_at=fields.get("created_at") or None,
        updated_at=fields.get("updated_at") or None,
        plan=fields.get("plan") or None,
        plan_expires_at=fields.get("plan_expires_at"),
        tokens_valid_after=_seconds(fields.get("tokens_valid_after")),
    )


def _seconds(text: str | None) -> float | None:
    """What can't be read ends all tokens: it was meant to end some."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        return FAR_FUTURE
    return seconds if math.isfinite(seconds) else FAR_FUTURE

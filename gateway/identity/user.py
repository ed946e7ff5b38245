"""A user as they lie in Redis, and what is read of a record that any service may have written.

What can't be read is never in the user's favour. Which fields there are: ARCHITECTURE.md.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import Forbidden
from gateway.jsonbody import normal_email
from gateway.store.times import has_passed

FAR_FUTURE = 253402300799.0  # the last second of the year 9999
MOST_EVENTS = 20  # as user_record.lua keeps them
OF_AN_EVENT = ("event", "provider", "subject", "email", "at", "address")
LARGEST_ID = 2**53 - 1  # beyond it, JSON's and Lua's numbers are not exact
GENERATION = "tokens_generation"  # of all users' tokens; read into each record


@dataclass(frozen=True, slots=True)
class User:
    """A user as they lie in Redis. Times are as there; `tokens_valid_after` in Unix seconds.

    `email_verified`: somebody vouches for the email, a provider or whoever wrote the record.
    """

    id: int
    email: str | None = None
    email_verified: bool = True
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
    disabled_at: str | None = None
    unlinked: str | None = None  # subjects that are not linked again, as in google:1067…
    links: str | None = field(default=None, repr=False, compare=False)  # JSON lines; not in copies
    revoked_tokens: frozenset[str] = frozenset()  # ids, see `revocation.py`
    # Of all users' tokens, and no part of the record.
    tokens_generation: int = field(default=0, compare=False)
    # For the token of the sign-in that gave this user: no part of the record.
    token_time: float | None = field(default=None, compare=False)

    @property
    def own_email(self) -> str | None:
        """The email, if somebody vouches for it: what backends and owners of keys go by."""
        return self.email if self.email_verified else None

    @property
    def is_disabled(self) -> bool:
        return self.disabled_at is not None

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
            "email_verified": self.email_verified,
            "plan": self.plan,
            "plan_expires_at": self.plan_expires_at,
            "tokens_valid_after": self.tokens_valid_after,
            "disabled_at": self.disabled_at,
            "unlinked": (self.unlinked or "").split(),
        }

    def history(self) -> list[dict[str, Any]]:
        """What became of the links to providers; what can't be read is left out."""
        events = []
        for line in (self.links or "").splitlines():
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict):
                events.append({name: event.get(name) for name in OF_AN_EVENT})
        return events


def check_id(user_id: int) -> None:
    """Raises ValueError for what can't be an id."""
    if not 1 <= user_id <= LARGEST_ID:
        raise ValueError(f"a user id is a whole number from 1 to {LARGEST_ID}")


def is_id(text: str) -> bool:
    """In the one form that ids are written in: no sign, no zeros in front."""
    return re.fullmatch("[1-9][0-9]{0,15}", text) is not None and int(text) <= LARGEST_ID


def named(flat: Sequence[str]) -> dict[str, str]:
    """The fields that a script returns, as names and values in turn."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def fits(fields: Mapping[str, str], name: str, value: str) -> bool:
    """May an index of `name` and `value` lead to this record? As in user_record.lua."""
    if not fields or "deleted_at" in fields:
        return False
    found = fields.get(name, "")
    if name == "email":
        return _is_vouched(fields) and (not found or normal_email(found) == value)
    barred = f"{name.removesuffix('_id')}:{value}" in fields.get("unlinked", "").split(" ")
    return found in ("", value) and not barred


def event_line(event: Mapping[str, str | None]) -> str:
    """An event as `links` holds it."""
    return json.dumps({name: event.get(name) for name in OF_AN_EVENT}) + "\n"


def noted(**event: str | None) -> str:
    """What follows an event's name in its line: the scripts know that name."""
    return event_line(event).removeprefix('{"event": null, ').removesuffix("\n")


def account_disabled() -> Forbidden:
    """What whoever comes as a disabled user is told."""
    return Forbidden("Account disabled", reason="account_disabled")


def parse(user_id: str, fields: Mapping[str, str], *, links: bool = True) -> User | None:
    """None: there is no such user, or no more. `links`: with what became of them."""
    if not is_id(user_id) or "deleted_at" in fields:
        return None
    return User(
        id=int(user_id),
        email=fields.get("email") or None,
        email_verified=_is_vouched(fields),
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
        revoked_tokens=frozenset(
            word.partition(":")[0] for word in fields.get("revoked_tokens", "").split()
        ),
        tokens_generation=generation_in(fields) or 0,
        disabled_at=fields.get("disabled_at"),
        unlinked=fields.get("unlinked") or None,
        links=(fields.get("links") or None) if links else None,
    )


def generation_in(fields: Mapping[str, str]) -> int | None:
    """None: it can't be read."""
    text = fields.get(GENERATION, "0")
    return int(text) if text.isdecimal() and text.isascii() else None


def own_email_in(fields: Mapping[str, str]) -> str | None:
    """A record's email, normal, if somebody vouches for it."""
    return normal_email(fields.get("email", "")) if _is_vouched(fields) else None


def _is_vouched(fields: Mapping[str, str]) -> bool:
    return fields.get("email_verified", "1") == "1"


def _seconds(text: str | None) -> float | None:
    """What can't be read ends all tokens: it was meant to end some."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        return FAR_FUTURE
    return seconds if math.isfinite(seconds) else FAR_FUTURE

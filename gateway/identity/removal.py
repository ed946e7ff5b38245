"""Taking from a user what they have: the link to a provider, or all of it.

Unlinking: the subject goes from the record, and a word in `unlinked` keeps its sign-ins from being
linked again by their email; then its index goes. A sign-in in between makes a user of its own.

Deleting, in this order: the record says `deleted_at`, and from then on there is no such user; what
the record leads to goes; then the record's other fields. Cut off anywhere, the same call goes on.
The record that stays holds the id and the time: an id that was given again would bring old tokens
and keys to life.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from gateway.errors import StoreUnavailable
from gateway.identity.spread_users import record_script
from gateway.identity.user import named, noted, parse
from gateway.identity.users import Provider, UnknownUserError, User, Users
from gateway.jsonbody import normal_email
from gateway.store.redis import Store
from gateway.store.times import iso_utc

ATTEMPTS = 5  # each fails only because the record was written in that moment


class Removal:
    """Methods raise UnknownUserError, and StoreUnavailable. `clock` gives Unix seconds."""

    def __init__(self, store: Store, users: Users, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._users = users
        self._clock = clock
        self._unlink = record_script(store, "unlink_user.lua")
        self._delete = record_script(store, "delete_user.lua")
        self._claim = record_script(store, "claim_index.lua")

    async def unlink(self, user_id: int, provider: Provider, *, may_return: bool) -> User:
        """Take the provider's subject from the user, and end all tokens.

        `may_return`: a sign-in may link it again by its email, also one that was taken before.
        """
        for _ in range(ATTEMPTS):
            user = await self._users.show(user_id)
            subject = (user.google_id if provider == "google" else user.apple_id) or ""
            now = iso_utc(self._clock())
            reply = await self._run(
                self._unlink,
                user_id,
                provider,
                subject,
                "1" if may_return else "0",
                noted(provider=provider, subject=subject, at=now),
                now,
                f"{self._clock():.3f}",
            )
            if reply != ["other"]:
                await self._free(user_id, provider, subject)
                return parse(str(user_id), named(reply)) or user
        raise StoreUnavailable

    async def begin_deletion(self, user_id: int) -> Mapping[str, str]:
        """From now on there is no such user. Returns what fields the record still has."""
        return await self._mark(user_id, "begin")

    async def end_deletion(self, user_id: int, fields: Mapping[str, str]) -> str:
        """Remove what led to the record, and all of it but the id and the time, which is returned.

        `fields` are what `begin_deletion` has returned.
        """
        for by in ("google", "apple"):
            await self._free(user_id, by, fields.get(f"{by}_id", ""))
        await self._free(user_id, "email", normal_email(fields.get("email", "")) or "")
        return (await self._mark(user_id, "end"))["deleted_at"]

    async def _mark(self, user_id: int, step: str) -> Mapping[str, str]:
        now = iso_utc(self._clock())
        return named(await self._run(self._delete, user_id, step, str(user_id), now))

    async def _run(self, script: Any, user_id: int, *words: str) -> list[str]:
        key = self._store.key("user", str(user_id))
        async with self._store.guard():
            reply: list[str] | None = await script(keys=[key], args=words)
        if reply is None:
            raise UnknownUserError(f"there is no user {user_id}")
        self._store.changed(key)
        return reply

    async def _free(self, user_id: int, by: str, value: str) -> None:
        """Remove an index, if it leads to this user."""
        if value:
            async with self._store.guard():
                key = self._store.key("user", "by", by, value)
                await self._claim(keys=[key], args=[str(user_id), ""])

"""Users in a Redis Cluster: what sign_in.lua and create_user.lua do at once, done in steps.

A record and the indexes that lead to it lie on different servers, and no script reaches two. So
each step is one script on one key, and the order makes every one safe to be the last:

1. A new record is written first, and goes by itself after `UNKEPT_MS`.
2. Then its email's index, then its subject's are claimed: led to it, if they still lead to whom
   they led when they were read. Of several sign-ins at once one succeeds; the others take back
   their own and begin again, and find the winner's.
3. Then the record is kept.

Cut off before 3, nobody was told of this user: the next sign-in finds the record by its index and
keeps it, or the record goes and an index that leads to nobody counts as none. Ids of such records
are not given again.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from gateway.errors import StoreUnavailable
from gateway.jsonbody import normal_email
from gateway.store.redis import Store
from gateway.store.script import Script

UNKEPT_MS = 60_000
ATTEMPTS = 20  # each fails only because another sign-in of the same person got further

Reply: TypeAlias = list[Any]  # that of the scripts
Times: TypeAlias = tuple[str, str]  # now: ISO 8601 UTC; Unix seconds with three decimals


class SpreadUsers:
    """`index` names a key by field and value, `record` by id. Calls stand within `guard()`."""

    def __init__(
        self, store: Store, record: Callable[[str], str], index: Callable[[str, str], str]
    ) -> None:
        self._client = store.client
        self._record = record
        self._index = index
        self._new_script = _script(store, "new_user.lua")
        self._join_script = _script(store, "join_user.lua")
        self._leave_script = _script(store, "leave_user.lua")
        self._claim_script = _script(store, "claim_index.lua")

    async def create(self, user_id: str, email: str, name: str, now: Times) -> Reply:
        """As create_user.lua."""
        seen, owner = await self._led("email", email, "email")
        if owner:
            return ["email"]
        fields = {"email": email, "name": name}
        if user_id and not await self._new(user_id, fields, now):
            return ["id"]
        user_id = user_id or await self._next(fields, now)
        if email and not await self._claim("email", email, seen, user_id):
            await self._leave_script(keys=[self._record(user_id)], args=["", ""])
            return ["email"]
        joined = await self._join(user_id, "", "", now)
        return [user_id, joined[1] if joined else []]

    async def sign_in(
        self, provider: str, subject: str, email: str, name: str, now: Times
    ) -> Reply:
        """As sign_in.lua. Raises StoreUnavailable when others were ahead again and again."""
        for _ in range(ATTEMPTS):
            reply = await self._attempt(provider, subject, email, name, now)
            if reply is not None:
                return reply
        raise StoreUnavailable

    async def _attempt(
        self, provider: str, subject: str, email: str, name: str, now: Times
    ) -> Reply | None:
        field = f"{provider}_id"
        seen, user_id = await self._led(provider, subject, field)
        seen_by_email, owner = await self._led("email", email, "email")
        fill = {"name": name}
        if owner in ("", user_id):
            fill["email"] = email
        joined = user_id and await self._join(user_id, field, subject, now, fill)
        if not joined and owner:
            user_id = owner
            joined = await self._join(owner, field, subject, now, {"name": name, "email": email})
        if not joined:
            own_email = "" if owner else email
            fill = {"name": name, "email": own_email}
            user_id = await self._next({field: subject, **fill}, now)
            if own_email and not await self._claim("email", email, seen_by_email, user_id):
                await self._leave(user_id, field, subject)
                return None
        if seen != user_id and not await self._claim(provider, subject, seen, user_id):
            if not joined or joined[0]:
                gone = await self._leave(user_id, field, subject)
                if gone and email:
                    await self._claim("email", email, user_id, "")
            return None
        if not joined:
            joined = await self._join(user_id, field, subject, now)
            return joined and [user_id, *joined[1:]]
        flat = joined[1]
        record = dict(zip(flat[::2], flat[1::2], strict=True))
        if email and not owner and normal_email(record.get("email", "")) == email:
            await self._claim("email", email, seen_by_email, user_id)
        return [user_id, *joined[1:]]

    async def _led(self, by: str, value: str, field: str) -> tuple[str, str]:
        """To which id an index leads, and again if its record has this value there, or none."""
        if not value:
            return "", ""
        user_id = await self._client.get(self._index(by, value)) or ""
        record = await self._client.hgetall(self._record(user_id)) if user_id else {}
        found = record.get(field, "")
        fits = found in ("", value) or (field == "email" and normal_email(found) == value)
        return user_id, user_id if record and fits else ""

    async def _next(self, fields: dict[str, str], now: Times) -> str:
        """The id of a new record: one that no record has. Billing may have brought some."""
        while True:
            user_id = str(await self._client.incr(self._record("last_id")))
            if await self._new(user_id, fields, now):
                return user_id

    async def _new(self, user_id: str, fields: dict[str, str], now: Times) -> bool:
        words = ["id", user_id, "is_vip", "0", "created_at", now[0], "updated_at", now[0]]
        words += [word for pair in fields.items() if pair[1] for word in pair]
        args = [UNKEPT_MS, *words]
        return bool(await self._new_script(keys=[self._record(user_id)], args=args))

    async def _join(
        self, user_id: str, field: str, value: str, now: Times, fill: dict[str, str] | None = None
    ) -> tuple[int, list[str], str] | None:
        words = [word for pair in (fill or {}).items() for word in pair]
        reply = await self._join_script(
            keys=[self._record(user_id)], args=[field, value, *now, *words]
        )
        return None if reply is None else (reply[0], reply[1], reply[2])

    async def _leave(self, user_id: str, field: str, value: str) -> bool:
        return bool(await self._leave_script(keys=[self._record(user_id)], args=[field, value]))

    async def _claim(self, by: str, value: str, seen: str, user_id: str) -> bool:
        return bool(await self._claim_script(keys=[self._index(by, value)], args=[seen, user_id]))


def _script(store: Store, name: str) -> Script:
    return store.script(Path(__file__).with_name(name).read_text())

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from gateway.errors import StoreUnavailable
from gateway.identity.user import account_disabled, fits, named
from gateway.jsonbody import normal_email
from gateway.store.redis import Store
from gateway.store.script import Script

UNKEPT_MS = 60_000
ATTEMPTS = 20  # each fails only because another sign-in of the same person got further

Reply: TypeAlias = list[Any]  # that of the scripts
Times: TypeAlias = tuple[str, str]  # now: ISO 8601 UTC; Unix seconds with three decimals


@dataclass(frozen=True, slots=True)
class Proven:
    """Whom a provider's token proves, as the scripts take them: '' is none.

    `noted` is kept of a link: a JSON object after the name and value of its event.
    """

    provider: str = ""
    subject: str = ""
    email: str = ""
    name: str = ""
    noted: str = ""

    @property
    def field(self) -> str:
        return self.provider and f"{self.provider}_id"

    @property
    def created_line(self) -> str:
        return f'{{"event": "created", {self.noted}\n'


NOBODY = Proven()  # signs in


class SpreadUsers:
    """`index` names a key by field and value, `record` by id. Calls stand within `guard()`."""

    def __init__(
        self, store: Store, record: Callable[[str], str], index: Callable[[str, str], str]
    ) -> None:
        self._client = store.client
        self._record = record
        self._index = index
        self._new_script = record_script(store, "new_user.lua")
        self._join_script = record_script(store, "join_user.lua")
        self._leave_script = record_script(store, "leave_user.lua")
        self._claim_script = record_script(store, "claim_index.lua")

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
            await self._leave(user_id, NOBODY)
            return ["email"]
        joined = await self._join(user_id, NOBODY, "", now)
        return [user_id, joined[1] if joined else []]

    async def sign_in(self, who: Proven, now: Times) -> Reply:
        """As sign_in.lua. Raises StoreUnavailable when others were ahead again and again."""
        for _ in range(ATTEMPTS):
            reply = await self._attempt(who, now)
            if reply is not None:
                return reply
        raise StoreUnavailable

    async def _attempt(self, who: Proven, now: Times) -> Reply | None:
        seen, user_id = await self._led(who.provider, who.subject, who.field)
        seen_by_email, owner = await self._led("email", who.email, "email")
        own_email = who.email if owner in ("", user_id) else ""
        joined = user_id and await self._join(user_id, who, own_email, now)
        if not joined and owner:
            user_id = owner
            joined = await self._join(owner, who, who.email, now)
        if not joined:
            own_email = "" if owner else who.email
            fields = {who.field: who.subject, "name": who.name, "links": who.created_line}
            fields |= {"email": own_email, "email_verified": "1"} if own_email else {}
            user_id = await self._next(fields, now)
            if own_email and not await self._claim("email", own_email, seen_by_email, user_id):
                await self._leave(user_id, who)
                return None
        if seen != user_id and not await self._claim(who.provider, who.subject, seen, user_id):
            if not joined or joined[0]:
                gone = await self._leave(user_id, who)
                if gone and who.email:
                    await self._claim("email", who.email, user_id, "")
            return None
        if not joined:
            joined = await self._join(user_id, who, "", now)
            return joined and [user_id, *joined[1:]]
        email = named(joined[1]).get("email", "")
        if who.email and not owner and normal_email(email) == who.email:
            await self._claim("email", who.email, seen_by_email, user_id)
        return [user_id, *joined[1:]]

    async def _led(self, by: str, value: str, field: str) -> tuple[str, str]:
        """To which id an index leads, and again if its record is one that it may lead to."""
        if not value:
            return "", ""
        user_id = await self._client.get(self._index(by, value)) or ""
        record = await self._client.hgetall(self._record(user_id)) if user_id else {}
        return user_id, user_id if fits(record, field, value) else ""

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
        self, user_id: str, who: Proven, email: str, now: Times
    ) -> tuple[int, list[str], str] | None:
        """`email` is what the record may take of theirs."""
        args = [who.field, who.subject, email, who.name, who.noted, *now]
        reply = await self._join_script(keys=[self._record(user_id)], args=args)
        if reply == ["disabled"]:
            raise account_disabled()
        return None if reply is None else (reply[0], reply[1], reply[2])

    async def _leave(self, user_id: str, who: Proven) -> bool:
        args = [who.field, who.subject, who.noted]
        return bool(await self._leave_script(keys=[self._record(user_id)], args=args))

    async def _claim(self, by: str, value: str, seen: str, user_id: str) -> bool:
        return bool(await self._claim_script(keys=[self._index(by, value)], args=[seen, user_id]))


def record_script(store: Store, name: str) -> Script:
    """A script on one record."""
    here = Path(__file__)
    shared, own = (here.with_name(each).read_text() for each in ("user_record.lua", name))
    return store.script(f"{shared}\n{own}")

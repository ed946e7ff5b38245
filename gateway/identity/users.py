"""Users: read from in-process copies, and created, found or linked in one step in Redis.

In a Redis Cluster it takes several steps (`spread_users.py`).

In Redis, a public contract (ARCHITECTURE.md): `gw:user:{id}` is a hash with the contract's user
object and plan, plan_expires_at, tokens_valid_after (Unix seconds). `gw:user:by:google:{sub}`,
`:apple:{sub}` and `:email:{email}` lead to the id; `gw:user:last_id` is the last one given here.
Absent means null, booleans are `1` and `0`, times ISO 8601 UTC without offset. Billing writes users
too, with ids of its own; an id that exists is never given again.

Terms: *subject*: the provider's own, lasting id of a person (`sub`, OpenID Connect Core §5.1); an
email is *normal* as `jsonbody.normal_email` makes it, and what has no such form finds nobody.
"""

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from gateway.errors import StoreUnavailable
from gateway.identity.spread_users import SpreadUsers
from gateway.jsonbody import normal_email
from gateway.sections import KeySettings
from gateway.store.redis import Store
from gateway.store.script import Script
from gateway.store.times import iso_utc
from gateway.store.watch import Watched

Provider = Literal["google", "apple"]

FAR_FUTURE = 253402300799.0  # the last second of the year 9999
LARGEST_ID = 2**53 - 1  # beyond it, JSON's and Lua's numbers are not exact


class UnknownUserError(LookupError):
    """There is no user with this id."""


class UserExistsError(ValueError):
    """The id or the email belongs to a user already."""


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


class Users:
    """Every method raises StoreUnavailable when Redis is away. `clock` gives Unix seconds."""

    def __init__(
        self, store: Store, settings: KeySettings, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._clock = clock
        self._sign_in = _script(store, "sign_in.lua")
        self._create = _script(store, "create_user.lua")
        self._revoke_tokens = _script(store, "revoke_tokens.lua")
        self._spread = SpreadUsers(store, self._name, self._index) if store.spread else None
        self.copies: Watched[User] = Watched(
            store.changes,
            "user",
            self._read,
            _parse,
            remember=settings.remember,
            stale_for=settings.stale_for,
        )

    async def get(self, user_id: int) -> User | None:
        """Doesn't suspend if the user is known."""
        return await self.copies.get(str(user_id))

    async def show(self, user_id: int) -> User:
        """As Redis has it now. Raises UnknownUserError."""
        (fields,) = await self._read([str(user_id)])
        if fields is None:
            raise StoreUnavailable
        user = _parse(str(user_id), fields) if fields else None
        if user is None:
            raise UnknownUserError(f"there is no user {user_id}")
        return user

    async def find_by_email(self, email: str) -> User | None:
        """As Redis has it now."""
        wanted = normal_email(email)
        if wanted is None:
            return None
        async with self._store.guard():
            user_id = await self._store.client.get(self._index("email", wanted))
        if user_id is None or not _is_id(user_id):
            return None
        try:
            user = await self.show(int(user_id))
        except UnknownUserError:
            return None
        return user if user.email is None or normal_email(user.email) == wanted else None

    async def list(self) -> Sequence[User]:
        """All users, by id."""
        found: dict[int, User] = {}
        async for names in self._store.scan(self._name("[0-9]*")):
            ids = [name.removeprefix(self._name("")) for name in names]
            ids = [user_id for user_id in ids if _is_id(user_id)]
            for user_id, fields in zip(ids, await self._read(ids), strict=True):
                user = _parse(user_id, fields) if fields else None
                if user is not None:
                    found[user.id] = user
        return [found[user_id] for user_id in sorted(found)]

    async def create(
        self,
        email: str | None = None,
        name: str | None = None,
        id: int | None = None,  # noqa: A002  # the field's name in the contract
    ) -> User:
        """A new user, with the next free id unless one is given.

        Raises UserExistsError; ValueError for an id or email that can't be one.
        """
        if id is not None:
            _check_id(id)
        wanted = normal_email(email or "") or ""
        if email and not wanted:
            raise ValueError("not an email address")
        words = ("" if id is None else str(id), wanted, name or "")
        if self._spread is not None:
            async with self._store.guard():
                reply = await self._spread.create(*words, self._times())
        else:
            reply = await self._run(self._create, [self._index("email", wanted)], words)
        if reply == ["id"]:
            raise UserExistsError(f"there is a user {id} already")
        if reply == ["email"]:
            raise UserExistsError("this email belongs to a user already")
        return self._written(reply)

    async def ensure(self, user_id: int) -> None:
        """Create this user if unknown. Raises ValueError for an id that can't be one."""
        try:
            await self.create(id=user_id)
        except UserExistsError:
            return

    async def sign_in(
        self,
        provider: Provider,
        subject: str,
        email: str | None,
        *,
        email_verified: bool,
        name: str | None,
    ) -> User:
        """Whoever has this subject, else this verified email, else a new user.

        An email that isn't verified is not looked at. Only here, the user has a `token_time`.
        """
        wanted = (normal_email(email or "") or "") if email_verified else ""
        words = (subject, wanted, name or "")
        if self._spread is not None:
            async with self._store.guard():
                reply = await self._spread.sign_in(provider, *words, self._times())
        else:
            keys = [self._index(provider, subject), self._index("email", wanted)]
            reply = await self._run(self._sign_in, keys, [f"{provider}_id", *words])
        *written, token_time = reply
        return replace(self._written(written), token_time=float(token_time))

    async def set_plan(self, user_id: int, plan: str, expires_at: str | None, now: str) -> None:
        """`expires_at` None: for good. Times are ISO 8601 UTC without offset."""
        key = self._name(str(user_id))
        async with self._store.guard():
            pipeline = self._store.client.pipeline(transaction=True)
            pipeline.hset(key, mapping={"plan": plan, "updated_at": now})
            if expires_at is None:
                pipeline.hdel(key, "plan_expires_at")
            else:
                pipeline.hset(key, "plan_expires_at", expires_at)
            await pipeline.execute()
        self._store.changed(key)

    async def take_plan(self, user_id: int, now: str) -> None:
        """From now on the user has no plan. Raises UnknownUserError. `now` as in `set_plan`."""
        key = self._name(str(user_id))
        async with self._store.guard():
            if not await self._store.client.exists(key):
                raise UnknownUserError(f"there is no user {user_id}")
            pipeline = self._store.client.pipeline(transaction=True)
            pipeline.hdel(key, "plan", "plan_expires_at")
            pipeline.hset(key, "updated_at", now)
            await pipeline.execute()
        self._store.changed(key)

    async def revoke_tokens(self, user_id: int) -> User:
        """End all tokens that the user has; those of later sign-ins are good.

        Raises UnknownUserError.
        """
        reply = await self._run(self._revoke_tokens, [self._name(str(user_id))], [])
        if reply is None:
            raise UnknownUserError(f"there is no user {user_id}")
        return self._written([str(user_id), reply])

    async def _run(self, script: Script, keys: Sequence[str], arguments: Sequence[str]) -> Any:
        async with self._store.guard():
            return await script(keys=keys, args=[self._name(""), *arguments, *self._times()])

    def _times(self) -> tuple[str, str]:
        """Now, as ISO 8601 UTC and in Unix seconds with three decimals."""
        now = self._clock()
        return iso_utc(now), f"{now:.3f}"

    def _written(self, reply: Any) -> User:
        """The user that a script has written and returned."""
        user_id, flat = reply
        self._store.changed(self._name(user_id))
        user = _parse(user_id, dict(zip(flat[::2], flat[1::2], strict=True)))
        assert user is not None  # the scripts make ids that are ids
        return user

    def _name(self, user_id: str) -> str:
        return self._store.key("user", user_id)

    def _index(self, by: str, value: str) -> str:
        return self._store.key("user", "by", by, value)

    async def _read(self, user_ids: Sequence[str]) -> Sequence[Mapping[str, str] | None]:
        return await self._store.read_hashes([self._name(user_id) for user_id in user_ids])


def _script(store: Store, name: str) -> Script:
    here = Path(__file__)
    shared, own = (here.with_name(each).read_text() for each in ("user_records.lua", name))
    return store.script(f"local USER = ARGV[1]\n{shared}\n{own}")


def _check_id(user_id: int) -> None:
    if not 1 <= user_id <= LARGEST_ID:
        raise ValueError(f"a user id is a whole number from 1 to {LARGEST_ID}")


def _is_id(text: str) -> bool:
    """In the one form that ids are written in: no sign, no zeros in front."""
    return re.fullmatch("[1-9][0-9]{0,15}", text) is not None and int(text) <= LARGEST_ID


def _parse(user_id: str, fields: Mapping[str, str]) -> User | None:
    if not _is_id(user_id):
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

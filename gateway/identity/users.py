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

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from gateway.errors import StoreUnavailable
from gateway.identity.spread_users import Proven, SpreadUsers, record_script
from gateway.identity.user import (
    GENERATION,
    User,
    account_disabled,
    check_id,
    generation_in,
    is_id,
    named,
    noted,
    parse,
)
from gateway.jsonbody import normal_email
from gateway.sections import KeySettings
from gateway.store.grouped import run_on_all
from gateway.store.redis import Store
from gateway.store.script import Script
from gateway.store.times import iso_utc
from gateway.store.watch import Watched

__all__ = [
    "DeletedUserError",
    "Provider",
    "UnknownUserError",
    "User",
    "UserExistsError",
    "Users",
]

logger = logging.getLogger("gateway.identity")

Provider = Literal["google", "apple"]

EVERYBODY = "all"  # names the hash with what holds for all users


class UnknownUserError(LookupError):
    """There is no user with this id."""


class DeletedUserError(UnknownUserError):
    """There was one, and the id is never given again."""


class UserExistsError(ValueError):
    """The id or the email belongs to a user already."""


class Users:
    """Every method raises StoreUnavailable when Redis is away. `clock` gives Unix seconds."""

    def __init__(
        self, store: Store, settings: KeySettings, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._clock = clock
        self._sign_in = _script(store, "sign_in.lua")
        self._create = _script(store, "create_user.lua")
        self._ensure = store.script(Path(__file__).with_name("ensure_users.lua").read_text())
        self._revoke_tokens = record_script(store, "revoke_tokens.lua")
        self._spread = SpreadUsers(store, self._name, self._index) if store.spread else None
        self.copies: Watched[User] = Watched(
            store.changes,
            "user",
            self._read_copies,
            partial(parse, links=False),  # a worker keeps many
            remember=settings.remember,
            stale_for=settings.stale_for,
        )
        store.changes.listen("user", _Everybody(self.copies))

    async def get(self, user_id: int) -> User | None:
        """Doesn't suspend if the user is known."""
        return await self.copies.get(str(user_id))

    async def show(self, user_id: int) -> User:
        """As Redis has it now. Raises UnknownUserError."""
        (fields,) = await self._read([str(user_id)])
        if fields is None:
            raise StoreUnavailable
        user = parse(str(user_id), fields) if fields else None
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
        if user_id is None or not is_id(user_id):
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
            ids = [user_id for user_id in ids if is_id(user_id)]
            for user_id, fields in zip(ids, await self._read(ids), strict=True):
                user = parse(user_id, fields) if fields else None
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
            check_id(id)
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
            raise await self._taken(int(words[0]))
        if reply == ["email"]:
            raise UserExistsError("this email belongs to a user already")
        return self._written(reply)

    async def ensure(self, user_id: int) -> None:
        """Create this user if unknown.

        Raises DeletedUserError; ValueError for an id that can't be one.
        """
        try:
            await self.create(id=user_id)
        except UserExistsError:
            return

    async def ensure_all(self, plans: Mapping[int, tuple[str, str]]) -> int:
        """Create those who are unknown, with their plan and its end, '' for none. How many were.

        The ids must be such as can be one.
        """
        names = [self._name(str(user_id)) for user_id in plans]
        words = [(user_id, *plan) for user_id, plan in plans.items()]
        now = iso_utc(self._clock())
        outcomes = await run_on_all(self._store, self._ensure, names, words, now)
        created = [name for name, outcome in zip(names, outcomes, strict=True) if outcome]
        self._store.changed(*created)
        return len(created)

    async def sign_in(
        self,
        provider: Provider,
        subject: str,
        email: str | None,
        *,
        email_verified: bool,
        name: str | None,
        address: str | None = None,
    ) -> User:
        """Whoever has this subject, else this verified email, else a new user.

        An email that isn't verified is not looked at. `address` is the client's, for the record of
        links. Only here, the user has a `token_time`. Raises Forbidden for a disabled user.
        """
        wanted = (normal_email(email or "") or "") if email_verified else ""
        link = self._noted(provider, subject, wanted, address)
        who = Proven(provider, subject, wanted, name or "", link)
        if self._spread is not None:
            async with self._store.guard():
                reply = await self._spread.sign_in(who, self._times())
        else:
            keys = [self._index(provider, subject), self._index("email", wanted)]
            words = [who.field, subject, wanted, who.name, link]
            reply = await self._run(self._sign_in, keys, words)
        if reply == ["disabled"]:
            raise account_disabled()
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
        await self.show(user_id)
        key = self._name(str(user_id))
        async with self._store.guard():
            pipeline = self._store.client.pipeline(transaction=True)
            pipeline.hdel(key, "plan", "plan_expires_at")
            pipeline.hset(key, "updated_at", now)
            await pipeline.execute()
        self._store.changed(key)

    async def revoke_tokens(self, user_id: int) -> User:
        """End all tokens that the user has; those of later sign-ins are good.

        Raises UnknownUserError.
        """
        return await self._end_tokens(user_id, "")

    async def disable(self, user_id: int) -> User:
        """From now on nobody gets in as them; all tokens end. Raises UnknownUserError."""
        return await self._end_tokens(user_id, "disable")

    async def enable(self, user_id: int) -> User:
        """Sign-in and plan keys are good again; tokens of before stay dead.

        Raises UnknownUserError.
        """
        return await self._end_tokens(user_id, "enable")

    async def _end_tokens(self, user_id: int, and_: str) -> User:
        async with self._store.guard():
            reply = await self._revoke_tokens(
                keys=[self._name(str(user_id))], args=[and_, *self._times()]
            )
        if reply is None:
            raise UnknownUserError(f"there is no user {user_id}")
        return self._written([str(user_id), reply])

    async def _taken(self, user_id: int) -> Exception:
        """Why no user can be made with this id."""
        try:
            await self.show(user_id)
        except UnknownUserError:
            return DeletedUserError(f"user {user_id} was deleted, and no id is given twice")
        return UserExistsError(f"there is a user {user_id} already")

    def _noted(self, provider: str, subject: str, email: str, address: str | None) -> str:
        at = iso_utc(self._clock())
        return noted(
            provider=provider, subject=subject, email=email or None, at=at, address=address
        )

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
        user = parse(user_id, named(flat))
        assert user is not None  # the scripts make ids that are ids
        return user

    def _name(self, user_id: str) -> str:
        return self._store.key("user", user_id)

    def _index(self, by: str, value: str) -> str:
        return self._store.key("user", "by", by, value)

    async def _read(self, user_ids: Sequence[str]) -> Sequence[Mapping[str, str] | None]:
        return await self._store.read_hashes([self._name(user_id) for user_id in user_ids])

    async def _read_copies(self, user_ids: Sequence[str]) -> Sequence[Mapping[str, str] | None]:
        """With what holds for all users in each; where that can't be read, nothing is known."""
        names = [self._name(user_id) for user_id in (*user_ids, EVERYBODY)]
        *records, everybody = await self._store.read_hashes(names)
        if everybody is None:
            return [None] * len(records)
        generation = generation_in(everybody)
        if generation is None:
            logger.error("%s: %s is no number", names[-1], GENERATION)
            return [None] * len(records)
        for record in records:
            if record:
                record[GENERATION] = str(generation)
        return records


class _Everybody:
    """Each copy has what holds for all: when that changes, all of them are of before."""

    def __init__(self, copies: Watched[User]) -> None:
        self._copies = copies

    def changed(self, name: str) -> None:
        if name == EVERYBODY:
            self._copies.all_changed()

    def all_changed(self) -> None:
        """The copies hear of that themselves."""


def _script(store: Store, name: str) -> Script:
    here = Path(__file__)
    files = ("user_record.lua", "user_records.lua", name)
    one, all_, own = (here.with_name(each).read_text() for each in files)
    return store.script(f"local USER = ARGV[1]\n{one}\n{all_}\n{own}")

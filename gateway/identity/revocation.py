"""What ends app tokens before they expire: one by its id, all of a user, all there are.

All of it is known to whoever has the user's copy, so a valid token costs no look-up of its own.
Revoked ids stand in the user's record (`token_records.lua`), at most 100: beyond that all tokens
end that are as old as the oldest of them, so what was revoked never comes back.

Terms: an *id* is a token's `jti`, or the `sid` that the tokens of one session share. The
*generation* is the number of times that all tokens of all users were revoked; each token carries
that of its issue (`gen`), so no clock decides which of them are older.
"""

import re
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from gateway.identity.tokens import Claims
from gateway.identity.user import GENERATION, User
from gateway.identity.users import EVERYBODY, UnknownUserError
from gateway.store.redis import Store
from gateway.store.script import Script

_WORD = re.compile(r"[\w.-]{1,64}", re.ASCII).fullmatch


class Revocation:
    """Every method raises StoreUnavailable when Redis is away. `clock` gives Unix seconds."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._script = token_script(store, "revoke_token.lua")

    async def revoke(self, claims: Claims) -> None:
        """End this token, and if it is a session's all others of that, and its refresh token.

        Raises UnknownUserError.
        """
        if claims.session is not None:
            await self.revoke_id(claims.user_id, claims.session)
        else:
            await self._revoke(claims.user_id, claims.jti, claims.issued_at, claims.expires_at)

    async def revoke_id(self, user_id: int, token_id: str) -> None:
        """End the token or session that has this id. Raises UnknownUserError."""
        await self._revoke(user_id, token_id, self._clock(), None)

    async def revoke_all(self) -> int:
        """End all tokens of all users; those of later sign-ins are good. The new generation."""
        key = self._store.key("user", EVERYBODY)
        async with self._store.guard():
            generation = int(await self._store.client.hincrby(key, GENERATION, 1))
        self._store.changed(key)
        return generation

    async def _revoke(
        self, user_id: int, token_id: str, issued_at: float, expires_at: float | None
    ) -> None:
        key = self._store.key("user", str(user_id))
        ends = "" if expires_at is None else f"{expires_at:.3f}"
        words = [f"{self._clock():.3f}", word(token_id), f"{issued_at:.3f}", ends]
        async with self._store.guard():
            known = await self._script(keys=[key], args=words)
        if not known:
            raise UnknownUserError(f"there is no user {user_id}")
        self._store.changed(key)


def is_revoked(claims: Claims, user: User) -> bool:
    """Has a token of `user` that says this been ended?"""
    return (
        claims.issued_at < (user.tokens_valid_after or 0)
        or claims.generation < user.tokens_generation
        or (
            bool(user.revoked_tokens)
            and not user.revoked_tokens.isdisjoint((word(claims.jti), claims.session))
        )
    )


def word(token_id: str) -> str:
    """What stands for an id in the record: itself, or its sha256 if it is of an odd form."""
    return token_id if _WORD(token_id) else sha256(token_id.encode()).hexdigest()


def token_script(store: Store, name: str) -> Script:
    """One of those that stand on `token_records.lua`."""
    files = ("user_record.lua", "token_records.lua", name)
    return store.script("\n".join(Path(__file__).with_name(file).read_text() for file in files))

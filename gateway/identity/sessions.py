"""What a sign-in begins: an access token and, where `app_tokens.refresh` is set, a session.

A *session* is what lasts from a sign-in to its end: a refresh token that is used once and brings
the next one, and the access tokens that come with each, which carry its id as `sid`. It lies in its
user's record (`token_records.lua`), with the sha256 of its refresh token: one script on one key
judges user, session and token, and takes it. A user has at most 20; the one unused longest goes.

A refresh token is `rt_{user id}_{family}{secret}`. The sid is the sha256 of the family's part: who
knows both parts has had a token of this session. If that isn't the current one, it was used before,
and two have it: the session ends for both, with its access tokens (RFC 9700 §4.14.2).

The secret is the HMAC of a salt under the token before it. So where `grace` lets an answer that got
lost be asked for again, the second answer is the first one's: there is never a second branch. The
salt is kept for that, and is of no use without the token. It names the call, too: one that was cut
off on its way to Redis may have been carried out, and is made again until it is answered.
"""

import asyncio
import hmac
import logging
import re
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from time import monotonic
from typing import Any

from gateway.errors import INVALID_TOKEN, StoreUnavailable, Unauthenticated
from gateway.identity.revocation import token_script
from gateway.identity.tokens import AppTokens
from gateway.identity.user import User
from gateway.identity.users import Users
from gateway.sections import AppTokenSettings, RefreshSettings
from gateway.store.redis import Store
from gateway.store.script import Script

logger = logging.getLogger("gateway.identity")

MAX_TOKEN_LENGTH = 256  # characters; ours have 85 at most
SECRET_LENGTH = 43
INSIST_SECONDS = 2.0
AGAIN_SECONDS = 0.05
_TOKEN = re.compile(
    rf"rt_([1-9][0-9]{{0,15}})_([\w-]{{22}})[\w-]{{{SECRET_LENGTH}}}", re.ASCII
).fullmatch


@dataclass(frozen=True, slots=True)
class Grant:
    """What the client gets; `refresh_token` None: there is no session."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)

    def as_answer(self) -> dict[str, Any]:
        answer = {"access_token": self.access_token}
        return (
            answer if self.refresh_token is None else answer | {"refresh_token": self.refresh_token}
        )


class Sessions:
    """Every method raises StoreUnavailable when Redis is away. `clock` gives Unix seconds."""

    def __init__(
        self,
        store: Store,
        users: Users,
        tokens: AppTokens,
        settings: AppTokenSettings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._users = users
        self._tokens = tokens
        self._lifetime_seconds = settings.lifetime
        self._settings = settings.refresh
        self._clock = clock
        self._open_script = token_script(store, "open_session.lua")
        self._renew_script = token_script(store, "renew_session.lua")

    async def begin(self, user: User) -> Grant:
        """For a user who has just signed in."""
        known = await self._users.get(user.id)  # their first request needs it anyway
        if known is None:
            raise StoreUnavailable  # there was one a moment ago
        user = replace(user, tokens_generation=known.tokens_generation)
        if self._settings is None:
            return Grant(self._tokens.issue(user), None)
        return await self._open(user, self._settings)

    async def _open(self, user: User, settings: RefreshSettings) -> Grant:
        now = self._clock()
        user = replace(user, token_time=now if user.token_time is None else user.token_time)
        family = secrets.token_urlsafe(16)
        refresh_token = f"rt_{user.id}_{family}{secrets.token_urlsafe(32)}"
        session = session_id(family)
        words = [f"{now:.3f}", session, digest(refresh_token), user.tokens_generation]
        words += [
            f"{user.token_time:.3f}",
            self._lifetime_seconds,
            settings.lifetime,
            settings.idle,
        ]
        if not await self._run(self._open_script, user.id, words):
            raise StoreUnavailable  # as above
        return Grant(self._tokens.issue(user, session=session), refresh_token)

    async def renew(self, refresh_token: str) -> Grant:
        """What comes of a refresh token, once. Raises Unauthenticated."""
        settings, named = self._settings, named_by(refresh_token)
        if settings is None or named is None:
            raise refused("unknown")
        user_id, session = named
        user = await self._users.get(user_id)
        if user is None:
            raise refused("unknown")
        now, salt = self._clock(), secrets.token_urlsafe(16)
        following = digest(next_token(refresh_token, salt))
        words = [f"{now:.3f}", session, digest(refresh_token), following, salt, settings.grace]
        words += [user.tokens_generation, self._lifetime_seconds, settings.idle]
        outcome, *taken = await self._insist(self._renew_script, user.id, words)
        if not taken:
            if outcome == "reused":
                logger.warning("user %d: a refresh token came twice, its session ended", user.id)
            raise refused(outcome)
        user = replace(user, token_time=float(taken[0]))
        access_token = self._tokens.issue(user, session=session)
        return Grant(access_token, next_token(refresh_token, taken[1]))

    async def _insist(self, script: Script, user_id: int, words: Sequence[Any]) -> Any:
        """As `_run`, for what has the same answer again: else a token might be used up for nothing.

        What was never sent is not waited for.
        """
        ends = monotonic() + INSIST_SECONDS
        was_sent = False
        while True:
            try:
                return await self._run(script, user_id, words)
            except StoreUnavailable as error:
                was_sent = was_sent or error.__cause__ is not None
                if not was_sent or monotonic() >= ends:
                    raise
            await asyncio.sleep(AGAIN_SECONDS)

    async def _run(self, script: Script, user_id: int, words: Sequence[Any]) -> Any:
        key = self._store.key("user", str(user_id))
        async with self._store.guard():
            reply = await script(keys=[key], args=words)
        self._store.changed(key)
        return reply


def named_by(refresh_token: str) -> tuple[int, str] | None:
    """The user's id and the sid, of what has the form of a refresh token."""
    found = _TOKEN(refresh_token)
    return None if found is None else (int(found[1]), session_id(found[2]))


def next_token(refresh_token: str, salt: str) -> str:
    """The one that comes after it. Only who has both can tell."""
    secret = hmac.digest(refresh_token.encode(), salt.encode(), "sha256")
    return refresh_token[:-SECRET_LENGTH] + urlsafe_b64encode(secret).decode().rstrip("=")


def session_id(family: str) -> str:
    return sha256(family.encode()).hexdigest()[:32]


def digest(refresh_token: str) -> str:
    """What Redis knows of it."""
    return sha256(refresh_token.encode()).hexdigest()


def refused(outcome: str) -> Unauthenticated:
    """The 401 for a refresh token. `outcome`: as in `renew_session.lua`."""
    return Unauthenticated(
        "Invalid or expired refresh token",
        reason=f"{outcome}_refresh_token",
        challenge=INVALID_TOKEN,
    )

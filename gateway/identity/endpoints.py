"""POST /auth/refresh and /auth/logout: how a session goes on, and how it ends.

Logout answers when every live worker has heard of it, as `gateway tokens revoke` does: `everywhere`
is false where one that may still run did not confirm in time. 503: Redis can't be asked, and the
token may be good as ever.
"""

import asyncio
from collections.abc import Callable

from gateway.errors import Overloaded
from gateway.exchange import Answer, Exchange, json_answer
from gateway.identity.revocation import Revocation
from gateway.identity.sessions import MAX_TOKEN_LENGTH, Sessions
from gateway.identity.signin import NOT_STORED
from gateway.identity.tokens import Claims, refused
from gateway.identity.users import UnknownUserError
from gateway.jsonbody import parse_object, require_string
from gateway.store.barrier import WAIT_SECONDS, Barriers
from gateway.store.redis import Store

MAX_BODY_BYTES = 4096
LOGOUTS_AT_ONCE = 16  # in a worker: each has a connection to Redis of its own
LOGGED_OUT = "退出登录成功"


class RefreshToken:
    """POST /auth/refresh `{"refresh_token": "..."}`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def respond(self, exchange: Exchange) -> Answer:
        body = parse_object(await exchange.read_body(MAX_BODY_BYTES))
        token = require_string(body, "refresh_token", max_length=MAX_TOKEN_LENGTH)
        grant = await self._sessions.renew(token)
        return json_answer(200, grant.as_answer(), NOT_STORED)


class Logout:
    """POST /auth/logout, by a good token. `claims_of` reads it anew, from the same request."""

    def __init__(
        self, store: Store, revocation: Revocation, claims_of: Callable[[Exchange], Claims]
    ) -> None:
        self._store = store
        self._revocation = revocation
        self._claims_of = claims_of
        self._turns = asyncio.Semaphore(LOGOUTS_AT_ONCE)

    async def respond(self, exchange: Exchange) -> Answer:
        await exchange.read_body(MAX_BODY_BYTES)
        claims = self._claims_of(exchange)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise Overloaded(reason="too_many_under_way") from None
        try:
            everywhere = await self._end(claims)
        except UnknownUserError:
            raise refused("revoked_token") from None
        finally:
            self._turns.release()
        answer = {"success": True, "message": LOGGED_OUT, "everywhere": everywhere}
        return json_answer(200, answer, NOT_STORED)

    async def _end(self, claims: Claims) -> bool:
        async with Barriers(self._store) as barriers:
            await self._revocation.revoke(claims)
            return not (await barriers.passed()).unconfirmed

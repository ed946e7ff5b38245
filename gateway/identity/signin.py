"""POST /auth/mobile/google and /apple: a provider's token in, an app token and the user out.

The person is created, or found by the provider's subject or verified email, in one step in Redis
(`users.py`). 401: the token is not taken; 403: the user is disabled; 503: the provider's keys, or
Redis, can't be had. A body may also have the `nonce` that the app asked the provider to put into
the token.
"""

from typing import Any, ClassVar, Literal

from gateway.errors import StoreUnavailable
from gateway.exchange import Answer, Exchange, json_answer
from gateway.identity.replay import SignedInTokens
from gateway.identity.sessions import Sessions
from gateway.identity.users import Users
from gateway.identity.verification import MAX_TOKEN_LENGTH, TokenVerifier
from gateway.jsonbody import parse_object, require_strings

MAX_BODY_BYTES = 64 * 1024
NOT_STORED = (("Cache-Control", "no-store"),)  # RFC 6749 §5.1


class _SignIn:
    provider: ClassVar[Literal["google", "apple"]]
    field: ClassVar[str]

    def __init__(
        self,
        verifier: TokenVerifier[Any],
        users: Users,
        sessions: Sessions,
        once: SignedInTokens | None = None,
    ) -> None:
        self._verifier = verifier
        self._users = users
        self._sessions = sessions
        self._once = once

    async def respond(self, exchange: Exchange) -> Answer:
        body = parse_object(await exchange.read_body(MAX_BODY_BYTES))
        has_nonce = self._verifier.nonce_required or body.get("nonce") is not None
        names = (self.field, "nonce") if has_nonce else (self.field,)
        token, *nonce = require_strings(body, names, max_length=MAX_TOKEN_LENGTH)
        proven = await self._verifier.verify(token, *nonce)
        if self._once is not None:
            await self._once.claim(token, proven.expires_at)
        try:
            user = await self._users.sign_in(
                self.provider,
                proven.subject,
                proven.email,
                email_verified=proven.email_verified,
                name=proven.name,
                address=exchange.client_ip,
            )
            grant = await self._sessions.begin(user)
        except StoreUnavailable:
            if self._once is not None:
                await self._once.release(token)
            raise
        answer = {**grant.as_answer(), "user": user.as_contract()}
        return json_answer(200, answer, NOT_STORED)


class GoogleSignIn(_SignIn):
    """POST /auth/mobile/google `{"id_token": "..."}`."""

    provider = "google"
    field = "id_token"


class AppleSignIn(_SignIn):
    """POST /auth/mobile/apple `{"identity_token": "..."}`."""

    provider = "apple"
    field = "identity_token"

"""POST /auth/mobile/google and /apple: a provider's token in, an app token and the user out.

The person is created, or found by the provider's subject or verified email, in one step in Redis
(`users.py`). 401: the token is not taken; 403: the user is disabled; 503: the provider's keys, or
Redis, can't be had.
"""

from typing import ClassVar, Literal, Protocol

from gateway.exchange import Answer, Exchange, json_answer
from gateway.identity.provider import MAX_TOKEN_LENGTH, ProvenIdentity
from gateway.identity.sessions import Sessions
from gateway.identity.users import Users
from gateway.jsonbody import parse_object, require_string

MAX_BODY_BYTES = 64 * 1024
NOT_STORED = (("Cache-Control", "no-store"),)  # RFC 6749 §5.1


class Verifier(Protocol):
    """Google's or Apple's."""

    async def verify(self, token: str) -> ProvenIdentity: ...


class _SignIn:
    provider: ClassVar[Literal["google", "apple"]]
    field: ClassVar[str]

    def __init__(self, verifier: Verifier, users: Users, sessions: Sessions) -> None:
        self._verifier = verifier
        self._users = users
        self._sessions = sessions

    async def respond(self, exchange: Exchange) -> Answer:
        body = parse_object(await exchange.read_body(MAX_BODY_BYTES))
        token = require_string(body, self.field, max_length=MAX_TOKEN_LENGTH)
        proven = await self._verifier.verify(token)
        user = await self._users.sign_in(
            self.provider,
            proven.subject,
            proven.email,
            email_verified=proven.email is not None,
            name=proven.name,
            address=exchange.client_ip,
        )
        grant = await self._sessions.begin(user)
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

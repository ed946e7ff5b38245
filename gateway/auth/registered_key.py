"""Pattern 3: callers who registered a Binance key under an email, named in the JSON body.

403: no active key is registered under it. With `inject` the backend finds the stored credentials
in the body as if the caller had sent them (pattern 2); everything else in the body stays as it
came. With an `owner` the caller must also prove, by app token, that the email is theirs; without
one, anyone who knows the email uses its key (the contract's own form of the pattern).
"""

import json

from gateway.auth.base import Authenticator, identity
from gateway.errors import Forbidden, Invalid
from gateway.exchange import Exchange, Identity
from gateway.jsonbody import parse_object, require_email
from gateway.vault import Credentials, Vault


class RegisteredKey(Authenticator):
    """`owner` is the authenticator that tells who is calling, or None."""

    pattern = "registered_key"

    def __init__(
        self, vault: Vault, max_body_bytes: int, *, inject: bool, owner: Authenticator | None
    ) -> None:
        self._vault = vault
        self._max_body_bytes = max_body_bytes
        self._inject = inject
        self._owner = owner

    async def authenticate(self, exchange: Exchange) -> Identity:
        caller = None if self._owner is None else await self._owner.authenticate(exchange)
        raw = await exchange.read_body(self._max_body_bytes)
        body = parse_object(raw)
        email = require_email(body, "email")
        if caller is not None and caller.email != email:
            raise Forbidden("The email is not the caller's", reason="not_the_owner")
        credentials = await self._vault.credentials(email)
        if credentials is None:
            raise _not_registered()
        if self._inject:
            _refuse_own_credentials(body)
            exchange.body = inject(raw, credentials)
        user_id = None if caller is None else caller.user_id
        return identity(self.pattern, user_id, email)

    async def admits_still(self, exchange: Exchange) -> None:
        """The body is not looked at again: it has the credentials in it by now."""
        if self._owner is not None:
            await self._owner.admits_still(exchange)
        admitted = exchange.identity
        assert admitted is not None
        record = None if admitted.email is None else await self._vault.status(admitted.email)
        if record is None or not record.is_active:
            raise _not_registered()


def inject(body: bytes, credentials: Credentials) -> bytes:
    """The JSON object `body` with the credentials as its first two members.

    `body` is an object with at least one member. Only bytes are added: numbers, order and escapes
    of the rest stay as they came.
    """
    members = json.dumps(
        {"api_key": credentials.api_key, "api_secret": credentials.api_secret}
    ).encode()
    start = body.index(b"{") + 1
    return b"%b%b, %b" % (body[:start], members[1:-1], body[start:])


def _not_registered() -> Forbidden:
    return Forbidden("No active API key is registered for this email", reason="no_registered_key")


def _refuse_own_credentials(body: dict[str, object]) -> None:
    own = [name for name in ("api_key", "api_secret") if name in body]
    if own:
        raise Invalid(
            [
                {
                    "loc": ["body", name],
                    "msg": "Extra inputs are not permitted",
                    "type": "extra_forbidden",
                }
                for name in own
            ]
        )

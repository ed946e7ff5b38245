"""POST and DELETE /api-key/register: a signed-in user registers a Binance key, or takes it away.

The email must be the caller's own, by their app token. The answers have the form of
`/api-key/verify`; a key that Binance refuses is such an answer too, and changes nothing.
"""

from gateway.errors import Forbidden, Invalid
from gateway.exchange import Answer, Exchange
from gateway.jsonbody import parse_object, require_email, require_strings
from gateway.vault.binance import sendable
from gateway.vault.encryption import Credentials
from gateway.vault.endpoints import MAX_BODY_BYTES, NOT_REGISTERED, REFUSED, answer
from gateway.vault.vault import Vault

REGISTERED = "API 密钥注册成功"
WITHDRAWN = "API 密钥已删除"
FIELDS = ("email", "api_key", "api_secret")


class Registration:
    """`{"email": …, "api_key": …, "api_secret": …}`; DELETE takes the email, or no body at all."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def respond(self, exchange: Exchange) -> Answer:
        if exchange.method == "DELETE":
            return await self._withdraw(exchange)
        return await self._register(exchange)

    async def _register(self, exchange: Exchange) -> Answer:
        body = parse_object(await exchange.read_body(MAX_BODY_BYTES))
        sent, api_key, api_secret = require_strings(body, FIELDS)
        email = require_email(body, "email")
        unusable = [name for name in FIELDS[1:] if not sendable(body[name])]
        if unusable:
            raise Invalid(
                [
                    {
                        "loc": ["body", name],
                        "msg": "Input should be at most 256 visible ASCII characters",
                        "type": "value_error",
                    }
                    for name in unusable
                ]
            )
        _check_owner(exchange, email)
        taken, registered = await self._vault.register(email, Credentials(api_key, api_secret))
        message = REGISTERED if taken else REFUSED
        return answer(message, sent, success=taken, has_api_key=registered)

    async def _withdraw(self, exchange: Exchange) -> Answer:
        raw = await exchange.read_body(MAX_BODY_BYTES)
        if raw:
            body = parse_object(raw)
            email = require_email(body, "email")
            sent: str = body["email"]
        else:
            email = sent = _own_email(exchange)
        _check_owner(exchange, email)
        if await self._vault.withdraw(email):
            return answer(WITHDRAWN, sent, success=True, has_api_key=False)
        return answer(NOT_REGISTERED, sent, success=False, has_api_key=False)


def _own_email(exchange: Exchange) -> str:
    """The caller's. Raises Forbidden for a user who has none."""
    caller = exchange.identity
    if caller is None or caller.email is None:
        raise _not_theirs()
    return caller.email


def _check_owner(exchange: Exchange, email: str) -> None:
    if _own_email(exchange) != email:
        raise _not_theirs()


def _not_theirs() -> Forbidden:
    return Forbidden("The email is not the caller's", reason="not_the_owner")

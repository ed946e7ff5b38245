"""POST /api-key/verify and GET /api-key/status/{email}, with the platform's own texts.

The answer names the email as it was sent. What is no email at all has no key registered.
"""

from typing import Any
from urllib.parse import unquote_to_bytes

from gateway.exchange import Answer, Exchange, json_answer
from gateway.jsonbody import parse_object, require_string
from gateway.vault.vault import Vault
from gateway.vault.verification import Verification

MAX_BODY_BYTES = 64 * 1024

VERIFIED = "API 密钥验证成功"
REFUSED = "API 密钥验证失败"
NOT_REGISTERED = "用户不存在或没有API密钥"
STATUS_FOUND = "获取状态成功"


class VerifyKey:
    """POST /api-key/verify `{"email": "..."}`."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def respond(self, exchange: Exchange) -> Answer:
        body = parse_object(await exchange.read_body(MAX_BODY_BYTES))
        email = require_string(body, "email")
        match await self._vault.verify(email):
            case Verification.VERIFIED:
                return answer(VERIFIED, email, success=True, has_api_key=True)
            case Verification.NOT_REGISTERED:
                return answer(NOT_REGISTERED, email, success=False, has_api_key=False)
            case Verification.REFUSED | Verification.INACTIVE:
                return answer(REFUSED, email, success=False, has_api_key=True)


class KeyStatus:
    """GET /api-key/status/{email}."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def respond(self, exchange: Exchange) -> Answer:
        email = last_segment(exchange.path)
        record = await self._vault.status(email)
        if record is None:
            return answer(NOT_REGISTERED, email, success=False, has_api_key=False)
        return answer(
            STATUS_FOUND,
            email,
            success=True,
            has_api_key=True,
            verification_status=record.verification_status,
            last_verified=record.last_verified,
            created_at=record.created_at,
            is_active=record.is_active,
        )


def answer(message: str, email: str, *, success: bool, has_api_key: bool, **more: Any) -> Answer:
    """In the contract's form, names in its order."""
    value = {"success": success, "message": message, "email": email, "has_api_key": has_api_key}
    return json_answer(200, value | more)


def last_segment(path: str) -> str:
    """The last segment of a raw path, percent-decoded once; what is not UTF-8 becomes U+FFFD."""
    segment = path.rpartition("/")[2].encode("utf-8", "surrogateescape")
    return unquote_to_bytes(segment).decode("utf-8", "replace")

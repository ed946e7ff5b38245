"""Tokens that the platform issued before the gateway came: taken until a date, and never after it.

What they look like is for the settings to say (`app_tokens.legacy`); HS256, an `exp` and a secret
of 32 bytes they all have. They carry no `kid`, unless the settings name one, so none of them is
ever taken for one of ours, nor one of ours for one of them. A service that signs other tokens with
the same secret (for new passwords, say) has something to tell them apart by: `claims`.
"""

import re
from hashlib import sha256
from typing import Any

import jwt

from gateway.identity import jose
from gateway.identity.claims import Claims, refused
from gateway.jsonbody import normal_email
from gateway.tokenfile import CLOCK_SKEW_SECONDS, LegacyTokenSettings

_USER_ID = re.compile(r"[1-9][0-9]{0,15}").fullmatch


class LegacyTokens:
    """Raises what reading a token raises: MalformedTokenError, PyJWTError, Unauthenticated."""

    def __init__(self, settings: LegacyTokenSettings) -> None:
        self._settings = settings
        self._secret = "" if settings.secret is None else settings.secret.get_secret_value()

    def reads(self, token: jose.UnverifiedToken) -> bool:
        """Does it name the key that they name?"""
        return bool(self._secret) and token.key_id == (self._settings.kid or "")

    def judge(self, token: str, now: float) -> Claims:
        """`now` in Unix seconds."""
        settings = self._settings
        said = jwt.decode(
            token,
            self._secret,
            algorithms=["HS256"],
            issuer=settings.issuer,
            audience=settings.audience,
            # Times are judged below, by our clock; the user by `_user`.
            options={
                "require": ["exp", settings.user_claim],
                "verify_aud": settings.audience is not None,
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
                "verify_sub": False,
                "verify_jti": False,
            },
        )
        for name, value in settings.claims.items():
            if type(said.get(name)) is not type(value) or said[name] != value:
                raise refused()
        issued_at = jose.seconds(said, "iat") if "iat" in said else 0.0
        not_before = jose.seconds(said, "nbf") if "nbf" in said else 0.0
        if max(issued_at, not_before) > now + CLOCK_SKEW_SECONDS:
            raise refused()
        expires_at = min(jose.seconds(said, "exp"), settings.until)
        if expires_at <= now:
            raise refused("expired_token")
        user_id, email = self._user(said[settings.user_claim])
        return Claims(
            user_id=user_id,
            expires_at=expires_at,
            issued_at=issued_at,
            jti=_id(said, token),
            scope=frozenset(settings.scope),
            email=email,
        )

    def _user(self, named: Any) -> tuple[int, str | None]:
        """The id, or 0 and the email."""
        if self._settings.user_is == "email":
            email = normal_email(named) if isinstance(named, str) else None
            if email is None:
                raise refused()
            return 0, email
        if type(named) is int:
            named = str(named)
        if not isinstance(named, str) or not _USER_ID(named):
            raise refused()
        return int(named), None


def _id(said: dict[str, Any], token: str) -> str:
    """Its `jti`, or what stands for it, so that it can be ended alone."""
    named = said.get("jti")
    if isinstance(named, str) and named:
        return named
    return f"legacy-{sha256(token.encode()).hexdigest()[:32]}"

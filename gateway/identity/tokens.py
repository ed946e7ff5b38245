"""The app token of pattern 4: issued at sign-in, verified on every request of a user's route.

An HS256 JWT (RFC 7519) whose `kid` names one of the configured secrets, see `tokenfile.py`.
Claims: iss, aud, sub (the user id, in digits), iat, nbf, exp, jti, scope (words, RFC 8693 §4.2) and
ver, the version of this very list; where there is one, sid (its session, `sessions.py`), and gen if
it isn't 0 (`revocation.py`).

Verifying costs 35 µs, so verified tokens are remembered by a digest until they expire. Whether
the user's tokens have been revoked since is not known here; the pattern asks that each time.
"""

import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import jwt

from gateway.errors import DependencyUnavailable
from gateway.exchange import Identity
from gateway.identity import jose
from gateway.identity.claims import Claims, refused
from gateway.identity.legacy import LegacyTokens
from gateway.identity.users import User
from gateway.sections import AppTokenSettings
from gateway.tokenfile import CLOCK_SKEW_SECONDS, TokenKey, signer

__all__ = ["AppTokens", "Claims", "Known", "refused"]

MAX_TOKEN_LENGTH = 4096  # characters; ours have about 350
VERSION = 1
DEFAULT_SCOPE = "user"
REMEMBERED_TOKENS = 100_000
DIGEST_BYTES = 32  # of BLAKE2b: SHA-256 takes twice as long where the processor does not help

_USER_ID = re.compile(r"[1-9][0-9]{0,17}")
_REQUIRED = ["iss", "aud", "sub", "iat", "nbf", "exp", "jti", "scope", "ver"]


class Known:
    """A verified token, and what was last made of it.

    While `user` is the user's copy and `until` (Unix seconds) has not come, `identity` is who shows
    it. `name` is what their copy is called, "" while only an email is known. `era` is that of the
    settings it was verified by.
    """

    __slots__ = ("claims", "ends", "era", "identity", "name", "until", "user")

    def __init__(self, claims: Claims, era: object) -> None:
        self.claims = claims
        self.ends = claims.expires_at
        self.era = era
        self.name = str(claims.user_id) if claims.email is None else ""
        self.user: User | None = None
        self.identity = Identity("")
        self.until = 0.0


class AppTokens:
    """Issues and verifies app tokens. `clock` is Unix seconds."""

    def __init__(
        self,
        settings: AppTokenSettings,
        *,
        clock: Callable[[], float] = time.time,
        remember: int = REMEMBERED_TOKENS,
    ) -> None:
        self._issuer = settings.issuer
        self._audience = settings.audience
        self._lifetime_seconds = settings.lifetime
        self._keys = {key.id: key for key in settings.keys if key.secret is not None}
        self.era = object()
        self._clock = clock
        self._remember = remember
        self._legacy = None if settings.legacy is None else LegacyTokens(settings.legacy)
        self._verified: OrderedDict[bytes, Known] = OrderedDict()

    def issue(self, user: User, scope: str = DEFAULT_SCOPE, session: str | None = None) -> str:
        """A new token for `user`. `scope` is words with a space between, `session` its id."""
        key = signer(self._keys.values(), self._clock())
        if key is None:
            raise DependencyUnavailable(reason="token_secret_unset", retry_after=60)
        # iat keeps its fraction: a token issued in the second of a revocation is before or after.
        now = round(self._clock(), 3) if user.token_time is None else user.token_time
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(user.id),
            "iat": now,
            "nbf": int(now),
            "exp": int(now + self._lifetime_seconds),
            "jti": secrets.token_urlsafe(16),
            "scope": scope,
            "ver": VERSION,
        }
        if session is not None:
            claims["sid"] = session
        if user.tokens_generation:
            claims["gen"] = user.tokens_generation
        return jwt.encode(claims, secret_of(key), algorithm="HS256", headers={"kid": key.id})

    def verify(self, token: str) -> Claims:
        """What `token` says. Raises Unauthenticated."""
        return self.known(token, self._clock()).claims

    def known(self, token: str, now: float) -> Known:
        """`now` in Unix seconds. Raises Unauthenticated."""
        if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
            raise refused()
        digest = blake2b(token.encode()).digest()[:DIGEST_BYTES]
        known = self._verified.get(digest)
        if known is None:
            known = self._verified[digest] = Known(self._judge(token, now), self.era)
            if len(self._verified) > self._remember:
                self._verified.popitem(last=False)
        elif known.ends <= now:
            del self._verified[digest]
            raise refused("expired_token")
        else:
            self._verified.move_to_end(digest)
        return known

    def _judge(self, token: str, now: float) -> Claims:
        if not self._keys and self._legacy is None:
            raise DependencyUnavailable(reason="token_secret_unset", retry_after=60)
        try:
            unverified = jose.read(token, max_length=MAX_TOKEN_LENGTH, needs_key_id=False)
            if unverified.type != "jwt":
                raise refused()
            key = self._keys.get(unverified.key_id)
            if key is None and self._legacy is not None and self._legacy.reads(unverified):
                return self._legacy.judge(token, now)
            if key is None or key.is_retired(now):
                raise refused()
            claims = jwt.decode(
                token,
                secret_of(key),
                algorithms=["HS256"],
                issuer=self._issuer,
                audience=self._audience,
                # Times are judged below, by our clock.
                options={
                    "require": _REQUIRED,
                    "strict_aud": True,
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
            return _judge_claims(claims, key.retires_at, now)
        except (jwt.PyJWTError, jose.MalformedTokenError):
            raise refused() from None


def _judge_claims(claims: dict[str, Any], ends: float | None, now: float) -> Claims:
    """`ends`: when the token's secret retires."""
    issued_at, expires_at = jose.seconds(claims, "iat"), jose.seconds(claims, "exp")
    not_before = max(issued_at, jose.seconds(claims, "nbf"))
    user_id, token_id, scope = claims["sub"], claims["jti"], claims["scope"]
    session, generation = claims.get("sid"), claims.get("gen", 0)
    if (
        not_before > now + CLOCK_SKEW_SECONDS  # exp has no leeway
        or not _USER_ID.fullmatch(user_id)
        or not isinstance(token_id, str)
        or not isinstance(scope, str)
        or type(claims["ver"]) is not int
        or claims["ver"] != VERSION
        or not isinstance(session, str | None)
        or type(generation) is not int
    ):
        raise refused()
    if expires_at <= now:
        raise refused("expired_token")
    if ends is not None:  # its secret's: what is remembered ends with it
        expires_at = min(expires_at, ends)
    words = frozenset(scope.split())
    return Claims(int(user_id), expires_at, issued_at, token_id, words, session, generation)


def secret_of(key: TokenKey) -> bytes:
    assert key.secret is not None
    return key.secret.get_secret_value().encode()

"""The app token of pattern 4: issued at sign-in, verified on every request of a user's route.

An HS256 JWT (RFC 7519) whose `kid` names one of the configured secrets, see `tokenfile.py`.
Claims: iss, aud, sub (the user id, in digits), iat, nbf, exp, jti, scope (words, RFC 8693 §4.2) and
ver, the version of this very list; where there is one, sid (its session, `sessions.py`), and gen if
it isn't 0 (`revocation.py`).

Verifying costs 35 µs, so verified tokens are remembered by their sha256 until they expire. Whether
the user's tokens have been revoked since is not known here; the pattern asks that each time.
"""

import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import jwt

from gateway.errors import INVALID_TOKEN, DependencyUnavailable, Unauthenticated
from gateway.identity import jose
from gateway.identity.users import User
from gateway.sections import AppTokenSettings
from gateway.tokenfile import CLOCK_SKEW_SECONDS, TokenKey, signer

MAX_TOKEN_LENGTH = 4096  # characters; ours have about 350
VERSION = 1
DEFAULT_SCOPE = "user"
REMEMBERED_TOKENS = 100_000

_USER_ID = re.compile(r"[1-9][0-9]{0,17}")
_REQUIRED = ["iss", "aud", "sub", "iat", "nbf", "exp", "jti", "scope", "ver"]


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified app token says. Times are Unix seconds."""

    user_id: int
    expires_at: float
    issued_at: float
    jti: str
    scope: frozenset[str]
    session: str | None = None
    generation: int = 0


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
        self._clock = clock
        self._remember = remember
        self._verified: OrderedDict[bytes, Claims] = OrderedDict()

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
        if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
            raise refused()
        digest = sha256(token.encode()).digest()
        claims = self._verified.get(digest)
        if claims is None:
            claims = self._judge(token)
            self._verified[digest] = claims
            if len(self._verified) > self._remember:
                self._verified.popitem(last=False)
        elif claims.expires_at <= self._clock():
            del self._verified[digest]
            raise refused("expired_token")
        else:
            self._verified.move_to_end(digest)
        return claims

    def _judge(self, token: str) -> Claims:
        if not self._keys:
            raise DependencyUnavailable(reason="token_secret_unset", retry_after=60)
        try:
            unverified = jose.read(token, max_length=MAX_TOKEN_LENGTH)
            key = self._keys.get(unverified.key_id)
            if unverified.type != "jwt" or key is None or key.is_retired(self._clock()):
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
            return self._judge_claims(claims, key.retires_at)
        except (jwt.PyJWTError, jose.MalformedTokenError):
            raise refused() from None

    def _judge_claims(self, claims: dict[str, Any], ends: float | None) -> Claims:
        now = self._clock()
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


def refused(reason: str = "invalid_token") -> Unauthenticated:
    """The 401 for an app token, whatever is wrong with it."""
    return Unauthenticated("Invalid or expired token", reason=reason, challenge=INVALID_TOKEN)

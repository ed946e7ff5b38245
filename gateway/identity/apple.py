"""Apple's identity tokens, verified by PyJWT with the key set that we fetch ourselves.

The algorithm is the key's, never the token's: RS256 for RSA keys, ES256 for those on P-256. Other
keys in the set are passed over, so a token that names one is as good as unsigned.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from aiohttp import ClientSession
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway.errors import DependencyUnavailable
from gateway.identity import jose
from gateway.identity.certificates import ProviderKeys, UnusableKeysError
from gateway.identity.provider import (
    CLOCK_SKEW_SECONDS,
    MAX_TOKEN_LENGTH,
    ProvenIdentity,
    Refusal,
    proven_identity,
    refused,
)

ISSUER = "https://appleid.apple.com"
MIN_RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key and the one algorithm it is used with."""

    algorithm: str
    public_key: RSAPublicKey | EllipticCurvePublicKey


class AppleVerifier:
    """Verifies Apple identity tokens for the `audiences` (our bundle and service ids).

    `clock` is for the age of the key set, monotonic seconds.
    """

    def __init__(
        self,
        session: ClientSession,
        keys_url: str,
        audiences: Sequence[str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.keys = ProviderKeys(session, keys_url, parse_key_set, clock=clock)
        self._audiences = list(audiences)

    async def verify(self, token: str) -> ProvenIdentity:
        """Who `token` proves. Raises Unauthenticated, or DependencyUnavailable."""
        if not self._audiences:
            raise DependencyUnavailable(reason="sign_in_not_configured", retry_after=60)
        try:
            unverified = jose.read(token, max_length=MAX_TOKEN_LENGTH)
            jose.seconds(unverified.claims, "iat")
            jose.seconds(unverified.claims, "exp")
        except jose.MalformedTokenError:
            raise refused() from None
        if unverified.algorithm not in ("RS256", "ES256"):
            raise refused()
        key = await self.keys.get(unverified.key_id)
        if key is None:
            raise refused()
        try:
            claims = jwt.decode(
                token,
                key.public_key,
                algorithms=[key.algorithm],
                audience=self._audiences,
                issuer=ISSUER,
                leeway=CLOCK_SKEW_SECONDS,
                options={"require": ["iss", "aud", "exp", "iat", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise refused(Refusal.EXPIRED) from None
        except (jwt.PyJWTError, ValueError):
            raise refused() from None
        return proven_identity(claims, email_required=False)


def parse_key_set(document: dict[str, Any]) -> dict[str, VerificationKey]:
    """The keys of a JWK set (RFC 7517 §5) that we can use. Raises ValueError if it is none."""
    members = document.get("keys")
    if not isinstance(members, list):
        raise UnusableKeysError("not a key set")
    keys: dict[str, VerificationKey] = {}
    for member in members:
        key = _verification_key(member)
        if key is not None:
            keys[member["kid"]] = key
    return keys


def _verification_key(member: Any) -> VerificationKey | None:
    if not isinstance(member, dict) or not isinstance(member.get("kid"), str):
        return None
    if member.get("kty") not in ("RSA", "EC") or member.get("use", "sig") != "sig":
        return None
    algorithm = "RS256" if member["kty"] == "RSA" else "ES256"
    if member.get("alg", algorithm) != algorithm or "d" in member:
        return None
    try:
        public_key = jwt.PyJWK(member, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    usable = (isinstance(public_key, RSAPublicKey) and public_key.key_size >= MIN_RSA_BITS) or (
        isinstance(public_key, EllipticCurvePublicKey) and isinstance(public_key.curve, SECP256R1)
    )
    return VerificationKey(algorithm, public_key) if usable else None

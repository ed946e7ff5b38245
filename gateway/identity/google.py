"""Google's ID tokens, verified by google-auth with certificates that we fetch ourselves.

google-auth's own way to fetch them blocks the event loop, and fetches on every call. It also takes
ES256 and tokens without a key id; both are refused before it is asked.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import ClientSession
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from google.auth import exceptions
from google.auth import jwt as google_jwt

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

ISSUERS = frozenset({"accounts.google.com", "https://accounts.google.com"})
MIN_RSA_BITS = 2048

_decode: Callable[..., dict[str, Any]] = google_jwt.decode


class GoogleVerifier:
    """Verifies Google ID tokens for the `audiences` (our OAuth client ids).

    `clock` is for the age of certificates, monotonic seconds.
    """

    def __init__(
        self,
        session: ClientSession,
        certificates_url: str,
        audiences: Sequence[str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.keys = ProviderKeys(session, certificates_url, parse_certificates, clock=clock)
        self._audiences = list(audiences)

    async def verify(self, token: str) -> ProvenIdentity:
        """Who `token` proves. Raises Unauthenticated, or DependencyUnavailable."""
        if not self._audiences:
            raise DependencyUnavailable(reason="sign_in_not_configured", retry_after=60)
        try:
            unverified = jose.read(token, max_length=MAX_TOKEN_LENGTH)
            jose.seconds(unverified.claims, "iat")
            expires_at = jose.seconds(unverified.claims, "exp")
        except jose.MalformedTokenError:
            raise refused() from None
        if unverified.algorithm != "RS256":
            raise refused()
        certificate = await self.keys.get(unverified.key_id)
        if certificate is None:
            raise refused()
        try:
            claims = _decode(
                token,
                certs={unverified.key_id: certificate},
                audience=self._audiences,
                clock_skew_in_seconds=CLOCK_SKEW_SECONDS,
            )
        except exceptions.InvalidValue:  # the signature is good: too early, too late, not for us
            late = expires_at + CLOCK_SKEW_SECONDS < time.time()
            raise refused(Refusal.EXPIRED if late else Refusal.INVALID) from None
        except exceptions.GoogleAuthError:
            raise refused() from None
        issuer = claims.get("iss")
        if not isinstance(issuer, str) or issuer not in ISSUERS:
            raise refused()
        return proven_identity(claims, email_required=True)


def parse_certificates(document: dict[str, Any]) -> dict[str, str]:
    """Google's map of key id to certificate (PEM). Raises ValueError if anything else is in it:
    better the certificates of an hour ago than half of new ones.
    """
    for pem in document.values():
        if not isinstance(pem, str):
            raise UnusableKeysError("not a certificate")
        try:
            key = x509.load_pem_x509_certificate(pem.encode()).public_key()
        except UnsupportedAlgorithm:
            raise UnusableKeysError("not a key that can be used") from None
        if not isinstance(key, RSAPublicKey) or key.key_size < MIN_RSA_BITS:
            raise UnusableKeysError("not an RSA key of 2048 bits or more")
    return document

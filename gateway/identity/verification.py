"""What is asked of Google's and of Apple's tokens alike (OpenID Connect Core §3.1.3.7, RFC 8725).

In this order: form, algorithm, signature by one of the provider's keys, issuer, audience,
authorized party, times, nonce, then the person. The algorithm is the key's, never the token's.
A provider's own rules are in `google.py` and `apple.py`.
"""

import base64
import hmac
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, ClassVar, Generic, Self, TypeVar

import jwt
from aiohttp import ClientSession
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway.errors import DependencyUnavailable
from gateway.identity import jose
from gateway.identity.certificates import ProviderKeys
from gateway.identity.provider import ProvenIdentity, Refusal, flag, proven_identity, refused
from gateway.sections import ProviderSettings

CLOCK_SKEW_SECONDS = 60
MAX_TOKEN_LENGTH = 16 * 1024  # characters; real ones have 1 to 2 thousand
LATEST_TIME = 253402300799.0  # the last second of the year 9999
MIN_RSA_BITS = 2048

S = TypeVar("S", bound=ProviderSettings)


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key and the one algorithm it is used with."""

    algorithm: str
    public_key: RSAPublicKey | EllipticCurvePublicKey

    @classmethod
    def of(cls, public_key: object) -> "VerificationKey | None":
        """None if it is of a kind, curve or size that is not used."""
        if isinstance(public_key, RSAPublicKey) and public_key.key_size >= MIN_RSA_BITS:
            return cls("RS256", public_key)
        if isinstance(public_key, EllipticCurvePublicKey) and isinstance(
            public_key.curve, SECP256R1
        ):
            return cls("ES256", public_key)
        return None


class TokenVerifier(ABC, Generic[S]):
    """Verifies a provider's tokens, by the keys found where `settings` say, or by `keys`.

    `clock`, for the age of keys, is monotonic seconds, `now` Unix seconds.
    """

    issuers: ClassVar[frozenset[str]]
    algorithms: ClassVar[frozenset[str]]
    email_required: ClassVar[bool]

    def __init__(
        self,
        session: ClientSession,
        settings: S,
        *,
        keys: ProviderKeys[VerificationKey] | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.keys = keys or ProviderKeys(
            session,
            settings.keys_at,
            self.parse,
            kept_for=settings.keys_kept_for,
            timeout=settings.timeout,
            clock=clock,
        )
        self.nonce_required = settings.nonce != "optional"
        self._audiences = frozenset(settings.audiences)
        self._authorized_parties = settings.parties
        self._session = session
        self._now = now

    def successor(self, settings: S) -> Self:
        """The verifier by `settings`, with the keys at hand if they say so much of them."""
        before, names = self.settings, ("keys_at", "keys_kept_for", "timeout")
        same = all(getattr(settings, name) == getattr(before, name) for name in names)
        keys = self.keys if same else None
        return type(self)(self._session, settings, keys=keys, clock=self.keys.clock, now=self._now)

    async def verify(self, token: str, nonce: str | None = None) -> ProvenIdentity:
        """Who `token` proves, if it is for `nonce`. Raises Unauthenticated, or
        DependencyUnavailable.
        """
        if not self._audiences:
            raise DependencyUnavailable(reason="sign_in_not_configured", retry_after=60)
        try:
            unverified = jose.read(token, max_length=MAX_TOKEN_LENGTH)
            claims = unverified.claims
            expires_at, issued_at = _time(claims, "exp"), _time(claims, "iat")
            not_before = _time(claims, "nbf") if "nbf" in claims else issued_at
        except jose.MalformedTokenError:
            raise refused() from None
        # What a provider signs with the same keys for other purposes says so (RFC 8725 §3.11).
        if unverified.algorithm not in self.algorithms or unverified.type != "jwt":
            raise refused()
        key = await self.keys.get(unverified.key_id)
        if (
            key is None
            or key.algorithm != unverified.algorithm
            or not self.is_signed(unverified, key)
        ):
            raise refused()
        issuer = claims.get("iss")
        if not isinstance(issuer, str) or issuer not in self.issuers:
            raise refused()
        self._check_audience(claims)
        now = self._now()
        if max(issued_at, not_before) > now + CLOCK_SKEW_SECONDS:
            raise refused()
        if expires_at + CLOCK_SKEW_SECONDS <= now:
            raise refused(Refusal.EXPIRED)
        self._check_nonce(claims, nonce)
        self.check_own(claims)
        return proven_identity(claims, email_required=self.email_required, expires_at=expires_at)

    @staticmethod
    @abstractmethod
    def parse(document: dict[str, Any]) -> Mapping[str, VerificationKey | None]:
        """The keys in what the provider publishes, as ProviderKeys takes them."""

    def is_signed(self, token: jose.UnverifiedToken, key: VerificationKey) -> bool:
        """Is its signature one of this key's, of just these bytes?"""
        algorithm = jwt.get_algorithm_by_name(key.algorithm)
        return algorithm.verify(token.signed, key.public_key, token.signature)

    def check_own(self, claims: dict[str, Any]) -> None:
        """What this provider alone is asked. Raises Unauthenticated."""

    def _check_audience(self, claims: dict[str, Any]) -> None:
        """All audiences are ours, and so is the party that the token was issued to: who else it
        is for could use it here. Rules 3 to 5.
        """
        audience, party = claims.get("aud"), claims.get("azp")
        named = audience if isinstance(audience, list) else [audience]
        if not named or not all(isinstance(one, str) and one in self._audiences for one in named):
            raise refused()
        if "azp" not in claims and len(named) == 1:
            return
        if not isinstance(party, str) or party not in self._authorized_parties:
            raise refused()

    def _check_nonce(self, claims: dict[str, Any], nonce: str | None) -> None:
        # Apple says so of platforms that could not put the nonce into the token.
        unsupported = "nonce" not in claims and flag(claims, "nonce_supported") is False
        if not self.nonce_required and (nonce is None or unsupported):
            return
        plain = self.settings.nonce != "hashed"
        if nonce is None or not _is_nonce(claims.get("nonce"), nonce, plain=plain):
            raise refused(Refusal.NONCE)


def _time(claims: dict[str, Any], name: str) -> float:
    seconds = jose.seconds(claims, name)
    if not 0 <= seconds <= LATEST_TIME:
        raise jose.MalformedTokenError(f"{name} is out of range")
    return seconds


def _is_nonce(claim: Any, nonce: str, *, plain: bool) -> bool:
    """Is `claim` the SHA-256 of `nonce`, in hex or base64url, or, if `plain`, the nonce itself?"""
    if not isinstance(claim, str):
        return False
    digest = sha256(nonce.encode()).digest()
    forms = [digest.hex().encode(), base64.urlsafe_b64encode(digest).rstrip(b"=")]
    if plain:
        forms.append(nonce.encode())
    claimed = claim.encode("utf-8", "surrogatepass")
    return any(hmac.compare_digest(claimed, form) for form in forms)

"""Google's ID tokens, and the certificates that Google publishes its keys in.

A token may be issued to one client (`azp`) for another (`aud`), as an Android app's is for the
server's; both have to be ours. `hd` names the Workspace domain of an account that belongs to one.
Signatures are verified by google-auth; what it does beyond that is done in `verification.py`: it
fetches certificates while everything waits, and takes ES256 and tokens for several audiences.
"""

from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from google.auth import crypt

from gateway.identity.jose import UnverifiedToken
from gateway.identity.provider import Refusal, refused
from gateway.identity.verification import TokenVerifier, VerificationKey
from gateway.sections import GoogleSettings


def verify_rsa(public_key: Any, signed: bytes, signature: bytes) -> bool:
    verifier: Any = crypt.RSAVerifier
    return bool(verifier(public_key).verify(signed, signature))


def parse_certificates(document: dict[str, Any]) -> dict[str, VerificationKey | None]:
    """Google's map of key id to certificate (PEM); None for what can't be used as such."""
    return {key_id: _verification_key(pem) for key_id, pem in document.items()}


def _verification_key(pem: Any) -> VerificationKey | None:
    if not isinstance(pem, str):
        return None
    try:
        key = VerificationKey.of(x509.load_pem_x509_certificate(pem.encode()).public_key())
    except (UnsupportedAlgorithm, ValueError):
        return None
    return key if key is not None and key.algorithm == "RS256" else None


class GoogleVerifier(TokenVerifier[GoogleSettings]):
    """Verifies Google ID tokens."""

    issuers = frozenset({"accounts.google.com", "https://accounts.google.com"})
    algorithms = frozenset({"RS256"})
    email_required = True
    parse = staticmethod(parse_certificates)

    def is_signed(self, token: UnverifiedToken, key: VerificationKey) -> bool:
        return verify_rsa(key.public_key, token.signed, token.signature)

    def check_own(self, claims: dict[str, Any]) -> None:
        domains, domain = self.settings.hosted_domains, claims.get("hd")
        if domains and not (isinstance(domain, str) and domain.lower() in domains):
            raise refused(Refusal.HOSTED_DOMAIN)

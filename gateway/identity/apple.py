"""Apple's identity tokens, and the key set (RFC 7517) that Apple publishes.

The email comes with the first sign-in, later maybe not; it may be an address that only relays. A
key of another kind than ours (RFC 7517 §5), or one to encrypt with, is passed over.
"""

from typing import Any

import jwt

from gateway.identity.certificates import UnusableKeysError
from gateway.identity.verification import TokenVerifier, VerificationKey
from gateway.sections import AppleSettings


def parse_key_set(document: dict[str, Any]) -> dict[str, VerificationKey | None]:
    """The keys of a set (RFC 7517 §5) that are for signatures of ours; None for what can't be used
    as such. Raises ValueError if it is no set.
    """
    members = document.get("keys")
    if not isinstance(members, list):
        raise UnusableKeysError("not a key set")
    return {member["kid"]: _verification_key(member) for member in members if _is_ours(member)}


def _is_ours(member: Any) -> bool:
    """Is it said to be a public key that signs by one of our algorithms?"""
    if not isinstance(member, dict) or not isinstance(member.get("kid"), str):
        return False
    if member.get("kty") not in ("RSA", "EC") or member.get("use", "sig") != "sig":
        return False
    return member.get("alg", _algorithm(member)) == _algorithm(member) and "d" not in member


def _algorithm(member: dict[str, Any]) -> str:
    return "RS256" if member["kty"] == "RSA" else "ES256"


def _verification_key(member: dict[str, Any]) -> VerificationKey | None:
    try:
        return VerificationKey.of(jwt.PyJWK(member, _algorithm(member)).key)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None


class AppleVerifier(TokenVerifier[AppleSettings]):
    """Verifies Apple identity tokens."""

    issuers = frozenset({"https://appleid.apple.com"})
    algorithms = frozenset({"RS256", "ES256"})
    email_required = False
    parse = staticmethod(parse_key_set)

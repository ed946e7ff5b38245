"""What Google's and Apple's tokens have in common: who was proven, and how a refusal is said.

Terms: the *provider* is Google or Apple; the *subject* is its stable name for a person (`sub`),
the only thing a person is recognized by; an email counts only when the provider has verified it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.errors import INVALID_TOKEN, Unauthenticated
from gateway.jsonbody import normal_email

CLOCK_SKEW_SECONDS = 60
MAX_TOKEN_LENGTH = 16 * 1024  # characters; real ones have 1 to 2 thousand
MAX_SUBJECT_LENGTH = 255  # OpenID Connect Core §2
MAX_NAME_LENGTH = 256


class Refusal(StrEnum):
    """Why a provider's token is not taken: the reasons in metrics and log."""

    INVALID = "invalid_token"
    EXPIRED = "expired_token"
    EMAIL_NOT_VERIFIED = "email_not_verified"


@dataclass(frozen=True, slots=True)
class ProvenIdentity:
    """A person as the provider vouches for them. `email`, if any, is verified and normal."""

    subject: str
    email: str | None
    name: str | None


def refused(refusal: Refusal = Refusal.INVALID) -> Unauthenticated:
    """The 401 for a provider's token."""
    detail = (
        "Email not verified"
        if refusal is Refusal.EMAIL_NOT_VERIFIED
        else "Invalid or expired token"
    )
    return Unauthenticated(detail, reason=refusal.value, challenge=INVALID_TOKEN)


def proven_identity(claims: dict[str, Any], *, email_required: bool) -> ProvenIdentity:
    """Who verified `claims` speak of. Raises Unauthenticated."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not _is_subject(subject):
        raise refused()
    return ProvenIdentity(subject, _email(claims, required=email_required), _name(claims))


def _is_subject(text: str) -> bool:
    return (
        0 < len(text) <= MAX_SUBJECT_LENGTH
        and text.isascii()
        and text.isprintable()
        and " " not in text
    )


def _email(claims: dict[str, Any], *, required: bool) -> str | None:
    claim = claims.get("email")
    if claim is None and not required:
        return None
    verified = claims.get("email_verified")
    if verified is not True and verified != "true":  # both are sent as either type
        raise refused(Refusal.EMAIL_NOT_VERIFIED)
    email = normal_email(claim) if isinstance(claim, str) else None
    if email is None:
        raise refused()
    return email


def _name(claims: dict[str, Any]) -> str | None:
    """A display name, for show only: unprintable characters left out, cut to a sane length."""
    claim = claims.get("name")
    if not isinstance(claim, str):
        return None
    return "".join(ch for ch in claim if ch.isprintable()).strip()[:MAX_NAME_LENGTH] or None

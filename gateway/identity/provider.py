"""Who a provider's token proves, and how a refusal is said.

Terms: the *provider* is Google or Apple; the *subject* is its stable name for a person (`sub`),
the only thing a person is recognized by; an email counts only when the provider has verified it.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.errors import INVALID_TOKEN, Unauthenticated
from gateway.jsonbody import normal_email

MAX_SUBJECT_LENGTH = 255  # OpenID Connect Core §2
MAX_NAME_LENGTH = 256
PRIVATE_RELAY = "@privaterelay.appleid.com"


class Refusal(StrEnum):
    """Why a provider's token is not taken: the reasons in metrics and log."""

    INVALID = "invalid_token"
    EXPIRED = "expired_token"
    EMAIL_NOT_VERIFIED = "email_not_verified"
    NONCE = "wrong_nonce"
    HOSTED_DOMAIN = "wrong_hosted_domain"
    REPLAYED = "token_replayed"


@dataclass(frozen=True, slots=True)
class ProvenIdentity:
    """A person as the provider vouches for them. `email`, if any, is normal.

    `is_private_email`: is it an address of Apple's that relays? None: nothing was said of it.
    """

    subject: str
    email: str | None
    name: str | None
    email_verified: bool
    is_private_email: bool | None = None
    expires_at: float = field(default=0.0, compare=False)  # of the token, in Unix seconds


def refused(refusal: Refusal = Refusal.INVALID) -> Unauthenticated:
    """The 401 for a provider's token."""
    detail = (
        "Email not verified"
        if refusal is Refusal.EMAIL_NOT_VERIFIED
        else "Invalid or expired token"
    )
    return Unauthenticated(detail, reason=refusal.value, challenge=INVALID_TOKEN)


def proven_identity(
    claims: dict[str, Any], *, email_required: bool, expires_at: float
) -> ProvenIdentity:
    """Who verified `claims` speak of. Raises Unauthenticated."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not _is_subject(subject):
        raise refused()
    email = _email(claims, required=email_required)
    return ProvenIdentity(
        subject,
        email,
        _name(claims),
        email_verified=email is not None,
        is_private_email=_is_private(claims, email),
        expires_at=expires_at,
    )


def flag(claims: dict[str, Any], name: str) -> bool | None:
    """A claim that is true or false: providers send it as a boolean or as text."""
    claim = claims.get(name)
    if claim is True or claim == "true":
        return True
    return False if claim is False or claim == "false" else None


def _is_private(claims: dict[str, Any], email: str | None) -> bool | None:
    if email is not None and email.endswith(PRIVATE_RELAY):
        return True
    return flag(claims, "is_private_email")


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
    if flag(claims, "email_verified") is not True:
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

"""What a verified app token says, and the one refusal of all that are not good."""

from dataclasses import dataclass

from gateway.errors import INVALID_TOKEN, Unauthenticated


@dataclass(frozen=True, slots=True)
class Claims:
    """Times are Unix seconds; no `issued_at` is 0, older than any revocation.

    A token of before the gateway may name its user by `email` alone; then `user_id` is 0.
    """

    user_id: int
    expires_at: float
    issued_at: float
    jti: str
    scope: frozenset[str]
    session: str | None = None
    generation: int = 0
    email: str | None = None


def refused(reason: str = "invalid_token") -> Unauthenticated:
    """The 401 for an app token, whatever is wrong with it."""
    return Unauthenticated("Invalid or expired token", reason=reason, challenge=INVALID_TOKEN)

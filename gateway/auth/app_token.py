"""Pattern 4: users of the native apps, by `Authorization: Bearer <app-jwt>` (RFC 6750).

The token is verified here (signature, issuer, audience, times), and then its user: one who is
unknown or disabled, or who has ended this token since it was issued, is refused like a bad
token.
"""

import time
from collections.abc import Callable

from gateway.auth.base import Authenticator, identity
from gateway.errors import BEARER, Forbidden, Unauthenticated
from gateway.exchange import Exchange, Identity
from gateway.identity.revocation import is_revoked
from gateway.identity.tokens import AppTokens, Claims, refused
from gateway.identity.users import Users
from gateway.store.plans import Plans

REPEATED = f'{BEARER}, error="invalid_request"'


class AppToken(Authenticator):
    """Asks for a valid app token that carries every one of `scope`, with `vip` of a VIP."""

    pattern = "app_token"

    def __init__(
        self,
        tokens: AppTokens,
        users: Users,
        plans: Plans,
        scope: frozenset[str],
        clock: Callable[[], float] = time.time,
        *,
        vip: bool = False,
    ) -> None:
        self._tokens = tokens
        self._users = users
        self._plans = plans
        self._scope = scope
        self._vip = vip
        self._clock = clock  # Unix seconds

    async def authenticate(self, exchange: Exchange) -> Identity:
        claims = self.claims(exchange)
        user = await self._users.get(claims.user_id)
        if user is None or user.is_disabled or is_revoked(claims, user):
            raise refused("revoked_token")
        if not self._scope <= claims.scope:
            needed = " ".join(sorted(self._scope))
            challenge = f'{BEARER}, error="insufficient_scope", scope="{needed}"'
            raise Forbidden(
                "The token does not have the scope this endpoint requires",
                reason="insufficient_scope",
                headers=(("WWW-Authenticate", challenge),),
            )
        now = self._clock()
        if self._vip and not user.is_vip_at(now):
            raise Forbidden("This endpoint is for VIP users", reason="vip_required")
        plan = self._plans.active(user.plan, user.plan_expires_at, now)
        return identity(self.pattern, user.id, user.own_email, plan)

    def claims(self, exchange: Exchange) -> Claims:
        """What the token says, whether revoked or not. Raises Unauthenticated."""
        return self._tokens.verify(_bearer(exchange))


def _bearer(exchange: Exchange) -> str:
    """The one bearer token that was sent. Raises Unauthenticated: none, several, another scheme."""
    sent = exchange.headers.getall("Authorization", ())
    if len(sent) > 1:
        raise Unauthenticated(
            "More than one Authorization header", reason="repeated_credential", challenge=REPEATED
        )
    scheme, _, token = sent[0].partition(" ") if sent else ("", "", "")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("Not authenticated", reason="missing_token", challenge=BEARER)
    return token

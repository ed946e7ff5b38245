"""Pattern 4: users of the native apps, by `Authorization: Bearer <app-jwt>` (RFC 6750).

The token is verified here (signature, issuer, audience, times), and then its user: one who is
unknown or disabled, or who has ended this token since it was issued, is refused like a bad
token. What came of that is kept with the token, for as long as the user's copy is the same one.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from aiohttp.hdrs import AUTHORIZATION

from gateway.auth.base import Authenticator, identity
from gateway.errors import BEARER, Forbidden, Unauthenticated
from gateway.exchange import Exchange, Identity
from gateway.identity.revocation import is_revoked
from gateway.identity.tokens import AppTokens, Claims, Known, refused
from gateway.identity.user import User
from gateway.identity.users import Users
from gateway.jsonbody import normal_email
from gateway.store.plans import Plans
from gateway.store.times import unix_seconds

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
        now = self._clock()
        known = self._known(exchange, now)
        user = self._users.copies.peek(known.name)
        if user is None or user is not known.user or now >= known.until:
            user = self._admitted(known, await self._user(known), now)
        if self._scope and not self._scope <= known.claims.scope:
            needed = " ".join(sorted(self._scope))
            challenge = f'{BEARER}, error="insufficient_scope", scope="{needed}"'
            raise Forbidden(
                "The token does not have the scope this endpoint requires",
                reason="insufficient_scope",
                headers=(("WWW-Authenticate", challenge),),
            )
        if self._vip and not user.is_vip_at(now):
            raise Forbidden("This endpoint is for VIP users", reason="vip_required")
        return known.identity

    def claims(self, exchange: Exchange) -> Claims:
        """What the token says, whether revoked or not. Raises Unauthenticated."""
        known = self._known(exchange, self._clock())
        return replace(known.claims, user_id=int(known.name or 0))

    def _known(self, exchange: Exchange, now: float) -> Known:
        """The token that was sent; most often it is the one that came on this connection before."""
        sent: Sequence[str] = exchange.headers.getall(AUTHORIZATION, ())
        shown = exchange.connection.shown
        if shown is not None and len(sent) == 1 and sent[0] == shown[0]:
            known = shown[1]
            if isinstance(known, Known) and known.era is self._tokens.era and now < known.ends:
                return known
        known = self._tokens.known(_bearer(sent), now)
        exchange.connection.shown = (sent[0], known)
        return known

    def _admitted(self, known: Known, user: User | None, now: float) -> User:
        """Keep who shows the token: it holds while neither their record nor their plan changes."""
        if user is None or user.is_disabled or is_revoked(known.claims, user):
            raise refused("revoked_token")
        plan = self._plans.active(user.plan, user.plan_expires_at, now)
        known.identity = identity(self.pattern, user.id, user.own_email, plan)
        ends = None if plan is None else user.plan_expires_at
        known.until = math.inf if ends is None else unix_seconds(ends)
        known.user = user
        return user

    async def _user(self, known: Known) -> User | None:
        """The token's user, if there is one."""
        email = known.claims.email
        if known.name:
            user = await self._users.get(int(known.name))
            if email is None or _has_email(user, email):
                return user
        assert email is not None
        user = await self._users.find_by_email(email)
        if user is None or not _has_email(user, email):
            return None
        known.name = str(user.id)
        return user


def _has_email(user: User | None, email: str) -> bool:
    """Is it the user's, and vouched for?"""
    own = None if user is None else user.own_email
    return own is not None and normal_email(own) == email


def _bearer(sent: Sequence[str]) -> str:
    """The one bearer token that was sent. Raises Unauthenticated: none, several, another scheme."""
    if len(sent) > 1:
        raise Unauthenticated(
            "More than one Authorization header", reason="repeated_credential", challenge=REPEATED
        )
    value = sent[0] if sent else ""
    if value[:7].lower() == "bearer ":
        token = value[7:].strip(" ")
        if token:
            return token
    raise Unauthenticated("Not authenticated", reason="missing_token", challenge=BEARER)

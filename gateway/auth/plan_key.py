"""Pattern 1b: paying users, by the `pk_` key in `X-Primit-API-Key`.

The key is looked up by its sha256, in this process if it was seen before; whose it is and which
plan is active come from the same kind of copy. 401: no key, several, or none that is valid. 403:
the key is good, but not from this address, or its user is disabled, or the user's plan does not
open the route.
"""

import time
from collections.abc import Callable

from gateway.auth.base import Authenticator, identity
from gateway.errors import REALM, Forbidden, Unauthenticated
from gateway.exchange import Exchange, Identity
from gateway.identity.user import account_disabled
from gateway.identity.users import Users
from gateway.store.keys import Keys, digest, well_formed
from gateway.store.plans import Plans

HEADER = "X-Primit-API-Key"
CHALLENGE = f'ApiKey realm="{REALM}"'


class PlanKey(Authenticator):
    """Asks for a key whose user has `plan` or a higher one; None: for any valid key.

    `clock` gives Unix seconds.
    """

    pattern = "plan_key"

    def __init__(
        self,
        keys: Keys,
        users: Users,
        plans: Plans,
        plan: str | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._users = users
        self._plans = plans
        self._plan = plan
        self._clock = clock

    async def authenticate(self, exchange: Exchange) -> Identity:
        sent = exchange.headers.getall(HEADER, ())
        if not sent:
            raise _refused("Missing API key", "missing_key")
        if len(sent) > 1:
            raise _refused("More than one API key", "repeated_credential")
        key = sent[0]
        record = await self._keys.find(digest(key)) if well_formed(key) else None
        if record is not None:
            exchange.key_id = record.id
        now = self._clock()
        if record is None or not record.is_valid(now):
            raise _refused("Invalid API key", "invalid_key")
        if not record.may_come_from(exchange.client_ip):
            raise Forbidden(
                "This API key may not be used from your address", reason="address_not_allowed"
            )
        user = await self._users.get(record.user_id)
        if user is not None and user.is_disabled:
            raise account_disabled()
        if self._plan is None:
            return identity(self.pattern, record.user_id, key_id=record.id)
        if user is None or not self._plans.is_open(
            user.plan, user.plan_expires_at, self._plan, now
        ):
            raise Forbidden(
                f"The plan this endpoint requires ({self._plan}) is not active",
                reason="plan_not_active",
            )
        return identity(self.pattern, user.id, user.own_email, user.plan, record.id)


def _refused(detail: str, reason: str) -> Unauthenticated:
    return Unauthenticated(detail, reason=reason, challenge=CHALLENGE)

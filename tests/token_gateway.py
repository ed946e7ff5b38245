"""A gateway as far as tokens know one: it signs in, issues, verifies, revokes, by its own clock."""

from exchanges import exchange
from pydantic import SecretStr

from gateway.auth.app_token import AppToken
from gateway.errors import Unauthenticated
from gateway.identity.revocation import Revocation
from gateway.identity.sessions import Grant, Sessions
from gateway.identity.tokens import AppTokens, Claims
from gateway.identity.users import Users
from gateway.sections import AppTokenSettings, KeySettings, RefreshSettings
from gateway.store.plans import Plans
from gateway.store.redis import Store
from gateway.tokenfile import TokenKey

NOW = 1_790_000_000.25
LIFETIME, IDLE, ABSOLUTE = 900, 3600, 7200
SECRET = TokenKey(id="k1", secret=SecretStr("a secret of at least 32 bytes, really"))


class TokenGateway:
    """`grace` None: without refresh tokens. Several on one store are several gateways."""

    def __init__(self, store: Store, *, grace: int | None = 0, ahead: float = 0) -> None:
        self.now = NOW + ahead
        refresh = None
        if grace is not None:
            refresh = RefreshSettings(lifetime=ABSOLUTE, idle=IDLE, grace=grace)
        settings = AppTokenSettings(lifetime=LIFETIME, secrets=(SECRET,), refresh=refresh)
        self.users = Users(store, KeySettings(), self._clock)
        self.tokens = AppTokens(settings, clock=self._clock)
        self.sessions = Sessions(store, self.users, self.tokens, settings, self._clock)
        self.revocation = Revocation(store, self._clock)
        self._pattern = AppToken(
            self.tokens, self.users, Plans(self.users, ()), frozenset(), self._clock
        )

    def _clock(self) -> float:
        return self.now

    async def sign_in(self, subject: str = "sub") -> Grant:
        user = await self.users.sign_in("google", subject, None, email_verified=False, name=None)
        return await self.sessions.begin(user)

    def claims(self, token: str) -> Claims:
        return self.tokens.verify(token)

    async def refusal(self, token: str) -> str | None:
        """Why an access token is refused; None: it opens."""
        headers = {"Authorization": f"Bearer {token}"}
        try:
            await self._pattern.authenticate(exchange("GET", "/me", headers=headers))
        except Unauthenticated as refused:
            return refused.reason
        return None

    async def renewed(self, refresh_token: str | None) -> Grant | str:
        """What comes of a refresh token: a grant, or why there is none."""
        assert refresh_token is not None
        try:
            return await self.sessions.renew(refresh_token)
        except Unauthenticated as refused:
            return refused.reason

    async def next(self, grant: Grant) -> Grant:
        """What comes of a grant's refresh token, which must be good."""
        renewed = await self.renewed(grant.refresh_token)
        assert isinstance(renewed, Grant), renewed
        return renewed

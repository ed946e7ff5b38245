"""Pattern 1: anyone. Only the limits apply."""

from gateway.auth.base import Authenticator, identity
from gateway.exchange import Exchange, Identity


class Public(Authenticator):
    pattern = "public"

    async def authenticate(self, exchange: Exchange) -> Identity:  # noqa: ARG002  # all may pass
        return identity(self.pattern)

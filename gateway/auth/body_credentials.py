"""Pattern 2: callers with their own Binance key, in the JSON body.

The body is read whole (up to the route's `max_body`), must be one JSON object with `api_key` and
`api_secret` as non-empty strings, and goes on as the very bytes that came. The credentials are
looked at, and neither kept nor logged; whether Binance takes them is the backend's to find out.
"""

from gateway.auth.base import Authenticator, identity
from gateway.exchange import Exchange, Identity
from gateway.jsonbody import parse_object, require_strings


class BodyCredentials(Authenticator):
    pattern = "body_credentials"

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes

    async def authenticate(self, exchange: Exchange) -> Identity:
        body = parse_object(await exchange.read_body(self._max_body_bytes))
        require_strings(body, ("api_key", "api_secret"))
        return identity(self.pattern)

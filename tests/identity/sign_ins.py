"""Signing in at a gateway as an app does, and what may come of it when the provider has trouble.

`OUTCOMES` says for each fault of a provider what a client sees in each state of the gateway's
knowledge of its keys:

    known     it has them, within their age
    none      it has none
    expired   it has some, and they are past their age
    too old   it has some that it may use no more
    another   it has them, and the token names one that is not among them
"""

import json
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientSession
from stand_ins import AppleStandIn, Fault, GoogleStandIn, KeyPublisher, rsa_key

STATES = ("known", "none", "expired", "too old", "another")
NO_KEYS = (200, 503, 200, 503, 503)
OUTCOMES: dict[str, tuple[int, ...]] = {
    **{fault.name.lower(): NO_KEYS for fault in Fault if fault is not Fault.HALF_WRONG},
    # The key of the token is spoiled; what is not among the others is not there.
    "half_wrong": (200, 503, 200, 503, 401),
    # The provider has a new key alone, and the token is of the old one, or names none of the two.
    "rotated": (200, 401, 401, 401, 401),
    "never kept": (200, 200, 200, 200, 401),
    "kept for ever": (200, 200, 200, 200, 401),
    "well": (200, 200, 200, 200, 401),
}
CHALLENGE = 'Bearer realm="primit", error="invalid_token"'


@dataclass(frozen=True)
class Way:
    """A provider as clients use it."""

    name: str
    field: str
    stand_in: type[KeyPublisher]

    @property
    def path(self) -> str:
        return f"/auth/mobile/{self.name}"


WAYS = (Way("google", "id_token", GoogleStandIn), Way("apple", "identity_token", AppleStandIn))


def trouble(provider: Any, case: str) -> None:
    """From now on `provider` is in the trouble of that name."""
    match case:
        case "well":
            pass
        case "never kept":
            provider.cache_control = "no-cache, no-store, max-age=0, must-revalidate"
        case "kept for ever":
            provider.cache_control = f"max-age={'9' * 50}, immutable"
        case "rotated":
            for keys in (provider.keys, provider.ec_keys):
                keys.clear()
            provider.keys["new"] = rsa_key("second")
        case _:
            provider.fault = Fault[case.upper()]


def patience(case: str) -> float:
    """How long a fetch may take, in seconds: long, unless it is to come to its end."""
    return 0.2 if case in ("slow", "dripping") else 10


async def sign_in(
    session: ClientSession, url: str, way: Way, token: str, **more: Any
) -> tuple[int, Any]:
    """Status and body. What goes with each status is there, and nothing of the token is."""
    body = json.dumps({way.field: token, **more})
    async with session.post(url + way.path, data=body) as answer:
        text = await answer.text()
        assert answer.content_type == "application/json"
        assert token not in text
        assert ("Retry-After" in answer.headers) == (answer.status in (429, 503))
        challenge = answer.headers.get("WWW-Authenticate")
        assert challenge == (CHALLENGE if answer.status == 401 else None)
        value = json.loads(text)
        match answer.status:
            case 200:
                assert list(value) == ["access_token", "user"]
                assert answer.headers["Cache-Control"] == "no-store"
            case 401:
                assert value == {"detail": "Invalid or expired token"}
            case 503:
                assert value == {"detail": "Service Unavailable"}
                assert 1 <= int(answer.headers["Retry-After"]) <= 30
        return answer.status, value

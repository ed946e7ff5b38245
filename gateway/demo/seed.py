"""What the demo gives out before the first line is pasted, through the admin API.

Users with a plan that runs, one that has ended and none; a key for each, and a revoked one; and
a registered Binance key, verified once. The plaintext of a key is in the answer that issues it
and nowhere else.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from gateway.demo.binance import BinanceKey
from gateway.demo.ports import DemoError

USER_EMAIL = "user@example.com"
TIMEOUT_SECONDS = 5.0


class AdminApi:
    """Calls operations of the admin API by name."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str) -> None:
        self._session = session
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}

    async def call(self, operation: str, **arguments: Any) -> Any:
        """Its result; raises DemoError with the answer's text."""
        url = f"{self._url}/api/{operation}"
        async with self._session.post(url, json=arguments, headers=self._headers) as answer:
            if answer.status != 200:
                text = await answer.text()
                raise DemoError(f"seeding failed at {operation}: {answer.status} {text[:300]}")
            return await answer.json()


@dataclass(frozen=True, slots=True)
class Seeded:
    """Keys in plaintext."""

    key: str
    expired_key: str
    unpaid_key: str
    revoked_key: str


async def seed(admin_url: str, admin_token: str, binance_key: BinanceKey) -> Seeded:
    """Seed a running, empty gateway."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        try:
            return await _seed(AdminApi(session, admin_url, admin_token), binance_key)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise DemoError(f"seeding failed: {type(error).__name__}") from error


async def _seed(admin: AdminApi, binance_key: BinanceKey) -> Seeded:
    now = datetime.now(UTC)
    next_year, yesterday = _iso(now + timedelta(days=365)), _iso(now - timedelta(days=1))

    async def user(email: str, until: str | None) -> int:
        created = await admin.call("users.create", email=email)
        if until is not None:
            await admin.call("plans.set", user=created["id"], plan="standard", until=until)
        return int(created["id"])

    async def key(user_id: int, name: str) -> dict[str, Any]:
        issued: dict[str, Any] = await admin.call("keys.issue", user=user_id, name=name)
        return issued

    paying = await user(USER_EMAIL, next_year)
    lapsed = await user("lapsed@example.com", yesterday)
    visitor = await user("visitor@example.com", None)
    revoked = await key(paying, "lost laptop")
    await admin.call("keys.revoke", id=revoked["id"])
    await admin.call(
        "vault.add",
        email=USER_EMAIL,
        api_key=binance_key.api_key,
        api_secret=binance_key.api_secret,
    )
    return Seeded(
        key=(await key(paying, "laptop"))["key"],
        expired_key=(await key(lapsed, "laptop"))["key"],
        unpaid_key=(await key(visitor, "laptop"))["key"],
        revoked_key=revoked["key"],
    )


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S")

"""The documented rights are those that are needed: no more, no fewer.

That they are enough for all that a gateway does on one server is test_canary.py's: its gateway runs
as a user who has these alone.
"""

import json
import shlex
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from clusters import Cluster
from pydantic import SecretStr
from redis_process import RedisProcess

from gateway.admin.operations import OPERATIONS, Context, Refused, open_context
from gateway.errors import BinanceFailed, Unauthenticated
from gateway.identity.replay import SignedInTokens
from gateway.identity.sessions import Sessions
from gateway.identity.tokens import AppTokens
from gateway.identity.transfer import UserTransfer
from gateway.sections import (
    AppTokenSettings,
    LedgerSettings,
    RefreshSettings,
    StoreSettings,
    VaultKey,
    VaultSettings,
)
from gateway.settings import Settings
from gateway.store.check import check
from gateway.store.ledger import Ledger, Use
from gateway.store.registry import Registry
from gateway.store.rights import DATA, LAST, acl_line
from gateway.store.transfer import KeyTransfer
from gateway.tokenfile import TokenKey

PASSWORD = "a-password-of-the-gateways-user"
ARCHITECTURE = Path(__file__).parents[2] / "ARCHITECTURE.md"


def allow(server: RedisProcess, *, without: str | None = None) -> None:
    words = acl_line("gateway", "gw", "on", f">{PASSWORD}")
    with server.client() as client:
        client.execute_command(*(word for word in words if word != without))
        client.acl_log_reset()


def denied(server: RedisProcess) -> list[str]:
    """What somebody tried and was not allowed to."""
    with server.client() as client:
        return [entry["object"] for entry in client.acl_log()]


def as_user(url: str) -> str:
    return url.replace("://", f"://gateway:{PASSWORD}@")


@pytest.fixture
def server(redis_server: RedisProcess, redis_url: str) -> Iterator[RedisProcess]:
    yield redis_server
    with redis_server.client() as client:
        client.acl_deluser("gateway")


def test_the_documented_line_is_what_is_needed():
    text = ARCHITECTURE.read_text()
    begin = text.index("ACL SETUSER")
    words = shlex.split(text[begin : text.index("```", begin)].replace("\\\n", ""))
    assert tuple(words) == acl_line("gateway", "gw", "on", ">PASSWORD")


async def test_with_them_all_is_well(server: RedisProcess):
    allow(server)
    found = await check(StoreSettings(url=as_user(server.url)))
    (rights,) = (finding for finding in found if finding.topic == "rights")
    assert rights.level == "ok"
    assert denied(server) == ["config|get"]  # optional, since it would show passwords
    with server.client() as client:
        assert client.keys("*") == []


@pytest.mark.parametrize("right", [*DATA, *LAST, "~gw:*", "&__redis__:invalidate"])
async def test_a_right_that_is_missing_is_named(server: RedisProcess, right: str):
    allow(server, without=right)
    found = await check(StoreSettings(url=as_user(server.url)))
    (told,) = (f for f in found if f.topic == "rights" and f.level == "error")
    assert told.message == f"the user gateway lacks rights; ACL SETUSER gateway {right}"
    assert PASSWORD not in str(found)


async def test_in_a_cluster_they_are_enough_for_every_operation(cluster: Cluster):
    for node in cluster.nodes:
        allow(node)
    store = StoreSettings(url=as_user(cluster.url))
    vault = VaultSettings(
        encryption_keys=(VaultKey(id="v1", secret="A" * 43 + "="),),
        binance_url="http://127.0.0.1:1",
    )
    settings = Settings(store=store, vault=vault)
    async with open_context(settings, timeout_seconds=2) as context:
        assert context.store.available
        await use_everything(context)
    found = await check(store)
    assert {f.level for f in found if f.topic in ("rights", "cluster", "layout")} == {"ok"}
    assert {name for node in cluster.nodes for name in denied(node)} <= {"config|get"}


async def use_sessions(context: Context) -> None:
    secret = TokenKey(id="k1", secret=SecretStr("any text of at least 32 bytes, for once"))
    settings = AppTokenSettings(secrets=(secret,), refresh=RefreshSettings())
    store, users = context.store, context.users
    sessions = Sessions(store, users, AppTokens(settings), settings)
    grant = await sessions.begin(await users.show(42))
    assert grant.refresh_token is not None
    await sessions.renew(grant.refresh_token)
    with pytest.raises(Unauthenticated):
        await sessions.renew(grant.refresh_token)


async def use_everything(context: Context) -> None:
    """Each operation, and what only requests do."""
    left = set(OPERATIONS)

    async def do(operation: str, **arguments: object) -> Any:
        left.discard(operation)
        return await OPERATIONS[operation].run(context, **arguments)

    issued = await do("keys.issue", user=42, name="laptop")
    await do("keys.show", id=issued["id"])
    await do("keys.set", id=issued["id"], name="phone", expires="2099-01-01")
    rotated = await do("keys.rotate", id=issued["id"], overlap="1h", when_silent="10m")
    await context.rotation.judge()
    await do("tokens.show")
    await do("keys.usage", id=rotated["id"])
    await do("keys.revoke", id=rotated["id"])
    transfer = KeyTransfer(context.store, context.users, context.settings.plans)
    exported = [line async for line in transfer.export()]
    tallies = [tally async for tally in transfer.take(exported)]
    assert (tallies[-1].same, len(await do("keys.list"))) == (2, 2)
    await do("plans.set", user=42, plan="standard", until="2099-01-01")
    await do("plans.set", user=42, plan="standard")
    await do("plans.show", user=42)
    await do("plans.revoke", user=42)
    await do("users.create", email="jane@example.com")
    for subject in ("g-1", "g-2", "g-1"):
        await context.users.sign_in(
            "google", subject, "jane@example.com", email_verified=True, name="Jane"
        )
    assert len(await do("users.list")) == 3
    await do("users.show", id=42)
    await do("users.disable", id=42)
    await do("users.enable", id=42)
    await do("users.unlink", id=1, provider="google")
    await do("users.delete", id=2)
    users = UserTransfer(context.store, context.settings.plans)
    exported = [line async for line in users.export()]
    exported += ['{"id": 9, "email": "jane@example.com"}', '{"id": 10, "apple_id": "a-1"}']
    counts = [tally async for tally in users.take(exported)][-1]
    assert (counts.same, counts.new, counts.refused) == (3, 1, 1)
    await do("users.revoke-tokens", id=42)
    await do("tokens.revoke", user=42, jti="a-jti")
    await do("tokens.revoke", all=True)
    await use_sessions(context)
    once = SignedInTokens(context.store)
    await once.claim("header.payload.signature", time.time() + 60)
    await once.release("header.payload.signature")
    await do("vault.add", email="jane@example.com", api_key="k" * 20, api_secret="s" * 20)
    await do("vault.show", email="jane@example.com")
    line = json.dumps({"email": "x@example.com", "api_key": "k", "api_secret": "s"})
    assert (await do("vault.import", lines=[line]))["new"] == 1
    assert len(await do("vault.list")) == 2
    assert (await do("vault.rotate"))["current"] == 2
    await do("vault.disable", email="jane@example.com")
    await do("vault.enable", email="jane@example.com")
    with suppress(BinanceFailed):  # nobody is there
        await do("vault.verify", email="jane@example.com")
    assert await context.vault.withdraw("x@example.com")
    await do("vault.remove", email="jane@example.com")
    for _ in range(3):
        await context.limiter.admit("203.0.113.1")
    await do("ips.list")
    with suppress(Refused):  # nobody is blocked
        await do("ips.unblock", ip="203.0.113.1")
    ledger = Ledger(context.store, LedgerSettings())
    ledger._today[issued["id"]] = Use({"stock": [1, 0, 0, 0]})
    await ledger.flush()
    registry = Registry(context.store, "worker", assumed=1, kept_seconds=300)
    await registry.start()
    assert (await do("keys.revoke", id=issued["id"]))["confirmed"] == 1
    await registry.close()
    assert left == set(), "a new operation: use it here, so that its rights are tried"

"""Sign-in in a cluster, where no script reaches all keys: at once, and cut off at every step."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from clusters import Cluster

from gateway.errors import StoreUnavailable
from gateway.identity import spread_users
from gateway.identity.users import User, Users
from gateway.sections import KeySettings, StoreSettings
from gateway.store.redis import Store

EMAIL = "jane@example.com"
STEPS_OF_A_FIRST_SIGN_IN = 7


async def sign_in(users: Users, provider: str, subject: str, email: str | None = EMAIL) -> User:
    return await users.sign_in(provider, subject, email, email_verified=True, name="Jane")


@pytest.fixture
async def gateways(cluster: Cluster):
    settings = StoreSettings(url=cluster.url, timeout=10)
    async with AsyncExitStack() as stack:
        stores = [await Store.open(settings) for _ in range(2)]
        for store in stores:
            stack.push_async_callback(store.close)
        yield [Users(store, KeySettings()) for store in stores]


async def test_first_sign_ins_at_once_make_one_user(gateways: list[Users]):
    signing_in = [sign_in(gateways[n % 2], "google", "g-1") for n in range(60)]
    found = {user.id for user in await asyncio.gather(*signing_in)}
    assert len(found) == 1
    assert {user.id for user in await gateways[0].list()} == found
    assert (await gateways[0].find_by_email(EMAIL)).id in found


async def test_both_providers_at_once_make_one_user(gateways: list[Users]):
    for number in range(20):
        email = f"{number}@example.com"
        one, other = await asyncio.gather(
            sign_in(gateways[0], "google", f"g-{number}", email),
            sign_in(gateways[1], "apple", f"a-{number}", email),
        )
        assert one.id == other.id
        user = await gateways[0].show(one.id)
        assert (user.google_id, user.apple_id) == (f"g-{number}", f"a-{number}")
    assert len(await gateways[0].list()) == 20


async def test_the_same_subject_with_and_without_an_email_at_once_is_one_user(gateways):
    for number in range(20):
        email = f"{number}@example.com"
        found = await asyncio.gather(
            sign_in(gateways[0], "apple", f"a-{number}", email),
            sign_in(gateways[1], "apple", f"a-{number}", None),
        )
        again = await sign_in(gateways[0], "apple", f"a-{number}", email)
        assert {user.id for user in found} == {again.id}
        assert (await gateways[0].find_by_email(email)).id == again.id
    assert len(await gateways[0].list()) == 20


class CutOff(Exception):
    """A worker that dies."""


@pytest.mark.parametrize("steps", range(1, STEPS_OF_A_FIRST_SIGN_IN + 1))
async def test_cut_off_after_any_step_the_next_sign_in_makes_it_whole(
    cluster_store: Store, monkeypatch: pytest.MonkeyPatch, steps: int
):
    users = Users(cluster_store, KeySettings())
    send = cluster_store.client._send
    left = steps

    async def send_some(*args, **options):
        nonlocal left
        if left == 0:
            raise CutOff
        left -= 1
        return await send(*args, **options)

    monkeypatch.setattr(cluster_store.client, "_send", send_some)
    try:
        first = await sign_in(users, "google", "g-1")
    except CutOff:
        first = None
    assert (first is None) == (steps < STEPS_OF_A_FIRST_SIGN_IN)
    monkeypatch.undo()
    user = await sign_in(users, "google", "g-1")
    assert first in (None, user)
    assert (await users.find_by_email(EMAIL)).id == user.id
    assert (await sign_in(users, "apple", "a-1")).id == user.id
    for other in await users.list():
        ttl = await cluster_store.client.pttl(f"gw:user:{other.id}")
        assert (ttl == -1) == (other.id == user.id), "only the one user stays"


@pytest.mark.parametrize("provider", ["google", "apple"])
async def test_whoever_is_overtaken_by_the_same_person_notes_no_second_link(
    gateways: list[Users], monkeypatch: pytest.MonkeyPatch, provider: str
):
    """`provider` is overtaken where a user is created, or where one is linked."""
    if provider == "apple":
        await sign_in(gateways[0], "google", "g-1")
    claim = gateways[0]._spread._claim
    overtaken = False

    async def claim_after_another(by: str, *words: str) -> bool:
        nonlocal overtaken
        if by == provider and not overtaken:
            overtaken = True
            assert await sign_in(gateways[1], provider, "p-1")
        return await claim(by, *words)

    monkeypatch.setattr(gateways[0]._spread, "_claim", claim_after_another)
    user = await gateways[0].show((await sign_in(gateways[0], provider, "p-1")).id)
    assert overtaken
    events = [(event["event"], event["provider"]) for event in user.history()]
    created, linked = ("created", "google"), ("linked", "apple")
    assert events == ([created] if provider == "google" else [created, linked])
    assert [each.id for each in await gateways[1].list()] == [user.id]


async def test_what_nobody_kept_goes_by_itself(
    cluster_store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(spread_users, "UNKEPT_MS", 1)
    users = Users(cluster_store, KeySettings())

    async def never(*_args):
        raise CutOff

    monkeypatch.setattr(users._spread, "_claim", never)
    with pytest.raises(CutOff):
        await sign_in(users, "google", "g-1")
    await asyncio.sleep(0.01)
    assert list(await users.list()) == []


async def test_who_never_gets_through_is_told_to_come_again(
    cluster_store: Store, monkeypatch: pytest.MonkeyPatch
):
    users = Users(cluster_store, KeySettings())

    async def taken(*_args):
        return False

    monkeypatch.setattr(users._spread, "_claim", taken)
    with pytest.raises(StoreUnavailable):
        await sign_in(users, "google", "g-1")

"""Whom a sign-in is linked to, what is noted of it, and who is never linked. See sign_in.lua."""

import json

import pytest

from gateway.errors import Forbidden
from gateway.identity.removal import Removal
from gateway.identity.users import User, Users
from gateway.sections import KeySettings
from gateway.store.redis import Store

NOW = 1777464000.0  # 2026-04-29T12:00:00
EMAIL = "jane@example.com"
INDEX = f"gw:user:by:email:{EMAIL}"


@pytest.fixture
def users(store: Store) -> Users:
    return Users(store, KeySettings(), lambda: NOW)


@pytest.fixture
def removal(store: Store, users: Users) -> Removal:
    return Removal(store, users, lambda: NOW)


async def sign_in(
    users: Users, provider: str, subject: str, email: str | None = EMAIL, address: str | None = None
) -> User:
    return await users.sign_in(
        provider, subject, email, email_verified=True, name="Jane", address=address
    )


async def written(store: Store, user_id: int, **fields: str) -> None:
    """By another service, past the gateway."""
    await store.client.hset(f"gw:user:{user_id}", mapping=fields)
    store.changed(f"gw:user:{user_id}")


async def registered(store: Store, **fields: str) -> None:
    """User 42 with this email, as an account service writes one."""
    await written(store, 42, id="42", email=EMAIL, **fields)
    await store.client.set(INDEX, "42")


@pytest.mark.parametrize(
    ("fields", "is_linked"),
    [
        ({}, True),
        ({"email_verified": "1"}, True),
        ({"email_verified": "0"}, False),
        ({"email_verified": ""}, False),
        ({"email_verified": "true"}, False),
        ({"google_id": ""}, True),
        ({"google_id": "g-1"}, True),
        ({"google_id": "another"}, False),
        ({"unlinked": "google:g-1"}, False),
        ({"unlinked": "apple:a-0 google:g-1 google:g-0"}, False),
        ({"unlinked": "google:g-11 apple:g-1"}, True),
        ({"deleted_at": "2026-04-01T00:00:00"}, False),
    ],
)
async def test_a_user_is_linked_by_an_email_that_somebody_vouches_for(
    users: Users, store: Store, fields: dict[str, str], is_linked
):
    await registered(store, **fields)
    before = await store.client.hgetall("gw:user:42")
    user = await sign_in(users, "google", "g-1")
    assert (user.id == 42) == is_linked
    assert user.google_id == "g-1"
    if not is_linked:
        assert await store.client.hgetall("gw:user:42") == before
    assert (await sign_in(users, "google", "g-1")).id == user.id


@pytest.mark.parametrize(
    ("fields", "is_theirs"),
    [
        ({"email_verified": "0"}, True),
        ({"deleted_at": "2026-04-01T00:00:00"}, True),
        ({"google_id": "another"}, False),
        ({"unlinked": "google:g-1"}, False),
    ],
)
async def test_an_email_that_nobody_vouches_for_goes_to_who_proves_it(
    users: Users, store: Store, fields: dict[str, str], is_theirs
):
    await registered(store, **fields)
    user = await sign_in(users, "google", "g-1")
    assert user.own_email == (EMAIL if is_theirs else None)
    assert await store.client.get(INDEX) == (str(user.id) if is_theirs else "42")
    assert (await sign_in(users, "apple", "a-1")).id == (user.id if is_theirs else 42)


async def test_who_proves_their_own_email_is_vouched_for(users: Users, store: Store):
    await registered(store, google_id="g-1", email_verified="0")
    await store.client.set("gw:user:by:google:g-1", "42")
    assert (await users.show(42)).own_email is None
    assert (await sign_in(users, "google", "g-1", None)).own_email is None
    assert (await sign_in(users, "google", "g-1", "other@example.com")).own_email is None
    proven = await sign_in(users, "google", "g-1")
    assert (proven.id, proven.own_email) == (42, EMAIL)
    assert (await sign_in(users, "apple", "a-1")).id == 42


async def test_two_who_claim_an_email_do_not_share_it(users: Users, store: Store):
    await registered(store, google_id="g-1", email_verified="0")
    await store.client.set("gw:user:by:google:g-1", "42")
    owner = await sign_in(users, "apple", "a-1")
    assert owner.own_email == EMAIL
    assert (await sign_in(users, "google", "g-1")).own_email is None
    assert (await users.find_by_email(EMAIL)).id == owner.id


async def test_links_are_noted_with_subject_email_time_and_address(users: Users):
    await sign_in(users, "google", "g-1", address="203.0.113.7")
    await sign_in(users, "apple", "a-1", address="2001:db8::1")
    await sign_in(users, "apple", "a-1", address="203.0.113.9")
    user = await users.show((await sign_in(users, "google", "g-1", None)).id)
    noted = {"email": EMAIL, "at": "2026-04-29T12:00:00"}
    assert user.history() == [
        noted
        | {"event": "created", "provider": "google", "subject": "g-1", "address": "203.0.113.7"},
        noted
        | {"event": "linked", "provider": "apple", "subject": "a-1", "address": "2001:db8::1"},
    ]


async def test_what_cannot_be_read_of_the_history_is_left_out(users: Users, store: Store):
    user = await sign_in(users, "google", "g-1")
    lines = ["{", '"text"', "[" * 5000, '{"event": "linked", "by": "billing"}', ""]
    await written(store, user.id, links="\n".join(lines))
    history = (await users.show(user.id)).history()
    assert [event["event"] for event in history] == ["linked"]
    assert history[0]["subject"] is None


async def test_a_quote_in_a_subject_is_one_in_the_history(users: Users):
    user = await sign_in(users, "apple", '"}\\%d')
    assert [event["subject"] for event in user.history()] == ['"}\\%d']


async def test_the_latest_events_are_kept(users: Users, removal: Removal):
    first = await sign_in(users, "google", "g-0")
    for number in range(1, 16):
        await removal.unlink(first.id, "google", may_return=True)
        assert (await sign_in(users, "google", f"g-{number}")).id == first.id
    history = (await users.show(first.id)).history()
    assert len(history) == 20
    assert (history[0]["event"], history[0]["subject"]) == ("unlinked", "g-5")
    assert (history[-1]["event"], history[-1]["subject"]) == ("linked", "g-15")


@pytest.mark.parametrize("written_by", ["the gateway", "another service"])
@pytest.mark.parametrize(
    ("provider", "subject", "email"),
    [("google", "g-1", EMAIL), ("google", "g-1", None), ("apple", "a-1", EMAIL)],
)
async def test_a_disabled_user_signs_in_nowhere_and_nothing_is_written(
    users: Users, store: Store, written_by, provider: str, subject: str, email: str | None
):
    user = await sign_in(users, "google", "g-1")
    if written_by == "the gateway":
        await users.disable(user.id)
    else:
        await written(store, user.id, disabled_at="")
    before = await everything(store)
    with pytest.raises(Forbidden, match="Account disabled"):
        await sign_in(users, provider, subject, email)
    assert await everything(store) == before
    await users.enable(user.id)
    assert (await sign_in(users, provider, subject, email)).id == user.id


async def test_nobody_comes_back_as_another_by_the_email_of_a_disabled_user(users: Users):
    user = await sign_in(users, "google", "g-1")
    await users.disable(user.id)
    with pytest.raises(Forbidden, match="Account disabled"):
        await sign_in(users, "google", "g-2")
    assert [each.id for each in await users.list()] == [user.id]


async def everything(store: Store) -> dict[str, object]:
    names = [name async for names in store.scan("gw:user:*") for name in names]
    types = {name: await store.client.type(name) for name in names}
    return {
        name: await (store.client.hgetall if kind == "hash" else store.client.get)(name)
        for name, kind in types.items()
    }


async def test_an_unlinked_account_is_somebody_else_from_then_on(
    users: Users, store: Store, removal: Removal
):
    user = await sign_in(users, "google", "g-1")
    await sign_in(users, "apple", "a-1")
    unlinked = await removal.unlink(user.id, "google", may_return=False)
    assert (unlinked.google_id, unlinked.apple_id, unlinked.email) == (None, "a-1", EMAIL)
    assert not await store.client.exists("gw:user:by:google:g-1")
    stranger = await sign_in(users, "google", "g-1")
    assert stranger.id != user.id
    assert stranger.own_email is None
    assert (await sign_in(users, "google", "g-1")).id == stranger.id
    assert (await sign_in(users, "google", "g-2")).id == user.id, "another account may be linked"
    assert (await sign_in(users, "apple", "a-1")).id == user.id


async def test_an_unlinked_account_is_linked_again_if_that_was_said(
    users: Users, store: Store, removal: Removal
):
    user = await sign_in(users, "google", "g-1")
    await removal.unlink(user.id, "google", may_return=False)
    await removal.unlink(user.id, "apple", may_return=False)
    assert (await removal.unlink(user.id, "google", may_return=True)).unlinked is None
    assert (await sign_in(users, "google", "g-1")).id == user.id
    events = [json.loads(line)["event"] for line in (await users.show(user.id)).links.splitlines()]
    assert events == ["created", "unlinked", "linked"]


async def test_an_index_that_unlinking_left_lets_nobody_in(
    users: Users, store: Store, removal: Removal
):
    user = await sign_in(users, "google", "g-1")
    await removal.unlink(user.id, "google", may_return=False)
    await store.client.set("gw:user:by:google:g-1", str(user.id))  # cut off before it was removed
    assert (await sign_in(users, "google", "g-1")).id != user.id


async def test_unlinking_ends_all_tokens(users: Users, removal: Removal):
    user = await sign_in(users, "google", "g-1")
    unlinked = await removal.unlink(user.id, "google", may_return=False)
    assert unlinked.tokens_valid_after > user.token_time


async def test_what_has_no_link_is_unlinked_without_an_event(users: Users, removal: Removal):
    user = await sign_in(users, "google", "g-1")
    unlinked = await removal.unlink(user.id, "apple", may_return=False)
    assert (unlinked.google_id, unlinked.links) == ("g-1", user.links)

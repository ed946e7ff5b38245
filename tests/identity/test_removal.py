"""A deleted user is gone for good, wherever the deletion was cut off."""

from contextlib import suppress

import pytest

from gateway.identity.removal import Removal
from gateway.identity.users import DeletedUserError, UnknownUserError, User, Users
from gateway.sections import KeySettings
from gateway.store.redis import Store

NOW = 1777464000.0  # 2026-04-29T12:00:00
EMAIL = "jane@example.com"
STEPS = 5  # the record, three indexes, the record


@pytest.fixture
def users(store: Store) -> Users:
    return Users(store, KeySettings(), lambda: NOW)


@pytest.fixture
def removal(store: Store, users: Users) -> Removal:
    return Removal(store, users, lambda: NOW)


async def sign_in(users: Users, provider: str, subject: str, email: str | None = EMAIL) -> User:
    return await users.sign_in(provider, subject, email, email_verified=True, name="Jane")


async def delete(removal: Removal, user_id: int) -> str:
    return await removal.end_deletion(user_id, await removal.begin_deletion(user_id))


async def names(store: Store) -> set[str]:
    return {name async for names in store.scan("gw:user:*") for name in names}


async def test_nothing_is_left_but_the_id_and_the_time(
    users: Users, store: Store, removal: Removal
):
    user = await sign_in(users, "google", "g-1")
    await sign_in(users, "apple", "a-1")
    assert await delete(removal, user.id) == "2026-04-29T12:00:00"
    assert await names(store) == {f"gw:user:{user.id}", "gw:user:last_id"}
    left = {"id": str(user.id), "deleted_at": "2026-04-29T12:00:00"}
    assert await store.client.hgetall(f"gw:user:{user.id}") == left
    assert await users.get(user.id) is None
    assert await users.find_by_email(EMAIL) is None
    assert list(await users.list()) == []


async def test_who_signs_in_after_it_is_new(users: Users, removal: Removal):
    first = await sign_in(users, "google", "g-1")
    await delete(removal, first.id)
    second = await sign_in(users, "google", "g-1")
    assert second.id != first.id
    assert (second.email, len(second.history())) == (EMAIL, 1)
    assert (await sign_in(users, "apple", "a-1")).id == second.id


async def test_an_id_is_never_given_again(users: Users, store: Store, removal: Removal):
    for user_id in (1, 2):
        await users.create(id=user_id)
        await delete(removal, user_id)
        with pytest.raises(DeletedUserError):
            await users.create(id=user_id)
        with pytest.raises(DeletedUserError):
            await users.ensure(user_id)
    assert await users.ensure_all({1: ("standard", "")}) == 0
    assert (await sign_in(users, "google", "g-1")).id > 2


async def test_no_write_brings_a_deleted_user_back(users: Users, store: Store, removal: Removal):
    user = await sign_in(users, "google", "g-1")
    await delete(removal, user.id)
    fields = {"id": str(user.id), "plan": "standard", "google_id": "g-1", "email": EMAIL}
    await store.client.hset(f"gw:user:{user.id}", mapping=fields)
    await store.client.set("gw:user:by:google:g-1", str(user.id))
    store.changed(f"gw:user:{user.id}")
    assert await users.get(user.id) is None
    assert (await sign_in(users, "google", "g-1")).id != user.id
    for change in (users.disable, users.enable, users.revoke_tokens):
        with pytest.raises(UnknownUserError):
            await change(user.id)
    with pytest.raises(UnknownUserError):
        await users.take_plan(user.id, "2026-04-29T12:00:00")
    with pytest.raises(UnknownUserError):
        await removal.unlink(user.id, "google", may_return=True)


class CutOff(Exception):
    """A command that was killed."""


@pytest.mark.parametrize("steps", range(STEPS + 1))
async def test_cut_off_after_any_step_nobody_gets_in_and_the_same_again_makes_it_whole(
    users: Users, store: Store, removal: Removal, monkeypatch: pytest.MonkeyPatch, steps: int
):
    user = await sign_in(users, "google", "g-1")
    await sign_in(users, "apple", "a-1")
    left = steps

    def counted(script):
        async def call(**words):
            nonlocal left
            if left == 0:
                raise CutOff
            left -= 1
            return await script(**words)

        return call

    with monkeypatch.context() as patch:
        for name in ("_delete", "_claim"):
            patch.setattr(removal, name, counted(getattr(removal, name)))
        with suppress(CutOff):
            await delete(removal, user.id)
            assert steps == STEPS
    if steps:
        assert await users.get(user.id) is None
        other = await sign_in(users, "google", "g-1")
        assert other.id != user.id
    await delete(removal, user.id)
    assert await users.get(user.id) is None
    if steps:
        assert (await users.find_by_email(EMAIL)).id == other.id
        assert (await sign_in(users, "google", "g-1")).id == other.id
    fields = await store.client.hgetall(f"gw:user:{user.id}")
    assert fields.keys() == {"id", "deleted_at"}


async def test_who_never_was_cannot_be_deleted(store: Store, removal: Removal):
    with pytest.raises(UnknownUserError):
        await removal.begin_deletion(7)
    assert await names(store) == set()

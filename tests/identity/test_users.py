import asyncio
import json

import pytest
from redis_process import RedisProcess, eventually, news_heard

from gateway.errors import StoreUnavailable
from gateway.identity.users import UnknownUserError, User, UserExistsError, Users
from gateway.sections import KeySettings, StoreSettings
from gateway.store.redis import Store

NOW = 1777464000.0  # 2026-04-29T12:00:00
LATER = NOW + 60


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def users(store: Store, clock: Clock) -> Users:
    return Users(store, KeySettings(), clock)


async def google(users: Users, subject: str, email: str | None, name: str | None = None) -> User:
    return await users.sign_in("google", subject, email, email_verified=True, name=name)


async def apple(users: Users, subject: str, email: str | None, name: str | None = None) -> User:
    return await users.sign_in("apple", subject, email, email_verified=True, name=name)


def test_the_contract_form_has_its_fields_in_order_with_their_types():
    user = User(
        id=123,
        email="user@example.com",
        name="Jane Doe",
        google_id="1067290000000000000",
        created_at="2026-06-01T00:00:00",
        updated_at="2026-06-24T00:00:00",
        plan="standard",
    )
    assert json.dumps(user.as_contract()) == (
        '{"id": 123, "email": "user@example.com", "name": "Jane Doe", '
        '"google_id": "1067290000000000000", "apple_id": null, "is_vip": false, '
        '"vip_expires_at": null, "created_at": "2026-06-01T00:00:00", '
        '"updated_at": "2026-06-24T00:00:00"}'
    )


async def test_a_first_sign_in_creates_a_user(users: Users, store: Store):
    user = await google(users, "sub-1", " Jane@Example.COM ", "Jane")
    links = (
        '{"event": "created", "provider": "google", "subject": "sub-1", '
        '"email": "jane@example.com", "at": "2026-04-29T12:00:00", "address": null}\n'
    )
    assert user == User(
        id=1,
        email="jane@example.com",
        name="Jane",
        google_id="sub-1",
        created_at="2026-04-29T12:00:00",
        updated_at="2026-04-29T12:00:00",
    )
    assert user.links == links
    assert (await users.get(1)).links is None, "copies are many"
    assert await store.client.hgetall("gw:user:1") == {
        "id": "1",
        "email": "jane@example.com",
        "email_verified": "1",
        "name": "Jane",
        "google_id": "sub-1",
        "links": links,
        "is_vip": "0",
        "created_at": "2026-04-29T12:00:00",
        "updated_at": "2026-04-29T12:00:00",
        "last_token_at": "1777464000.000",
    }
    assert await store.client.get("gw:user:by:google:sub-1") == "1"
    assert await store.client.get("gw:user:by:email:jane@example.com") == "1"


async def test_a_later_sign_in_finds_the_same_user(users: Users, clock: Clock):
    first = await google(users, "sub-1", "jane@example.com", "Jane")
    clock.now = LATER
    again = await google(users, "sub-1", "jane@example.com", "Jane Roe")
    assert again.id == first.id
    assert (again.name, again.created_at) == ("Jane", "2026-04-29T12:00:00")
    assert again.updated_at == "2026-04-29T12:01:00"


async def test_the_subject_counts_before_the_email(users: Users):
    jane = await google(users, "sub-1", "jane@example.com")
    john = await google(users, "sub-2", "john@example.com")
    assert (await google(users, "sub-1", "john@example.com")).id == jane.id
    assert (await users.find_by_email("john@example.com")).id == john.id
    assert (await users.show(jane.id)).email == "jane@example.com"


async def test_a_second_provider_is_linked_by_email(users: Users, store: Store):
    first = await google(users, "g-1", "jane@example.com", "Jane")
    second = await apple(users, "a-1", "JANE@example.com")
    assert second.id == first.id
    assert (second.google_id, second.apple_id, second.name) == ("g-1", "a-1", "Jane")
    assert await store.client.get("gw:user:by:apple:a-1") == str(first.id)


async def test_an_email_that_is_not_verified_links_and_claims_nothing(users: Users):
    owner = await google(users, "g-1", "jane@example.com")
    stranger = await users.sign_in(
        "apple", "a-1", "jane@example.com", email_verified=False, name=None
    )
    assert stranger.id != owner.id
    assert stranger.email is None
    assert (await users.find_by_email("jane@example.com")).id == owner.id


@pytest.mark.parametrize("email", ["nobody", "jane@exam ple.com", "\u212aate@example.com"])
async def test_what_is_no_email_claims_nothing_and_finds_nobody(users: Users, email: str):
    with pytest.raises(ValueError, match="not an email address"):
        await users.create(email)
    assert (await google(users, "g-1", email)).email is None
    assert await users.find_by_email(email) is None


async def test_a_subject_never_moves_to_the_user_of_an_email(users: Users):
    jane = await google(users, "g-1", "jane@example.com")
    other = await google(users, "g-2", "jane@example.com")
    assert other.id != jane.id
    assert (other.google_id, other.email) == ("g-2", None)
    assert (await users.show(jane.id)).google_id == "g-1"
    assert (await users.find_by_email("jane@example.com")).id == jane.id
    assert (await google(users, "g-2", "jane@example.com")).id == other.id


async def test_apple_without_email_is_found_by_subject_or_created_without(users: Users):
    first = await apple(users, "a-1", "jane@example.com", "Jane")
    assert (await apple(users, "a-1", None)).id == first.id
    assert (await apple(users, "a-1", None)).email == "jane@example.com"
    nameless = await apple(users, "a-2", None)
    assert (nameless.email, nameless.name) == (None, None)
    filled = await apple(users, "a-2", "late@example.com", "Late")
    assert (filled.id, filled.email, filled.name) == (nameless.id, "late@example.com", "Late")
    assert (await users.find_by_email("late@example.com")).id == nameless.id


async def test_google_and_apple_subjects_are_different_things(users: Users):
    assert (await google(users, "same", None)).id != (await apple(users, "same", None)).id


async def test_ids_that_billing_brought_are_never_given(users: Users, store: Store):
    for user_id in ("1", "2", "4"):
        await store.client.hset(f"gw:user:{user_id}", "plan", "standard")
    signed_in = [(await google(users, f"g-{number}", None)).id for number in range(3)]
    assert signed_in == [3, 5, 6]
    assert (await users.show(1)) == User(id=1, plan="standard")


async def test_a_user_of_billing_is_linked_by_the_index_of_the_email(users: Users, store: Store):
    await store.client.hset("gw:user:42", mapping={"plan": "standard", "email": "Jane@Example.com"})
    await store.client.set("gw:user:by:email:jane@example.com", "42")
    user = await google(users, "g-1", "jane@example.com", "Jane")
    assert (user.id, user.plan, user.google_id, user.name) == (42, "standard", "g-1", "Jane")


@pytest.mark.parametrize(
    "record",
    [{}, {"google_id": "another", "email": "another@example.com"}],
    ids=["to nobody", "to one with other values"],
)
async def test_an_index_that_leads_astray_signs_nobody_in_as_another(
    users: Users, store: Store, record: dict[str, str]
):
    if record:
        await store.client.hset("gw:user:42", mapping=record)
    await store.client.set("gw:user:by:google:g-1", "42")
    await store.client.set("gw:user:by:email:jane@example.com", "42")
    assert await users.find_by_email("jane@example.com") is None
    user = await google(users, "g-1", "jane@example.com")
    assert user.id == 1
    assert await store.client.hgetall("gw:user:42") == record
    assert (await users.find_by_email("jane@example.com")).id == 1
    assert (await google(users, "g-1", "jane@example.com")).id == 1


async def test_200_first_sign_ins_at_once_make_one_user(redis_url: str):
    stores = [await Store.open(StoreSettings(url=redis_url, timeout=10)) for _ in range(2)]
    try:
        workers = [Users(store, KeySettings()) for store in stores]
        signing_in = [google(workers[n % 2], "g-1", "jane@example.com") for n in range(200)]
        assert {user.id for user in await asyncio.gather(*signing_in)} == {1}
        assert [user.id for user in await workers[0].list()] == [1]
    finally:
        for store in stores:
            await store.close()


async def test_first_sign_ins_of_many_people_at_once_make_as_many_users(real_store: Store):
    users = Users(real_store, KeySettings())
    signing_in = [google(users, f"g-{n}", f"{n}@example.com") for n in range(100)]
    ids = {user.id for user in await asyncio.gather(*signing_in)}
    assert ids == set(range(1, 101))


async def test_a_sign_in_is_seen_by_those_who_know_the_user(users: Users):
    user = await google(users, "g-1", "jane@example.com")
    assert (await users.get(user.id)).apple_id is None
    await apple(users, "a-1", "jane@example.com")
    assert (await users.get(user.id)).apple_id == "a-1"


async def test_a_known_user_is_got_without_suspending(users: Users, store: Store):
    user = await users.create(email="jane@example.com")
    await news_heard(store)
    assert await users.get(user.id) == user
    step = users.get(user.id)
    with pytest.raises(StopIteration) as done:
        step.send(None)
    assert done.value.value == user


async def test_a_new_user_gets_the_given_or_the_next_free_id(users: Users):
    assert (await users.create(" Jane@Example.com ", "Jane")).id == 1
    assert (await users.create(id=2)).id == 2
    third = await users.create()
    assert third == User(id=3, created_at="2026-04-29T12:00:00", updated_at="2026-04-29T12:00:00")
    assert (await users.find_by_email("JANE@example.com ")).name == "Jane"


async def test_what_is_taken_is_not_created_again(users: Users):
    first = await users.create("jane@example.com", "Jane", 7)
    for email, user_id in (("jane@example.com", None), ("Jane@example.com", 8), (None, 7)):
        with pytest.raises(UserExistsError):
            await users.create(email, "Other", user_id)
    await users.ensure(7)
    assert list(await users.list()) == [first]


@pytest.mark.parametrize("user_id", [0, -1, 2**53, 10**30])
async def test_an_id_that_cannot_be_one_is_refused(users: Users, user_id: int):
    with pytest.raises(ValueError):
        await users.create(id=user_id)
    with pytest.raises(ValueError):
        await users.ensure(user_id)
    assert await users.get(user_id) is None


async def test_users_are_listed_by_id_without_the_indexes(users: Users, store: Store):
    for user_id in (10, 9, 2**53 - 1):
        await users.create(f"{user_id}@example.com", id=user_id)
    await google(users, "7", "seven@example.com")
    await store.client.hset("gw:user:007", "plan", "free")
    await store.client.hset("gw:user:1x", "plan", "free")
    assert [user.id for user in await users.list()] == [1, 9, 10, 2**53 - 1]


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("is_vip", "1", True),
        ("is_vip", "0", False),
        ("is_vip", "true", False),
        ("email", "", None),
        ("tokens_valid_after", "1777464000.5", 1777464000.5),
        ("tokens_valid_after", "1777464000", 1777464000.0),
        ("plan_expires_at", "", ""),
    ],
)
async def test_fields_have_the_documented_types(users, store, field, text, value):
    await store.client.hset("gw:user:1", field, text)
    assert getattr(await users.show(1), field) == value


@pytest.mark.parametrize("text", ["", "yesterday", "nan", "inf"])
async def test_an_end_of_tokens_that_cannot_be_read_ends_them_all(users, store, text):
    await store.client.hset("gw:user:1", "tokens_valid_after", text)
    assert (await users.show(1)).tokens_valid_after > 10**11


async def test_nobody_is_said_to_be_nobody(users: Users):
    assert await users.get(7) is None
    assert await users.find_by_email("jane@example.com") is None
    with pytest.raises(UnknownUserError):
        await users.show(7)


async def test_while_redis_is_away_nobody_is_called_unknown(redis_process: RedisProcess):
    store = await Store.open(StoreSettings(url=redis_process.url, timeout=2))
    try:
        users = Users(store, KeySettings())
        user = await google(users, "g-1", "jane@example.com")
        await news_heard(store)
        assert await users.get(user.id) == user
        redis_process.stop()
        await eventually(lambda: not store.available)
        assert await users.get(user.id) == user
        for call in (
            users.get(99),
            users.show(user.id),
            users.find_by_email("jane@example.com"),
            users.list(),
            users.ensure(5),
            google(users, "g-2", None),
        ):
            with pytest.raises(StoreUnavailable):
                await call
        redis_process.start()
        await eventually(lambda: store.available)
        assert (await google(users, "g-1", "jane@example.com")).id == user.id
    finally:
        await store.close()

import re
import string
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis_process import RedisProcess, eventually, news_heard

from gateway.errors import StoreUnavailable
from gateway.identity.users import Users
from gateway.sections import KeySettings, StoreSettings
from gateway.store.keys import KeyRecord, Keys, UnknownKeyError, digest, new_key, well_formed
from gateway.store.redis import Store

NOW = 1777464000.0  # 2026-04-29T12:00:00


@pytest.fixture
def users(store: Store) -> Users:
    return Users(store, KeySettings())


@pytest.fixture
def keys(store: Store, users: Users) -> Keys:
    return Keys(store, KeySettings(), users, clock=lambda: NOW)


def test_a_new_key_has_the_documented_form():
    key = new_key()
    assert re.fullmatch("pk_[0-9A-Za-z]{36}", key)
    assert well_formed(key)
    assert new_key() != key


@pytest.mark.parametrize(
    ("body", "checksum"),
    [
        ("000000000000000000000000000000", "3KzPDL"),
        ("abcdefghijklmnopqrstuvwxyzABCD", "16vF7p"),
        ("KVU71JOLQoCG6GvkWDzcRq1E1P92kz", "00yAQr"),
    ],
)
def test_the_checksum_is_crc32_in_base62_padded_with_zeros(body: str, checksum: str):
    assert well_formed(f"pk_{body}{checksum}")


@given(st.integers(3, 38), st.sampled_from(string.digits + string.ascii_letters))
def test_any_one_wrong_character_is_noticed(at: int, character: str):
    key = new_key()
    wrong = key[:at] + character + key[at + 1 :]
    assert well_formed(wrong) is (wrong == key)


@pytest.mark.parametrize(
    ("key", "looked_up"),
    [
        ("imported-key-0001", True),
        ("pk_short", True),
        ("pk_" + "a" * 37, True),
        ("pk_" + "-" * 36, True),
        ("PK_" + "a" * 36, True),
        ("x" * 256, True),
        ("x" * 257, False),
        ("", False),
        ("schlüssel", False),
        ("a\x00b", False),
        ("a\nb", False),
        ("\udcff", False),
    ],
)
def test_keys_of_other_shapes_are_looked_up_if_they_are_text_of_some_length(key, looked_up):
    assert well_formed(key) is looked_up


def test_the_digest_is_of_the_whole_key():
    assert digest("pk_x") == sha256(b"pk_x").hexdigest()


@pytest.mark.parametrize(
    ("fields", "valid"),
    [
        ({}, True),
        ({"expires_at": "2026-04-29T12:00:01"}, True),
        ({"expires_at": "2026-04-29T12:00:00"}, False),
        ({"expires_at": "whenever"}, False),
        ({"revoked_at": "2026-04-29T11:00:00"}, False),
        ({"revoked_at": "2027-01-01T00:00:00"}, False),
        ({"revoked_at": ""}, False),
        ({"replaced_by": "k_other"}, True),
    ],
)
def test_a_key_is_valid_until_it_expires_or_is_revoked(fields, valid):
    assert KeyRecord(id="k_1", user_id=1, **fields).is_valid(NOW) is valid


async def test_an_issued_key_is_found_by_its_digest(keys: Keys, users: Users):
    record, key = await keys.issue(42, "laptop", "2027-01-01")
    assert record == KeyRecord(
        id=record.id,
        user_id=42,
        name="laptop",
        created_at="2026-04-29T12:00:00",
        expires_at="2027-01-01T00:00:00",
    )
    assert record.id.startswith("k_")
    assert await keys.find(digest(key)) == record
    assert await keys.show(record.id) == record
    assert (await users.show(42)).id == 42


async def test_redis_holds_the_documented_data_and_no_plaintext(keys: Keys, store: Store):
    record, key = await keys.issue(42, "laptop")
    assert await store.client.hgetall(f"gw:key:{digest(key)}") == {
        "id": record.id,
        "user_id": "42",
        "name": "laptop",
        "created_at": "2026-04-29T12:00:00",
    }
    assert await store.client.get(f"gw:keyid:{record.id}") == digest(key)
    for name in [name async for names in store.scan("*") for name in names]:
        assert key not in name
        if await store.client.type(name) == "hash":
            assert key not in str(await store.client.hgetall(name))
        else:
            assert key not in await store.client.get(name)


async def test_a_key_that_was_refused_is_good_as_soon_as_it_is_there(keys: Keys, store: Store):
    _, key = await keys.issue(1)
    fields = await store.client.hgetall(f"gw:key:{digest(key)}")
    imported = digest("imported")
    assert await keys.find(imported) is None
    await store.client.hset(f"gw:key:{imported}", mapping=fields | {"id": "k_imported"})
    store.changed(f"gw:key:{imported}")

    async def found() -> bool:
        return (await keys.find(imported)) is not None

    await eventually(found)


async def test_a_revoked_key_is_known_as_revoked_at_once(keys: Keys):
    record, key = await keys.issue(1)
    assert (await keys.find(digest(key))).is_valid(NOW)
    revoked = await keys.revoke(record.id)
    assert revoked.revoked_at == "2026-04-29T12:00:00"
    assert not (await keys.find(digest(key))).is_valid(NOW)


async def test_a_revocation_elsewhere_is_heard(real_store: Store, redis_url: str):
    here = Keys(real_store, KeySettings(), Users(real_store, KeySettings()))
    other_store = await Store.open(StoreSettings(url=redis_url, timeout=2))
    try:
        there = Keys(other_store, KeySettings(), Users(other_store, KeySettings()))
        record, key = await there.issue(1)
        assert (await here.find(digest(key))).is_valid(NOW)
        await there.revoke(record.id)

        async def refused() -> bool:
            return not (await here.find(digest(key))).is_valid(NOW)

        await eventually(refused)
    finally:
        await other_store.close()


async def test_revoking_again_leaves_the_first_time(store: Store, users: Users):
    moments = [NOW]
    keys = Keys(store, KeySettings(), users, clock=lambda: moments[-1])
    record, _ = await keys.issue(1)
    first = await keys.revoke(record.id)
    moments.append(NOW + 60)
    assert await keys.revoke(record.id) == first


@pytest.mark.parametrize("key_id", ["k_nosuch", "", "*"])
async def test_an_unknown_id_is_said_to_be_unknown(keys: Keys, key_id: str):
    await keys.issue(1)
    with pytest.raises(UnknownKeyError):
        await keys.show(key_id)
    with pytest.raises(UnknownKeyError):
        await keys.revoke(key_id)


async def test_revoking_a_key_whose_record_is_gone_makes_no_new_record(keys: Keys, store: Store):
    record, key = await keys.issue(1)
    await store.client.delete(f"gw:key:{digest(key)}")
    with pytest.raises(UnknownKeyError):
        await keys.revoke(record.id)
    assert await store.client.exists(f"gw:key:{digest(key)}") == 0


async def test_keys_are_listed_for_all_or_one_user(keys: Keys):
    issued = [
        (await keys.issue(user_id, name))[0] for user_id, name in ((1, "a"), (2, "b"), (1, "c"))
    ]
    assert {record.id for record in await keys.list()} == {record.id for record in issued}
    assert {record.name for record in await keys.list(1)} == {"a", "c"}
    assert list(await keys.list(3)) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "k_1"},
        {"user_id": "1"},
        {"id": "k_1", "user_id": "0"},
        {"id": "k_1", "user_id": "-1"},
        {"id": "k_1", "user_id": "one"},
        {"id": "k_1", "user_id": "9" * 5000},
        {"id": "", "user_id": "1"},
    ],
)
async def test_a_record_without_id_or_user_is_no_key(keys: Keys, store: Store, fields):
    await store.client.hset("gw:key:abc", mapping=fields)
    assert await keys.find("abc") is None
    assert list(await keys.list()) == []


@pytest.mark.parametrize(
    ("user_id", "expires_at"), [(0, None), (-1, None), (2**53, None), (1, "x")]
)
async def test_nothing_is_issued_for_what_cannot_be(keys: Keys, user_id, expires_at):
    with pytest.raises(ValueError):
        await keys.issue(user_id, "laptop", expires_at)
    assert list(await keys.list()) == []


async def test_while_redis_is_away_nothing_is_called_unknown(redis_process: RedisProcess):
    store = await Store.open(StoreSettings(url=redis_process.url, timeout=2))
    try:
        keys = Keys(store, KeySettings(), Users(store, KeySettings()))
        record, key = await keys.issue(1)
        await news_heard(store)
        assert await keys.find(digest(key)) == record
        redis_process.stop()
        await eventually(lambda: not store.available)
        assert await keys.find(digest(key)) == record
        for call in (keys.find("0" * 64), keys.show(record.id), keys.revoke(record.id)):
            with pytest.raises(StoreUnavailable):
                await call
        redis_process.start()
        await eventually(lambda: store.available)
        assert await keys.find("0" * 64) is None
        assert await keys.find(digest(key)) == record
    finally:
        await store.close()

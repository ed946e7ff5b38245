"""Keys out of one Redis and into another, and what becomes of lines that can't be taken."""

import json

import pytest

from gateway.identity.users import Users
from gateway.sections import KeySettings
from gateway.store.keys import Keys, digest
from gateway.store.redis import Store
from gateway.store.rotation import Rotation
from gateway.store.transfer import KEYS_A_BATCH, Tally, Transfer

SHA = digest("imported-key-0001")
OTHER = digest("imported-key-0002")
GOOD = {"sha256": SHA, "id": "k_1", "user_id": 42}


@pytest.fixture
def users(store: Store) -> Users:
    return Users(store, KeySettings())


@pytest.fixture
def keys(store: Store, users: Users) -> Keys:
    return Keys(store, KeySettings(), users)


@pytest.fixture
def transfer(store: Store, users: Users) -> Transfer:
    return Transfer(store, users)


async def take(transfer: Transfer, *lines: object) -> Tally:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    tally = Tally()
    async for tally in transfer.take(texts):  # noqa: B007  # the last one counts
        pass
    return tally


def counts(tally: Tally) -> tuple[int, int, int, int]:
    return tally.new, tally.changed, tally.same, tally.refused


async def test_what_is_exported_is_taken_as_it_was_elsewhere(store, keys, users, transfer):
    first, plaintext = await keys.issue(42, "laptop", "2999-01-01", "10.0.0.0/8")
    second, _ = await keys.issue(7, "ci")
    revoked = await keys.revoke(second.id)
    lines = [line async for line in transfer.export()]
    assert plaintext not in "".join(lines)
    await store.client.flushall()
    keys.copies.all_changed()
    tally = await take(Transfer(store, users), *lines)
    assert counts(tally) == (2, 0, 0, 0)
    assert await keys.find(digest(plaintext)) == first
    assert await keys.show(second.id) == revoked
    assert (await users.show(42)).id == 42
    assert counts(await take(Transfer(store, users), *lines)) == (0, 0, 2, 0)


async def test_a_key_amid_its_rotation_retires_where_it_is_taken_to(store, keys, users, transfer):
    first, _ = await keys.issue(42)
    await Rotation(store, keys).rotate(first.id, 7 * 86_400, 3600)
    rotated = await keys.show(first.id)
    lines = [line async for line in transfer.export()]
    await store.client.flushall()
    assert counts(await take(Transfer(store, users), *lines)) == (2, 0, 0, 0)
    assert await keys.show(first.id) == rotated
    due = await store.client.zscore("gw:retiring", first.id)
    await take(Transfer(store, users), *lines)
    assert await store.client.zscore("gw:retiring", first.id) == due
    await store.client.zincrby("gw:retiring", -86_400_000, first.id)
    await Rotation(store, keys).judge()
    assert (await keys.show(first.id)).revoked_at is not None


async def test_a_copy_of_the_key_hears_of_it(keys, transfer):
    assert await keys.find(SHA) is None
    await take(transfer, GOOD)
    found = await keys.find(SHA)
    assert found is not None
    assert found.id == "k_1"


async def test_the_file_goes_before_what_is_here_but_for_a_revocation(keys, transfer):
    await take(transfer, GOOD | {"name": "old", "allow": "10.0.0.0/8"})
    revoked = await keys.revoke("k_1")
    tally = await take(transfer, GOOD | {"name": "new", "revoked_at": "2000-01-01"})
    assert counts(tally) == (0, 1, 0, 0)
    shown = await keys.show("k_1")
    assert (shown.name, shown.allow) == ("new", "10.0.0.0/8")
    assert shown.revoked_at == revoked.revoked_at
    tally = await take(transfer, GOOD | {"user_id": 43})
    assert counts(tally) == (0, 1, 0, 0)
    assert (await keys.show("k_1")).revoked_at == revoked.revoked_at


async def test_no_id_comes_to_stand_for_another_key_and_no_key_gets_another_id(keys, transfer):
    tally = await take(transfer, GOOD, GOOD | {"sha256": OTHER}, GOOD | {"id": "k_2"})
    assert tally.complaints == [
        "line 2: its id stands for another key here; give it a new one",
        "line 3: this key has another id here; give it that one",
    ]
    assert counts(tally) == (1, 0, 0, 2)
    assert await keys.find(OTHER) is None
    assert (await keys.show("k_1")).user_id == 42


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("pk_secret", "must be a JSON object"),
        ("[1]", "must be a JSON object"),
        ("[" * 10_000, "must be a JSON object"),
        ("\ufffd", "must be a JSON object"),
        (" " * 20_000 + "{", "has more than 16384 characters"),
        ({"id": "k_1", "user_id": 42}, "sha256 must be 64 hex digits in lower case"),
        (GOOD | {"sha256": SHA.upper()}, "sha256 must be 64 hex digits in lower case"),
        (GOOD | {"sha256": 1}, "sha256 must be 64 hex digits in lower case"),
        (GOOD | {"key": "pk_secret"}, "has an unknown field; known: sha256, allow, created_at"),
        (GOOD | {"id": "pk_secret"}, "id is not of its form, or missing"),
        (GOOD | {"id": "k 1"}, "id is not of its form, or missing"),
        ({"sha256": SHA, "user_id": 42}, "id is not of its form, or missing"),
        ({"sha256": SHA, "id": "k_1"}, "user_id is not of its form, or missing"),
        (GOOD | {"user_id": True}, "user_id is not of its form, or missing"),
        (GOOD | {"user_id": 0}, "user_id is not of its form, or missing"),
        (GOOD | {"user_id": "042"}, "user_id is not of its form, or missing"),
        (GOOD | {"expires_at": "soon"}, "expires_at is not of its form, or missing"),
        (GOOD | {"expires_at": 4102444800}, "expires_at is not of its form, or missing"),
        (GOOD | {"allow": "10.0.0.1/8"}, "allow is not of its form, or missing"),
        (GOOD | {"allow": ""}, "allow is not of its form, or missing"),
        (GOOD | {"name": "a\nb"}, "name is not of its form, or missing"),
        (GOOD | {"revoked_at": 1}, "revoked_at is not of its form, or missing"),
    ],
)
async def test_a_line_that_cannot_be_taken_is_told_without_what_it_holds(
    transfer, keys, line, complaint
):
    tally = await take(transfer, "", GOOD, line)
    assert tally.complaints[0].startswith(f"line 3: {complaint}")
    assert "secret" not in tally.complaints[0]
    assert counts(tally) == (1, 0, 0, 1)
    assert len(await keys.list()) == 1


async def test_complaints_are_bounded_and_all_are_counted(transfer):
    tally = await take(transfer, *["x"] * (3 * KEYS_A_BATCH))
    assert (tally.refused, len(tally.complaints)) == (3 * KEYS_A_BATCH, 100)


async def test_who_was_interrupted_begins_anew(transfer, keys, users, store):
    lines = [
        json.dumps({"sha256": digest(f"key-{number}"), "id": f"k_{number}", "user_id": 1})
        for number in range(2 * KEYS_A_BATCH)
    ]
    async for tally in transfer.take(lines):
        assert tally.new == KEYS_A_BATCH
        break
    assert counts(await take(Transfer(store, users), *lines)) == (KEYS_A_BATCH, 0, KEYS_A_BATCH, 0)
    assert len(await keys.list()) == 2 * KEYS_A_BATCH

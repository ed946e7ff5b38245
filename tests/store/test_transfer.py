"""Keys out of one Redis and into another, and what becomes of lines that can't be taken."""

import json

import pytest
from redis_process import news_heard

from gateway.identity.users import Users
from gateway.sections import KeySettings
from gateway.store.keyline import FORMS, parse
from gateway.store.keys import Keys, digest
from gateway.store.lines import LINES_A_BATCH
from gateway.store.redis import Store
from gateway.store.rotation import Rotation
from gateway.store.transfer import KeyTally, KeyTransfer

SHA = digest("imported-key-0001")
OTHER = digest("imported-key-0002")
GOOD = {"sha256": SHA, "id": "k_1", "user_id": 42}
PLANS = ("free", "standard", "professional")
OLD, NEW = "2001-01-01T00:00:00", "2002-02-02T00:00:00"


@pytest.fixture
def users(store: Store) -> Users:
    return Users(store, KeySettings())


@pytest.fixture
def keys(store: Store, users: Users) -> Keys:
    return Keys(store, KeySettings(), users)


@pytest.fixture
def transfer(store: Store, users: Users) -> KeyTransfer:
    return KeyTransfer(store, users, PLANS)


async def take(transfer: KeyTransfer, *lines: object) -> KeyTally:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    tally = KeyTally()
    async for tally in transfer.take(texts):  # noqa: B007  # the last one counts
        pass
    return tally


def outcomes(tally: KeyTally) -> dict[str, int]:
    names = ("done_before", "new", "changed", "same", "kept", "refused")
    return {name: getattr(tally, name) for name in names if getattr(tally, name)}


async def test_what_is_exported_is_taken_as_it_was_elsewhere(store, keys, users, transfer):
    first, plaintext = await keys.issue(42, "laptop", "2999-01-01", "10.0.0.0/8")
    second, _ = await keys.issue(7, "ci")
    revoked = await keys.revoke(second.id)
    await users.set_plan(42, "standard", "2999-06-01T00:00:00", "2026-11-22T07:00:00")
    lines = [line async for line in transfer.export()]
    assert plaintext not in "".join(lines)
    await store.client.flushall()
    keys.copies.all_changed()
    tally = await take(transfer, *lines)
    assert (outcomes(tally), tally.users) == ({"new": 2}, 2)
    assert await keys.find(digest(plaintext)) == first
    assert await keys.show(second.id) == revoked
    user = await users.show(42)
    assert (user.plan, user.plan_expires_at) == ("standard", "2999-06-01T00:00:00")
    assert (await users.show(7)).plan is None
    tally = await take(transfer, *lines)
    assert (outcomes(tally), tally.users) == ({"same": 2}, 0)


async def test_an_export_holds_what_an_import_takes_whatever_else_stands_in_redis(
    store, keys, transfer
):
    record, plaintext = await keys.issue(42, "laptop")
    await store.client.hset(f"gw:key:{digest(plaintext)}", "billing", "4711")
    await store.client.hset("gw:user:42", "plan_expires_at", "2999-01-01")
    (line,) = [line async for line in transfer.export()]
    assert json.loads(line) == {
        "sha256": digest(plaintext),
        "id": record.id,
        "user_id": 42,
        "name": "laptop",
        "created_at": record.created_at,
        "plan_expires_at": "2999-01-01",
    }
    assert outcomes(await take(transfer, line)) == {"same": 1}


async def test_a_record_that_is_none_is_counted_and_not_exported(store, keys, transfer):
    await keys.issue(42, "laptop")
    await store.client.set("gw:key:odd", "x")
    assert len([line async for line in transfer.export()]) == 1
    assert transfer.unread == 1


async def test_a_key_amid_its_rotation_retires_where_it_is_taken_to(store, keys, transfer):
    first, _ = await keys.issue(42)
    await Rotation(store, keys).rotate(first.id, 7 * 86_400, 3600)
    rotated = await keys.show(first.id)
    lines = [line async for line in transfer.export()]
    await store.client.flushall()
    assert outcomes(await take(transfer, *lines)) == {"new": 2}
    assert await keys.show(first.id) == rotated
    due = await store.client.zscore("gw:retiring", first.id)
    await take(transfer, *lines)
    assert await store.client.zscore("gw:retiring", first.id) == due
    await store.client.zincrby("gw:retiring", -86_400_000, first.id)
    await Rotation(store, keys).judge()
    assert (await keys.show(first.id)).revoked_at is not None


async def test_a_copy_of_the_key_hears_of_it(store, keys, transfer):
    assert await keys.find(SHA) is None
    await take(transfer, GOOD)
    await news_heard(store)
    found = await keys.find(SHA)
    assert found is not None
    assert found.id == "k_1"


MORE = {"name": "new", "expires_at": "2999-01-01", "allow": "0.0.0.0/0"}


@pytest.mark.parametrize(
    ("here", "file", "overwrite", "outcome", "then"),
    [
        ({"name": "old"}, MORE, False, "kept", ("old", None, None, None)),
        ({}, MORE, False, "kept", (None, None, None, None)),
        ({}, {}, False, "same", (None, None, None, None)),
        ({"name": "old"}, {"revoked_at": OLD}, False, "changed", ("old", None, None, OLD)),
        ({"name": "old"}, MORE | {"revoked_at": OLD}, False, "changed", ("old", None, None, OLD)),
        ({"revoked_at": OLD}, {}, False, "same", (None, None, None, OLD)),
        ({"revoked_at": OLD}, {"revoked_at": NEW}, False, "same", (None, None, None, OLD)),
        ({"revoked_at": OLD}, {"revoked_at": NEW}, True, "same", (None, None, None, OLD)),
        (
            {"name": "old", "revoked_at": OLD},
            MORE,
            True,
            "changed",
            ("new", "2999-01-01T00:00:00", "0.0.0.0/0", OLD),
        ),
        (
            {"name": "old", "allow": "10.0.0.0/8"},
            {"name": "new", "allow": None},
            True,
            "changed",
            ("new", None, "10.0.0.0/8", None),
        ),
    ],
)
async def test_what_is_here_stays_or_is_overwritten_and_a_revocation_stands_in_any_case(
    store, users, keys, transfer, here, file, overwrite, outcome, then
):
    await take(transfer, GOOD | here)
    tally = await take(KeyTransfer(store, users, PLANS, overwrite=overwrite), GOOD | file)
    assert outcomes(tally) == {outcome: 1}
    shown = await keys.show("k_1")
    assert (shown.name, shown.expires_at, shown.allow, shown.revoked_at) == then


@pytest.mark.parametrize("overwrite", [False, True])
async def test_no_id_comes_to_stand_for_another_key_and_no_key_changes_its_id_or_user(
    store, users, keys, overwrite
):
    transfer = KeyTransfer(store, users, PLANS, overwrite=overwrite)
    lines = (
        GOOD,
        GOOD | {"sha256": OTHER},
        GOOD | {"id": "k_2"},
        GOOD | {"user_id": 43},
        {"sha256": OTHER, "id": "k_3", "user_id": 42},
    )
    tally = await take(transfer, *lines)
    stands = "id stands for another key here; give this one a new id"
    has = "the key has another id or user here; give it those"
    assert tally.complaints == [(2, stands), (3, has), (4, has)]
    assert outcomes(tally) == {"new": 2, "refused": 3}
    assert (await keys.show("k_1")).user_id == 42
    assert await store.client.get("gw:keyid:k_2") is None
    again = await take(transfer, {"sha256": digest("third"), "id": "k_2", "user_id": 42})
    assert outcomes(again) == {"new": 1}


async def test_what_is_no_record_or_index_is_left_alone_and_told(store, transfer):
    await store.client.set(f"gw:key:{SHA}", "x")
    await store.client.hset("gw:keyid:k_2", "x", "y")
    await store.client.hset(f"gw:key:{digest('stray')}", "name", "whose?")
    tally = await take(
        transfer,
        GOOD,
        {"sha256": OTHER, "id": "k_2", "user_id": 42},
        {"sha256": digest("stray"), "id": "k_3", "user_id": 42},
        {"sha256": digest("third"), "id": "k_4", "user_id": 42},
    )
    assert outcomes(tally) == {"new": 1, "refused": 3}
    assert [number for number, _ in tally.complaints] == [2, 1, 3]
    assert await store.client.get(f"gw:key:{SHA}") == "x"


async def test_who_is_known_keeps_their_plan(users, transfer):
    await users.ensure(42)
    await take(transfer, GOOD | {"plan": "standard"})
    assert (await users.show(42)).plan is None
    lines = [{"sha256": digest(name), "id": f"k_{name}", "user_id": 43} for name in "ab"]
    await take(transfer, lines[0] | {"plan": "standard"}, lines[1] | {"plan": "free"})
    assert (await users.show(43)).plan == "standard"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("pk_secret", "must be a JSON object"),
        ("[1]", "must be a JSON object"),
        ("[" * 10_000, "must be a JSON object"),
        ("\ufffd", "must be a JSON object"),
        (" " * 20_000 + "{", "must have at most 16384 bytes"),
        ({"id": "k_1", "user_id": 42}, "sha256 is missing"),
        (GOOD | {"sha256": SHA.upper()}, "sha256 must be 64 hex digits in lower case"),
        (GOOD | {"sha256": 1}, "sha256 must be 64 hex digits in lower case"),
        (GOOD | {"key": "pk_secret"}, "has an unknown field; "),
        (GOOD | {"usr_id": "pk_secret"}, "has an unknown field; did you mean 'user_id'?"),
        (GOOD | {"id": "pk_secret"}, "id must not be the key itself"),
        (GOOD | {"id": "k 1"}, "id must be one word"),
        (GOOD | {"id": 1}, "id must be one word"),
        ({"sha256": SHA, "user_id": 42}, "id is missing"),
        ({"sha256": SHA, "id": "k_1"}, "user_id is missing"),
        (GOOD | {"user_id": True}, "user_id must be a whole number from 1"),
        (GOOD | {"user_id": 0}, "user_id must be a whole number from 1"),
        (GOOD | {"user_id": 2**53}, "user_id must be a whole number from 1"),
        (GOOD | {"user_id": "042"}, "user_id must be a whole number from 1"),
        (GOOD | {"expires_at": "soon"}, "expires_at must be a time, as in 2027-01-01T12:00:00"),
        (GOOD | {"expires_at": 4102444800}, "expires_at must be a time"),
        (GOOD | {"expires_at": ["2027"]}, "expires_at must be a time"),
        (GOOD | {"revoked_at": ""}, "revoked_at must be a time"),
        (GOOD | {"allow": "10.0.0.1/8"}, "allow holds an entry that names one address inside"),
        (GOOD | {"allow": ""}, "allow holds an entry that must be an address or a network"),
        (GOOD | {"allow": ["10.0.0.0/8"]}, "allow must be text"),
        (GOOD | {"name": "a\nb"}, "name must be 1 to 100 printable characters"),
        (GOOD | {"name": "\udc80"}, "name must be 1 to 100 printable characters"),
        (GOOD | {"replaced_by": "pk_secret"}, "replaced_by must not be the key itself"),
        (GOOD | {"plan": "standrd"}, "plan is none that the settings name; did you mean"),
        (GOOD | {"plan": 1}, "plan must be"),
    ],
)
async def test_a_line_that_cannot_be_taken_is_told_without_what_it_holds(
    transfer, keys, line, complaint
):
    tally = await take(transfer, "", GOOD, line)
    ((number, told),) = tally.complaints
    assert number == 3
    assert told.startswith(complaint)
    assert "secret" not in told.replace("which is a secret", "")
    assert outcomes(tally) == {"new": 1, "refused": 1}
    assert len(await keys.list()) == 1


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"user_id": "9007199254740991"}, {"user_id": "9007199254740991"}),
        ({"expires_at": "2027-01-01T02:00:00.5+02:00"}, {"expires_at": "2027-01-01T00:00:00"}),
        ({"allow": "::ffff:10.0.0.0/104 192.0.2.7"}, {"allow": "10.0.0.0/8,192.0.2.7/32"}),
        ({"name": None, "replaced_by": "k_2"}, {"replaced_by": "k_2"}),
    ],
)
def test_what_can_be_said_in_several_ways_is_stored_in_one(given, stored):
    record = parse(json.dumps(GOOD | given), PLANS).record
    assert record == {"id": "k_1", "user_id": "42"} | stored
    assert list(record)[:2] == ["id", "user_id"]


def test_every_field_of_a_record_has_a_form():
    for name in FORMS:
        with pytest.raises(ValueError, match=f"{name} "):
            parse(json.dumps(GOOD | {name: [1]}), PLANS)


async def test_complaints_are_bounded_and_all_are_counted(transfer):
    tally = await take(transfer, *["x"] * 1200)
    assert (tally.refused, len(tally.complaints)) == (1200, 1000)


def keys_in_a_file(count: int) -> list[str]:
    return [
        json.dumps({"sha256": digest(f"key-{number}"), "id": f"k_{number}", "user_id": number + 1})
        for number in range(count)
    ]


async def begin(transfer: KeyTransfer, lines: list[str]) -> None:
    """Take a batch, and be interrupted when the next has begun."""
    async for tally in transfer.take(lines):
        assert tally.new == LINES_A_BATCH
        break


async def notes(store: Store) -> list[str]:
    """Where it stands what is done."""
    return [name async for names in store.scan("gw:import:*") for name in names]


async def test_who_was_interrupted_goes_on_where_it_was(transfer, keys, users, store):
    lines = keys_in_a_file(2 * LINES_A_BATCH)
    await begin(transfer, lines)
    assert len(await keys.list()) == LINES_A_BATCH
    tally = await take(KeyTransfer(store, users, PLANS), *lines)
    assert outcomes(tally) == {"done_before": LINES_A_BATCH, "new": LINES_A_BATCH}
    assert len(await keys.list()) == 2 * LINES_A_BATCH
    assert outcomes(await take(transfer, *lines)) == {"same": 2 * LINES_A_BATCH}
    assert await notes(store) == []


async def test_what_was_taken_for_done_is_known_for_a_day(transfer, store):
    await begin(transfer, keys_in_a_file(2 * LINES_A_BATCH))
    (name,) = await notes(store)
    assert 86_000 < await store.client.ttl(name) <= 86_400


async def test_an_import_that_overwrites_does_not_go_on_with_one_that_does_not(
    transfer, users, store
):
    lines = keys_in_a_file(2 * LINES_A_BATCH)
    await begin(transfer, lines)
    tally = await take(KeyTransfer(store, users, PLANS, overwrite=True), *lines)
    assert outcomes(tally) == {"same": LINES_A_BATCH, "new": LINES_A_BATCH}


async def test_bad_lines_are_told_each_time_and_the_rest_is_not_done_again(transfer, users, store):
    lines = keys_in_a_file(2 * LINES_A_BATCH)
    mended, lines[LINES_A_BATCH] = lines[LINES_A_BATCH], "{}"
    for _ in range(2):
        tally = await take(KeyTransfer(store, users, PLANS), *lines)
        assert tally.complaints == [(LINES_A_BATCH + 1, "sha256 is missing")]
    assert tally.done_before == LINES_A_BATCH
    lines[LINES_A_BATCH] = mended
    tally = await take(transfer, *lines)
    assert outcomes(tally) == {
        "done_before": LINES_A_BATCH,
        "same": LINES_A_BATCH - 1,
        "new": 1,
    }


async def test_keys_of_many_slots_are_taken_one_by_one(real_store, keys_in_slots):
    """As in a cluster, where no script may touch two of these keys."""
    users = Users(real_store, KeySettings())
    lines = [*keys_in_a_file(3), json.dumps(GOOD | {"id": "k_0"})]
    tally = await take(KeyTransfer(real_store, users, PLANS), *lines)
    assert (outcomes(tally), tally.users) == ({"new": 3, "refused": 1}, 3)
    assert await real_store.client.hget(f"gw:key:{digest('key-2')}", "id") == "k_2"


@pytest.fixture
def keys_in_slots(monkeypatch):
    monkeypatch.setattr(
        Store, "slot_groups", lambda _self, keys: {at: [at] for at in range(len(keys))}
    )

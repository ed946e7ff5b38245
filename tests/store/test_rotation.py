"""Rotation of keys on both stores: the new key, the overlap, and silence by Redis's clock."""

import asyncio

import pytest
from redis_process import news_heard

from gateway.identity.users import Users
from gateway.sections import KeySettings, LedgerSettings, StoreSettings
from gateway.store.keys import KeyRecord, Keys, UnknownKeyError, digest
from gateway.store.ledger import Ledger
from gateway.store.redis import Store
from gateway.store.rotation import SLACK_SECONDS, NotRotatable, Rotation
from gateway.store.times import iso_utc

DAY = 86_400


class Clock:
    """The worker's; Redis has its own."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def clock(store: Store) -> Clock:
    clock = Clock()
    clock.now = float(await redis_ms(store) // 1000)
    return clock


@pytest.fixture
def keys(store: Store, clock: Clock) -> Keys:
    return Keys(store, KeySettings(), Users(store, KeySettings()), clock)


@pytest.fixture
def rotation(store: Store, keys: Keys, clock: Clock) -> Rotation:
    return Rotation(store, keys, clock)


async def redis_ms(store: Store) -> int:
    seconds, microseconds = await store.client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


async def used(store: Store, key_id: str, seconds_ago: float) -> None:
    """As the ledger of any worker would write it."""
    at = await redis_ms(store) - round(seconds_ago * 1000)
    await store.client.hset(f"gw:used:{key_id}", "last_used", at)


async def rotated_ago(store: Store, key_id: str, seconds: float) -> None:
    """Let the rotation of a key with a silence lie so far back."""
    await store.client.zincrby("gw:retiring", -seconds * 1000, key_id)


async def valid(keys: Keys, store: Store, key: str, clock: Clock) -> bool:
    await news_heard(store)
    record = await keys.find(digest(key))
    return record is not None and record.is_valid(clock())


async def test_both_keys_work_until_the_overlap_ends(rotation, keys, store, clock):
    first, key = await keys.issue(42, "laptop")
    assert await valid(keys, store, key, clock)
    old, new, new_key = await rotation.rotate(first.id, 7 * DAY)
    assert old.id == first.id
    assert (old.replaced_by, old.retires_at) == (new.id, iso_utc(clock.now + 7 * DAY))
    clock.now += 7 * DAY - 1
    assert await valid(keys, store, key, clock)
    assert await valid(keys, store, new_key, clock)
    clock.now += 1
    assert not await valid(keys, store, key, clock)
    assert await valid(keys, store, new_key, clock)


async def test_the_new_key_has_all_of_the_old_ones_fields_but_its_own(rotation, keys, store, clock):
    first, key = await keys.issue(42, "laptop", "2999-01-01")
    await store.client.hset(f"gw:key:{digest(key)}", "written_by_billing", "yes")
    clock.now += 60
    _, new, new_key = await rotation.rotate(first.id, DAY, 3600)
    assert new == KeyRecord(
        id=new.id,
        user_id=42,
        name="laptop",
        created_at=iso_utc(clock.now),
        expires_at="2999-01-01T00:00:00",
    )
    assert new.id != first.id
    stored = await store.client.hgetall(f"gw:key:{digest(new_key)}")
    assert stored["written_by_billing"] == "yes"
    assert "silent_for" not in stored
    assert await keys.show(new.id) == new


async def test_an_overlap_of_nothing_ends_the_old_key_at_once(rotation, keys, store, clock):
    first, key = await keys.issue(42)
    assert await valid(keys, store, key, clock)
    _, _, new_key = await rotation.rotate(first.id, 0)
    assert not await valid(keys, store, key, clock)
    assert await valid(keys, store, new_key, clock)


async def test_a_key_is_rotated_once_and_then_its_successor_is(rotation, keys, store, clock):
    first, key = await keys.issue(42)
    _, second, second_key = await rotation.rotate(first.id, 2 * DAY)
    with pytest.raises(NotRotatable, match=f"replaced by {second.id}"):
        await rotation.rotate(first.id, DAY)
    _, _, third_key = await rotation.rotate(second.id, DAY)
    clock.now += DAY
    works = [await valid(keys, store, each, clock) for each in (key, second_key, third_key)]
    assert works == [True, False, True]
    assert len(await keys.list()) == 3


@pytest.mark.parametrize("fate", ["revoked", "gone"])
async def test_a_key_whose_successor_got_lost_is_rotated_again(rotation, keys, fate):
    first, _ = await keys.issue(42)
    _, lost, lost_key = await rotation.rotate(first.id, 2 * DAY)
    if fate == "revoked":
        await keys.revoke(lost.id)
    else:
        await rotation._remove(digest(lost_key), lost.id)
    old, new, _ = await rotation.rotate(first.id, DAY, 3600)
    assert (old.replaced_by, old.silent_for) == (new.id, 3600)


async def test_what_is_said_of_both_keys_is_what_redis_holds(rotation, keys):
    first, _ = await keys.issue(42, "laptop", allow="10.0.0.0/8")
    old, new, _ = await rotation.rotate(first.id, DAY, 3600)
    assert old == await keys.show(first.id)
    assert new == await keys.show(new.id)


async def test_once_a_key_is_replaced_its_successor_is_told_whatever_redis_does(
    rotation, keys, store, monkeypatch
):
    first, _ = await keys.issue(42)
    replaced = rotation._replace

    async def and_away(name, fields, change):
        done = await replaced(name, fields, change)
        monkeypatch.setattr(store, "guard", None)  # nothing more can be asked
        return done

    monkeypatch.setattr(rotation, "_replace", and_away)
    _, new, key = await rotation.rotate(first.id, DAY, 3600)
    monkeypatch.undo()
    assert (await keys.find(digest(key))).id == new.id


async def test_a_use_that_is_told_amid_the_judging_keeps_the_key(redis_url, rotation, keys, store):
    first, _ = await keys.issue(42)
    await rotation.rotate(first.id, 7 * DAY, 3600)
    await rotated_ago(store, first.id, 2 * DAY)
    await used(store, first.id, DAY)
    retire = rotation._retire

    async def late(keys, args):
        await used(store, first.id, 0)
        return await retire(keys=keys, args=args)

    rotation._retire = late
    await rotation.judge()
    assert (await keys.show(first.id)).revoked_at is None
    rotation._retire = retire
    await rotation.judge()
    assert (await keys.show(first.id)).revoked_at is None


async def test_a_key_that_is_no_more_is_not_rotated(rotation, keys, clock):
    revoked, _ = await keys.issue(42)
    await keys.revoke(revoked.id)
    expired, _ = await keys.issue(42, expires_at=iso_utc(clock.now + 10))
    clock.now += 10
    for record in (revoked, expired):
        with pytest.raises(NotRotatable, match="revoked or expired"):
            await rotation.rotate(record.id, DAY)
    with pytest.raises(UnknownKeyError):
        await rotation.rotate("k_none", DAY)
    assert len(await keys.list()) == 2


@pytest.mark.parametrize("between", ["revoked", "renamed"])
async def test_what_changes_amid_a_rotation_is_neither_lost_nor_undone(
    rotation, keys, store, between
):
    first, key = await keys.issue(42, "before")
    write = rotation._write

    async def write_late(sha256_hex, fields):
        rotation._write = write
        await write(sha256_hex, fields)
        if between == "revoked":
            await keys.revoke(first.id)
        else:
            await store.client.hset(f"gw:key:{digest(key)}", "name", "after")

    rotation._write = write_late
    if between == "revoked":
        with pytest.raises(NotRotatable):
            await rotation.rotate(first.id, DAY)
        assert [record.id for record in await keys.list()] == [first.id]
        assert [name async for some in store.scan("gw:keyid:*") for name in some] == [
            f"gw:keyid:{first.id}"
        ]
    else:
        _, new, _ = await rotation.rotate(first.id, DAY)
        assert new.name == "after"
        assert len(await keys.list()) == 2


@pytest.mark.parametrize(
    ("rotated", "last_used", "works"),
    [
        pytest.param(0, None, True, id="just rotated, never used"),
        pytest.param(0, 100 * DAY, True, id="just rotated, long unused"),
        pytest.param(3599, None, True, id="never used, and not yet silent for long enough"),
        pytest.param(3601 + SLACK_SECONDS, None, False, id="never used since"),
        pytest.param(3601 + SLACK_SECONDS, 100 * DAY, False, id="last used before"),
        pytest.param(5 * DAY, 3599, True, id="used less long ago"),
        pytest.param(5 * DAY, 0, True, id="used now"),
        pytest.param(5 * DAY, 3601 + SLACK_SECONDS, False, id="silent"),
    ],
)
async def test_a_key_retires_once_it_was_silent_for_long_enough(
    rotation, keys, store, clock, rotated, last_used, works
):
    first, key = await keys.issue(42)
    _, _, new_key = await rotation.rotate(first.id, 7 * DAY, 3600)
    await rotated_ago(store, first.id, rotated)
    if last_used is not None:
        await used(store, first.id, last_used)
    assert await valid(keys, store, key, clock)
    await rotation.judge()
    assert await valid(keys, store, key, clock) is works
    assert await valid(keys, store, new_key, clock)
    assert ((await keys.show(first.id)).revoked_at is None) is works


async def test_a_use_anywhere_keeps_a_key_alive_until_it_falls_silent_again(
    rotation, keys, store, clock
):
    first, key = await keys.issue(42)
    await rotation.rotate(first.id, 7 * DAY, 3600)
    await rotated_ago(store, first.id, 2 * DAY)
    await used(store, first.id, 10)
    await rotation.judge()
    assert await valid(keys, store, key, clock)
    await used(store, first.id, 4000)
    clock.now += 4000
    await rotated_ago(store, first.id, 4000)  # when it is to be looked at again
    await rotation.judge()
    assert not await valid(keys, store, key, clock)


@pytest.mark.parametrize("off_by", [-3600, 3600])
async def test_a_workers_clock_retires_no_key_early(rotation, keys, store, clock, off_by):
    first, _ = await keys.issue(42)
    clock.now += off_by
    await rotation.rotate(first.id, 7 * DAY, 1800)
    clock.now += 3 * 1800
    await rotation.judge()
    assert (await keys.show(first.id)).revoked_at is None


@pytest.mark.parametrize("change", ["revoked", "deleted", "no silence any more"])
async def test_a_key_that_need_not_be_judged_is_not_looked_at_again(rotation, keys, store, change):
    first, key = await keys.issue(42)
    await rotation.rotate(first.id, 7 * DAY, 3600)
    await rotated_ago(store, first.id, DAY)
    name = f"gw:key:{digest(key)}"
    match change:
        case "revoked":
            await keys.revoke(first.id)
        case "deleted":
            await store.client.delete(name)
        case _:
            await store.client.hdel(name, "silent_for")
    before = await store.client.hgetall(name)
    await rotation.judge()
    assert await store.client.zcard("gw:retiring") == 0
    assert await store.client.hgetall(name) == before


async def test_a_silence_that_one_worker_finds_is_heard_by_the_others(redis_url, real_store):
    clock = Clock()
    clock.now = await redis_ms(real_store) / 1000
    keys = Keys(real_store, KeySettings(), Users(real_store, KeySettings()), clock)
    rotation = Rotation(real_store, keys, clock)
    other_store = await Store.open(StoreSettings(url=redis_url, timeout=2))
    other = Keys(other_store, KeySettings(), Users(other_store, KeySettings()), clock)
    first, key = await keys.issue(42)
    await rotation.rotate(first.id, 7 * DAY, 3600)
    assert await valid(other, other_store, key, clock)
    await rotated_ago(real_store, first.id, DAY)
    await rotation.judge()
    assert not await valid(other, other_store, key, clock)
    await other_store.close()


async def test_a_worker_judges_nobody_before_its_own_uses_are_written(
    rotation, keys, store, clock, monkeypatch
):
    monkeypatch.setattr("gateway.store.rotation.ROUND_SECONDS", 0)
    judged = []

    async def judge() -> None:
        judged.append(1)

    rotation.judge = judge
    ledger = Ledger(store, LedgerSettings())
    for settled in (False, True):
        ledger.settled = lambda seconds, settled=settled: settled and seconds == SLACK_SECONDS
        rotation.start(ledger)
        for _ in range(20):
            await asyncio.sleep(0)
        await rotation.close()
        assert bool(judged) is settled

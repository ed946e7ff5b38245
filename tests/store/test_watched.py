import asyncio
from collections.abc import Mapping, Sequence

import pytest

from gateway.errors import StoreUnavailable
from gateway.store.changes import CURRENT_SECONDS, Changes
from gateway.store.watch import Watched


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeRedis:
    """Hashes, read when the test says so: `hold` keeps answers back after they were read."""

    def __init__(self) -> None:
        self.hashes: dict[str, dict[str, str] | None] = {}
        self.calls: list[list[str]] = []
        self.away = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def read(self, names: Sequence[str]) -> list[Mapping[str, str] | None]:
        self.calls.append(list(names))
        answers = [self.hashes.get(name, {}) for name in names]
        await self.may_answer.wait()
        if self.away:
            raise StoreUnavailable
        return answers


class Bench:
    def __init__(self, remember: int = 100, stale_for: float = 300) -> None:
        self.clock = Clock()
        self.changes = Changes("gw", self.clock)
        self.redis = FakeRedis()
        self.copies = Watched(
            self.changes,
            "key",
            self.redis.read,
            lambda _name, fields: fields.get("v"),
            remember=remember,
            stale_for=stale_for,
        )

    def write(self, name: str, value: str) -> None:
        self.redis.hashes[name] = {"v": value}

    async def asked(self) -> None:
        """Return when a call to Redis is under way and has read."""
        calls = len(self.redis.calls)
        for _ in range(10):
            await asyncio.sleep(0)
            if len(self.redis.calls) > calls:
                return
        pytest.fail("Redis was not asked")


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    bench.changes.came_up()
    return bench


def hit(copies: Watched[str], name: str) -> str | None:
    """The value without ever suspending."""
    step = copies.get(name)
    with pytest.raises(StopIteration) as done:
        step.send(None)
    return done.value.value


async def test_a_known_name_is_answered_without_suspending(bench: Bench):
    bench.write("a", "1")
    assert await bench.copies.get("a") == "1"
    assert hit(bench.copies, "a") == "1"
    assert (bench.copies.hits, bench.copies.misses) == (1, 1)


async def test_that_a_name_is_not_there_is_remembered(bench: Bench):
    assert await bench.copies.get("a") is None
    assert hit(bench.copies, "a") is None
    assert bench.redis.calls == [["a"]]


async def test_a_change_is_seen_by_the_next_who_asks(bench: Bench):
    assert await bench.copies.get("a") is None
    bench.write("a", "1")
    bench.changes.changed("gw:key:a")
    assert await bench.copies.get("a") == "1"


async def test_changes_of_other_spaces_and_names_leave_a_copy(bench: Bench):
    bench.write("a", "1")
    await bench.copies.get("a")
    for key in ("gw:user:a", "gw:keyid:a", "gw:key:b", "gw:key:a:b", "other:key:a", "gw:key"):
        bench.changes.changed(key)
    assert hit(bench.copies, "a") == "1"


async def test_misses_of_one_turn_share_one_call_and_those_of_one_name_one_answer(bench: Bench):
    for name in "abc":
        bench.write(name, name.upper())
    answers = await asyncio.gather(*(bench.copies.get(name) for name in "abcaacb"))
    assert "".join(filter(None, answers)) == "ABCAACB"
    assert bench.redis.calls == [["a", "b", "c"]]


async def test_who_asks_while_a_call_is_under_way_shares_its_answer(bench: Bench):
    bench.write("a", "1")
    bench.redis.may_answer.clear()
    first = asyncio.create_task(bench.copies.get("a"))
    await bench.asked()
    second = asyncio.create_task(bench.copies.get("a"))
    await asyncio.sleep(0)
    bench.redis.may_answer.set()
    assert await asyncio.gather(first, second) == ["1", "1"]
    assert bench.redis.calls == [["a"]]


async def test_one_who_leaves_does_not_end_the_call_for_the_others(bench: Bench):
    bench.write("a", "1")
    bench.redis.may_answer.clear()
    leaver = asyncio.create_task(bench.copies.get("a"))
    stayer = asyncio.create_task(bench.copies.get("a"))
    await bench.asked()
    leaver.cancel()
    await asyncio.sleep(0)
    bench.redis.may_answer.set()
    assert await stayer == "1"
    assert hit(bench.copies, "a") == "1"


def tell(changes: Changes, news: str) -> None:
    if news == "changed":
        changes.changed("gw:key:a")
    elif news == "all_changed":
        changes.all_changed()
    else:
        changes.went_down(changes.clock())
        changes.came_up()


@pytest.mark.parametrize("news", ["changed", "all_changed", "came_up"])
async def test_what_changed_while_its_answer_was_on_the_way_is_not_kept(bench: Bench, news: str):
    bench.write("a", "old")
    bench.redis.may_answer.clear()
    early = asyncio.create_task(bench.copies.get("a"))
    await bench.asked()
    bench.write("a", "new")
    tell(bench.changes, news)
    bench.redis.may_answer.set()
    assert await early == "old"
    assert await bench.copies.get("a") == "new"


@pytest.mark.parametrize("news", ["changed", "all_changed", "came_up"])
async def test_who_asks_after_a_change_gets_no_answer_from_before_it(bench: Bench, news: str):
    bench.write("a", "old")
    bench.redis.may_answer.clear()
    early = asyncio.create_task(bench.copies.get("a"))
    await bench.asked()
    bench.write("a", "new")
    tell(bench.changes, news)
    late = asyncio.create_task(bench.copies.get("a"))
    await bench.asked()
    bench.redis.may_answer.set()
    assert (await early, await late) == ("old", "new")
    assert hit(bench.copies, "a") == "new"


async def test_a_change_between_asking_and_departing_makes_two_lookups(bench: Bench):
    bench.write("a", "1")
    early = asyncio.create_task(bench.copies.get("a"))
    await asyncio.sleep(0)
    assert bench.redis.calls == []
    bench.changes.changed("gw:key:a")
    late = asyncio.create_task(bench.copies.get("a"))
    assert await asyncio.gather(early, late) == ["1", "1"]
    assert hit(bench.copies, "a") == "1"


async def test_the_one_unused_for_longest_goes_first():
    bench = Bench(remember=2)
    bench.changes.came_up()
    for name in "abc":
        bench.write(name, name)
    for name in "ab":
        await bench.copies.get(name)
    hit(bench.copies, "a")
    await bench.copies.get("c")
    assert len(bench.copies) == 2
    assert hit(bench.copies, "a") == "a"
    await bench.copies.get("b")
    assert bench.redis.calls == [["a"], ["b"], ["c"], ["b"]]


async def test_names_that_are_not_there_have_a_bounded_room_and_drive_out_no_copy():
    bench = Bench(remember=100)
    bench.changes.came_up()
    bench.write("a", "1")
    await bench.copies.get("a")
    made_up = [f"made up {number}" for number in range(1000)]
    for start in range(0, 1000, 250):
        await asyncio.gather(*map(bench.copies.get, made_up[start : start + 250]))
    assert len(bench.copies) == 1 + 100 // 10
    assert len(bench.redis.calls) == 1 + 4, "lookups of a turn go together"
    for name in made_up[-10:]:
        assert hit(bench.copies, name) is None
    assert hit(bench.copies, "a") == "1"


async def test_while_nothing_is_heard_a_copy_is_good_for_stale_for_seconds(bench: Bench):
    bench.write("a", "1")
    await bench.copies.get("a")
    bench.redis.away = True
    bench.changes.went_down(bench.clock.now)
    bench.clock.now += 299.9
    assert hit(bench.copies, "a") == "1"
    bench.clock.now += 0.1
    with pytest.raises(StoreUnavailable):
        await bench.copies.get("a")


async def test_while_nothing_is_heard_not_being_there_says_nothing(bench: Bench):
    assert await bench.copies.get("a") is None
    bench.redis.away = True
    bench.changes.went_down(bench.clock.now)
    with pytest.raises(StoreUnavailable):
        await bench.copies.get("a")


async def test_if_redis_can_be_asked_but_not_heard_every_answer_is_fresh(bench: Bench):
    bench.changes.went_down(bench.clock.now)
    for value in ("1", "2"):
        bench.write("a", value)
        assert await bench.copies.get("a") == value
    assert len(bench.copies) == 0


async def test_when_changes_are_heard_again_every_copy_goes(bench: Bench):
    bench.write("a", "1")
    await bench.copies.get("a")
    bench.changes.went_down(bench.clock.now)
    bench.write("a", "2")
    bench.changes.came_up()
    assert await bench.copies.get("a") == "2"
    assert hit(bench.copies, "a") == "2"


async def test_everyone_who_waits_gets_an_error_of_their_own(bench: Bench):
    bench.redis.away = True
    errors = await asyncio.gather(
        *(bench.copies.get("a") for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(error, StoreUnavailable) for error in errors)
    assert len({id(error) for error in errors}) == 3
    bench.redis.away = False
    assert await bench.copies.get("a") is None


async def test_one_unreadable_name_does_not_spoil_the_others(bench: Bench):
    bench.redis.hashes["bad"] = None
    bench.write("good", "1")
    bad, good = await asyncio.gather(
        bench.copies.get("bad"), bench.copies.get("good"), return_exceptions=True
    )
    assert isinstance(bad, StoreUnavailable)
    assert good == "1"


async def test_an_answer_that_breaks_the_parser_is_logged_and_unavailable(caplog):
    def parse(_name, fields):
        raise KeyError("v")

    changes = Changes("gw")
    changes.came_up()
    redis = FakeRedis()
    redis.hashes["a"] = {"w": "1"}
    copies = Watched(changes, "key", redis.read, parse, remember=1, stale_for=1)
    with pytest.raises(StoreUnavailable):
        await copies.get("a")
    assert "could not be read" in caplog.text


async def test_who_stood_still_asks_redis_until_it_was_heard_again(bench: Bench):
    bench.write("a", "1")
    bench.changes.heard_all(bench.clock())
    assert await bench.copies.get("a") == "1"
    bench.redis.may_answer.clear()
    before = asyncio.create_task(bench.copies.get("b"))
    await bench.asked()
    bench.clock.now += CURRENT_SECONDS  # the news of these is in the socket, unread
    bench.write("a", "2")
    bench.write("b", "2")
    bench.redis.may_answer.set()
    assert await bench.copies.get("a") == "2"
    assert await asyncio.gather(before, bench.copies.get("b")) == [None, "2"]
    for name in ("a", "b"):
        bench.changes.changed(f"gw:key:{name}")
    bench.changes.heard_all(bench.clock())
    assert await bench.copies.get("a") == "2"
    assert hit(bench.copies, "a") == "2"


async def test_who_stood_still_and_gets_no_answer_goes_by_the_copy_for_a_while(bench: Bench):
    bench.write("a", "1")
    bench.changes.heard_all(bench.clock())
    assert await bench.copies.get("a") == "1"
    assert await bench.copies.get("b") is None
    bench.redis.away = True
    bench.clock.now += CURRENT_SECONDS + 299
    assert await bench.copies.get("a") == "1"
    with pytest.raises(StoreUnavailable):
        await bench.copies.get("b")
    bench.clock.now += 1
    with pytest.raises(StoreUnavailable):
        await bench.copies.get("a")


async def test_a_copy_whose_change_is_heard_while_redis_is_asked_is_gone_for_good(bench: Bench):
    bench.write("a", "1")
    bench.changes.heard_all(bench.clock())
    assert await bench.copies.get("a") == "1"
    bench.clock.now += CURRENT_SECONDS
    bench.redis.may_answer.clear()
    asked = asyncio.create_task(bench.copies.get("a"))
    await bench.asked()
    bench.changes.changed("gw:key:a")
    bench.redis.away = True
    bench.redis.may_answer.set()
    with pytest.raises(StoreUnavailable):
        await asked


async def test_what_is_told_while_changes_are_not_heard_makes_no_copy_current(bench: Bench):
    bench.write("a", "1")
    assert await bench.copies.get("a") == "1"
    bench.changes.went_down(since=bench.clock() - 300)
    bench.changes.heard_all(bench.clock())
    bench.write("a", "2")
    assert await bench.copies.get("a") == "2"

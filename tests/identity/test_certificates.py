import asyncio
import json
from typing import Any

import pytest
from aiohttp import ClientSession
from redis_process import eventually
from stand_ins import Fault, GoogleStandIn, certificate, ec_key, rsa_key

from gateway.errors import DependencyUnavailable
from gateway.identity import certificates
from gateway.identity.certificates import ProviderKeys
from gateway.identity.google import parse_certificates
from gateway.identity.verification import VerificationKey

KEPT_FOR = 86_400.0
FIRST, SECOND = map(VerificationKey.of, (rsa_key().public_key(), rsa_key("second").public_key()))


class Clock:
    """Monotonic seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def session():
    async with ClientSession() as opened:
        yield opened


@pytest.fixture
async def google():
    async with GoogleStandIn() as started:
        yield started


@pytest.fixture
async def keys(session, google, clock):
    made = ProviderKeys(
        session, google.url, parse_certificates, kept_for=KEPT_FOR, timeout=60, clock=clock
    )
    yield made
    await made.close()


async def unavailable(keys: ProviderKeys[Any], key_id: str = "google-1") -> DependencyUnavailable:
    with pytest.raises(DependencyUnavailable) as caught:
        await keys.get(key_id)
    assert caught.value.status == 503
    assert caught.value.reason == "provider_unavailable"
    return caught.value


def retry_after(error: DependencyUnavailable) -> str:
    return dict(error.headers)["Retry-After"]


async def test_a_known_key_is_fetched_once(keys, google):
    for _ in range(10):
        assert await keys.get("google-1") == FIRST
    assert google.asked == 1


async def test_fifty_who_come_at_once_cause_one_fetch(keys, google):
    google.fault = Fault.SLOW
    waiting = [asyncio.create_task(keys.get("google-1")) for _ in range(50)]
    while not google.asked:
        await asyncio.sleep(0)
    google.release()
    assert await asyncio.gather(*waiting) == [FIRST] * 50
    assert google.asked == 1


async def test_a_client_that_leaves_does_not_take_the_fetch_from_the_others(keys, google):
    google.fault = Fault.SLOW
    first, second = (asyncio.create_task(keys.get("google-1")) for _ in range(2))
    while not google.asked:
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    google.release()
    assert await second == FIRST
    assert google.asked == 1


@pytest.mark.parametrize(
    ("cache_control", "age", "seconds"),
    [
        ("public, max-age=600, must-revalidate", None, 600),
        ("PUBLIC,MAX-AGE=600", None, 600),
        ('max-age="600"', None, 600),
        ("max-age=600", "100", 500),
        ("max-age=600", "soon", 600),
        ("max-age=600", "9" * 400, 60),
        ("max-age=5", None, 60),
        ("max-age=0", None, 60),
        ("no-store", None, 60),
        ("no-cache, max-age=600", None, 60),
        ("max-age=31536000", None, 86400),
        ("max-age=" + "9" * 400, None, 86400),
        ("s-maxage=600", None, 3600),
        ("max-age=-1", None, 3600),
        ("public", None, 3600),
        (None, None, 3600),
    ],
)
async def test_keys_are_good_for_the_max_age_that_came_with_them(
    keys, google, clock, cache_control, age, seconds
):
    google.cache_control, google.age = cache_control, age
    await keys.get("google-1")
    clock.now += seconds - 0.5
    await keys.get("google-1")
    assert google.asked == 1
    clock.now += 0.5
    await keys.get("google-1")
    assert google.asked == 2


async def test_a_key_id_that_is_new_at_the_provider_is_found_by_a_fetch_of_its_own(
    keys, google, clock
):
    await keys.get("google-1")
    google.keys["google-2"] = rsa_key("second")
    clock.now += 30
    assert await keys.get("google-2") == SECOND
    assert google.asked == 2


async def test_unknown_key_ids_cause_one_fetch_in_thirty_seconds(keys, google, clock):
    await keys.get("google-1")
    for _ in range(60):  # a minute of them, one a second
        clock.now += 1
        assert await keys.get("made-up") is None
    assert google.asked == 3


async def test_a_key_that_the_provider_withdrew_is_gone_after_the_next_fetch(keys, google, clock):
    await keys.get("google-1")
    google.keys = {"google-2": rsa_key("second")}
    clock.now += 3600
    assert await keys.get("google-1") is None


@pytest.mark.parametrize(
    ("fault", "requests"),  # per fetch: aiohttp sends a GET that was dropped once more
    [(Fault.DOWN, 2), (Fault.FAILING, 1), (Fault.WRONG_CONTENT, 1)],
)
class TestAProviderThatIsAway:
    async def test_from_the_start_is_a_503_and_no_flood_of_fetches(
        self, keys, google, clock, fault, requests
    ):
        google.fault = fault
        for _ in range(20):
            assert retry_after(await unavailable(keys)) == "5"
        assert google.asked == requests
        clock.now += 4.5
        assert retry_after(await unavailable(keys)) == "1"
        google.fault = None
        clock.now += 0.5
        assert await keys.get("google-1")

    async def test_later_on_leaves_the_old_keys_in_use_for_as_long_as_is_set(
        self, keys, google, clock, fault, requests
    ):
        await keys.get("google-1")
        google.fault = fault
        clock.now += 3600
        for _ in range(23):
            assert await keys.get("google-1") == FIRST
            assert await keys.get("google-1") == FIRST
            clock.now += 3600
        assert google.asked == 1 + 23 * requests
        clock.now += 3600 - 0.5
        assert await keys.get("google-1") == FIRST
        clock.now += 0.5
        await unavailable(keys)
        google.fault = None
        clock.now += 30
        assert await keys.get("google-1") == FIRST

    async def test_keeps_nobody_waiting_who_has_a_known_key(
        self, keys, google, clock, fault, requests
    ):
        await keys.get("google-1")
        google.fault = fault
        clock.now += 3600
        await keys.get("google-1")
        google.fault = Fault.SLOW
        clock.now += 30
        keys.sweep()
        for _ in range(30):
            assert await keys.get("google-1") == FIRST
            assert not keys.is_quiet
            clock.now += 0.9
        google.release()

    async def test_makes_an_unknown_key_id_a_503_not_a_401(
        self, keys, google, clock, fault, requests
    ):
        await keys.get("google-1")
        google.fault = fault
        clock.now += 30
        for _ in range(20):
            assert retry_after(await unavailable(keys, "new")) == "30"
        assert google.asked == 1 + requests
        google.fault = None
        google.keys["new"] = rsa_key("second")
        clock.now += 30
        assert await keys.get("new") == SECOND


async def test_a_provider_that_does_not_answer_is_given_up_on(session, google):
    google.fault = Fault.SLOW
    await unavailable(
        ProviderKeys(session, google.url, parse_certificates, kept_for=0, timeout=0.05)
    )


async def background_fetch(keys, google, asked):
    """Return when it has come; it did come."""
    keys.sweep()
    await eventually(lambda: google.asked == asked and keys.is_quiet)


class TestRefreshingAhead:
    """Keys of an hour."""

    async def test_keys_in_use_are_fetched_anew_before_they_end_and_nobody_waits(
        self, keys, google, clock
    ):
        await keys.get("google-1")
        for hour in range(10):
            clock.now += 2879.5
            await keys.get("google-1")
            keys.sweep()
            assert keys.is_quiet
            clock.now += 0.5
            google.fault = Fault.SLOW
            keys.sweep()
            await eventually(lambda expected=hour + 2: google.asked == expected)
            assert await keys.get("google-1") == FIRST  # while the fetch is under way
            google.release()
            await eventually(lambda: keys.is_quiet)
        assert google.asked == 11

    async def test_a_key_that_is_withdrawn_is_gone_and_a_new_one_there(self, keys, google, clock):
        await keys.get("google-1")
        google.keys = {"google-2": rsa_key("second")}
        clock.now += 2880
        await background_fetch(keys, google, 2)
        assert await keys.get("google-1") is None
        assert await keys.get("google-2") == SECOND

    async def test_where_nobody_signs_in_nobody_is_asked(self, keys, google, clock):
        keys.sweep()
        assert keys.is_quiet
        await keys.get("google-1")
        clock.now += 2880
        await background_fetch(keys, google, 2)  # the keys were used within the hour
        for _ in range(48):
            clock.now += 1800
            keys.sweep()
            assert keys.is_quiet
        assert google.asked == 2
        assert await keys.get("google-1") == FIRST  # who comes then waits for a fetch
        assert google.asked == 3

    async def test_a_failure_is_made_good_after_half_a_minute(self, keys, google, clock):
        await keys.get("google-1")
        google.fault = Fault.FAILING
        clock.now += 2880
        await background_fetch(keys, google, 2)
        clock.now += 29.5
        keys.sweep()
        assert keys.is_quiet
        google.fault = None
        clock.now += 0.5
        await background_fetch(keys, google, 3)

    async def test_a_provider_that_stays_away_is_left_alone_when_nobody_asks(
        self, keys, google, clock
    ):
        await keys.get("google-1")
        google.fault = Fault.FAILING
        for _ in range(1000):
            clock.now += 30
            keys.sweep()
            await eventually(lambda: keys.is_quiet)
        assert google.asked == 1 + 24  # each half minute of the last fifth of the hour

    async def test_keys_that_must_not_be_kept_are_fetched_each_minute_at_most(
        self, keys, google, clock
    ):
        google.cache_control = "no-store"
        for _ in range(600):
            await keys.get("google-1")
            clock.now += 1
            keys.sweep()
            await eventually(lambda: keys.is_quiet)
        assert google.asked == 1 + 600 // 48


class TestKeysOfWhichHalfAreSpoiled:
    @pytest.fixture(autouse=True)
    def two_keys(self, google):
        google.keys = {"spoiled": rsa_key(), "good": rsa_key("second")}

    async def test_the_others_are_used_and_these_can_not_be_had(self, keys, google, clock):
        google.fault = Fault.HALF_WRONG
        assert await keys.get("good") == SECOND
        for _ in range(20):
            assert retry_after(await unavailable(keys, "spoiled")) == "30"
        assert google.asked == 1
        assert await keys.get("made-up") is None  # it is not on the list
        google.fault = None
        clock.now += 30
        assert await keys.get("spoiled") == FIRST

    async def test_what_they_were_before_stays_in_use(self, keys, google, clock):
        await keys.get("spoiled")
        google.fault = Fault.HALF_WRONG
        clock.now += 3600
        assert await keys.get("spoiled") == FIRST
        assert await keys.get("good") == SECOND
        assert google.asked == 2
        google.keys.pop("spoiled")
        google.fault = None
        clock.now += 3600
        assert await keys.get("spoiled") is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"google-1": null}',
        b'{"google-1": "not a certificate"}',
        b'{"google-1": "\\ud800"}',
        b'{"error": {"code": 404}}',
        b'{"google-1": ' + b"[" * 100_000,
        b'{"a": 1, "a": 2}',
    ],
)
async def test_what_is_no_set_of_certificates_is_as_if_it_had_not_come(keys, google, clock, body):
    google.body = body
    await unavailable(keys)
    google.body = None
    clock.now += 5
    assert await keys.get("google-1")
    google.body = body
    clock.now += 3600
    assert await keys.get("google-1")
    assert google.asked == 3


async def test_an_answer_of_more_than_64_kib_is_not_read(keys, google, clock):
    document = json.dumps({"google-1": certificate(rsa_key())}).encode()
    google.body = document.ljust(certificates.MAX_ANSWER_BYTES + 1)
    await unavailable(keys)
    google.body = document.ljust(certificates.MAX_ANSWER_BYTES)
    clock.now += 5
    assert await keys.get("google-1") == FIRST


def test_a_certificate_with_a_key_that_is_too_short_or_not_rsa_is_as_good_as_none():
    document = {"short": certificate(rsa_key("short", 1024)), "curve": certificate(ec_key())}
    assert parse_certificates(document) == {"short": None, "curve": None}


@pytest.mark.parametrize(
    "fault", [fault for fault in Fault if fault not in (Fault.HALF_WRONG, Fault.SLOW)]
)
async def test_whatever_goes_wrong_is_an_outage_and_ends(keys, google, clock, fault):
    google.fault = fault
    keys.timeout = 0.2 if fault is Fault.DRIPPING else 60
    await unavailable(keys)
    google.fault, keys.timeout = None, 60
    clock.now += 5
    assert await keys.get("google-1") == FIRST


async def test_a_fault_of_our_own_is_an_outage_and_no_more_often_asked(session, google, clock):
    def broken(_document):
        raise KeyError("a bug")

    keys = ProviderKeys(session, google.url, broken, kept_for=0, timeout=5, clock=clock)
    for _ in range(3):
        await unavailable(keys)
    assert google.asked == 1


async def test_a_fetch_under_way_ends_with_the_keys(keys, google):
    google.fault = Fault.SLOW
    waiting = asyncio.create_task(keys.get("google-1"))
    while not google.asked:
        await asyncio.sleep(0)
    await keys.close()
    await asyncio.wait([waiting])
    assert waiting.cancelled()

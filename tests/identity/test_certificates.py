import asyncio
import json
from typing import Any

import pytest
from aiohttp import ClientSession
from stand_ins import Fault, GoogleStandIn, certificate, ec_key, rsa_key

from gateway.errors import DependencyUnavailable
from gateway.identity import certificates
from gateway.identity.certificates import ProviderKeys
from gateway.identity.google import parse_certificates


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
    made: ProviderKeys[str] = ProviderKeys(session, google.url, parse_certificates, clock=clock)
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
        assert await keys.get("google-1") == certificate(rsa_key())
    assert google.asked == 1


async def test_fifty_who_come_at_once_cause_one_fetch(keys, google):
    google.fault = Fault.SLOW
    waiting = [asyncio.create_task(keys.get("google-1")) for _ in range(50)]
    while not google.asked:
        await asyncio.sleep(0)
    google.release()
    assert set(await asyncio.gather(*waiting)) == {certificate(rsa_key())}
    assert google.asked == 1


async def test_a_client_that_leaves_does_not_take_the_fetch_from_the_others(keys, google):
    google.fault = Fault.SLOW
    first, second = (asyncio.create_task(keys.get("google-1")) for _ in range(2))
    while not google.asked:
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    google.release()
    assert await second == certificate(rsa_key())
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
    assert await keys.get("google-2") == certificate(rsa_key("second"))
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

    async def test_later_on_leaves_the_old_keys_in_use(self, keys, google, clock, fault, requests):
        await keys.get("google-1")
        google.fault = fault
        for _ in range(100):
            clock.now += 3600
            assert await keys.get("google-1") == certificate(rsa_key())
            assert await keys.get("google-1") == certificate(rsa_key())
        assert google.asked == 1 + 100 * requests

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
        assert await keys.get("new") == certificate(rsa_key("second"))


async def test_a_provider_that_does_not_answer_is_given_up_on(keys, google, monkeypatch):
    assert certificates.FETCH_TIMEOUT_SECONDS == 5
    monkeypatch.setattr(certificates, "FETCH_TIMEOUT_SECONDS", 0.05)
    google.fault = Fault.SLOW
    await unavailable(keys)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"google-1": null}',
        b'{"google-1": "not a certificate"}',
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


async def test_an_answer_of_more_than_a_mebibyte_is_not_read(keys, google, clock):
    document = json.dumps({"google-1": certificate(rsa_key())}).encode()
    google.body = document.ljust(certificates.MAX_ANSWER_BYTES + 1)
    await unavailable(keys)
    google.body = document.ljust(certificates.MAX_ANSWER_BYTES)
    clock.now += 5
    assert await keys.get("google-1") == certificate(rsa_key())


async def test_a_certificate_with_a_key_that_is_too_short_or_not_rsa_spoils_the_set(keys, google):
    google.keys = {"google-1": rsa_key(), "short": rsa_key("short", 1024)}
    await unavailable(keys)
    with pytest.raises(ValueError, match="RSA"):
        parse_certificates({"google-1": certificate(ec_key())})


async def test_a_fetch_under_way_ends_with_the_keys(keys, google):
    google.fault = Fault.SLOW
    waiting = asyncio.create_task(keys.get("google-1"))
    while not google.asked:
        await asyncio.sleep(0)
    await keys.close()
    await asyncio.wait([waiting])
    assert waiting.cancelled()

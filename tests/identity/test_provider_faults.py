"""What clients see of a provider's trouble, whatever the gateway knows by then: a whole gateway,
over HTTP, with the clock of its keys in the test's hand.
"""

import asyncio

import pytest
from aiohttp import ClientSession
from harness import open_gateway, route, upstream
from redis_process import eventually
from sign_ins import OUTCOMES, STATES, WAYS, patience, sign_in, trouble
from stand_ins import Fault, rsa_key

HOUR = 3600.0
KEPT_FOR = 7200


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """A gateway, the provider that it asks, and the clock that the provider's keys age by."""

    def __init__(self, way, gateway, provider, session):
        self.way, self.provider = way, provider
        self.keys = getattr(gateway.parts, way.name).keys
        self.clock = self.keys.clock = Clock()
        self._session, self._url = session, gateway.url

    def trouble(self, case):
        trouble(self.provider, case)
        self.keys.timeout = patience(case)

    async def sign_in(self, token=None, **more):
        """The status."""
        return (
            await sign_in(
                self._session, self._url, self.way, token or self.provider.token(), **more
            )
        )[0]


@pytest.fixture(params=WAYS, ids=[way.name for way in WAYS])
async def scene(request, tmp_path):
    way = request.param
    settings = {"sign_in": {"requests": 1000}, "rate_limit": {"enabled": False}}
    async with way.stand_in() as provider, ClientSession() as session:
        provider.keys["another"] = rsa_key("second")
        own = provider.settings(keys_kept_for=KEPT_FOR)
        settings[way.name] = own.model_dump(mode="json")
        routes = {"upstreams": upstream("http://127.0.0.1:1"), "routes": [route()]}
        async with open_gateway(tmp_path, routes, settings) as gateway:
            yield Scene(way, gateway, provider, session)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("case", OUTCOMES)
async def test_a_client_is_told_the_truth(scene, case, state):
    provider = scene.provider
    token = provider.token("made-up") if state == "another" else provider.token()
    if state != "none":
        assert await scene.sign_in() == 200
    scene.clock.now += {"expired": HOUR, "too old": HOUR + KEPT_FOR, "another": 30}.get(state, 0)
    asked = provider.asked
    scene.trouble(case)
    expected = OUTCOMES[case][STATES.index(state)]
    assert [await scene.sign_in(token) for _ in range(3)] == [expected] * 3
    if state == "known":
        assert provider.asked == asked
    else:  # aiohttp asks once more where a connection that it kept is closed
        assert asked + 1 <= provider.asked <= asked + 1 + (case in ("down", "cut"))


@pytest.mark.parametrize("case", OUTCOMES)
async def test_keys_in_use_are_fetched_ahead_and_no_client_notices(scene, case):
    provider = scene.provider
    token = provider.token()
    assert await scene.sign_in(token) == 200
    scene.trouble(case)
    scene.clock.now += HOUR * 0.9
    await eventually(lambda: provider.asked >= 2)
    if case != "rotated":
        assert await scene.sign_in(token) == 200
    await eventually(lambda: scene.keys.is_quiet)
    assert await scene.sign_in(token) == (401 if case == "rotated" else 200)
    assert await scene.sign_in(provider.token(next(iter(provider.keys)))) == 200


async def test_a_key_that_is_new_at_the_provider_signs_in_at_once(scene):
    assert await scene.sign_in() == 200
    scene.clock.now += 30
    scene.trouble("rotated")
    assert await scene.sign_in(scene.provider.token("new")) == 200
    assert scene.provider.asked == 2


@pytest.mark.parametrize("fault", [None, Fault.FAILING])
async def test_a_storm_of_made_up_keys_causes_one_fetch_in_thirty_seconds(scene, fault):
    provider = scene.provider
    assert await scene.sign_in() == 200
    provider.fault = fault
    for seconds in range(61):
        made_up = [provider.token(f"made-up-{seconds}-{number}") for number in range(3)]
        statuses = await asyncio.gather(*map(scene.sign_in, made_up))
        # Before the first fetch for them, the last answer was that there are no others.
        assert set(statuses) == ({503} if fault and seconds >= 30 else {401})
        assert provider.asked == 1 + seconds // 30
        assert await scene.sign_in() == 200
        scene.clock.now += 1


async def test_a_first_storm_of_made_up_keys_is_one_fetch_for_all(scene):
    provider = scene.provider
    made_up = [provider.token(f"made-up-{number}") for number in range(200)]
    assert set(await asyncio.gather(*map(scene.sign_in, made_up))) == {401}
    assert provider.asked == 1


async def test_while_the_first_fetch_is_slow_all_wait_for_it_and_are_served(scene):
    provider = scene.provider
    provider.fault = Fault.SLOW
    waiting = [asyncio.create_task(scene.sign_in()) for _ in range(50)]
    await eventually(lambda: provider.asked == 1)
    provider.release()
    assert set(await asyncio.gather(*waiting)) == {200}
    assert provider.asked == 1


async def test_all_is_well_again_when_the_provider_is(scene):
    provider = scene.provider
    provider.fault = Fault.FAILING
    assert await scene.sign_in() == 503
    provider.fault = None
    assert await scene.sign_in() == 503  # it is asked again after five seconds, as Retry-After says
    scene.clock.now += 5
    assert await scene.sign_in() == 200
    assert provider.asked == 2


async def test_the_other_of_two_keys_signs_in_though_one_is_spoiled(scene):
    provider = scene.provider
    provider.fault = Fault.HALF_WRONG
    assert await scene.sign_in(provider.token("another")) == 200
    assert await scene.sign_in() == 503

"""Sign-in at a live gateway: a process of its own, before providers with every fault they can have.

One gateway serves all tests; each has providers of its own, which it tells the gateway by a reload:
their keys are then unknown there.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any

import pytest
from aiohttp import ClientSession
from gateway_process import GatewayProcess
from harness import route, upstream
from redis_process import eventually
from reloads import TOKEN, reload
from sign_ins import OUTCOMES, STATES, WAYS, Way, patience, sign_in, trouble
from stand_ins import Fault, KeyPublisher, rsa_key

LIMIT = 20


class Served:
    """A gateway and the settings that it has."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.numbers = count()
        self.own: dict[str, Any] = {
            "admin": {"token": TOKEN},
            "rate_limit": {"requests": 100_000},
            "sign_in": {"requests": 10_000},
            "client_ip": {"trusted_proxies": ["127.0.0.1/32"]},
        }
        self._write({})
        routes = {"version": 1, "upstreams": upstream("http://127.0.0.1:1"), "routes": [route()]}
        self.process = GatewayProcess(
            folder / "gateway", config=folder / "gateway.yaml", routes=routes
        )

    def _write(self, more: dict[str, Any]) -> None:
        (self.folder / "gateway.yaml").write_text(json.dumps(self.own | more))

    async def use(self, more: dict[str, Any]) -> None:
        """Take other settings, beside its own."""
        self._write(more)
        code, said, _ = await asyncio.to_thread(reload, self.process)
        assert code == 0, said

    async def ask(self, way: Way, provider: KeyPublisher, **more: Any) -> None:
        """From now on it asks `provider`, of whose keys it knows none."""
        address = f"{provider.url}?{next(self.numbers)}"
        name = "certificates_url" if way.name == "google" else "keys_url"
        own = provider.settings(**{name: address, **more})
        await self.use({way.name: own.model_dump(mode="json")})


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("served"))
    with served.process as process:
        process.start()
        yield served


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as opened:
        yield opened


@pytest.fixture(params=WAYS, ids=[way.name for way in WAYS])
def way(request) -> Way:
    return request.param


@pytest.fixture
async def provider(way) -> AsyncIterator[KeyPublisher]:
    async with way.stand_in() as started:
        started.keys["another"] = rsa_key("second")
        yield started


@pytest.mark.parametrize("case", OUTCOMES)
async def test_a_client_is_told_the_truth(served, session, way, provider, case):
    url, token = served.process.url, provider.token()
    await served.ask(way, provider)
    assert (await sign_in(session, url, way, token))[0] == 200
    made_up = provider.token("made-up")
    trouble(provider, case)
    outcomes = dict(zip(STATES, OUTCOMES[case], strict=True))
    assert (await sign_in(session, url, way, token))[0] == outcomes["known"]
    # Within half a minute, the provider's last word on its keys is taken.
    assert (await sign_in(session, url, way, made_up))[0] == 401
    assert provider.asked == 1
    await served.ask(way, provider, timeout=patience(case))
    assert (await sign_in(session, url, way, token))[0] == outcomes["none"]
    assert (await sign_in(session, url, way, made_up))[0] == outcomes["another"]


async def test_a_storm_of_made_up_keys_causes_one_fetch(served, session, way, provider):
    await served.ask(way, provider)
    tokens = [provider.token(f"made-up-{number}") for number in range(300)]
    url = served.process.url
    answers = await asyncio.gather(*(sign_in(session, url, way, token) for token in tokens))
    assert {status for status, _ in answers} == {401}
    assert provider.asked == 1


async def test_keys_at_hand_outlast_a_change_of_other_settings(served, session, way, provider):
    await served.ask(way, provider)
    url, token = served.process.url, provider.token(nonce="kept")
    assert (await sign_in(session, url, way, token))[0] == 200
    provider.fault = Fault.DOWN
    config = json.loads((served.folder / "gateway.yaml").read_text())
    await served.use({way.name: config[way.name] | {"nonce": "required"}})
    assert (await sign_in(session, url, way, token, nonce="kept"))[0] == 200
    status, said = await sign_in(session, url, way, token)
    problem = {"loc": ["body", "nonce"], "msg": "Field required", "type": "missing"}
    assert (status, said) == (422, {"detail": [problem]})
    assert provider.asked == 1


async def test_a_token_over_16_kib_is_a_422_and_nobody_is_asked(served, session, way, provider):
    await served.ask(way, provider)
    status, said = await sign_in(session, served.process.url, way, "x" * 16385)
    assert (status, said["detail"][0]["type"]) == (422, "string_too_long")
    assert said["detail"][0]["loc"] == ["body", way.field]
    status, _ = await sign_in(session, served.process.url, way, "x" * 16384)
    assert (status, provider.asked) == (401, 0)


async def test_a_token_signs_in_once_where_that_is_asked_for(served, session, way, provider):
    url, token = served.process.url, provider.token()
    await served.ask(way, provider)
    for _ in range(2):
        assert (await sign_in(session, url, way, token))[0] == 200
    config = json.loads((served.folder / "gateway.yaml").read_text())
    once = config["sign_in"] | {"replay": "refuse"}
    await served.use({way.name: config[way.name], "sign_in": once})
    answers = [(await sign_in(session, url, way, token))[0] for _ in range(3)]
    assert answers == [200, 401, 401]

    def told() -> int:
        log = served.process.access_log()
        return sum((line["path"], line["reason"]) == (way.path, "token_replayed") for line in log)

    await eventually(lambda: told() == 2)


async def test_sign_in_has_a_limit_of_its_own_over_both_providers(served):
    google, apple = (way.stand_in() for way in WAYS)
    stranger = {"X-Forwarded-For": "203.0.113.7"}  # who has not come before
    async with google, apple, ClientSession(headers=stranger) as session:
        await served.use(
            {
                "sign_in": {"requests": LIMIT, "window": 600},
                "google": google.settings().model_dump(mode="json"),
                "apple": apple.settings().model_dump(mode="json"),
            }
        )
        url = served.process.url
        for number in range(LIMIT):
            async with session.post(url + WAYS[number % 2].path, data=b"{}") as answer:
                assert answer.status == 422
                assert answer.headers["RateLimit-Policy"] == (
                    f'"ip";q=100000;w=60, "sign-in";q={LIMIT};w=600'
                )
                assert f'"sign-in";r={LIMIT - 1 - number};t=' in answer.headers["RateLimit"]
        for way, provider in zip(WAYS, (google, apple), strict=True):
            status, said = await sign_in(session, url, way, provider.token())
            assert (status, said) == (
                429,
                {"detail": "请求过于频繁。每个 IP 每 600 秒最多允许 20 次请求。"},
            )
        assert (google.asked, apple.asked) == (0, 0)
        async with session.get(url + "/nowhere/at/all") as answer:
            assert "sign-in" not in answer.headers["RateLimit-Policy"]

import asyncio
import json
import time

import pytest
from aiohttp import ClientSession
from exchanges import exchange
from pydantic import SecretStr
from redis_process import RedisProcess
from stand_ins import AppleStandIn, GoogleStandIn

from gateway.errors import StoreUnavailable, Unauthenticated
from gateway.identity.apple import AppleVerifier
from gateway.identity.google import GoogleVerifier
from gateway.identity.replay import SignedInTokens
from gateway.identity.sessions import Sessions
from gateway.identity.signin import AppleSignIn, GoogleSignIn
from gateway.identity.tokens import AppTokens
from gateway.identity.users import Users
from gateway.sections import AppTokenSettings, KeySettings, StoreSettings, TokenKey
from gateway.store.redis import Store

REPLAYED = "token_replayed"


@pytest.fixture
async def google():
    async with GoogleStandIn() as started:
        yield started


@pytest.fixture
async def session():
    async with ClientSession() as opened:
        yield opened


@pytest.fixture
def once(store):
    return SignedInTokens(store)


@pytest.fixture
def sign_in(session, google, store, once):
    """Sign in by Google with a token: the status, or why not."""
    key = TokenKey(id="k1", secret=SecretStr("a secret of at least 32 bytes, really"))
    settings, users = AppTokenSettings(secrets=(key,)), Users(store, KeySettings())
    sessions = Sessions(store, users, AppTokens(settings), settings)
    endpoint = GoogleSignIn(GoogleVerifier(session, google.settings()), users, sessions, once)

    async def sign_in(token):
        body = json.dumps({"id_token": token}).encode()
        try:
            answer = await endpoint.respond(exchange("POST", "/auth/mobile/google", body))
        except Unauthenticated as error:
            return error.reason
        return answer.status

    return sign_in


async def test_a_token_signs_in_once_and_the_next_one_too(sign_in, google):
    first, second = google.token(), google.token(jti="another")
    assert [await sign_in(token) for token in (first, first, second, second, first)] == [
        *(200, REPLAYED, 200, REPLAYED, REPLAYED)
    ]


async def test_of_fifty_at_once_one_signs_in(sign_in, google):
    token = google.token()
    statuses = await asyncio.gather(*(sign_in(token) for _ in range(50)))
    assert sorted(statuses, key=str) == [200] + [REPLAYED] * 49


async def test_no_other_signature_makes_it_another_token(once, google):
    """Of ECDSA, whoever has one signature can make another one that is good."""
    signed = google.token().rpartition(".")[0]
    await once.claim(f"{signed}.one", time.time() + 60)
    with pytest.raises(Unauthenticated):
        await once.claim(f"{signed}.two", time.time() + 60)


async def test_what_is_kept_is_a_digest_and_goes_with_the_token(sign_in, google, store):
    token = google.token(exp=int(time.time()) + 100)
    await sign_in(token)
    (name,) = [key async for key in store.client.scan_iter(store.key("signed-in", "*"))]
    assert len(name.rpartition(":")[2]) == 64
    assert await store.client.get(name) == "1"
    assert 100_000 < await store.client.pttl(name) <= 161_000
    await store.client.delete(name)
    assert await sign_in(token) == 200


async def test_a_forgery_uses_nothing_up(session, google, store, once):
    verifier = GoogleVerifier(session, google.settings())
    for token in (google.token(aud="others"), google.token() + "x"):
        with pytest.raises(Unauthenticated):
            await verifier.verify(token)
    assert [key async for key in store.client.scan_iter(store.key("signed-in", "*"))] == []


class Failing:
    async def sign_in(self, *_words, **_more):
        raise StoreUnavailable


async def test_a_sign_in_that_came_to_nothing_may_be_tried_again(session, store, once):
    async with AppleStandIn() as apple:
        verifier, token = AppleVerifier(session, apple.settings()), apple.token()
        request = exchange("POST", "/x", json.dumps({"identity_token": token}).encode())
        with pytest.raises(StoreUnavailable):
            await AppleSignIn(verifier, Failing(), None, once).respond(request)
        await once.claim(token, time.time() + 60)


async def test_without_redis_nobody_is_called_a_replayer(redis_process: RedisProcess, tmp_path):
    store = await Store.open(StoreSettings(url=redis_process.url, timeout=0.5))
    once = SignedInTokens(store)
    await once.claim("a.b.c", time.time() + 60)
    redis_process.stop()
    with pytest.raises(StoreUnavailable):
        await once.claim("a.b.c", time.time() + 60)
    await once.release("a.b.c")
    await store.close()


async def test_the_last_moment_of_a_token_is_a_moment(once):
    await once.claim("a.b.c", time.time() - 60)

import asyncio
import json

import pytest
from aiohttp import ClientSession
from exchanges import exchange
from pydantic import SecretStr
from stand_ins import AppleStandIn, Fault, GoogleStandIn

from gateway.errors import DependencyUnavailable, Invalid, PayloadTooLarge, Unauthenticated
from gateway.identity.apple import AppleVerifier
from gateway.identity.google import GoogleVerifier
from gateway.identity.sessions import Sessions
from gateway.identity.signin import AppleSignIn, GoogleSignIn
from gateway.identity.tokens import AppTokens
from gateway.identity.users import Users
from gateway.sections import AppTokenSettings, KeySettings, TokenKey

CONTRACT_FIELDS = [
    "id",
    "email",
    "name",
    "google_id",
    "apple_id",
    "is_vip",
    "vip_expires_at",
    "created_at",
    "updated_at",
]


@pytest.fixture
async def google():
    async with GoogleStandIn() as started:
        yield started


@pytest.fixture
async def apple():
    async with AppleStandIn() as started:
        yield started


@pytest.fixture
async def session():
    async with ClientSession() as opened:
        yield opened


@pytest.fixture
def app_tokens():
    key = TokenKey(id="k1", secret=SecretStr("a secret of at least 32 bytes, really"))
    return AppTokens(AppTokenSettings(secrets=(key,)))


@pytest.fixture
def users(store):
    return Users(store, KeySettings())


@pytest.fixture
def sessions(store, users, app_tokens):
    return Sessions(store, users, app_tokens, AppTokenSettings())


@pytest.fixture
def google_sign_in(session, google, users, sessions):
    verifier = GoogleVerifier(session, google.settings())
    return GoogleSignIn(verifier, users, sessions)


@pytest.fixture
def apple_sign_in(session, apple, users, sessions):
    verifier = AppleVerifier(session, apple.settings())
    return AppleSignIn(verifier, users, sessions)


def post(body):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return exchange("POST", "/auth/mobile/google", raw)


async def signed_in(endpoint, body):
    answer = await endpoint.respond(post(body))
    assert answer.status == 200
    assert answer.content_type == "application/json"
    assert answer.headers == (("Cache-Control", "no-store"),)
    return json.loads(answer.body)


async def test_google_sign_in_answers_as_the_contract_shows(google_sign_in, google, app_tokens):
    answer = await signed_in(google_sign_in, {"id_token": google.token()})
    assert list(answer) == ["access_token", "user"]
    user = answer["user"]
    assert list(user) == CONTRACT_FIELDS
    assert user | {"created_at": "", "updated_at": ""} == {
        "id": 1,
        "email": "user@example.com",
        "name": "Jane Doe",
        "google_id": "1067290000000000000",
        "apple_id": None,
        "is_vip": False,
        "vip_expires_at": None,
        "created_at": "",
        "updated_at": "",
    }
    assert app_tokens.verify(answer["access_token"]).user_id == user["id"]


async def test_apple_sign_in_answers_likewise(apple_sign_in, apple, app_tokens):
    answer = await signed_in(apple_sign_in, {"identity_token": apple.token()})
    user = answer["user"]
    assert list(user) == CONTRACT_FIELDS
    assert user["apple_id"] == apple.claims()["sub"]
    assert (user["google_id"], user["email"]) == (None, "user@example.com")
    assert app_tokens.verify(answer["access_token"]).user_id == user["id"]


async def test_apple_signs_in_who_keeps_the_email_to_themselves(apple_sign_in, apple):
    token = apple.token(email=None, email_verified=None)
    user = (await signed_in(apple_sign_in, {"identity_token": token}))["user"]
    assert user["email"] is None


async def test_one_person_is_one_user_with_both_providers(
    google_sign_in, apple_sign_in, google, apple
):
    first = (await signed_in(google_sign_in, {"id_token": google.token()}))["user"]
    again = (await signed_in(google_sign_in, {"id_token": google.token()}))["user"]
    linked = (await signed_in(apple_sign_in, {"identity_token": apple.token()}))["user"]
    assert first["id"] == again["id"] == linked["id"]
    assert linked["google_id"] == first["google_id"]
    assert linked["apple_id"] == apple.claims()["sub"]


async def test_fifty_first_sign_ins_at_once_are_one_fetch_and_one_user(google_sign_in, google):
    answers = await asyncio.gather(
        *(signed_in(google_sign_in, {"id_token": google.token()}) for _ in range(50))
    )
    assert google.asked == 1
    assert {answer["user"]["id"] for answer in answers} == {1}
    assert len({answer["access_token"] for answer in answers}) == 50


MISSING = {"msg": "Field required", "type": "missing"}
NO_STRING = {"msg": "Input should be a valid string", "type": "string_type"}
REFUSED = {
    "no body": (b"", {"loc": ["body"], **MISSING}),
    "not JSON": (
        b"id_token=x",
        {"loc": ["body", 0], "msg": "JSON decode error", "type": "json_invalid"},
    ),
    "not an object": (
        b'["id_token"]',
        {
            "loc": ["body"],
            "msg": "Input should be a valid dictionary or object to extract fields from",
            "type": "model_attributes_type",
        },
    ),
    "no token": (b'{"identity": "x"}', {"loc": ["body", "id_token"], **MISSING}),
    "a token that is a number": (b'{"id_token": 1}', {"loc": ["body", "id_token"], **NO_STRING}),
    "a token that is null": (b'{"id_token": null}', {"loc": ["body", "id_token"], **NO_STRING}),
    "an empty token": (
        b'{"id_token": ""}',
        {
            "loc": ["body", "id_token"],
            "msg": "String should have at least 1 character",
            "type": "string_too_short",
        },
    ),
    "a token over 16 KiB": (
        b'{"id_token": "' + b"x" * 16385 + b'"}',
        {
            "loc": ["body", "id_token"],
            "msg": "String should have at most 16384 characters",
            "type": "string_too_long",
        },
    ),
}


NONCES = {
    "a number": (7, {"loc": ["body", "nonce"], **NO_STRING}),
    "a list": (["n"], {"loc": ["body", "nonce"], **NO_STRING}),
    "false": (False, {"loc": ["body", "nonce"], **NO_STRING}),
    "empty": (
        "",
        {
            "loc": ["body", "nonce"],
            "msg": "String should have at least 1 character",
            "type": "string_too_short",
        },
    ),
    "too long": (
        "n" * 16385,
        {
            "loc": ["body", "nonce"],
            "msg": "String should have at most 16384 characters",
            "type": "string_too_long",
        },
    ),
}


@pytest.mark.parametrize("case", NONCES)
async def test_a_nonce_of_another_form_is_a_422(google_sign_in, google, case):
    nonce, problem = NONCES[case]
    with pytest.raises(Invalid) as caught:
        await google_sign_in.respond(post({"id_token": google.token(), "nonce": nonce}))
    assert caught.value.detail == [problem]
    assert google.asked == 0


async def test_the_nonce_of_the_body_is_that_of_the_token(google_sign_in, google):
    token = google.token(nonce="kept")
    for body in ({"nonce": "kept"}, {"nonce": None}, {}):
        await signed_in(google_sign_in, {"id_token": token, **body})
    with pytest.raises(Unauthenticated) as caught:
        await google_sign_in.respond(post({"id_token": token, "nonce": "another"}))
    assert (caught.value.detail, caught.value.reason) == ("Invalid or expired token", "wrong_nonce")


async def test_a_nonce_that_is_required_is_missed_along_with_all_else(
    session, google, users, sessions
):
    verifier = GoogleVerifier(session, google.settings(nonce="required"))
    endpoint = GoogleSignIn(verifier, users, sessions)
    for body, missing in (({"id_token": "x"}, ["nonce"]), ({}, ["id_token", "nonce"])):
        with pytest.raises(Invalid) as caught:
            await endpoint.respond(post(body))
        assert caught.value.detail == [{"loc": ["body", name], **MISSING} for name in missing]
    with pytest.raises(Invalid) as caught:
        await endpoint.respond(post({"id_token": "x", "nonce": None}))
    assert caught.value.detail == [{"loc": ["body", "nonce"], **NO_STRING}]
    await signed_in(endpoint, {"id_token": google.token(nonce="kept"), "nonce": "kept"})


@pytest.mark.parametrize("case", REFUSED)
async def test_a_body_of_another_form_is_a_422_and_asks_nobody(google_sign_in, google, case):
    body, problem = REFUSED[case]
    with pytest.raises(Invalid) as caught:
        await google_sign_in.respond(post(body))
    assert caught.value.detail == [problem]
    assert google.asked == 0


async def test_apples_field_has_its_own_name(apple_sign_in, apple):
    with pytest.raises(Invalid) as caught:
        await apple_sign_in.respond(post({"id_token": apple.token()}))
    assert caught.value.detail == [{"loc": ["body", "identity_token"], **MISSING}]


async def test_a_body_over_64_kib_is_a_413(google_sign_in):
    with pytest.raises(PayloadTooLarge):
        await google_sign_in.respond(post(b" " * 65537))


@pytest.mark.parametrize("changed", [{"email_verified": False}, {"exp": 1}, {"aud": "other"}])
async def test_a_token_that_is_not_taken_makes_no_user(google_sign_in, google, store, changed):
    with pytest.raises(Unauthenticated):
        await google_sign_in.respond(post({"id_token": google.token(**changed)}))
    assert [key async for key in store.client.scan_iter(store.key("user", "*"))] == []


async def test_a_provider_that_is_away_is_a_503(google_sign_in, google):
    google.fault = Fault.DOWN
    with pytest.raises(DependencyUnavailable) as caught:
        await google_sign_in.respond(post({"id_token": google.token()}))
    assert caught.value.status == 503


async def test_the_token_is_neither_logged_nor_stored(google_sign_in, google, store, caplog):
    caplog.set_level("DEBUG")
    token = google.token()
    answer = await signed_in(google_sign_in, {"id_token": token})
    google.fault = Fault.DOWN
    for secret in (token, answer["access_token"]):
        assert secret not in caplog.text
        async for key in store.client.scan_iter("*"):
            kind = await store.client.type(key)
            value = await (store.client.hgetall(key) if kind == "hash" else store.client.get(key))
            assert secret not in repr(value)

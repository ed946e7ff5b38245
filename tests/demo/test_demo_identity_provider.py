"""The stand-ins check and sign as the real ones do: with real keys, forms and codes."""

import hashlib
import hmac

import jwt
import pytest
from google.auth import jwt as google_jwt

from gateway.demo.identity_provider import (
    APPLE_AUDIENCE,
    GOOGLE_AUDIENCE,
    IdentityProvider,
)

NOW = 1_790_000_000


@pytest.fixture(scope="module")
def provider():
    return IdentityProvider(lambda: NOW)


@pytest.fixture
async def client(aiohttp_client, provider):
    return await aiohttp_client(provider.application())


async def token(client, **query):
    answer = await client.post("/token", params={"email": "jane@example.com", **query})
    assert answer.status == 200
    (value,) = (await answer.json()).values()
    return value


async def test_google_auth_accepts_a_token_against_the_served_certificates(aiohttp_client):
    # google-auth reads the wall clock itself.
    client = await aiohttp_client(IdentityProvider().application())
    answer = await client.get("/oauth2/v1/certs")
    assert "max-age=3600" in answer.headers["Cache-Control"]
    certificates = await answer.json()
    assert len(certificates) == 2
    assert all(pem.startswith("-----BEGIN CERTIFICATE-----") for pem in certificates.values())
    claims = google_jwt.decode(
        await token(client, provider="google"), certificates, audience=GOOGLE_AUDIENCE
    )
    assert claims["iss"] == "https://accounts.google.com"
    assert claims["email"] == "jane@example.com"
    assert claims["email_verified"] is True
    assert claims["sub"].isdigit()
    assert len(claims["sub"]) == 21


async def test_pyjwt_accepts_an_apple_token_against_the_served_jwks(client, provider):
    served = jwt.PyJWKSet.from_dict(await (await client.get("/auth/keys")).json())
    assert len(served.keys) == 2
    value = await token(client, provider="apple", email_verified="false")
    key = served[jwt.get_unverified_header(value)["kid"]]
    claims = jwt.decode(
        value,
        key,
        algorithms=["RS256"],
        audience=APPLE_AUDIENCE,
        issuer="https://appleid.apple.com",
        options={"verify_exp": False, "verify_iat": False},
    )
    assert claims["email_verified"] == "false"
    assert claims["exp"] == NOW + 3600


async def test_a_token_can_be_asked_for_that_must_be_refused(client):
    value = await token(client, provider="google", expires_in="-60", audience="someone-else")
    claims = jwt.decode(value, options={"verify_signature": False})
    assert claims["exp"] == NOW - 60
    assert claims["aud"] == "someone-else"


async def test_a_subject_belongs_to_an_email(client):
    def subject(value):
        return jwt.decode(value, options={"verify_signature": False})["sub"]

    first = subject(await token(client, provider="google"))
    assert subject(await token(client, provider="google")) == first
    assert subject(await token(client, provider="google", email="joe@example.com")) != first


@pytest.mark.parametrize(
    "query", [{}, {"provider": "github", "email": "a@b"}, {"provider": "apple", "email": "nobody"}]
)
async def test_a_bad_token_request_is_a_422(client, query):
    assert (await client.post("/token", params=query)).status == 422


def signed(provider, query, secret=None):
    key = (secret or provider.binance_key.api_secret).encode()
    return f"{query}&signature={hmac.new(key, query.encode(), hashlib.sha256).hexdigest()}"


TIMELY = f"recvWindow=5000&timestamp={NOW * 1000}"


@pytest.mark.parametrize(
    ("case", "status", "code"),
    [
        ("good", 200, None),
        ("no key", 401, -2014),
        ("unknown key", 401, -2015),
        ("wrong secret", 400, -1022),
        ("changed after signing", 400, -1022),
        ("not signed", 400, -1102),
        ("no timestamp", 400, -1102),
        ("late", 400, -1021),
        ("early", 400, -1021),
        ("wide window", 400, -1131),
    ],
)
async def test_binance_checks_key_time_and_signature(client, provider, case, status, code):
    queries = {
        "wrong secret": signed(provider, TIMELY, "another"),
        "changed after signing": signed(provider, TIMELY).replace("5000", "6000", 1),
        "not signed": TIMELY,
        "no timestamp": signed(provider, "recvWindow=5000"),
        "late": signed(provider, f"timestamp={NOW * 1000 - 5001}"),
        "early": signed(provider, f"timestamp={NOW * 1000 + 1000}"),
        "wide window": signed(provider, TIMELY.replace("5000", "60001")),
    }
    keys = {"no key": None, "unknown key": "k" * 64}
    key = keys.get(case, provider.binance_key.api_key)
    answer = await client.get(
        "/fapi/v2/account?" + queries.get(case, signed(provider, TIMELY)),
        headers={"X-MBX-APIKEY": key} if key else {},
    )
    body = await answer.json()
    assert (answer.status, body.get("code")) == (status, code)
    assert body.get("canTrade") is (True if status == 200 else None)


async def test_binance_tells_its_time(client):
    answer = await client.get("/fapi/v1/time")
    assert await answer.json() == {"serverTime": NOW * 1000}

import asyncio
import base64
import contextlib
import hmac
import json
from typing import Any

import jwt
import pytest
from aiohttp import ClientSession
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from stand_ins import Fault, GoogleStandIn, certificate, ec_key, from_now, public_pem, rsa_key

from gateway.errors import DependencyUnavailable, Unauthenticated
from gateway.identity.google import GoogleVerifier
from gateway.identity.provider import ProvenIdentity

JANE = ProvenIdentity("1067290000000000000", "user@example.com", "Jane Doe")


@pytest.fixture
async def google():
    async with GoogleStandIn() as started:
        yield started


@pytest.fixture
async def verifier(google):
    async with ClientSession() as session:
        yield GoogleVerifier(session, google.url, ["another-app", google.audience])


def segment(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def rs256(header: Any, payload: Any) -> str:
    """A token with a good RS256 signature of the published key over whatever header and payload."""
    signing_input = f"{segment(header)}.{segment(payload)}"
    signature = jwt.get_algorithm_by_name("RS256").sign(signing_input.encode(), rsa_key())
    return f"{signing_input}.{segment(signature)}"


def hs256(header: Any, payload: Any, secret: bytes) -> str:
    signing_input = f"{segment(header)}.{segment(payload)}"
    return f"{signing_input}.{segment(hmac.digest(secret, signing_input.encode(), 'sha256'))}"


async def refusal(verifier: GoogleVerifier, token: str) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(token)
    assert caught.value.headers == (
        ("WWW-Authenticate", 'Bearer realm="primit", error="invalid_token"'),
    )
    return caught.value


@pytest.mark.parametrize(
    ("changed", "proven"),
    [
        ({}, JANE),
        ({"iss": "accounts.google.com"}, JANE),
        ({"aud": "another-app"}, JANE),
        ({"email_verified": "true"}, JANE),
        ({"email": " User@Example.COM "}, JANE),
        ({"exp": from_now(-30)}, JANE),  # clocks differ by up to a minute
        ({"iat": from_now(30)}, JANE),
        ({"name": None}, ProvenIdentity(JANE.subject, JANE.email, None)),
        ({"name": 7}, ProvenIdentity(JANE.subject, JANE.email, None)),
        ({"name": " \r\n"}, ProvenIdentity(JANE.subject, JANE.email, None)),
        ({"name": "Jane\r\nDoe\x00"}, ProvenIdentity(JANE.subject, JANE.email, "JaneDoe")),
        ({"name": "简" * 300}, ProvenIdentity(JANE.subject, JANE.email, "简" * 256)),
    ],
)
async def test_a_good_token_proves_a_person(google, verifier, changed, proven):
    assert await verifier.verify(google.token(**changed)) == proven


HEADER = {"alg": "RS256", "kid": "google-1", "typ": "JWT"}
INVALID_CLAIMS: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://accounts.google.com.evil.example"},
    "an issuer over http": {"iss": "http://accounts.google.com"},
    "no issuer": {"iss": None},
    "an issuer that is a list": {"iss": ["accounts.google.com"]},
    "another audience": {"aud": "not-ours"},
    "no audience": {"aud": None},
    "a list of audiences": {"aud": [GoogleStandIn.audience]},
    "an audience that is an object": {"aud": {}},
    "no expiry": {"exp": None},
    "an expiry in words": {"exp": "tomorrow"},
    "an expiry that is true": {"exp": True},
    "an expiry that is a list": {"exp": [1]},
    "an expiry beyond counting": {"exp": 10**400},
    "no time of issue": {"iat": None},
    "a time of issue in the future": {"iat": from_now(120)},
    "a time of issue in words": {"iat": "now"},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "a numeric subject": {"sub": 1067290000000000000},
    "a subject with blanks": {"sub": "1 2"},
    "a subject with a line end": {"sub": "1\n"},
    "a subject of 256 characters": {"sub": "1" * 256},
    "a subject beyond ASCII": {"sub": "é"},
    "an email that is none": {"email": "nobody"},
    "an email that is a list": {"email": ["user@example.com"]},
    "an email with a line end inside": {"email": "user@example.com\r\nx"},
    "no email": {"email": None},
}


@pytest.mark.parametrize("case", INVALID_CLAIMS)
async def test_a_signed_token_with_wrong_claims_is_invalid(google, verifier, case):
    error = await refusal(verifier, rs256(HEADER, google.claims(**INVALID_CLAIMS[case])))
    assert (error.detail, error.reason) == ("Invalid or expired token", "invalid_token")


@pytest.mark.parametrize("value", [False, "false", "True", "yes", 1, [], [True]])
async def test_an_email_that_google_has_not_verified_is_refused(google, verifier, value):
    error = await refusal(verifier, google.token(email_verified=value))
    assert (error.detail, error.reason) == ("Email not verified", "email_not_verified")


async def test_a_token_that_does_not_speak_of_verification_is_refused(google, verifier):
    error = await refusal(verifier, google.token(email_verified=None))
    assert error.reason == "email_not_verified"


async def test_an_expired_token_is_refused_as_such(google, verifier):
    error = await refusal(verifier, google.token(exp=from_now(-61)))
    assert (error.detail, error.reason) == ("Invalid or expired token", "expired_token")


async def test_an_expired_token_that_google_did_not_sign_is_just_invalid(google, verifier):
    claims = google.claims(exp=from_now(-61))
    token = jwt.encode(claims, rsa_key("foreign"), "RS256", HEADER)
    assert (await refusal(verifier, token)).reason == "invalid_token"


def forgeries(good: dict[str, Any]) -> dict[str, str]:
    token = rs256(HEADER, good)
    head, payload, signature = token.split(".")
    der = base64.b64decode("".join(certificate(rsa_key()).splitlines()[1:-1]))
    return {
        "not a token": "nonsense",
        "two segments": "a.b",
        "four segments": token + ".x",
        "another key's signature": jwt.encode(good, rsa_key("foreign"), "RS256", HEADER),
        "a changed payload": f"{head}.{segment(good | {'sub': '1'})}.{signature}",
        "no signature": f"{head}.{payload}.",
        "alg none": f"{segment(HEADER | {'alg': 'none'})}.{payload}.",
        "alg none, signed": rs256(HEADER | {"alg": "none"}, good),
        "alg missing": rs256({"kid": "google-1"}, good),
        "HS256 with the public key as the secret": hs256(
            HEADER | {"alg": "HS256"}, good, public_pem(rsa_key())
        ),
        "HS256 with the certificate as the secret": hs256(
            HEADER | {"alg": "HS256"}, good, certificate(rsa_key()).encode()
        ),
        "HS256 with the certificate's bytes as the secret": hs256(
            HEADER | {"alg": "HS256"}, good, der
        ),
        "HS256 said to be RS256": hs256(HEADER, good, public_pem(rsa_key())),
        "ES256": jwt.encode(good, ec_key(), "ES256", HEADER | {"alg": "ES256"}),
        "RS512": jwt.encode(good, rsa_key(), "RS512", HEADER | {"alg": "RS512"}),
        "PS256": jwt.encode(good, rsa_key(), "PS256", HEADER | {"alg": "PS256"}),
        "no kid": rs256({"alg": "RS256"}, good),
        "an empty kid": rs256(HEADER | {"kid": ""}, good),
        "a kid that is a list": rs256(HEADER | {"kid": ["google-1"]}, good),
        "an unknown kid": rs256(HEADER | {"kid": "google-9"}, good),
        "jku": rs256(HEADER | {"jku": "http://127.0.0.1:1/keys"}, good),
        "jwk": rs256(HEADER | {"jwk": {"kty": "RSA"}}, good),
        "x5u": rs256(HEADER | {"x5u": "http://127.0.0.1:1/certificate"}, good),
        "x5c": rs256(HEADER | {"x5c": []}, good),
        "crit": rs256(HEADER | {"crit": ["exp"]}, good),
        "b64": rs256(HEADER | {"b64": False}, good),
        "a header with a repeated name": rs256(
            b'{"alg": "none", "alg": "RS256", "kid": "google-1"}', good
        ),
        "a payload with a repeated name": rs256(
            HEADER, json.dumps(good)[:-1].encode() + b', "sub": "1"}'
        ),
        "a payload that is an array": rs256(HEADER, [good]),
        "a payload that is a bomb": rs256(HEADER, b"[" * 5000),
        "a payload that is not UTF-8": rs256(HEADER, b'{"iss": "\xff"}'),
        "a payload with NaN": rs256(HEADER, good | {"exp": float("nan")}),
        "a payload with Infinity": rs256(HEADER, good | {"exp": float("inf")}),
        "too long": rs256(HEADER, good | {"more": "x" * 16384}),
        "a line end": token + "\n",
        "a blank": token.replace(".", ". ", 1),
        "a surrogate": token + "\udcff",
        "letters beyond ASCII": token + "é",
        "padding": token + "=",
    }


FORGERIES = tuple(forgeries({"exp": 0}))


@pytest.mark.parametrize("case", FORGERIES)
async def test_a_forgery_is_invalid(google, verifier, case):
    token = forgeries(google.claims())[case]
    assert (await refusal(verifier, token)).reason == "invalid_token"


async def test_the_token_that_the_forgeries_start_from_is_good(google, verifier):
    assert await verifier.verify(rs256(HEADER, google.claims())) == JANE


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
NAMES = ["iss", "aud", "sub", "email", "email_verified", "name", "iat", "exp"]


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), SCALARS | st.lists(SCALARS), min_size=1))
def test_no_signed_claims_at_all_cause_anything_but_an_answer(changed):
    async def judge() -> None:
        async with GoogleStandIn() as google, ClientSession() as session:
            verifier = GoogleVerifier(session, google.url, [google.audience])
            with contextlib.suppress(Unauthenticated):
                await verifier.verify(rs256(HEADER, google.claims() | changed))

    asyncio.run(judge())


async def test_a_forgery_that_shows_without_a_key_causes_no_fetch(google, verifier):
    for case in ("not a token", "alg none", "no kid", "jku", "ES256", "too long"):
        await refusal(verifier, forgeries(google.claims())[case])
    assert google.asked == 0


@pytest.mark.parametrize("fault", [Fault.DOWN, Fault.FAILING, Fault.WRONG_CONTENT])
async def test_google_being_away_is_a_503_never_a_401(google, verifier, fault):
    google.fault = fault
    for token in (google.token(), google.token(kid="google-9")):
        with pytest.raises(DependencyUnavailable) as caught:
            await verifier.verify(token)
        assert dict(caught.value.headers)["Retry-After"] == "5"


async def test_fifty_first_sign_ins_at_once_cause_one_fetch(google, verifier):
    people = await asyncio.gather(*(verifier.verify(google.token()) for _ in range(50)))
    assert people == [JANE] * 50
    assert google.asked == 1


async def test_without_audiences_nobody_is_called_a_fraud(google):
    async with ClientSession() as session:
        with pytest.raises(DependencyUnavailable) as caught:
            await GoogleVerifier(session, google.url, []).verify(google.token())
    assert caught.value.reason == "sign_in_not_configured"

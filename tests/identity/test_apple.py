import asyncio
import base64
import contextlib
import hmac
import json
from typing import Any

import jwt
import pytest
from aiohttp import ClientSession
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from stand_ins import AppleStandIn, Fault, ec_key, from_now, public_pem, rsa_key

from gateway.errors import DependencyUnavailable, Unauthenticated
from gateway.identity.apple import AppleVerifier, parse_key_set
from gateway.identity.provider import ProvenIdentity

SUBJECT = "001234.0123456789abcdef0123456789abcdef.1234"
JANE = ProvenIdentity(SUBJECT, "user@example.com", None)


@pytest.fixture
async def apple():
    async with AppleStandIn() as started:
        yield started


@pytest.fixture
async def verifier(apple):
    async with ClientSession() as session:
        yield AppleVerifier(session, apple.url, ["another-app", apple.audience])


def segment(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(algorithm: str, key: Any, header: Any, payload: Any) -> str:
    """A token with a good signature over whatever header and payload."""
    signing_input = f"{segment(header)}.{segment(payload)}"
    signature = jwt.get_algorithm_by_name(algorithm).sign(signing_input.encode(), key)
    return f"{signing_input}.{segment(signature)}"


def hs256(header: Any, payload: Any, secret: bytes) -> str:
    signing_input = f"{segment(header)}.{segment(payload)}"
    return f"{signing_input}.{segment(hmac.digest(secret, signing_input.encode(), 'sha256'))}"


async def refusal(verifier: AppleVerifier, token: str) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(token)
    assert caught.value.headers == (
        ("WWW-Authenticate", 'Bearer realm="primit", error="invalid_token"'),
    )
    return caught.value


@pytest.mark.parametrize("kid", ["apple-rsa", "apple-ec"])
@pytest.mark.parametrize(
    ("changed", "proven"),
    [
        ({}, JANE),
        ({"aud": "another-app"}, JANE),
        ({"email_verified": True}, JANE),
        ({"exp": from_now(-30)}, JANE),  # clocks differ by up to a minute
        ({"iat": from_now(30)}, JANE),
        ({"email": None}, ProvenIdentity(SUBJECT, None, None)),
        ({"email": None, "email_verified": None}, ProvenIdentity(SUBJECT, None, None)),
    ],
)
async def test_a_good_token_proves_a_person(apple, verifier, kid, changed, proven):
    assert await verifier.verify(apple.token(kid, **changed)) == proven


RSA_HEADER = {"alg": "RS256", "kid": "apple-rsa"}
EC_HEADER = {"alg": "ES256", "kid": "apple-ec"}
INVALID_CLAIMS: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://appleid.apple.com.evil.example"},
    "the issuer without https": {"iss": "appleid.apple.com"},
    "no issuer": {"iss": None},
    "an issuer that is a list": {"iss": ["https://appleid.apple.com"]},
    "another audience": {"aud": "not-ours"},
    "no audience": {"aud": None},
    "an audience that is an object": {"aud": {"a": 1}},
    "no expiry": {"exp": None},
    "an expiry in digits, as text": {"exp": "9999999999"},
    "an expiry that is true": {"exp": True},
    "an expiry beyond counting": {"exp": 10**400},
    "no time of issue": {"iat": None},
    "a time of issue in the future": {"iat": from_now(120)},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "a numeric subject": {"sub": 1},
    "a subject of 256 characters": {"sub": "1" * 256},
    "an email that is none": {"email": "nobody"},
    "an email that is a list": {"email": ["user@example.com"]},
}


@pytest.mark.parametrize("case", INVALID_CLAIMS)
async def test_a_signed_token_with_wrong_claims_is_invalid(apple, verifier, case):
    token = signed("RS256", rsa_key(), RSA_HEADER, apple.claims(**INVALID_CLAIMS[case]))
    error = await refusal(verifier, token)
    assert (error.detail, error.reason) == ("Invalid or expired token", "invalid_token")


@pytest.mark.parametrize("value", [False, "false", "True", 1, [True], None])
async def test_an_email_that_apple_has_not_verified_is_refused(apple, verifier, value):
    error = await refusal(verifier, apple.token(email_verified=value))
    assert (error.detail, error.reason) == ("Email not verified", "email_not_verified")


async def test_an_expired_token_is_refused_as_such(apple, verifier):
    error = await refusal(verifier, apple.token(exp=from_now(-61)))
    assert (error.detail, error.reason) == ("Invalid or expired token", "expired_token")


def forgeries(good: dict[str, Any]) -> dict[str, str]:
    token = signed("RS256", rsa_key(), RSA_HEADER, good)
    head, payload, signature = token.split(".")
    return {
        "not a token": "nonsense",
        "another RSA key's signature": signed("RS256", rsa_key("foreign"), RSA_HEADER, good),
        "another EC key's signature": signed("ES256", ec_key("foreign"), EC_HEADER, good),
        "a changed payload": f"{head}.{segment(good | {'sub': '1'})}.{signature}",
        "no signature": f"{head}.{payload}.",
        "an EC signature of zeros": (
            f"{segment(EC_HEADER)}.{payload}.{segment(bytes(64))}"
        ),  # CVE-2022-21449
        "alg none": f"{segment(RSA_HEADER | {'alg': 'none'})}.{payload}.",
        "HS256 with the RSA public key as the secret": hs256(
            RSA_HEADER | {"alg": "HS256"}, good, public_pem(rsa_key())
        ),
        "HS256 with the EC public key as the secret": hs256(
            EC_HEADER | {"alg": "HS256"}, good, public_pem(ec_key())
        ),
        "the RSA key's id with ES256": signed(
            "ES256", ec_key(), EC_HEADER | {"kid": "apple-rsa"}, good
        ),
        "the EC key's id with RS256": signed(
            "RS256", rsa_key(), RSA_HEADER | {"kid": "apple-ec"}, good
        ),
        "RS512": signed("RS512", rsa_key(), RSA_HEADER | {"alg": "RS512"}, good),
        "PS256": signed("PS256", rsa_key(), RSA_HEADER | {"alg": "PS256"}, good),
        "no kid": signed("RS256", rsa_key(), {"alg": "RS256"}, good),
        "an unknown kid": signed("RS256", rsa_key(), RSA_HEADER | {"kid": "apple-9"}, good),
        "jku": signed("RS256", rsa_key(), RSA_HEADER | {"jku": "http://127.0.0.1:1/keys"}, good),
        "jwk": signed("RS256", rsa_key(), RSA_HEADER | {"jwk": {"kty": "RSA"}}, good),
        "x5u": signed("RS256", rsa_key(), RSA_HEADER | {"x5u": "http://127.0.0.1:1/x"}, good),
        "crit": signed("RS256", rsa_key(), RSA_HEADER | {"crit": ["exp"]}, good),
        "a payload with a repeated name": signed(
            "RS256", rsa_key(), RSA_HEADER, json.dumps(good)[:-1].encode() + b', "sub": "1"}'
        ),
        "a payload that is an array": signed("RS256", rsa_key(), RSA_HEADER, [good]),
        "a payload that is a bomb": signed("RS256", rsa_key(), RSA_HEADER, b"[" * 5000),
        "too long": signed("RS256", rsa_key(), RSA_HEADER, good | {"more": "x" * 16384}),
        "a line end": token + "\n",
        "a surrogate": token + "\udcff",
    }


@pytest.mark.parametrize("case", tuple(forgeries({"exp": 0})))
async def test_a_forgery_is_invalid(apple, verifier, case):
    token = forgeries(apple.claims())[case]
    assert (await refusal(verifier, token)).reason == "invalid_token"


async def test_the_tokens_that_the_forgeries_start_from_are_good(apple, verifier):
    for algorithm, key, header in (
        ("RS256", rsa_key(), RSA_HEADER),
        ("ES256", ec_key(), EC_HEADER),
    ):
        assert await verifier.verify(signed(algorithm, key, header, apple.claims())) == JANE


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
NAMES = ["iss", "aud", "sub", "email", "email_verified", "iat", "exp", "nbf", "jti"]


@hypothesis_settings(deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), SCALARS | st.lists(SCALARS), min_size=1))
def test_no_signed_claims_at_all_cause_anything_but_an_answer(changed):
    async def judge() -> None:
        async with AppleStandIn() as apple, ClientSession() as session:
            verifier = AppleVerifier(session, apple.url, [apple.audience])
            with contextlib.suppress(Unauthenticated):
                await verifier.verify(
                    signed("RS256", rsa_key(), RSA_HEADER, apple.claims() | changed)
                )

    asyncio.run(judge())


def rsa_member(**changed: Any) -> dict[str, Any]:
    return {"kid": "x", **RSAAlgorithm.to_jwk(rsa_key().public_key(), as_dict=True), **changed}


UNUSABLE = {
    "not an object": "key",
    "no key id": {name: value for name, value in rsa_member().items() if name != "kid"},
    "a key id that is a number": rsa_member(kid=1),
    "a symmetric key": {"kid": "x", "kty": "oct", "k": "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4"},
    "a key to encrypt with": rsa_member(use="enc"),
    "another algorithm's": rsa_member(alg="PS256"),
    "a short RSA key": {
        "kid": "x",
        **RSAAlgorithm.to_jwk(rsa_key("short", 1024).public_key(), as_dict=True),
    },
    "a private key": {"kid": "x", **RSAAlgorithm.to_jwk(rsa_key(), as_dict=True)},
    "another curve": {
        "kid": "x",
        **ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True),
    },
    "an EC key off its curve": {"kid": "x", "kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
    "an RSA key without a modulus": {"kid": "x", "kty": "RSA", "e": "AQAB"},
    "a type that is a list": rsa_member(kty=["RSA"]),
}


@pytest.mark.parametrize("case", UNUSABLE)
async def test_a_key_that_is_not_for_us_is_passed_over(apple, verifier, case):
    assert parse_key_set({"keys": [UNUSABLE[case]]}) == {}
    apple.other_members = [UNUSABLE[case]]
    assert await verifier.verify(apple.token()) == JANE


@pytest.mark.parametrize("document", [{}, {"keys": None}, {"keys": {"a": 1}}])
def test_what_is_no_key_set_is_refused_whole(document):
    with pytest.raises(ValueError, match="key set"):
        parse_key_set(document)


@pytest.mark.parametrize("fault", [Fault.DOWN, Fault.FAILING, Fault.WRONG_CONTENT])
async def test_apple_being_away_is_a_503_never_a_401(apple, verifier, fault):
    apple.fault = fault
    for token in (apple.token(), apple.token(kid="apple-9")):
        with pytest.raises(DependencyUnavailable) as caught:
            await verifier.verify(token)
        assert dict(caught.value.headers)["Retry-After"] == "5"


async def test_fifty_first_sign_ins_at_once_cause_one_fetch(apple, verifier):
    people = await asyncio.gather(*(verifier.verify(apple.token()) for _ in range(50)))
    assert people == [JANE] * 50
    assert apple.asked == 1


async def test_without_audiences_nobody_is_called_a_fraud(apple):
    async with ClientSession() as session:
        with pytest.raises(DependencyUnavailable) as caught:
            await AppleVerifier(session, apple.url, []).verify(apple.token())
    assert caught.value.reason == "sign_in_not_configured"

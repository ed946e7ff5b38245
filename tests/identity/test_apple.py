import asyncio
import contextlib
from typing import Any

import pytest
from aiohttp import ClientSession
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hostile import ABSENT, NOW, changed, forgeries, hs256, segment, signed, wrong_claims
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from stand_ins import AppleStandIn, Fault, ec_key, public_pem, rsa_key

from gateway.errors import DependencyUnavailable, Unauthenticated
from gateway.identity.apple import AppleVerifier, parse_key_set
from gateway.identity.provider import ProvenIdentity

SUBJECT = "001234.0123456789abcdef0123456789abcdef.1234"
EMAIL = "user@example.com"
RELAYED = "dpdcnf87nu@privaterelay.appleid.com"
AUDIENCE = AppleStandIn.audience
RSA_HEADER = {"alg": "RS256", "kid": "apple-rsa"}
EC_HEADER = {"alg": "ES256", "kid": "apple-ec"}
SIGNERS = {"RS256": (rsa_key, RSA_HEADER), "ES256": (ec_key, EC_HEADER)}


@pytest.fixture
async def apple():
    async with AppleStandIn() as started:
        started.now = lambda: NOW
        yield started


@pytest.fixture
async def verifier(apple):
    async with ClientSession() as session:
        yield AppleVerifier(session, apple.settings(), now=apple.now)


def rs256(header, payload):
    return signed("RS256", rsa_key(), header, payload)


async def refusal(verifier: AppleVerifier, token: str) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(token)
    assert caught.value.headers == (
        ("WWW-Authenticate", 'Bearer realm="primit", error="invalid_token"'),
    )
    return caught.value


def jane(email: str | None = EMAIL, *, private: bool | None = None) -> ProvenIdentity:
    verified = email is not None
    return ProvenIdentity(SUBJECT, email, None, email_verified=verified, is_private_email=private)


@pytest.mark.parametrize("algorithm", SIGNERS)
@pytest.mark.parametrize(
    ("change", "proven"),
    [
        ({}, jane()),
        ({"aud": "another-app"}, jane()),
        ({"aud": [AUDIENCE]}, jane()),
        ({"aud": [AUDIENCE, "another-app"], "azp": AUDIENCE}, jane()),
        ({"azp": AUDIENCE}, jane()),
        ({"email_verified": True}, jane()),
        ({"exp": NOW - 59}, jane()),  # clocks differ by up to a minute
        ({"iat": NOW + 60}, jane()),
        ({"nbf": NOW + 60}, jane()),
        # Later sign-ins tell no email.
        ({"email": ABSENT}, jane(None)),
        ({"email": ABSENT, "email_verified": ABSENT}, jane(None)),
        ({"email": None, "email_verified": "false"}, jane(None)),
        ({"is_private_email": True, "email": RELAYED}, jane(RELAYED, private=True)),
        ({"is_private_email": "true", "email": RELAYED.upper()}, jane(RELAYED, private=True)),
        ({"email": RELAYED}, jane(RELAYED, private=True)),
        ({"is_private_email": "false", "email": RELAYED}, jane(RELAYED, private=True)),
        ({"is_private_email": "true"}, jane(private=True)),
        ({"is_private_email": False}, jane(private=False)),
        ({"is_private_email": "false"}, jane(private=False)),
        ({"is_private_email": 1}, jane()),
        ({"is_private_email": True, "email": ABSENT}, jane(None, private=True)),
        ({"nonce": "whatever", "nonce_supported": True}, jane()),
        ({"real_user_status": 2, "auth_time": NOW, "c_hash": "x", "transfer_sub": "x"}, jane()),
    ],
)
async def test_a_good_token_proves_a_person(apple, verifier, algorithm, change, proven):
    key, header = SIGNERS[algorithm]
    token = signed(algorithm, key(), header, changed(apple.claims(), change))
    assert await verifier.verify(token) == proven


WRONG = wrong_claims("https://appleid.apple.com", AUDIENCE) | {
    "iss without https": {"iss": "appleid.apple.com"},
    "iss of Google": {"iss": "https://accounts.google.com"},
    "an event about a user, as Apple tells them": {"sub": ABSENT, "events": "{}"},
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_signed_token_with_wrong_claims_is_invalid(apple, verifier, case):
    error = await refusal(verifier, rs256(RSA_HEADER, changed(apple.claims(), WRONG[case])))
    assert (error.detail, error.reason) == ("Invalid or expired token", "invalid_token")


@pytest.mark.parametrize("value", [False, "false", "True", 1, [True], None, ABSENT])
async def test_an_email_that_apple_has_not_verified_is_refused(apple, verifier, value):
    claims = changed(apple.claims(), {"email_verified": value})
    error = await refusal(verifier, rs256(RSA_HEADER, claims))
    assert (error.detail, error.reason) == ("Email not verified", "email_not_verified")


@pytest.mark.parametrize("expiry", [NOW - 60, NOW - 60.5, 0])
async def test_an_expired_token_is_refused_as_such(apple, verifier, expiry):
    error = await refusal(verifier, apple.token(exp=expiry))
    assert (error.detail, error.reason) == ("Invalid or expired token", "expired_token")


def der_signed(payload: Any) -> str:
    """With a signature in the form that certificates have, which JWS does not."""
    signing_input = f"{segment(EC_HEADER)}.{segment(payload)}"
    raw = ec_key().sign(signing_input.encode(), ec.ECDSA(ec.hashes.SHA256()))
    assert decode_dss_signature(raw)
    return f"{signing_input}.{segment(raw)}"


def forged(good: dict[str, Any]) -> dict[str, str]:
    head, payload, _ = signed("ES256", ec_key(), EC_HEADER, good).split(".")
    another_curve = ec.generate_private_key(ec.SECP384R1())
    bitcoins_curve = ec.generate_private_key(ec.SECP256K1())
    return forgeries("apple-rsa", good) | {
        "another EC key's signature": signed("ES256", ec_key("foreign"), EC_HEADER, good),
        "an EC signature of zeros": f"{head}.{payload}.{segment(bytes(64))}",  # CVE-2022-21449
        "an EC signature of ones": f"{head}.{payload}.{segment(bytes([255]) * 64)}",
        "an EC signature that is cut": f"{head}.{payload}.{segment(bytes([1]) * 63)}",
        "an EC signature in DER": der_signed(good),
        "ES384": signed("ES384", another_curve, EC_HEADER | {"alg": "ES384"}, good),
        "ES256K": signed("ES256K", bitcoins_curve, EC_HEADER | {"alg": "ES256K"}, good),
        "ES256K said to be ES256": signed("ES256K", bitcoins_curve, EC_HEADER, good),
        "HS256 with the EC public key as the secret": hs256(
            EC_HEADER | {"alg": "HS256"}, good, public_pem(ec_key())
        ),
        "the RSA key's id with ES256": signed(
            "ES256", ec_key(), EC_HEADER | {"kid": "apple-rsa"}, good
        ),
        "the EC key's id with RS256": rs256(RSA_HEADER | {"kid": "apple-ec"}, good),
        "the EC key's signature said to be RS256": signed("ES256", ec_key(), RSA_HEADER, good),
        "an EC key in the header": signed(
            "ES256",
            ec_key("foreign"),
            EC_HEADER | {"jwk": ECAlgorithm.to_jwk(ec_key("foreign").public_key(), as_dict=True)},
            good,
        ),
    }


@pytest.mark.parametrize("case", tuple(forged({"exp": 0})))
async def test_a_forgery_is_invalid(apple, verifier, case):
    token = forged(apple.claims())[case]
    assert (await refusal(verifier, token)).reason == "invalid_token"


async def test_the_tokens_that_the_forgeries_start_from_are_good(apple, verifier):
    for algorithm, (key, header) in SIGNERS.items():
        assert await verifier.verify(signed(algorithm, key(), header, apple.claims())) == jane()


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
NAMES = [
    "iss",
    "aud",
    "sub",
    "email",
    "email_verified",
    "iat",
    "exp",
    "nbf",
    "nonce",
    "nonce_supported",
]


@hypothesis_settings(deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), SCALARS | st.lists(SCALARS), min_size=1))
def test_no_signed_claims_at_all_cause_anything_but_an_answer(change):
    async def judge() -> None:
        async with AppleStandIn() as apple, ClientSession() as session:
            verifier = AppleVerifier(session, apple.settings())
            with contextlib.suppress(Unauthenticated):
                await verifier.verify(rs256(RSA_HEADER, apple.claims() | change), "a nonce")

    asyncio.run(judge())


def rsa_member(**changed: Any) -> dict[str, Any]:
    return {"kid": "x", **RSAAlgorithm.to_jwk(rsa_key().public_key(), as_dict=True), **changed}


NOT_FOR_US = {
    "not an object": "key",
    "no key id": {name: value for name, value in rsa_member().items() if name != "kid"},
    "a key id that is a number": rsa_member(kid=1),
    "a symmetric key": {"kid": "x", "kty": "oct", "k": "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4"},
    "a key to encrypt with": rsa_member(use="enc"),
    "another algorithm's": rsa_member(alg="PS256"),
    "a private key": {"kid": "x", **RSAAlgorithm.to_jwk(rsa_key(), as_dict=True)},
    "a type that is a list": rsa_member(kty=["RSA"]),
}
SPOILED = {
    "a short RSA key": {
        "kid": "x",
        **RSAAlgorithm.to_jwk(rsa_key("short", 1024).public_key(), as_dict=True),
    },
    "another curve": {
        "kid": "x",
        **ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True),
    },
    "an EC key off its curve": {"kid": "x", "kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
    "an RSA key without a modulus": {"kid": "x", "kty": "RSA", "e": "AQAB"},
    "an RSA key that is no number": rsa_member(n="spoiled!"),
    "a modulus that is a list": rsa_member(n=["AQAB"]),
}


@pytest.mark.parametrize("case", NOT_FOR_US)
async def test_a_key_that_is_not_for_us_is_passed_over(apple, verifier, case):
    assert parse_key_set({"keys": [NOT_FOR_US[case]]}) == {}
    apple.other_members = [NOT_FOR_US[case]]
    assert await verifier.verify(apple.token()) == jane()
    await refusal(verifier, rs256(RSA_HEADER | {"kid": "x"}, apple.claims()))


@pytest.mark.parametrize("case", SPOILED)
async def test_a_key_that_can_not_be_used_is_as_good_as_one_that_can_not_be_had(
    apple, verifier, case
):
    assert parse_key_set({"keys": [SPOILED[case]]}) == {"x": None}
    apple.other_members = [SPOILED[case]]
    assert await verifier.verify(apple.token()) == jane()
    with pytest.raises(DependencyUnavailable):
        await verifier.verify(rs256(RSA_HEADER | {"kid": "x"}, apple.claims()))


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
    assert people == [jane()] * 50
    assert apple.asked == 1


async def test_without_audiences_nobody_is_called_a_fraud(apple):
    async with ClientSession() as session:
        with pytest.raises(DependencyUnavailable) as caught:
            await AppleVerifier(session, apple.settings(audiences=())).verify(apple.token())
    assert caught.value.reason == "sign_in_not_configured"

import asyncio
import base64
import contextlib

import jwt
import pytest
from aiohttp import ClientSession
from google.auth import jwt as google_jwt
from hostile import ABSENT, NOW, changed, forgeries, hs256, signed, wrong_claims
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from stand_ins import Fault, GoogleStandIn, certificate, ec_key, rsa_key

from gateway.errors import DependencyUnavailable, Unauthenticated
from gateway.identity.google import GoogleVerifier
from gateway.identity.provider import ProvenIdentity

JANE = ProvenIdentity("1067290000000000000", "user@example.com", "Jane Doe", email_verified=True)
HEADER = {"alg": "RS256", "kid": "google-1", "typ": "JWT"}
AUDIENCE = GoogleStandIn.audience


@pytest.fixture
async def google():
    async with GoogleStandIn() as started:
        started.now = lambda: NOW
        yield started


@pytest.fixture
async def session():
    async with ClientSession() as opened:
        yield opened


@pytest.fixture
def verifier_with(google, session):
    return lambda **more: GoogleVerifier(session, google.settings(**more), now=google.now)


@pytest.fixture
def verifier(verifier_with):
    return verifier_with()


def rs256(header, payload):
    return signed("RS256", rsa_key(), header, payload)


async def refusal(verifier: GoogleVerifier, token: str, nonce: str | None = None):
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(token, nonce)
    assert caught.value.headers == (
        ("WWW-Authenticate", 'Bearer realm="primit", error="invalid_token"'),
    )
    return caught.value


def jane(name):
    return ProvenIdentity(JANE.subject, JANE.email, name, email_verified=True)


@pytest.mark.parametrize(
    ("change", "proven"),
    [
        ({}, JANE),
        ({"iss": "accounts.google.com"}, JANE),
        ({"aud": "another-app"}, JANE),
        ({"aud": [AUDIENCE]}, JANE),
        ({"aud": [AUDIENCE], "azp": ABSENT}, JANE),
        ({"aud": [AUDIENCE, "another-app"]}, JANE),
        ({"azp": ABSENT}, JANE),
        ({"azp": "another-app"}, JANE),
        ({"email_verified": "true"}, JANE),
        ({"email": " User@Example.COM "}, JANE),
        ({"exp": NOW - 59}, JANE),  # clocks differ by up to a minute
        ({"exp": NOW - 59.5}, JANE),
        ({"iat": NOW + 60}, JANE),
        ({"iat": NOW + 0.5}, JANE),
        ({"nbf": NOW + 60}, JANE),
        ({"hd": "example.com"}, JANE),
        ({"nonce": "whatever"}, JANE),
        ({"name": ABSENT}, jane(None)),
        ({"name": 7}, jane(None)),
        ({"name": " \r\n"}, jane(None)),
        ({"name": "Jane\r\nDoe\x00\ud800"}, jane("JaneDoe")),
        ({"name": "简" * 300}, jane("简" * 256)),
    ],
)
async def test_a_good_token_proves_a_person(google, verifier, change, proven):
    assert await verifier.verify(rs256(HEADER, changed(google.claims(), change))) == proven


@pytest.mark.parametrize("header", [{"typ": "jwt"}, {"typ": ABSENT}, {"x5t": "abc"}])
async def test_a_header_may_say_a_little_more_or_less(google, verifier, header):
    assert await verifier.verify(rs256(changed(HEADER, header), google.claims())) == JANE


WRONG = wrong_claims("https://accounts.google.com", AUDIENCE) | {
    "iss over http": {"iss": "http://accounts.google.com"},
    "iss of Apple": {"iss": "https://appleid.apple.com"},
    "email absent": {"email": ABSENT},
    "email null": {"email": None},
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_signed_token_with_wrong_claims_is_invalid(google, verifier, case):
    error = await refusal(verifier, rs256(HEADER, changed(google.claims(), WRONG[case])))
    assert (error.detail, error.reason) == ("Invalid or expired token", "invalid_token")


@pytest.mark.parametrize("value", [False, "false", "True", "yes", 1, [], [True], None, ABSENT])
async def test_an_email_that_google_has_not_verified_is_refused(google, verifier, value):
    claims = changed(google.claims(), {"email_verified": value})
    error = await refusal(verifier, rs256(HEADER, claims))
    assert (error.detail, error.reason) == ("Email not verified", "email_not_verified")


@pytest.mark.parametrize("expiry", [NOW - 60, NOW - 60.5, NOW - 3600, 1, 0])
async def test_an_expired_token_is_refused_as_such(google, verifier, expiry):
    error = await refusal(verifier, google.token(exp=expiry))
    assert (error.detail, error.reason) == ("Invalid or expired token", "expired_token")


async def test_an_expired_token_that_google_did_not_sign_is_just_invalid(google, verifier):
    token = jwt.encode(google.claims(exp=NOW - 61), rsa_key("foreign"), "RS256", HEADER)
    assert (await refusal(verifier, token)).reason == "invalid_token"


@pytest.mark.parametrize(
    ("parties", "azp", "good"),
    [
        ((), AUDIENCE, True),
        ((), "android-app", False),
        (("android-app",), "android-app", True),
        (("android-app",), AUDIENCE, False),  # whoever lists them lists them all
        (("android-app",), ABSENT, True),
        (("android-app",), "android-app ", False),
    ],
)
async def test_a_token_is_taken_from_those_it_may_have_been_issued_to(
    google, verifier_with, parties, azp, good
):
    verifier = verifier_with(authorized_parties=parties)
    token = rs256(HEADER, changed(google.claims(), {"azp": azp}))
    if good:
        assert await verifier.verify(token) == JANE
    else:
        await refusal(verifier, token)


@pytest.mark.parametrize(
    ("domain", "good"),
    [
        ("example.com", True),
        ("Example.COM", True),
        ("primit.example", True),
        ("sub.example.com", False),
        ("example.com.", False),
        ("example.com\0", False),
        ("", False),
        (["example.com"], False),
        (True, False),
        (None, False),
        (ABSENT, False),
    ],
)
async def test_where_domains_are_named_only_their_people_sign_in(
    google, verifier_with, domain, good
):
    verifier = verifier_with(hosted_domains=("example.com", "primit.example"))
    token = rs256(HEADER, changed(google.claims(), {"hd": domain}))
    if good:
        assert await verifier.verify(token) == JANE
    else:
        error = await refusal(verifier, token)
        assert (error.detail, error.reason) == ("Invalid or expired token", "wrong_hosted_domain")


def forged(good):
    der = base64.b64decode("".join(certificate(rsa_key()).splitlines()[1:-1]))
    by_hmac = HEADER | {"alg": "HS256"}
    return forgeries("google-1", good) | {
        "HS256 with the certificate as the secret": hs256(
            by_hmac, good, certificate(rsa_key()).encode()
        ),
        "HS256 with the certificate's bytes as the secret": hs256(by_hmac, good, der),
        "ES256": signed("ES256", ec_key(), HEADER | {"alg": "ES256"}, good),
        "ES256 said to be RS256": signed("ES256", ec_key(), HEADER, good),
    }


@pytest.mark.parametrize("case", tuple(forged({"exp": 0})))
async def test_a_forgery_is_invalid(google, verifier, case):
    token = forged(google.claims())[case]
    assert (await refusal(verifier, token)).reason == "invalid_token"


async def test_the_other_published_key_is_not_the_one_that_is_named(google, verifier):
    google.keys["google-2"] = rsa_key("second")
    await refusal(verifier, signed("RS256", rsa_key("second"), HEADER, google.claims()))
    right = HEADER | {"kid": "google-2"}
    assert await verifier.verify(signed("RS256", rsa_key("second"), right, google.claims())) == JANE


async def test_the_token_that_the_forgeries_start_from_is_good(google, verifier):
    assert await verifier.verify(rs256(HEADER, google.claims())) == JANE


async def test_googles_own_library_takes_what_is_taken_here():
    async with GoogleStandIn() as google, ClientSession() as session:
        token = google.token()  # of this moment: the library has a clock of its own
        assert await GoogleVerifier(session, google.settings()).verify(token) == JANE
        certificates = {kid: certificate(key) for kid, key in google.keys.items()}
        assert google_jwt.decode(token, certificates, audience=AUDIENCE)["sub"] == JANE.subject


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
NAMES = ["iss", "aud", "azp", "sub", "email", "email_verified", "name", "iat", "exp", "hd", "nonce"]


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), SCALARS | st.lists(SCALARS), min_size=1))
def test_no_signed_claims_at_all_cause_anything_but_an_answer(change):
    async def judge() -> None:
        async with GoogleStandIn() as google, ClientSession() as session:
            verifier = GoogleVerifier(session, google.settings(hosted_domains=("a",)))
            with contextlib.suppress(Unauthenticated):
                await verifier.verify(rs256(HEADER, google.claims() | change), "a nonce")

    asyncio.run(judge())


async def test_a_forgery_that_shows_without_a_key_causes_no_fetch(google, verifier):
    for case in ("not a token", "alg none, unsigned", "no kid", "jku", "ES256", "too long"):
        await refusal(verifier, forged(google.claims())[case])
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


async def test_without_audiences_nobody_is_called_a_fraud(google, verifier_with):
    with pytest.raises(DependencyUnavailable) as caught:
        await verifier_with(audiences=()).verify(google.token())
    assert caught.value.reason == "sign_in_not_configured"


async def test_other_settings_leave_the_keys_at_hand_in_use(google, verifier):
    await verifier.verify(google.token())
    google.fault = Fault.DOWN
    stricter = verifier.successor(google.settings(hosted_domains=("example.com",)))
    assert await stricter.verify(google.token(hd="example.com")) == JANE
    await refusal(stricter, google.token())
    elsewhere = verifier.successor(google.settings(certificates_url=google.url + "?2"))
    with pytest.raises(DependencyUnavailable):
        await elsewhere.verify(google.token())

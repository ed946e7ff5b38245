import base64
import contextlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from stand_ins import public_pem, rsa_key

from gateway.errors import DependencyUnavailable, Unauthenticated
from gateway.identity import tokens
from gateway.identity.tokens import AppTokens
from gateway.identity.users import User
from gateway.sections import AppTokenSettings, TokenKey

NOW = 1_790_000_000.25
SECRETS = {"k1": "first secret of at least 32 bytes!!", "k2": "other secret of at least 32 bytes!!"}
JANE = User(
    id=123,
    email="user@example.com",
    name="Jane Doe",
    google_id="1067290000000000000",
    apple_id=None,
    is_vip=False,
    vip_expires_at=None,
    created_at="2026-06-01T00:00:00",
    updated_at="2026-06-24T00:00:00",
    plan=None,
    plan_expires_at=None,
    tokens_valid_after=None,
)


def settings(*ids: str) -> AppTokenSettings:
    keys = tuple(TokenKey(id=name, secret=SecretStr(SECRETS[name])) for name in ids)
    return AppTokenSettings(lifetime=3600, secrets=keys)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def app_tokens(clock):
    return AppTokens(settings("k1", "k2"), clock=clock)


def claims(**changed: Any) -> dict[str, Any]:
    """The claims of a good token, with some changed; Ellipsis takes one out."""
    good = {
        "iss": "primit",
        "aud": "primit-app",
        "sub": "123",
        "iat": NOW,
        "nbf": int(NOW),
        "exp": int(NOW) + 3600,
        "jti": "x",
        "scope": "user",
        "ver": 1,
    } | changed
    return {name: value for name, value in good.items() if value is not ...}


def signed(
    changed: dict[str, Any] | None = None,
    header: dict[str, Any] | None = None,
    secret: str = SECRETS["k1"],
) -> str:
    headers = {"kid": "k1"} | (header or {})
    return jwt.encode(claims(**(changed or {})), secret, algorithm="HS256", headers=headers)


def segment(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def by_hand(
    header: Any,
    payload: Any,
    secret: str | bytes = SECRETS["k1"],
    digest: str = "sha256",
    spell: Callable[[str], str] = str,
) -> str:
    """A token with a good HMAC over whatever header and payload, and however that is spelled."""
    signing_input = f"{segment(header)}.{spell(segment(payload))}"
    key = secret.encode() if isinstance(secret, str) else secret
    signature = hmac.digest(key, signing_input.encode(), digest)
    return f"{signing_input}.{segment(signature)}"


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def respelled(text: str) -> str:
    """Base64 that decodes to the same: the last letter has bits that nothing reads."""
    other = text[:-1] + ALPHABET[ALPHABET.index(text[-1]) ^ 1]
    decoded = [base64.urlsafe_b64decode(part.rpartition(".")[2] + "==") for part in (text, other)]
    assert decoded[0] == decoded[1]
    return other


def refusal(app_tokens: AppTokens, token: str) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        app_tokens.verify(token)
    assert caught.value.status == 401
    assert caught.value.detail == "Invalid or expired token"
    assert caught.value.headers == (
        ("WWW-Authenticate", 'Bearer realm="primit", error="invalid_token"'),
    )
    return caught.value


def test_a_token_says_whose_it_is_and_until_when(app_tokens):
    issued = app_tokens.verify(app_tokens.issue(JANE))
    assert (issued.user_id, issued.issued_at) == (123, NOW)
    assert issued.expires_at == int(NOW + 3600)
    assert issued.scope == {"user"}


def test_a_token_has_the_claims_that_the_contract_of_the_house_names(app_tokens):
    token = app_tokens.issue(JANE, "user orders")
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "kid": "k1", "typ": "JWT"}
    payload = jwt.decode(token, options={"verify_signature": False})
    assert payload.pop("jti")
    assert payload == claims(jti=..., scope="user orders")
    assert app_tokens.verify(token).scope == {"user", "orders"}


def test_no_two_tokens_are_the_same(app_tokens):
    assert app_tokens.issue(JANE) != app_tokens.issue(JANE)


def test_the_first_secret_signs_and_every_secret_verifies(clock):
    old, both, new = (
        AppTokens(settings(*ids), clock=clock) for ids in (("k1",), ("k2", "k1"), ("k2",))
    )
    assert both.verify(old.issue(JANE)).user_id == 123
    assert new.verify(both.issue(JANE)).user_id == 123
    assert refusal(new, old.issue(JANE)).reason == "invalid_token"


def turning(*keys: tuple[str, float | None, float | None]) -> AppTokenSettings:
    """Settings whose secrets have times: `signs_from`, `retires_at`."""
    return AppTokenSettings(
        lifetime=3600,
        secrets=tuple(
            TokenKey.model_construct(
                id=name, secret=SecretStr(SECRETS[name]), signs_from=signs_from, retires_at=ends
            )
            for name, signs_from, ends in keys
        ),
    )


def signed_by(token: str) -> str:
    return jwt.get_unverified_header(token)["kid"]


def test_a_secret_verifies_before_it_signs_and_until_it_retires(clock):
    settings = turning(("k1", None, NOW + 3700), ("k2", NOW + 60, None))
    app_tokens, elsewhere = AppTokens(settings, clock=clock), AppTokens(settings, clock=clock)
    old = app_tokens.issue(JANE)
    assert signed_by(old) == "k1"
    clock.now = NOW + 60
    new = app_tokens.issue(JANE)
    assert signed_by(new) == "k2"
    clock.now = NOW + 40  # of a gateway whose clock is behind
    assert elsewhere.verify(new).user_id == 123
    clock.now = NOW + 3599
    assert elsewhere.verify(old).user_id == 123
    clock.now = NOW + 3700
    assert elsewhere.verify(
        signed(secret=SECRETS["k2"], header={"kid": "k2"}, changed={"exp": NOW + 9999})
    )
    late = signed({"exp": NOW + 9999})
    assert refusal(elsewhere, late).reason == "invalid_token"


def test_what_is_remembered_of_a_token_ends_with_its_secret(clock):
    app_tokens = AppTokens(turning(("k1", None, NOW + 100)), clock=clock)
    token = signed()
    assert app_tokens.verify(token).expires_at == NOW + 100
    clock.now = NOW + 100
    assert refusal(app_tokens, token).reason == "expired_token"
    assert refusal(app_tokens, token).reason == "invalid_token"


def test_where_no_secret_signs_yet_nobody_signs_in_and_nobody_is_called_a_fraud(clock):
    app_tokens = AppTokens(turning(("k1", NOW + 60, None)), clock=clock)
    with pytest.raises(DependencyUnavailable) as caught:
        app_tokens.issue(JANE)
    assert caught.value.reason == "token_secret_unset"
    assert app_tokens.verify(signed()).user_id == 123


RSA_PEM = public_pem(rsa_key()).decode()
GOOD_HEADER = {"alg": "HS256", "kid": "k1", "typ": "JWT"}

ATTACKS = {
    "not a token": "nonsense",
    "empty": "",
    "two segments": "a.b",
    "four segments": signed() + ".x",
    "no signature": signed().rpartition(".")[0] + ".",
    "another's signature": signed().rpartition(".")[0] + "." + signed({"sub": "1"}).split(".")[2],
    "a changed payload": ".".join(
        [signed().split(".")[0], segment(claims(sub="1")), signed().split(".")[2]]
    ),
    "alg none": f"{segment({'alg': 'none', 'kid': 'k1'})}.{segment(claims())}.",
    "alg none with a signature": by_hand({"alg": "none", "kid": "k1"}, claims()),
    "alg nOnE": by_hand({"alg": "nOnE", "kid": "k1"}, claims()),
    "alg HS512": jwt.encode(claims(), SECRETS["k1"] * 2, "HS512", {"kid": "k1"}),
    "alg HS384 with our secret": by_hand(GOOD_HEADER | {"alg": "HS384"}, claims(), digest="sha384"),
    "alg RS256": jwt.encode(claims(), rsa_key(), "RS256", {"kid": "k1"}),
    "alg missing": by_hand({"kid": "k1"}, claims()),
    "alg a list": by_hand({"alg": ["HS256"], "kid": "k1"}, claims()),
    "a public key as the secret": by_hand(GOOD_HEADER, claims(), RSA_PEM),
    "an empty secret": by_hand(GOOD_HEADER, claims(), b""),
    "another secret": signed(secret="x" * 40),
    "the other secret's kid": signed(header={"kid": "k2"}),
    "an unknown kid": signed(header={"kid": "k3"}),
    "a path for a kid": signed(header={"kid": "../../dev/null"}, secret="x" * 40),
    "no kid": by_hand({"alg": "HS256"}, claims()),
    "an empty kid": by_hand({"alg": "HS256", "kid": ""}, claims()),
    "a kid that is a list": by_hand({"alg": "HS256", "kid": ["k1"]}, claims()),
    "a kid that is a number": by_hand({"alg": "HS256", "kid": 1}, claims()),
    "crit": signed(header={"crit": ["exp"]}),
    "b64 false": by_hand(GOOD_HEADER | {"b64": False}, claims()),
    "typ of an access token of others": signed(header={"typ": "at+jwt"}),
    "typ of a refresh token": signed(header={"typ": "application/refresh+jwt"}),
    "typ a list": by_hand(GOOD_HEADER | {"typ": ["JWT"]}, claims()),
    "typ null": by_hand(GOOD_HEADER | {"typ": None}, claims()),
    "kid null": by_hand(GOOD_HEADER | {"kid": None}, claims()),
    "jku": signed(header={"jku": "http://127.0.0.1:1/keys"}),
    "jwk": signed(header={"jwk": {"kty": "oct", "k": "eHh4"}}),
    "x5u": signed(header={"x5u": "http://127.0.0.1:1/certificate"}),
    "x5c": signed(header={"x5c": ["MIIB"]}),
    "a header with a repeated name": by_hand(
        b'{"alg": "HS256", "kid": "k2", "kid": "k1"}', claims()
    ),
    "a payload with a repeated name": by_hand(
        GOOD_HEADER, json.dumps(claims())[:-1].encode() + b', "sub": "1"}'
    ),
    "a header that is an array": by_hand([], claims()),
    "a payload that is an array": by_hand(GOOD_HEADER, [claims()]),
    "a payload that is a bomb": by_hand(GOOD_HEADER, b"[" * 2000),
    "a payload with NaN": by_hand(GOOD_HEADER, json.dumps(claims(exp=float("nan"))).encode()),
    "a payload that is not UTF-8": by_hand(GOOD_HEADER, b'{"iss": "\xff"}'),
    "padding": signed() + "=",
    "another spelling of the signature": respelled(signed()),
    "another spelling of the claims": by_hand(GOOD_HEADER, claims(), spell=respelled),
    "a blank inside": signed()[:20] + " " + signed()[20:],
    "a line end": signed() + "\n",
    "letters beyond ASCII": signed()[:20] + "é" + signed()[20:],
    "a surrogate": signed() + "\udcff",
    "a NUL": signed() + "\0",
    "too long": signed({"jti": "x" * 4096}),
    "the standard alphabet": signed().replace("-", "+").replace("_", "/") + "+",
    "iss of another": signed({"iss": "other"}),
    "iss a list": by_hand(GOOD_HEADER, claims(iss=["primit"])),
    "aud of another": signed({"aud": "other"}),
    "aud a list that has ours": signed({"aud": ["primit-app"]}),
    "sub zero": signed({"sub": "0"}),
    "sub negative": signed({"sub": "-1"}),
    "sub with leading zero": signed({"sub": "0123"}),
    "sub in other digits": signed({"sub": "١٢٣"}),
    "sub no number": signed({"sub": "jane"}),
    "sub with a line end": signed({"sub": "123\n"}),
    "sub too large": signed({"sub": "9" * 19}),
    "sub an integer": by_hand(GOOD_HEADER, claims(sub=123)),
    "exp a string": signed({"exp": "9999999999"}),
    "exp true": signed({"exp": True}),
    "exp null": signed({"exp": None}),
    "exp of 400 digits": by_hand(GOOD_HEADER, claims(exp=10**400)),
    "nbf in the future": signed({"nbf": NOW + 31}),
    "iat in the future": signed({"iat": NOW + 31}),
    "iat a string": signed({"iat": str(NOW)}),
    "jti a number": by_hand(GOOD_HEADER, claims(jti=1)),
    "scope a list": signed({"scope": ["user"]}),
    "ver of the future": signed({"ver": 2}),
    "ver true": signed({"ver": True}),
    "ver 1.0": signed({"ver": 1.0}),
} | {
    f"no {name}": by_hand(GOOD_HEADER, claims(**{name: ...}))
    for name in ("iss", "aud", "sub", "iat", "nbf", "exp", "jti", "scope", "ver")
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_an_invalid_token(app_tokens, attack):
    assert refusal(app_tokens, ATTACKS[attack]).reason == "invalid_token"


def test_the_token_that_the_attacks_start_from_is_good(app_tokens):
    assert app_tokens.verify(signed()).user_id == 123
    assert app_tokens.verify(by_hand(GOOD_HEADER, claims())).user_id == 123


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_gateway_whose_clock_is_a_little_ahead_is_believed(app_tokens, claim):
    assert app_tokens.verify(signed({claim: NOW + 30})).user_id == 123


def test_a_token_is_good_until_the_second_it_expires(app_tokens, clock):
    token = signed()
    clock.now = int(NOW) + 3599.9
    assert app_tokens.verify(token).user_id == 123
    clock.now = int(NOW) + 3600
    assert refusal(app_tokens, token).reason == "expired_token"  # it was remembered
    assert refusal(app_tokens, token).reason == "expired_token"  # it no longer is


@given(st.text() | st.text("eyJ0.-_AQ", max_size=60))
def test_no_text_at_all_causes_anything_but_a_refusal(text):
    refusal(AppTokens(settings("k1"), clock=Clock()), text)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


@given(st.dictionaries(st.sampled_from(sorted(claims())), SCALARS | st.lists(SCALARS), min_size=1))
def test_no_claims_at_all_cause_anything_but_an_answer(changed):
    token = by_hand(GOOD_HEADER, claims(**changed))
    with contextlib.suppress(Unauthenticated):
        assert AppTokens(settings("k1"), clock=Clock()).verify(token).user_id > 0


def test_a_token_seen_before_is_not_verified_again(app_tokens, monkeypatch):
    token = app_tokens.issue(JANE)
    first = app_tokens.verify(token)
    monkeypatch.setattr(tokens.jwt, "decode", None)
    assert app_tokens.verify(token) is first


def test_refused_tokens_are_not_remembered(app_tokens):
    for attack in ATTACKS.values():
        refusal(app_tokens, attack)
    assert not app_tokens._verified


def test_the_tokens_used_longest_ago_are_forgotten_first(clock):
    app_tokens = AppTokens(settings("k1"), clock=clock, remember=2)
    first, second, third = (app_tokens.issue(JANE) for _ in range(3))
    remembered = app_tokens.verify(first)
    forgotten = app_tokens.verify(second)
    assert app_tokens.verify(first) is remembered
    app_tokens.verify(third)
    assert app_tokens.verify(first) is remembered
    assert app_tokens.verify(second) is not forgotten


def test_what_is_remembered_does_not_hold_the_token(app_tokens):
    token = app_tokens.issue(JANE)
    app_tokens.verify(token)
    assert token not in repr(vars(app_tokens))
    assert SECRETS["k1"] not in repr(app_tokens.verify(token))


def test_without_a_secret_nobody_is_called_a_fraud():
    app_tokens = AppTokens(AppTokenSettings())
    with pytest.raises(DependencyUnavailable) as caught:
        app_tokens.verify(signed())
    assert caught.value.reason == "token_secret_unset"
    with pytest.raises(DependencyUnavailable):
        app_tokens.issue(JANE)

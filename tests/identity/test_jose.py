import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity import jose

TOKEN = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIn0.e30.AQ"  # {"alg": "HS256", "kid": "k1"}, {}, a byte


def test_a_token_says_what_it_is_to_be_verified_with():
    signed = TOKEN.rpartition(".")[0].encode()
    said = jose.UnverifiedToken("HS256", "k1", "jwt", {}, signed, b"\x01")
    assert jose.read(TOKEN, max_length=100) == said


@pytest.mark.parametrize(
    "signature",
    # A decoder that doesn't look reads the byte 1 from each of them.
    ["AR", "Af", "AQ=", "AQ==", "A"],
)
def test_a_token_has_one_spelling(signature):
    with pytest.raises(jose.MalformedTokenError):
        jose.read(TOKEN[:-2] + signature, max_length=100)


@given(st.text("AEgQRfw0_-", max_size=12), st.text("AEgQRfw0_-", max_size=12))
def test_two_spellings_are_never_one_signature(one, other):
    def decoded(text):
        try:
            return jose._decoded(text)
        except jose.MalformedTokenError:
            return None

    if one != other:
        assert decoded(one) is None or decoded(one) != decoded(other)


@pytest.mark.parametrize("kind", [None, 1, True, ["JWT"], {"JWT": 1}])
def test_a_token_whose_type_is_no_text_is_not_read(kind):
    header = json.dumps({"alg": "HS256", "kid": "k1", "typ": kind}).encode()
    spelled = base64.urlsafe_b64encode(header).rstrip(b"=").decode()
    with pytest.raises(jose.MalformedTokenError, match="typ"):
        jose.read(spelled + ".e30.AQ", max_length=200)

"""A nonce: what binds a provider's token to the session of the app that asked for it.

(OpenID Connect Core §3.1.2.1; Apple: "nonce_supported".)
"""

import base64
from hashlib import sha256

import pytest
from aiohttp import ClientSession
from hostile import ABSENT, changed
from stand_ins import AppleStandIn, GoogleStandIn

from gateway.errors import Unauthenticated
from gateway.identity.apple import AppleVerifier
from gateway.identity.google import GoogleVerifier

KEPT = "what the app has kept"
DIGEST = sha256(KEPT.encode()).digest()
HEX = DIGEST.hex()
BASE64URL = base64.urlsafe_b64encode(DIGEST).rstrip(b"=").decode()


@pytest.fixture(params=[(GoogleStandIn, GoogleVerifier), (AppleStandIn, AppleVerifier)])
async def provider(request):
    """A stand-in, and a way to make a verifier of its tokens."""
    stand_in, verifier = request.param
    async with stand_in() as started, ClientSession() as session:
        yield started, lambda nonce: verifier(session, started.settings(nonce=nonce))


async def taken(provider, setting, claim, sent):
    stand_in, verifier_with = provider
    token = stand_in.token(**changed({"nonce": claim}, {}))
    try:
        await verifier_with(setting).verify(token, sent)
    except Unauthenticated as error:
        return (error.detail, error.reason) != ("Invalid or expired token", "wrong_nonce")
    return True


@pytest.mark.parametrize(
    ("claim", "sent", "optional", "required", "hashed"),
    [
        (ABSENT, None, True, False, False),
        (KEPT, None, True, False, False),
        (HEX, None, True, False, False),
        (KEPT, KEPT, True, True, False),
        (HEX, KEPT, True, True, True),
        (BASE64URL, KEPT, True, True, True),
        (HEX, HEX, True, True, False),  # which is what somebody with a stolen token could send
        (BASE64URL, BASE64URL, True, True, False),
        ("简" * 9, "简" * 9, True, True, False),
        (ABSENT, KEPT, False, False, False),
        ("", KEPT, False, False, False),
        (KEPT + " ", KEPT, False, False, False),
        (KEPT.upper(), KEPT, False, False, False),
        (HEX.upper(), KEPT, False, False, False),
        (HEX[:-1], KEPT, False, False, False),
        (BASE64URL + "=", KEPT, False, False, False),
        (sha256(HEX.encode()).hexdigest(), KEPT, False, False, False),
        ([KEPT], KEPT, False, False, False),
        ({"a": KEPT}, KEPT, False, False, False),
        (7, "7", False, False, False),
        (True, "true", False, False, False),
        ("\ud800", KEPT, False, False, False),
    ],
)
async def test_the_nonce_that_is_sent_is_in_the_token(
    provider, claim, sent, optional, required, hashed
):
    for setting, expected in (("optional", optional), ("required", required), ("hashed", hashed)):
        assert await taken(provider, setting, claim, sent) is expected, setting


@pytest.mark.parametrize(
    ("supported", "goes_without"),
    [(False, True), ("false", True), (True, False), ("true", False), (0, False), (None, False)],
)
async def test_a_platform_without_nonces_goes_without_unless_they_are_required(
    supported, goes_without
):
    async with AppleStandIn() as apple, ClientSession() as session:
        token = apple.token(nonce_supported=supported)
        lenient = AppleVerifier(session, apple.settings())
        if goes_without:
            assert await lenient.verify(token, KEPT)
        else:
            with pytest.raises(Unauthenticated):
                await lenient.verify(token, KEPT)
        for setting in ("required", "hashed"):
            with pytest.raises(Unauthenticated):
                await AppleVerifier(session, apple.settings(nonce=setting)).verify(token, KEPT)
        with pytest.raises(Unauthenticated):
            await lenient.verify(apple.token(nonce_supported=supported, nonce="x"), KEPT)

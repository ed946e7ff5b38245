import base64
import json

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from gateway.errors import DependencyUnavailable
from gateway.sections import VaultKey
from gateway.vault.encryption import Credentials, MasterKeys, UndecryptableError

RAW = {name: bytes([number]) * 32 for number, name in enumerate(("v1", "v2"), 1)}
KEYS = {
    name: VaultKey(id=name, secret=SecretStr(base64.b64encode(raw).decode()))
    for name, raw in RAW.items()
}
EMAIL = "user@example.com"
CREDENTIALS = Credentials("binance-key", "binance-secret")


def test_what_was_sealed_opens_again():
    keys = MasterKeys([KEYS["v1"]])
    key_id, ciphertext = keys.seal(EMAIL, CREDENTIALS)
    assert key_id == "v1"
    assert keys.open(EMAIL, key_id, ciphertext) == CREDENTIALS


def test_the_form_is_what_another_service_would_write():
    key_id, ciphertext = MasterKeys([KEYS["v1"]]).seal(EMAIL, CREDENTIALS)
    raw = base64.b64decode(ciphertext)
    text = AESGCM(RAW[key_id]).decrypt(raw[:12], raw[12:], EMAIL.encode())
    assert json.loads(text) == {"api_key": "binance-key", "api_secret": "binance-secret"}


def test_no_two_ciphertexts_or_nonces_are_the_same():
    keys = MasterKeys([KEYS["v1"]])
    sealed = [base64.b64decode(keys.seal(EMAIL, CREDENTIALS)[1]) for _ in range(100)]
    assert len({raw[:12] for raw in sealed}) == 100
    assert len({raw[12:] for raw in sealed}) == 100


def test_the_first_key_seals_and_every_key_opens():
    old = MasterKeys([KEYS["v1"]]).seal(EMAIL, CREDENTIALS)
    both = MasterKeys([KEYS["v2"], KEYS["v1"]])
    new = both.seal(EMAIL, CREDENTIALS)
    assert new[0] == "v2"
    assert both.open(EMAIL, *old) == both.open(EMAIL, *new) == CREDENTIALS
    with pytest.raises(UndecryptableError, match="unknown master key"):
        MasterKeys([KEYS["v2"]]).open(EMAIL, *old)


def changed(ciphertext: str, position: int) -> str:
    raw = bytearray(base64.b64decode(ciphertext))
    raw[position] ^= 1
    return base64.b64encode(raw).decode()


TAMPERED = {
    "a bit of the nonce": lambda text: changed(text, 0),
    "a bit of the sealed text": lambda text: changed(text, 12),
    "a bit of the tag": lambda text: changed(text, -1),
    "the end cut off": lambda text: text[:-8],
    "all but the nonce cut off": lambda text: text[:16],
    "less than a nonce": lambda _text: "AAAA",
    "nothing": lambda _text: "",
    "no base64": lambda _text: "*",
    "base64 of the other alphabet": lambda text: "_" + text[1:],
    "not ASCII": lambda _text: "é",
}


@pytest.mark.parametrize("case", TAMPERED)
def test_what_was_tampered_with_does_not_open(case):
    keys = MasterKeys([KEYS["v1"]])
    key_id, ciphertext = keys.seal(EMAIL, CREDENTIALS)
    with pytest.raises(UndecryptableError):
        keys.open(EMAIL, key_id, TAMPERED[case](ciphertext))


def test_a_ciphertext_copied_under_another_email_does_not_open():
    keys = MasterKeys([KEYS["v1"]])
    with pytest.raises(UndecryptableError):
        keys.open("thief@example.com", *keys.seal(EMAIL, CREDENTIALS))


def test_a_ciphertext_that_names_another_key_does_not_open():
    keys = MasterKeys(list(KEYS.values()))
    _key_id, ciphertext = keys.seal(EMAIL, CREDENTIALS)
    with pytest.raises(UndecryptableError):
        keys.open(EMAIL, "v2", ciphertext)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"api_key": 1, "api_secret": "x"}', b"\xff"])
def test_what_is_sealed_but_no_credentials_is_as_if_it_did_not_open(text):
    sealed = b"n" * 12 + AESGCM(RAW["v1"]).encrypt(b"n" * 12, text, EMAIL.encode())
    with pytest.raises(UndecryptableError):
        MasterKeys([KEYS["v1"]]).open(EMAIL, "v1", base64.b64encode(sealed).decode())


def test_without_a_master_key_nothing_is_sealed():
    with pytest.raises(DependencyUnavailable) as caught:
        MasterKeys([VaultKey(id="v1")]).seal(EMAIL, CREDENTIALS)
    assert caught.value.reason == "vault_key_unset"


def test_credentials_do_not_show_themselves():
    for shown in (repr(CREDENTIALS), str(CREDENTIALS), f"{CREDENTIALS}"):
        assert shown == "Credentials()"

"""How registered credentials are kept: AES-256-GCM under a master key that never enters Redis.

`ciphertext` is base64 of nonce (96 random bits), sealed text and tag; the sealed text is JSON
`{"api_key", "api_secret"}`. The email is the associated data, so that a ciphertext copied under
another email does not open there. The record names its master key: the first configured one
seals, all of them open, so a key is replaced by putting a new one before it.
"""

import base64
import binascii
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.errors import DependencyUnavailable
from gateway.sections import VaultKey

NONCE_BYTES = 12  # NIST SP 800-38D §8.2.2


@dataclass(frozen=True, slots=True)
class Credentials:
    """A Binance key and its secret. Neither is shown by repr."""

    api_key: str = field(repr=False)
    api_secret: str = field(repr=False)


class UndecryptableError(Exception):
    """The record's master key is unknown, or the record was changed by someone without it."""


class MasterKeys:
    """Seals and opens credentials. Keys whose secret is unset are as if not configured."""

    def __init__(self, keys: Sequence[VaultKey]) -> None:
        self._ciphers = {
            key.id: AESGCM(base64.b64decode(key.secret.get_secret_value(), validate=True))
            for key in keys
            if key.secret is not None
        }

    @property
    def first(self) -> str:
        """The id of the key that seals. Raises DependencyUnavailable if none is configured."""
        if not self._ciphers:
            raise DependencyUnavailable(reason="vault_key_unset", retry_after=60)
        return next(iter(self._ciphers))

    def seal(self, email: str, credentials: Credentials) -> tuple[str, str]:
        """The id of the master key, and the ciphertext. Raises as `first` does."""
        key_id = self.first
        cipher = self._ciphers[key_id]
        text = json.dumps({"api_key": credentials.api_key, "api_secret": credentials.api_secret})
        nonce = os.urandom(NONCE_BYTES)
        sealed = cipher.encrypt(nonce, text.encode(), email.encode())
        return key_id, base64.b64encode(nonce + sealed).decode()

    def open(self, email: str, key_id: str, ciphertext: str) -> Credentials:
        """What was sealed for `email`. Raises UndecryptableError."""
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise UndecryptableError("unknown master key")
        try:
            sealed = base64.b64decode(ciphertext, validate=True)
            text = cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], email.encode())
            opened = json.loads(text)
            api_key, api_secret = opened["api_key"], opened["api_secret"]
        except (binascii.Error, InvalidTag, ValueError, LookupError, TypeError):
            # The cause could quote what was opened: it goes no further.
            raise UndecryptableError("not sealed by this key for this email") from None
        if not isinstance(api_key, str) or not isinstance(api_secret, str):
            raise UndecryptableError("not credentials")
        return Credentials(api_key, api_secret)

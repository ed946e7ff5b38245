"""Registered Binance keys: their records, their encryption, their verification with Binance."""

from gateway.vault.encryption import Credentials
from gateway.vault.vault import Vault
from gateway.vault.verification import Verification

__all__ = ["Credentials", "Vault", "Verification"]

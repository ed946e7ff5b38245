"""The vault: registers, shows, verifies and hands out the Binance keys of pattern 3.

What decides whether a key is handed out is `is_active` alone. `verification_status` is what
Binance said when it was last asked; it informs, because a key that was refused once (from another
address, before a permission was given) may be good now, and Binance itself decides at each use.

A record that can't be opened is our trouble, never "no key registered": it is logged as an error
and answered as a dependency that is away.
"""

import logging
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from gateway.errors import BinanceFailed, DependencyUnavailable
from gateway.jsonbody import normal_email
from gateway.sections import VaultSettings
from gateway.store.redis import Store
from gateway.store.times import iso_utc
from gateway.vault.binance import Binance, sendable
from gateway.vault.encryption import Credentials, MasterKeys, UndecryptableError
from gateway.vault.records import INVALID, UNVERIFIED, VERIFIED, VaultRecord, VaultRecords

logger = logging.getLogger("gateway.vault")


class Verification(Enum):
    """What became of a verification."""

    VERIFIED = auto()
    REFUSED = auto()  # by Binance
    INACTIVE = auto()  # switched off: Binance was not asked
    NOT_REGISTERED = auto()


class Vault:
    """`binance` may be left out where nothing is verified (commands). `clock` is Unix seconds.

    Emails are taken in any case and with blanks around; what is no email has no key. Every method
    raises StoreUnavailable when Redis is away.
    """

    def __init__(
        self,
        store: Store,
        settings: VaultSettings,
        binance: Binance | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._records = VaultRecords(store)
        self._master_keys = MasterKeys(settings.encryption_keys)
        self._binance = binance
        self._clock = clock

    async def add(self, email: str, api_key: str, api_secret: str) -> dict[str, Any]:
        """Register a key, in place of one that was there; it is active from now on, unverified.

        Raises ValueError, without quoting anything, if an argument can't be what it should be.
        """
        address = normal_email(email)
        if address is None:
            raise ValueError("not an email address")
        if not (sendable(api_key) and sendable(api_secret)):
            raise ValueError("key and secret must be visible ASCII, at most 256 characters each")
        master_key_id, ciphertext = self._master_keys.seal(
            address, Credentials(api_key, api_secret)
        )
        record = VaultRecord(
            email=address,
            master_key_id=master_key_id,
            ciphertext=ciphertext,
            verification_status=UNVERIFIED,
            last_verified=None,
            created_at=self._now(),
            is_active=True,
        )
        await self._records.replace(record)
        return record.shown()

    async def remove(self, email: str) -> bool:
        """Forget the key of `email`. Was there one?"""
        address = normal_email(email)
        return address is not None and await self._records.delete(address)

    async def show(self, email: str) -> dict[str, Any] | None:
        """The record of `email` without its secrets; None if there is none."""
        record = await self.status(email)
        return None if record is None else record.shown()

    async def status(self, email: str) -> VaultRecord | None:
        """The record of `email`, sealed; None if there is none."""
        address = normal_email(email)
        return None if address is None else await self._records.read(address)

    async def credentials(self, email: str) -> Credentials | None:
        """The active key of `email`; None if none is registered or it is switched off.

        Raises DependencyUnavailable if the record can't be opened.
        """
        record = await self.status(email)
        return self._opened(record) if record is not None and record.is_active else None

    async def verify(self, email: str) -> Verification:
        """Ask Binance whether it takes the key of `email`, and write down what it said.

        Raises BinanceFailed if Binance can't be asked; then the record stays as it was.
        """
        record = await self.status(email)
        if record is None:
            return Verification.NOT_REGISTERED
        if not record.is_active:
            return Verification.INACTIVE
        if self._binance is None:
            raise BinanceFailed("not configured")
        taken = await self._binance.takes(self._opened(record))
        await self._records.conclude(record, VERIFIED if taken else INVALID, self._now())
        return Verification.VERIFIED if taken else Verification.REFUSED

    def _opened(self, record: VaultRecord) -> Credentials:
        try:
            return self._master_keys.open(record.email, record.master_key_id, record.ciphertext)
        except UndecryptableError as error:
            local, _, domain = record.email.partition("@")
            logger.error(
                "vault record of %s***@%s can't be opened with master key %r: %s",
                local[0],
                domain,
                record.master_key_id,
                error,
            )
            raise DependencyUnavailable(reason="vault_undecryptable", retry_after=60) from None

    def _now(self) -> str:
        return iso_utc(self._clock())

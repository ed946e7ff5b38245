"""The vault: registers, shows, verifies and hands out the Binance keys of pattern 3.

What decides whether a key is handed out is `is_active` alone. `verification_status` is what
Binance said when it was last asked; it informs, because a key that was refused once (from another
address, before a permission was given) may be good now, and Binance itself decides at each use.

Users who register a key themselves have it tried first, and nothing changes unless Binance takes
it: a typing mistake must not drive out a key that works. What an operator has switched off stays
so, whatever its owner does; taking the key itself away is always the owner's right.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from gateway.errors import BinanceFailed, Forbidden, StoreUnavailable
from gateway.jsonbody import normal_email
from gateway.observe.metrics import Reading, Sourced
from gateway.sections import VaultSettings
from gateway.store.redis import Store
from gateway.store.times import iso_utc
from gateway.vault.binance import Binance, Judgement, sendable
from gateway.vault.encryption import Credentials, MasterKeys
from gateway.vault.opening import opened
from gateway.vault.records import (
    UNVERIFIED,
    VERIFIED,
    Change,
    VaultRecord,
    VaultRecords,
    masked,
)
from gateway.vault.turns import Turns
from gateway.vault.verification import MOST_RACES, Verification, Verifier

logger = logging.getLogger("gateway.vault")


class Vault:
    """`binance` may be left out where nothing is verified. `clock` is Unix seconds.

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
        self.records = VaultRecords(store)
        self.master_keys = MasterKeys(settings.encryption_keys)
        self.verifier: Verifier | None = None
        if binance is not None:
            self.verifier = Verifier(
                self.records,
                self.master_keys,
                binance,
                Turns(store, timeout_seconds=settings.timeout, calls=settings.verifications),
                verify_every=settings.verify_every,
                clock=clock,
            )
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
        record = self.sealed(address, Credentials(api_key, api_secret))
        await self.records.replace(record)
        return record.shown()

    async def register(self, email: str, credentials: Credentials) -> tuple[bool, bool]:
        """Register what the owner of `email` sent, if Binance takes it. `email` is normal.

        Returns whether it did, and whether there is a registered key now. Raises BinanceFailed if
        it could not be asked, Forbidden if an operator has switched this email's key off.
        """
        verifier = self._verifier()
        async with verifier.turns.of(email):
            before = await self._registrable(email)
            judgement = await verifier.judge(email, credentials)
            if not judgement.taken:
                return False, before is not None and bool(before.ciphertext)
            record = self._verified(self.sealed(email, credentials), judgement)
            for _ in range(MOST_RACES):
                if (await self.records.swap([Change(email, before, record.fields)], "whole"))[0]:
                    logger.info("the owner of %s registered a Binance key", masked(email))
                    return True, True
                before = await self._registrable(email)
        raise StoreUnavailable

    async def withdraw(self, email: str) -> bool:
        """Forget the key, as its owner wants it; if it was switched off, that stays. Was there one?

        `email` is normal.
        """
        for _ in range(MOST_RACES):
            record = await self.records.read(email)
            if record is None or not record.ciphertext:
                return False
            kept = {} if record.is_active else {"is_active": "0"}
            if (await self.records.swap([Change(email, record, kept)], "whole"))[0]:
                logger.info("the owner of %s took their Binance key away", masked(email))
                return True
        raise StoreUnavailable

    async def remove(self, email: str) -> bool:
        """Forget the record of `email`. Was there one?"""
        address = normal_email(email)
        return address is not None and await self.records.delete(address)

    async def switch(self, email: str, *, on: bool) -> dict[str, Any] | None:
        """Hand the key of `email` out from now on, or don't. None if there is no record."""
        address = normal_email(email)
        for _ in range(MOST_RACES):
            record = None if address is None else await self.records.read(address)
            if record is None:
                return None
            fields = {"is_active": "1" if on else "0"}
            if (await self.records.swap([Change(record.email, record, fields)]))[0]:
                return replace(record, is_active=on).shown()
        raise StoreUnavailable

    async def show(self, email: str) -> dict[str, Any] | None:
        """The record of `email` without its secrets; None if there is none."""
        address = normal_email(email)
        record = None if address is None else await self.records.read(address)
        return None if record is None else record.shown()

    async def status(self, email: str) -> VaultRecord | None:
        """The registered key of `email`, sealed; None if there is none."""
        address = normal_email(email)
        record = None if address is None else await self.records.read(address)
        return record if record is not None and record.ciphertext else None

    async def credentials(self, email: str) -> Credentials | None:
        """The active key of `email`; None if none is registered or it is switched off.

        Raises DependencyUnavailable if the record can't be opened.
        """
        record = await self.status(email)
        if record is None or not record.is_active:
            return None
        return opened(self.master_keys, record)

    async def verify(self, email: str, *, anew: bool = False) -> Verification:
        """Whether Binance takes the key of `email`, written down; see `verification.py`.

        Raises BinanceFailed if Binance can't be asked; then the record stays as it was.
        """
        record = await self.status(email)
        if record is None:
            return Verification.NOT_REGISTERED
        if not record.is_active:
            return Verification.INACTIVE
        return await self._verifier().verify(record, anew=anew)

    def readings(self) -> Iterator[Reading]:
        """What is counted here, for the metrics."""
        if self.verifier is not None:
            for result, count in self.verifier.counts.items():
                yield Reading(Sourced.VERIFICATIONS, (result,), count)

    def sealed(self, email: str, credentials: Credentials) -> VaultRecord:
        """A new record. Raises DependencyUnavailable if no master key is configured."""
        master_key_id, ciphertext = self.master_keys.seal(email, credentials)
        return VaultRecord(
            email=email,
            master_key_id=master_key_id,
            ciphertext=ciphertext,
            verification_status=UNVERIFIED,
            last_verified=None,
            created_at=self._now(),
            is_active=True,
        )

    def _verified(self, record: VaultRecord, judgement: Judgement) -> VaultRecord:
        return replace(
            record,
            verification_status=VERIFIED,
            last_verified=self._now(),
            permissions=judgement.permissions,
        )

    async def _registrable(self, email: str) -> VaultRecord | None:
        """The record that a registration would replace. Raises Forbidden if it must stay off."""
        record = await self.records.read(email)
        if record is not None and not record.is_active:
            raise Forbidden(
                "The registered key of this email is switched off", reason="key_switched_off"
            )
        return record

    def _verifier(self) -> Verifier:
        if self.verifier is None:
            raise BinanceFailed("not configured")
        return self.verifier

    def _now(self) -> str:
        return iso_utc(self._clock())

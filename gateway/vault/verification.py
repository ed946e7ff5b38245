"""Registered keys and Binance's word on them.

Whoever asks about a key within `verify_every` seconds of Binance's last word on it gets that word;
whoever asks while it is being asked about shares the answer, in this worker by waiting for the same
task and elsewhere by waiting for the turn (`turns.py`). Who asks without a credential may use
`STRANGERS_SHARE` of the calls alone: a flood leaves the rest to users who register, and operators.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from enum import Enum, auto

from gateway.errors import BinanceFailed
from gateway.store.times import iso_utc, unix_seconds
from gateway.vault.binance import Binance, Judgement
from gateway.vault.encryption import Credentials, MasterKeys
from gateway.vault.opening import opened
from gateway.vault.records import INVALID, VERIFIED, Change, VaultRecord, VaultRecords, masked
from gateway.vault.turns import Turns

logger = logging.getLogger("gateway.vault")

STRANGERS_SHARE = 0.75
MOST_RACES = 5  # lost to other writers of a record


class Verification(Enum):
    """What became of a verification."""

    VERIFIED = auto()
    REFUSED = auto()  # by Binance
    INACTIVE = auto()  # switched off: Binance was not asked
    NOT_REGISTERED = auto()


class Verifier:
    """Methods raise BinanceFailed when Binance can't be asked, StoreUnavailable likewise.

    `counts` has how many questions had which result: verified, invalid, unreachable, postponed
    (not asked, for there were too many), and of the verified ones how many may withdraw.
    """

    def __init__(
        self,
        records: VaultRecords,
        master_keys: MasterKeys,
        binance: Binance,
        turns: Turns,
        *,
        verify_every: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.turns = turns
        self.counts: Counter[str] = Counter()
        self._records = records
        self._master_keys = master_keys
        self._binance = binance
        self._every_seconds = verify_every
        self._clock = clock
        self._under_way: dict[tuple[str, str], asyncio.Task[Verification]] = {}

    async def verify(self, record: VaultRecord, *, anew: bool = False) -> Verification:
        """Binance's word on the key in `record`, written down. `anew`: an older one won't do."""
        if not anew and (known := self._known(record)) is not None:
            return known
        key = (record.email, record.ciphertext)
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(self._verify(record.email, anew=anew))

            def ended(ended: asyncio.Task[Verification]) -> None:
                self._under_way.pop(key, None)
                if not ended.cancelled():
                    ended.exception()  # whoever waited has it; nobody may be left

            task.add_done_callback(ended)
        return await asyncio.shield(task)

    async def judge(self, email: str, credentials: Credentials, share: float = 1.0) -> Judgement:
        """Ask Binance, at the turn of `email`, which the caller has."""
        try:
            await self.turns.spend(share)
        except BinanceFailed:
            self.counts["postponed"] += 1
            raise
        try:
            judgement = await self._binance.judge(credentials)
        except BinanceFailed as failed:
            self.counts["unreachable"] += 1
            if failed.retry_after is not None:
                await self.turns.pause(failed.retry_after)
            raise
        if judgement.pause_seconds is not None:
            await self.turns.pause(judgement.pause_seconds)
        self.counts[VERIFIED if judgement.taken else INVALID] += 1
        if judgement.can_withdraw:
            self.counts["can_withdraw"] += 1
            logger.warning("the Binance key registered for %s may withdraw", masked(email))
        return judgement

    async def _verify(self, email: str, *, anew: bool) -> Verification:
        async with self.turns.of(email):
            record = await self._records.read(email)
            if record is None or not record.ciphertext:
                return Verification.NOT_REGISTERED
            if not record.is_active:
                return Verification.INACTIVE
            if not anew and (known := self._known(record)) is not None:
                return known
            credentials = opened(self._master_keys, record)
            judgement = await self.judge(email, credentials, 1.0 if anew else STRANGERS_SHARE)
            await self._conclude(record, credentials, judgement)
        return Verification.VERIFIED if judgement.taken else Verification.REFUSED

    def _known(self, record: VaultRecord) -> Verification | None:
        """What Binance said within the last seconds, by whatever gateway's clock."""
        if record.last_verified is None or record.verification_status not in (VERIFIED, INVALID):
            return None
        try:
            age_seconds = self._clock() - unix_seconds(record.last_verified)
        except (ValueError, OverflowError):
            return None
        if abs(age_seconds) >= self._every_seconds:
            return None
        taken = record.verification_status == VERIFIED
        return Verification.VERIFIED if taken else Verification.REFUSED

    async def _conclude(
        self, record: VaultRecord, credentials: Credentials, judgement: Judgement
    ) -> None:
        """Write what Binance said, unless its key was replaced or removed since.

        Resealed under another master key, or switched off, it is still the key that was asked for.
        """
        fields = {
            "verification_status": VERIFIED if judgement.taken else INVALID,
            "last_verified": iso_utc(self._clock()),
        }
        if judgement.permissions is not None:
            fields["permissions"] = ",".join(judgement.permissions)
        for _ in range(MOST_RACES):
            if (await self._records.swap([Change(record.email, record, fields)]))[0]:
                return
            now = await self._records.read(record.email)
            if now is None or not now.ciphertext:
                return
            if opened(self._master_keys, now) != credentials:
                return
            record = now

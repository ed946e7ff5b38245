"""Registered keys in Redis: one hash `gw:vault:{email}`, a public contract (ARCHITECTURE.md).

Fields: ciphertext, master_key_id (see `encryption.py`), verification_status (`unverified`,
`verified` or `invalid`), last_verified (when Binance last said either), created_at, is_active (`1`
or `0`). Absent means null; times are ISO 8601 UTC without offset.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.store.redis import Store

UNVERIFIED, VERIFIED, INVALID = "unverified", "verified", "invalid"


@dataclass(frozen=True, slots=True)
class VaultRecord:
    """A registered key as it lies in Redis: sealed."""

    email: str
    master_key_id: str
    ciphertext: str
    verification_status: str
    last_verified: str | None
    created_at: str | None
    is_active: bool

    def shown(self) -> dict[str, Any]:
        """All of it but the ciphertext."""
        return {
            "email": self.email,
            "master_key_id": self.master_key_id,
            "verification_status": self.verification_status,
            "last_verified": self.last_verified,
            "created_at": self.created_at,
            "is_active": self.is_active,
        }


class VaultRecords:
    """Reads and writes the hashes. Every method raises StoreUnavailable when Redis is away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._conclude = store.script(
            Path(__file__).with_name("conclude.lua").read_text(encoding="utf-8")
        )

    async def read(self, email: str) -> VaultRecord | None:
        async with self._store.guard():
            fields = await self._store.client.hgetall(self._name(email))
        if not fields:
            return None
        return VaultRecord(
            email=email,
            master_key_id=fields.get("master_key_id", ""),
            ciphertext=fields.get("ciphertext", ""),
            verification_status=fields.get("verification_status", UNVERIFIED),
            last_verified=fields.get("last_verified"),
            created_at=fields.get("created_at"),
            is_active=fields.get("is_active") == "1",
        )

    async def replace(self, record: VaultRecord) -> None:
        """Write the whole record; nothing of one that was there before stays."""
        fields = {
            "master_key_id": record.master_key_id,
            "ciphertext": record.ciphertext,
            "verification_status": record.verification_status,
            "is_active": "1" if record.is_active else "0",
            "last_verified": record.last_verified,
            "created_at": record.created_at,
        }
        present = {name: value for name, value in fields.items() if value is not None}
        name = self._name(record.email)
        async with self._store.guard(), self._store.client.pipeline(transaction=True) as pipeline:
            pipeline.delete(name)
            pipeline.hset(name, mapping=present)
            await pipeline.execute()
        self._store.changed(name)

    async def delete(self, email: str) -> bool:
        """Was there one?"""
        async with self._store.guard():
            deleted = await self._store.client.delete(self._name(email))
        self._store.changed(self._name(email))
        return bool(deleted)

    async def conclude(self, record: VaultRecord, status: str, at: str) -> None:
        """Write what Binance said of `record`, unless its key was replaced or removed since."""
        async with self._store.guard():
            await self._conclude(
                keys=[self._name(record.email)], args=[record.ciphertext, status, at]
            )

    def _name(self, email: str) -> str:
        return self._store.key("vault", email)

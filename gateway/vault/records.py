"""Registered keys in Redis: one hash `gw:vault:{email}`, a public contract (ARCHITECTURE.md).

Fields: ciphertext, master_key_id (see `encryption.py`), verification_status (`unverified`,
`verified` or `invalid`), last_verified (when Binance last said either), permissions (what the key
may do, in Binance's words, with commas), created_at, is_active (`1` or `0`). Absent means null;
times are ISO 8601 UTC without offset.

A record without ciphertext is the mark of one that was switched off and whose owner took the key
away: no key, and none that its owner could register.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gateway.store.grouped import run_on_all
from gateway.store.redis import Store

UNVERIFIED, VERIFIED, INVALID = "unverified", "verified", "invalid"
MAY_WITHDRAW = "enableWithdrawals"  # of Binance's words the one that lets money leave


@dataclass(frozen=True, slots=True)
class VaultRecord:
    """A registered key as it lies in Redis: sealed. `permissions` None: not known."""

    email: str
    master_key_id: str
    ciphertext: str
    verification_status: str
    last_verified: str | None
    created_at: str | None
    is_active: bool
    permissions: tuple[str, ...] | None = None

    @property
    def can_withdraw(self) -> bool | None:
        return None if self.permissions is None else MAY_WITHDRAW in self.permissions

    @property
    def fields(self) -> dict[str, str]:
        """As Redis holds them."""
        fields = {
            "master_key_id": self.master_key_id,
            "ciphertext": self.ciphertext,
            "verification_status": self.verification_status,
            "is_active": "1" if self.is_active else "0",
            "last_verified": self.last_verified,
            "created_at": self.created_at,
            "permissions": None if self.permissions is None else ",".join(self.permissions),
        }
        return {name: value for name, value in fields.items() if value is not None}

    def shown(self) -> dict[str, Any]:
        """All of it but the ciphertext."""
        return {
            "email": self.email,
            "master_key_id": self.master_key_id,
            "verification_status": self.verification_status,
            "last_verified": self.last_verified,
            "created_at": self.created_at,
            "is_active": self.is_active,
            "permissions": None if self.permissions is None else list(self.permissions),
            "can_withdraw": self.can_withdraw,
        }


@dataclass(frozen=True, slots=True)
class Change:
    """Fields to write to the record of `email`, if it still is `before` (None: there is none)."""

    email: str
    before: VaultRecord | None
    fields: Mapping[str, str]


class VaultRecords:
    """Reads and writes the hashes. Every method raises StoreUnavailable when Redis is away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._swap = store.script(Path(__file__).with_name("swap.lua").read_text(encoding="utf-8"))

    async def read(self, email: str) -> VaultRecord | None:
        async with self._store.guard():
            fields = await self._store.client.hgetall(self._name(email))
        return _record(email, fields) if fields else None

    async def read_all(self, emails: Sequence[str]) -> tuple[list[VaultRecord], list[str]]:
        """The records that are there, in that order, and the emails whose records can't be read."""
        hashes = await self._store.read_hashes([self._name(email) for email in emails])
        pairs = list(zip(emails, hashes, strict=True))
        records = [_record(email, fields) for email, fields in pairs if fields]
        return records, [email for email, fields in pairs if fields is None]

    async def emails(self) -> AsyncIterator[list[str]]:
        """Of all records, some at a time, in no order; one may come twice."""
        space = self._name("")
        async for names in self._store.scan(f"{space}*"):
            yield [name.removeprefix(space) for name in names]

    async def replace(self, record: VaultRecord) -> None:
        """Write the whole record; nothing of one that was there before stays."""
        name = self._name(record.email)
        async with self._store.guard(), self._store.client.pipeline(transaction=True) as pipeline:
            pipeline.delete(name)
            pipeline.hset(name, mapping=record.fields)
            await pipeline.execute()
        self._store.changed(name)

    async def swap(
        self, changes: Sequence[Change], extent: Literal["whole", "part"] = "part"
    ) -> list[bool]:
        """Make each change whose record is as it was read; which of them were made.

        'whole': nothing of a record before stays, and without fields it is deleted.
        """
        names = [self._name(change.email) for change in changes]
        outcomes = await run_on_all(
            self._store, self._swap, names, [_words(change) for change in changes], extent
        )
        made = [outcome == 1 for outcome in outcomes]
        self._store.changed(*(name for name, done in zip(names, made, strict=True) if done))
        return made

    async def delete(self, email: str) -> bool:
        """Was there one?"""
        async with self._store.guard():
            deleted = await self._store.client.delete(self._name(email))
        self._store.changed(self._name(email))
        return bool(deleted)

    def _name(self, email: str) -> str:
        return self._store.key("vault", email)


def masked(email: str) -> str:
    """An email as logs and complaints may show it."""
    local, _, domain = email.partition("@")
    return f"{local[:1]}***@{domain}"


def _record(email: str, fields: Mapping[str, str]) -> VaultRecord:
    permissions = fields.get("permissions")
    return VaultRecord(
        email=email,
        master_key_id=fields.get("master_key_id", ""),
        ciphertext=fields.get("ciphertext", ""),
        verification_status=fields.get("verification_status", UNVERIFIED),
        last_verified=fields.get("last_verified"),
        created_at=fields.get("created_at"),
        is_active=fields.get("is_active") == "1",
        permissions=None if permissions is None else tuple(filter(None, permissions.split(","))),
    )


def _words(change: Change) -> list[str | int]:
    before = change.before
    had = ("", "") if before is None else (before.ciphertext, "1" if before.is_active else "0")
    pairs = [word for pair in change.fields.items() for word in pair]
    return [*had, len(pairs), *pairs]

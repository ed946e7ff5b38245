"""Plan keys (`pk_…`): made, issued, found by their sha256, revoked.

In Redis, a public contract (ARCHITECTURE.md): `gw:key:{sha256}` is a hash with id, user_id, name,
created_at, expires_at, revoked_at, replaced_by, allow, retires_at, silent_for; `gw:keyid:{id}` is
that sha256. The plaintext is shown once, when the key is issued, and is nowhere after that. What
can't be read is never valid: a time that isn't one counts as passed, a record without a user is no
key, a list of networks with a mistake in it lets nobody in.

Terms: *digest*: the sha256 of the whole key, prefix included, in lower-case hex.
"""

import logging
import re
import secrets
import string
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol
from zlib import crc32

from gateway.errors import StoreUnavailable
from gateway.networks import NetworkSet, network
from gateway.sections import KeySettings
from gateway.store.redis import Store
from gateway.store.times import has_passed, iso_utc, unix_seconds
from gateway.store.watch import Watched

logger = logging.getLogger("gateway.store")

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM_LENGTH, CHECKSUM_LENGTH = 30, 6
ID_LENGTH = 20
MAX_LENGTH = 256  # of keys of other shapes, brought along from elsewhere
OWN_SHAPE = re.compile(rf"pk_[0-9A-Za-z]{{{RANDOM_LENGTH + CHECKSUM_LENGTH}}}")


def new_key() -> str:
    """178 bits of chance."""
    body = "pk_" + _random(RANDOM_LENGTH)
    return body + _checksum(body)


def new_id() -> str:
    return "k_" + _random(ID_LENGTH)


def well_formed(key: str) -> bool:
    """Is it worth a lookup? Not if it is of our own shape and its checksum is wrong."""
    if OWN_SHAPE.fullmatch(key):
        return key[-CHECKSUM_LENGTH:] == _checksum(key[:-CHECKSUM_LENGTH])
    return 0 < len(key) <= MAX_LENGTH and key.isascii() and key.isprintable()


def digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()


def _random(length: int) -> str:
    return "".join(secrets.choice(BASE62) for _ in range(length))


def _checksum(body: str) -> str:
    number = crc32(body.encode())
    digits = ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, 62)
        digits = BASE62[digit] + digits
    return digits


class UnknownKeyError(LookupError):
    """There is no key with this id."""


class UserDirectory(Protocol):
    """What keys need of `identity/users.py`, which stands above the store."""

    async def ensure(self, user_id: int) -> None: ...


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as it lies in Redis. Times are as there: ISO 8601 UTC without offset."""

    id: str
    user_id: int
    name: str | None = None
    created_at: str | None = None
    expires_at: str | None = None
    revoked_at: str | None = None
    replaced_by: str | None = None
    allow: str | None = None  # networks it may be used from, with commas between
    retires_at: str | None = None
    silent_for: int | None = None  # seconds, see rotation.py

    def is_valid(self, now: float) -> bool:
        """`now` in Unix seconds. A revocation counts at once, whatever its time."""
        return self.revoked_at is None and not (
            has_passed(self.expires_at, now) or has_passed(self.retires_at, now)
        )

    def may_come_from(self, address: str) -> bool:
        """`address` is a client's, in its canonical text."""
        return self.allow is None or address in _networks(self.allow)

    def shown(self) -> dict[str, Any]:
        return asdict(self)


class Keys:
    """Every method raises StoreUnavailable when Redis is away. `clock` gives Unix seconds."""

    def __init__(
        self,
        store: Store,
        settings: KeySettings,
        users: UserDirectory,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._users = users
        self._clock = clock
        self._amend = store.script(Path(__file__).with_name("amend.lua").read_text())
        self._revoke = store.script(Path(__file__).with_name("revoke.lua").read_text())
        self.copies: Watched[KeyRecord] = Watched(
            store.changes,
            "key",
            self._read,
            _parse,
            remember=settings.remember,
            stale_for=settings.stale_for,
        )

    async def find(self, sha256_hex: str) -> KeyRecord | None:
        """The record of a key that was issued, valid or not. Doesn't suspend if it is known."""
        return await self.copies.get(sha256_hex)

    async def issue(
        self,
        user_id: int,
        name: str | None = None,
        expires_at: str | None = None,
        allow: str | None = None,
    ) -> tuple[KeyRecord, str]:
        """A new key and its plaintext. An unknown user is created.

        Raises ValueError for a time or user id that isn't one.
        """
        key = new_key()
        record = KeyRecord(
            id=new_id(),
            user_id=user_id,
            name=name,
            created_at=iso_utc(self._clock()),
            expires_at=None if expires_at is None else iso_utc(unix_seconds(expires_at)),
            allow=allow,
        )
        await self._users.ensure(user_id)
        sha256_hex = digest(key)
        fields = {name: value for name, value in record.shown().items() if value is not None}
        async with self._store.guard():
            # In this order: cut off in between, it is no key, and not one that can't be revoked.
            await self._store.client.set(self._store.key("keyid", record.id), sha256_hex)
            await self._store.client.hset(self._name(sha256_hex), mapping=fields)
        self._store.changed(self._name(sha256_hex))
        return record, key

    async def list(self, user_id: int | None = None) -> list[KeyRecord]:
        """All keys, or those of one user; the oldest first."""
        found: dict[str, KeyRecord] = {}
        async for names in self._store.scan(self._name("*")):
            for fields in await self._store.read_hashes(names):
                record = _parse("", fields or {})
                if record is not None and user_id in (None, record.user_id):
                    found[record.id] = record
        return sorted(found.values(), key=lambda record: (record.created_at or "", record.id))

    async def show(self, key_id: str) -> KeyRecord:
        """Raises UnknownKeyError."""
        async with self._store.guard():
            sha256_hex = await self._store.client.get(self._store.key("keyid", key_id))
        if sha256_hex is not None:
            (fields,) = await self._read([sha256_hex])
            if fields is None:
                raise StoreUnavailable
            record = _parse(sha256_hex, fields)
            if record is not None and record.id == key_id:
                return record
        raise UnknownKeyError(f"there is no key {key_id}")

    async def amend(self, key_id: str, fields: Mapping[str, str | None]) -> KeyRecord:
        """Set fields of a key's record; None takes one away. Raises UnknownKeyError."""
        pairs = [word for name, value in fields.items() for word in (name, value or "")]
        async with self._store.guard():
            sha256_hex = await self._store.client.get(self._store.key("keyid", key_id))
            amended = sha256_hex is not None and await self._amend(
                keys=[self._name(sha256_hex)], args=[key_id, *pairs]
            )
        if not amended:
            raise UnknownKeyError(f"there is no key {key_id}")
        self._store.changed(self._name(sha256_hex))
        return await self.show(key_id)

    async def revoke(self, key_id: str) -> KeyRecord:
        """From now on the key opens nothing. Again: nothing changes. Raises UnknownKeyError."""
        async with self._store.guard():
            sha256_hex = await self._store.client.get(self._store.key("keyid", key_id))
            revoked = sha256_hex is not None and await self._revoke(
                keys=[self._name(sha256_hex)], args=[key_id, iso_utc(self._clock())]
            )
        if not revoked:
            raise UnknownKeyError(f"there is no key {key_id}")
        self._store.changed(self._name(sha256_hex))
        return await self.show(key_id)

    def _name(self, sha256_hex: str) -> str:
        return self._store.key("key", sha256_hex)

    async def _read(self, digests: Sequence[str]) -> Sequence[dict[str, str] | None]:
        return await self._store.read_hashes([self._name(each) for each in digests])


def _parse(_digest: str, fields: Mapping[str, str]) -> KeyRecord | None:
    user_id = fields.get("user_id", "")
    key_id = fields.get("id", "")
    if not (key_id and re.fullmatch("[1-9][0-9]{0,15}", user_id)):
        if fields:
            logger.error("the key record with id %r names no id or no user: not valid", key_id)
        return None
    return KeyRecord(
        id=key_id,
        user_id=int(user_id),
        name=fields.get("name"),
        created_at=fields.get("created_at"),
        expires_at=fields.get("expires_at"),
        revoked_at=fields.get("revoked_at"),
        replaced_by=fields.get("replaced_by"),
        allow=fields.get("allow"),
        retires_at=fields.get("retires_at"),
        silent_for=_seconds(fields.get("silent_for")),
    )


@lru_cache(maxsize=8192)
def _networks(text: str) -> NetworkSet:
    try:
        return NetworkSet.of(network(one.strip()) for one in text.split(","))
    except ValueError:
        return NetworkSet.of(())


def _seconds(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch("[0-9]{1,12}", text) else None

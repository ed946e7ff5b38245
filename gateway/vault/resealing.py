"""All records under the first master key, while the gateway serves.

Each record is written only if it is as it was read: a key that was registered meanwhile, or taken
away, stays as it is then. What is under the first key already is left alone, so a run that was cut
off goes on where it was. A record that can't be opened is named, and left.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gateway.vault.encryption import UndecryptableError
from gateway.vault.records import Change, VaultRecord, masked
from gateway.vault.vault import Vault

MAX_COMPLAINTS = 1000
MOST_RACES = 5


@dataclass(slots=True)
class Tally:
    """What became of the records so far. `left` could not be opened, or not be read."""

    rotated: int = 0
    current: int = 0  # they were under the first key
    left: int = 0
    complaints: list[str] = field(default_factory=list)

    def shown(self) -> dict[str, Any]:
        records = self.rotated + self.current + self.left
        return {"records": records, **asdict(self)}

    def leave(self, email: str, why: str) -> None:
        self.left += 1
        if len(self.complaints) < MAX_COMPLAINTS:
            self.complaints.append(f"{masked(email)} {why}")


class Resealing:
    """`run` stops after some records each; `tally` is what became of them so far.

    It raises StoreUnavailable, and DependencyUnavailable without a master key.
    """

    def __init__(self, vault: Vault) -> None:
        self.tally = Tally()
        self._records = vault.records
        self._master_keys = vault.master_keys

    async def run(self) -> AsyncIterator[None]:
        first = self._master_keys.first
        seen: set[int] = set()  # a scan may name a record twice
        async for emails in self._records.emails():
            new = [email for email in dict.fromkeys(emails) if hash(email) not in seen]
            seen.update(map(hash, new))
            await self._reseal(new, first)
            yield

    async def _reseal(self, emails: Sequence[str], first: str) -> None:
        due, tally = emails, self.tally
        for _ in range(MOST_RACES):
            records, unread = await self._records.read_all(due)
            for email in unread:
                tally.leave(email, "can't be read")
            others = [
                record for record in records if record.ciphertext and record.master_key_id != first
            ]
            tally.current += len(records) - len(others)
            changes = [change for record in others if (change := self._change(record)) is not None]
            made = await self._records.swap(changes) if changes else []
            tally.rotated += sum(made)
            due = [change.email for change, done in zip(changes, made, strict=True) if not done]
            if not due:
                return
        for email in due:
            tally.leave(email, "changes too often; run it again")

    def _change(self, record: VaultRecord) -> Change | None:
        try:
            credentials = self._master_keys.open(
                record.email, record.master_key_id, record.ciphertext
            )
        except UndecryptableError as error:
            key_id = record.master_key_id[:64]
            self.tally.leave(record.email, f"can't be opened with master key {key_id!r}: {error}")
            return None
        key_id, ciphertext = self._master_keys.seal(record.email, credentials)
        fields = {"master_key_id": key_id, "ciphertext": ciphertext}
        return Change(record.email, record, fields)

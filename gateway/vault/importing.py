"""Registered keys out of JSON lines, `{"email": …, "api_key": …, "api_secret": …}` each.

Rules: plaintext comes in and is sealed before Redis sees it. A line that can't be taken is told
with its number, never with anything of it, and the others are taken. A key that is here stays,
unless the lines are said to go before it; what is switched off stays so in any case. The same lines
again change nothing, so an import that was cut off is run again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gateway.errors import Invalid
from gateway.jsonbody import normal_email, parse_object
from gateway.vault.binance import sendable
from gateway.vault.encryption import Credentials, UndecryptableError
from gateway.vault.records import Change, VaultRecord
from gateway.vault.vault import Vault

FIELDS = frozenset({"email", "api_key", "api_secret"})
LONGEST_LINE = 4096  # characters
MAX_COMPLAINTS = 1000


@dataclass(slots=True)
class Tally:
    """What became of lines. `complaints`: number and fault of the first bad ones."""

    lines: int = 0
    new: int = 0
    changed: int = 0
    same: int = 0
    kept: int = 0  # another key is here, which stays
    refused: int = 0
    complaints: list[tuple[int, str]] = field(default_factory=list)

    def refuse(self, number: int, why: str) -> None:
        self.refused += 1
        if len(self.complaints) < MAX_COMPLAINTS:
            self.complaints.append((number, why))

    def add(self, other: "Tally") -> None:
        for name in ("lines", "new", "changed", "same", "kept", "refused"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.complaints = [*self.complaints, *other.complaints][:MAX_COMPLAINTS]


async def take(
    vault: Vault, lines: Sequence[str], *, first: int = 1, overwrite: bool = False
) -> Tally:
    """Take some lines in; `first` is the number of the first one.

    Raises StoreUnavailable, then some may have been taken, and DependencyUnavailable without a
    master key.
    """
    tally = Tally(lines=len(lines))
    given: dict[str, tuple[int, Credentials]] = {}
    for number, text in enumerate(lines, first):
        if not text.strip():
            continue
        try:
            email, credentials = _parse(text)
        except ValueError as error:
            tally.refuse(number, str(error))
            continue
        if email in given:
            tally.refuse(number, f"email stands in line {given[email][0]} too; leave one out")
        else:
            given[email] = number, credentials
    here = await _here(vault, given, tally)
    changes = {}
    for email, (_, credentials) in given.items():
        before = here.get(email)
        if before is not None and _holds(vault, before, credentials):
            tally.same += 1
        elif before is not None and not overwrite:
            tally.kept += 1
        else:
            record = vault.sealed(email, credentials)
            if before is not None:
                record = replace(record, is_active=before.is_active)
            changes[email] = Change(email, before, record.fields)
    made = await vault.records.swap(list(changes.values()), "whole") if changes else []
    for change, done in zip(changes.values(), made, strict=True):
        if not done:
            why = "another key was registered for this email meanwhile; run it again"
            tally.refuse(given[change.email][0], why)
        elif change.before is None:
            tally.new += 1
        else:
            tally.changed += 1
    tally.complaints.sort()
    return tally


async def _here(
    vault: Vault, given: dict[str, tuple[int, Credentials]], tally: Tally
) -> dict[str, VaultRecord]:
    """The records that there are, by email. Lines whose records can't be read go."""
    records, unread = await vault.records.read_all(list(given)) if given else ([], [])
    for email in unread:
        number, _ = given.pop(email)
        tally.refuse(number, "what is here under this email can't be read")
    return {record.email: record for record in records}


def _holds(vault: Vault, record: VaultRecord, credentials: Credentials) -> bool:
    try:
        opened = vault.master_keys.open(record.email, record.master_key_id, record.ciphertext)
    except UndecryptableError:
        return False
    return opened == credentials


def _parse(text: str) -> tuple[str, Credentials]:
    """Email and key of a line. Raises ValueError with what is wrong, and nothing of the line."""
    if len(text) > LONGEST_LINE:
        raise ValueError(f"must have at most {LONGEST_LINE} characters")
    try:
        line = parse_object(text.encode("utf-8", "surrogateescape"))
    except Invalid:
        raise ValueError("must be a JSON object in UTF-8, with no name twice") from None
    if set(line) != FIELDS:
        raise ValueError("must be an object with email, api_key and api_secret, nothing else")
    email = normal_email(line["email"]) if isinstance(line["email"], str) else None
    if email is None:
        raise ValueError("email must be an email address")
    for name in ("api_key", "api_secret"):
        if not isinstance(line[name], str) or not sendable(line[name]):
            raise ValueError(f"{name} must be at most 256 visible ASCII characters")
    return email, Credentials(line["api_key"], line["api_secret"])

"""Plan keys on their way from one Redis to another: JSON lines, one key each, never the key itself.

A line is what `gw:key:{sha256}` holds, and `sha256`. Rules of the way in: a line that can't be
taken is told with its number, and the others are; the same file again changes nothing, so whoever
was interrupted begins anew. What the file says goes before what is here, but for a revocation: one
that is here stays. No id comes to stand for another key, and no key gets another id.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path

from gateway.networks import network
from gateway.store.keys import KeyRecord, UserDirectory
from gateway.store.redis import Store
from gateway.store.rotation import expect_silence
from gateway.store.times import unix_seconds

KEYS_A_BATCH = 500
LONGEST_LINE = 16_384  # characters
LONGEST_NAME = 100
MAX_COMPLAINTS = 100
FORM = 'must be a JSON object, as in {"sha256": "...", "id": "k_...", "user_id": 42}'
KNOWN = {one.name for one in fields(KeyRecord)}
OUTCOMES = ("new", "changed", "same")

_DIGEST = re.compile("[0-9a-f]{64}").fullmatch
_ID = re.compile("[!-~]{1,200}").fullmatch


@dataclass(slots=True)
class Tally:
    """What became of the lines so far. `complaints` holds the first, each with its line."""

    lines: int = 0
    new: int = 0
    changed: int = 0
    same: int = 0
    refused: int = 0
    complaints: list[str] = field(default_factory=list)

    def refuse(self, number: int, why: str) -> None:
        self.refused += 1
        if len(self.complaints) < MAX_COMPLAINTS:
            self.complaints.append(f"line {number}: {why}")


@dataclass(frozen=True, slots=True)
class Line:
    """A key that can be taken: `fields` is its record, `id` first."""

    number: int
    sha256: str
    fields: Mapping[str, str]


class Transfer:
    """Every method raises StoreUnavailable when Redis is away."""

    def __init__(self, store: Store, users: UserDirectory) -> None:
        self._store = store
        self._users = users
        self._ensured: set[int] = set()
        self._adopt = store.script(Path(__file__).with_name("adopt.lua").read_text())

    async def export(self) -> AsyncIterator[str]:
        """A line for each key, in no order; some may come twice."""
        space = self._store.key("key", "")
        async for names in self._store.scan(f"{space}*"):
            for name, record in zip(names, await self._store.read_hashes(names), strict=True):
                if record:
                    yield json.dumps({"sha256": name.removeprefix(space), **record})

    async def take(self, lines: Iterable[str]) -> AsyncIterator[Tally]:
        """Take them in; the tally so far, now and then, and at the end."""
        tally = Tally()
        numbered = enumerate(lines, 1)
        while batch := list(islice(numbered, KEYS_A_BATCH)):
            good = []
            for number, text in batch:
                tally.lines = number
                if not text.strip():
                    continue
                try:
                    good.append(parse(number, text))
                except ValueError as error:
                    tally.refuse(number, str(error))
            await self._ensure_users(good)
            await self._take_batch(good, tally)
            yield tally

    async def _ensure_users(self, lines: Sequence[Line]) -> None:
        """As when a key is issued: who is unknown is made."""
        wanted = {int(line.fields["user_id"]) for line in lines} - self._ensured
        if not wanted:
            return
        names = {user_id: self._store.key("user", str(user_id)) for user_id in wanted}
        async with self._store.guard():
            pipeline = self._store.client.pipeline(transaction=False)
            for name in names.values():
                pipeline.exists(name)
            known = await pipeline.execute()
        unknown = [user_id for user_id, is_there in zip(names, known, strict=True) if not is_there]
        await asyncio.gather(*map(self._users.ensure, unknown))
        self._ensured |= wanted

    async def _take_batch(self, lines: Sequence[Line], tally: Tally) -> None:
        """An id first leads to nobody, which counts as none; then the record is there at once."""
        holders = await self._claim(lines)
        own = []
        for line, holder in zip(lines, holders, strict=True):
            if holder == line.sha256:
                own.append(line)
            else:
                tally.refuse(line.number, "its id stands for another key here; give it a new one")
        outcomes = await self._write(own)
        silences = {
            line.fields["id"]: int(line.fields["silent_for"])
            for line in own
            if "silent_for" in line.fields
        }
        if silences:
            await expect_silence(self._store, silences)
        for line, outcome in zip(own, outcomes, strict=True):
            if outcome in OUTCOMES:
                setattr(tally, outcome, getattr(tally, outcome) + 1)
                self._store.changed(self._store.key("key", line.sha256))
            else:
                tally.refuse(line.number, "this key has another id here; give it that one")

    async def _claim(self, lines: Sequence[Line]) -> list[str | None]:
        """Make each id stand for its key, if it stands for none; what each stands for then."""
        names = [self._store.key("keyid", line.fields["id"]) for line in lines]
        async with self._store.guard():
            pipeline = self._store.client.pipeline(transaction=False)
            for name, line in zip(names, lines, strict=True):
                pipeline.set(name, line.sha256, nx=True)
            taken = await pipeline.execute()
        if all(taken):
            return [line.sha256 for line in lines]
        async with self._store.guard():
            pipeline = self._store.client.pipeline(transaction=False)
            for name in names:
                pipeline.get(name)
            holders: list[str | None] = await pipeline.execute()
        return holders

    async def _write(self, lines: Sequence[Line]) -> list[str]:
        async with self._store.guard():
            pipeline = self._store.client.pipeline(transaction=False)
            for line in lines:
                words = [word for pair in line.fields.items() for word in pair]
                await self._adopt([self._store.key("key", line.sha256)], words, client=pipeline)
            outcomes: list[str] = await pipeline.execute()
        return outcomes


def parse(number: int, text: str) -> Line:
    """Raises ValueError, which never shows what stands there."""
    if len(text) > LONGEST_LINE:
        raise ValueError(f"has more than {LONGEST_LINE} characters")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise ValueError(FORM)  # noqa: TRY004  # of the text, whatever it holds
    sha256 = given.pop("sha256", None)
    if not isinstance(sha256, str) or not _DIGEST(sha256):
        raise ValueError("sha256 must be 64 hex digits in lower case, of the whole key")
    if any(name not in KNOWN for name in given):
        raise ValueError(f"has an unknown field; known: sha256, {', '.join(sorted(KNOWN))}")
    record = {name: value for name, value in given.items() if value is not None}
    ordered = {"id": record.pop("id", None), "user_id": record.pop("user_id", None), **record}
    for name, value in ordered.items():
        if not _FORMS.get(name, _is_text)(value):
            raise ValueError(f"{name} is not of its form, or missing")
    return Line(number, sha256, {name: str(value) for name, value in ordered.items()})


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable()


def _is_id(value: object) -> bool:
    return isinstance(value, str) and _ID(value) is not None and not value.startswith("pk_")


def _is_user(value: object) -> bool:
    return type(value) in (int, str) and re.fullmatch("[1-9][0-9]{0,14}", str(value)) is not None


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and unix_seconds(value) is not None
    except (ValueError, OverflowError):
        return False


def _is_number(value: object) -> bool:
    return type(value) in (int, str) and re.fullmatch("[0-9]{1,12}", str(value)) is not None


def _are_networks(value: object) -> bool:
    try:
        return isinstance(value, str) and bool([network(one.strip()) for one in value.split(",")])
    except ValueError:
        return False


_FORMS = {
    "id": _is_id,
    "user_id": _is_user,
    "name": _is_name,
    "created_at": _is_time,
    "expires_at": _is_time,
    "replaced_by": _is_id,
    "retires_at": _is_time,
    "silent_for": _is_number,
    "allow": _are_networks,
}

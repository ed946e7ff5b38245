"""Plan keys on their way out of a Redis and into another, as lines of a file (`keyline.py`).

Rules of the way in: a line that can't be taken is told with its number, and the others are taken.
Whose key it is never changes: no id comes to stand for another key, no key gets another id or
user. A revocation is taken over, and one that is here stays. What else differs stays as it is here,
unless the file is said to go before it. A user who is unknown is created, with the plan of the
line; whoever is known keeps theirs.

The same file again changes nothing. One whose import did not come to its end goes on where it was:
`gw:import:{sha256 of the first batch}` is a hash with the sha256 of each batch that is done, for a
day; batches with a bad line aren't, so that it is told again.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Protocol

from gateway.store.grouped import run_on_all
from gateway.store.keyline import KeyLine, parse, write
from gateway.store.redis import Store
from gateway.store.rotation import expect_silence
from gateway.store.script import Script

LINES_A_BATCH = 500
MAX_COMPLAINTS = 1000
DONE_SECONDS = 86_400  # that it is known which batches of an unfinished import are done
OUTCOMES = ("new", "changed", "same", "kept")


class Newcomers(Protocol):
    """What the way in needs of `identity/users.py`, which stands above the store."""

    async def ensure_all(self, plans: Mapping[int, tuple[str, str]]) -> int: ...


@dataclass(slots=True)
class Tally:
    """What became of the lines so far. `complaints`: number and fault of the first bad ones."""

    lines: int = 0
    done_before: int = 0  # lines that an import which did not come to its end has taken
    new: int = 0
    changed: int = 0
    same: int = 0
    kept: int = 0  # they differ from what is here, which stays
    refused: int = 0
    users: int = 0  # created
    complaints: list[tuple[int, str]] = field(default_factory=list)

    def refuse(self, number: int, why: str) -> None:
        self.refused += 1
        if len(self.complaints) < MAX_COMPLAINTS:
            self.complaints.append((number, why))


class Transfer:
    """`plans` are those that there are. Methods raise StoreUnavailable when Redis is away."""

    def __init__(
        self, store: Store, users: Newcomers, plans: Sequence[str], *, overwrite: bool = False
    ) -> None:
        self.unread = 0  # records that could not be read, and were not exported
        self._store = store
        self._users = users
        self._plans = plans
        self._goes_before = "file" if overwrite else "here"
        self._claim = _script(store, "claim.lua")
        self._adopt = _script(store, "adopt.lua")

    async def export(self) -> AsyncIterator[str]:
        """A line for each key, in no order; one may come twice."""
        space = self._store.key("key", "")
        async for names in self._store.scan(f"{space}*"):
            records = await self._store.read_hashes(names)
            self.unread += records.count(None)
            holders = {record.get("user_id", "") for record in records if record}
            user_ids = sorted(holders)
            found = await self._store.read_hashes(
                [self._store.key("user", user_id) for user_id in user_ids]
            )
            users = dict(zip(user_ids, found, strict=True))
            for name, record in zip(names, records, strict=True):
                if record:
                    user = users[record.get("user_id", "")]
                    yield write(name.removeprefix(space), record, user or {})

    async def take(self, lines: Iterable[str]) -> AsyncIterator[Tally]:
        """Take them in; the tally so far after each batch, and at the end."""
        tally = Tally()
        numbered = enumerate(lines, 1)
        name: str | None = None
        done: set[str] = set()
        while batch := list(islice(numbered, LINES_A_BATCH)):
            digest = self._digest(batch)
            if name is None:
                name = self._store.key("import", digest)
                async with self._store.guard():
                    done = set(await self._store.client.hgetall(name))
            tally.lines = batch[-1][0]
            if digest in done:
                tally.done_before += len(batch)
            else:
                refused = tally.refused
                await self._take_batch(batch, tally)
                if tally.refused == refused:
                    await self._note(name, digest)
            yield tally
        if name is not None and not tally.refused:
            async with self._store.guard():
                await self._store.client.delete(name)

    def _digest(self, batch: Sequence[tuple[int, str]]) -> str:
        """Of what it says, and of what goes before what."""
        text = "\n".join([self._goes_before, *(line for _, line in batch)])
        return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    async def _note(self, name: str, digest: str) -> None:
        async with self._store.guard():
            pipeline = self._store.client.pipeline(transaction=True)
            pipeline.hset(name, digest, "1")
            pipeline.pexpire(name, DONE_SECONDS * 1000)
            await pipeline.execute()

    async def _take_batch(self, batch: Sequence[tuple[int, str]], tally: Tally) -> None:
        """An id first leads to nobody, which counts as none; then the record is there at once."""
        lines: dict[int, KeyLine] = {}
        for number, text in batch:
            if text.strip():
                try:
                    lines[number] = parse(text, self._plans)
                except ValueError as error:
                    tally.refuse(number, str(error))
        claimed = await self._claim_ids(lines, tally)
        newcomers = {
            int(line.record["user_id"]): (line.plan, line.plan_expires_at)
            for line in reversed(lines.values())  # of several lines the first counts
        }
        tally.users += await self._users.ensure_all(newcomers)
        await self._adopt_records(lines, claimed, tally)

    async def _claim_ids(self, lines: dict[int, KeyLine], tally: Tally) -> set[str]:
        """Which ids, by their whole names, stood for no key. Lines with another key's id go."""
        names = [self._id_name(line) for line in lines.values()]
        digests = [(line.sha256,) for line in lines.values()]
        outcomes = await run_on_all(self._store, self._claim, names, digests)
        for number, outcome in zip(list(lines), outcomes, strict=True):
            if outcome == "other":
                del lines[number]
                tally.refuse(number, "id stands for another key here; give this one a new id")
        return {name for name, each in zip(names, outcomes, strict=True) if each == "claimed"}

    async def _adopt_records(
        self, lines: Mapping[int, KeyLine], claimed: set[str], tally: Tally
    ) -> None:
        names = [self._store.key("key", line.sha256) for line in lines.values()]
        words = [
            (2 * len(line.record), *(word for pair in line.record.items() for word in pair))
            for line in lines.values()
        ]
        outcomes = await run_on_all(self._store, self._adopt, names, words, self._goes_before)
        self._store.changed(*names)
        silences: dict[str, int] = {}
        for (number, line), outcome in zip(lines.items(), outcomes, strict=True):
            if outcome in OUTCOMES:
                setattr(tally, outcome, getattr(tally, outcome) + 1)
                if "silent_for" in line.record:
                    silences[line.record["id"]] = int(line.record["silent_for"])
                claimed.discard(self._id_name(line))
            else:
                tally.refuse(number, "the key has another id or user here; give it those")
        if silences:
            await expect_silence(self._store, silences)
        if free := claimed & {self._id_name(line) for line in lines.values()}:
            async with self._store.guard():
                await self._store.client.delete(*free)

    def _id_name(self, line: KeyLine) -> str:
        return self._store.key("keyid", line.record["id"])


def _script(store: Store, name: str) -> Script:
    return store.script(Path(__file__).with_name(name).read_text())

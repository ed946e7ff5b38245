"""Plan keys on their way out of a Redis and into another (`lines.py`, `keyline.py`).

Rules of the way in: whose key it is never changes: no id comes to stand for another key, no key
gets another id or user. A revocation is taken over, and one that is here stays. What else differs
stays as it is here, unless the file is said to go before it. A user who is unknown is created, with
the plan of the line; whoever is known keeps theirs.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.store.grouped import run_on_all
from gateway.store.keyline import KeyLine, parse, write
from gateway.store.lines import OUTCOMES, Tally, Transfer
from gateway.store.redis import Store
from gateway.store.rotation import expect_silence
from gateway.store.script import Script


class Newcomers(Protocol):
    """What the way in needs of `identity/users.py`, which stands above the store."""

    async def ensure_all(self, plans: Mapping[int, tuple[str, str]]) -> int: ...


@dataclass(slots=True)
class KeyTally(Tally):
    """Of keys, and `users` who were created for them."""

    users: int = 0


class KeyTransfer(Transfer[KeyTally]):
    """`plans` are those that there are."""

    def __init__(
        self, store: Store, users: Newcomers, plans: Sequence[str], *, overwrite: bool = False
    ) -> None:
        super().__init__(store, overwrite=overwrite)
        self._users = users
        self._plans = plans
        self._claim = _script(store, "claim.lua")
        self._adopt = _script(store, "adopt.lua")

    async def export(self) -> AsyncIterator[str]:
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

    def _new_tally(self) -> KeyTally:
        return KeyTally()

    async def _take_batch(self, batch: Sequence[tuple[int, str]], tally: KeyTally) -> None:
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

    async def _claim_ids(self, lines: dict[int, KeyLine], tally: KeyTally) -> set[str]:
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
        self, lines: Mapping[int, KeyLine], claimed: set[str], tally: KeyTally
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
                tally.count(outcome)
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

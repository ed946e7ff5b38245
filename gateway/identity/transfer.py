"""Users on their way out of a Redis and into another (`lines.py`, `userline.py`).

Rules of the way in: whose subject or email it is never changes: a line with one that belongs to
somebody else here is refused, and so is one that would give a user another than they have. What
ends access is taken over, also where what is here goes before the file: `disabled_at`, the later
end of tokens, revoked tokens, links that were taken away. Nobody who was deleted here comes back,
and nobody is deleted by a line.

Indexes are claimed before the records are written, and looked at again after it: a sign-in in
between may have been faster, and is not undone.
"""

import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.identity.spread_users import record_script
from gateway.identity.user import fits, is_id
from gateway.identity.userline import read, write
from gateway.store.grouped import run_on_all
from gateway.store.lines import OUTCOMES, Tally, Transfer
from gateway.store.redis import Store
from gateway.store.times import iso_utc

CLAIM = Path(__file__).parents[1] / "store" / "claim.lua"
WHY = {
    "deleted": "id was deleted here, and no id is given twice",
    "alive": "deleted_at deletes nobody here; `gateway users delete` does",
    "email": "email is not the one that the user has here",
    "google_id": "google_id is not the one that the user has here",
    "apple_id": "apple_id is not the one that the user has here",
    "unlinked": "a link was taken from the user here; `gateway users show` tells which",
}


@dataclass(frozen=True, slots=True)
class _Claim:
    """An index that is to lead to a line's user."""

    number: int
    field: str
    value: str
    name: str
    user_id: str
    is_needed: bool  # an email that nobody vouches for may be somebody else's


class UserTransfer(Transfer[Tally]):
    """`plans` are those that there are. `clock` gives Unix seconds."""

    def __init__(
        self,
        store: Store,
        plans: Sequence[str],
        *,
        overwrite: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(store, overwrite=overwrite)
        self._plans = plans
        self._clock = clock
        self._claim_script = store.script(CLAIM.read_text())
        self._move_script = record_script(store, "claim_index.lua")
        self._adopt_script = record_script(store, "adopt_users.lua")

    async def export(self) -> AsyncIterator[str]:
        space = self._store.key("user", "")
        async for names in self._store.scan(f"{space}[0-9]*"):
            records = await self._store.read_hashes(names)
            for name, record in zip(names, records, strict=True):
                user_id = name.removeprefix(space)
                self.unread += record is None
                if record and is_id(user_id):
                    yield write(user_id, record)

    def _new_tally(self) -> Tally:
        return Tally()

    async def _take_batch(self, batch: Sequence[tuple[int, str]], tally: Tally) -> None:
        lines: dict[int, dict[str, str]] = {}
        for number, text in batch:
            if text.strip():
                try:
                    lines[number] = read(text, self._plans)
                except ValueError as error:
                    tally.refuse(number, str(error))
        claims = [claim for number, line in lines.items() for claim in self._claims(number, line)]
        coming = {line["id"] for line in lines.values()}
        outcomes = dict(zip(claims, await self._claim(claims, coming), strict=True))
        for claim, outcome in outcomes.items():
            if outcome == "other" and claim.is_needed and claim.number in lines:
                del lines[claim.number]
                tally.refuse(claim.number, f"{claim.field} belongs to another user here")
        adopted = await self._adopt_records(lines)
        held = [claim for claim in claims if claim.number in lines]
        lost = {
            claim.number: claim.field
            for claim, outcome in zip(held, await self._claim(held, coming), strict=True)
            if outcome == "other" and claim.is_needed
        }
        for number, outcome in adopted.items():
            if outcome not in OUTCOMES:
                del lines[number]
                tally.refuse(number, WHY[outcome])
            elif number in lost:
                tally.refuse(number, f"{lost[number]} went to another user meanwhile")
            else:
                tally.count(outcome)
        for claim, outcome in outcomes.items():
            if outcome == "claimed" and claim.number not in lines:
                await self._move(claim, claim.user_id, "")

    def _claims(self, number: int, line: Mapping[str, str]) -> Iterator[_Claim]:
        for field in ("google_id", "apple_id", "email"):
            if value := line.get(field):
                name = self._store.key("user", "by", field.removesuffix("_id"), value)
                is_needed = field != "email" or line.get("email_verified") != "0"
                yield _Claim(number, field, value, name, line["id"], is_needed)

    async def _claim(self, claims: Sequence[_Claim], coming: Collection[str]) -> list[str]:
        """For each 'claimed', 'same' if it led to that user, or 'other'.

        `coming` are the ids of users whose records may be there only in a moment.
        """
        names = [claim.name for claim in claims]
        words = [(claim.user_id,) for claim in claims]
        outcomes: list[str] = await run_on_all(self._store, self._claim_script, names, words)
        for at, claim in enumerate(claims):
            if outcomes[at] == "other" and await self._was_free(claim, coming):
                outcomes[at] = "claimed"
        return outcomes

    async def _was_free(self, claim: _Claim, coming: Collection[str]) -> bool:
        """An index that leads to nobody is, and the claim's from now on."""
        async with self._store.guard():
            seen = await self._store.client.get(claim.name) or ""
        (record,) = await self._store.read_hashes([self._store.key("user", seen)])
        if seen in coming or record is None or fits(record, claim.field, claim.value):
            return False
        return await self._move(claim, seen, claim.user_id)

    async def _move(self, claim: _Claim, seen: str, user_id: str) -> bool:
        async with self._store.guard():
            return bool(await self._move_script(keys=[claim.name], args=[seen, user_id]))

    async def _adopt_records(self, lines: Mapping[int, Mapping[str, str]]) -> dict[int, str]:
        names = [self._store.key("user", line["id"]) for line in lines.values()]
        words = [
            (2 * len(line), *(word for pair in line.items() for word in pair))
            for line in lines.values()
        ]
        now = iso_utc(self._clock())
        outcomes = await run_on_all(
            self._store, self._adopt_script, names, words, self._goes_before, now
        )
        self._store.changed(*names)
        return dict(zip(lines, outcomes, strict=True))

"""Records on their way out of a Redis and into another, as lines of a file.

Rules of the way in: a line that can't be taken is told with its number, and the others are taken.
The same file again changes nothing. One whose import did not come to its end goes on where it was:
`gw:import:{sha256 of the first batch}` is a hash with the sha256 of each batch that is done, for a
day; batches with a bad line aren't, so that it is told again.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from typing import Generic, TypeVar

from gateway.store.redis import Store

LINES_A_BATCH = 500
MAX_COMPLAINTS = 1000
DONE_SECONDS = 86_400  # that it is known which batches of an unfinished import are done
OUTCOMES = ("new", "changed", "same", "kept")


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
    complaints: list[tuple[int, str]] = field(default_factory=list)

    def count(self, outcome: str) -> None:
        """`outcome` is one of OUTCOMES."""
        setattr(self, outcome, getattr(self, outcome) + 1)

    def refuse(self, number: int, why: str) -> None:
        self.refused += 1
        if len(self.complaints) < MAX_COMPLAINTS:
            self.complaints.append((number, why))


T = TypeVar("T", bound=Tally)


class Transfer(ABC, Generic[T]):
    """`overwrite`: the file goes before what is here.

    Methods raise StoreUnavailable when Redis is away.
    """

    def __init__(self, store: Store, *, overwrite: bool = False) -> None:
        self.unread = 0  # records that could not be read, and were not exported
        self._store = store
        self._goes_before = "file" if overwrite else "here"

    @abstractmethod
    def export(self) -> AsyncIterator[str]:
        """A line for each record, in no order; one may come twice."""

    @abstractmethod
    def _new_tally(self) -> T: ...

    @abstractmethod
    async def _take_batch(self, batch: Sequence[tuple[int, str]], tally: T) -> None:
        """Take in lines with their numbers; twice is as once."""

    async def take(self, lines: Iterable[str]) -> AsyncIterator[T]:
        """Take them in; the tally so far after each batch, and at the end."""
        tally = self._new_tally()
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

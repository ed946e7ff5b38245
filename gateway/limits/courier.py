"""Takes what all limits of a worker want to know to Redis, in few calls.

What one turn of the event loop brings, and all that comes while a call is under way, goes in one
call; in a cluster, in one round trip to each node. There is one round of calls at a time, whatever
the number of policies. What was lent to this worker is given back with the next call, or soon after
it has ended.

Whoever waits while Redis does not answer has waited for the same silence: when a call fails, what
came meanwhile is not sent after it.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import chain
from typing import Any, Protocol

from gateway.errors import StoreUnavailable
from gateway.store.redis import Store

logger = logging.getLogger("gateway.limits")

CLOCK, *PARTS = (
    resources.files(__package__).joinpath(f"{name}.lua").read_text()
    for name in ("clock", "state", "leases", "sliding", "calendar", "slots", "window")
)
WINDOW = "".join(PARTS)

RESERVED_SECONDS = 0.05  # that a reservation is good for, or a lease
TOLD_AFTER_SECONDS = 0.01  # of what was admitted under a lease, if no call goes before
FORGET_SECONDS = 1.0
RETRY_SECONDS = 0.005
QUESTIONS_A_CALL = 500  # Redis serves nobody else meanwhile: some 2 ms
NUMBERS_AN_ANSWER = 6


@dataclass(slots=True)
class Question:
    """One bucket of one policy: its keys, and what window.lua wants to know of it."""

    asker: "Asker"
    keys: tuple[str, ...]
    asked: int
    weight: int
    granted_at: int
    size: int
    used: int


@dataclass(frozen=True, slots=True)
class Call:
    """Keys and arguments of window.lua, and whose leases it renews."""

    leased: "tuple[Asker, ...]"
    keys: list[str]
    arguments: list[Any]


class Asker(Protocol):
    """A policy, as the courier knows it."""

    def __hash__(self) -> int: ...

    @property
    def constants(self) -> tuple[int | str, ...]:
        """As window.lua takes them."""

    @property
    def lease_keys(self) -> tuple[str, ...]:
        """Of the marks and of the holders of leases; empty: it wants no lease."""

    @property
    def lent_until(self) -> float | None:
        """When the first of what it was lent has to be given back; None: it has nothing."""

    def questions(self) -> list[Question]:
        """What it wants to know now."""

    def take(self, question: Question, sent_at: float, answer: Sequence[int]) -> None:
        """The answer to a question that was sent at `sent_at`."""

    def leased(self, sent_at: float, at: int, marks: Sequence[str | int] | None) -> None:
        """What window.lua says of its lease; `marks` are keys and numbers in turn."""

    def fail(self, question: Question) -> None:
        """There is no answer."""

    def ask_again(self) -> None:
        """Ask what was left undecided."""


class Courier:
    """One for a store, in one event loop."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self.calls = 0  # since the start
        self._worker = secrets.token_hex(8)
        self.flight: asyncio.Task[None] | None = None
        self._store = store
        self._clock = clock
        self._script = store.script(CLOCK + WINDOW)
        self._asking: dict[Asker, None] = {}
        self._telling: dict[Asker, None] = {}
        self._lent: dict[Asker, None] = {}
        self._undecided: dict[Asker, None] = {}
        self._asking_again: asyncio.TimerHandle | None = None
        self._giving_back: asyncio.TimerHandle | None = None
        self._telling_later: asyncio.TimerHandle | None = None

    def depart(self, asker: Asker) -> None:
        """Take what `asker` wants to know, once this turn of the event loop is over."""
        self._asking[asker] = None
        if self.flight is None:
            self.flight = asyncio.get_running_loop().create_task(self._fly())

    def lent(self, asker: Asker) -> None:
        """`asker` has something that must be given back."""
        self._lent[asker] = None

    def tell(self, asker: Asker) -> None:
        """Let `asker` say what it has to say, soon; nobody waits for it."""
        self._telling[asker] = None
        if self._telling_later is None:
            loop = asyncio.get_running_loop()
            self._telling_later = loop.call_later(TOLD_AFTER_SECONDS, self.tell_now)

    def tell_now(self) -> None:
        self._telling_later = None
        for asker in self._telling:
            self.depart(asker)

    def undecided(self, asker: Asker, seconds: float) -> None:
        """Let `asker` ask again in so many seconds, or before."""
        self._undecided[asker] = None
        seconds = max(seconds, RETRY_SECONDS)
        self._asking_again = _earlier(self._asking_again, seconds, self.ask_again)

    def ask_again(self) -> None:
        self._asking_again = None
        undecided, self._undecided = self._undecided, {}
        for asker in undecided:
            asker.ask_again()

    def give_back(self) -> None:
        self._giving_back = None
        for asker in self._lent:
            self.depart(asker)

    async def settle(self, asker: Asker) -> None:
        """Return when what `asker` wanted to say is said."""
        self.depart(asker)
        if self.flight is not None:
            await self.flight

    async def close(self) -> None:
        """Whoever still comes is served."""
        if self.flight is not None:
            await self.flight
        for timer in (self._asking_again, self._giving_back, self._telling_later):
            if timer is not None:
                timer.cancel()
        self._asking_again = self._giving_back = self._telling_later = None

    async def _fly(self) -> None:
        try:
            while self._asking and (questions := self._collect()):
                await self._carry(questions)
        finally:
            self.flight = None
        self._give_back_later()

    def _give_back_later(self) -> None:
        ends = [end for asker in self._lent if (end := asker.lent_until) is not None]
        if ends:
            seconds = max(0.001, min(ends) - self._clock())
            self._giving_back = _earlier(self._giving_back, seconds, self.give_back)

    def _collect(self) -> list[Question]:
        askers = self._asking | self._telling | self._lent
        self._asking, self._telling = {}, {}
        questions = [question for asker in askers for question in asker.questions()]
        self._lent = {asker: None for asker in self._lent if asker.lent_until is not None}
        return questions

    async def _carry(self, questions: list[Question]) -> None:
        """One round of calls; those who came meanwhile for what is silent are answered with it."""
        failed: set[Hashable] = set()
        groups = self._groups(questions)
        if len(groups) == 1:
            await self._carry_group(*groups.popitem(), failed)
        else:
            await asyncio.gather(
                *(self._carry_group(group, asked, failed) for group, asked in groups.items())
            )
        if failed:
            later = self._groups(self._collect())
            for group in failed:
                for question in later.pop(group, ()):
                    question.asker.fail(question)
            rest = [question for asked in later.values() for question in asked]
            if rest:
                await self._carry(rest)

    def _groups(self, questions: list[Question]) -> dict[Hashable, list[Question]]:
        """By the server that has their keys; all keys of a question share a slot."""
        groups = self._store.server_groups([question.keys[0] for question in questions])
        return {
            group: [questions[position] for position in positions]
            for group, positions in groups.items()
        }

    async def _carry_group(
        self, group: Hashable, questions: list[Question], failed: set[Hashable]
    ) -> None:
        sent = 0
        try:
            while sent < len(questions):
                await self._send(questions[sent : sent + QUESTIONS_A_CALL])
                sent += QUESTIONS_A_CALL
        except Exception as error:
            if not isinstance(error, StoreUnavailable):
                logger.exception("a batch of the limits failed")
            failed.add(group)
            for question in questions[sent:]:
                question.asker.fail(question)

    async def _send(self, questions: Sequence[Question]) -> None:
        sent_at = self._clock()
        groups = [
            [questions[position] for position in positions]
            for positions in self._store.slot_groups([each.keys[0] for each in questions]).values()
        ]
        self.calls += 1
        calls = [self._call(asked) for asked in groups]
        words = [(call.keys, call.arguments) for call in calls]
        replies = await self._store.call_each(self._script, words)
        for call, asked, reply in zip(calls, groups, replies, strict=True):
            self._take(call, asked, sent_at, reply)

    def _call(self, questions: Sequence[Question]) -> Call:
        keys: list[str] = []
        askers: dict[Asker, int] = {}
        asked: list[int] = []
        for question in questions:
            number = askers.setdefault(question.asker, len(askers) + 1)
            keys += question.keys
            asked += (number, question.asked, question.weight)
            asked += (question.granted_at, question.size, question.used)
        leases = {asker: asker.lease_keys for asker in askers if asker.lease_keys}
        constants = [number for asker in askers for number in asker.constants]
        valid, forget = round(RESERVED_SECONDS * 1000), round(FORGET_SECONDS * 1000)
        return Call(
            tuple(leases),
            [*chain.from_iterable(leases.values()), *keys],
            [valid, forget, self._worker, len(askers), *constants, *asked],
        )

    def _take(self, call: Call, questions: Sequence[Question], sent_at: float, reply: Any) -> None:
        if reply is None:
            for question in questions:
                question.asker.fail(question)
            return
        at = NUMBERS_AN_ANSWER * len(questions)
        for asker in call.leased:
            leased_at, told = reply[at : at + 2]
            marks = None if told < 0 else reply[at + 2 : at + 2 + 2 * told]
            at += 2 + 2 * max(told, 0)
            asker.leased(sent_at, leased_at, marks)
        for at, question in enumerate(questions):
            first = NUMBERS_AN_ANSWER * at
            question.asker.take(question, sent_at, reply[first : first + NUMBERS_AN_ANSWER])


def _earlier(
    timer: asyncio.TimerHandle | None, seconds: float, call: Callable[[], None]
) -> asyncio.TimerHandle:
    """A timer that calls in so many seconds, or `timer` if that does it before."""
    loop = asyncio.get_running_loop()
    at = loop.time() + seconds
    if timer is not None:
        if timer.when() <= at:
            return timer
        timer.cancel()
    return loop.call_at(at, call)

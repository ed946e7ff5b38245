"""Turns, against a model: none is lost, none is given twice, and the order is that of arrival.

The machine does in any order what requests do: come, be done, become WebSockets, leave the queue,
be cancelled (in the very moment of the hand-over too), and wait too long.
"""

import asyncio
from collections import deque
from contextlib import suppress

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from gateway.errors import ClientGone, UpstreamUnavailable
from gateway.proxy.turns import Turns

QUEUE_SECONDS = 5.0


class Visitor:
    """A request: its client, and the task in which it takes its turn and keeps it."""

    def __init__(self, turns: Turns) -> None:
        self.cancel = None
        self.gone = False
        self.has_turn = self.is_tunnel = False
        self.error: BaseException | None = None
        self.done = asyncio.Event()
        self.task = asyncio.create_task(self._visit(turns))

    async def _visit(self, turns: Turns) -> None:
        try:
            if not turns.take():
                await turns.wait(self)
        except BaseException as error:
            self.error = error
            raise
        self.has_turn = True
        try:
            await self.done.wait()
        finally:
            self.has_turn = False
            turns.give_back(tunnel=self.is_tunnel)


class TurnsMachine(RuleBasedStateMachine):
    visitors = Bundle("visitors")

    @initialize(requests=st.integers(1, 3), connections=st.integers(1, 4), queue=st.integers(0, 4))
    def begin(self, requests: int, connections: int, queue: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.requests, self.connections, self.queue = requests, connections, queue
        self.all: list[Visitor] = []
        self.waiting: deque[Visitor] = deque()  # the model's queue
        self.run(self._make)

    async def _make(self) -> None:
        self.turns = Turns(
            max_requests=self.requests,
            max_connections=self.connections,
            max_queue=self.queue,
            queue_timeout=QUEUE_SECONDS,
        )

    def run(self, act, *args):
        async def settle():
            result = await act(*args)
            for _ in range(5):
                await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(settle())

    def serve(self) -> None:
        """The model: turns go to the head of the queue while there are any."""
        while self.waiting and self._free():
            self.model_requests += 1
            assert self.waiting.popleft().has_turn

    model_requests = 0
    model_tunnels = 0

    def _free(self) -> bool:
        taken = self.model_requests + self.model_tunnels
        return self.model_requests < self.requests and taken < self.connections

    @rule(target=visitors)
    def come(self) -> Visitor:
        free = self._free()

        async def come() -> Visitor:
            return Visitor(self.turns)

        visitor = self.run(come)
        self.all.append(visitor)
        if free and not self.waiting:
            assert visitor.has_turn
            self.model_requests += 1
        elif len(self.waiting) < self.queue:
            assert not visitor.has_turn
            self.waiting.append(visitor)
        else:
            assert isinstance(visitor.error, UpstreamUnavailable)
        return visitor

    @rule(visitor=consumes(visitors))
    def finish(self, visitor: Visitor) -> None:
        if visitor.has_turn:

            async def finish() -> None:
                visitor.done.set()

            self.run(finish)
            self._over(visitor)

    @rule(visitor=consumes(visitors))
    def be_cancelled(self, visitor: Visitor) -> None:
        had_turn = visitor.has_turn

        async def cancel() -> None:
            visitor.task.cancel()

        self.run(cancel)
        if had_turn:
            self._over(visitor)
        elif visitor in self.waiting:
            self.waiting.remove(visitor)

    @rule(visitor=visitors)
    def leave(self, visitor: Visitor) -> None:
        async def leave() -> None:
            visitor.gone = True
            if visitor.cancel is not None:
                visitor.cancel()

        self.run(leave)
        if visitor in self.waiting:
            self.waiting.remove(visitor)
            assert isinstance(visitor.error, ClientGone)

    @rule(visitor=visitors)
    def become_a_tunnel(self, visitor: Visitor) -> None:
        if visitor.has_turn and not visitor.is_tunnel:

            async def switch() -> None:
                visitor.is_tunnel = True
                self.turns.became_tunnel()

            self.run(switch)
            self.model_requests -= 1
            self.model_tunnels += 1
            self.serve()

    @rule(one=consumes(visitors))
    def be_cancelled_in_the_moment_of_the_hand_over(self, one: Visitor) -> None:
        if not one.has_turn or not self.waiting:
            return
        other = self.waiting.popleft()

        async def both() -> None:
            one.done.set()
            await asyncio.sleep(0)  # one has given back, other's turn is on its way
            other.task.cancel()

        self.run(both)
        assert not other.has_turn
        self._over(one)

    @rule()
    def wait_too_long(self) -> None:
        async def wait() -> None:
            self.turns.sweep(self.loop.time() + QUEUE_SECONDS + 1)

        self.run(wait)
        for visitor in self.waiting:
            assert isinstance(visitor.error, UpstreamUnavailable)
        self.waiting.clear()

    def _over(self, visitor: Visitor) -> None:
        if visitor.is_tunnel:
            self.model_tunnels -= 1
        else:
            self.model_requests -= 1
        self.serve()

    @invariant()
    def counts_are_those_of_the_model(self) -> None:
        if hasattr(self, "turns"):
            assert self.turns.requests == self.model_requests
            assert self.turns.tunnels == self.model_tunnels
            assert self.turns.waiting == len(self.waiting)
            assert sum(v.has_turn for v in self.all) == self.turns.under_way

    @invariant()
    def nobody_waits_while_there_is_a_turn(self) -> None:
        if hasattr(self, "turns"):
            assert not (self.waiting and self._free())

    def teardown(self) -> None:
        if not hasattr(self, "turns"):
            return

        async def end() -> None:
            for visitor in self.all:
                visitor.task.cancel()
            for visitor in self.all:
                with suppress(BaseException):
                    await visitor.task

        self.run(end)
        assert self.turns.under_way == self.turns.waiting == 0
        self.loop.close()


TestTurns = TurnsMachine.TestCase
TestTurns.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

"""One upstream as its routes see it: a connection for each request, and it back when it is over.

`acquire` tells the story: a turn (`turns.py`), an address (`balance.py`), an idle connection to it
or a new one. `release` ends it: the address is judged (`health.py`), the connection kept or closed,
the turn handed on. In the background names are looked up (`resolve.py`) and addresses checked.

Rules: a request that finds a turn and an idle connection is never suspended; the connection used
last is used next (it is the likeliest to be alive, and the others can be let go); a connection is
acquired and released once, and whatever goes wrong in between, nothing of it stays counted.

Terms: *active* connections carry a request, *idle* ones wait for the next; `turns.requests` counts
the requests that are still connecting too. All of it is per worker.
"""

import asyncio
import ssl
from collections.abc import Collection, Iterator, Sequence

from gateway.errors import GatewayError, UpstreamFailed, UpstreamTimeout, UpstreamUnavailable
from gateway.proxy.balance import Balancer
from gateway.proxy.connection import UpstreamConnection
from gateway.proxy.health import Checks, Ejector
from gateway.proxy.resolve import Lookups, Resolve, look_up
from gateway.proxy.retry import Budget
from gateway.proxy.target import Address, Target
from gateway.proxy.turns import Client, Turns
from gateway.upstreamspec import UpstreamSpec

IDLE_SECONDS = 60.0
STATES = ("up", "down", "ejected")


def nothing_more(*_: object) -> None:
    """What the background of a closed pool calls instead of it.

    A pool in a cycle of references would stay for ever: the garbage collector is not to look
    through what was there at a reload (`live.py`).
    """


class Pool:
    """Connections to one upstream. Made in the running loop; `start` begins the background."""

    def __init__(self, spec: UpstreamSpec, *, resolve: Resolve = look_up) -> None:
        """Raises UnusableFile for TLS files that can't be used."""
        self.name = spec.name
        self._spec = spec
        self._tls_state = spec.tls.state()
        self._loop = asyncio.get_running_loop()
        self._targets = [Target(target, spec.tls) for target in spec.weighted_targets]
        self._addresses: list[Address] = []
        self._leaving: list[Address] = []  # gone, with connections under way
        self._connections = 0  # open ones, and those being opened
        self._draining = self._closed = False
        self._balancer = Balancer(spec.slow_start)
        self._lookups = Lookups(self._targets, spec.resolve_every, self._places_changed, resolve)
        self._checks = Checks(spec.name, spec.health, self._health_changed)
        self._ejector = Ejector(spec.name, spec.ejection, self._addresses)
        self.budget = Budget(spec.retry.budget)
        self.turns = Turns(
            max_requests=spec.max_requests,
            max_connections=spec.max_connections,
            max_queue=spec.max_queue,
            queue_timeout=spec.queue_timeout,
        )
        for target in self._targets:
            if (place := target.place) is not None:
                self._addresses.append(Address(target, place))
        self._balancer.update(self._addresses, 0)

    @property
    def idle_connections(self) -> int:
        return sum(len(address.idle) for address in self._everywhere())

    @property
    def active_connections(self) -> int:
        return sum(len(address.active) for address in self._everywhere())

    def active(self) -> Iterator[UpstreamConnection]:
        """The connections that carry a request."""
        for address in self._everywhere():
            yield from tuple(address.active)

    def serves(self, spec: UpstreamSpec) -> bool:
        """Is this the pool that `spec` asks for? Not when a file of its TLS has changed."""
        return self._spec == spec and self._tls_state == spec.tls.state()

    def states(self) -> Iterator[tuple[str, int]]:
        """How many addresses are in each state."""
        found = [address.state for address in self._addresses]
        for state in STATES:
            yield state, found.count(state)

    def start(self) -> None:
        """Begin look-ups and health checks; needs the running loop."""
        for address in self._addresses:
            self._checks.watch(address)
        self._lookups.start()

    async def settled(self, seconds: float) -> None:
        """Return when it is known where to connect to, or that it can't be, or in `seconds`."""
        await self._lookups.settled(seconds)

    def drain(self) -> None:
        """A newer pool has taken over: let what is under way finish, and keep nothing.

        Requests that their route has sent here already are still served, so that none fails for
        having been in between; `close` ends them.
        """
        self._draining = True
        for address in self._everywhere():
            self._checks.forget(address)
            for connection in list(address.idle):
                self._drop(connection)

    async def close(self) -> None:
        """End everything: who has a connection or waits for one is told."""
        self._draining = self._closed = True
        self.turns.refuse_all()
        await self._checks.close()
        await self._lookups.close()
        for address in self._everywhere():
            for connection in list(address.idle):
                self._drop(connection)
            for connection in list(address.active):
                connection.fail(UpstreamUnavailable())
        self._checks.on_change = self._lookups.on_change = nothing_more

    async def acquire(
        self,
        *,
        connect_timeout: float,
        fresh: bool = False,
        careful: bool = False,
        tried: Collection[Address] = (),
        attempts: int | None = None,
        client: Client | None = None,
    ) -> tuple[UpstreamConnection, Target, bool]:
        """A connection, its target, and whether it was in use before.

        Does not suspend when there is a turn and an idle connection. `fresh` asks for a new one;
        `careful` for one that the system too finds quiet, for a request that can't be sent twice.
        Another address than the `tried` ones is preferred. Up to `attempts` addresses (None: as
        the upstream has it) are tried until a connection stands; `tries` of the connection says
        how many it took. `client` is asked to say when it leaves the queue.

        Raises UpstreamUnavailable (no address is well, or the queue is full), UpstreamFailed
        (refused), UpstreamTimeout (`connect_timeout` seconds passed), ClientGone.
        """
        turns = self.turns
        if not turns.take():
            await turns.wait(client)
        try:
            if tried:
                address = self._balancer.choose_other(tried) or self._balancer.choose()
            else:
                self.budget.requests += 1
                address = self._balancer.choose()
            if address is None:
                address = await self._first_address(connect_timeout)
            idle = address.idle
            while idle and not fresh:
                connection, _ = idle.popitem()
                if connection.is_quiet if careful else connection.is_usable:
                    connection.leased = True
                    address.active.add(connection)
                    address.outstanding += 1
                    return connection, address.target, True
                self._drop(connection)
            connection = await self._connect_somewhere(address, connect_timeout, attempts)
        except BaseException:
            turns.give_back()
            raise
        assert connection.address is not None
        return connection, connection.address.target, False

    def has_another(self, tried: Collection[Address]) -> bool:
        """Is there an address beside those that were tried?"""
        return self._balancer.choose_other(tried) is not None

    def release(self, connection: UpstreamConnection, failure: GatewayError | None = None) -> None:
        """Take a connection back when its exchange is over. `failure`: how it ended, if badly."""
        address = connection.address
        if address is None or not connection.leased:
            return
        connection.leased = False
        reusable = connection.detach()
        address.active.discard(connection)
        address.outstanding -= 1
        self._judge(address, connection.status, failure)
        if reusable and not (address.gone or self._draining):
            connection.idle_since = self._loop.time()
            address.idle[connection] = None
        else:
            self._drop(connection)
        self.turns.give_back(tunnel=connection.is_tunnel)

    def became_tunnel(self, connection: UpstreamConnection) -> None:
        """What `connection` carries is no request any more, but a connection for its life."""
        if connection.leased and not connection.is_tunnel:
            connection.is_tunnel = True
            self.turns.became_tunnel()

    def sweep(self, now: float) -> None:
        """End what passed its deadline, and what waited too long. `now` is loop time."""
        for address in self._everywhere():
            late = [connection for connection in address.active if connection.deadline < now]
            for connection in late:
                connection.expire()
            while address.idle:
                oldest = next(iter(address.idle))
                if oldest.idle_since + IDLE_SECONDS >= now:
                    break
                self._drop(oldest)
        self._leaving = [address for address in self._leaving if address.outstanding]
        self.turns.sweep(now)
        self.budget.fade(now)
        back = [address for address in self._addresses if self._ejector.returned(address, now)]
        if back:
            self._balancer.update(self._addresses, now)
        else:
            self._balancer.ramp(now)

    def _everywhere(self) -> Sequence[Address]:
        return [*self._addresses, *self._leaving]

    async def _first_address(self, seconds: float) -> Address:
        """Wait for the first look-up, if that is what is missing."""
        if not self._closed:
            await self._lookups.settled(seconds)
        address = self._balancer.choose()
        if address is None or self._closed:
            raise UpstreamUnavailable
        return address

    async def _connect_somewhere(
        self,
        address: Address,
        seconds: float,
        attempts: int | None,
    ) -> UpstreamConnection:
        """A new connection to `address`, or to another one when it can't be had."""
        most = self._spec.retry.attempts if attempts is None else attempts
        tried: list[Address] = []
        while True:
            tried.append(address)
            try:
                connection = await self._connect(address, seconds)
            except (UpstreamFailed, UpstreamTimeout) as error:
                self._judge(address, 0, error)
                other = self._balancer.choose_other(tried)
                if other is None or len(tried) >= most or not self.budget.spend():
                    raise
                address = other
            else:
                connection.tries = len(tried)
                return connection

    async def _connect(self, address: Address, seconds: float) -> UpstreamConnection:
        if self._closed:
            raise UpstreamUnavailable
        self._make_room()
        self._connections += 1
        address.outstanding += 1
        try:
            async with asyncio.timeout(seconds):
                connection = await address.connect(
                    self._loop, lambda: UpstreamConnection(self._loop)
                )
            if connection.transport is None:  # it came and went in one turn of the loop
                raise ConnectionResetError
        except BaseException as error:
            self._connections -= 1
            address.outstanding -= 1
            if isinstance(error, OSError):  # as all of those below are
                error.__traceback__ = None  # uvloop's frames have the error too
            if isinstance(error, TimeoutError):
                raise UpstreamTimeout from None
            if isinstance(error, ssl.SSLError):
                raise UpstreamFailed(reason="upstream_tls_failed") from None
            if isinstance(error, OSError):
                raise UpstreamFailed(reason="upstream_refused") from None
            raise
        connection.address = address
        connection.on_lost = self._lost
        connection.leased = True
        address.active.add(connection)
        return connection

    def _make_room(self) -> None:
        """Close an idle connection where all that there may be are open.

        There is one: who connects has a turn, and there are as many turns as connections.
        """
        if self._connections >= self._spec.max_connections:
            idle = [next(iter(address.idle)) for address in self._addresses if address.idle]
            if idle:
                self._drop(min(idle, key=lambda connection: connection.idle_since))

    def _drop(self, connection: UpstreamConnection) -> None:
        """Close a connection that carries nothing, unless it is lost already."""
        if connection.on_lost is not None:
            connection.on_lost = None
            self._connections -= 1
            if connection.address is not None:
                connection.address.idle.pop(connection, None)
            connection.close()

    def _lost(self, connection: UpstreamConnection) -> None:
        connection.on_lost = None
        self._connections -= 1
        if connection.address is not None:
            connection.address.active.discard(connection)
            connection.address.idle.pop(connection, None)

    def _judge(self, address: Address, status: int, failure: GatewayError | None) -> None:
        """What one exchange says of its address."""
        if failure is None and status not in self._ejector.statuses:
            if status:
                address.failures = 0
        elif failure is None or isinstance(failure, UpstreamFailed | UpstreamTimeout):
            now = self._loop.time()
            if self._ejector.failed(address, now):
                self._balancer.update(self._addresses, now)

    def _health_changed(self, address: Address) -> None:
        if address.healthy:
            address.failures = 0
            address.returned_at = self._loop.time()
        self._balancer.update(self._addresses, self._loop.time())

    def _places_changed(self, target: Target, places: Sequence[str]) -> None:
        """The name of `target` leads to `places` now, and nowhere else."""
        known = {address.place: address for address in self._addresses if address.target is target}
        for place, address in known.items():
            if place not in places:
                self._forget(address)
        for place in places:
            if place not in known:
                address = Address(target, place)
                if known:  # the upstream runs already: a newcomer is cold
                    address.returned_at = self._loop.time()
                self._addresses.append(address)
                self._checks.watch(address)
        self._balancer.update(self._addresses, self._loop.time())

    def _forget(self, address: Address) -> None:
        """Its name leads there no more: nothing new goes there, what is under way ends."""
        address.gone = True
        self._addresses.remove(address)
        self._checks.forget(address)
        for connection in list(address.idle):
            self._drop(connection)
        if address.outstanding:
            self._leaving.append(address)

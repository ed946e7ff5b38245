"""redis-py's commands on a Redis Cluster: each goes to the node that has its key.

redis-py's own cluster client isn't used, for what it does when slots or masters move: ASKING may go
by another connection than the command it is for; every fifth MOVED, and each CLUSTERDOWN, closes
the connections of calls under way; the map of slots is read anew amid a call, from nodes that may
hang, and only after an error that a hung node never gives. Here the map is read by `channels.py`
in the background, and a call learns no more than what it is told in passing.

Rules: what a node answers with MOVED, ASK or TRYAGAIN is sent again, on the word of that answer; a
connection that fails is an error at once. A transaction, a script and a pipeline with
`transaction=True` have keys of one slot. Reads go to masters.

Terms: *slot*: one of 16,384 parts of all names (Redis Cluster specification); *seed*: an address in
`store.url`; *stranger*: a node that a redirection names and that isn't known as a master. It may
have no slot yet, so that no map shows it: it counts as a master for a while.
"""

import asyncio
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sequence
from typing import Any, Self, TypeAlias, TypeVar

from redis.commands.core import AsyncCoreCommands
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    CrossSlotTransactionError,
    MovedError,
    NoScriptError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

_RedisCommands: Any = AsyncCoreCommands  # typed for redis-py's own clients alone
Node: TypeAlias = Any  # redis-py's client of one server
Address: TypeAlias = tuple[str, int]
Commands: TypeAlias = Sequence[tuple[tuple[Any, ...], dict[str, Any]]]

Mark = TypeVar("Mark", bound=Hashable)

SLOTS = 16_384
REDIRECTIONS = 8  # of one call: more means that the nodes don't agree
TRY_AGAIN_SECONDS = 0.005
VIEW_SECONDS = 0.5  # that a node may take to say who has which slots
STRANGER_REFRESHES = 10  # that a stranger counts as a master, after it was last named
KEYLESS = frozenset(
    ("ACL", "CLIENT", "CLUSTER", "CONFIG", "DBSIZE", "ECHO", "INFO", "PING", "PUBLISH", "TIME")
)  # any node will do
EVERYWHERE = frozenset(("FLUSHALL", "FLUSHDB", "SCRIPT"))  # on all masters; the first one answers
ONE_SERVER = frozenset(("KEYS", "RANDOMKEY", "SCAN"))
SCRIPTS = frozenset(("EVAL", "EVALSHA"))
SUMMED = frozenset(("DEL", "EXISTS", "UNLINK"))  # of several keys: one command for each


class ClusterClient(_RedisCommands):  # type: ignore[misc]  # as Any
    """`connect` makes the client of one node, without connecting.

    `on_doubt` is called when an answer or an error shows that the map may be wrong; `on_stranger`
    before anything is asked of a stranger.
    """

    def __init__(self, seeds: Sequence[Address], connect: Callable[[str, int], Node]) -> None:
        self.masters: Mapping[Address, Node] = {}
        self.on_doubt: Callable[[], None] = _nothing
        self.on_stranger: Callable[[], None] = _nothing
        self._seeds = seeds
        self._connect = connect
        self._nodes: dict[Address, Node] = {}
        self._known: Sequence[Address] = seeds  # of whatever role
        self._owners: list[Address | None] = [None] * SLOTS
        self._followed: set[Address] = set()
        self._strangers: dict[Address, int] = {}
        self._told: object = None  # when last asked
        self._scripts: dict[str, str] = {}
        self._retired: list[Node] = []

    def sample(self) -> Node:
        """A client such as those of the nodes, to look at."""
        return self._connect(*self._seeds[0])

    # The map of slots.

    @property
    def covered(self) -> bool:
        """Has every slot a master?"""
        return None not in self._owners

    def without_replicas(self) -> list[Address]:
        """Masters that nobody would stand in for."""
        return sorted(self.masters.keys() - self._followed)

    def slot(self, key: str) -> int:
        return int(key_slot(key.encode()))

    def node_groups(self, keys: Sequence[str]) -> Mapping[Hashable, Sequence[int]]:
        """Positions in `keys`, by the node that has them."""
        return _grouped(self._owners[self.slot(key)] for key in keys)

    def slot_groups(self, keys: Sequence[str]) -> Mapping[Hashable, Sequence[int]]:
        """Positions in `keys`, by slot."""
        return _grouped(map(self.slot, keys))

    def pool_of(self, key: str) -> Any:
        """Of connections to the node that has `key`; None if that isn't known."""
        owner = self._owners[self.slot(key)]
        return None if owner is None else self._node(owner).connection_pool

    async def refresh(self) -> None:
        """Ask all masters for the map; when none answers, every node that was ever named.

        All that any of them calls a master is one; for its own slots a node's word counts most.
        Raises RedisError or OSError when nobody answers.
        """
        retired, self._retired = self._retired, []
        for node in retired:
            await node.aclose()
        views = await self._views_of(list(self.masters))
        views = views or await self._views_of([*self._known, *self._seeds])
        if not views:
            raise RedisConnectionError("none of its nodes answers")
        self._strangers = {each: left - 1 for each, left in self._strangers.items() if left}
        told = (views, set(self._strangers))
        if told != self._told:  # what was learned in passing stays, while nodes say the same
            self._told = told
            self._take(views)

    async def _views_of(self, addresses: Sequence[Address]) -> dict[Address, list[Any]]:
        asked = list(dict.fromkeys(addresses))
        answers = await asyncio.gather(*map(self._view, asked), return_exceptions=True)
        views: dict[Address, list[Any]] = {}
        for address, answer in zip(asked, answers, strict=True):
            if isinstance(answer, list):
                views[address] = answer
            elif not isinstance(answer, (RedisError, OSError)):
                raise answer
        return views

    async def _view(self, address: Address) -> list[Any]:
        async with asyncio.timeout(VIEW_SECONDS):
            answer: list[Any] = await self._node(address).execute_command("CLUSTER", "SLOTS")
            return answer

    def _take(self, views: Mapping[Address, Sequence[Any]]) -> None:
        owners: list[Address | None] = [None] * SLOTS
        known: dict[Address, None] = {}
        followed: set[Address] = set()
        # First and last slot, and their master.
        ranges: list[tuple[int, int, Address]] = []
        own: list[tuple[int, int, Address]] = []
        for asked, view in views.items():
            for first, last, *nodes in view:
                addresses = [(node[0] or asked[0], node[1]) for node in nodes]
                known.update(dict.fromkeys(addresses))
                if len(addresses) > 1:
                    followed.add(addresses[0])
                (own if addresses[0] == asked else ranges).append((first, last, addresses[0]))
        for first, last, master in (*ranges, *own):
            owners[first : last + 1] = [master] * (last + 1 - first)
        masters = {master for _, _, master in (*ranges, *own)} | self._strangers.keys()
        for address in self._nodes.keys() - masters:
            self._retired.append(self._nodes.pop(address))
        self._owners, self._known, self._followed = owners, tuple(known), followed
        self.masters = {address: self._node(address) for address in sorted(masters)}

    def _node(self, address: Address) -> Node:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = self._connect(*address)
        return node

    # The commands.

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """What every method of redis-py's ends in."""
        word = args[0].split()[0]
        if word in EVERYWHERE:
            return await self._everywhere(args, options)
        if len(args) > 2 and (word in SUMMED or word == "MGET"):
            pipeline = self.pipeline(transaction=False)
            for key in args[1:]:
                pipeline.execute_command("GET" if word == "MGET" else word, key)
            answers = await pipeline.execute()
            return answers if word == "MGET" else sum(answers)
        slot = self._slot_of(args)
        if slot is None:
            return await self._anywhere(args, options)
        return (await self._send(slot, [(args, options)]))[0]

    def pipeline(self, *, transaction: bool = True) -> "ClusterPipeline":
        return ClusterPipeline(self, transaction=transaction)

    def register_script(self, script: str) -> Any:
        registered = super().register_script(script)
        self._scripts[registered.sha] = script
        return registered

    def get_encoder(self) -> Any:
        """For redis-py's scripts."""
        return self.sample().get_encoder()

    async def aclose(self) -> None:
        nodes, self._nodes, self.masters = [*self._nodes.values(), *self._retired], {}, {}
        for node in nodes:
            await node.aclose()

    async def run(self, commands: Commands, *, transaction: bool) -> list[Any]:
        """Their answers, in order; errors of single ones, of whole nodes too, stand among them."""
        slots = [self._slot_of(args) or 0 for args, _ in commands]
        if transaction:
            if len(set(slots)) > 1:
                raise CrossSlotTransactionError("a transaction's keys must share a slot")
            return await self._send(slots[0], commands, transaction=True)
        groups = list(_grouped(self._owners[slot] for slot in slots).values())
        parts = await asyncio.gather(
            *(self._send(slots[group[0]], [commands[at] for at in group]) for group in groups),
            return_exceptions=True,
        )
        answers: list[Any] = [None] * len(commands)
        for group, part in zip(groups, parts, strict=True):
            if isinstance(part, BaseException) and not isinstance(part, (RedisError, OSError)):
                raise part
            for at, answer in zip(
                group, part if isinstance(part, list) else [part] * len(group), strict=True
            ):
                answers[at] = answer
        unknown = [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        for sha in {commands[at][0][1] for at in unknown}:
            await self.script_load(self._scripts[sha])
        for at, answer in enumerate(answers):
            if isinstance(answer, (AskError, TryAgainError, NoScriptError)):
                try:
                    (answers[at],) = await self._send(slots[at], [commands[at]])
                except (RedisError, OSError) as error:
                    answers[at] = error
            elif isinstance(answer, ClusterDownError):
                answers[at] = RedisConnectionError("the cluster is down")
        return answers

    async def _send(self, slot: int, commands: Commands, *, transaction: bool = False) -> list[Any]:
        """Have the owner of `slot` do them. Of a single command, or a transaction, errors raise."""
        address, asking = self._owners[slot], False
        last: RedisError = RedisConnectionError("no node has this slot")
        for _ in range(REDIRECTIONS):
            if address is None:
                break
            try:
                return await self._at(address, commands, transaction=transaction, asking=asking)
            except MovedError as error:
                address, asking = self._redirected(address, error), False
                self._owners[slot] = address
                self.on_doubt()
                last = error
            except AskError as error:
                address, asking = self._redirected(address, error), True
                last = error
            except TryAgainError as error:
                await asyncio.sleep(TRY_AGAIN_SECONDS)
                address, asking = self._owners[slot], False
                last = error
            except ClusterDownError as error:
                self.on_doubt()
                raise RedisConnectionError("the cluster is down") from error
            except (RedisConnectionError, OSError):
                self.on_doubt()
                raise
        raise RedisConnectionError("the cluster's nodes send this call in circles") from last

    def _redirected(self, asked: Address, error: AskError) -> Address:
        address = (error.host or asked[0], int(error.port))
        if address not in self.masters:
            self.on_stranger()
        if address not in self.masters or address in self._strangers:
            self._strangers[address] = STRANGER_REFRESHES
        return address

    async def _at(
        self, address: Address, commands: Commands, *, transaction: bool, asking: bool
    ) -> list[Any]:
        node = self._node(address)
        if len(commands) == 1 and not (transaction or asking):
            args, options = commands[0]
            return [await node.execute_command(*args, **options)]
        async with node.pipeline(transaction=transaction) as pipeline:
            if asking:  # by the very connection that the commands will take
                connection = await node.connection_pool.get_connection()
                pipeline.connection = connection
                await connection.send_command("ASKING")
                await connection.read_response()
            for args, options in commands:
                pipeline.execute_command(*args, **options)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        if len(commands) == 1 and isinstance(answers[0], ResponseError):
            raise answers[0]
        return answers

    async def _anywhere(self, args: Sequence[Any], options: dict[str, Any]) -> Any:
        last: Exception = RedisConnectionError("none of its nodes has been reached")
        for node in self.masters.values():
            try:
                return await node.execute_command(*args, **options)
            except (RedisConnectionError, OSError) as error:
                self.on_doubt()
                last = error
        raise last

    async def _everywhere(self, args: Sequence[Any], options: dict[str, Any]) -> Any:
        """On every master that can be reached."""
        calls = [node.execute_command(*args, **options) for node in self.masters.values()]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for answer in answers:
            if not isinstance(answer, BaseException):
                return answer
        raise answers[0] if answers else RedisConnectionError("none of its nodes has been reached")

    def _slot_of(self, args: Sequence[Any]) -> int | None:
        """Of the key that a command is about; None: any node can carry it out."""
        word = args[0].split()[0]
        if word in KEYLESS:
            return None
        if word in ONE_SERVER:
            raise TypeError(f"{word} is about one server: see Store.scan")
        if word in SCRIPTS:
            return self.slot(args[3]) if int(args[2]) else None
        return self.slot(args[1])


class ClusterPipeline(_RedisCommands):  # type: ignore[misc]  # as Any
    """Commands that go together: one round trip to each node that has some of their keys."""

    def __init__(self, client: ClusterClient, *, transaction: bool) -> None:
        self._client = client
        self._transaction = transaction
        self._commands: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __len__(self) -> int:
        return len(self._commands)

    def __bool__(self) -> bool:
        return True

    def __await__(self) -> Generator[Any, None, Self]:
        """As redis-py's: what adds a script awaits the pipeline."""
        return self
        yield

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._commands = []

    def execute_command(self, *args: Any, **options: Any) -> Self:
        self._commands.append((args, options))
        return self

    async def execute(self, *, raise_on_error: bool = True) -> list[Any]:
        commands, self._commands = self._commands, []
        if not commands:
            return []
        answers = await self._client.run(commands, transaction=self._transaction)
        if raise_on_error:
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return answers


def _grouped(marks: Iterable[Mark]) -> dict[Mark, list[int]]:
    """The positions of equal marks."""
    groups: dict[Mark, list[int]] = {}
    for at, mark in enumerate(marks):
        groups.setdefault(mark, []).append(at)
    return groups


def _nothing() -> None:
    return None

"""What a command is made of: an operation, and the context of stores that it works on.

Outcomes: a result; `Refused` (with `BadArgument`, the caller's mistake, as one kind of it); or a
`GatewayError` when something that must be asked could not be asked. No message repeats what was
given: it could be a secret in the wrong place.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession

from gateway.admin.arguments import BadArgument, Parser, Refused
from gateway.errors import StoreUnavailable
from gateway.identity.revocation import Revocation
from gateway.identity.users import Users
from gateway.limits import ClientAddresses, Limiter, Policy
from gateway.settings import Settings
from gateway.store.barrier import Barriers
from gateway.store.keys import Keys
from gateway.store.plans import Plans
from gateway.store.redis import Store
from gateway.store.rotation import Rotation
from gateway.store.usage import Usage
from gateway.vault import Vault
from gateway.vault.binance import Binance
from gateway.yamlfile import did_you_mean


@dataclass(frozen=True, slots=True)
class Context:
    """What operations run on."""

    settings: Settings
    store: Store
    keys: Keys
    usage: Usage
    rotation: Rotation
    plans: Plans
    users: Users
    revocation: Revocation
    vault: Vault
    limiter: Limiter


@contextlib.asynccontextmanager
async def open_context(settings: Settings, *, timeout_seconds: float) -> AsyncIterator[Context]:
    """A context of its own, for a process that is no gateway; Redis gets `timeout_seconds` a call.

    Raises ConfigurationError if the store is one that this gateway can't work with.
    """
    store = await Store.open(settings.store, timeout=timeout_seconds)
    limit = settings.rate_limit
    users = Users(store, settings.keys)
    keys = Keys(store, settings.keys, users)
    limiter = Limiter(
        Policy("ip", limit.requests, limit.window, limit.block),
        store,
        addresses=ClientAddresses(settings.client_ip),
    )
    session = ClientSession()
    try:
        yield Context(
            settings=settings,
            store=store,
            keys=keys,
            usage=Usage(store),
            rotation=Rotation(store, keys),
            plans=Plans(users, settings.plans),
            users=users,
            revocation=Revocation(store),
            vault=Vault(store, settings.vault, Binance(session, settings.vault)),
            limiter=limiter,
        )
    finally:
        await session.close()
        await limiter.close()
        await store.close()


@dataclass(frozen=True, slots=True)
class Operation:
    """One command: what it does, whether that changes anything, and the arguments it takes.

    `acknowledged`: it may take something away, and is done when every worker has heard of it. Its
    result says so too, see `barrier.py`.
    """

    work: Callable[..., Awaitable[Any]]
    changes: bool
    required: Mapping[str, Parser] = field(default_factory=dict)
    optional: Mapping[str, Parser] = field(default_factory=dict)
    acknowledged: bool = False

    async def run(self, context: Context, /, **arguments: Any) -> Any:
        """Check the arguments, all of them, and do the work. None stands for "not given"."""
        parsers = {**self.required, **self.optional}
        for name in arguments:
            if name not in parsers:
                # What is shown are our names, never the given one: it came from outside.
                hint = did_you_mean(name, parsers) if parsers else "; it takes none"
                raise BadArgument(f"unknown argument{hint}")
        present = {name: value for name, value in arguments.items() if value is not None}
        parsed = {}
        for name, parse in parsers.items():
            if name in present:
                try:
                    parsed[name] = parse(present[name])
                except BadArgument as error:
                    raise BadArgument(f"{name} {error}") from None
            elif name in self.required:
                raise BadArgument(f"{name} is missing")
        if not self.acknowledged:
            return await self.work(context, **parsed)
        async with Barriers(context.store) as barriers:
            result = await self.work(context, **parsed)
            try:
                return {**result, **(await barriers.passed()).shown()}
            except StoreUnavailable:
                raise Refused(
                    "it is done, but who has heard of it could not be asked: the store went away; "
                    "the same command asks again"
                ) from None

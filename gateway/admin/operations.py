"""Every command on keys, plans, users, registered keys and blocks, as functions on the stores.

`OPERATIONS` names them. The command line runs them on the store itself; where the store is in the
memory of a running gateway, the admin API runs the very same there. Each takes plain JSON values
and returns plain JSON values, with the names that ARCHITECTURE.md gives to what Redis holds.

Outcomes: a result; `Refused` (with `BadArgument`, the caller's mistake, as one kind of it); or a
`GatewayError` when something that must be asked could not be asked.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway.admin import arguments as given
from gateway.admin.arguments import BadArgument, Parser, Refused
from gateway.identity.users import Users
from gateway.limits import ClientAddresses, Limiter, Policy
from gateway.settings import Settings
from gateway.store.keys import Keys
from gateway.store.plans import Plans
from gateway.store.redis import Store
from gateway.vault import Vault
from gateway.yamlfile import did_you_mean

__all__ = ["OPERATIONS", "BadArgument", "Context", "Operation", "Refused", "open_context"]


@dataclass(frozen=True, slots=True)
class Context:
    """What operations run on."""

    settings: Settings
    store: Store
    keys: Keys
    plans: Plans
    users: Users
    vault: Vault
    limiter: Limiter


@contextlib.asynccontextmanager
async def open_context(settings: Settings) -> AsyncIterator[Context]:
    """A context of its own, for a process that is no gateway."""
    store = await Store.open(settings.store)
    limit = settings.rate_limit
    users = Users(store, settings.keys)
    limiter = Limiter(
        Policy("ip", limit.requests, limit.window, limit.block),
        store,
        addresses=ClientAddresses(settings.client_ip),
    )
    try:
        yield Context(
            settings=settings,
            store=store,
            keys=Keys(store, settings.keys, users),
            plans=Plans(users, settings.plans),
            users=users,
            vault=Vault(store, settings.vault),
            limiter=limiter,
        )
    finally:
        await limiter.close()
        await store.close()


@dataclass(frozen=True, slots=True)
class Operation:
    """One command: what it does, whether that changes anything, and the arguments it takes."""

    work: Callable[..., Awaitable[Any]]
    changes: bool
    required: Mapping[str, Parser] = field(default_factory=dict)
    optional: Mapping[str, Parser] = field(default_factory=dict)

    async def run(self, context: Context, /, **arguments: Any) -> Any:
        """Check the arguments, all of them, and do the work. None stands for "not given"."""
        parsers = {**self.required, **self.optional}
        for name in arguments:
            if name not in parsers:
                # The name came from outside: shown only when it is close to one of ours.
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
        return await self.work(context, **parsed)

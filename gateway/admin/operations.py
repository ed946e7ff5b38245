"""Every command on keys, plans and blocks, as functions on the stores.

`OPERATIONS` names them, and those of files beside this one. The command line runs them on the store
itself; where the store is in the memory of a running gateway, the admin API runs the very same
there. Each takes plain JSON values and returns plain JSON values, with the names that
ARCHITECTURE.md gives to what Redis holds.
"""

from collections.abc import Mapping
from typing import Any

from gateway.admin import arguments as given
from gateway.admin import tokens
from gateway.admin.arguments import BadArgument, Refused
from gateway.admin.operation import Context, Operation, open_context
from gateway.admin.users import USERS, existing_user
from gateway.admin.vault import VAULT
from gateway.store.ledger import DAY_SECONDS
from gateway.store.rotation import NotRotatable
from gateway.yamlfile import did_you_mean

__all__ = ["OPERATIONS", "BadArgument", "Context", "Operation", "Refused", "open_context"]


async def issue_key(
    context: Context,
    *,
    user: int,
    name: str,
    expires: str | None = None,
    allow: str | None = None,
) -> dict[str, Any]:
    """A new key, and the only answer that ever holds it. An unknown user is created."""
    with existing_user():
        record, key = await context.keys.issue(user, name, expires, allow)
    issued = {
        "id": record.id,
        "key": key,
        "user_id": record.user_id,
        "name": record.name,
        "created_at": record.created_at,
    }
    limits = {"expires_at": record.expires_at, "allow": record.allow}
    return issued | {name: value for name, value in limits.items() if value is not None}


async def list_keys(context: Context, *, user: int | None = None) -> list[dict[str, Any]]:
    return [record.shown() for record in await context.keys.list(user)]


async def show_key(context: Context, *, id: str) -> dict[str, Any]:  # noqa: A002  # its name in Redis
    try:
        return {**(await context.keys.show(id)).shown(), **await context.usage.last(id)}
    except LookupError:
        raise _no_key() from None


async def key_usage(
    context: Context,
    *,
    id: str,  # noqa: A002  # as above
    days: int = 30,
    by: str | None = None,
) -> dict[str, Any]:
    """By day and by route, or one of them."""
    try:
        await context.keys.show(id)
    except LookupError:
        raise _no_key() from None
    used = await context.usage.of(id, days)
    return {name: value for name, value in used.items() if name not in given.LEFT_OUT[by]}


async def rotate_key(
    context: Context,
    *,
    id: str,  # noqa: A002  # as above
    overlap: int,
    when_silent: int | None = None,
) -> dict[str, Any]:
    """A new key, the only answer that ever holds it, and what becomes of the old one."""
    if when_silent is not None:
        if not context.settings.ledger.enabled:
            raise Refused("when_silent needs to know of uses: set ledger.enabled")
        if when_silent >= overlap:
            raise BadArgument("when_silent must be shorter than overlap, which ends the key anyway")
        if when_silent >= context.settings.ledger.keep_days * DAY_SECONDS:
            raise BadArgument(
                "when_silent must be shorter than ledger.keep_days: uses are forgotten"
            )
    try:
        old, new, key = await context.rotation.rotate(id, overlap, when_silent)
    except LookupError:
        raise _no_key() from None
    except NotRotatable as error:
        raise Refused(str(error)) from None
    replaced = {"id": old.id, "retires_at": old.retires_at, "silent_for": old.silent_for}
    issued = {name: value for name, value in new.shown().items() if value is not None}
    return {"id": issued.pop("id"), "key": key, **issued, "replaces": replaced}


async def set_key(
    context: Context,
    *,
    id: str,  # noqa: A002  # as above
    name: str | None = None,
    expires: str | None = None,
    allow: str | None = None,
) -> dict[str, Any]:
    """Change what is given; '' takes it away."""
    given_fields = {"name": name, "expires_at": expires, "allow": allow}
    fields = {field: value for field, value in given_fields.items() if value is not None}
    if not fields:
        raise BadArgument("nothing to set; give name, expires or allow")
    try:
        return (await context.keys.amend(id, fields)).shown()
    except LookupError:
        raise _no_key() from None


async def revoke_key(context: Context, *, id: str) -> dict[str, Any]:  # noqa: A002  # as above
    """Once more changes nothing: the first time stands."""
    try:
        return (await context.keys.revoke(id)).shown()
    except LookupError:
        raise _no_key() from None


async def set_plan(
    context: Context, *, user: int, plan: str, until: str | None = None
) -> dict[str, Any]:
    """In place of the plan before; without `until` it doesn't end. An unknown user is created."""
    known = context.settings.plans
    if plan not in known:
        raise Refused(f"the settings name no such plan{did_you_mean(plan, known)}")
    with existing_user():
        return (await context.plans.set(user, plan, until)).shown()


async def revoke_plan(context: Context, *, user: int) -> dict[str, Any]:
    with existing_user():
        return (await context.plans.revoke(user)).shown()


async def show_plan(context: Context, *, user: int) -> dict[str, Any]:
    with existing_user():
        return (await context.plans.show(user)).shown()


async def list_blocks(context: Context) -> list[dict[str, Any]]:
    return [dict(blocked) for blocked in await context.limiter.blocked()]


async def lift_block(context: Context, *, ip: str) -> dict[str, Any]:
    if not await context.limiter.unblock(ip):
        raise Refused("this address is not blocked; `gateway ips list` shows what is")
    return {"ip": ip, "unblocked": True}


def _no_key() -> Refused:
    return Refused("there is no key with this id; `gateway keys list` shows the ids")


OPERATIONS: Mapping[str, Operation] = {
    "keys.issue": Operation(
        issue_key,
        True,
        {"user": given.user_id, "name": given.name},
        {"expires": given.future, "allow": given.networks},
    ),
    "keys.list": Operation(list_keys, False, {}, {"user": given.user_id}),
    "keys.show": Operation(show_key, False, {"id": given.key_id}),
    "keys.set": Operation(
        set_key,
        True,
        {"id": given.key_id},
        {
            "name": given.name,
            "expires": given.no_longer("never", given.future),
            "allow": given.no_longer("any", given.networks),
        },
        acknowledged=True,
    ),
    "keys.revoke": Operation(revoke_key, True, {"id": given.key_id}, acknowledged=True),
    "keys.usage": Operation(
        key_usage, False, {"id": given.key_id}, {"days": given.days, "by": given.by}
    ),
    "keys.rotate": Operation(
        rotate_key,
        True,
        {"id": given.key_id, "overlap": given.duration},
        {"when_silent": given.silence},
    ),
    "plans.set": Operation(
        set_plan,
        True,
        {"user": given.user_id, "plan": given.word},
        {"until": given.moment},
        acknowledged=True,
    ),
    "plans.revoke": Operation(revoke_plan, True, {"user": given.user_id}, acknowledged=True),
    "plans.show": Operation(show_plan, False, {"user": given.user_id}),
    **USERS,
    **tokens.OPERATIONS,
    "ips.list": Operation(list_blocks, False),
    "ips.unblock": Operation(lift_block, True, {"ip": given.ip}),
    **VAULT,
}

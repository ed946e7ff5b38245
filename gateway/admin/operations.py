"""Every command on keys, plans, users, registered keys and blocks, as functions on the stores.

`OPERATIONS` names them. The command line runs them on the store itself; where the store is in the
memory of a running gateway, the admin API runs the very same there. Each takes plain JSON values
and returns plain JSON values, with the names that ARCHITECTURE.md gives to what Redis holds.
"""

from collections.abc import Mapping
from typing import Any

from gateway.admin import arguments as given
from gateway.admin import tokens
from gateway.admin.arguments import BadArgument, Refused
from gateway.admin.operation import Context, Operation, open_context
from gateway.identity.users import UserExistsError
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
    return (await context.plans.set(user, plan, until)).shown()


async def revoke_plan(context: Context, *, user: int) -> dict[str, Any]:
    try:
        return (await context.plans.revoke(user)).shown()
    except LookupError:
        raise _no_user() from None


async def show_plan(context: Context, *, user: int) -> dict[str, Any]:
    try:
        return (await context.plans.show(user)).shown()
    except LookupError:
        raise _no_user() from None


async def create_user(
    context: Context,
    *,
    email: str | None = None,
    name: str | None = None,
    id: int | None = None,  # noqa: A002  # as above
) -> dict[str, Any]:
    """With the next free id unless one is given."""
    try:
        return (await context.users.create(email=email, name=name, id=id)).shown()
    except UserExistsError as error:
        raise Refused(f"{error}; `gateway users list` shows them") from None


async def list_users(context: Context) -> list[dict[str, Any]]:
    return [user.shown() for user in await context.users.list()]


async def show_user(context: Context, *, id: int) -> dict[str, Any]:  # noqa: A002  # as above
    try:
        return (await context.users.show(id)).shown()
    except LookupError:
        raise _no_user() from None


async def revoke_tokens(context: Context, *, id: int) -> dict[str, Any]:  # noqa: A002  # as above
    """Of later sign-ins, the tokens are good."""
    try:
        return (await context.users.revoke_tokens(id)).shown()
    except LookupError:
        raise _no_user() from None


async def add_registered_key(
    context: Context, *, email: str, api_key: str, api_secret: str
) -> dict[str, Any]:
    """In place of one that is there."""
    if all(key.secret is None for key in context.settings.vault.encryption_keys):
        raise Refused(
            "there is no key to encrypt with: set GATEWAY_VAULT_KEY, or what else "
            "vault.encryption_keys reads, to base64 of 32 bytes (openssl rand -base64 32)"
        )
    try:
        return await context.vault.add(email, api_key, api_secret)
    except ValueError as error:
        raise BadArgument(str(error)) from None


async def show_registered_key(context: Context, *, email: str) -> dict[str, Any]:
    record = await context.vault.show(email)
    if record is None:
        raise _no_registered_key()
    return record


async def remove_registered_key(context: Context, *, email: str) -> dict[str, Any]:
    if not await context.vault.remove(email):
        raise _no_registered_key()
    return {"email": email, "removed": True}


async def list_blocks(context: Context) -> list[dict[str, Any]]:
    return [dict(blocked) for blocked in await context.limiter.blocked()]


async def lift_block(context: Context, *, ip: str) -> dict[str, Any]:
    if not await context.limiter.unblock(ip):
        raise Refused("this address is not blocked; `gateway ips list` shows what is")
    return {"ip": ip, "unblocked": True}


def _no_key() -> Refused:
    return Refused("there is no key with this id; `gateway keys list` shows the ids")


def _no_user() -> Refused:
    return Refused("there is no user with this id; `gateway users list` shows the ids")


def _no_registered_key() -> Refused:
    return Refused("no key is registered for this email")


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
    "users.create": Operation(
        create_user, True, {}, {"email": given.email, "name": given.name, "id": given.user_id}
    ),
    "users.list": Operation(list_users, False),
    "users.show": Operation(show_user, False, {"id": given.user_id}),
    "users.revoke-tokens": Operation(revoke_tokens, True, {"id": given.user_id}, acknowledged=True),
    "vault.add": Operation(
        add_registered_key,
        True,
        {"email": given.email, "api_key": given.secret, "api_secret": given.secret},
    ),
    "vault.show": Operation(show_registered_key, False, {"email": given.email}),
    "vault.remove": Operation(
        remove_registered_key, True, {"email": given.email}, acknowledged=True
    ),
    **tokens.OPERATIONS,
    "ips.list": Operation(list_blocks, False),
    "ips.unblock": Operation(lift_block, True, {"ip": given.ip}),
}

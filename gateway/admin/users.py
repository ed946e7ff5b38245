"""Operations on users: the accounts that keys and plans belong to."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gateway.admin import arguments as given
from gateway.admin.arguments import BadArgument, Refused
from gateway.admin.operation import Context, Operation
from gateway.identity.removal import Removal
from gateway.identity.user import own_email_in
from gateway.identity.users import DeletedUserError, Provider, UserExistsError


async def create_user(
    context: Context,
    *,
    email: str | None = None,
    name: str | None = None,
    id: int | None = None,  # noqa: A002  # its name in Redis
) -> dict[str, Any]:
    """With the next free id unless one is given."""
    try:
        with existing_user():
            return (await context.users.create(email=email, name=name, id=id)).shown()
    except UserExistsError as error:
        raise Refused(f"{error}; `gateway users list` shows them") from None


async def list_users(context: Context) -> list[dict[str, Any]]:
    return [user.shown() for user in await context.users.list()]


async def show_user(
    context: Context,
    *,
    id: int | None = None,  # noqa: A002  # as above
    email: str | None = None,
) -> dict[str, Any]:
    """By id, or by email; with what became of the links to providers."""
    if (id is None) == (email is None):
        raise BadArgument("id or email is needed, and not both")
    if email is not None:
        user = await context.users.find_by_email(email)
        if user is None:
            raise Refused("there is no user with this email; `gateway users list` shows them")
    else:
        assert id is not None
        with existing_user():
            user = await context.users.show(id)
    return {**user.shown(), "links": user.history()}


async def revoke_tokens(context: Context, *, id: int) -> dict[str, Any]:  # noqa: A002  # as above
    """Of later sign-ins, the tokens are good."""
    with existing_user():
        return (await context.users.revoke_tokens(id)).shown()


async def disable_user(context: Context, *, id: int) -> dict[str, Any]:  # noqa: A002  # as above
    """Once more changes nothing but the end of tokens: the first time stands."""
    with existing_user():
        return (await context.users.disable(id)).shown()


async def enable_user(context: Context, *, id: int) -> dict[str, Any]:  # noqa: A002  # as above
    """Tokens of before stay dead."""
    with existing_user():
        return (await context.users.enable(id)).shown()


async def unlink_user(
    context: Context,
    *,
    id: int,  # noqa: A002  # as above
    provider: Provider,
    may_return: bool = False,
) -> dict[str, Any]:
    """All tokens end. Whoever signs in with it later is somebody else, unless it may return."""
    removal = Removal(context.store, context.users)
    with existing_user():
        return (await removal.unlink(id, provider, may_return=may_return)).shown()


async def delete_user(
    context: Context,
    *,
    id: int,  # noqa: A002  # as above
    registered_key: bool = False,
) -> dict[str, Any]:
    """The record goes, what leads to it, and the user's keys, which are revoked.

    A Binance key that is registered under their email stays, unless it is to go too. An email that
    nobody vouches for may be somebody else's.
    """
    removal = Removal(context.store, context.users)
    with existing_user():
        fields = await removal.begin_deletion(id)
    keys = [key.id for key in await context.keys.list(id) if key.revoked_at is None]
    for key_id in keys:
        await context.keys.revoke(key_id)
    email = own_email_in(fields) or ""
    is_registered = await context.vault.status(email) is not None
    if is_registered and registered_key:
        await context.vault.remove(email)
    return {
        "id": id,
        "deleted_at": await removal.end_deletion(id, fields),
        "revoked_keys": keys,
        "registered_key": ("removed" if registered_key else "stays") if is_registered else None,
    }


@contextmanager
def existing_user() -> Iterator[None]:
    """Whoever is not known within is refused."""
    try:
        yield
    except DeletedUserError as error:
        raise Refused(str(error)) from None
    except LookupError:
        raise Refused("there is no user with this id; `gateway users list` shows the ids") from None


_ID: Mapping[str, given.Parser] = {"id": given.user_id}

USERS: Mapping[str, Operation] = {
    "users.create": Operation(
        create_user, True, {}, {"email": given.email, "name": given.name, "id": given.user_id}
    ),
    "users.list": Operation(list_users, False),
    "users.show": Operation(show_user, False, {}, {"id": given.user_id, "email": given.email}),
    "users.revoke-tokens": Operation(revoke_tokens, True, _ID, acknowledged=True),
    "users.disable": Operation(disable_user, True, _ID, acknowledged=True),
    "users.enable": Operation(enable_user, True, _ID, acknowledged=True),
    "users.unlink": Operation(
        unlink_user,
        True,
        {"id": given.user_id, "provider": given.provider},
        {"may_return": given.flag},
        acknowledged=True,
    ),
    "users.delete": Operation(
        delete_user, True, _ID, {"registered_key": given.flag}, acknowledged=True
    ),
}

"""Operations on registered Binance keys."""

from collections.abc import Mapping
from typing import Any

from gateway.admin import arguments as given
from gateway.admin.arguments import BadArgument, Refused
from gateway.admin.operation import Context, Operation


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


def _no_registered_key() -> Refused:
    return Refused("no key is registered for this email")


VAULT: Mapping[str, Operation] = {
    "vault.add": Operation(
        add_registered_key,
        True,
        {"email": given.email, "api_key": given.secret, "api_secret": given.secret},
    ),
    "vault.show": Operation(show_registered_key, False, {"email": given.email}),
    "vault.remove": Operation(
        remove_registered_key, True, {"email": given.email}, acknowledged=True
    ),
}

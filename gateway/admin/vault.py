"""Operations on registered Binance keys."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gateway.admin import arguments as given
from gateway.admin.arguments import BadArgument, Refused
from gateway.admin.operation import Context, Operation
from gateway.vault import Verification, importing
from gateway.vault.resealing import Resealing


async def add_registered_key(
    context: Context, *, email: str, api_key: str, api_secret: str
) -> dict[str, Any]:
    """In place of one that is there."""
    check_master_key(context)
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


async def list_registered_keys(context: Context) -> list[dict[str, Any]]:
    records = {}
    async for emails in context.vault.records.emails():
        found, _ = await context.vault.records.read_all(emails)
        records.update({record.email: record.shown() for record in found})
    return list(records.values())


async def verify_registered_key(context: Context, *, email: str) -> dict[str, Any]:
    """Binance is asked now, whatever it said a moment ago."""
    match await context.vault.verify(email, anew=True):
        case Verification.NOT_REGISTERED:
            raise _no_registered_key()
        case Verification.INACTIVE:
            raise Refused("the key is switched off; `gateway vault enable` hands it out again")
    return await show_registered_key(context, email=email)


async def disable_registered_key(context: Context, *, email: str) -> dict[str, Any]:
    return await _switched(context, email, on=False)


async def enable_registered_key(context: Context, *, email: str) -> dict[str, Any]:
    return await _switched(context, email, on=True)


async def _switched(context: Context, email: str, *, on: bool) -> dict[str, Any]:
    record = await context.vault.switch(email, on=on)
    if record is None:
        raise _no_registered_key()
    return record


async def rotate_master_key(context: Context) -> dict[str, Any]:
    """All records under the first master key; again, it goes on where it was."""
    check_master_key(context)
    rotation = Resealing(context.vault)
    async for _ in rotation.run():
        pass
    return rotation.tally.shown()


async def import_registered_keys(
    context: Context, *, lines: list[str], first: int = 1, overwrite: bool = False
) -> dict[str, Any]:
    """Some lines of a file, of which `first` is the number of the first one."""
    check_master_key(context)
    return asdict(await importing.take(context.vault, lines, first=first, overwrite=overwrite))


def check_master_key(context: Context) -> None:
    """Raise Refused where nothing can be encrypted."""
    if all(key.secret is None for key in context.settings.vault.encryption_keys):
        raise Refused(
            "there is no key to encrypt with: set GATEWAY_VAULT_KEY, or what else "
            "vault.encryption_keys reads, to base64 of 32 bytes (openssl rand -base64 32)"
        )


def _no_registered_key() -> Refused:
    return Refused("no key is registered for this email")


VAULT: Mapping[str, Operation] = {
    "vault.add": Operation(
        add_registered_key,
        True,
        {"email": given.email, "api_key": given.secret, "api_secret": given.secret},
    ),
    "vault.import": Operation(
        import_registered_keys,
        True,
        {"lines": given.lines},
        {"first": given.line_number, "overwrite": given.flag},
    ),
    "vault.list": Operation(list_registered_keys, False),
    "vault.show": Operation(show_registered_key, False, {"email": given.email}),
    "vault.verify": Operation(verify_registered_key, True, {"email": given.email}),
    "vault.rotate": Operation(rotate_master_key, True),
    "vault.disable": Operation(
        disable_registered_key, True, {"email": given.email}, acknowledged=True
    ),
    "vault.enable": Operation(enable_registered_key, True, {"email": given.email}),
    "vault.remove": Operation(
        remove_registered_key, True, {"email": given.email}, acknowledged=True
    ),
}

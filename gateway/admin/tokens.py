"""App tokens for operators: which secrets sign and verify them, and what ends them before time."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.admin import arguments as given
from gateway.admin.arguments import BadArgument, Refused
from gateway.admin.operation import Context, Operation
from gateway.errors import DependencyUnavailable, Unauthenticated
from gateway.identity.sessions import named_by
from gateway.identity.tokens import AppTokens
from gateway.identity.users import UnknownUserError
from gateway.sections import AppTokenSettings
from gateway.tokenfile import TokenKey, iso, signer


def shown(settings: AppTokenSettings, now: float) -> list[dict[str, Any]]:
    """Each secret: what it does at `now` (Unix seconds), its times, and where it stands."""
    signs = signer(settings.keys, now)

    def state(key: TokenKey) -> str:
        if key.secret is None:
            return "unset"
        if key.is_retired(now):
            return "retired"
        if key.signs_from is not None and key.signs_from > now:
            return "verifies, signs later"
        return "signs" if key is signs else "verifies"

    def row(key: TokenKey, stands_in: str) -> dict[str, Any]:
        return {
            "id": key.id,
            "state": state(key),
            "signs_from": iso(key.signs_from),
            "retires_at": iso(key.retires_at),
            "stands_in": stands_in,
        }

    ours = len(settings.secrets)
    rows = [row(key, "secrets") for key in settings.keys[:ours]]
    rows += [row(key, "secrets_file") for key in settings.keys[ours:]]
    if (legacy := settings.legacy) is not None:
        of_before = TokenKey.model_construct(
            id=legacy.kid or "-", secret=legacy.secret, retires_at=legacy.until
        )
        rows.append(row(of_before, "legacy"))
    return rows


async def show_tokens(context: Context) -> list[dict[str, Any]]:
    """As the settings were when the gateway, or the command, read them."""
    return shown(context.settings.app_tokens, time.time())


async def revoke(
    context: Context,
    *,
    user: int | None = None,
    jti: str | None = None,
    token: str | None = None,
    all: bool = False,  # noqa: A002  # the option's name
) -> dict[str, Any]:
    """One token by its id or itself, or all tokens of all users."""
    if (all, token is not None, user is not None, jti is not None) not in WAYS:
        raise BadArgument("it takes user and jti, or a token, or all")
    if all:
        return {"all": True, "generation": await context.revocation.revoke_all()}
    try:
        if token is not None:
            return await _revoke_token(context, token.strip())
        assert user is not None
        assert jti is not None
        await context.revocation.revoke_id(user, jti)
    except UnknownUserError:
        raise Refused("there is no user with this id; `gateway users list` shows the ids") from None
    return {"user_id": user, "id": jti, "revoked": True}


async def _revoke_token(context: Context, token: str) -> dict[str, Any]:
    """An access token, with its session if it has one; or a refresh token, which stands for it."""
    session = named_by(token)
    if session is not None:
        await context.revocation.revoke_id(*session)
        return {"user_id": session[0], "id": session[1], "revoked": True}
    try:
        claims = AppTokens(context.settings.app_tokens).verify(token)
    except Unauthenticated:
        raise Refused(
            "this is no token of this gateway, or it has expired: it opens nothing"
        ) from None
    except DependencyUnavailable:
        raise Refused("the settings have no secret to verify it with; give user and jti") from None
    if claims.email is not None:  # it names its user by that
        user = await context.users.find_by_email(claims.email)
        if user is None:
            raise UnknownUserError
        claims = replace(claims, user_id=user.id)
    await context.revocation.revoke(claims)
    return {"user_id": claims.user_id, "id": claims.session or claims.jti, "revoked": True}


# What may be given together, of all, token, user and jti.
WAYS = ((True, False, False, False), (False, True, False, False), (False, False, True, True))

OPERATIONS: Mapping[str, Operation] = {
    "tokens.show": Operation(show_tokens, False),
    "tokens.revoke": Operation(
        revoke,
        True,
        {},
        {
            "user": given.user_id,
            "jti": given.token_id,
            "token": given.secret,
            "all": given.flag,
        },
        acknowledged=True,
    ),
}

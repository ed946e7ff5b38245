"""App tokens for operators: which secrets sign and verify them, and never a secret."""

import time
from collections.abc import Mapping
from typing import Any

from gateway.admin.operation import Context, Operation
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

    return [
        {
            "id": key.id,
            "state": state(key),
            "signs_from": iso(key.signs_from),
            "retires_at": iso(key.retires_at),
            "stands_in": "secrets" if index < len(settings.secrets) else "secrets_file",
        }
        for index, key in enumerate(settings.keys)
    ]


async def show_tokens(context: Context) -> list[dict[str, Any]]:
    """As the settings were when the gateway, or the command, read them."""
    return shown(context.settings.app_tokens, time.time())


OPERATIONS: Mapping[str, Operation] = {
    "tokens.show": Operation(show_tokens, False),
}

"""A master key is replaced while two gateways serve, step by step as README says."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from test_resealing import RAW, email, filled, rotated
from vault_stage import call, serving

from gateway.vault import Credentials

NUMBERS = range(400)


def keys(*ids: str) -> list[dict[str, str]]:
    return [{"id": name, "secret": RAW[name]} for name in ids]


async def used(gateway: Any, backend: Any, number: int) -> tuple[int, Any]:
    """The status of an injected route, and the key that its backend got."""
    status, _, _ = await call(gateway, f"/injected?{number}", {"email": email(number)})
    target = f"/injected?{number} ".encode()
    body = next(each.body for each in reversed(backend.requests) if target in each.line)
    return status, json.loads(body)["api_key"]


@pytest.fixture
async def gateways(redis_url, real_store, tmp_path, stand_in, backend):
    """One that has the old key first still, one that has the new one first."""
    await filled(real_store, len(NUMBERS))
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                serving(tmp_path / ids[0], redis_url, stand_in, backend, encryption_keys=keys(*ids))
            )
            for ids in (("v1", "v2"), ("v2", "v1"))
        ]


async def test_every_request_is_served_meanwhile_and_nothing_registered_is_lost(
    gateways, real_store, redis_url, tmp_path, stand_in, backend
):
    held = {number: f"key-{number}" for number in NUMBERS}
    rotating = asyncio.create_task(rotated(real_store, "v2", "v1"))
    for number in NUMBERS[:60]:
        if number % 4 == 0:  # it comes under the old key, wherever the rotation is
            held[number] = f"new-{number}"
            stand_in.keys[held[number]] = "new-secret"
            credentials = Credentials(held[number], "new-secret")
            vault = gateways[0].parts.vault
            assert await vault.register(email(number), credentials) == (True, True)
        for gateway in gateways:
            assert await used(gateway, backend, number) == (200, held[number])
    assert (await rotating)["left"] == 0
    last = await rotated(real_store, "v2", "v1")
    assert last["rotated"] + last["current"] == len(NUMBERS)
    alone = serving(tmp_path / "new", redis_url, stand_in, backend, encryption_keys=keys("v2"))
    async with alone as gateway:
        for number in NUMBERS:
            assert await used(gateway, backend, number) == (200, held[number])


async def test_who_has_not_the_new_key_yet_can_not_open_what_is_under_it(
    redis_url, real_store, tmp_path, stand_in, backend
):
    """Why the new key comes second first: 503, not 403, and well again with the key."""
    await filled(real_store, 1)
    await rotated(real_store, "v2", "v1")
    old = serving(tmp_path, redis_url, stand_in, backend, encryption_keys=keys("v1"))
    async with old as gateway:
        assert (await call(gateway, "/injected", {"email": email(0)}))[0] == 503

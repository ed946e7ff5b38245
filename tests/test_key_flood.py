"""A flood of plan keys that nobody has, at a gateway on a real Redis: lookups and memory."""

import asyncio
from pathlib import Path

import aiohttp
import pytest
from harness import Running, open_gateway, route, upstream
from redis_process import RedisProcess

from gateway.store.keys import new_key

REMEMBERED = 100
KEYS = 400


def with_wrong_checksum(key: str) -> str:
    return key[:-1] + ("1" if key[-1] == "0" else "0")


async def refuse(running: Running, keys: list[str]) -> None:
    async def one(session: aiohttp.ClientSession, key: str) -> int:
        async with session.get(running.url + "/paid", headers={"X-Primit-API-Key": key}) as answer:
            return answer.status

    async with aiohttp.ClientSession() as session:
        statuses = await asyncio.gather(*(one(session, key) for key in keys))
    assert set(statuses) == {401}


@pytest.mark.parametrize(
    ("make", "lookups", "remembered"),
    [(new_key, KEYS, REMEMBERED // 10), (lambda: with_wrong_checksum(new_key()), 0, 0)],
    ids=["of the right form", "with a wrong checksum"],
)
async def test_keys_that_nobody_has_are_looked_up_once_at_most_and_remembered_within_a_bound(
    redis_server: RedisProcess, redis_url: str, tmp_path: Path, make, lookups, remembered
):
    settings = {
        "store": {"url": redis_url, "timeout": 2},
        "keys": {"remember": REMEMBERED},
        "rate_limit": {"enabled": False},
    }
    routes = {
        "upstreams": upstream("http://127.0.0.1:9"),
        "routes": [route(auth="plan_key", plan="standard")],
    }
    async with open_gateway(tmp_path, routes, settings) as running:
        with redis_server.client() as client:
            client.config_resetstat()
            await refuse(running, [make() for _ in range(KEYS)])
            stats = client.info("commandstats")
        assert stats.get("cmdstat_hgetall", {"calls": 0})["calls"] == lookups
        assert len(running.parts.keys.copies) == remembered

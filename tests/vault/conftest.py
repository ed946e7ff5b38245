"""A backend, a stand-in for Binance, and a gateway between them on each store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from backend import RawBackend
from binance_stand_in import BinanceStandIn
from harness import Running
from vault_stage import serving


@pytest.fixture
async def backend() -> AsyncIterator[RawBackend]:
    backend = await RawBackend().start()
    yield backend
    await backend.stop()


@pytest.fixture
async def stand_in() -> AsyncIterator[BinanceStandIn]:
    async with BinanceStandIn() as started:
        started.keys["second-key"] = "second-secret"
        yield started


@pytest.fixture(params=["memory", "redis"])
async def gateway(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    stand_in: BinanceStandIn,
    backend: RawBackend,
) -> AsyncIterator[Running]:
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    async with serving(tmp_path, url, stand_in, backend) as running:
        yield running

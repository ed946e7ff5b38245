"""Registration and Binance's turns where Redis is a cluster: the records of emails lie apart."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from backend import RawBackend
from binance_stand_in import BinanceStandIn
from clusters import Cluster
from elsewhere import taken_from
from harness import Running
from vault_stage import serving

globals().update(taken_from("vault/test_registration.py"))


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


@pytest.fixture
async def gateway(
    cluster: Cluster, tmp_path: Path, stand_in: BinanceStandIn, backend: RawBackend
) -> AsyncIterator[Running]:
    async with serving(tmp_path, cluster.url, stand_in, backend) as running:
        yield running

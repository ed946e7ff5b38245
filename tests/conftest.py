"""The real parts tests run on: Redis servers, and the store on each of its backends.

`redis_url` is one server for the whole session, emptied before each test. `redis_process` is a
server of the test's own, to be stopped, killed, paused and started again with its data.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis_process import RedisProcess

from gateway.sections import StoreSettings
from gateway.store.redis import Store

STORE_TIMEOUT_SECONDS = 2.0  # generous: a busy machine is not an outage


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """The session's server, without persistence. Tests ask for `redis_url`."""
    server = RedisProcess(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_url(redis_server: RedisProcess) -> str:
    """A real, empty Redis."""
    with redis_server.client() as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def redis_process(tmp_path: Path) -> Iterator[RedisProcess]:
    """A running Redis of this test's own that keeps its data over a restart."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisProcess(folder, durable=True)
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def memory_store() -> AsyncIterator[Store]:
    """A new, empty embedded store."""
    opened = await Store.open(StoreSettings(url="memory://", timeout=STORE_TIMEOUT_SECONDS))
    yield opened
    await opened.close()


@pytest.fixture
async def real_store(redis_url: str) -> AsyncIterator[Store]:
    """The store on a real, empty Redis."""
    opened = await Store.open(StoreSettings(url=redis_url, timeout=STORE_TIMEOUT_SECONDS))
    yield opened
    await opened.close()


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Store:
    """The store on each of its backends."""
    name = "memory_store" if request.param == "memory" else "real_store"
    opened = request.getfixturevalue(name)
    assert isinstance(opened, Store)
    return opened

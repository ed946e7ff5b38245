"""One arena for each file of attacks."""

from collections.abc import Iterator

import pytest
from arena import Arena, arena
from redis_process import RedisProcess


@pytest.fixture(scope="module")
def field(redis_server: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with arena(tmp_path_factory.mktemp("attacks"), redis_server) as running:
        yield running

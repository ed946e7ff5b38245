"""One cluster for all tests that leave it whole, emptied before each."""

from collections.abc import AsyncIterator, Iterator

import pytest
from clusters import Cluster, flush, running

from gateway.sections import StoreSettings
from gateway.store.redis import Store


@pytest.fixture(scope="session")
def session_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(session_cluster: Cluster) -> Cluster:
    flush(session_cluster)
    return session_cluster


@pytest.fixture
async def cluster_store(cluster: Cluster) -> AsyncIterator[Store]:
    opened = await Store.open(StoreSettings(url=cluster.url, timeout=2))
    yield opened
    await opened.close()


@pytest.fixture
def store(cluster_store: Store) -> Store:
    """Here, what runs on any store runs on a cluster."""
    return cluster_store


@pytest.fixture
def real_store(cluster_store: Store) -> Store:
    return cluster_store

import pytest
from clusters import Cluster
from elsewhere import taken_from

globals().update(taken_from("store/test_barrier.py"))


@pytest.fixture
def redis_url(cluster: Cluster) -> str:
    return cluster.url

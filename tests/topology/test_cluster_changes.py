"""Whether copies of what lies in a cluster stay true, and are trusted only as long as they must be.

The cluster is this file's own: masters die, hang and change here. Each test leaves it whole.
"""

import subprocess
from collections.abc import AsyncIterator, Iterator

import pytest
from clusters import Cluster, flush, running
from gateway_process import until
from redis.crc import key_slot
from redis_process import eventually

from gateway.errors import StoreUnavailable
from gateway.sections import StoreSettings
from gateway.store.redis import Store
from gateway.store.watch import Watched


@pytest.fixture(scope="module")
def restless_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("restless")) as cluster:
        yield cluster


@pytest.fixture
def cluster(restless_cluster: Cluster) -> Cluster:
    until(restless_cluster.is_whole, "the test before left it whole")
    flush(restless_cluster)
    return restless_cluster


@pytest.fixture
async def store(cluster: Cluster) -> AsyncIterator[Store]:
    opened = await Store.open(StoreSettings(url=cluster.url, timeout=0.5))
    yield opened
    await opened.close()


@pytest.fixture
def copies(store: Store) -> Watched[str]:
    async def read(names):
        return await store.read_hashes([store.key("key", name) for name in names])

    return Watched(
        store.changes,
        "key",
        read,
        lambda _name, fields: fields.get("v"),
        remember=1000,
        stale_for=300,
    )


async def sees(copies: Watched[str], name: str, value: str | None) -> None:
    async def as_wanted() -> bool:
        try:
            return await copies.get(name) == value
        except StoreUnavailable:
            return False

    await eventually(as_wanted)


async def knows(copies: Watched[str], name: str, value: str) -> None:
    """Until it is kept: what is read before its change is heard is not."""

    async def by_a_hit() -> bool:
        hits = copies.hits
        return await copies.get(name) == value and copies.hits == hits + 1

    await eventually(by_a_hit)


def write(cluster: Cluster, name: str, value: str) -> None:
    """As an operator would (redis-py's own client fails at a master without slots)."""
    port = cluster.well()[0].port
    command = ["redis-cli", "-c", "-p", str(port), "HSET", f"gw:key:{name}", "v", value]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("0", "1"), done


def names_of(cluster: Cluster) -> dict[int, str]:
    """For each master, by its port, a name that lies there."""
    return {cluster.owner(f"gw:key:{name}").port: str(name) for name in range(100)}


async def test_an_orderly_failover_loses_no_change(cluster, store, copies):
    master = cluster.owner("gw:key:a")
    write(cluster, "a", "1")
    await knows(copies, "a", "1")
    cluster.fail_over(cluster.replica_of(master))
    write(cluster, "a", "2")
    await sees(copies, "a", "2")
    await eventually(lambda: store.available)
    write(cluster, "a", "3")
    await sees(copies, "a", "3")


async def test_while_a_master_is_dead_what_is_known_stays_and_the_others_are_asked(
    cluster, store, copies
):
    names = names_of(cluster)
    for name in names.values():
        write(cluster, name, "1")
        await knows(copies, name, "1")
    master = cluster.owner("gw:key:a")
    lost = names[master.port]
    master.kill()
    await eventually(lambda: not store.available)
    for name in names.values():
        assert await copies.get(name) == "1"
    others = [f"beside {number}" for number in range(100)]
    beside = next(name for name in others if cluster.owner(f"gw:key:{name}") is not master)
    assert await copies.get(beside) is None  # asked, and not kept
    await eventually(lambda: store.available)  # the replica has taken over
    await sees(copies, lost, "1")
    write(cluster, lost, "2")
    await sees(copies, lost, "2")
    master.start()


async def test_a_master_that_hangs_is_replaced_and_then_not_believed(cluster, store, copies):
    master = cluster.owner("gw:key:a")
    write(cluster, "a", "1")
    await knows(copies, "a", "1")
    master.pause()
    try:
        await eventually(lambda: not store.available)
        assert await copies.get("a") == "1"
        await eventually(lambda: store.available)
        write(cluster, "a", "2")
        await sees(copies, "a", "2")
    finally:
        master.resume()  # for a moment it takes itself for the master
    write(cluster, "a", "3")
    await sees(copies, "a", "3")
    await eventually(lambda: store.available)
    write(cluster, "a", "4")
    await sees(copies, "a", "4")


async def test_a_new_master_is_heard_before_anything_is_kept_from_it(cluster, store, copies):
    slot = key_slot(b"gw:key:a")
    source = cluster.owner("gw:key:a")
    write(cluster, "a", "1")
    await knows(copies, "a", "1")
    joined = cluster.add_master()
    try:
        for number, _ in enumerate(cluster.move_slot(slot, joined)):
            write(cluster, "a", f"moving {number}")
            await sees(copies, "a", f"moving {number}")
        await eventually(lambda: store.available)
        write(cluster, "a", "2")
        await sees(copies, "a", "2")
        await knows(copies, "a", "2")
    finally:
        for _ in cluster.move_slot(slot, source):
            pass
        cluster.forget(joined)

"""A gateway under load on a cluster of six nodes: slots move, masters die, hang and take turns."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from backend import backend_in_thread
from clusters import Cluster, client_of, running
from gateway_process import until
from load import UNUSED_KEYS, Load, gateway_on, hung, issue, killed, under_load
from redis.crc import key_slot
from redis_process import eventually

from gateway.store.keys import digest

PATIENT = {"GATEWAY_STORE__TIMEOUT": "2"}  # what is late on a busy machine is not what is lost


@pytest.fixture(scope="module")
def restless_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("loaded")) as cluster:
        yield cluster


@pytest.fixture
def cluster(restless_cluster: Cluster) -> Cluster:
    until(restless_cluster.is_whole, "the test before left it whole")
    return restless_cluster


def write(cluster: Cluster, records: Mapping[str, Mapping[str, str]]) -> None:
    with client_of(cluster) as client:
        pipeline = client.pipeline()
        for name, fields in records.items():
            pipeline.hset(name, mapping=fields)
        pipeline.execute()


async def written_counts(cluster: Cluster, load: Load) -> None:
    """New keys open, and revoked ones don't, wherever they lie."""
    keys = issue(12, lambda records: write(cluster, records))
    for key in keys:
        await load.opens(key)
    write(cluster, {f"gw:key:{digest(key)}": {"revoked_at": "2026-01-01T00:00:00"} for key in keys})

    async def all_revoked() -> bool:
        return {await load.get("/plan", key=key) for key in keys} == {401}

    await eventually(all_revoked)


@pytest.mark.parametrize("gone", [hung, killed])
async def test_a_failover_under_load_refuses_nobody(cluster: Cluster, tmp_path: Path, gone):
    keys = issue(UNUSED_KEYS, lambda records: write(cluster, records))
    master = cluster.owner(f"gw:key:{digest(keys[0])}")
    with (
        backend_in_thread() as backend,
        gateway_on(cluster.url, tmp_path / "gateway", backend) as gateway,
    ):

        def available() -> bool:
            return gateway.readyz()[1]["store"]["available"]

        async with under_load(gateway, keys) as load:
            await eventually(lambda: load.answers["unused"][200] > 20)
            with gone(master):
                await eventually(lambda: not available())
                await eventually(available)  # without the lost one
                await load.goes_on()
                await written_counts(cluster, load)
            await load.goes_on()
            await written_counts(cluster, load)


async def test_slots_that_move_under_load_are_not_noticed(cluster: Cluster, tmp_path: Path):
    keys = issue(UNUSED_KEYS, lambda records: write(cluster, records))
    known = f"gw:key:{digest(keys[0])}"
    source = cluster.owner(known)
    target = next(node for node in cluster.masters() if node is not source)
    with (
        backend_in_thread() as backend,
        gateway_on(cluster.url, tmp_path / "gateway", backend, **PATIENT) as gateway,
    ):
        async with under_load(gateway, keys) as load:
            await eventually(lambda: load.answers["unused"][200] > 20)
            slots = {key_slot(f"gw:key:{digest(key)}".encode()) for key in keys[:60]}
            slots |= {key_slot(known.encode()), key_slot(b"gw:user:42")}
            for slot in slots:
                if cluster.owner_of_slot(slot) is not target:
                    for _ in cluster.move_slot(slot, target):
                        await load.goes_on(1)
            await written_counts(cluster, load)
        assert load.answers["unused"].keys() == {200}

"""Three Sentinels: one that is wrong, and a master that hangs or dies under load."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from backend import backend_in_thread
from gateway_process import GatewayProcess, until
from load import UNUSED_KEYS, gateway_on, hung, issue, killed, under_load
from redis_process import RedisProcess, eventually
from sentinels import MASTER, Watch, watched

from gateway.sections import StoreSettings
from gateway.store.keys import digest
from gateway.store.redis import Store


@pytest.fixture(scope="module")
def restless_watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    with watched(tmp_path_factory.mktemp("sentinels")) as watch:
        yield watch


@pytest.fixture
def watch(restless_watch: Watch) -> Watch:
    until(restless_watch.is_whole, "the test before left it whole")
    with restless_watch.master().client() as client:
        client.flushall()
    return restless_watch


def write(server: RedisProcess, records: Mapping[str, Mapping[str, str]]) -> None:
    with server.client() as client:
        pipeline = client.pipeline(transaction=False)
        for name, fields in records.items():
            pipeline.hset(name, mapping=fields)
        pipeline.execute()


def gateway_clients(server: RedisProcess, gateway: GatewayProcess) -> int:
    """Connections that gateways have to it: those that aren't the Sentinels', replicas' or ours."""
    with server.client() as client:
        own = client.client_id()
        return sum(
            1
            for each in client.client_list()
            if int(each["id"]) != own and not each["name"] and each["flags"] not in ("S", "M")
        )


async def test_a_sentinel_that_takes_a_replica_for_the_master_is_not_believed(watch: Watch):
    replica = watch.replica()
    asked = 0

    async def wrong(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        words = ["name", MASTER, "ip", "127.0.0.1", "port", str(replica.port), "flags", "master"]
        words += ["num-other-sentinels", "2"]
        while line := await reader.readline():
            if line.strip().upper() == b"MASTERS":
                asked += 1
                body = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
                writer.write(f"*1\r\n*{len(words)}\r\n{body}".encode())
            elif line.strip().upper() == b"CLIENT":
                writer.write(b"+OK\r\n")
        writer.close()

    liar = await asyncio.start_server(wrong, "127.0.0.1", 0)
    place = f"127.0.0.1:{liar.sockets[0].getsockname()[1]}"
    url = watch.url.replace("//", f"//{place},")
    store = await Store.open(StoreSettings(url=url, timeout=2))
    try:
        await eventually(lambda: store.available)
        assert asked > 0
        await store.client.set("gw:x", "1")
        with watch.master().client() as client:
            assert client.get("gw:x") == "1"
    finally:
        await store.close()
        liar.close()


@pytest.mark.parametrize("gone", [hung, killed])
async def test_a_failover_under_load_refuses_nobody(watch: Watch, tmp_path: Path, gone) -> None:
    old, new = watch.master(), watch.replica()
    keys = issue(UNUSED_KEYS, lambda records: write(old, records))
    with old.client() as client:
        assert client.wait(1, 3000) == 1
    with (
        backend_in_thread() as backend,
        gateway_on(watch.url, tmp_path / "gateway", backend) as gateway,
    ):
        async with under_load(gateway, keys) as load:
            await eventually(lambda: load.answers["unused"][200] > 20)
            with gone(old):
                await eventually(lambda: watch.master() is new)
                await eventually(lambda: gateway.readyz()[1]["store"]["available"])
                await load.goes_on()
            await load.goes_on()
            assert gateway_clients(old, gateway) == 0

            # All is as before: what is written to the new master counts at once.
            (late,) = issue(1, lambda records: write(new, records))
            await load.opens(late)
            write(new, {f"gw:key:{digest(late)}": {"revoked_at": "2026-01-01T00:00:00"}})

            async def is_revoked() -> bool:
                return await load.get("/plan", key=late) == 401

            await eventually(is_revoked)
            before = load.answers["unused"][503]
            await load.goes_on()
            assert load.answers["unused"][503] == before
        if gone is hung:  # the last one leaves it as it is: Sentinels take 8 s for this
            until(watch.is_whole, "the old master has become a replica")
            assert gateway_clients(old, gateway) == 0

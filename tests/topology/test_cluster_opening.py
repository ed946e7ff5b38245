"""A store on a cluster that isn't there yet, or whose data is of another gateway."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis_process import RedisProcess, eventually, free_port

from gateway.errors import ConfigurationError, StoreUnavailable
from gateway.sections import StoreSettings
from gateway.store.redis import Store


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RedisProcess]:
    """A cluster of one, which is not started."""
    server = RedisProcess(tmp_path, durable=True)
    server.options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
    yield server
    server.kill()


def url_of(server: RedisProcess) -> str:
    return f"redis+cluster://user:canary@127.0.0.1:{free_port()},127.0.0.1:{server.port}"


def form(server: RedisProcess) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "user", "on", ">canary", "~*", "&*", "+@all")
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)


async def test_it_opens_without_its_nodes_says_so_once_and_finds_them_later(
    node: RedisProcess, caplog: pytest.LogCaptureFixture
):
    store = await Store.open(StoreSettings(url=url_of(node), timeout=2))
    try:
        assert not store.available
        calls = (
            store.read_hashes(["gw:key:a"]),
            anext(store.scan("*")),
            store.read_hashes(["gw:key:a", "gw:key:b"]),
        )
        for call in calls:
            with pytest.raises(StoreUnavailable):
                await call
        with pytest.raises(StoreUnavailable):
            store.connection_to("gw:key:a")
        node.start()
        await asyncio.sleep(0)
        assert not store.available  # it has no slots yet
        form(node)
        await eventually(lambda: store.available)
        await store.client.set("gw:x", "1")
    finally:
        await store.close()
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 2, said
    assert "can't be reached" in said[0]
    assert "is back" in said[1]
    assert "canary" not in caplog.text


async def test_data_of_a_newer_layout_is_refused_until_it_is_not(
    node: RedisProcess, caplog: pytest.LogCaptureFixture
):
    node.start()
    form(node)
    settings = StoreSettings(url=url_of(node), timeout=2)
    with node.client() as client:
        await eventually(lambda: "state:ok" in client.execute_command("CLUSTER", "INFO"))
        client.set("gw:version", "2")
        with pytest.raises(ConfigurationError, match="layout"):
            await Store.open(settings)
        client.set("gw:version", "1")
        store = await Store.open(settings)
        try:
            assert store.available
            client.set("gw:version", "2")
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await eventually(lambda: "layout" in caplog.text)
            assert not store.available
            with pytest.raises(StoreUnavailable):
                async with store.guard():
                    await store.client.get("gw:x")
            client.set("gw:version", "1")
            await eventually(lambda: store.available)
            assert await store.client.get("gw:x") is None
        finally:
            await store.close()
    assert caplog.text.count("layout") == 1

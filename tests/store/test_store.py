import asyncio
import logging
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.exceptions import ResponseError
from redis_process import RedisProcess, eventually, free_port

from gateway.errors import ConfigurationError, StoreUnavailable
from gateway.sections import StoreSettings
from gateway.store.redis import Store

ESTABLISHED, CLOSE_WAIT = "01", "08"  # in /proc/net/tcp


@asynccontextmanager
async def opened(url: str, timeout: float = 2.0):
    store = await Store.open(StoreSettings(url=url, timeout=timeout))
    try:
        yield store
    finally:
        await store.close()


def warnings_in(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


async def test_commands_and_scripts_work_alike_on_both_backends(store: Store):
    script = store.script("redis.call('HSET', KEYS[1], 'a', ARGV[1]); return {KEYS[1], ARGV[1]}")
    async with store.guard():
        assert await script(keys=[store.key("x", "y")], args=["1"]) == ["gw:x:y", "1"]
        assert await store.client.hgetall("gw:x:y") == {"a": "1"}
        await store.client.script_flush()
        assert await script(keys=["gw:x:y"], args=["2"]) == ["gw:x:y", "2"]
        assert await store.client.get("gw:version") == "1"
    assert store.available


async def test_hashes_are_read_in_one_round_trip_whatever_lies_there(store: Store):
    async with store.guard():
        await store.client.hset("gw:key:a", mapping={"x": "1"})
        await store.client.set("gw:key:b", "text")
    read = await store.read_hashes(["gw:key:a", "gw:key:b", "gw:key:c"])
    assert read == [{"x": "1"}, None, {}]


async def test_two_embedded_stores_have_nothing_in_common():
    async with opened("memory://") as one, opened("memory://") as other:
        await one.client.set("a", "1")
        assert await other.client.get("a") is None
        assert one.embedded


async def test_bytes_that_are_not_utf8_fail_no_call(real_store: Store):
    await real_store.client.hset("gw:user:1", "name", b"\xff")
    assert await real_store.read_hashes(["gw:user:1"]) == [{"name": "\ufffd"}]


@pytest.mark.parametrize(
    "error", [ResponseError("WRONGTYPE"), OSError("no route"), TimeoutError(), ConnectionError()]
)
async def test_whatever_goes_wrong_under_guard_is_the_store_being_unavailable(
    memory_store: Store, error: Exception
):
    with pytest.raises(StoreUnavailable):
        async with memory_store.guard():
            raise error
    assert memory_store.errors == 1


async def test_mistakes_of_ours_pass_the_guard_as_they_are(memory_store: Store):
    with pytest.raises(KeyError):
        async with memory_store.guard():
            raise KeyError
    assert memory_store.errors == 0


async def test_a_refused_command_is_logged_without_its_arguments(real_store: Store, caplog):
    with pytest.raises(StoreUnavailable):
        async with real_store.guard():
            await real_store.client.execute_command("NOSUCH", "canary")
    assert "unknown command" in caplog.text
    assert "canary" not in caplog.text


async def test_it_opens_without_redis_says_so_once_and_finds_it_later(tmp_path, caplog):
    attempts = 0

    def not_redis(_reader, writer):
        nonlocal attempts
        attempts += 1
        writer.close()

    server = RedisProcess(tmp_path)
    listener = await asyncio.start_server(not_redis, "127.0.0.1", server.port)
    async with opened(server.url) as store:
        assert not store.available
        with pytest.raises(StoreUnavailable):
            async with store.guard():
                await store.client.ping()
        await eventually(lambda: attempts > 3)
        listener.close()
        await listener.wait_closed()
        server._launch()
        try:
            await eventually(lambda: store.available)
            async with store.guard():
                assert await store.client.ping()
        finally:
            server.kill()
    messages = warnings_in(caplog)
    assert len(messages) == 2
    assert "can't be reached" in messages[0]
    assert "is back" in messages[1]


async def test_redis_restarted_is_used_again_by_itself(redis_process: RedisProcess, caplog):
    async with opened(redis_process.url) as store:
        for end in (redis_process.stop, redis_process.kill):
            async with store.guard():
                await store.client.set("a", "1")
            end()
            await eventually(lambda: not store.available)
            with pytest.raises(StoreUnavailable):
                async with store.guard():
                    await store.client.get("a")
            redis_process.start()
            await eventually(lambda: store.available)
            async with store.guard():
                assert await store.client.get("a") == "1"
    messages = warnings_in(caplog)
    assert ["can't be reached" not in message for message in messages] == [False, True, False, True]


async def test_no_connection_that_redis_closed_is_kept(redis_process: RedisProcess):
    async with opened(redis_process.url) as store:

        async def call() -> None:
            async with store.guard():
                await store.client.get("x")

        await asyncio.gather(*(call() for _ in range(8)))
        assert states_of_connections_to(redis_process.port).count(ESTABLISHED) > 2
        redis_process.stop()
        await eventually(lambda: not store.available)
        await eventually(lambda: CLOSE_WAIT not in states_of_connections_to(redis_process.port))
        redis_process.start()
        await eventually(lambda: store.available)
        await call()
        assert CLOSE_WAIT not in states_of_connections_to(redis_process.port)


def states_of_connections_to(port: int) -> list[str]:
    """As the kernel tells them, of all connections on this machine."""
    lines = map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
    return [fields[3] for fields in lines if fields[2].endswith(f":{port:04X}")]


async def test_a_hung_redis_holds_nobody_longer_than_the_timeout(redis_process: RedisProcess):
    async with opened(redis_process.url, timeout=0.05) as store:
        redis_process.pause()
        async with asyncio.timeout(5):
            with pytest.raises(StoreUnavailable):
                async with store.guard():
                    await store.client.get("a")
        await eventually(lambda: not store.available)
        redis_process.resume()
        await eventually(lambda: store.available)
        async with store.guard():
            assert await store.client.get("a") is None


async def test_more_calls_at_once_than_connections_wait_for_one_another(real_store: Store):
    async def call(number: int) -> str:
        async with real_store.guard():
            return await real_store.client.echo(str(number))

    numbers = range(200)
    assert await asyncio.gather(*map(call, numbers)) == [str(number) for number in numbers]


@pytest.mark.parametrize("version", ["2", "1000", "next", ""])
async def test_data_of_a_newer_layout_is_refused(redis_url: str, redis_server, version: str):
    with redis_server.client() as client:
        client.set("gw:version", version)
    with pytest.raises(ConfigurationError, match="layout"):
        await Store.open(StoreSettings(url=redis_url))


async def test_a_layout_that_becomes_newer_while_running_is_unavailable(
    redis_process: RedisProcess, caplog
):
    async with opened(redis_process.url) as store:
        with redis_process.client() as client:
            client.set("gw:version", "2")
        redis_process.stop()
        await eventually(lambda: not store.available)
        redis_process.start()
        await eventually(lambda: "layout" in caplog.text)
        assert not store.available
        with pytest.raises(StoreUnavailable):
            async with store.guard():
                await store.client.get("a")
        with redis_process.client() as client:
            client.set("gw:version", "1")
        await eventually(lambda: store.available)
        async with store.guard():
            await store.client.get("a")
    assert caplog.text.count("layout") == 1


async def test_what_it_cannot_connect_with_is_refused_without_repeating_secrets():
    url = "redis://user:canary@127.0.0.1:1/0?no_such_option=1"
    with pytest.raises(ConfigurationError) as refusal:
        await Store.open(StoreSettings(url=url))
    assert "canary" not in str(refusal.value)
    assert "store.url" in str(refusal.value)


async def test_no_password_is_logged(caplog):
    async with opened(f"redis://user:canary@127.0.0.1:{free_port()}/0?password=canary") as store:
        assert not store.available
    assert "can't be reached" in caplog.text
    assert "canary" not in caplog.text


async def test_a_unix_socket_is_as_good(tmp_path):
    server = RedisProcess(tmp_path)
    path = tmp_path / "redis.sock"
    server.options = ["--unixsocket", str(path)]
    server.start()
    try:
        async with opened(f"unix://{path}") as store:
            assert store.available
            assert await store.client.ping()
    finally:
        server.kill()


async def test_behind_sentinel_the_master_is_found_and_followed(tmp_path):
    servers = [RedisProcess(_folder(tmp_path, name)) for name in ("one", "two")]
    sentinel = RedisProcess(_folder(tmp_path, "sentinel"))
    one, two = servers
    try:
        for server in servers:
            server.start()
        with two.client() as client:
            client.replicaof("127.0.0.1", one.port)
        sentinel.as_sentinel_of("main", one)
        sentinel.start()
        with sentinel.client() as client:
            await eventually(lambda: len(client.sentinel_slaves("main")) == 1)
        url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/main/0"
        async with opened(url) as store:
            assert store.available
            await store.client.set("a", "1")
            with two.client() as client:
                await eventually(lambda: client.get("a") == "1")
            one.kill()
            await eventually(lambda: not store.available)
            await eventually(lambda: store.available)
            await store.client.set("a", "2")
            with two.client() as client:
                assert client.get("a") == "2"
    finally:
        for server in (*servers, sentinel):
            server.kill()


def _folder(path, name):
    folder = path / name
    folder.mkdir()
    return folder

"""A Redis by TLS, with certificates on both sides, in each topology: all of it by URL."""

import logging
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
from authority import Authority, Pair
from redis_process import RedisProcess, eventually, free_port

from gateway.errors import ConfigurationError
from gateway.sections import StoreSettings
from gateway.store.check import check
from gateway.store.redis import Store


@dataclass
class Secured:
    """Servers that take TLS, and who may call them."""

    folder: Path
    authority: Authority
    own: Pair  # what the gateway shows
    servers: list[RedisProcess]

    def start(
        self, *options: str, names: tuple[str, ...] = ("127.0.0.1",), sentinel_of: int = 0
    ) -> int:
        """One more; returns its port for TLS."""
        port, pair = free_port(), self.authority.issue(*names)
        folder = self.folder / str(port)
        folder.mkdir()
        server = RedisProcess(folder, durable=True)
        if sentinel_of:
            server.as_sentinel_of("main", SimpleNamespace(port=sentinel_of))
        server.options = ["--tls-port", str(port), "--tls-ca-cert-file", str(self.authority.path)]
        server.options += ["--tls-cert-file", str(pair.certificate), "--tls-key-file"]
        server.options += [str(pair.key), "--tls-replication", "yes", *options]
        self.servers.append(server)
        server.start()
        return port

    def query(self, **changed: str | None) -> str:
        """The options that a gateway needs; None leaves one out."""
        options = {
            "ssl_ca_certs": str(self.authority.path),
            "ssl_certfile": str(self.own.certificate),
            "ssl_keyfile": str(self.own.key),
            **changed,
        }
        return urlencode({name: value for name, value in options.items() if value is not None})


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    authority = Authority(tmp_path)
    made = Secured(tmp_path, authority, authority.issue("gateway"), [])
    yield made
    for server in made.servers:
        server.kill()


@asynccontextmanager
async def opened(url: str):
    store = await Store.open(StoreSettings(url=url, timeout=2))
    try:
        yield store
    finally:
        await store.close()


async def test_with_its_authority_and_an_own_certificate_it_is_used(secured: Secured):
    port = secured.start("--user", "gateway", "on", ">pass:word", "~gw:*", "&*", "+@all")
    url = f"rediss://gateway:pass%3Aword@127.0.0.1:{port}/0?{secured.query()}"
    async with opened(url) as store:
        assert store.available
        await store.client.set("gw:x", "1")
        assert await store.client.get("gw:x") == "1"
        assert await store.client.acl_whoami() == "gateway"
    found = await check(StoreSettings(url=url, timeout=2))
    assert {finding.level for finding in found} == {"ok"}, found


Change = Callable[[Secured], dict[str, str | None]]


@pytest.mark.parametrize(
    ("names", "change"),
    [
        (("127.0.0.1",), lambda _: {"ssl_certfile": None, "ssl_keyfile": None}),
        (("127.0.0.1",), lambda s: {"ssl_ca_certs": str(Authority(s.folder, "other").path)}),
        (("redis.example",), lambda _: {}),
    ],
    ids=["without a certificate", "with another authority", "under another name"],
)
async def test_who_is_not_trusted_is_not_asked(
    secured: Secured, caplog: pytest.LogCaptureFixture, names: tuple[str, ...], change: Change
):
    port = secured.start(names=names)
    url = f"rediss://:canary@127.0.0.1:{port}/0?{secured.query(**change(secured))}"
    async with opened(url) as store:
        assert not store.available
    found = await check(StoreSettings(url=url, timeout=2))
    assert ("connection", "error") in {(each.topic, each.level) for each in found}
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "can't be reached" in said[0]
    assert "canary" not in str((said, found))


async def test_another_name_can_be_allowed(secured: Secured):
    port = secured.start(names=("redis.example",))
    query = secured.query(ssl_check_hostname="false")
    async with opened(f"rediss://127.0.0.1:{port}/0?{query}") as store:
        assert store.available


@pytest.mark.parametrize("scheme", ["rediss", "rediss+cluster", "rediss+sentinel"])
@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile"])
async def test_files_that_cannot_be_used_are_a_mistake_in_the_settings(
    secured: Secured, scheme: str, option: str
):
    path = "/main" if scheme.endswith("sentinel") else ""
    query = secured.query(**{option: "/no/such/file"})
    url = f"{scheme}://:canary@127.0.0.1:1{path}?{query}"
    with pytest.raises(ConfigurationError, match=r"^store\.url: the files") as refusal:
        await Store.open(StoreSettings(url=url))
    assert "canary" not in str(refusal.value)


async def test_a_cluster_by_tls(secured: Secured):
    bus = str(free_port())
    options = ("--cluster-enabled", "yes", "--cluster-port", bus, "--tls-cluster", "yes")
    port = secured.start(*options)
    with secured.servers[0].client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    async with opened(f"rediss+cluster://127.0.0.1:{port}?{secured.query()}") as store:
        await eventually(lambda: store.available)
        await store.client.set("gw:x", "1")
        assert await store.client.get("gw:x") == "1"
        assert list(store.client.masters) == [("127.0.0.1", port)]


async def test_sentinels_by_tls(secured: Secured):
    port = secured.start()
    sentinel = secured.start(sentinel_of=port)
    url = f"rediss+sentinel://127.0.0.1:{sentinel}/main/0?{secured.query()}"
    async with opened(url) as store:
        await eventually(lambda: store.available)
        await store.client.set("gw:x", "1")
        assert await store.client.get("gw:x") == "1"

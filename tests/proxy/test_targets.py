"""Backends behind TLS and unix sockets, through a whole gateway: who is believed, and who isn't."""

import asyncio
import ssl
from pathlib import Path

import pytest
from authority import Authority, server_context
from backend import RawBackend
from harness import open_gateway, route, upstream

from gateway.proxy.target import Target
from gateway.upstreamspec import UpstreamTls, WeightedTarget

GET = b"GET /x HTTP/1.1\r\nHost: api.example\r\n\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


async def ask(folder: Path, backend: RawBackend, **fields) -> tuple[bytes, str | None]:
    """The status of a request through a gateway, and its reason in the log."""
    routes = {"upstreams": upstream(backend.url, **fields), "routes": [route()]}
    async with open_gateway(folder, routes) as gateway:
        answer = await gateway.talk(GET)
        async with asyncio.timeout(10):
            while not gateway.log():
                await asyncio.sleep(0.01)
        return answer.split()[1], gateway.log()[0].get("reason")


@pytest.fixture
async def serve():
    """Starts backends that end with the test."""
    started = []

    async def serve(**fields) -> RawBackend:
        started.append(await RawBackend(**fields).start())
        return started[-1]

    yield serve
    for backend in started:
        await backend.stop()


async def test_a_backend_with_a_good_certificate_of_its_own_authority_is_believed(
    authority, serve, tmp_path
) -> None:
    backend = await serve(tls=server_context(authority.issue("127.0.0.1")))
    assert await ask(tmp_path, backend, tls={"ca": str(authority.path)}) == (b"200", None)
    assert backend.last.one(b"Host") == f"127.0.0.1:{backend.port}".encode()


@pytest.mark.parametrize("kind", ["tls", "unix", "name"])
async def test_posts_too_go_over_one_kept_connection(authority, serve, tmp_path, kind) -> None:
    """Before a POST the system is asked whether an idle connection is alive: over any transport."""
    fields = {
        "tls": {"tls": server_context(authority.issue("127.0.0.1"))},
        "unix": {"path": str(tmp_path / "app.sock")},
        "name": {},
    }[kind]
    backend = await serve(**fields)
    url = backend.url.replace("127.0.0.1", "localhost") if kind == "name" else backend.url
    tls = {"tls": {"ca": str(authority.path)}} if kind == "tls" else {}
    routes = {"upstreams": upstream(url, **tls), "routes": [route()]}
    async with open_gateway(tmp_path, routes) as gateway:
        for _ in range(5):
            answer = await gateway.talk(GET.replace(b"GET", b"POST"))
            assert answer.split()[1] == b"200"
    assert len(backend.requests) == 5
    assert backend.connections <= 2  # one more where TLS tickets had not been read yet


@pytest.mark.parametrize(
    "flaw", ["other name", "expired", "unknown authority", "system authorities"]
)
async def test_a_backend_that_can_not_prove_who_it_is_gets_nothing(
    authority, stranger, serve, tmp_path, flaw
) -> None:
    pair = {
        "other name": lambda: authority.issue("other.example"),
        "expired": lambda: authority.issue("127.0.0.1", expired=True),
        "unknown authority": lambda: stranger.issue("127.0.0.1"),
        "system authorities": lambda: authority.issue("127.0.0.1"),
    }[flaw]()
    backend = await serve(tls=server_context(pair))
    tls = {} if flaw == "system authorities" else {"tls": {"ca": str(authority.path)}}
    assert await ask(tmp_path, backend, **tls) == (b"502", "upstream_tls_failed")
    assert not backend.requests


async def test_verify_false_believes_whoever_answers(stranger, serve, tmp_path) -> None:
    backend = await serve(tls=server_context(stranger.issue("other.example")))
    assert (await ask(tmp_path, backend, tls={"verify": False}))[0] == b"200"


async def test_server_name_is_asked_for_and_looked_for(authority, serve, tmp_path) -> None:
    context = server_context(authority.issue("strategy.internal"))
    asked = []
    context.sni_callback = lambda _connection, name, _context: asked.append(name)
    backend = await serve(tls=context)
    tls = {"ca": str(authority.path), "server_name": "strategy.internal"}
    assert (await ask(tmp_path, backend, tls=tls))[0] == b"200"
    assert asked == ["strategy.internal"]


@pytest.mark.parametrize("whose", ["authority", "stranger", None])
async def test_a_backend_that_asks_for_a_certificate_gets_the_gateways(
    authority, stranger, serve, tmp_path, whose
) -> None:
    backend = await serve(tls=server_context(authority.issue("127.0.0.1"), clients=authority.path))
    tls = {"ca": str(authority.path)}
    if whose is not None:
        pair = (authority if whose == "authority" else stranger).issue("gateway.internal")
        tls |= {"certificate": str(pair.certificate), "key": str(pair.key)}
    status, _ = await ask(tmp_path, backend, tls=tls)
    assert status == (b"200" if whose == "authority" else b"502")
    assert len(backend.requests) == (whose == "authority")


async def test_no_older_tls_than_1_2_is_spoken(authority, serve, tmp_path) -> None:
    context = server_context(authority.issue("127.0.0.1"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    backend = await serve(tls=context)
    tls = {"ca": str(authority.path)}
    assert (await ask(tmp_path, backend, tls=tls))[0] == b"502"
    assert not backend.requests


async def test_a_backend_on_a_unix_socket_is_localhost_to_itself(serve, tmp_path) -> None:
    backend = await serve(path=str(tmp_path / "app.sock"))
    assert await ask(tmp_path, backend) == (b"200", None)
    assert backend.last.one(b"Host") == b"localhost"


async def test_a_backend_on_a_unix_socket_may_see_the_clients_host(serve, tmp_path) -> None:
    backend = await serve(path=str(tmp_path / "app.sock"))
    assert (await ask(tmp_path, backend, host="preserve"))[0] == b"200"
    assert backend.last.one(b"Host") == b"api.example"


async def test_a_unix_socket_that_is_not_there_is_502(tmp_path) -> None:
    backend = RawBackend(path=str(tmp_path / "none.sock"))
    assert await ask(tmp_path, backend) == (b"502", "upstream_refused")


@pytest.mark.parametrize(
    ("url", "authority", "place", "port"),
    [
        ("http://10.0.0.5:9001", "10.0.0.5:9001", "10.0.0.5", 9001),
        ("http://10.0.0.5", "10.0.0.5", "10.0.0.5", 80),
        ("https://[2001:DB8::1]", "[2001:DB8::1]", "2001:db8::1", 443),
        ("http://backend:81", "backend:81", None, 81),
        ("unix:///run/app.sock", "localhost", "/run/app.sock", 80),
    ],
)
def test_a_target_knows_its_host_and_its_place(url, authority, place, port) -> None:
    target = Target(WeightedTarget(url=url), UpstreamTls())
    assert (target.authority, target.place, target.port) == (authority, place, port)

"""TLS towards clients: whose certificate they get, what is refused, and a change while serving."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import certificate_files
import pytest
from backend import RawBackend
from cryptography import x509
from cryptography.x509.oid import NameOID
from harness import Running, open_gateway, read_answer, route, upstream
from redis_process import eventually

from gateway.errors import ConfigurationError
from gateway.settings import load_settings
from gateway.tls import ServerTls, server_tls

GET = b"GET /x HTTP/1.1\r\nHost: api.example\r\n\r\n"


def client_context(**options: Any) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for name, value in options.items():
        setattr(context, name, value)
    return context


async def connect(
    gateway: Running, host: str | None = None, context: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(
        "127.0.0.1",
        gateway.port,
        ssl=context or client_context(),
        server_hostname=host or "",
    )


def name_of(writer: asyncio.StreamWriter) -> str:
    """Whose certificate this connection got."""
    raw = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    subject = x509.load_der_x509_certificate(raw).subject
    return str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def one_route(backend: RawBackend) -> dict[str, Any]:
    return {"upstreams": upstream(backend.url), "routes": [route()]}


def tls_of(folder: Path, tls: dict[str, Any]) -> ServerTls:
    path = folder / "tls.yaml"
    path.write_text(str({"listen": {"tls": tls}}))
    return ServerTls(load_settings(path, {}))


async def test_a_client_gets_the_certificate_that_names_the_host_it_asks_for(
    backend: RawBackend, tmp_path: Path
) -> None:
    tls = {
        "certificates": [
            certificate_files.write(tmp_path, "first", "www.example"),
            certificate_files.write(tmp_path, "wild", "*.api.example", "API.example"),
            certificate_files.write(tmp_path, "exact", "a.api.example"),
            certificate_files.write(tmp_path, "nameless"),
        ]
    }
    async with open_gateway(tmp_path, one_route(backend), {"listen": {"tls": tls}}) as gateway:
        for host, expected in (
            (None, "first"),
            ("unknown.example", "first"),
            ("www.example", "first"),
            ("WWW.Example", "first"),
            ("api.example", "wild"),
            ("b.api.example", "wild"),
            ("a.api.example", "exact"),
            ("c.b.api.example", "first"),
        ):
            reader, writer = await connect(gateway, host)
            assert name_of(writer) == expected, host
            writer.write(GET)
            assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
            assert backend.last.one(b"X-Forwarded-Proto") == b"https"
            writer.transport.abort()


async def test_a_request_for_another_host_than_in_tls_is_served_as_any(
    backend: RawBackend, tmp_path: Path
) -> None:
    tls = {
        "certificates": [
            certificate_files.write(tmp_path, name, f"{name}.example") for name in ("a", "b")
        ]
    }
    routes = [route(host="b.example", name="b"), route("/only-a", host="a.example", name="a")]
    files = {"upstreams": upstream(backend.url), "routes": routes}
    async with open_gateway(tmp_path, files, {"listen": {"tls": tls}}) as gateway:
        reader, writer = await connect(gateway, "a.example")
        writer.write(GET.replace(b"api.example", b"b.example"))
        assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
        writer.transport.abort()


async def test_the_form_for_one_certificate_is_its_own_default(
    backend: RawBackend, tmp_path: Path
) -> None:
    tls = certificate_files.write(tmp_path, "one", "one.example")
    more = certificate_files.write(tmp_path, "two", "two.example")
    settings = {"listen": {"tls": {**tls, "certificates": [more]}}}
    async with open_gateway(tmp_path, one_route(backend), settings) as gateway:
        for host, expected in ((None, "one"), ("two.example", "two")):
            _, writer = await connect(gateway, host)
            assert name_of(writer) == expected
            writer.transport.abort()


async def test_tls_is_1_2_or_newer_and_speaks_http_1_1(backend: RawBackend, tmp_path: Path) -> None:
    settings = {"listen": {"tls": certificate_files.write(tmp_path, "one")}}
    async with open_gateway(tmp_path, one_route(backend), settings) as gateway:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = client_context(minimum_version=version, maximum_version=version)
            context.set_alpn_protocols(["h2", "http/1.1"])
            _, writer = await connect(gateway, context=context)
            assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
            writer.transport.abort()
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old = client_context(maximum_version=ssl.TLSVersion.TLSv1_1)
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await connect(gateway, context=old)


async def test_who_does_not_speak_tls_is_counted_and_holds_nothing(
    backend: RawBackend, tmp_path: Path
) -> None:
    settings = {
        "listen": {"tls": certificate_files.write(tmp_path, "one")},
        "bounds": {"head_timeout": 0.3},
    }
    async with open_gateway(tmp_path, one_route(backend), settings) as gateway:
        for sent in (GET, b"", b"\x16\x03\x01"):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(sent)
            async with asyncio.timeout(10):
                assert b"HTTP" not in await reader.read()
            writer.transport.abort()
        await eventually(lambda: not gateway.listener.entering)
        assert gateway.listener.census.total == 0
        counted = gateway.parts.metrics.render()[0].decode()
        assert 'reason="tls_handshake_failed"} 3.0' in counted
    assert backend.requests == []


async def test_certificates_change_without_a_restart_and_connections_live_on(
    backend: RawBackend, tmp_path: Path
) -> None:
    files = certificate_files.write(tmp_path, "old", "api.example")
    async with open_gateway(tmp_path, one_route(backend), {"listen": {"tls": files}}) as gateway:
        reader, writer = await connect(gateway, "api.example")
        fresh = certificate_files.write(tmp_path, "new", "api.example")
        for field in ("certificate", "key"):
            Path(fresh[field]).replace(files[field])
        parts = gateway.parts
        tls = server_tls(parts.settings)
        gateway.listener.use(gateway.gateway, parts.settings.bounds, parts.addresses, tls)
        for host in ("api.example", None):
            _, other = await connect(gateway, host)
            assert name_of(other) == "new"
            other.transport.abort()
        writer.write(GET)
        assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
        writer.transport.abort()


@pytest.mark.parametrize("broken", ["missing", "not a certificate", "another's key", "half"])
def test_files_that_can_not_be_used_say_why(tmp_path: Path, broken: str) -> None:
    good = certificate_files.write(tmp_path, "good", "good.example")
    other = certificate_files.write(tmp_path, "other", "other.example")
    both = {"certificates": [good, other]}
    tls_of(tmp_path, both)
    path = Path(other["certificate"])
    match broken:
        case "missing":
            path.unlink()
        case "not a certificate":
            path.write_text("no PEM")
        case "another's key":
            Path(other["key"]).write_bytes(Path(good["key"]).read_bytes())
        case "half":
            path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ConfigurationError) as raised:
        tls_of(tmp_path, both)
    (complaint,) = raised.value.complaints
    assert complaint.startswith(f"{tmp_path}/tls.yaml:1:")
    assert f"cannot use certificate {path} with key {other['key']}: " in complaint


def test_a_sealed_key_is_an_error_and_no_question(tmp_path: Path) -> None:
    sealed = certificate_files.write(tmp_path, "sealed", password=b"secret")
    with pytest.raises(ConfigurationError):
        tls_of(tmp_path, sealed)

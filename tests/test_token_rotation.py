"""`gateway tokens rotate` on real processes: two gateways of two workers, one file, one Redis."""

import asyncio
import json
import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
from backend import RawBackend, Received, backend_in_thread
from gateway_process import TOKEN_SECRET, GatewayProcess
from harness import read_answer, route, upstream
from stand_ins import GoogleStandIn

ADMIN_TOKEN = "an-admin-token-of-more-than-32-bytes"
AHEAD_SECONDS = 8  # both gateways have the file by then, on a slow machine too
CLIENTS = 4
REQUESTS = 30  # with the tokens of one client, between two sign-ins


@pytest.fixture
def backend() -> Iterator[RawBackend]:
    with backend_in_thread() as running:
        yield running


@dataclass
class Seen:
    """What clients were told, and which secrets signed their tokens, by gateway."""

    statuses: set[tuple[str, int]] = field(default_factory=set)
    signed_by: list[list[str]] = field(default_factory=lambda: [[], []])
    requests: int = 0


async def ask(port: int, *lines: str, body: bytes = b"") -> tuple[int, bytes]:
    """Status and body of one request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with closing(writer):
        writer.write("\r\n".join((*lines, "Host: t", "", "")).encode() + body)
        head, _, answered = (await read_answer(reader)).partition(b"\r\n\r\n")
        return int(head.split()[1]), answered


async def sign_in(port: int, google: GoogleStandIn) -> tuple[int, str]:
    """Status and app token."""
    body = json.dumps({"id_token": google.token()}).encode()
    status, answered = await ask(
        port,
        "POST /auth/mobile/google HTTP/1.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        body=body,
    )
    return status, json.loads(answered)["access_token"]


async def client(ports: list[int], google: GoogleStandIn, seen: Seen) -> None:
    """Signs in, now here and now there, and uses all its tokens on either gateway."""
    tokens: list[str] = []
    while True:
        at = random.randrange(2)
        status, token = await sign_in(ports[at], google)
        seen.statuses.add(("sign-in", status))
        tokens.append(token)
        seen.signed_by[at].append(jwt.get_unverified_header(tokens[-1])["kid"])
        for _ in range(REQUESTS):
            credential = f"Authorization: Bearer {random.choice(tokens)}"
            status, _ = await ask(random.choice(ports), "GET /me HTTP/1.1", credential)
            seen.statuses.add(("request", status))
            seen.requests += 1
            await asyncio.sleep(0.01)


async def command(gateway: GatewayProcess, *words: str) -> Any:
    """What it prints; the gateway's own admin port is where it reloads."""
    port = {"GATEWAY_ADMIN__PORT": str(gateway.admin_port)}
    done = await asyncio.to_thread(gateway.command, *words, "--output", "json", environ=port)
    assert (done.returncode, done.stderr) == (0, ""), done
    return json.loads(done.stdout)


def gateway_on(
    folder: Path, backend: RawBackend, redis_url: str, google: GoogleStandIn, file: Path
) -> GatewayProcess:
    return GatewayProcess(
        folder,
        routes={
            "version": 1,
            "upstreams": upstream(backend.url),
            "routes": [route("/me", "app_token", name="me")],
        },
        config={
            "listen": {"workers": 2},
            "admin": {"token": ADMIN_TOKEN},
            "store": {"url": redis_url, "timeout": 2},
            "rate_limit": {"enabled": False},
            "sign_in": {"requests": 1_000_000},
            "google": {"audiences": [google.audience], "certificates_url": google.url},
            "app_tokens": {"secrets_file": str(file)},
        },
    )


async def test_nobody_is_signed_out_by_a_rotation(
    redis_url: str, backend: RawBackend, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.json"
    file.touch(0o600)
    async with GoogleStandIn() as google, asyncio.timeout(90):
        gateways = [
            gateway_on(tmp_path / name, backend, redis_url, google, file) for name in ("one", "two")
        ]
        with gateways[0], gateways[1]:
            await asyncio.gather(*(asyncio.to_thread(each.start, 2) for each in gateways))
            ports = [gateway.port for gateway in gateways]
            seen = Seen()
            async with asyncio.TaskGroup() as group:
                clients = [group.create_task(client(ports, google, seen)) for _ in range(CLIENTS)]
                await until_signed(seen, "k1")
                rotated = await command(
                    gateways[0], "tokens", "rotate", "--ahead", f"{AHEAD_SECONDS}s"
                )
                await command(gateways[1], "reload")
                await until_signed(seen, rotated["id"])
                enough = seen.requests + 10 * REQUESTS
                while seen.requests < enough:
                    await asyncio.sleep(0.05)
                for each in clients:
                    each.cancel()
            for gateway in gateways:
                shown = await command(gateway, "tokens", "show", "--running")
                assert [(row["id"], row["state"]) for row in shown] == [
                    ("k1", "verifies"),
                    (rotated["id"], "signs"),
                ]
                assert "error" not in gateway.stderr()
            secret = json.loads(file.read_text())["secrets"][0]["secret"]
            written = "".join(gateway.stderr() + gateway.stdout() for gateway in gateways)
            assert secret not in written
            assert TOKEN_SECRET not in written
    assert rotated["reloaded"] is True
    assert rotated["replaces"] == {"id": "k1", "retires_at": None}
    assert seen.statuses == {("sign-in", 200), ("request", 200)}
    assert [set(ids) for ids in seen.signed_by] == [{"k1", rotated["id"]}] * 2


async def until_signed(seen: Seen, key_id: str) -> None:
    """Both gateways have signed with this secret."""
    while not all(key_id in signed_by for signed_by in seen.signed_by):
        await asyncio.sleep(0.05)


async def stream(
    _backend: RawBackend, _received: Received, _: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b"tick\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def test_a_leaked_secret_is_replaced_and_what_its_tokens_have_opened_ends(
    redis_url: str, backend: RawBackend, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.json"
    async with GoogleStandIn() as google, asyncio.timeout(60):
        gateway = gateway_on(tmp_path / "gateway", backend, redis_url, google, file)
        gateway.environ.pop("GATEWAY_TOKEN_SECRET")
        leaked = await command(gateway, "tokens", "rotate", "--no-reload")
        assert leaked["replaces"] is None
        with gateway:
            await asyncio.to_thread(gateway.start, 2)
            _, token = await sign_in(gateway.port, google)
            credential = f"Authorization: Bearer {token}"
            assert (await ask(gateway.port, "GET /me HTTP/1.1", credential))[0] == 200
            backend.script = stream
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            with closing(writer):
                writer.write(f"GET /me HTTP/1.1\r\nHost: t\r\n{credential}\r\n\r\n".encode())
                await reader.readuntil(b"tick\n")
                words = ("tokens", "rotate", "--ahead", "0s", "--overlap", "0s")
                told = await command(gateway, *words)
                assert (told["reloaded"], told["replaces"]["id"]) == (True, leaked["id"])
                assert (await ask(gateway.port, "GET /me HTTP/1.1", credential))[0] == 401
                await reader.read()  # to its end, long before that of the answer
            backend.script = None
            _, token = await sign_in(gateway.port, google)
            assert jwt.get_unverified_header(token)["kid"] == told["id"]
            credential = f"Authorization: Bearer {token}"
            assert (await ask(gateway.port, "GET /me HTTP/1.1", credential))[0] == 200

"""Open sockets of a real `gateway serve`: its signals, its commands, its descriptors."""

import asyncio
import http.client
import resource
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from gateway_process import GatewayProcess, until
from harness import route, upstream

DESCRIPTORS = 64  # too few for what is asked of them
LIMITED = (
    "import resource, runpy\n"
    f"resource.setrlimit(resource.RLIMIT_NOFILE, ({DESCRIPTORS}, {DESCRIPTORS}))\n"
    "runpy.run_module('gateway', run_name='__main__')"
)
LOWERED = (
    "import resource, runpy\n"
    "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
    f"resource.setrlimit(resource.RLIMIT_NOFILE, ({DESCRIPTORS}, hard))\n"
    "runpy.run_module('gateway', run_name='__main__')"
)


@pytest.fixture
async def backend_url() -> AsyncIterator[str]:
    async def echo(request: web.BaseRequest) -> web.StreamResponse:
        opened = web.WebSocketResponse()
        await opened.prepare(request)
        async for message in opened:
            await opened.send_str(message.data)
        return opened

    runner = web.ServerRunner(web.Server(echo))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def routes(url: str) -> dict[str, Any]:
    keyed = route("/keyed", "plan_key", name="keyed", plan="standard", websocket=True)
    table = [route("/ws", name="ws", websocket=True), keyed]
    return {"version": 1, "upstreams": upstream(url), "routes": table}


async def test_sigterm_tells_every_socket_that_the_gateway_goes_away(
    backend_url: str, tmp_path: Path
) -> None:
    with GatewayProcess(tmp_path, routes=routes(backend_url)) as gateway:
        await asyncio.to_thread(gateway.start)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(gateway.url + "/ws") as one,
            session.ws_connect(gateway.url + "/ws") as two,
        ):
            await one.send_str("hello")
            assert await one.receive_str(timeout=20) == "hello"
            gateway.terminate()
            for opened in (one, two):
                message = await opened.receive(timeout=20)
                assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
        assert await asyncio.to_thread(gateway.wait) == 0
        assert [line["end"] for line in gateway.access_log()] == ["draining", "draining"]


async def test_keys_revoke_ends_the_sockets_of_the_key(
    backend_url: str, redis_url: str, tmp_path: Path
) -> None:
    environ = {"GATEWAY_STORE__URL": redis_url}
    with GatewayProcess(tmp_path, routes=routes(backend_url), environ=environ) as gateway:
        await asyncio.to_thread(gateway.start)

        async def run(*words: str) -> Any:
            return await asyncio.to_thread(gateway.result, *words)

        await run("plans", "set", "--user", "42", "--plan", "standard")
        key = await run("keys", "issue", "--user", "42", "--name", "ci")
        headers = {"X-Primit-API-Key": key["key"]}
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(gateway.url + "/keyed", headers=headers) as opened,
            session.ws_connect(gateway.url + "/ws", headers=headers) as public,
        ):
            await run("keys", "revoke", key["id"])
            message = await opened.receive(timeout=20)
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1008)
            await public.send_str("hello")
            assert await public.receive_str(timeout=20) == "hello"

        def counted() -> bool:
            return gateway.metric("gateway_sockets_ended_total", reason="revoked") == 1

        await asyncio.to_thread(until, counted, "the end was counted")


def test_the_soft_limit_of_descriptors_is_raised(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1] % (1 << 63)  # -1: none
    routes_ = routes("http://127.0.0.1:9")
    with GatewayProcess(tmp_path, routes=routes_, program=("-c", LOWERED)) as gateway:
        gateway.start()
        (pid,) = gateway.workers().values()
        limits = Path(f"/proc/{pid}/limits")
        if not limits.exists():
            pytest.skip("this system has no /proc")
        (line,) = [line for line in limits.read_text().splitlines() if "open files" in line]
        assert int(line.split()[3]) == min(hard, 1 << 20) > DESCRIPTORS


def test_a_gateway_without_descriptors_goes_on_when_it_has_some_again(tmp_path: Path) -> None:
    routes_ = routes("http://127.0.0.1:9")
    with GatewayProcess(tmp_path, routes=routes_, program=("-c", LIMITED)) as gateway:
        gateway.start()
        address = ("127.0.0.1", gateway.port)
        connections = [socket.create_connection(address) for _ in range(2 * DESCRIPTORS)]
        before = gateway.workers()
        for connection in connections:
            connection.close()

        def answers() -> bool:
            client = http.client.HTTPConnection(*address, timeout=5)
            try:
                client.request("GET", "/health")
                return client.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                return False
            finally:
                client.close()

        until(answers, "it takes connections again")
        assert gateway.workers() == before

"""A new configuration in a running gateway: real processes, real files, under load."""

import asyncio
import http.client
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
import redis
from backend import RawBackend, Received, backend_in_thread
from gateway_process import GatewayProcess, is_alive, until
from harness import route
from reloads import TOKEN, Files, reload, running, status, statuses

from gateway.parts import RELOAD
from gateway.settings import Settings

ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def backend() -> Iterator[RawBackend]:
    with backend_in_thread() as running:
        yield running


@pytest.fixture
def files(tmp_path: Path, backend: RawBackend, redis_url: str) -> Files:
    return Files(tmp_path, backend, redis_url)


class Load:
    """Clients that ask without a pause, on connections that they keep, and tell what failed."""

    def __init__(self, gateway: GatewayProcess, path: str = "/always", clients: int = 8) -> None:
        self._url = gateway.url + path
        self._clients = clients
        self._end = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.answered = 0
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: self.answered > self._clients, "the load is on")
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(self._ask(session) for _ in range(self._clients)))

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        while not self._end.is_set():
            try:
                # A POST: aiohttp's client would send a GET again by itself.
                async with session.post(self._url, data=b"x") as answer:
                    if answer.status != 200 or await answer.read() != b"ok":
                        self.failures.append(f"status {answer.status}")
                self.answered += 1
            except aiohttp.ClientError as error:
                self.failures.append(repr(error))


def test_a_good_table_is_used_by_every_worker_and_a_bad_one_changes_nothing(files: Files) -> None:
    with running(files) as gateway:
        assert statuses(gateway, "/new") == {404}
        files.routes[1] = route("/new", name="new")
        files.write()
        assert reload(gateway) == (0, "", {"pending": [], "workers": 2})
        assert statuses(gateway, "/new") == {200}
        assert statuses(gateway, "/old") == {404}
        assert gateway.metric("gateway_config_last_reload_successful") == 1

        files.routes = []
        files.write(broken=True)
        files.routes = [route("/always", name="always")]
        files.write(broken=True)
        code, said, _ = reload(gateway)
        assert code == 1
        told = json.loads(said)
        assert any("routes.yaml:1:" in line and "aut" in line for line in told["complaints"])
        assert statuses(gateway, "/new") == {200}
        until(lambda: gateway.metric("gateway_config_last_reload_successful") == 0, "it is told")
        assert "unknown field 'aut'" in gateway.stderr()

        files.write()
        assert reload(gateway)[0] == 0
        assert statuses(gateway, "/new") == {404}
        assert gateway.metric("gateway_config_last_reload_successful") == 1


def test_sighup_reloads(files: Files) -> None:
    with running(files) as gateway:
        files.routes.append(route("/new", name="new"))
        files.write()
        gateway.process.send_signal(signal.SIGHUP)
        until(lambda: statuses(gateway, "/new") == {200}, "the new route is there")


def test_a_changed_file_is_seen_where_that_is_wanted(files: Files) -> None:
    files.settings["reload"]["watch"] = True
    with running(files) as gateway:
        files.routes.append(route("/new", name="new"))
        files.write()
        until(lambda: statuses(gateway, "/new") == {200}, "the new route is there")


def test_a_rotated_secret_is_seen_where_that_is_wanted(files: Files) -> None:
    files.settings["reload"]["watch"] = True
    files.settings["app_tokens"] = {"secrets_file": str(files.folder / "tokens.json")}
    (files.folder / "tokens.json").touch(0o600)
    with running(files) as gateway:
        rotated = gateway.result("tokens", "rotate", "--no-reload")
        port = {"GATEWAY_ADMIN__PORT": str(gateway.admin_port)}
        words = ("tokens", "show", "--running", "--output", "json")

        def known() -> bool:
            shown = json.loads(gateway.command(*words, environ=port).stdout)
            return [row["id"] for row in shown] == ["k1", rotated["id"]]

        until(known, "the gateway knows the new secret")


def test_settings_that_cannot_change_live_are_named_and_stay(files: Files) -> None:
    with running(files) as gateway:
        files.settings["logging"] = {"level": "debug"}
        files.settings["listen"]["host"] = "127.0.0.1"
        files.settings["plans"] = ["standard"]
        files.write()
        code, _, result = reload(gateway)
        assert (code, result["pending"]) == (
            0,
            [
                "listen.host takes a restart",
                "logging.level takes gateway reload --workers",
            ],
        )
        assert "listen.host takes a restart" in gateway.stderr()
        assert reload(gateway, "--workers")[2]["pending"] == ["listen.host takes a restart"]


def test_a_hundred_reloads_under_load_fail_no_request_and_drop_no_socket(
    files: Files, backend: RawBackend
) -> None:
    files.routes.append(route("/ws", name="ws", websocket=True))

    async def echo(
        _b: RawBackend,
        received: Received,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if not received.line.startswith(b"GET /ws "):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            return
        writer.write(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        while piece := await reader.read(100):
            writer.write(piece)

    backend.script = echo
    with running(files) as gateway:
        socket = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
        socket.putrequest("GET", "/ws")
        for name, value in (("Connection", "Upgrade"), ("Upgrade", "websocket")):
            socket.putheader(name, value)
        socket.putheader("Sec-WebSocket-Key", "a2V5a2V5a2V5a2V5a2V5a2U=")
        socket.putheader("Sec-WebSocket-Version", "13")
        socket.endheaders()
        sock = socket.sock
        assert sock.recv(4096).startswith(b"HTTP/1.1 101 ")
        done = {"problems": [], "pending": [], "workers": 2}
        with Load(gateway) as load, closing(admin(gateway)) as connection:
            for number in range(100):
                files.routes[1] = route(f"/old-{number}", name=f"old-{number % 7}")
                files.write()
                assert ask_reload(connection) == (200, done)
                sock.sendall(b"\x81\x85\0\0\0\0hello")
                assert sock.recv(100) == b"\x81\x85\0\0\0\0hello"
            assert load.answered > 100
        socket.close()
        assert load.failures == []
        assert statuses(gateway, "/old-99") == {200}
        assert statuses(gateway, "/old-98") == {404}


def admin(gateway: GatewayProcess) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", gateway.admin_port, timeout=60)


def ask_reload(connection: http.client.HTTPConnection) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    connection.request("POST", "/api/reload", "{}", headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_what_is_under_way_on_a_removed_route_is_ended_and_on_another_goes_on(
    files: Files, backend: RawBackend
) -> None:
    async def drip(_b: Any, _q: Any, _r: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(ENDLESS)
        while not writer.is_closing():
            writer.write(b"1\r\n.\r\n")
            await asyncio.sleep(0.02)

    backend.script = drip
    with running(files) as gateway:
        streams = {}
        for path in ("/always", "/old"):
            connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
            connection.request("GET", path)
            streams[path] = connection.getresponse()
            assert streams[path].read(1) == b"."
        del files.routes[1]
        files.write()
        assert reload(gateway)[0] == 0
        assert status(gateway, "/old") == 404
        assert streams["/old"].read(1) == b"."  # it has a second left
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            streams["/old"].read()
        assert streams["/always"].read(10) == b"." * 10
        for stream in streams.values():
            stream.close()


def test_new_workers_under_load_fail_no_request(files: Files) -> None:
    with running(files) as gateway:
        before = set(gateway.workers().values())
        files.settings["logging"] = {"level": "debug"}
        files.write()
        with Load(gateway) as load:
            for _ in range(3):
                assert reload(gateway, "--workers") == (0, "", {"pending": [], "workers": 2})
            answered = load.answered
            until(lambda: load.answered > answered + 100, "it goes on")
        assert load.failures == []
        until(lambda: not any(map(is_alive, before)), "the first workers are gone")
        after = set(gateway.workers().values())
        assert len(after) == 2
        assert not after & before
        labels = {"route": "always", "status": "2xx"}
        until(
            lambda: gateway.metric("gateway_requests_total", **labels) == load.answered,
            "every request was counted, whoever served it",
        )
        assert gateway.stderr().count('"level": "error"') == 0


def test_new_workers_that_do_not_start_leave_the_old_ones_in_place(
    files: Files, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("later:version", "99")
    with running(files) as gateway:
        before = gateway.workers()
        files.settings["store"]["prefix"] = "later"
        files.write()
        code, said, _ = reload(gateway, "--workers")
        assert code == 1
        assert "ended before it was ready" in said
        assert statuses(gateway, "/always") == {200}
        assert gateway.workers() == before
        assert all(map(is_alive, before.values()))


def test_the_embedded_store_does_not_change_hands(files: Files) -> None:
    files.settings |= {"store": {"url": "memory://"}, "listen": {"workers": 1}}
    with running(files) as gateway:
        code, said, _ = reload(gateway, "--workers")
        assert code == 1
        assert "memory://" in said
        files.routes.append(route("/new", name="new"))
        files.write()
        assert reload(gateway)[0] == 0
        assert status(gateway, "/new") == 200


def test_without_a_token_the_command_is_refused_and_says_what_to_do(files: Files) -> None:
    del files.settings["admin"]
    with running(files) as gateway:
        code, said, _ = reload(gateway)
        assert code == 1
        assert "admin.token" in said


def test_a_worker_that_hangs_is_replaced(files: Files) -> None:
    files.settings["listen"]["worker_timeout"] = 1
    with running(files) as gateway:
        hanging = gateway.workers()[0]
        os.kill(hanging, signal.SIGSTOP)
        until(lambda: gateway.workers()[0] != hanging, "another has come")
        assert not is_alive(hanging)
        assert statuses(gateway, "/always") == {200}
        assert "said nothing for 1 s" in gateway.stderr()


def test_it_ends_in_the_midst_of_a_reload(files: Files) -> None:
    with running(files) as gateway, Load(gateway, clients=2):
        for _ in range(3):
            gateway.process.send_signal(signal.SIGHUP)
        gateway.terminate()
        assert gateway.wait() == 0
        until(lambda: not any(map(is_alive, gateway.workers().values())), "no worker is left")


def test_every_section_of_the_settings_says_what_it_takes_to_change() -> None:
    assert RELOAD.keys() == Settings.model_fields.keys()

"""A `gateway serve` and a faulty backend, shared by the tests of one file; each test is told by
the request ids that it chose.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from backend_process import BackendProcess, say
from gateway_process import DEADLINE_SECONDS, GatewayProcess, until
from harness import route, upstream
from raw_client import RawClient, Seen

READ_TIMEOUT_SECONDS = 1
NO_LIMIT = {"rate_limit": {"enabled": False}}


@dataclass
class Stage:
    """A gateway before a backend."""

    gateway: GatewayProcess
    backend: BackendProcess
    _numbers: Iterator[int] = field(default_factory=count)

    def new_name(self) -> str:
        return f"request-{next(self._numbers)}"

    def client(self, **options: Any) -> RawClient:
        return RawClient(self.gateway.port, **options)

    def target(self, *steps: str, patient: bool = False) -> str:
        """A path of its own, with what the backend is to do."""
        path = f"{'/patient' if patient else ''}/{self.new_name()}"
        return f"{path}?{'&'.join(steps)}" if steps else path

    def ask(self, target: str, **options: Any) -> tuple[str, Seen]:
        """One request on a connection of its own: its name, and the answer."""
        name = self.new_name()
        with self.client() as client:
            client.request(target, name=name, **options)
            return name, client.answer()

    def logged(self, name: str) -> tuple[int, str | None, str | None]:
        """Status, reason and fault in the one log line of a request."""

        def lines() -> list[dict[str, Any]]:
            return [line for line in self.gateway.access_log() if line["request_id"] == name]

        (line,) = until(lines, f"{name} is logged")
        return line["status"], line["reason"], line["fault"]

    def refusals(self, reason: str) -> float:
        return self.gateway.metric("gateway_refusals_total", pattern="public", reason=reason)

    def is_well(self) -> bool:
        """Does a plain request come through? The backend keeps no connection after it, so that
        nothing of the next test is tried a second time.
        """
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
        _, seen = self.ask(self.target("body", say(whole), "fin"))
        return seen.status == 200 and seen.body == b"ok"

    def keep_one_alive(self) -> None:
        """Leave an idle connection to the backend in the gateway."""
        _, seen = self.ask(self.target())
        assert seen.body == b"ok"

    def is_quiet(self) -> bool:
        """Is no connection of a client and no busy one to a backend left?"""
        return not (
            self.gateway.metric("gateway_connections")
            or self.gateway.metric("gateway_upstream_connections", state="active")
        )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("faults")
    backend = BackendProcess(folder / "backend.log")
    backend.start()
    timeout = {"connect": READ_TIMEOUT_SECONDS, "read": READ_TIMEOUT_SECONDS}
    routes = {
        "version": 1,
        "upstreams": upstream(backend.url, timeout=timeout),
        "routes": [
            route(),
            # For what takes its time on a busy machine.
            route("/patient/{rest...}", name="patient", timeout={"read": DEADLINE_SECONDS}),
        ],
    }
    with GatewayProcess(folder / "gateway", routes=routes, config=NO_LIMIT) as gateway:
        gateway.start()
        yield Stage(gateway, backend)
    backend.kill()


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    """The shared one; whatever a test did, no connection of it may be left in the gateway."""
    yield shared
    until(shared.is_quiet, "no connection is left")

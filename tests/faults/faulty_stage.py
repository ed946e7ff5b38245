"""A `gateway serve` before a faulty backend, and what tests ask of the two."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from backend_process import BackendProcess, say
from gateway_process import GatewayProcess, until
from raw_client import RawClient, Seen

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

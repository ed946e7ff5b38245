"""A gateway whose two files change while it runs, and what its clients and its operator see."""

import http.client
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from backend import RawBackend
from gateway_process import GatewayProcess
from harness import route, upstream

TOKEN = "an-admin-token-of-more-than-32-bytes"
SPREAD = 30  # connections, so that each of two workers gets some but for one time in 2^29


class Files:
    """The two files of a gateway that is started on them."""

    def __init__(self, folder: Path, backend: RawBackend, redis_url: str) -> None:
        self.folder = folder
        self.url = backend.url
        self.settings: dict[str, Any] = {
            "listen": {"workers": 2},
            "admin": {"token": TOKEN},
            "store": {"url": redis_url},
            "rate_limit": {"enabled": False},
            "reload": {"drain": 1},
        }
        self.routes = [route("/always", name="always"), route("/old", name="old")]

    def write(self, *, broken: bool = False) -> None:
        """Each is replaced as a whole, as careful programs do."""
        table = {"version": 1, "upstreams": upstream(self.url), "routes": self.routes}
        text = json.dumps(table)
        for name, content in (
            ("gateway.yaml", json.dumps(self.settings)),
            ("routes.yaml", text.replace('"auth"', '"aut"') if broken else text),
        ):
            path = self.folder / name
            path.with_suffix(".new").write_text(content)
            path.with_suffix(".new").rename(path)


@contextmanager
def running(files: Files) -> Iterator[GatewayProcess]:
    files.write()
    with GatewayProcess(
        files.folder / "gateway",
        config=files.folder / "gateway.yaml",
        routes=files.folder / "routes.yaml",
    ) as gateway:
        gateway.start(files.settings["listen"]["workers"])
        yield gateway


def reload(gateway: GatewayProcess, *words: str) -> tuple[int, str, Any]:
    """Exit code, standard error, and the result of the command."""
    port = {"GATEWAY_ADMIN__PORT": str(gateway.admin_port)}
    done = gateway.command("reload", *words, "--output", "json", environ=port)
    return done.returncode, done.stderr, json.loads(done.stdout or "null")


def status(gateway: GatewayProcess, path: str) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)) as connection:
        connection.request("GET", path)
        return connection.getresponse().status


def statuses(gateway: GatewayProcess, path: str) -> set[int]:
    return {status(gateway, path) for _ in range(SPREAD)}

"""The real gateway as a process of its own: `gateway serve` and the other commands, on free ports.

Rules: ports are chosen by the gateway (port 0) and read from its log, so no two tests can want the
same one; standard output (the access log) and standard error (the process's log) go to files, which
nobody has to empty; a process is ended by its id, with all that it started, whatever a test did.

    with GatewayProcess(folder, routes=file, environ={...}) as gateway:
        gateway.start()
        gateway.command("keys", "issue", "--user", "42", "--name", "ci")
"""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

DEADLINE_SECONDS = 20.0
POLL_SECONDS = 0.02
TOKEN_SECRET = "a-token-secret-of-more-than-32-bytes"
VAULT_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
SECRETS = {"GATEWAY_TOKEN_SECRET": TOKEN_SECRET, "GATEWAY_VAULT_KEY": VAULT_KEY}
MODULE = ("-m", "gateway")

_LISTENING = re.compile(r"listening on https?://[^\s\"]*:(\d+)")
_ADMIN = re.compile(r"admin listener on http://[^\s\"]*:(\d+)")
_READY = re.compile(r"worker (\d+) \(pid (\d+)\) is ready")


def until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of `condition`; fails when there is none within a generous deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(POLL_SECONDS)
    return value


def is_alive(pid: int) -> bool:
    """Does the process run? One that ended and that nobody has waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        # No /proc on this system, or gone in this moment.
        return not Path("/proc/self").exists()
    return state != "Z"


def arguments_of(pid: int) -> str:
    """The command line of a process, as everybody on the machine can see it."""
    path = Path(f"/proc/{pid}/cmdline")
    if path.exists():
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    shown = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return shown.stdout


class GatewayProcess:
    """One `gateway serve`, and the commands that go with its settings.

    `config` and `routes` are files, or what is to stand in them. `environ` adds to an environment
    without any GATEWAY_ setting of whoever runs the tests. `program` is what follows `python`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        routes: Path | Mapping[str, Any],
        config: Path | Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        program: Sequence[str] = MODULE,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.routes_path = _written(folder / "routes.yaml", routes)
        self.config_path = _written(folder / "gateway.yaml", config or {})
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")
        }
        self.environ |= {"GATEWAY_LISTEN__PORT": "0", "GATEWAY_ADMIN__PORT": "0"}
        self.environ |= {"TMPDIR": str(folder), **SECRETS, **(environ or {})}
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.admin_port = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it: politely, then whatever is left of its session."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(DEADLINE_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    # The process.

    def launch(self) -> None:
        """Start it, and wait for nothing."""
        with (
            (self.folder / "stdout").open("ab") as stdout,
            (self.folder / "stderr").open("ab") as stderr,
        ):
            self._process = subprocess.Popen(
                [sys.executable, *self._program, "serve", *self.files],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=self.environ,
                start_new_session=True,
            )

    def start(self, workers: int = 1) -> None:
        """Start it, and return when all of its `workers` take requests."""
        self.launch()
        self.await_ready(workers)

    def await_ready(self, workers: int = 1) -> None:
        """Return when all of its `workers` take requests."""

        def ready() -> bool:
            assert self.process.poll() is None, f"it ended:\n{self.stderr()}"
            return len(self.workers()) == workers and self.readyz()[0] == 200

        until(ready, "the gateway is ready")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(DEADLINE_SECONDS)

    def workers(self) -> dict[int, int]:
        """The id of the process in each worker's place, as the log tells; ports too are read."""
        log = self.stderr()
        if not self.port and (found := _LISTENING.search(log)):
            self.port = int(found[1])
        if not self.admin_port and (found := _ADMIN.search(log)):
            self.admin_port = int(found[1])
        return {int(number): int(pid) for number, pid in _READY.findall(log)}

    # What it says.

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def access_log(self) -> list[dict[str, Any]]:
        """Whole lines, as far as they are written."""
        whole = self.stdout().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def admin(self, path: str) -> tuple[int, str]:
        """Status and body of a GET on the admin listener; (0, "") when nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def readyz(self) -> tuple[int, Any]:
        status, body = self.admin("/readyz")
        return status, json.loads(body or "null")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all series of `name` that carry `labels`, from one scrape."""
        status, text = self.admin("/metrics")
        assert status == 200
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    # The commands.

    def command(
        self, *words: str, given: str | None = None, environ: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run `gateway WORDS` with the same settings; `given` goes to its standard input."""
        return subprocess.run(
            [sys.executable, *MODULE, *words, *self.files],
            input=given or "",
            capture_output=True,
            text=True,
            env=self.environ | dict(environ or {}),
            timeout=DEADLINE_SECONDS,
            check=False,
        )

    def result(self, *words: str, given: str | None = None) -> Any:
        """What a command prints, which must succeed and say nothing else."""
        done = self.command(*words, "--output", "json", given=given)
        assert (done.returncode, done.stderr) == (0, ""), done
        return json.loads(done.stdout)

    @property
    def files(self) -> tuple[str, ...]:
        """The options that name its files."""
        return ("--config", str(self.config_path), "--routes", str(self.routes_path))


def _written(path: Path, content: Path | Mapping[str, Any]) -> Path:
    if isinstance(content, Path):
        return content
    path.write_text(json.dumps(dict(content)))  # which is YAML too, without aliases
    return path

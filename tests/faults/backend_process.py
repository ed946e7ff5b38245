"""`faulty_backend.py` as a process: started, killed, stopped, asked for what it saw."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

from gateway_process import until

PROGRAM = Path(__file__).with_name("faulty_backend.py")


def say(text: bytes) -> str:
    """The step that writes `text`."""
    return f"say={quote_from_bytes(text, safe='')}"


class BackendProcess:
    """Keeps its port and its log over restarts; each start may be ended in its own way."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(PROGRAM), str(self.port), str(self._log)]
        )
        listens = until(
            lambda: [event for event in self.events("listening") if event["pid"] == self.pid],
            "the backend listens",
        )
        self.port = listens[0]["port"]

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()  # SIGKILL ends a stopped process too
            self._process.wait()

    def restart(self) -> None:
        """Kill it if it runs, and start it on the same port."""
        self.kill()
        self.start()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """It takes connections (the kernel does), and does nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # it may run on for a while
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def events(self, event: str, target: str | None = None) -> list[dict[str, Any]]:
        """What it told so far, of one kind, about one target."""
        try:
            whole = self._log.read_bytes().rpartition(b"\n")[0]
        except FileNotFoundError:
            return []
        told = map(json.loads, whole.splitlines())
        return [
            one for one in told if one["event"] == event and target in (None, one.get("target"))
        ]

    def saw(self, event: str, target: str) -> dict[str, Any]:
        """The first such event, waited for."""
        found = until(lambda: self.events(event, target), f"the backend saw {event} at {target}")
        return dict(found[0])

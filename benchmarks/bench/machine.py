"""Processes on cores: started, waited for, read and ended, each by its id.

Everything listens on 127.0.0.1 and writes into a temporary folder.
"""

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

PROXY_CORE, LOAD_CORE = 0, 1
PATIENCE_SECONDS = 20.0
PAGE_BYTES = resource.getpagesize()
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Failed(SystemExit):
    """Something was not as it has to be for a measurement; ends the program with its words."""


def require(*programs: str) -> None:
    """Raises Failed when one is missing, or when there is but one core."""
    for program in programs:
        if shutil.which(program) is None:
            raise Failed(f"{program} is not installed; `make bench` installs what is missing")
    if (os.cpu_count() or 1) < 2:
        raise Failed("this needs two cores: one for the proxy, one for the load")


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary one that servers which run as somebody else may read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def process(
    core: int,
    *command: str,
    env: dict[str, str] | None = None,
    log: Path,
    output: Path | None = None,
) -> Iterator[int]:
    """Runs it on that core; its process id. Standard output goes to `output`, or to the log too."""
    with log.open("wb") as errors, (output or log).open("ab") as out:
        child = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors if output else out,
            env=os.environ | (env or {}),
        )
    try:
        yield child.pid
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_for(url: str, log: Path | None = None, *, status: int = 200) -> None:
    """Return when it answers with that; `log` is what to show when it does not."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    said = "nothing"
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
                if answer.status == status:
                    return
        except urllib.error.HTTPError as error:
            said = str(error)
        except OSError:
            pass
        time.sleep(0.05)
    raise Failed(f"no answer from {url} ({said})\n{log.read_text() if log else ''}")


def family(pid: int) -> list[int]:
    """A process and all that it has started, as far as they live."""
    pids = [pid]
    for each in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{each}/task").iterdir():
                pids += map(int, (task / "children").read_text().split())
    return pids


def cpu_seconds(pids: Iterable[int]) -> float:
    """What these processes have used of it, until now."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_A_SECOND


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def let_many_files_be_open() -> int:
    """Raise the limit of open files as far as allowed, for all that is started later; the limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard

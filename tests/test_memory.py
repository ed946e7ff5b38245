"""What a process of the gateway has in memory, others do not get: on real processes.

Beside it is a plain Python process that gives away what the gateway must not.
"""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_process import MODULE, TOKEN_SECRET, GatewayProcess, until
from harness import route, upstream

from gateway.control import unnamed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is asked is Linux")

ROUTES = {"version": 1, "upstreams": upstream("http://127.0.0.1:9"), "routes": [route()]}
PLAIN_USER = str(Path(__file__).with_name("plain_user.py"))
WAITS = "print(1, flush=True); input()"
READS = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"


def read(pid: int, name: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, PLAIN_USER, "-c", READS, f"/proc/{pid}/{name}"],
        capture_output=True,
        check=False,
        timeout=20,
    )


def died_by(process: "subprocess.Popen[bytes]", number: int) -> int:
    """Kill it; CLD_KILLED, or CLD_DUMPED if a core file was written of it."""
    process.send_signal(number)
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    return ended.si_code


@pytest.fixture
def core_files() -> Iterator[None]:
    """As large as the system lets them be, for whoever is started."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.fixture
def gateway(core_files: None, tmp_path: Path) -> Iterator[GatewayProcess]:
    program = (PLAIN_USER, *MODULE)
    with GatewayProcess(tmp_path / "gateway", routes=ROUTES, program=program) as running:
        running.start()
        yield running


@pytest.fixture
def plain(core_files: None, tmp_path: Path) -> "Iterator[subprocess.Popen[bytes]]":
    with subprocess.Popen(
        [sys.executable, PLAIN_USER, "-c", WAITS],
        cwd=tmp_path,
        env={"GATEWAY_TOKEN_SECRET": TOKEN_SECRET},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_its_environment_is_not_read_by_others_of_its_user(
    gateway: GatewayProcess, plain: "subprocess.Popen[bytes]"
) -> None:
    assert TOKEN_SECRET.encode() in read(plain.pid, "environ").stdout
    for pid in (gateway.pid, *gateway.workers().values()):
        refused = read(pid, "environ")
        assert refused.stdout == b""
        assert b"PermissionError" in refused.stderr


def test_its_memory_is_not_read_by_others_of_its_user(
    gateway: GatewayProcess, plain: "subprocess.Popen[bytes]"
) -> None:
    assert b"PermissionError" not in read(plain.pid, "maps").stderr
    for pid in (gateway.pid, *gateway.workers().values()):
        for name in ("maps", "mem", "auxv"):
            assert b"PermissionError" in read(pid, name).stderr, name


def test_no_core_file_is_left_of_it(
    gateway: GatewayProcess, plain: "subprocess.Popen[bytes]"
) -> None:
    if died_by(plain, signal.SIGSEGV) != os.CLD_DUMPED:
        pytest.skip("this system writes no core files at all")
    (worker,) = gateway.workers().values()
    os.kill(worker, signal.SIGSEGV)
    until(lambda: gateway.workers() != {0: worker}, "another worker is there")
    assert died_by(gateway.process, signal.SIGSEGV) == os.CLD_KILLED
    assert not list(Path.cwd().glob("core*"))


def test_a_worker_that_comes_later_is_as_private(gateway: GatewayProcess) -> None:
    (worker,) = gateway.workers().values()
    os.kill(worker, signal.SIGKILL)
    (another,) = until(lambda: {*gateway.workers().values()} - {worker}, "another worker is there")
    assert b"PermissionError" in read(another, "environ").stderr
    limits = Path(f"/proc/{another}/limits").read_text()
    (line,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert line.split()[4:6] == ["0", "0"]


def test_a_new_configuration_comes_to_workers_in_memory_alone() -> None:
    with unnamed() as file:
        place = Path(f"/proc/self/fd/{file.fileno()}").readlink()
    assert str(place).startswith("/memfd:")


def test_a_command_that_waits_for_a_secret_is_as_private(gateway: GatewayProcess) -> None:
    words = [sys.executable, PLAIN_USER, *MODULE, "vault", "add", "x@example.com", *gateway.files]
    with subprocess.Popen(words, stdin=subprocess.PIPE, env=gateway.environ) as command:
        refused = until(
            lambda: b"PermissionError" in read(command.pid, "environ").stderr, "it refuses"
        )
        command.kill()
    assert refused

"""The whole demo, as a person starts it: all lines come out as printed, and all of it ends."""

import contextlib
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

DEADLINE_SECONDS = 60
PROCESSES = Path("/proc")
FREE_PORTS = [
    argument
    for name in ("port", "admin-port", "market-data-port", "strategy-port", "identity-port")
    for argument in (f"--{name}", "0")
]


def children_of(pid):
    """Their folders, by the kernel's word."""
    found = []
    for process in PROCESSES.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((process / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(process)
    return found


def test_every_printed_line_comes_out_as_printed():
    ran = subprocess.run(
        [sys.executable, "-m", "gateway", "demo", "--check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * DEADLINE_SECONDS,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "as printed, 0 did not" in ran.stdout
    assert "Traceback" not in ran.stderr


@pytest.mark.skipif(not (PROCESSES / "self").is_dir(), reason="asks /proc for processes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything_that_was_started(number):
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "demo", *FREE_PORTS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        try:
            printed = []
            for row in demo.stdout:
                printed.append(row)
                if "metrics" in row:
                    break
            ports = [
                int(row.rpartition(":")[2]) for row in printed if row.startswith(("GW=", "ADMIN="))
            ]
            assert len(ports) == 2
            started = children_of(demo.pid)
            assert started
            demo.send_signal(number)
            _, errors = demo.communicate(timeout=DEADLINE_SECONDS)
        finally:
            demo.kill()
    assert demo.returncode == 0, errors
    assert "Traceback" not in errors
    assert not any(process.exists() for process in started)
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_taken_port_ends_the_demo_with_one_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = subprocess.run(
            [sys.executable, "-m", "gateway", "demo", *FREE_PORTS, "--port", str(port)],
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_SECONDS,
        )
    assert ran.returncode == 1
    assert f"port {port} is in use by another program; use --port" in ran.stderr
    assert "Traceback" not in ran.stderr

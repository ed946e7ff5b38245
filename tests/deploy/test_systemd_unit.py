"""deploy/gateway.service: it starts what exists, may do little, and leaves time to drain."""

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def service():
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read(ROOT / "deploy" / "gateway.service")
    return unit["Service"]


def test_it_serves_with_options_that_the_command_has(service):
    program, *words = service["ExecStart"].split()
    assert program.endswith("/.venv/bin/gateway")  # as `make install` makes it
    assert words[0] == "serve"
    options = [word for word in words if word.startswith("--")]
    shown = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert options == ["--config", "--routes"]
    assert all(option in shown for option in options)


def test_no_secret_stands_in_the_unit(service):
    assert service["EnvironmentFile"] == "/etc/gateway/secrets.env"
    assert "GATEWAY_" not in service["Environment"]


def test_there_is_time_to_drain_before_it_is_killed(service):
    shutdown = Settings().shutdown
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) >= shutdown.grace + shutdown.deadline + 5
    assert service["Restart"] == "always"


@pytest.mark.parametrize(
    ("directive", "value"),
    [
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("LimitCORE", "0"),
        ("CapabilityBoundingSet", ""),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("SystemCallFilter", "@system-service"),
    ],
)
def test_it_may_do_little(service, directive, value):
    assert service[directive] == value


def test_it_may_hold_many_connections_open(service):
    assert int(service["LimitNOFILE"]) >= 65_536

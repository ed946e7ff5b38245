"""The scripts that `make` uses to find or install what it needs, on machines of every kind.

A machine is a folder of programs that stand in for Python, apt and others; `PATH` is that folder
and what the scripts themselves use.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parent
ALWAYS = ("sh", "dirname", "rm", "env", "true", "touch")


@pytest.fixture
def machine(tmp_path):
    """`machine(name=script, …)` puts programs on the machine; `machine.run(script, *words)`."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ALWAYS:
        (programs / name).symlink_to(shutil.which(name))
    return Machine(programs)


class Machine:
    def __init__(self, programs):
        self.programs = programs
        self.log = programs.parent / "log"

    def add(self, name, script):
        program = self.programs / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def run(self, script, *words):
        environ = {"PATH": str(self.programs), "LOG": str(self.log)}
        return subprocess.run(
            ["sh", TOOLS / script, *words], capture_output=True, text=True, check=False, env=environ
        )

    def logged(self):
        return self.log.read_text().splitlines() if self.log.exists() else []


REAL = f'exec {sys.executable} "$@"'
SHIM = 'echo "python: command not found" >&2; exit 127'
OLD = "exit 0"  # what a Python below 3.11 prints: nothing


@pytest.mark.parametrize(
    ("programs", "found"),
    [
        ({"python3": REAL}, True),
        ({"python": REAL}, True),
        ({"python3.13": SHIM, "python3.12": SHIM, "python3": REAL}, True),
        ({"python3": OLD, "python3.11": REAL}, True),
        ({"python3": OLD}, False),
        ({"python3.12": SHIM}, False),
        ({}, False),
    ],
)
def test_a_python_that_works_is_found_or_its_absence_is_told(machine, programs, found):
    for name, script in programs.items():
        machine.add(name, script)
    result = machine.run("find_python.sh")
    if found:
        assert (result.returncode, result.stdout.strip()) == (0, sys.executable)
    else:
        assert (result.returncode, result.stdout) == (1, "")
        assert "No Python 3.11 or newer" in result.stderr


def test_a_broken_environment_is_made_anew_and_another_folder_is_left_alone(machine, tmp_path):
    machine.add("python", f'[ "$1$2" = -mvenv ] && {{ echo "$3" >> "$LOG"; exit; }}\n{REAL}')
    broken, other = tmp_path / "broken", tmp_path / "other"
    for folder, file in ((broken, "pyvenv.cfg"), (other, "thesis.txt")):
        folder.mkdir()
        (folder / file).touch()
        assert machine.run("make_venv.sh", "python", str(folder)).returncode == 0
    assert machine.logged() == [str(broken), str(other)]
    assert not broken.exists()
    assert (other / "thesis.txt").exists()


def test_what_debian_leaves_out_of_python_is_installed(machine, tmp_path):
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    machine.add(
        "python", f'[ "$2" = "import ensurepip, venv" ] && exit 1\n[ "$1" = -m ] && exit\n{REAL}'
    )
    machine.add("id", "echo 0")
    machine.add("apt-get", 'echo "$@" >> "$LOG"')
    assert machine.run("make_venv.sh", "python", str(tmp_path / "venv")).returncode == 0
    assert machine.logged()[-1].endswith(
        f"install --yes --no-install-recommends python{version}-venv"
    )


@pytest.mark.parametrize("words", [("", "venv"), ("/no/such/python", "venv")])
def test_no_environment_without_a_python(machine, words):
    assert machine.run("make_venv.sh", *words).returncode == 1


APT = 'echo "apt-get $1" >> "$LOG"\n'
FRESH = APT + '[ "$1" = update ] && touch "$LOG.updated"; [ -e "$LOG.updated" ]'


@pytest.mark.parametrize(
    ("programs", "log"),
    [
        ({"id": "echo 0", "apt-get": APT}, ["apt-get install"]),
        (
            {"id": "echo 0", "apt-get": FRESH},
            ["apt-get install", "apt-get update", "apt-get install"],
        ),
        (
            {"id": "echo 1000", "sudo": '[ "$1" = -n ] && shift && exec "$@"', "apt-get": APT},
            ["apt-get install"],
        ),
        ({"id": "echo 501", "brew": 'echo "brew $@" >> "$LOG"'}, ["brew install redis"]),
    ],
    ids=["as root", "with no package lists yet", "by sudo", "by brew"],
)
def test_a_package_is_installed(machine, programs, log):
    for name, script in programs.items():
        machine.add(name, script)
    result = machine.run("install.sh", "redis-server", "redis")
    assert result.returncode == 0, result.stderr
    assert machine.logged() == log


@pytest.mark.parametrize(
    ("programs", "advice"),
    [
        ({"id": "echo 1000", "apt-get": APT}, "sudo apt-get install redis-server"),
        (
            {"id": "echo 1000", "sudo": "exit 1", "apt-get": APT},
            "sudo apt-get install redis-server",
        ),
        ({"id": "echo 0"}, "install redis-server with your system's package manager"),
    ],
    ids=["no sudo", "a sudo that asks", "an unknown system"],
)
def test_what_can_not_be_installed_is_told(machine, programs, advice):
    for name, script in programs.items():
        machine.add(name, script)
    result = machine.run("install.sh", "redis-server", "redis")
    assert result.returncode == 1
    assert advice in result.stderr
    assert not machine.logged()


def test_a_failed_installation_is_a_failure(machine):
    machine.add("id", "echo 0")
    machine.add("apt-get", APT + "exit 100")
    assert machine.run("install.sh", "redis-server").returncode != 0
    assert machine.logged() == ["apt-get install", "apt-get update"]


@pytest.mark.parametrize("script", ["find_python.sh", "make_venv.sh", "install.sh"])
def test_a_script_is_sound_for_the_plainest_shell(script):
    assert os.access(TOOLS / script, os.R_OK)
    assert subprocess.run(["sh", "-n", TOOLS / script], check=False).returncode == 0

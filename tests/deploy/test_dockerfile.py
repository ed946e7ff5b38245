"""The Dockerfile: what it names exists, what runs is not root and holds no secret."""

import http.server
import json
import re
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest
from dockerfile import stages

from gateway.settings import Settings

ROOT = Path(__file__).parents[2]
BUILD, FINAL = stages(ROOT / "Dockerfile")
FILES = {"GATEWAY_CONFIG": "config/gateway.yaml", "GATEWAY_ROUTES": "routes.yaml"}


@pytest.mark.parametrize("stage", [BUILD, FINAL], ids=["build", "final"])
def test_the_image_below_is_slim_pinned_and_of_a_python_that_is_supported(stage):
    name, _, tag = stage.image.partition(":")
    version, variant = tag.split("-", 1)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert name == "python"
    minor, _, patch = version.rpartition(".")
    assert f"Programming Language :: Python :: {minor}" in project["classifiers"]
    assert patch.isdecimal()
    assert variant.startswith("slim")


def test_it_runs_as_a_number_that_is_not_root():
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", FINAL.one("USER"))
    assert "USER" in [name for name, _ in FINAL.instructions[:-2]]


def test_everything_that_is_installed_is_pinned_by_hash_or_built_here():
    installs = re.findall(r"pip[^&]* install ([^&]*)", " && ".join(BUILD.all("RUN")))
    assert [text.strip() for text in installs] == [
        "--require-hashes -r requirements.txt",
        "--require-hashes -r requirements-build.txt",
        "--no-deps --no-index dist/*.whl",
    ]
    assert not FINAL.all("RUN")


def test_what_is_copied_exists_and_is_sent_to_the_build():
    copies = BUILD.all("COPY") + [text for text in FINAL.all("COPY") if "--from" not in text]
    sources = {word for text in copies for word in text.split()[:-1] if not word.startswith("--")}
    sent = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert sources == sent
    assert all((ROOT / source).exists() for source in sources)


def test_commands_find_the_files_that_were_copied():
    (copied,) = (text for text in FINAL.all("COPY") if "--from" not in text)
    folder = copied.split()[-1]
    environment = FINAL.environment()
    for variable, file in FILES.items():
        assert file in copied.split()
        assert environment[variable] == folder + Path(file).name


def test_it_holds_no_secret():
    names = BUILD.environment().keys() | FINAL.environment().keys()
    assert not [name for name in names if re.search("SECRET|TOKEN|KEY|PASSWORD", name)]
    assert not BUILD.all("ARG") + FINAL.all("ARG")


def test_what_it_starts_is_the_command_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (program,) = FINAL.words("ENTRYPOINT")
    assert program in project["scripts"]
    words = [*FINAL.words("CMD"), "--help"]
    asked = subprocess.run([sys.executable, "-m", "gateway", *words], cwd=ROOT, check=False)
    assert asked.returncode == 0


def test_the_ports_are_those_of_the_settings():
    settings = Settings()
    assert FINAL.one("EXPOSE").split() == [str(settings.listen.port), str(settings.admin.port)]


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_the_health_check_asks_the_admin_listener(status, healthy):
    asked = []

    class Admin(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    command = json.loads(FINAL.one("HEALTHCHECK").partition(" CMD ")[2])
    port = str(Settings().admin.port)
    assert command[:2] == ["python", "-c"]
    assert port in command[2]
    with http.server.HTTPServer(("127.0.0.1", 0), Admin) as server:
        free = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            if status is None:
                server.socket.close()
            script = command[2].replace(port, str(free))
            result = subprocess.run(
                [sys.executable, "-c", script], capture_output=True, check=False, timeout=30
            )
        finally:
            server.shutdown()
            thread.join()
    assert (result.returncode == 0) == healthy
    assert asked == ([] if status is None else ["/healthz"])

"""With memory:// the commands ask the running gateway, through its admin listener."""

import base64
import http.client
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.admin.operations import OPERATIONS
from gateway.cli import app

ROOT = Path(__file__).parents[2]
TOKEN = "t0ken-of-the-admin-canary"
DEADLINE_SECONDS = 20


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def invoke(environment, *words, stdin=None):
    return CliRunner().invoke(app, words, input=stdin, env=environment)


def ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A gateway with the shipped routes and nothing in its memory; what a command needs to know."""
    folder = tmp_path_factory.mktemp("gateway")
    variables = {
        "GATEWAY_CONFIG": str(folder / "gateway.yaml"),
        "GATEWAY_ROUTES": str(ROOT / "routes.yaml"),
        "GATEWAY_TOKEN_SECRET": "t" * 32,
        "GATEWAY_VAULT_KEY": base64.b64encode(bytes(32)).decode(),
        "ADMIN_TOKEN": TOKEN,
    }
    admin = {"host": "127.0.0.1", "port": free_port(), "token": "${ADMIN_TOKEN}"}
    listen = {"host": "127.0.0.1", "port": 0}
    (folder / "gateway.yaml").write_text(json.dumps({"listen": listen, "admin": admin}))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve"],
            env={**os.environ, **variables},
            stdout=log,
            stderr=log,
        )
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not ready(admin["port"]):
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.02)
    yield variables
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_SECONDS) == 0
    assert "canary" not in (folder / "log").read_text()


def ok(result):
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_commands_work_on_the_gateways_memory(environment):
    def run(*words, stdin=None):
        return ok(invoke(environment, *words, "--output", "json", stdin=stdin))

    issued = run("keys", "issue", "--user", "42", "--name", "laptop")
    assert list(issued) == ["id", "key", "user_id", "name", "created_at"]
    assert [key["id"] for key in run("keys", "list", "--user", "42")] == [issued["id"]]
    assert run("keys", "revoke", issued["id"])["revoked_at"] is not None
    assert run("plans", "set", "--user", "42", "--plan", "standard")["plan"] == "standard"
    assert run("users", "show", "42")["plan"] == "standard"
    credentials = json.dumps({"api_key": "canary-key", "api_secret": "canary-secret"})
    assert run("vault", "add", "a@example.com", stdin=credentials)["is_active"] is True
    line = json.dumps({"email": "b@example.com", **json.loads(credentials)})
    assert run("vault", "import", "-", stdin=f"\n{line}\n")["new"] == 1
    rotated = run("vault", "rotate")
    assert (rotated["records"], rotated["current"], rotated["left"]) == (2, 2, 0)
    listed = run("vault", "list")
    assert {record["email"] for record in listed} == {"a@example.com", "b@example.com"}
    assert run("vault", "disable", "a@example.com")["is_active"] is False
    assert run("vault", "enable", "a@example.com")["is_active"] is True
    assert run("ips", "list") == []
    assert run("tokens", "revoke", "--user", "42", "--jti", "x")["revoked"] is True
    assert run("tokens", "revoke", "--all")["generation"] == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["plans", "set", "--user", "42", "--plan", "standrd"], 1, "did you mean 'standard'"),
        (["keys", "issue", "--user", "0", "--name", "x"], 2, "user must be"),
        (["keys", "revoke", "k_unknown"], 1, "no key with this id"),
        (["ips", "unblock", "203.0.113.9"], 1, "not blocked"),
        (["tokens", "revoke"], 2, "standard input is empty"),
        (["tokens", "revoke", "--user", "42"], 2, "it takes user and jti, or a token, or all"),
        (["tokens", "revoke", "--user", "4242", "--jti", "x"], 1, "no user with this id"),
    ],
)
def test_refusals_have_the_words_and_codes_that_they_have_on_redis(environment, words, code, said):
    result = invoke(environment, *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr


def test_another_admin_token_is_refused_and_not_shown(environment):
    other = {**environment, "ADMIN_TOKEN": "another-canary"}
    result = invoke(other, "keys", "list")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "has another admin.token" in result.stderr
    assert "canary" not in result.stderr


def test_a_wrong_file_ends_serve_before_it_listens(tmp_path):
    (tmp_path / "routes.yaml").write_text("version: 1\n")
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "--output", "json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert json.loads(done.stderr)["complaints"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_without_a_running_gateway_it_says_what_to_do(tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    port = free_port()
    result = invoke({"GATEWAY_ADMIN__PORT": str(port)}, "keys", "list", "--output", form)
    said = (
        f"no gateway answers on 127.0.0.1:{port}; with memory:// the data lives in the running "
        "gateway: start `gateway serve` first, or set store.url"
    )
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (f"error: {said}\n" if form == "text" else f'{{"error": "{said}"}}\n')


@pytest.mark.parametrize(
    ("status", "body"), [(200, "<html>"), (404, "Not Found"), (404, "[]"), (500, "{}")]
)
def test_something_else_on_the_port_is_no_gateway(tmp_path, monkeypatch, status, body):
    class Something(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    monkeypatch.chdir(tmp_path)
    with http.server.HTTPServer(("127.0.0.1", 0), Something) as other:
        threading.Thread(target=other.handle_request, daemon=True).start()
        result = invoke({"GATEWAY_ADMIN__PORT": str(other.server_port)}, "keys", "list")
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.search(r"what answers on 127\.0\.0\.1:\d+ is no gateway", result.stderr)


def test_every_operation_has_its_command():
    modules = {path.stem: path.read_text() for path in (ROOT / "gateway" / "cli").glob("*.py")}
    for operation in OPERATIONS:
        group = operation.partition(".")[0]
        texts = [text for name, text in modules.items() if name.partition("_")[0] == group]
        assert any(f'"{operation}"' in text for text in texts), operation

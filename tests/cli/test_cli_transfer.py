"""`gateway keys export` and `import` on a real Redis, as an operator meets them."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest
import redis
from typer.testing import CliRunner

from gateway.cli import app
from gateway.store.keys import digest

DEADLINE_SECONDS = 20
BATCH = 500


@pytest.fixture
def environment(redis_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_STORE__URL", redis_url)
    return {**os.environ, "GATEWAY_STORE__URL": redis_url}


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url, decode_responses=True) as opened:
        yield opened


def gateway(*words, stdin=None):
    return CliRunner().invoke(app, words, input=stdin)


def ok(result):
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def line(number: int, **more: object) -> str:
    given = {"sha256": digest(f"key-{number}"), "id": f"k_{number}", "user_id": 42, **more}
    return json.dumps(given) + "\n"


def test_keys_go_out_and_come_in_as_json_lines(environment, client):
    issued = ok(gateway("keys", "issue", "--user", "42", "--name", "ci", "--output", "json"))
    exported = gateway("keys", "export")
    assert exported.exit_code == 0
    assert issued["key"] not in exported.stdout
    client.flushall()
    taken = ok(gateway("keys", "import", "-", "--output", "json", stdin=exported.stdout))
    assert (taken["new"], taken["users"], taken["refused"]) == (1, 1, 0)
    assert "complaints" not in taken
    shown = ok(gateway("keys", "show", issued["id"], "--output", "json"))
    assert (shown["id"], shown["name"]) == (issued["id"], "ci")


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (b"pk_canary\n", "must be a JSON object"),
        (line(1, key="pk_canary").encode(), "has an unknown field"),
        (line(1, name="canary\xe9").encode("latin-1").replace(b"\\u00e9", b"\xe9"), "name must be"),
        (b'{"canary": "' + b"x" * 200_000 + b'"}\n', "must have at most 16384 bytes"),
    ],
)
def test_a_bad_line_is_told_with_its_place_and_the_others_are_taken(
    environment, tmp_path, bad, complaint
):
    file = tmp_path / "keys.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + line(7).encode() + b"\n" + bad + line(8).encode())
    result = gateway("keys", "import", "keys.jsonl")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"keys.jsonl:3: {complaint}")
    assert len(result.stderr.splitlines()) == 1
    assert "canary" not in result.output
    assert re.search(r"new: +2\n", result.stdout)


def test_in_json_the_bad_lines_stand_beside_the_error(environment):
    result = gateway("keys", "import", "-", "--output", "json", stdin="{}\n" * 1001)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["refused"] == 1001
    error = json.loads(result.stderr)
    assert error["error"] == "1001 lines were not taken"
    assert error["complaints"][0] == "standard input:1: sha256 is missing"
    assert error["complaints"][1000:] == ["and 1 lines more"]


def test_the_file_goes_before_what_is_here_where_that_is_asked_for(environment, tmp_path):
    (tmp_path / "old").write_text(line(1, name="old"))
    (tmp_path / "new").write_text(line(1, name="new"))
    for words, name in (("old",), "old"), (("new",), "old"), (("new", "--overwrite"), "new"):
        ok(gateway("keys", "import", *words, "--output", "json"))
        assert ok(gateway("keys", "show", "k_1", "--output", "json"))["name"] == name


def test_who_is_interrupted_goes_on_with_the_same_command(environment, client):
    lines = [line(number) for number in range(2 * BATCH + 1)]
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "keys", "import", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # Who runs in the background of a shell was started with this signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    try:
        assert process.stdin is not None
        process.stdin.writelines(lines[:BATCH])
        process.stdin.flush()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not client.keys("gw:import:*"):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate("".join(lines[BATCH:]), timeout=DEADLINE_SECONDS)
    finally:
        process.kill()
    assert (process.returncode, out) == (1, "")
    assert error == "error: interrupted; the same command goes on where it was\n"
    assert len(client.keys("gw:key:*")) < len(lines)
    again = ok(gateway("keys", "import", "-", "--output", "json", stdin="".join(lines)))
    assert again["done_before"] >= BATCH
    assert len(client.keys("gw:key:*")) == len(lines)


def test_on_a_terminal_progress_is_told_on_standard_error(environment, tmp_path):
    (tmp_path / "keys.jsonl").write_text("".join(map(line, range(3 * BATCH))))
    program = (
        "from gateway.cli import main, transfer; transfer.PROGRESS_SECONDS = 0; main()"  # at once
    )
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program, "keys", "import", "keys.jsonl", "--output", "json"],
        stdout=subprocess.PIPE,
        stderr=slave,
        env=environment,
    )
    os.close(slave)
    seen = b""
    try:
        out, _ = process.communicate(timeout=DEADLINE_SECONDS)
        while select.select([master], [], [], 0)[0]:
            try:
                seen += os.read(master, 4096)
            except OSError:  # what a terminal's end looks like
                break
    finally:
        process.kill()
        os.close(master)
    assert json.loads(out)["new"] == 3 * BATCH
    assert re.search(rb"\r\d+%: 1,000 lines, [\d,]+ a second", seen)
    assert re.search(rb"\r100%: 1,500 lines, [\d,]+ a second", seen)


def test_records_that_cannot_be_read_are_told_and_the_others_exported(environment, client):
    client.set("gw:key:odd", "x")
    assert gateway("keys", "import", "-", stdin=line(1)).exit_code == 0
    result = gateway("keys", "export")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["id"] == "k_1"
    assert result.stderr == "error: 1 records could not be read, and are left out\n"


def test_a_file_and_a_redis_are_needed(environment, monkeypatch):
    result = gateway("keys", "import", "none.jsonl")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: none.jsonl can't be read: no such file or directory\n",
    )
    monkeypatch.setenv("GATEWAY_STORE__URL", "memory://")
    result = gateway("keys", "export")
    assert result.exit_code == 1
    assert "memory:// ends with its gateway" in result.stderr


def test_users_go_out_and_come_in_as_json_lines(environment, client):
    given = '{"id": 42, "email": "jane@example.com", "google_id": "g-1"}\n{"id": 43}\n'
    words = ("users", "import", "-", "--output", "json")
    taken = ok(gateway(*words, stdin=given))
    assert (taken["lines"], taken["new"], taken["refused"]) == (2, 2, 0)
    assert client.get("gw:user:by:google:g-1") == "42"
    exported = gateway("users", "export")
    assert sorted(json.loads(line)["id"] for line in exported.stdout.splitlines()) == [42, 43]
    client.flushall()
    assert ok(gateway(*words, stdin=exported.stdout))["new"] == 2
    shown = ok(gateway("users", "show", "--email", "jane@example.com", "--output", "json"))
    assert (shown["id"], shown["google_id"]) == (42, "g-1")


def test_a_line_that_is_no_user_is_told_with_its_place(environment, tmp_path):
    (tmp_path / "users.jsonl").write_text('{"id": 1}\n{"id": 2, "canary": 7}\n')
    result = gateway("users", "import", "users.jsonl")
    assert result.exit_code == 1
    assert result.stderr.startswith("users.jsonl:2: has an unknown field")
    assert "canary" not in result.stderr


def test_users_of_a_running_gateway_s_memory_are_not_moved(environment, monkeypatch):
    monkeypatch.setenv("GATEWAY_STORE__URL", "memory://")
    result = gateway("users", "export")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "set store.url to a Redis to move users" in result.stderr

"""The commands on a real Redis: results, exit codes, and what stands on which stream."""

import base64
import json
import os
import pty
import select
import subprocess
import sys

import pytest
import redis
from typer.testing import CliRunner

from gateway.cli import app

VAULT_KEY = base64.b64encode(bytes(32)).decode()
DEADLINE_SECONDS = 10
CREDENTIALS = {"api_key": "canary-api-key", "api_secret": "canary-api-secret"}


@pytest.fixture
def gateway(redis_url, tmp_path, monkeypatch):
    """Runs a command, in a folder without files, on a Redis of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_STORE__URL", redis_url)
    monkeypatch.setenv("GATEWAY_VAULT_KEY", VAULT_KEY)

    def run(*words, stdin=None):
        return CliRunner().invoke(app, words, input=stdin)

    return run


def ok(result):
    """The JSON that a command has printed, and nothing else."""
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_a_key_is_issued_listed_shown_and_revoked(gateway):
    issued = ok(gateway("keys", "issue", "--user", "42", "--name", "laptop", "--output", "json"))
    assert list(issued) == ["id", "key", "user_id", "name", "created_at"]
    (listed,) = ok(gateway("keys", "list", "--user", "42", "--output", "json"))
    assert listed["id"] == issued["id"]
    shown = ok(gateway("keys", "show", issued["id"], "--output", "json"))
    assert shown == {**listed, "last_used_at": None, "last_used_from": None, "requests": 0}
    revoked = ok(gateway("keys", "revoke", issued["id"], "--output", "json"))
    assert revoked["revoked_at"] is not None


def test_in_text_a_key_stands_whole_on_its_line(gateway):
    result = gateway("keys", "issue", "--user", "42", "--name", "ci", "--expires", "2999-01-01")
    assert result.exit_code == 0
    lines = dict(line.split(None, 1) for line in result.stdout.splitlines())
    assert len(lines["key:"]) == 39
    assert lines["expires_at:"] == "2999-01-01T00:00:00"


def test_a_plan_is_set_and_shown(gateway):
    words = ("--user", "42", "--plan", "standard", "--until", "2027-01-01", "--output", "json")
    expected = {"user_id": 42, "plan": "standard", "plan_expires_at": "2027-01-01T00:00:00"}
    assert ok(gateway("plans", "set", *words)).items() >= expected.items()
    assert ok(gateway("plans", "show", "--user", "42", "--output", "json")) == expected


def test_a_user_is_created_listed_and_shown(gateway):
    words = ("--email", "User@example.com", "--name", "李雷", "--id", "7", "--output", "json")
    user = ok(gateway("users", "create", *words))
    assert (user["id"], user["email"], user["name"]) == (7, "user@example.com", "李雷")
    assert ok(gateway("users", "list", "--output", "json")) == [user]
    assert ok(gateway("users", "show", "7", "--output", "json")) == {**user, "links": []}
    by_email = ok(gateway("users", "show", "--email", "user@example.com", "--output", "json"))
    assert by_email == {**user, "links": []}


@pytest.mark.parametrize("source", ["standard input", "file"])
def test_a_registered_key_comes_from_standard_input_or_a_file(gateway, tmp_path, redis_url, source):
    if source == "file":
        (tmp_path / "key.json").write_text(json.dumps(CREDENTIALS))
        words, stdin = ("--from-file", "key.json"), None
    else:
        words, stdin = (), json.dumps(CREDENTIALS)
    added = gateway("vault", "add", "user@example.com", *words, "--output", "json", stdin=stdin)
    record = ok(added)
    assert record["is_active"] is True
    assert ok(gateway("vault", "show", "user@example.com", "--output", "json")) == record
    with redis.Redis.from_url(redis_url) as client:
        assert b"canary" not in b"".join(client.hgetall("gw:vault:user@example.com").values())
    removed = ok(gateway("vault", "remove", "user@example.com", "--output", "json"))
    assert (removed["email"], removed["removed"]) == ("user@example.com", True)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "canary",
        "[]",
        '{"api_key": "canary"}',
        '{"api_key": "canary", "api_secret": "canary", "more": 1}',
        "[" * 60_000,
    ],
)
def test_anything_else_than_key_and_secret_is_wrong_usage_and_not_repeated(gateway, given):
    result = gateway("vault", "add", "user@example.com", stdin=given)
    assert result.exit_code == 2
    assert "standard input must hold" in result.stderr
    assert "canary" not in result.output


def test_key_and_secret_of_a_wrong_type_are_wrong_usage(gateway):
    result = gateway("vault", "add", "user@example.com", stdin='{"api_key": 1, "api_secret": "s"}')
    assert (result.exit_code, result.stderr) == (2, "error: api_key must be text\n")


def test_a_file_that_can_not_be_read_is_named(gateway):
    result = gateway("vault", "add", "user@example.com", "--from-file", "none.json")
    assert result.exit_code == 1
    assert "none.json can't be read" in result.stderr


def test_on_a_terminal_key_and_secret_are_asked_for_without_echo(redis_url, tmp_path):
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "vault", "add", "user@example.com", "--output", "json"],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=slave,
        cwd=tmp_path,
        env={**os.environ, "GATEWAY_STORE__URL": redis_url, "GATEWAY_VAULT_KEY": VAULT_KEY},
        start_new_session=True,
    )
    os.close(slave)
    seen = b""
    try:
        for prompt, value in ((b"key: ", b"canary-key"), (b"secret: ", b"canary-secret")):
            while not seen.endswith(prompt):
                readable, _, _ = select.select([master], [], [], DEADLINE_SECONDS)
                assert readable, f"no prompt for {value.decode()}"
                seen += os.read(master, 1024)
            os.write(master, value + b"\n")
        out, _ = process.communicate(timeout=DEADLINE_SECONDS)
    finally:
        process.kill()
        os.close(master)
    assert process.returncode == 0
    assert json.loads(out)["email"] == "user@example.com"
    assert b"canary" not in seen + out


def test_blocks_are_listed_and_lifted(gateway, redis_url):
    assert ok(gateway("ips", "list", "--output", "json")) == []
    with redis.Redis.from_url(redis_url) as client:
        seconds, _ = client.time()
        client.set("gw:ip:block:{203.0.113.9}", (seconds + 60) * 1000, ex=60)
    (blocked,) = ok(gateway("ips", "list", "--output", "json"))
    assert blocked["ip"] == "203.0.113.9"
    lifted = ok(gateway("ips", "unblock", "203.0.113.9", "--output", "json"))
    assert lifted == {"ip": "203.0.113.9", "unblocked": True}
    assert ok(gateway("ips", "list", "--output", "json")) == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("plans", "set", "--user", "42", "--plan", "standrd"), 1, "did you mean 'standard'"),
        (("plans", "show", "--user", "42"), 1, "no user"),
        (("plans", "set", "--user", "1", "--plan", "free", "--until", "soon"), 2, "until must be"),
        (("keys", "issue", "--user", "0", "--name", "x"), 2, "user must be"),
        (("keys", "revoke", "k_unknown"), 1, "no key with this id"),
        (("keys", "show", "pk_QebjLx9HP28rDYL2eCSkKDTyvZuDhx07jCm2"), 2, "not the key itself"),
        (("users", "create", "--email", "nobody"), 2, "email must be"),
        (("ips", "unblock", "203.0.113.9"), 1, "not blocked"),
    ],
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_refusal_is_1_a_wrong_argument_2_both_in_one_sentence(gateway, words, code, said, form):
    result = gateway(*words, "--output", form)
    assert (result.exit_code, result.stdout) == (code, "")
    (line,) = result.stderr.splitlines()
    assert said in line
    assert "pk_Q" not in line
    if form == "json":
        assert list(json.loads(line)) == ["error"]


@pytest.mark.parametrize("credentials", ["user:canary@", ":1%2Fcanary@"])
def test_a_redis_that_is_away_is_told_once_without_its_password(
    tmp_path, redis_process, credentials
):
    redis_process.kill()
    url = redis_process.url.replace("redis://", f"redis://{credentials}")
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "keys", "list", "--output", "json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "GATEWAY_STORE__URL": url},
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    error = json.loads(done.stderr)["error"]
    assert redis_process.url in error
    assert "set store.url" in error
    assert "canary" not in error


def test_every_problem_of_the_settings_is_told(gateway, tmp_path):
    (tmp_path / "gateway.yaml").write_text("listn: {port: 1}\nadmin: {port: many}\n")
    result = gateway("keys", "list", "--config", "gateway.yaml")
    assert (result.exit_code, result.stdout) == (1, "")
    first, second = result.stderr.splitlines()
    assert first.startswith("gateway.yaml:1:1: ")
    assert "did you mean 'listen'" in first
    assert second.startswith("gateway.yaml:2:15: admin.port")


def test_the_settings_file_of_the_house_is_read_where_it_is(gateway, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "gateway.yaml").write_text("plans: [bronze, silver]\n")
    result = gateway("plans", "set", "--user", "42", "--plan", "standard")
    assert (result.exit_code, "bronze, silver" in result.stderr) == (1, True)


def test_the_environment_may_name_the_files(gateway, tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("plans: [bronze, silver]\n")
    monkeypatch.setenv("GATEWAY_CONFIG", "mine.yaml")
    assert ok(gateway("plans", "set", "--user", "42", "--plan", "silver", "--output", "json"))

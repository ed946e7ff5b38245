"""`gateway vault import`, `list` and `rotate` on a real Redis, as an operator meets them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from test_importing import SECRET, line
from test_resealing import RAW, filled, knowing
from typer.testing import CliRunner

from gateway.cli import app
from gateway.cli.vault_bulk import LINES_A_BATCH


@pytest.fixture
def gateway(redis_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environ = {"GATEWAY_STORE__URL": redis_url, "GATEWAY_VAULT_KEY": SECRET}

    def run(*words: str, stdin: str | None = None):
        return CliRunner(env=environ).invoke(app, words, input=stdin)

    return run


@pytest.mark.parametrize("source", ["-", "keys.jsonl"])
def test_the_command_takes_a_file_or_standard_input(gateway, tmp_path, source):
    count = 2 * LINES_A_BATCH + 1
    text = "".join(line(number) for number in range(count))
    (tmp_path / "keys.jsonl").write_text(text)
    words = ("vault", "import", source, "--output", "json")
    done = gateway(*words, stdin=text if source == "-" else None)
    assert (done.exit_code, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told.pop("seconds") >= 0
    told = {name: value for name, value in told.items() if value}
    assert told == {"lines": count, "new": count}
    listed = json.loads(gateway("vault", "list", "--output", "json").stdout)
    assert len(listed) == len({record["email"] for record in listed}) == count


def test_bad_lines_are_told_with_file_and_number_and_never_quoted(gateway, tmp_path):
    bad = '{"email": "canary"\n'
    (tmp_path / "keys.jsonl").write_text(line(1) * 1 + bad + line(2) + line(3, api_key="ca nary"))
    done = gateway("vault", "import", "keys.jsonl")
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        "keys.jsonl:2: must be a JSON object in UTF-8, with no name twice",
        "keys.jsonl:4: api_key must be at most 256 visible ASCII characters",
    ]
    assert "canary" not in done.output
    shown = dict(each.split() for each in done.stdout.splitlines())
    assert (shown["new:"], shown["refused:"]) == ("2", "2")


def test_without_a_master_key_nothing_is_imported(gateway, monkeypatch, redis_server):
    monkeypatch.setenv("GATEWAY_VAULT__ENCRYPTION_KEYS", "[]")
    done = gateway("vault", "import", "-", stdin=line(1))
    assert done.exit_code == 1
    assert "GATEWAY_VAULT_KEY" in done.stderr
    with redis_server.client() as client:
        assert client.keys("gw:vault:*") == []


def test_the_list_in_text_is_a_table_that_needs_no_whole(gateway):
    gateway("vault", "import", "-", stdin=line(1))
    lines = gateway("vault", "list").stdout.splitlines()
    assert lines[0].split() == [
        *("IS_ACTIVE", "VERIFICATION_STATUS", "CAN_WITHDRAW", "LAST_VERIFIED", "CREATED_AT"),
        *("MASTER_KEY_ID", "EMAIL"),
    ]
    assert lines[1].split()[:4] == ["yes", "unverified", "-", "-"]
    assert lines[1].endswith("  v1              user1@example.com")
    assert json.loads(gateway("vault", "list", "--output", "json").stdout)[0]["email"]


@pytest.fixture
def environ(redis_url):
    keys = [{"id": name, "secret": RAW[name]} for name in ("v2", "v1")]
    return {
        "GATEWAY_STORE__URL": redis_url,
        "GATEWAY_VAULT__ENCRYPTION_KEYS": json.dumps(keys),
    }


def run_with(environ, *words: str):
    return CliRunner(env=environ).invoke(app, words)


async def test_the_command_counts_and_names_what_it_left(real_store, environ, tmp_path):
    await filled(real_store, 3)
    done = await asyncio.to_thread(run_with, environ, "vault", "rotate", "--output", "json")
    assert (done.exit_code, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told.pop("seconds") >= 0
    assert told == {"records": 3, "rotated": 3, "current": 0, "left": 0}
    await knowing(real_store, "v9").add("lost@example.com", "k", "s")
    done = await asyncio.to_thread(run_with, environ, "vault", "rotate")
    assert done.exit_code == 1
    assert done.stderr == (
        "l***@example.com can't be opened with master key 'v9': unknown master key\n"
    )
    assert "left:    1" in done.stdout


async def test_a_rotation_that_is_interrupted_goes_on_when_called_again(real_store, environ):
    await filled(real_store, 1500)
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "vault", "rotate"],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 20
    while await count_under(real_store, "v2") == 0:
        assert time.monotonic() < deadline
        assert process.poll() is None
        await asyncio.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, said = await asyncio.to_thread(process.communicate, timeout=20)
    if process.returncode == 1:  # else it was faster than the signal
        assert "interrupted; the same command goes on" in said
    done = await asyncio.to_thread(run_with, environ, "vault", "rotate", "--output", "json")
    assert json.loads(done.stdout)["records"] == 1500
    assert await count_under(real_store, "v2") == 1500


async def count_under(store, key_id: str) -> int:
    names = [name async for names in store.scan(store.key("vault", "*")) for name in names]
    records = await store.read_hashes(names)
    return sum(record["master_key_id"] == key_id for record in records if record)


def test_without_a_master_key_nothing_is_rotated(environ):
    environ["GATEWAY_VAULT__ENCRYPTION_KEYS"] = "[]"
    done = run_with(environ, "vault", "rotate")
    assert done.exit_code == 1
    assert "GATEWAY_VAULT_KEY" in done.stderr

"""`gateway tokens`: what it says and does on files alone; no gateway runs."""

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.errors import ConfigurationError
from gateway.settings import load_settings
from gateway.tokenfile import iso

SECRET = "a-token-secret-of-more-than-32-bytes"
FILE = "tokens.json"


def run(*words: str):
    return CliRunner().invoke(app, ["tokens", *words, "--config", "gateway.yaml"])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_TOKEN_SECRET", SECRET)
    configure(secrets_file=FILE)
    return tmp_path


def configure(**tokens: object) -> None:
    Path("gateway.yaml").write_text(json.dumps({"app_tokens": tokens}))


def put(*entries: dict[str, object]) -> None:
    Path(FILE).touch(0o600)
    Path(FILE).write_text(json.dumps({"secrets": entries}))


def test_without_a_file_it_refuses_and_says_what_to_set():
    configure()
    done = run("rotate")
    assert done.exit_code == 1
    assert "app_tokens.secrets_file is not set" in done.stderr
    assert done.stdout == ""


def test_a_rotation_says_what_signs_from_when_and_what_is_left_to_do():
    begun = int(time.time())
    told = json.loads(run("rotate", "--ahead", "10m", "--output", "json").stdout)
    assert told["reloaded"] is False
    assert told["replaces"] == {"id": "k1", "retires_at": None}
    assert told["signs_from"] in {iso(begun + 600 + late) for late in range(20)}
    assert told["dropped"] == []
    reload, elsewhere, settings = told["to_do"]
    assert "gateway reload" in reload
    assert f"before {told['signs_from']}" in elsewhere
    assert "take k1 out of app_tokens.secrets" in settings


def test_the_former_retires_a_lifetime_and_the_clocks_difference_later():
    configure(secrets_file=FILE, lifetime=3600)
    put({"id": "a", "secret": SECRET[::-1], "signs_from": "2026-01-01"})
    told = json.loads(run("rotate", "--ahead", "0s", "--output", "json").stdout)
    assert told["replaces"]["id"] == "a"
    signs_from = next(t for t in range(int(time.time()), 0, -1) if iso(t) == told["signs_from"])
    assert told["replaces"]["retires_at"] == iso(signs_from + 3600 + 30)


@pytest.mark.parametrize("option", ["--ahead", "--overlap"])
def test_a_time_that_is_none_is_wrong_usage(option):
    done = run("rotate", option, "soon")
    assert done.exit_code == 2
    assert f"{option} must be a duration" in done.stderr
    assert not Path(FILE).exists()


def test_a_file_with_mistakes_is_not_written():
    put({"id": "a", "secret": "short"})
    before = Path(FILE).read_text()
    done = run("rotate")
    assert done.exit_code == 1
    assert f"{FILE}:1:" in done.stderr
    assert Path(FILE).read_text() == before


def test_where_no_gateway_runs_it_is_done_and_said_so():
    configured = {"app_tokens": {"secrets_file": FILE}, "admin": {"token": "t", "port": 1}}
    Path("gateway.yaml").write_text(json.dumps(configured))
    done = run("rotate", "--output", "json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["reloaded"] is False
    assert "the file is written, but the gateway does not use it: no gateway answers" in done.stderr
    assert json.loads(Path(FILE).read_text())["secrets"]
    Path(FILE).unlink()
    assert run("rotate", "--no-reload").exit_code == 0


def test_show_tells_ids_and_times_and_no_secret():
    put(
        {"id": "new", "secret": SECRET[::-1], "signs_from": "2999-01-01"},
        {
            "id": "now",
            "secret": SECRET[::-1],
            "signs_from": "2026-01-01",
            "retires_at": "2999-01-08",
        },
        {"id": "old", "secret": SECRET[::-1], "retires_at": "2026-01-08"},
    )
    done = run("show", "--output", "json")
    rows = json.loads(done.stdout)
    assert [(row["id"], row["state"]) for row in rows] == [
        ("k1", "verifies"),
        ("new", "verifies, signs later"),
        ("now", "signs"),
        ("old", "retired"),
    ]
    assert [row["stands_in"] for row in rows] == ["secrets"] + ["secrets_file"] * 3
    assert (rows[2]["signs_from"], rows[2]["retires_at"]) == (
        "2026-01-01T00:00:00",
        "2999-01-08T00:00:00",
    )
    for text in (done.stdout, run("show").stdout):
        assert SECRET not in text
        assert SECRET[::-1] not in text


def test_what_legacy_tokens_are_verified_with_is_shown_until_its_date():
    configure(legacy={"secret": SECRET[::-1], "until": "2999-01-01"})
    done = run("show", "--output", "json")
    assert json.loads(done.stdout)[-1] == {
        "id": "-",
        "state": "verifies",
        "signs_from": None,
        "retires_at": "2999-01-01T00:00:00",
        "stands_in": "legacy",
    }
    assert SECRET[::-1] not in done.stdout
    configure(legacy={"secret": SECRET[::-1], "until": "2026-01-01"})
    assert json.loads(run("show", "--output", "json").stdout)[-1]["state"] == "retired"


def test_a_secret_that_waits_for_its_variable_is_shown_as_unset(monkeypatch):
    monkeypatch.delenv("GATEWAY_TOKEN_SECRET")
    configure()
    assert [row["state"] for row in json.loads(run("show", "--output", "json").stdout)] == ["unset"]


def test_with_a_file_the_default_secret_is_not_asked_for(monkeypatch):
    monkeypatch.delenv("GATEWAY_TOKEN_SECRET")
    put({"id": "a", "secret": SECRET})
    tokens = load_settings(Path("gateway.yaml"), {}).app_tokens
    assert [key.id for key in tokens.keys] == ["a"]


@pytest.mark.parametrize(
    ("arrange", "complaint"),
    [
        (lambda: None, "gateway.yaml:1:33: app_tokens.secrets_file is not there; `gateway tokens"),
        (
            lambda: put({"id": "k1", "secret": SECRET}),
            "gateway.yaml:1:33: app_tokens.secrets_file has 'k1', as app_tokens.secrets; rename",
        ),
        (lambda: put({"id": "a"}), f"{FILE}:1:14: secrets[0].secret is missing"),
        (
            lambda: (put(), Path(FILE).chmod(0o644)),
            "gateway.yaml:1:33: app_tokens.secrets_file is open to others than its owner (mode",
        ),
    ],
)
def test_settings_are_refused_with_a_file_that_can_not_be_used(arrange, complaint):
    arrange()
    with pytest.raises(ConfigurationError) as raised:
        load_settings(Path("gateway.yaml"), {"GATEWAY_TOKEN_SECRET": SECRET})
    (told,) = raised.value.complaints
    assert told.startswith(complaint)

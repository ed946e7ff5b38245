"""Secrets of app tokens: which signs, which verify, and the file that rotation keeps them in."""

import fcntl
import json
import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway.errors import ConfigurationError
from gateway.tokenfile import FileRefused, TokenKey, iso, read_token_file, rotate, signer

NOW = 1_800_000_000.75
LIFETIME = 3600
SECRET = "a secret of at least 32 bytes, really"


def key(name: str, signs_from: float | None = None, retires_at: float | None = None) -> TokenKey:
    times = {"signs_from": signs_from, "retires_at": retires_at}
    return TokenKey.model_construct(id=name, secret=SecretStr(SECRET), **times)


def turn(path: Path, *others: TokenKey, now: float = NOW, ahead: float = 60, overlap: float = 3630):
    return rotate(path, others, now=now, ahead=ahead, overlap=overlap)


def times(path: Path) -> dict[str, tuple[float | None, float | None]]:
    return {key.id: (key.signs_from, key.retires_at) for key in read_token_file(path)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


@pytest.mark.parametrize(
    ("keys", "signs"),
    [
        ((), None),
        ((key("a"), key("b")), "a"),
        ((key("a"), key("b", NOW - 1)), "b"),
        ((key("a"), key("b", NOW + 1)), "a"),
        ((key("a", NOW - 2), key("b", NOW - 1)), "b"),
        ((key("a", NOW - 1), key("b", NOW - 2)), "a"),
        ((key("a"), key("b", NOW)), "b"),
        ((key("a"), key("b", NOW - 1, NOW)), "a"),
        ((key("a"), key("b", NOW - 1, NOW + 1)), "b"),
        ((key("a", NOW + 1),), None),
        ((key("a", None, NOW),), None),
        ((TokenKey(id="unset"), key("b")), "b"),
    ],
)
def test_the_newest_whose_time_has_come_signs(keys, signs):
    found = signer(keys, NOW)
    assert (found and found.id) == signs


def test_the_first_rotation_makes_a_file_for_its_owner_alone_and_signs_at_once(path):
    rotated = turn(path)
    assert path.stat().st_mode & 0o777 == 0o600
    (new,) = read_token_file(path)
    assert new == rotated.new
    assert (new.signs_from, new.retires_at, rotated.former) == (int(NOW), None, None)
    assert len(new.secret.get_secret_value()) >= 32


def test_a_later_one_signs_after_a_while_and_the_former_stays_for_its_tokens(path):
    first = turn(path).new
    second = turn(path, now=NOW + 100)
    begins = int(NOW + 160)
    assert times(path) == {second.new.id: (begins, None), first.id: (int(NOW), begins + 3630)}
    assert second.former == read_token_file(path)[1]
    assert second.new.secret != first.secret


def test_the_last_token_of_the_former_expires_before_it_retires(path):
    """A gateway whose clock is late signs with it until its own clock says otherwise."""
    first = turn(path).new
    turn(path, now=NOW + 100)
    (begins, _), (_, ends) = times(path).values()
    for late in (0, 30):
        clock_of_late_one = begins - 0.001
        assert signer(read_token_file(path), clock_of_late_one).id == first.id
        assert clock_of_late_one + LIFETIME <= ends - late


def test_a_secret_of_the_settings_is_replaced_and_left_to_them(path):
    rotated = turn(path, key("k1"))
    assert rotated.former == key("k1")
    assert times(path) == {rotated.new.id: (int(NOW + 60), None)}
    assert signer((key("k1"), *read_token_file(path)), NOW).id == "k1"
    assert signer((key("k1"), *read_token_file(path)), NOW + 60).id == rotated.new.id


def test_those_that_have_retired_are_dropped_and_named(path):
    first = turn(path).new
    second = turn(path, now=NOW + 100).new
    third = turn(path, now=NOW + 5000)
    assert third.dropped == (first.id,)
    assert list(times(path)) == [third.new.id, second.id]


def test_a_retirement_comes_earlier_but_never_later(path):
    first = turn(path).new
    turn(path, now=NOW + 100)
    ends = times(path)[first.id][1]
    turn(path, now=NOW + 200)
    assert times(path)[first.id][1] == ends
    turn(path, now=NOW + 300, ahead=0, overlap=0)
    new, *others = read_token_file(path)
    assert new.retires_at is None
    assert {other.retires_at for other in others} == {int(NOW + 300)}


def test_one_rotation_at_a_time(path):
    turn(path)
    turn(path, now=NOW + 100)
    before = path.read_text()
    with pytest.raises(FileRefused, match="does not sign yet"):
        turn(path, now=NOW + 120)
    with pytest.raises(FileRefused, match="does not sign yet"):
        turn(path, key("k1", NOW + 1000), now=NOW + 200)
    assert path.read_text() == before


def test_two_commands_do_not_write_at_once(path):
    turn(path)
    before = path.read_text()
    folder = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with pytest.raises(FileRefused, match="by another command"):
        turn(path, now=NOW + 100)
    os.close(folder)
    assert path.read_text() == before
    turn(path, now=NOW + 100)


def test_the_file_keeps_its_mode_and_its_link_and_nothing_else_is_left(path, tmp_path):
    turn(path)
    path.chmod(0o400)
    link = tmp_path / "link"
    link.symlink_to(path.name)
    before = path.stat().st_ino
    turn(link, now=NOW + 100)
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o400
    assert path.stat().st_ino != before  # replaced, never written in place
    assert {entry.name for entry in tmp_path.iterdir()} == {"tokens.json", "link"}


def test_what_can_not_be_put_in_place_changes_nothing(path, tmp_path, monkeypatch):
    turn(path)
    before = path.read_text()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(FileRefused, match="can't be written: no space left on device"):
        turn(path, now=NOW + 100)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o606, 0o611, 0o644])
def test_a_file_that_others_may_open_is_refused(path, mode):
    turn(path)
    path.chmod(mode)
    with pytest.raises(FileRefused, match=rf"\(mode {mode:04o}\); chmod 600 .*tokens.json"):
        read_token_file(path)
    with pytest.raises(FileRefused):
        turn(path, now=NOW + 100)


@pytest.mark.parametrize("missing", ["tokens.json", "no/such/folder/tokens.json"])
def test_a_file_that_is_not_there_is_told(tmp_path, missing):
    with pytest.raises(FileRefused, match="is not there; `gateway tokens rotate` makes it"):
        read_token_file(tmp_path / missing)


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileRefused, match="can't be written: no such file or directory"):
        turn(tmp_path / "no" / "tokens.json")


def test_it_may_be_written_by_hand_in_yaml(path):
    path.touch(0o600)
    path.write_text(
        "secrets:  # ours\n"
        f"  - {{id: a, secret: '{SECRET}', signs_from: 2027-01-15T09:00:00+01:00}}\n"
        f"  - {{id: b, secret: '{SECRET}', retires_at: 2027-01-15}}\n"
    )
    a, b = read_token_file(path)
    assert (iso(a.signs_from), iso(b.retires_at)) == ("2027-01-15T08:00:00", "2027-01-15T00:00:00")


GOOD = {"id": "a", "secret": SECRET}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([], "must be fields with values"),
        ({"secret": []}, "unknown field"),
        ({"secrets": [{"id": "a"}]}, "secrets[0].secret is missing"),
        ({"secrets": [GOOD | {"secret": "short"}]}, "must have at least 32 bytes"),
        ({"secrets": [GOOD | {"secret": "${GATEWAY_TOKEN_SECRET}"}]}, "this file reads no ${NAME}"),
        ({"secrets": [GOOD, GOOD]}, "has 'a' twice"),
        ({"secrets": [GOOD | {"id": "a b"}]}, "secrets[0].id must be"),
        ({"secrets": [GOOD | {"signs_from": "soon"}]}, "secrets[0].signs_from must be a time as"),
        ({"secrets": [GOOD | {"retires_at": 1_800_000_000}]}, "secrets[0].retires_at must be a"),
        ({"secrets": [GOOD | {"retire_at": None}]}, "did you mean 'retires_at'?"),
        ({"secrets": [GOOD | {f"secret:{SECRET}": None}]}, "unknown field in secrets[0]; "),
    ],
)
def test_a_mistake_is_told_with_its_place_and_no_secret(path, content, complaint, monkeypatch):
    monkeypatch.setenv("GATEWAY_TOKEN_SECRET", SECRET)
    path.touch(0o600)
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigurationError) as raised:
        read_token_file(path)
    (told,) = raised.value.complaints
    assert told.startswith(f"{path}:1:")
    assert complaint in told
    assert SECRET not in told
    with pytest.raises(ConfigurationError):
        turn(path)


def test_a_name_given_twice_is_not_shown(path):
    path.touch(0o600)
    path.write_text(f"secrets: [{{secret:{SECRET[:8]}: 1, secret:{SECRET[:8]}: 2}}]")
    with pytest.raises(ConfigurationError) as raised:
        read_token_file(path)
    assert "this was given already in line 1" in str(raised.value.complaints)
    assert SECRET[:8] not in str(raised.value.complaints)


def test_no_secret_is_shown_by_any_of_it(path):
    rotated = turn(path)
    assert rotated.new.secret.get_secret_value() not in repr((rotated, read_token_file(path)))

"""Secrets in files: who else may read them, and what of them is told."""

import os

import pytest

from gateway.errors import ConfigurationError
from gateway.secretfile import MAX_BYTES, read_secret
from gateway.settings import load_settings

VAULT_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@pytest.fixture
def file(tmp_path):
    def write(content: bytes = VAULT_KEY.encode(), mode: int = 0o600):
        path = tmp_path / "vault-key"
        path.write_bytes(content)
        path.chmod(mode)
        return path

    return write


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640, 0o700])
def test_a_file_of_its_owner_and_group_is_read_without_blanks_around(file, mode):
    assert read_secret(file(b"  canary\n\n", mode)) == "canary"


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o606, 0o602, 0o601, 0o620, 0o660])
def test_a_file_that_others_can_read_or_change_is_refused(file, mode):
    with pytest.raises(ValueError, match=rf"\(mode {mode:04o}\); `chmod 600` it"):
        read_secret(file(mode=mode))


def test_a_link_is_followed_to_what_counts(file, tmp_path):
    (tmp_path / "link").symlink_to(file(b"canary"))
    assert read_secret(tmp_path / "link") == "canary"
    file(b"canary", 0o644)
    with pytest.raises(ValueError, match="0644"):
        read_secret(tmp_path / "link")


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"canary" * MAX_BYTES, "more than 4096 bytes"), (b"canary \xc3\xa9", "ASCII text")],
)
def test_what_can_be_no_secret_is_refused_and_not_shown(file, content, why):
    with pytest.raises(ValueError, match=why) as refused:
        read_secret(file(content))
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ValueError, match="regular file"):
        read_secret(tmp_path / "pipe")
    with pytest.raises(ValueError, match="regular file"):
        read_secret(tmp_path)
    with pytest.raises(ValueError, match="can't be read: no such file"):
        read_secret(tmp_path / "none")


def test_a_vault_key_comes_from_its_file(file):
    keys = f"[{{id: v2, file: {file()}}}]"
    settings = load_settings(None, {"GATEWAY_VAULT__ENCRYPTION_KEYS": keys})
    (key,) = settings.vault.encryption_keys
    assert key.secret.get_secret_value() == VAULT_KEY
    assert settings.vault.files == (file(),)
    assert VAULT_KEY not in repr(settings)


@pytest.mark.parametrize(
    ("content", "mode", "more", "complaint"),
    [
        (b"x", 0o600, "", "3:7: vault.encryption_keys[0].secret must be base64 of exactly 32"),
        (b"", 0o600, "", "3:7: vault.encryption_keys[0].secret must be base64 of exactly 32"),
        (b"x", 0o644, "", "3:22: vault.encryption_keys[0].file can be read or changed by others"),
        (b"x", 0o600, ", secret: y", "3:22: vault.encryption_keys[0].file stands beside a secret"),
    ],
)
def test_what_is_wrong_with_it_is_told_with_its_place(
    file, tmp_path, content, mode, more, complaint
):
    path = file(content, mode)
    settings = tmp_path / "gateway.yaml"
    settings.write_text(f"vault:\n  encryption_keys:\n    - {{id: v2, file: {path}{more}}}\n")
    with pytest.raises(ConfigurationError) as refused:
        load_settings(settings, {})
    assert refused.value.complaints[0].startswith(f"{settings}:{complaint}")

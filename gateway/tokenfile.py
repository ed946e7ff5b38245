"""Secrets that app tokens are verified with, and the file that `gateway tokens rotate` keeps.

`app_tokens.secrets_file` names it: YAML (or JSON, as `rotate` writes it), for its owner alone.

    secrets:
      - {id: k2026-11-28-9f3c, secret: ..., signs_from: "2026-11-28T10:01:00", retires_at: null}

Rules: whatever is not retired verifies, the newest whose `signs_from` has passed signs. So a new
secret is in every gateway before any of them signs with it, and the former one verifies until the
last token that it signed has expired: nobody is signed out. The file is replaced as a whole; who
reads it sees what was before or what came after.
"""

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from gateway.complaints import Model, check
from gateway.errors import ConfigurationError
from gateway.fields import Moment, Name, ScopeWord, Text, TokenSecret
from gateway.yamlfile import Document, Loc

CLOCK_SKEW_SECONDS = 30  # between gateways
SECRET_BYTES = 48  # of randomness, 64 characters


class TokenKey(Model):
    id: Name
    """Named in the token's header, so that secrets can be replaced one after the other."""
    secret: TokenSecret = None
    """Text of at least 32 bytes."""
    signs_from: Moment | None = None
    """Until this time (UTC) it only verifies; null: it may sign."""
    retires_at: Moment | None = None
    """From this time on it doesn't even verify; null: it stays."""

    def is_retired(self, now: float) -> bool:
        return self.retires_at is not None and self.retires_at <= now

    def may_sign(self, now: float) -> bool:
        begun = self.signs_from is None or self.signs_from <= now
        return self.secret is not None and begun and not self.is_retired(now)


class TokenFile(Model):
    """All of the file."""

    secrets: tuple[TokenKey, ...] = ()


class LegacyTokenSettings(Model):
    secret: TokenSecret = None
    """What the platform signed them with; at least 32 bytes, as ours."""
    until: Moment
    """From this time (UTC) on none of them is taken, expired or not."""
    user_claim: Text = "sub"
    """The claim that names the user."""
    user_is: Literal["id", "email"] = "id"
    """What it holds: the user's id, as text or number, or their email."""
    issuer: Text | None = None
    """`iss` that they must have; null: it is not looked at."""
    audience: Text | None = None
    """`aud` that they must have; null: it is not looked at."""
    claims: dict[str, str | bool | int] = Field(default_factory=dict)
    """Further claims that they must have with these values, as in {type: access}."""
    kid: Text | None = None
    """The `kid` in their header; null: they have none."""
    scope: tuple[ScopeWord, ...] = ("user",)
    """What each of them is good for, whatever it says itself."""


class FileRefused(Exception):
    """The file is not read, or not written; the message is the rest of a sentence about it."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation did. `former` signed until now, as it stands from now on."""

    new: TokenKey
    former: TokenKey | None
    dropped: tuple[str, ...]  # ids of those that had retired


def signer(keys: Iterable[TokenKey], now: float) -> TokenKey | None:
    """The newest that signs by `now` (Unix seconds); of those without a time, the first."""
    able = (key for key in keys if key.may_sign(now))
    return max(able, key=lambda key: key.signs_from or 0, default=None)


def read_token_file(path: Path) -> tuple[TokenKey, ...]:
    """Raises FileRefused, or ConfigurationError with every problem inside."""
    try:
        mode = path.stat().st_mode & 0o777
    except FileNotFoundError:
        raise FileRefused("is not there; `gateway tokens rotate` makes it") from None
    except OSError as error:
        raise FileRefused(f"can't be read: {_why(error)}") from None
    if mode & 0o077:
        raise FileRefused(f"is open to others than its owner (mode {mode:04o}); chmod 600 {path}")
    document = Document.read(path, {}, private=True)
    checked = check(document, TokenFile, ())
    keys = () if checked.model is None else checked.model.secrets
    for index, key in enumerate(keys):
        at: Loc = ("secrets", index)
        if key.secret is None and checked.sound((*at, "secret")):
            document.complain(
                at, f"secrets[{index}].secret is missing; this file reads no ${{NAME}}"
            )
        if any(key.id == other.id for other in keys[:index]):
            document.complain((*at, "id"), f"secrets has '{key.id}' twice; rename one")
    if document.complaints:
        raise ConfigurationError(document.complaints)
    return keys


def rotate(
    path: Path, others: Sequence[TokenKey], *, now: float, ahead: float, overlap: float
) -> Rotated:
    """Add a new secret that signs `ahead` seconds from `now` (Unix seconds), and have the one that
    signs until then retire `overlap` seconds later. `others` are those that stand elsewhere.

    Where nothing signs yet, the new one does at once. Raises FileRefused; ConfigurationError for a
    file with mistakes.
    """
    target = path.resolve()
    with _locked(target):
        known = read_token_file(target) if target.exists() else ()
        if any(key.signs_from is not None and key.signs_from > now for key in (*others, *known)):
            raise FileRefused("has a secret that does not sign yet; wait until it does")
        former = signer((*others, *known), now)
        signs_from = float(int(now + ahead)) if former else float(int(now))
        new = TokenKey.model_construct(
            id=_new_id(now),
            secret=SecretStr(secrets.token_urlsafe(SECRET_BYTES)),
            signs_from=signs_from,
        )
        retires_at = signs_from + overlap
        kept = []
        for key in known:
            if key.is_retired(now):
                continue
            ends = min(key.retires_at or retires_at, retires_at)
            kept.append(key.model_copy(update={"retires_at": ends}))
        _replace(target, (new, *kept))
    return Rotated(
        new,
        next((key for key in kept if former and key.id == former.id), former),
        tuple(key.id for key in known if key.is_retired(now)),
    )


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Alone in the file's folder, which is on disk with all that was renamed in it afterwards."""
    try:
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise FileRefused(f"can't be written: {_why(error)}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
        os.fsync(folder)
    except BlockingIOError:
        raise FileRefused("is being written by another command") from None
    finally:
        os.close(folder)


def _replace(target: Path, keys: Sequence[TokenKey]) -> None:
    """Write the file anew beside itself, and put it in its place; mode and owner stay."""
    text = json.dumps({"secrets": [_written(key) for key in keys]}, indent=2) + "\n"
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        before = target.stat() if target.exists() else None
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(file, "w", encoding="utf-8") as writing:
                if before is not None:
                    os.fchmod(file, before.st_mode & 0o777)
                    os.fchown(file, before.st_uid, before.st_gid)
                writing.write(text)
                writing.flush()
                os.fsync(file)
            beside.rename(target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FileRefused(f"can't be written: {_why(error)}") from None


def _written(key: TokenKey) -> dict[str, str | None]:
    assert key.secret is not None
    return {
        "id": key.id,
        "secret": key.secret.get_secret_value(),
        "signs_from": iso(key.signs_from),
        "retires_at": iso(key.retires_at),
    }


def iso(seconds: float | None) -> str | None:
    """As times are told everywhere: UTC, without offset."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _new_id(now: float) -> str:
    """One that no secret had before, and that tells its day."""
    return f"k{datetime.fromtimestamp(now, UTC):%Y-%m-%d}-{secrets.token_hex(4)}"


def _why(error: OSError) -> str:
    return (error.strerror or "unknown error").lower()

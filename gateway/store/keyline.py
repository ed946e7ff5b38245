"""A plan key as a line of a file: a JSON object with its sha256 and its record, never the key.

The names are those that Redis has (ARCHITECTURE.md), and `plan` and `plan_expires_at` of its user;
absent means null. What can't be taken as it stands is refused: it would shut out who holds the key.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from gateway.networks import listed
from gateway.store.keys import KeyRecord
from gateway.store.times import iso_utc, unix_seconds
from gateway.yamlfile import did_you_mean

LONGEST_LINE = 16_384  # bytes, or characters
LONGEST_NAME = 100
LARGEST_USER_ID = 2**53 - 1  # as users.py has it
FORM = 'must be a JSON object, as in {"sha256": "...", "id": "k_...", "user_id": 42}'
RECORD = tuple(one.name for one in fields(KeyRecord) if one.init)
OF_USER = ("plan", "plan_expires_at")
KNOWN = ("sha256", *RECORD, *OF_USER)

_DIGEST = re.compile("[0-9a-f]{64}").fullmatch
_ID = re.compile("[!-~]{1,200}").fullmatch
_USER = re.compile("[1-9][0-9]{0,15}").fullmatch
_SECONDS = re.compile("[0-9]{1,12}").fullmatch


@dataclass(frozen=True, slots=True)
class KeyLine:
    """`record` is what Redis is to hold, `id` first and `user_id` second. No plan is ''."""

    sha256: str
    record: Mapping[str, str]
    plan: str
    plan_expires_at: str


def write(sha256: str, record: Mapping[str, str], user: Mapping[str, str]) -> str:
    """`record` and `user` as Redis holds them, `user` empty if there is none."""
    line: dict[str, Any] = {"sha256": sha256}
    line |= {name: record[name] for name in RECORD if name in record}
    line |= {name: user[name] for name in OF_USER if name in user}
    for name, is_number in (("user_id", _USER), ("silent_for", _SECONDS)):
        if is_number(line.get(name, "")):
            line[name] = int(line[name])
    return json.dumps(line)


def parse(text: str, plans: Sequence[str]) -> KeyLine:
    """`plans` are those that there are. Raises ValueError, which never shows what stands there."""
    if len(text) > LONGEST_LINE:
        raise ValueError(f"must have at most {LONGEST_LINE} bytes")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise ValueError(FORM)  # noqa: TRY004  # of the text, whatever it holds
    for name in given:
        if name not in KNOWN:
            raise ValueError(f"has an unknown field{did_you_mean(name, KNOWN)}")
    good: dict[str, str] = {}
    for name in KNOWN:
        value = given.get(name)
        if value is not None:
            try:
                good[name] = _FORMS[name](value)
            except ValueError as error:
                raise ValueError(f"{name} {error}") from None
        elif name in _NEEDED:
            raise ValueError(f"{name} is missing")
    sha256, plan, ends = (good.pop(name, "") for name in ("sha256", *OF_USER))
    if plan and plan not in plans:
        raise ValueError(f"plan is none that the settings name{did_you_mean(plan, plans)}")
    return KeyLine(sha256, good, plan, ends)


def _sha256(value: Any) -> str:
    if not isinstance(value, str) or not _DIGEST(value):
        raise ValueError("must be 64 hex digits in lower case, of the whole key")
    return value


def _id(value: Any) -> str:
    if not isinstance(value, str) or not _ID(value):
        raise ValueError("must be one word of at most 200 characters")
    if value.startswith("pk_"):
        raise ValueError("must not be the key itself, which is a secret")
    return value


def _user(value: Any) -> str:
    text = str(value) if type(value) in (int, str) else ""
    if not _USER(text) or int(text) > LARGEST_USER_ID:
        raise ValueError(f"must be a whole number from 1 to {LARGEST_USER_ID}")
    return text


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME or not value.isprintable():
        raise ValueError(f"must be 1 to {LONGEST_NAME} printable characters")
    return value


def _moment(value: Any) -> str:
    try:
        return iso_utc(unix_seconds(value))
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise ValueError("must be a time, as in 2027-01-01T12:00:00 (UTC)") from None


def _seconds(value: Any) -> str:
    text = str(value) if type(value) in (int, str) else ""
    if not _SECONDS(text):
        raise ValueError("must be a whole number of seconds")
    return text


def _networks(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text: networks with commas between")  # noqa: TRY004  # as above
    return ",".join(map(str, listed(value)))


_NEEDED = frozenset(("sha256", "id", "user_id"))
_FORMS: Mapping[str, Callable[[Any], str]] = {
    "sha256": _sha256,
    "id": _id,
    "user_id": _user,
    "name": _name,
    "created_at": _moment,
    "expires_at": _moment,
    "revoked_at": _moment,
    "replaced_by": _id,
    "allow": _networks,
    "retires_at": _moment,
    "silent_for": _seconds,
    "plan": _name,
    "plan_expires_at": _moment,
}

"""A plan key as a line of a file: a JSON object with its sha256 and its record, never the key.

The names are those that Redis has (ARCHITECTURE.md), and `plan` and `plan_expires_at` of its user.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from gateway.networks import listed
from gateway.store import lineforms
from gateway.store.keys import KeyRecord
from gateway.yamlfile import did_you_mean

LONGEST_NAME = 100
EXAMPLE = '{"sha256": "...", "id": "k_...", "user_id": 42}'
RECORD = tuple(one.name for one in fields(KeyRecord) if one.init)
OF_USER = ("plan", "plan_expires_at")

_DIGEST = re.compile("[0-9a-f]{64}").fullmatch
_ID = re.compile("[!-~]{1,200}").fullmatch


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
    for name in NUMBERS & line.keys():
        line[name] = lineforms.number_or_text(FORMS[name], line[name])
    return json.dumps(line)


def parse(text: str, plans: Sequence[str]) -> KeyLine:
    """`plans` are those that there are. Raises ValueError."""
    good = lineforms.read(text, FORMS, NEEDED, EXAMPLE)
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


def _networks(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text: networks with commas between")  # noqa: TRY004  # as above
    return ",".join(map(str, listed(value)))


NEEDED = frozenset(("sha256", "id", "user_id"))
NUMBERS = frozenset(("user_id", "silent_for"))
FORMS: Mapping[str, lineforms.Form] = {
    "sha256": _sha256,
    "id": _id,
    "user_id": lineforms.user_id,
    "name": lineforms.name(LONGEST_NAME),
    "created_at": lineforms.moment,
    "expires_at": lineforms.moment,
    "revoked_at": lineforms.moment,
    "replaced_by": _id,
    "allow": _networks,
    "retires_at": lineforms.moment,
    "silent_for": lineforms.seconds,
    "plan": lineforms.name(LONGEST_NAME),
    "plan_expires_at": lineforms.moment,
}

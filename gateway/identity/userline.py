"""A user as a line of a file: a JSON object with the record's fields, named as in ARCHITECTURE.md.

`links` is a list of events, `unlinked` one of words. Of whom was deleted there are `id` and
`deleted_at` alone.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.identity.user import MOST_EVENTS, OF_AN_EVENT, event_line, parse
from gateway.jsonbody import normal_email
from gateway.store import lineforms
from gateway.store.lineforms import Form
from gateway.yamlfile import did_you_mean

EXAMPLE = '{"id": 42, "email": "user@example.com"}'
LONGEST_NAME = 256  # as sign-in takes it
LONGEST_TEXT = 8192
OF_DELETED = ("id", "deleted_at")

_SUBJECT = re.compile("[!-~]{1,255}").fullmatch
_WORD = re.compile("(?:google|apple):[!-~]{1,255}").fullmatch
_TIME = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?").fullmatch


def write(user_id: str, record: Mapping[str, str]) -> str:
    """`record` as Redis holds it. What can't be read of it goes out as it is, and will be told."""
    names = OF_DELETED if "deleted_at" in record else FORMS
    line: dict[str, Any] = {
        name: _OUT.get(name, str)(record[name]) for name in names if record.get(name, "") != ""
    }
    user = parse(user_id, record)
    if user is not None and not user.email_verified:
        line["email_verified"] = False
    if user is not None and user.links is not None:
        line["links"] = user.history()
    return json.dumps({**line, "id": int(user_id)})


def read(text: str, plans: Sequence[str]) -> dict[str, str]:
    """What Redis is to hold, `id` first. Raises ValueError.

    `plans` are those that there are.
    """
    good = lineforms.read(text, FORMS, ("id",), EXAMPLE)
    plan = good.get("plan")
    if plan is not None and plan not in plans:
        raise ValueError(f"plan is none that the settings name{did_you_mean(plan, plans)}")
    if "deleted_at" in good:
        return {name: good[name] for name in OF_DELETED}
    return good


def _email(value: Any) -> str:
    email = normal_email(value) if isinstance(value, str) else None
    if email is None:
        raise ValueError("must be an email address, as in user@example.com")
    return email


def _flag(value: Any) -> str:
    if type(value) is not bool:
        raise ValueError("must be true or false")
    return "1" if value else "0"


def _subject(value: Any) -> str:
    if not isinstance(value, str) or not _SUBJECT(value):
        raise ValueError("must be the provider's id of a person: up to 255 visible characters")
    return value


def _time(value: Any) -> str:
    text = str(value) if type(value) in (int, float) else ""
    if not _TIME(text):
        raise ValueError("must be a time in Unix seconds")
    return f"{float(text):.3f}"


def _text(value: Any) -> str:
    if not isinstance(value, str) or not (0 < len(value) <= LONGEST_TEXT and value.isprintable()):
        raise ValueError(f"must be 1 to {LONGEST_TEXT} printable characters")
    return value


def _words(value: Any) -> str:
    if not isinstance(value, list) or not all(
        isinstance(word, str) and _WORD(word) for word in value
    ):
        raise ValueError('must be a list of words as in "google:1067290000000000000"')
    return " ".join(value)


def _events(value: Any) -> str:
    if not isinstance(value, list) or len(value) > MOST_EVENTS:
        raise ValueError(f"must be a list of at most {MOST_EVENTS} events")
    for event in value:
        if not isinstance(event, dict) or not all(
            name in OF_AN_EVENT and (each is None or isinstance(each, str))
            for name, each in event.items()
        ):
            raise ValueError(f"must have events with texts as {', '.join(OF_AN_EVENT)}")
    return "".join(map(event_line, value))


FORMS: Mapping[str, Form] = {
    "id": lineforms.user_id,
    "email": _email,
    "email_verified": _flag,
    "name": lineforms.name(LONGEST_NAME),
    "google_id": _subject,
    "apple_id": _subject,
    "is_vip": _flag,
    "vip_expires_at": lineforms.moment,
    "created_at": lineforms.moment,
    "updated_at": lineforms.moment,
    "plan": lineforms.name(LONGEST_NAME),
    "plan_expires_at": lineforms.moment,
    "tokens_valid_after": _time,
    "last_token_at": _time,
    "revoked_tokens": _text,
    "disabled_at": lineforms.moment,
    "deleted_at": lineforms.moment,
    "unlinked": _words,
    "links": _events,
}


def _number(text: str) -> float | str:
    return float(text) if _TIME(text) else text


_OUT: Mapping[str, Callable[[str], Any]] = {
    "is_vip": lambda text: text == "1",
    "email_verified": lambda text: text == "1",
    "tokens_valid_after": _number,
    "last_token_at": _number,
    "unlinked": str.split,
}

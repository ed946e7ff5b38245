"""A line of a file as a JSON object: the forms of its values, each made into what Redis holds.

Absent means null. What can't be taken as it stands is refused: it would shut out whose it is. No
complaint shows what stands there: it could be a secret in the wrong place.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

from gateway.store.times import iso_utc, unix_seconds
from gateway.yamlfile import did_you_mean

LONGEST_LINE = 16_384  # bytes, or characters
LARGEST_USER_ID = 2**53 - 1  # as user.py has it

# Raises ValueError with the rest of a sentence that begins with the value's name.
Form: TypeAlias = Callable[[Any], str]

_USER = re.compile("[1-9][0-9]{0,15}").fullmatch
_SECONDS = re.compile("[0-9]{1,12}").fullmatch


def read(
    text: str, forms: Mapping[str, Form], needed: Collection[str], example: str
) -> dict[str, str]:
    """The values, in the order of `forms`. Raises ValueError."""
    if len(text) > LONGEST_LINE:
        raise ValueError(f"must have at most {LONGEST_LINE} bytes")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise ValueError(f"must be a JSON object, as in {example}")  # noqa: TRY004  # of the text
    for name in given:
        if name not in forms:
            raise ValueError(f"has an unknown field{did_you_mean(name, list(forms))}")
    good: dict[str, str] = {}
    for name, form in forms.items():
        value = given.get(name)
        if value is not None:
            try:
                good[name] = form(value)
            except ValueError as error:
                raise ValueError(f"{name} {error}") from None
        elif name in needed:
            raise ValueError(f"{name} is missing")
    return good


def user_id(value: Any) -> str:
    text = str(value) if type(value) in (int, str) else ""
    if not _USER(text) or int(text) > LARGEST_USER_ID:
        raise ValueError(f"must be a whole number from 1 to {LARGEST_USER_ID}")
    return text


def name(longest: int) -> Form:
    """Of at most so many characters."""

    def form(value: Any) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= longest or not value.isprintable():
            raise ValueError(f"must be 1 to {longest} printable characters")
        return value

    return form


def moment(value: Any) -> str:
    try:
        return iso_utc(unix_seconds(value))
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise ValueError("must be a time, as in 2027-01-01T12:00:00 (UTC)") from None


def seconds(value: Any) -> str:
    text = str(value) if type(value) in (int, str) else ""
    if not _SECONDS(text):
        raise ValueError("must be a whole number of seconds")
    return text


def number_or_text(form: Form, text: str) -> int | str:
    """How a value that Redis holds goes out: as a number if it comes in as one."""
    try:
        return int(form(text))
    except ValueError:
        return text

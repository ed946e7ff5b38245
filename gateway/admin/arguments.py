"""What operations take: each parser makes the value an operation works with of one from outside.

The same parsers serve the command line and the admin API, so a value that one refuses the other
refuses too, in the same words. A parser raises BadArgument with the rest of a sentence that begins
with the argument's name; it never repeats what was given, which could be a secret.
"""

import ipaddress
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from gateway.identity.user import LARGEST_ID
from gateway.jsonbody import normal_email
from gateway.networks import listed
from gateway.store.times import has_passed, iso_utc, unix_seconds

MAX_NAME_LENGTH = 100
MAX_WORD_LENGTH = 200

MOST_DAYS = 400
MOST_LINES = 1000
LONGEST_SECONDS = 3650 * 86_400
SHORTEST_SILENCE_SECONDS = 30
# What `keys usage` does not tell, by what it was asked for.
LEFT_OUT: Mapping[str | None, frozenset[str]] = {
    None: frozenset(),
    "day": frozenset({"by_route"}),
    "route": frozenset({"by_day"}),
}

_DURATION = re.compile(r"(\d{1,9})([smhd])", re.ASCII).fullmatch
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d:\d\d)?)?", re.ASCII
).fullmatch

Parser = Callable[[Any], Any]


class Refused(Exception):
    """An operation that is not done; the message says what, where and what to do."""


class BadArgument(Refused):
    """An argument is missing, unknown or not of its form: the caller's mistake."""


def user_id(value: Any) -> int:
    """A positive whole number; a bool is none."""
    if type(value) is not int or not 0 < value <= LARGEST_ID:
        raise BadArgument(f"must be a whole number from 1 to {LARGEST_ID}")
    return value


def name(value: Any) -> str:
    """What people call it: printable, since it is shown in terminals and logs."""
    text = _text(value).strip()
    if not text or len(text) > MAX_NAME_LENGTH or not text.isprintable():
        raise BadArgument(f"must be 1 to {MAX_NAME_LENGTH} printable characters")
    return text


def key_id(value: Any) -> str:
    """What names a key without being it."""
    text = word(value)
    if text.startswith("pk_"):
        raise BadArgument("must be the key's id (k_...), not the key itself, which is a secret")
    return text


def token_id(value: Any) -> str:
    """What names a token without being it."""
    text = word(value)
    if text.startswith(("eyJ", "rt_")):
        raise BadArgument("must be the token's id (its jti), not the token itself, a secret")
    return text


def word(value: Any) -> str:
    """Visible, without blanks."""
    text = _text(value)
    if not text or len(text) > MAX_WORD_LENGTH or not text.isprintable() or " " in text:
        raise BadArgument("must be one word")
    return text


def secret(value: Any) -> str:
    """A secret's form is checked where it is used."""
    return _text(value)


def email(value: Any) -> str:
    """Trimmed and lower-cased, as emails are stored."""
    address = normal_email(_text(value))
    if address is None:
        raise BadArgument("must be an email address, as in user@example.com")
    return address


def ip(value: Any) -> str:
    """An address, or the network that an IPv6 address is limited by, as `ips list` shows it."""
    text = _text(value).strip()
    try:
        ipaddress.ip_network(text, strict=False) if "/" in text else ipaddress.ip_address(text)
    except ValueError:
        raise BadArgument(
            "must be an IP address, or a network as `gateway ips list` shows it"
        ) from None
    return text


def networks(value: Any) -> str:
    """Networks with commas between, each in its canonical form."""
    try:
        return ",".join(map(str, listed(_text(value))))
    except ValueError as error:
        raise BadArgument(str(error)) from None


def no_longer(word: str, parse: Parser) -> Parser:
    """What `parse` takes, or `word` for "none any more", which becomes ''."""

    def parse_or_none(value: Any) -> Any:
        return "" if value == word else parse(value)

    return parse_or_none


def moment(value: Any) -> str:
    """A date (its first second) or a date and time, UTC unless it names an offset.

    It becomes the form that Redis holds.
    """
    text = _text(value)
    try:
        if not _MOMENT(text):
            raise ValueError
        return iso_utc(unix_seconds(text))
    except (ValueError, OverflowError):
        raise BadArgument("must be a date as in 2027-01-01, or 2027-01-01T12:00:00 (UTC)") from None


def future(value: Any) -> str:
    """A moment that has not passed."""
    at = moment(value)
    if has_passed(at, time.time()):
        raise BadArgument("must be in the future")
    return at


def duration(value: Any) -> int:
    """Seconds, of a number with a unit."""
    found = _DURATION(_text(value))
    seconds = int(found[1]) * _UNITS[found[2]] if found else -1
    if not 0 <= seconds <= LONGEST_SECONDS:
        raise BadArgument("must be a duration as in 7d, 24h, 90m or 30s, at most ten years")
    return seconds


def silence(value: Any) -> int:
    """A duration, in seconds; workers need some of it to tell of each use."""
    seconds = duration(value)
    if seconds < SHORTEST_SILENCE_SECONDS:
        raise BadArgument(f"must be {SHORTEST_SILENCE_SECONDS}s or more")
    return seconds


def days(value: Any) -> int:
    if type(value) is not int or not 0 < value <= MOST_DAYS:
        raise BadArgument(f"must be a whole number from 1 to {MOST_DAYS}")
    return value


def provider(value: Any) -> str:
    """Who proves a person at sign-in."""
    text = _text(value)
    if text not in ("google", "apple"):
        raise BadArgument("must be google or apple")
    return text


def flag(value: Any) -> bool:
    if type(value) is not bool:
        raise BadArgument("must be true or false")
    return value


def by(value: Any) -> str:
    """What usage is told by."""
    text = _text(value)
    if text not in LEFT_OUT:
        raise BadArgument("must be day or route")
    return text


def lines(value: Any) -> list[str]:
    """Of a file; each is checked where it is taken."""
    if not isinstance(value, list) or len(value) > MOST_LINES:
        raise BadArgument(f"must be a list of at most {MOST_LINES} texts")
    return [_text(line) for line in value]


def line_number(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise BadArgument("must be a whole number from 1")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadArgument("must be text")
    return value

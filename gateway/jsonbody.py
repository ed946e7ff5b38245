"""JSON bodies that the gateway itself reads: one strict parser, one way to say what is wrong.

Used by the sign-in and registered-key endpoints and by the patterns that find their credential in
the body. Strict means: two parsers must not be able to read one body differently (RFC 8259 §4 and
§8), so names are unique, the text is UTF-8 without a mark, and there is no NaN. Complaints take
FastAPI's 422 list form and never hold what was sent.
"""

import json
import unicodedata
from collections.abc import Sequence
from typing import Any, NoReturn

from gateway.errors import Invalid, Problem

MAX_EMAIL_BYTES = 254  # RFC 5321 §4.5.3.1.3, less the angle brackets
MAX_DEPTH = 64
MAX_PARTS = 20_000  # commas and opening brackets: a mebibyte of `{},` would take 0.1 s to read


class _RepeatedNameError(ValueError):
    """An object has one name twice: which of the two counts is anybody's guess."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _RepeatedNameError
    return value


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("not JSON")  # NaN, Infinity, -Infinity


def _finite(digits: str) -> float:
    value = float(digits)
    if value - value != 0:  # 1e999: no other parser is bound to read the same
        raise ValueError("out of range")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite
)


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises Invalid for anything else."""
    if not body:
        raise Invalid([{"loc": ["body"], "msg": "Field required", "type": "missing"}])
    if body.count(b",") + body.count(b"{") + body.count(b"[") > MAX_PARTS:
        raise Invalid([{"loc": ["body"], "msg": "Too many parts", "type": "too_long"}])
    try:
        value = _DECODER.decode(body.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise _not_json(error.pos) from None
    except UnicodeDecodeError as error:
        raise _not_json(error.start) from None
    except _RepeatedNameError:
        raise Invalid(
            [{"loc": ["body"], "msg": "Object names must be unique", "type": "json_invalid"}]
        ) from None
    except (ValueError, RecursionError):
        # A constant that JSON lacks, a number past Python's bounds, a bomb of brackets: the
        # parser doesn't say where.
        raise _not_json(0) from None
    if value is None:  # to FastAPI the same as no body
        raise Invalid([{"loc": ["body"], "msg": "Field required", "type": "missing"}])
    if not isinstance(value, dict):
        raise Invalid(
            [
                {
                    "loc": ["body"],
                    "msg": "Input should be a valid dictionary or object to extract fields from",
                    "type": "model_attributes_type",
                }
            ]
        )
    if _deeper_than(value, MAX_DEPTH):
        raise _not_json(0)
    return value


def _not_json(position: int) -> Invalid:
    return Invalid(
        [{"loc": ["body", position], "msg": "JSON decode error", "type": "json_invalid"}]
    )


def _deeper_than(value: Any, depth: int) -> bool:
    """Does `value` nest deeper than `depth`? Breadth first, so that it can't overflow itself."""
    level = [value]
    for _ in range(depth):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def require_strings(
    body: dict[str, Any], names: Sequence[str], *, max_length: int | None = None
) -> tuple[str, ...]:
    """The values of `names`, in that order: each a non-empty string of at most `max_length`
    characters that UTF-8 can write.

    Raises Invalid with every field that is not.
    """
    found = (_string_problem(body, name, max_length) for name in names)
    problems = [problem for problem in found if problem is not None]
    if problems:
        raise Invalid(problems)
    return tuple(body[name] for name in names)


def require_string(body: dict[str, Any], name: str, *, max_length: int | None = None) -> str:
    """As `require_strings`, for one field."""
    return require_strings(body, (name,), max_length=max_length)[0]


def require_email(body: dict[str, Any], name: str) -> str:
    """The value of `name` as `normal_email` makes it. Raises Invalid if it is none."""
    email = normal_email(require_string(body, name))
    if email is None:
        raise Invalid(
            [
                {
                    "loc": ["body", name],
                    "msg": "value is not a valid email address",
                    "type": "value_error",
                }
            ]
        )
    return email


def _string_problem(body: dict[str, Any], name: str, max_length: int | None) -> Problem | None:
    loc: list[str | int] = ["body", name]
    if name not in body:
        return {"loc": loc, "msg": "Field required", "type": "missing"}
    value = body[name]
    if not isinstance(value, str):
        return {"loc": loc, "msg": "Input should be a valid string", "type": "string_type"}
    if not value:
        return {
            "loc": loc,
            "msg": "String should have at least 1 character",
            "type": "string_too_short",
        }
    if max_length is not None and len(value) > max_length:
        return {
            "loc": loc,
            "msg": f"String should have at most {max_length} characters",
            "type": "string_too_long",
        }
    if not _writable(value):
        return {
            "loc": loc,
            "msg": "Input should be a valid string, unable to parse raw data as a unicode string",
            "type": "string_unicode",
        }
    return None


def _writable(text: str) -> bool:
    """Is `text` free of lone surrogates, which JSON can spell and UTF-8 can't?"""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def normal_email(text: str) -> str | None:
    """`text` trimmed and lower-cased, the form under which emails are stored; None if it is none.

    A form check only: one @ with something on both sides, nothing blank or unprintable, at most
    254 bytes. A character beyond ASCII whose lower case is ASCII (the Kelvin sign) is refused,
    because it would turn one person's address into another's.
    """
    trimmed = text.strip()
    if any(ch > "\x7f" and ch.lower() < "\x80" for ch in trimmed):
        return None
    email = trimmed.lower()
    local, at, domain = email.partition("@")
    if not (local and at and domain) or "@" in domain:
        return None
    if any(ch.isspace() or unicodedata.category(ch)[0] == "C" for ch in email):
        return None
    return email if len(email.encode()) <= MAX_EMAIL_BYTES else None

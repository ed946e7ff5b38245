"""Rows that the gateway does not meet yet, each with the reason: they fail, and must be seen to."""

from case import Case

WHOLE, BYTEWISE = "whole", "bytewise"

DEFECTS: dict[str, tuple[str, str]] = {}


def defect(case: Case, *, bytewise: bool) -> str | None:
    """Why `case` fails in this way, if it does."""
    way, reason = DEFECTS.get(case.name, (None, None))
    return reason if way in ("", BYTEWISE if bytewise else WHOLE) else None

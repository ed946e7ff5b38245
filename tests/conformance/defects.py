"""Rows that the gateway does not meet yet, each with the reason: they fail, and must be seen to."""

from case import Case

WHOLE, BYTEWISE = "whole", "bytewise"
LOST = "aiohttp's parser loses the requests that it parsed before a bad one of the same read"
LEADING = "llhttp skips any CR and LF before a request line; the parsed message does not tell"
RTSP = "llhttp takes RTSP/1.0 for HTTP/1.0; the parsed message does not tell"

DEFECTS: dict[str, tuple[str, str]] = {
    "what follows close is not read": (WHOLE, LOST),
    "what follows in HTTP/1.0 is not read": (WHOLE, LOST),
    "a bad request behind a good one": (WHOLE, LOST),
    "garbage behind a request": (WHOLE, LOST),
    "two lengths behind a good request": (WHOLE, LOST),
    "trailer Host": (WHOLE, LOST),
    "bare LF before the request": ("", LEADING),
    "bare CR before the request": ("", LEADING),
    "version RTSP": (BYTEWISE, RTSP),
}


def defect(case: Case, *, bytewise: bool) -> str | None:
    """Why `case` fails in this way, if it does."""
    way, reason = DEFECTS.get(case.name, (None, None))
    return reason if way in ("", BYTEWISE if bytewise else WHOLE) else None

"""Times as Redis and the platform hold them: ISO 8601 in UTC without an offset, whole seconds.

In between they are Unix seconds. What other services write is read leniently (a date alone, a
fraction, an offset); what the gateway writes is always in the one form.
"""

from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(maxsize=8192)
def unix_seconds(text: str) -> float:
    """Raises ValueError for what isn't a time. Without an offset, it is UTC."""
    moment = datetime.fromisoformat(text.strip())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()


def iso_utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def has_passed(text: str | None, now: float) -> bool:
    """Is `now` at or after this time? None is never; what can't be read counts as passed."""
    if text is None:
        return False
    try:
        return now >= unix_seconds(text)
    except (ValueError, OverflowError):
        return True

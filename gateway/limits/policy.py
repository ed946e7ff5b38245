"""What a limit allows, what was decided about one request, and how clients are told of both.

Terms: a *subject* is what a policy counts by: an address (or network), a user, a key, a route; a
*bucket* is one of them under one policy; a *window* slides, it is the last `window` seconds, or is
a *period*, a day or month of the calendar in UTC, or is
`concurrent`: the requests that are under way; a
*block* refuses a bucket for a while because it exceeded its limit. A request *costs* units of a
policy's `requests`: one, unless its route says otherwise.
The header fields are those of draft-ietf-httpapi-ratelimit-headers-11.
"""

import re
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from gateway.fields import Period
from gateway.routespec import Per

NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,95}").fullmatch  # in a header's string, in Redis keys
Window = int | Period | Literal["concurrent"]
WINDOW_SECONDS: dict[Window, int] = {"day": 86_400, "month": 31 * 86_400, "concurrent": 1}
# Up to so many requests the times in a window's log are exact; of more they are kept in so many
# units, so that 1000 fit into 500 bytes; a unit is how long who is at the limit may have to wait.
EXACT_REQUESTS = 128
UNITS_A_WINDOW = 300
LONGEST_UNIT_MS = 500


@dataclass(frozen=True, slots=True)
class Policy:
    """`requests` in any `window` seconds, or in a period; who exceeds that is blocked for `block`
    seconds.

    `block` 0: refused requests are not counted and nobody is blocked. `space` names its windows in
    Redis, where policies of several names have them together. `item` is what `RateLimit-Policy`
    says of it. Raises ValueError.
    """

    name: str
    requests: int
    window: Window = 60
    block: int = 0
    per: Per = "ip"
    space: str = ""
    item: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not NAME(self.name):
            raise ValueError(f"not a name for a policy: {self.name!r}")
        if self.requests < 1 or self.window_seconds < 1 or self.block < 0:
            raise ValueError(f"policy {self.name}: requests and window from 1, block from 0")
        object.__setattr__(self, "item", policy_header(self))

    @property
    def window_seconds(self) -> int:
        """How long a window is, at most."""
        return window_seconds(self.window)

    @property
    def unit_ms(self) -> int:
        """In what units the times of its windows are kept."""
        if self.requests <= EXACT_REQUESTS or isinstance(self.window, str):
            return 1
        return min(-(-self.window * 1000 // UNITS_A_WINDOW), LONGEST_UNIT_MS)


class Decision(NamedTuple):
    """What became of one request under one policy.

    `remaining` is what is left of the quota as far as this worker knows, never more than there
    is. `reset` is the whole seconds until the oldest counted request leaves the window (0 to
    `window`), or until the period ends. A request that was refused has `retry_after` whole seconds,
    at least 1; `blocked` says that it was refused for what the bucket did before.
    """

    policy: Policy
    admitted: bool
    remaining: int
    reset: int
    blocked: bool
    retry_after: int


@dataclass(slots=True)
class Counts:
    """Since the start, for metrics."""

    admitted: int = 0
    refused: int = 0  # for exceeding the limit
    blocked: int = 0  # for having exceeded it before
    degraded: int = 0  # of all these, decided without Redis


def window_seconds(window: Window) -> int:
    """How long it is, at most."""
    return WINDOW_SECONDS[window] if isinstance(window, str) else window


def policy_header(policy: Policy) -> str:
    """An item of `RateLimit-Policy`. A month has no length in seconds, and says none."""
    if policy.window == "concurrent":
        return f'"{policy.name}";q={policy.requests};qu="concurrent-requests"'
    window = "" if policy.window == "month" else f";w={policy.window_seconds}"
    return f'"{policy.name}";q={policy.requests}{window}'


def ratelimit(decision: Decision) -> str:
    """An item of `RateLimit`. With a `Retry-After`, `t` names the same moment as that does."""
    if decision.policy.window == "concurrent":
        return f'"{decision.policy.name}";r={decision.remaining}'
    seconds = decision.retry_after or decision.reset
    return f'"{decision.policy.name}";r={decision.remaining};t={seconds}'

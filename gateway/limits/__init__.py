"""How many requests a client may send: whose address it is, the windows, the blocks."""

from gateway.limits.address import ClientAddresses
from gateway.limits.courier import Courier
from gateway.limits.limit import (
    AnyLimit,
    Limit,
    PlanLimit,
    SlotLimit,
    by_address,
    by_key,
    by_route,
    by_user,
    release_slots,
)
from gateway.limits.limiter import Limiter
from gateway.limits.policy import Decision, Policy, policy_header, ratelimit
from gateway.limits.slots import Slots
from gateway.limits.weight import weigher

__all__ = [
    "AnyLimit",
    "ClientAddresses",
    "Courier",
    "Decision",
    "Limit",
    "Limiter",
    "PlanLimit",
    "Policy",
    "SlotLimit",
    "Slots",
    "by_address",
    "by_key",
    "by_route",
    "by_user",
    "policy_header",
    "ratelimit",
    "release_slots",
    "weigher",
]

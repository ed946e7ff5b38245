"""How many requests a client may send: whose address it is, the windows, the blocks."""

from gateway.limits.address import ClientAddresses
from gateway.limits.limiter import Limiter, WhenStoreIsDown
from gateway.limits.policy import Decision, Policy, policy_header, ratelimit

__all__ = [
    "ClientAddresses",
    "Decision",
    "Limiter",
    "Policy",
    "WhenStoreIsDown",
    "policy_header",
    "ratelimit",
]

"""How many requests a client may send: whose address it is, the windows, the blocks."""

from gateway.limits.address import ClientAddresses
from gateway.limits.courier import Courier
from gateway.limits.limit import Limit, by_address, by_key, by_route, by_user
from gateway.limits.limiter import Limiter
from gateway.limits.policy import Decision, Policy, policy_header, ratelimit
from gateway.limits.weight import weigher

__all__ = [
    "ClientAddresses",
    "Courier",
    "Decision",
    "Limit",
    "Limiter",
    "Policy",
    "by_address",
    "by_key",
    "by_route",
    "by_user",
    "policy_header",
    "ratelimit",
    "weigher",
]

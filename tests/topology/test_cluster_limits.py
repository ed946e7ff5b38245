import asyncio

from gateway.limits import Limiter, Policy
from gateway.store.redis import Store


async def test_many_addresses_at_once_are_counted_exactly_over_all_nodes(cluster_store: Store):
    limiter = Limiter(Policy("ip", 3, 60, 3600), cluster_store)
    addresses = [f"10.0.{number // 250}.{number % 250}" for number in range(600)]
    asked = [limiter.admit(address) for _ in range(5) for address in addresses]
    decisions = await asyncio.gather(*asked)
    assert sum(decision.admitted for decision in decisions) == 3 * len(addresses)
    assert limiter.counts.degraded == 0
    assert {each["ip"] for each in await limiter.blocked()} == set(addresses)
    await limiter.close()

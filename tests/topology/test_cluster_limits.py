"""Limits on a cluster: each subject on the node that has its slot, all of one turn in one round."""

import asyncio

from clusters import Cluster

from gateway.limits import Courier, Limiter, Policy, Slots
from gateway.store.redis import Store


async def admitted(limiter: Limiter | Slots, buckets: list[str]) -> int:
    decisions = await asyncio.gather(*(limiter.admit(bucket) for bucket in buckets))
    return sum(decision.admitted for decision in decisions)


async def test_every_policy_is_exact_for_each_subject_wherever_it_is(
    cluster: Cluster, cluster_store: Store
):
    ips = [f"10.0.0.{n}" for n in range(60)]
    workers = []
    for courier in (Courier(cluster_store), Courier(cluster_store)):
        limiters = [
            Limiter(Policy("ip", 4, 60, 3600), cluster_store, courier=courier),
            Limiter(Policy("route-a-ip-day", 3, "day"), cluster_store, courier=courier),
            Slots(Policy("route-a-ip-concurrent", 2, "concurrent"), cluster_store, courier=courier),
        ]
        workers.append(limiters)
    assert {cluster.owner(f"gw:ip:{{{ip}}}").port for ip in ips} == {
        node.port for node in cluster.nodes[:3]
    }
    for kind, most in enumerate((4, 3, 2)):
        asked = (admitted(worker[kind], ips * 3) for worker in workers)
        assert sum(await asyncio.gather(*asked)) == most * len(ips)
        assert workers[0][kind].counts.degraded == 0
    first = workers[0][0]
    assert isinstance(first, Limiter)
    assert [each["ip"] for each in await first.blocked()] == sorted(ips)
    assert await first.unblock(ips[0])
    assert (await first.admit(ips[0])).remaining == 3

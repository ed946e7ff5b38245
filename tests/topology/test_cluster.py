import asyncio

import pytest
from clusters import Cluster, client_of
from redis.crc import key_slot
from redis.exceptions import CrossSlotTransactionError
from redis_process import eventually, news_heard

from gateway.store.redis import Store


async def test_commands_reach_the_node_that_has_the_key(cluster: Cluster, cluster_store: Store):
    assert cluster_store.available
    for number in range(50):
        await cluster_store.client.hset(f"gw:x:{number}", "n", str(number))
    with client_of(cluster) as other:
        assert [other.hget(f"gw:x:{n}", "n") for n in range(50)] == [str(n) for n in range(50)]
        assert other.get("gw:version") == "1"


async def test_hashes_on_all_nodes_are_read_in_order(cluster_store: Store):
    names = [f"gw:key:{number}" for number in range(300)]
    for name in names[::2]:
        await cluster_store.client.hset(name, "name", name)
    await cluster_store.client.set(names[1], "text")
    read = await cluster_store.read_hashes(names)
    assert read == [
        {"name": name} if at % 2 == 0 else None if at == 1 else {} for at, name in enumerate(names)
    ]


async def test_names_are_scanned_on_all_masters(cluster_store: Store):
    names = {f"gw:key:{number}" for number in range(700)}
    pipeline = cluster_store.client.pipeline(transaction=False)
    for name in names:
        pipeline.set(name, "1")
    await pipeline.execute()
    assert {name async for some in cluster_store.scan("gw:key:*") for name in some} == names


async def test_commands_on_several_keys_work_over_all_nodes(cluster_store: Store):
    client = cluster_store.client
    for number in range(20):
        await client.set(f"gw:x:{number}", number)
    names = [f"gw:x:{number}" for number in range(30)]
    assert await client.mget(names) == [str(n) for n in range(20)] + [None] * 10
    assert await client.exists(*names) == 20
    assert await client.delete(*names) == 20
    assert await client.mget(names) == [None] * 30


async def test_scripts_and_transactions_run_where_their_slot_is(cluster_store: Store):
    client = cluster_store.client
    script = cluster_store.script("return redis.call('INCRBY', KEYS[1], ARGV[1]) + #KEYS")
    for number in range(20):
        assert await script(keys=[f"gw:{{{number}}}:a", f"gw:{{{number}}}:b"], args=[5]) == 7
    await client.script_flush()
    assert await script(keys=["gw:{1}:a"], args=[1]) == 7
    await client.script_flush()
    pipeline = client.pipeline(transaction=False)
    for number in range(20):
        await script(keys=[f"gw:{{{number}}}:a"], args=[1], client=pipeline)
    assert await pipeline.execute() == [7, 8, *[7] * 18]
    pipeline = client.pipeline(transaction=True)
    pipeline.set("gw:{1}:a", "1").get("gw:{1}:a")
    assert await pipeline.execute() == [True, "1"]
    pipeline.set("gw:{1}:a", "1").get("gw:{2}:a")
    with pytest.raises(CrossSlotTransactionError):
        await pipeline.execute()


def test_groups_of_keys_share_a_slot(cluster_store: Store, memory_store: Store):
    keys = ["gw:{a}:1", "gw:{b}:1", "gw:{a}:2", "gw:c"]
    assert [*cluster_store.slot_groups(keys).values()] == [[0, 2], [1], [3]]
    assert [*map(list, memory_store.slot_groups(keys).values())] == [[0, 1, 2, 3]]


async def test_more_calls_at_once_than_connections_wait_for_one_another(cluster_store: Store):
    async def call(number: int) -> str:
        async with cluster_store.guard():
            await cluster_store.client.set(f"gw:{number}", number)
            return await cluster_store.client.get(f"gw:{number}")

    assert await asyncio.gather(*map(call, range(300))) == [str(n) for n in range(300)]


async def test_changes_on_every_master_are_heard(cluster: Cluster, cluster_store: Store):
    heard = Heard()
    cluster_store.changes.listen("key", heard)
    names = [str(number) for number in range(60)]
    assert {cluster.owner(f"gw:key:{name}").port for name in names[:20]} == {
        node.port for node in cluster.nodes[:3]
    }
    with client_of(cluster) as other:
        for name in names:
            other.hset(f"gw:key:{name}", "v", "1")
    await eventually(lambda: heard.names == set(names))


class Heard:
    def __init__(self) -> None:
        self.names: set[str] = set()
        self.all = 0

    def changed(self, name: str) -> None:
        self.names.add(name)

    def all_changed(self) -> None:
        self.all += 1


async def test_a_slot_that_is_moved_is_used_meanwhile(cluster: Cluster, cluster_store: Store):
    """By commands, pipelines, scripts and transactions, on keys that have moved and on others."""
    client, tag = cluster_store.client, "{moving}"
    slot = key_slot(b"moving")
    source = cluster.owner(tag)
    target = next(node for node in cluster.nodes[:3] if node is not source)
    for number in range(30):
        await client.set(f"gw:{tag}:{number}", 0)
    script = cluster_store.script("return redis.call('INCR', KEYS[1])")

    async def use(round_number: int) -> None:
        async def one(number: int) -> None:
            key = f"gw:{tag}:{number}"
            assert await client.incr(key) == 4 * round_number + 1
            assert await script(keys=[key]) == 4 * round_number + 2
            pipeline = client.pipeline(transaction=False)
            assert (await pipeline.incr(key).execute())[0] == 4 * round_number + 3
            pipeline = client.pipeline(transaction=True)
            pipeline.incr(key).get(key)
            assert (await pipeline.execute())[0] == 4 * round_number + 4

        await asyncio.gather(*(one(number) for number in range(30)))

    steps = 0
    for step, _ in enumerate(cluster.move_slot(slot, target)):
        await use(step)
        steps += 1
    assert steps == 5
    assert cluster.owner(tag) is target
    await news_heard(cluster_store)
    for _ in cluster.move_slot(slot, source):
        pass

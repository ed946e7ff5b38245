"""The ledger of usage where its hashes lie on several nodes."""

from typing import Any

import pytest
from clusters import Cluster
from exchanges import exchange

from gateway.errors import StoreUnavailable
from gateway.sections import LedgerSettings
from gateway.store.ledger import HASHES_A_BATCH, Ledger
from gateway.store.redis import Store
from gateway.store.usage import Usage

KEY_IDS = [f"k_{number}" for number in range(HASHES_A_BATCH)]  # two hashes each


def count(ledger: Ledger, *key_ids: str) -> None:
    for key_id in key_ids:
        ledger.count(exchange("GET", "/"), key_id, 0.0)


async def counted(store: Store) -> set[int]:
    return {(await Usage(store).of(key_id, 2))["requests"] for key_id in KEY_IDS}


async def test_keys_of_all_slots_are_counted(cluster: Cluster, store: Store):
    assert len(cluster.nodes) > 1
    ledger = Ledger(store, LedgerSettings())
    for _ in range(2):
        count(ledger, *KEY_IDS)
        await ledger.flush()
    assert await counted(store) == {2}
    assert (ledger.dropped, ledger._tallies) == (0, 0)


async def test_what_only_some_nodes_have_counted_is_counted_once_by_all(store: Store):
    ledger = Ledger(store, LedgerSettings())
    count(ledger, *KEY_IDS)
    call = ledger._count

    async def reach_some(keys: list[str], *more: Any, **options: Any) -> Any:
        if sum(keys[1].encode()) % 2:
            await call(keys, *more)
        return await call(keys, *more, **options)

    ledger._count = reach_some
    await ledger.flush()
    assert await counted(store) == {1}


async def test_a_batch_whose_answers_were_lost_counts_once(store: Store, monkeypatch):
    ledger = Ledger(store, LedgerSettings())
    count(ledger, *KEY_IDS)
    pipeline = store.client.pipeline

    def losing(*, transaction: bool) -> Any:
        made = pipeline(transaction=transaction)
        execute = made.execute

        async def lose() -> Any:
            await execute()
            raise ConnectionResetError

        made.execute = lose
        return made

    with monkeypatch.context() as patch:
        patch.setattr(store.client, "pipeline", losing)
        with pytest.raises(StoreUnavailable):
            await ledger.flush()
    await ledger.flush()
    assert await counted(store) == {1}


async def test_a_name_that_no_mark_can_share_a_slot_with_holds_up_nobody(store: Store):
    ledger = Ledger(store, LedgerSettings())
    count(ledger, "k_{odd}", "k}odd", "k{odd", *KEY_IDS)
    await ledger.flush()
    assert await counted(store) == {1}
    assert (ledger.dropped, ledger._tallies) == (2, 0)
    assert (await Usage(store).last("k{odd"))["requests"] == 1

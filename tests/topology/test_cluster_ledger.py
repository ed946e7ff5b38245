import pytest
from elsewhere import taken_from

from gateway.errors import StoreUnavailable
from gateway.sections import LedgerSettings
from gateway.store.ledger import Ledger, Use
from gateway.store.redis import Store

globals().update(taken_from("store/test_ledger.py"))


async def test_a_batch_over_many_slots_whose_answer_was_lost_counts_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    ledger = Ledger(store, LedgerSettings())
    ids = [f"k_{number}" for number in range(30)]

    def use_each() -> None:
        for key_id in ids:
            ledger._today[key_id] = Use({"stock": [1, 0, 0, 0]})

    use_each()
    run = store.client.run

    async def lose_some(commands, **how):
        await run(commands[::2], **how)
        raise ConnectionResetError

    monkeypatch.setattr(store.client, "run", lose_some)
    with pytest.raises(StoreUnavailable):
        await ledger.flush()
    monkeypatch.undo()
    use_each()
    await ledger.flush()
    used = await store.read_hashes([f"gw:used:{key_id}" for key_id in ids])
    assert [fields["requests"] for fields in used] == ["2"] * len(ids)

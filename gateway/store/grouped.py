"""One script over many keys: in one call on one server, by slot in a cluster."""

from collections.abc import Sequence
from typing import Any

from gateway.errors import StoreUnavailable
from gateway.store.redis import Store
from gateway.store.script import Script


async def run_on_all(
    store: Store, script: Script, keys: Sequence[str], words: Sequence[Sequence[Any]], *first: str
) -> list[Any]:
    """What `script` returns for each key. It takes `first`, and then the words of each key.

    Raises StoreUnavailable; then it may have been done for some of them.
    """
    groups = list(store.slot_groups(keys).values()) if keys else []
    calls = [
        (
            [keys[at] for at in group],
            [*first, *(word for at in group for word in words[at])],
        )
        for group in groups
    ]
    answers = await store.call_each(script, calls) if calls else []
    outcomes: list[Any] = [None] * len(keys)
    for group, answer in zip(groups, answers, strict=True):
        if answer is None:
            raise StoreUnavailable
        for at, outcome in zip(group, answer, strict=True):
            outcomes[at] = outcome
    return outcomes

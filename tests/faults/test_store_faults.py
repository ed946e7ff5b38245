"""Redis frozen, slow, refusing, hung, full, read-only, restarted empty, moved: what clients see.

Real servers and a real gateway. On each kind of route, in each mode, the statuses are exact; that
nobody is held is told by how many requests were made to wait at all, not by a clock.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_process import until
from redis_process import RedisProcess
from store_faults import MODES, OWN_LIMIT, STORE_FAULTS, StoreFault, StoreStage, store_stage

KINDS = ("public", "known", "unknown", "token", "registered")
# By mode, what each of KINDS is answered. Reading goes on: only limits are decided alone.
READS = dict.fromkeys(("local", "allow"), (200, 200, 401, 200, 200)) | {"deny": (503,) * 5}
# Nothing can be asked: who was seen before goes on, and what was not is never called a bad one.
NOTHING = dict.fromkeys(("local", "allow"), (200, 200, 503, 200, 503)) | {"deny": (503,) * 5}
MANY = 30


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[StoreStage]:
    with store_stage(tmp_path) as started:
        yield started


def seen(stage: StoreStage) -> dict[str, tuple[int, ...]]:
    return {mode: tuple(stage.status(kind, mode) for kind in KINDS) for mode in MODES}


def begin(stage: StoreStage, fault: StoreFault) -> None:
    """The first that finds out may be anyone; then it is known, and told."""
    fault.begin(stage)
    until(lambda: stage.status("public", "deny") == 503, "the fault is noticed")
    until(lambda: stage.degraded("limits"), "it is told")


def recover(stage: StoreStage, fault: StoreFault) -> None:
    workers = stage.gateway.workers()
    fault.end(stage)
    until(stage.is_well, "all is as before")
    until(lambda: not (stage.degraded("limits") or stage.degraded("keys")), "it is told")
    assert stage.gateway.workers() == workers, "without a restart"


def lines(stage: StoreStage, words: str) -> list[str]:
    return [line for line in stage.gateway.stderr().splitlines() if words in line]


@pytest.mark.parametrize("fault", STORE_FAULTS, ids=lambda fault: fault.name)
def test_each_mode_answers_each_kind_of_route_as_declared_and_all_is_well_after(
    stage: StoreStage, fault: StoreFault
) -> None:
    begin(stage, fault)
    expected = READS if fault.reads else NOTHING
    assert seen(stage) == expected
    assert stage.degraded("keys") is not fault.reads
    for mode, over in (("local", 429), ("allow", 200), ("deny", 503)):
        statuses = [stage.status("limited", mode) for _ in range(OWN_LIMIT + 1)]
        first = 503 if mode == "deny" else 200
        assert statuses == [first] * OWN_LIMIT + [over], mode
    for mode, kind in (("deny", "public"), ("local", "unknown")):
        answer = stage.ask(kind, mode)
        if answer.status == 503:
            assert int(answer.headers["Retry-After"]) >= 1
            assert "WWW-Authenticate" not in answer.headers
    recover(stage, fault)
    assert stage.status("limited", "allow") == 200
    assert "Traceback" not in stage.gateway.stderr()


@pytest.mark.parametrize("fault", STORE_FAULTS, ids=lambda fault: fault.name)
def test_the_beginning_and_the_end_are_told_once_each(stage: StoreStage, fault: StoreFault) -> None:
    begin(stage, fault)
    for _ in range(MANY):
        stage.status("public")
        stage.status("known")
    recover(stage, fault)
    told = ["limits"] if fault.reads else ["limits", "keys"]
    for what in told:
        assert len(lines(stage, f"{what}: decided without Redis from now on")) == 1
        (end,) = lines(stage, f"{what}: decided with Redis again")
    (end,) = lines(stage, "limits: decided with Redis again")
    assert int(end.split(" requests")[0].split()[-1]) >= MANY
    assert not lines(stage, "Redis refused a command"), "one line for it all"


@pytest.mark.parametrize("fault", STORE_FAULTS, ids=lambda fault: fault.name)
def test_nobody_waits_for_what_has_not_answered(stage: StoreStage, fault: StoreFault) -> None:
    begin(stage, fault)
    errors = stage.gateway.metric("gateway_store_errors_total")
    for _ in range(MANY):
        for mode in ("local", "allow"):
            stage.status("unknown", mode)
            stage.status("limited", mode)
    assert stage.gateway.metric("gateway_store_errors_total") - errors <= 1
    recover(stage, fault)

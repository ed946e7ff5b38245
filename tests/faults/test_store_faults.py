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
PATIENT_SECONDS = 5.0  # a busy machine is not an outage


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


def test_a_redis_restarted_empty_is_believed_and_used_again(stage: StoreStage) -> None:
    stage.redis.kill()
    until(lambda: stage.status("public", "deny") == 503, "it is noticed")
    stage.redis.forget()
    stage.redis.start()
    until(lambda: stage.status("known") == 401, "there is no such key any more")
    assert stage.status("token") == 401
    assert stage.status("registered") == 403
    assert [stage.status("limited") for _ in range(OWN_LIMIT + 1)] == [200] * OWN_LIMIT + [429]
    assert_version_is_there(stage)
    stage.seed()
    until(stage.is_well, "what is new there is found")


def test_a_redis_that_is_emptied_is_believed_at_once(stage: StoreStage) -> None:
    with stage.redis.client() as client:
        client.flushall()
    until(lambda: stage.status("known") == 401, "there is no such key any more")
    assert_version_is_there(stage)
    stage.seed()
    until(stage.is_well, "what is new there is found")
    assert not lines(stage, "without Redis"), "it was there all the time"


def assert_version_is_there(stage: StoreStage) -> None:
    with stage.redis.client() as client:
        until(lambda: client.get("gw:version") == "1", "the layout's version is there again")


def test_flushed_scripts_cost_nobody_an_answer_or_its_exactness(tmp_path: Path) -> None:
    with store_stage(tmp_path, timeout=PATIENT_SECONDS) as stage, stage.redis.client() as client:
        degraded = decided_without_redis(stage)
        statuses = []
        for _ in range(MANY):
            client.script_flush()
            statuses += [stage.status(kind) for kind in ("public", "known")]
            client.script_flush()
            statuses.append(stage.status("limited", "allow"))
        assert statuses[2::3] == [200] * OWN_LIMIT + [429] * (MANY - OWN_LIMIT)
        assert statuses[0::3] + statuses[1::3] == [200] * 2 * MANY
        assert decided_without_redis(stage) == degraded


def decided_without_redis(stage: StoreStage) -> float:
    return stage.gateway.metric("gateway_limiter_decisions_total", decision="degraded")


def test_when_another_server_is_the_master_all_is_asked_of_it_and_heard_from_it(
    stage: StoreStage, tmp_path: Path
) -> None:
    """The address leads there; what is connected stays with the one that became a replica."""
    folder = tmp_path / "other"
    folder.mkdir()
    other = RedisProcess(folder, durable=True)
    other.start()
    try:
        with other.client() as new, stage.redis.client() as old:
            new.replicaof("127.0.0.1", str(stage.redis.port))
            until(lambda: new.get("gw:version") == "1", "it has the data")
            stage.wire.target = other.port
            new.replicaof("NO", "ONE")
            old.replicaof("127.0.0.1", str(other.port))
            stage.status("public")
            until(stage.is_well, "the new master is found")
            old.replicaof("NO", "ONE")  # nothing comes to it any more
            (record,) = new.keys("gw:key:*")
            new.hset(record, "revoked_at", "2026-01-01T00:00:00")
            until(lambda: stage.status("known") == 401, "the news come from the new master")
            commands = old.info("stats")["total_commands_processed"]
            assert stage.status("registered") == 200
            assert old.info("stats")["total_commands_processed"] <= commands + 1, "nobody is left"
    finally:
        other.kill()


@pytest.mark.parametrize(
    ("everywhere", "statuses"),
    [
        # allow, local and deny of their own; a route without; /health; no route
        ("local", (200, 429, 503, 429, 200, 429)),
        ("allow", (200, 429, 503, 200, 200, 404)),
        ("deny", (200, 429, 503, 503, 200, 503)),
    ],
)
def test_what_a_route_says_goes_before_what_is_said_for_all(
    tmp_path: Path, everywhere: str, statuses: tuple[int, ...]
) -> None:
    """The limit of addresses, judged first of all, is by the route's word too."""
    limit = {"requests": 50, "when_store_is_down": everywhere}
    with store_stage(tmp_path, settings={"rate_limit": limit}) as stage:
        stage.redis.kill()
        until(lambda: stage.degraded("limits"), "it is noticed")
        while stage.status("public", "local") != 429:
            pass
        paths = ["/allow/public", "/local/public", "/deny/public", "/undeclared", "/health", "/no"]
        assert tuple(stage.get(path).status for path in paths) == statuses

"""`gateway store check`: what is wrong with a real Redis is told, with what to do."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from clusters import Cluster
from redis_process import RedisProcess, free_port
from sentinels import watched

from gateway.sections import StoreSettings
from gateway.store import judgement
from gateway.store.check import check
from gateway.store.judgement import Finding

COMPOSE = Path(__file__).parents[2] / "deploy" / "compose.yaml"
Start = Callable[..., RedisProcess]


def told(quorum: int, others: int, replicas: int) -> dict[str, int]:
    """As a Sentinel tells it."""
    return {"quorum": quorum, "num-other-sentinels": others, "num-slaves": replicas}


def run(url: str, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "gateway", "store", "check", *words],
        capture_output=True,
        text=True,
        env={"GATEWAY_STORE__URL": url, "GATEWAY_STORE__TIMEOUT": "5", "PATH": "/usr/bin:/bin"},
        cwd="/",
        check=False,
    )


def settings(url: str) -> StoreSettings:
    """Generous: a busy machine is no finding."""
    return StoreSettings(url=url, timeout=5)


def levels(findings: list[Finding]) -> dict[str, str]:
    return {finding.topic: finding.level for finding in findings}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[RedisProcess] = []

    def start_one(*options: str) -> RedisProcess:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        server = RedisProcess(folder, durable=True)
        server.options = list(options)
        started.append(server)
        server.start()
        return server

    yield start_one
    for server in started:
        server.kill()


def test_the_redis_of_the_compose_file_is_fit(start: Start):
    program, *options = yaml.safe_load(COMPOSE.read_text())["services"]["redis"]["command"]
    assert program == "redis-server"
    done = run(start(*options).url)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert all(line.startswith("ok: ") for line in lines), done.stdout
    assert len(lines) == 9
    assert "append-only file, appendfsync everysec" in done.stdout


def test_an_error_is_exit_code_1_and_json_is_an_object():
    done = run(f"redis://gateway:canary@127.0.0.1:{free_port()}/0", "--output", "json")
    assert (done.returncode, done.stderr) == (1, "")
    answer = json.loads(done.stdout)
    assert answer["ok"] is False
    (found,) = answer["findings"]
    assert (found["level"], found["topic"]) == ("error", "connection")
    assert "start Redis" in found["message"]
    assert "canary" not in done.stdout


def test_memory_is_a_warning():
    done = run("memory://")
    assert done.returncode == 0
    assert done.stdout.startswith("warning: memory://: store: for trying out")


@pytest.mark.parametrize(
    ("command", "topic", "level", "says"),
    [
        ("CONFIG SET appendonly no", "persistence", "error", "set `appendonly yes`"),
        ("CONFIG SET appendonly no save '60 1'", "persistence", "warning", "set `appendonly yes`"),
        ("CONFIG SET appendfsync no", "persistence", "warning", "set everysec"),
        ("CONFIG SET maxmemory-policy allkeys-lru", "eviction", "warning", "set `maxmemory-policy"),
        ("CONFIG SET maxmemory 100mb", "memory", "ok", "of 100.0"),
        ("CONFIG SET maxmemory 1mb", "memory", "warning", "raise maxmemory"),
        ("CONFIG SET min-replicas-to-write 1", "replication", "error", "NOREPLICAS"),
        ("REPLICAOF 127.0.0.1 1", "replication", "error", "name its master (127.0.0.1:1)"),
        ("CONFIG SET requirepass canary", "connection", "error", "correct the user and password"),
        ("SET gw:version 2", "layout", "error", "run a newer gateway"),
        ("SET gw:version 1", "layout", "ok", "gw:version is 1"),
        ("PING", "rights", "ok", "all that a gateway needs"),
        ("PING", "version", "ok", "Redis "),
        ("PING", "clock", "ok", "ms "),
    ],
)
async def test_what_is_wrong_is_told(start: Start, command: str, topic: str, level: str, says: str):
    server = start()
    with server.client() as client:
        client.execute_command(*shlex.split(command))
    found = await check(settings(server.url))
    (finding,) = (each for each in found if each.topic == topic)
    assert (finding.level, says in finding.message) == (level, True), finding
    assert "canary" not in str(found)


@pytest.mark.parametrize(
    ("findings", "level", "says"),
    [
        (judgement.version("x", {"redis_version": "6.0.16"}), "error", "use 6.2 or newer"),
        (judgement.version("x", {"redis_version": "6.2.0"}), "ok", "6.2.0"),
        (judgement.version("x", {"redis_version": "10.0"}), "ok", "10.0"),
        (judgement.version("x", {}), "error", "Redis ?"),
        (
            judgement.persistence("x", {"aof_enabled": 1, "aof_last_write_status": "err"}, {}),
            "error",
            "look at the disk",
        ),
        (judgement.persistence("x", {"aof_enabled": 1}, {}), "ok", "unknown"),
        (judgement.latency("x", 0.001, 0.01, 0.05), "ok", "1.0 ms"),
        (judgement.latency("x", 0.020, 0.01, 0.05), "warning", "raise store.timeout"),
        (judgement.latency("x", 0.001, 0.06, 0.05), "warning", "raise store.timeout"),
        (judgement.latency("x", 0.060, 0.06, 0.05), "error", "every call fails"),
        (judgement.sentinel("x", told(1, 1, 1)), "warning", "fewer than 3"),
        (judgement.sentinel("x", told(4, 2, 1)), "error", "never agree"),
        (judgement.sentinel("x", told(2, 2, 0)), "warning", "nothing to fail over to"),
        (judgement.sentinel("x", told(2, 2, 1)), "ok", "knows 3 Sentinels, quorum 2, 1 replicas"),
    ],
)
def test_what_a_server_tells_is_judged(findings: Iterator[Finding], level: str, says: str):
    (finding,) = findings
    assert (finding.level, says in finding.message) == (level, True), finding


async def test_a_snapshot_that_failed_is_a_warning_beside():
    info = {"aof_enabled": 1, "rdb_last_bgsave_status": "err"}
    found = list(judgement.persistence("x", info, {"appendfsync": "everysec"}))
    assert [finding.level for finding in found] == ["ok", "warning"]


async def test_each_master_of_a_cluster_is_looked_at(cluster: Cluster):
    found = await check(settings(cluster.url))
    assert {finding.level for finding in found} == {"ok"}
    places = {finding.server for finding in found if finding.topic == "persistence"}
    assert places == {f"127.0.0.1:{node.port}" for node in cluster.masters()}
    assert levels(found)["cluster"] == "ok"


async def test_a_cluster_without_all_its_slots_and_replicas_is_told(start: Start):
    server = start("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 100)
    url = f"redis+cluster://127.0.0.1:{server.port}"
    found = await check(settings(url))
    told_of = [finding for finding in found if finding.topic == "cluster"]
    assert [finding.level for finding in told_of] == ["error", "warning"]
    assert "101 of 16384 slots" in told_of[0].message
    assert "without a replica: 127.0.0.1" in told_of[1].message


async def test_every_sentinel_is_asked(tmp_path: Path):
    with watched(tmp_path) as watch:
        found = await check(settings(watch.url))
        assert {finding.level for finding in found} == {"ok"}
        asked = [finding.server for finding in found if finding.topic == "sentinel"]
        assert asked == [f"127.0.0.1:{sentinel.port}" for sentinel in watch.sentinels]
        master = f"127.0.0.1:{watch.master().port}"
        assert {f.server for f in found if f.topic == "replication"} == {master}

        watch.sentinels[2].kill()
        found = await check(settings(watch.url))
        (finding,) = (each for each in found if each.level == "error")
        assert finding.server == f"127.0.0.1:{watch.sentinels[2].port}"
        assert "start or correct it" in finding.message

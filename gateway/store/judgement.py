"""What a Redis server tells of itself (INFO, CONFIG GET), judged: is it fit to hold keys and users?

Each function takes what was told and yields findings. INFO's field names are Redis's own.

Terms: *finding*: one thing that was looked at, how it is, and what to do if it should be otherwise.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Level: TypeAlias = Literal["ok", "warning", "error"]
Info: TypeAlias = Mapping[str, Any]

OLDEST = (6, 2)  # client-side caching in broadcast mode, and ACLs for channels
NEARLY_FULL = 0.9


@dataclass(frozen=True, slots=True)
class Finding:
    """`server` is an address, or the whole of the store; `topic` says what was looked at."""

    level: Level
    server: str
    topic: str
    message: str


def version(server: str, info: Info) -> Iterator[Finding]:
    told = str(info.get("redis_version", ""))
    parts = told.split(".")
    known = len(parts) >= 2 and parts[0].isdecimal() and parts[1].isdecimal()
    if not known or (int(parts[0]), int(parts[1])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        yield Finding(
            "error", server, "version", f"Redis {told or '?'}; use {oldest} or newer instead"
        )
    else:
        yield Finding("ok", server, "version", f"Redis {told}")


def persistence(server: str, info: Info, config: Info) -> Iterator[Finding]:
    """Without a log on disk, keys and users are gone with the process."""
    topic = "persistence"
    saves = bool(config.get("save", "?"))  # unknown: in favour, as AOF alone is asked for
    if str(info.get("aof_enabled")) != "1":
        level: Level = "warning" if saves and info.get("rdb_last_save_time") else "error"
        lost = "what was written since the last snapshot" if level == "warning" else "all of it"
        yield Finding(
            level,
            server,
            topic,
            f"no append-only file: with the process {lost} is gone, keys and users too; "
            "set `appendonly yes` (CONFIG SET, and in redis.conf)",
        )
        return
    fsync = config.get("appendfsync")
    if info.get("aof_last_write_status", "ok") != "ok":
        message = "the append-only file can't be written; look at the disk and at Redis's log"
        yield Finding("error", server, topic, message)
    elif fsync == "no":
        message = "appendfsync is no: a crash of the machine loses up to 30 s; set everysec"
        yield Finding("warning", server, topic, message)
    else:
        shown = "unknown (CONFIG GET isn't allowed)" if fsync is None else fsync
        yield Finding("ok", server, topic, f"append-only file, appendfsync {shown}")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        message = "the last snapshot failed; Redis may refuse writes until one succeeds"
        yield Finding("warning", server, topic, message)


def memory(server: str, info: Info) -> Iterator[Finding]:
    """Eviction would take keys and users that are paid for."""
    policy = str(info.get("maxmemory_policy", "?"))
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if policy != "noeviction":
        yield Finding(
            "warning",
            server,
            "eviction",
            f"maxmemory-policy is {policy}: a full Redis would drop keys and users; "
            "set `maxmemory-policy noeviction`",
        )
    else:
        yield Finding("ok", server, "eviction", "noeviction")
    shown = f"{used / 2**20:.1f} MiB used"
    if not limit:
        yield Finding("ok", server, "memory", f"{shown}; no maxmemory, so the machine's is the end")
    elif used > NEARLY_FULL * limit:
        message = f"{shown} of {limit / 2**20:.1f}: when it is full, writes fail; raise maxmemory"
        yield Finding("warning", server, "memory", message)
    else:
        yield Finding("ok", server, "memory", f"{shown} of {limit / 2**20:.1f}")


def replication(server: str, info: Info) -> Iterator[Finding]:
    """One server alone is fine; a replica takes no writes."""
    topic = "replication"
    if info.get("role") != "master":
        message = f"this is a replica: it takes no writes; name its master ({_master(info)})"
        yield Finding("error", server, topic, message)
        return
    good = info.get("min_slaves_good_slaves")
    replicas = int(info.get("connected_slaves", 0))
    if good is not None and int(good) < 1:
        message = (
            "min-replicas-to-write is set and no replica is near: writes are refused "
            "(NOREPLICAS); bring a replica back, or lower it"
        )
        yield Finding("error", server, topic, message)
    else:
        count = "1 replica" if replicas == 1 else f"{replicas} replicas"
        yield Finding("ok", server, topic, f"master with {count}")


def cluster(server: str, info: Info) -> Iterator[Finding]:
    """Of CLUSTER INFO."""
    covered, failing = int(info.get("cluster_slots_assigned", 0)), info.get("cluster_slots_fail")
    if info.get("cluster_state") != "ok" or covered < 16_384 or failing not in (0, "0"):
        yield Finding(
            "error",
            server,
            "cluster",
            f"state {info.get('cluster_state')}, {covered} of 16384 slots assigned, "
            f"{failing} failing; see `redis-cli --cluster check` and `--cluster fix`",
        )
    else:
        yield Finding("ok", server, "cluster", "state ok, all slots assigned")


def sentinel(server: str, told: Info) -> Iterator[Finding]:
    """Of SENTINEL MASTER."""
    quorum, number = int(told.get("quorum", 0)), int(told.get("num-other-sentinels", 0)) + 1
    text = f"knows {number} Sentinels, quorum {quorum}, {told.get('num-slaves')} replicas"
    if quorum > number:
        message = f"{text}: they can never agree; start more of them, or lower the quorum"
        yield Finding("error", server, "sentinel", message)
    elif number < 3:
        message = f"{text}: with fewer than 3, losing one host can prevent a failover"
        yield Finding("warning", server, "sentinel", message)
    elif not int(told.get("num-slaves", 0)):
        yield Finding("warning", server, "sentinel", f"{text}: there is nothing to fail over to")
    else:
        yield Finding("ok", server, "sentinel", text)


def latency(
    server: str, answer_seconds: float, connect_seconds: float, allowed_seconds: float
) -> Iterator[Finding]:
    """`allowed_seconds` is store.timeout; the others are what was measured from here."""
    shown = (
        f"an answer takes {_ms(answer_seconds)}, connecting {_ms(connect_seconds)}; "
        f"store.timeout allows {_ms(allowed_seconds)}"
    )
    if answer_seconds > allowed_seconds:
        message = f"{shown}: every call fails; raise store.timeout, or bring Redis nearer"
        yield Finding("error", server, "latency", message)
    elif answer_seconds > allowed_seconds / 4 or connect_seconds > allowed_seconds:
        message = f"{shown}: calls will fail now and then; raise store.timeout"
        yield Finding("warning", server, "latency", message)
    else:
        yield Finding("ok", server, "latency", shown)


def _master(info: Info) -> str:
    return f"{info.get('master_host', '?')}:{info.get('master_port', '?')}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"

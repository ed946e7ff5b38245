"""What the gateway's user may do in Redis, and nothing else: the one list of it.

`ARCHITECTURE.md` shows it as a line for redis-cli; tests/topology/test_rights.py holds them to be
the same, and runs everything that a gateway does as a user who has no other rights.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from gateway.store.channel import INVALIDATIONS

Calls: TypeAlias = Mapping[str, Sequence[str]]

PROBE = "PROBE"  # stands for a key that nobody has
# For each right, a call that shows whether it is there and does no harm; in this order the probe is
# gone at the end.
DATA: Calls = {
    "+get": ("GET", PROBE),
    "+set": ("SET", PROBE, "1", "PX", "1"),
    "+setnx": ("SETNX", PROBE, "1"),
    "+type": ("TYPE", PROBE),
    "+mget": ("MGET", PROBE),
    "+exists": ("EXISTS", PROBE),
    "+incrby": ("INCRBY", PROBE, "1"),
    "+persist": ("PERSIST", PROBE),
    "+pttl": ("PTTL", PROBE),
    "+sadd": ("SADD", PROBE, "member"),
    "+smembers": ("SMEMBERS", PROBE),
    "+zadd": ("ZADD", PROBE, "1", "member"),
    "+zrangebyscore": ("ZRANGEBYSCORE", PROBE, "1", "1"),
    "+zremrangebyscore": ("ZREMRANGEBYSCORE", PROBE, "1", "1"),
    "+zremrangebyrank": ("ZREMRANGEBYRANK", PROBE, "0", "0"),
    "+zrevrange": ("ZREVRANGE", PROBE, "0", "0"),
    "+zscore": ("ZSCORE", PROBE, "member"),
    "+zrem": ("ZREM", PROBE, "member"),
    "+rpush": ("RPUSH", PROBE, "1"),
    "+lpop": ("LPOP", PROBE),
    "+blpop": ("BLPOP", PROBE, "0.001"),
    "+hget": ("HGET", PROBE, "field"),
    "+hgetall": ("HGETALL", PROBE),
    "+hlen": ("HLEN", PROBE),
    "+hset": ("HSET", PROBE, "field", "1"),
    "+hsetnx": ("HSETNX", PROBE, "field", "1"),
    "+hincrby": ("HINCRBY", PROBE, "other", "1"),
    "+hdel": ("HDEL", PROBE, "field"),
    "+expire": ("EXPIRE", PROBE, "1"),
    "+pexpire": ("PEXPIRE", PROBE, "1"),
    "+del": ("DEL", PROBE),
    "+scan": ("SCAN", "0", "COUNT", "1"),
    "+time": ("TIME",),
    "+ping": ("PING",),
    "+evalsha": ("EVALSHA", "0" * 40, "0"),
    "+script|load": ("SCRIPT", "LOAD", "return 1"),
    "+exec": ("EXEC",),
    "+client|id": ("CLIENT", "ID"),
    "+client|tracking": ("CLIENT", "TRACKING", "OFF"),
    "+info": ("INFO", "server"),
}
SENTINEL: Calls = {"+role": ("ROLE",)}  # +select too, for a database other than 0
CLUSTER: Calls = {
    "+cluster|slots": ("CLUSTER", "SLOTS"),
    "+cluster|info": ("CLUSTER", "INFO"),
    "+asking": ("ASKING",),
}
LAST: Calls = {"+multi": ("MULTI",), "+subscribe": ("SUBSCRIBE", INVALIDATIONS)}  # never executed


def acl_line(user: str, prefix: str, *more: str) -> Sequence[str]:
    """The words of `ACL SETUSER`; `more` has a password, or `on`."""
    rights = (*DATA, *SENTINEL, *CLUSTER, *LAST)
    return ("ACL", "SETUSER", user, "reset", *more, f"~{prefix}:*", f"&{INVALIDATIONS}", *rights)

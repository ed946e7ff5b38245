"""A master, a replica, and three Sentinels of our own that decide by majority, and quickly."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from gateway_process import until
from redis_process import RedisProcess

MASTER = "main"


@dataclass
class Watch:
    """Redis behind Sentinels."""

    servers: list[RedisProcess]
    sentinels: list[RedisProcess]

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{places}/{MASTER}/0"

    def master(self) -> RedisProcess:
        """As the majority of the Sentinels say."""
        ports = []
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                ports.append(client.sentinel_get_master_addr_by_name(MASTER)[1])
        port = max(ports, key=ports.count)
        return next(server for server in self.servers if server.port == port)

    def replica(self) -> RedisProcess:
        master = self.master()
        return next(server for server in self.servers if server is not master)

    def is_whole(self) -> bool:
        with self.replica().client() as client:
            try:
                replication = client.info("replication")
            except redis.ConnectionError:
                return False
        if replication.get("master_link_status") != "up":
            return False
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                seen = client.sentinel_master(MASTER)
            if (seen["num-other-sentinels"], seen["num-slaves"]) != (2, 1):
                return False
        return True


@contextmanager
def watched(folder: Path) -> Iterator[Watch]:
    def made(name: str) -> RedisProcess:
        (folder / name).mkdir(parents=True)
        return RedisProcess(folder / name, durable=True)

    watch = Watch([made("one"), made("two")], [made(f"sentinel{n}") for n in range(3)])
    one, two = watch.servers
    try:
        one.start()
        two.start()
        with two.client() as client:
            client.replicaof("127.0.0.1", one.port)
        for sentinel in watch.sentinels:
            sentinel.as_sentinel_of(MASTER, one, quorum=2)
            sentinel.start()
        until(watch.is_whole, "the Sentinels know each other and the replica")
        yield watch
    finally:
        for server in (*watch.servers, *watch.sentinels):
            server.kill()

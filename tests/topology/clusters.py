"""A Redis Cluster of our own processes: masters and replicas on 127.0.0.1, quick to fail over."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import redis
from gateway_process import until
from redis.crc import key_slot
from redis_process import RedisProcess, free_port

SLOTS = 16_384
NODE_TIMEOUT_MS = 700


class Cluster:
    """`masters` masters and as many replicas; `nodes` has the masters first."""

    def __init__(self, folder: Path, masters: int = 3, *, options: tuple[str, ...] = ()) -> None:
        self._folder = folder
        self._count = masters
        self._options = options
        self.nodes: list[RedisProcess] = []

    def start(self) -> None:
        with ThreadPoolExecutor(2 * self._count) as pool:
            self.nodes = list(pool.map(self._started, range(2 * self._count)))
        masters, replicas = self.nodes[: self._count], self.nodes[self._count :]
        share = SLOTS // self._count
        for at, node in enumerate(masters):
            last = SLOTS if at == self._count - 1 else (at + 1) * share
            with node.client() as client:
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", at * share, last - 1)
        self.meet(*self.nodes[1:])
        for master, replica in zip(masters, replicas, strict=True):
            with replica.client() as client:
                client.execute_command("CLUSTER", "REPLICATE", self.id_of(master))
        until(self.is_whole, "the cluster is whole")

    def add_master(self) -> RedisProcess:
        """Another one, without slots."""
        node = self._started(len(self.nodes))
        self.nodes.append(node)
        with node.client() as client:
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", 100)
            self.meet(node)
            until(
                lambda: "cluster_state:ok" in client.execute_command("CLUSTER", "INFO"),
                "it has joined",
            )
        return node

    def meet(self, *others: RedisProcess) -> None:
        with self.nodes[0].client() as client:
            for node in others:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus_port)
        until(lambda: all(self._knows_all(node) for node in self.nodes), "all know all")

    def forget(self, node: RedisProcess) -> None:
        """Take a node out, which has no slots."""
        node_id = self.id_of(node)
        node.kill()
        self.nodes.remove(node)
        for other in self.nodes:
            with other.client() as client:
                client.execute_command("CLUSTER", "FORGET", node_id)

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    # How it is.

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])

    def id_of(self, node: RedisProcess) -> str:
        with node.client() as client:
            return str(client.execute_command("CLUSTER", "MYID"))

    def owner(self, key: str) -> RedisProcess:
        """The master that has this key."""
        return self.owner_of_slot(key_slot(key.encode()))

    def owner_of_slot(self, slot: int) -> RedisProcess:
        """As every node says."""
        port = None

        def agreed() -> bool:
            nonlocal port
            ports = {self._owner_port(node, slot) for node in self.well()}
            port = next(iter(ports))
            return len(ports) == 1

        until(agreed, "the nodes agree")
        return self.node_at(port)

    def node_at(self, port: int | None) -> RedisProcess:
        return next(node for node in self.nodes if node.port == port)

    def masters(self) -> list[RedisProcess]:
        with self.well()[0].client() as client:
            ranges = client.execute_command("CLUSTER", "SLOTS")
        return [self.node_at(port) for port in {int(master[1]) for _, _, master, *_ in ranges}]

    def replica_of(self, master: RedisProcess) -> RedisProcess:
        for node in self.well():
            with node.client() as client:
                replication = client.info("replication")
            if replication["role"] == "slave" and replication["master_port"] == master.port:
                return node
        raise AssertionError("no replica")

    def is_whole(self) -> bool:
        """Every slot is served, and every node but those without slots has its other half."""
        for node in self.nodes:
            with node.client() as client:
                if "cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
                    return False
                replication = client.info("replication")
                if replication["role"] == "slave" and replication["master_link_status"] != "up":
                    return False
        with self.nodes[0].client() as client:
            ranges = client.execute_command("CLUSTER", "SLOTS")
        return all(len(each) >= 4 for each in ranges)

    def well(self) -> list[RedisProcess]:
        return [node for node in self.nodes if node.is_well]

    def _owner_port(self, node: RedisProcess, slot: int) -> int | None:
        with node.client() as client:
            for first, last, master, *_ in client.execute_command("CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    return int(master[1])
        return None

    def _knows_all(self, node: RedisProcess) -> bool:
        with node.client() as client:
            lines = client.execute_command("CLUSTER NODES")
        flags = [each["flags"] for each in lines.values()]
        return len(flags) == len(self.nodes) and not any("handshake" in flag for flag in flags)

    def _started(self, number: int) -> RedisProcess:
        folder = self._folder / f"node{number}"
        folder.mkdir(parents=True)
        node = RedisProcess(folder, durable=True)
        node.bus_port = free_port()
        node.options = ["--cluster-enabled", "yes", "--cluster-port", str(node.bus_port)]
        node.options += ["--cluster-node-timeout", str(NODE_TIMEOUT_MS)]
        node.options += ["--cluster-allow-replica-migration", "no"]  # masters stay masters
        node.options += ["--repl-ping-replica-period", "1", *self._options]
        node.start()
        return node

    # What operators do.

    def move_slot(self, slot: int, target: RedisProcess) -> Iterator[str]:
        """Migrate a slot in steps, as redis-cli does; yields before each."""
        source = self.owner_of_slot(slot)
        target_id, source_id = self.id_of(target), self.id_of(source)
        with source.client() as there, target.client() as here:
            here.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
            there.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
            yield "open"
            while keys := there.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10):
                there.execute_command(
                    "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys
                )
                yield "moved"
            here.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)
            there.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)
            yield "done"

    def fail_over(self, replica: RedisProcess) -> None:
        """The orderly way: nothing is lost."""
        with replica.client() as client:
            client.execute_command("CLUSTER", "FAILOVER")
            until(lambda: client.info("replication")["role"] == "master", "the replica took over")


@contextmanager
def running(folder: Path, masters: int = 3, *, options: tuple[str, ...] = ()) -> Iterator[Cluster]:
    cluster = Cluster(folder, masters, options=options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


def flush(cluster: Cluster) -> None:
    for node in cluster.nodes:
        with node.client() as client:
            if client.info("replication")["role"] == "master":
                client.flushall()


def client_of(cluster: Cluster) -> redis.RedisCluster:
    """A client of another make, as billing's would be."""
    (node, *_) = cluster.well()
    return redis.RedisCluster(host="127.0.0.1", port=node.port, decode_responses=True)

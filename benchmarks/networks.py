"""What lists of networks cost: reading a file of them, and asking whether an address is in it.

    python benchmarks/networks.py

Prints seconds to read and to build, and microseconds per look-up, for files of one line to 100,000.
Takes a few seconds.
"""

import random
import tempfile
import time
import timeit
from pathlib import Path

from gateway.networks import NetworkSet, read_networks

SIZES = (1, 1_000, 100_000)
ROUNDS = 12
LOOKUPS = 20_000
SEED = 7


def lines(size: int) -> str:
    """Networks and single addresses, of both versions."""
    draw = random.Random(SEED)  # no secret
    forms = ("{}.{}.{}.{}", "{}.{}.{}.0/24", "2001:db8:{:x}:{:x}{:02x}::/64")
    texts = (forms[index % 3].format(*draw.randbytes(4)) for index in range(size))
    return "\n".join(texts)


def microseconds(networks: NetworkSet, address: str) -> float:
    """The best round's mean per look-up, the loop's own cost included."""
    best = min(timeit.repeat(lambda: address in networks, number=LOOKUPS, repeat=ROUNDS))
    return best / LOOKUPS * 1e6


def main() -> None:
    print(f"{'lines':>8}{'read, s':>10}{'build, s':>10}{'IPv4, us':>10}{'IPv6, us':>10}")
    for size in SIZES:
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(lines(size))
            file.flush()
            began = time.perf_counter()
            found = read_networks(Path(file.name))
            read = time.perf_counter()
            networks = NetworkSet.of(found)
            built = time.perf_counter()
        v4, v6 = (microseconds(networks, text) for text in ("203.0.113.7", "2001:db8:1:2::3"))
        print(f"{size:>8,}{read - began:>10.3f}{built - read:>10.3f}{v4:>10.2f}{v6:>10.2f}")


if __name__ == "__main__":
    main()

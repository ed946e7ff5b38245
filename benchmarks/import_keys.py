"""How long a million keys take to go into a Redis, to go in again, and to come out.

    python benchmarks/import_keys.py [keys]

Starts two redis-servers of its own, one without persistence and one with an append-only file, and
ends them. A tenth as many users as keys, all of them unknown. Takes about five minutes and a
gigabyte of memory for a million keys.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from redis_process import RedisProcess  # noqa: E402

KEYS = 1_000_000
KEYS_A_USER = 10


def write_keys(file: Path, count: int) -> None:
    with file.open("w") as lines:
        for number in range(count):
            record = {
                "sha256": hashlib.sha256(b"key %d" % number).hexdigest(),
                "id": f"k_{number:020}",
                "user_id": 1 + number // KEYS_A_USER,
                "name": "laptop",
                "created_at": "2026-11-22T07:00:00",
            }
            print(json.dumps(record), file=lines)


def seconds(url: str, *words: str, into: Path) -> float:
    """The whole command's, start-up included."""
    began = time.monotonic()
    with into.open("w") as output:
        subprocess.run(
            [sys.executable, "-m", "gateway", "keys", *words],
            env=os.environ | {"GATEWAY_STORE__URL": url},
            cwd=ROOT,
            stdout=output,
            check=True,
        )
    return time.monotonic() - began


def main() -> None:
    count = int(sys.argv[1]) if sys.argv[1:] else KEYS
    print(f"{count:,} keys, seconds{'import':>14}{'again':>10}{'export':>10}")
    with tempfile.TemporaryDirectory() as folder:
        file, output = Path(folder, "keys.jsonl"), Path(folder, "output")
        write_keys(file, count)
        for name, durable in (("no persistence", False), ("append-only file", True)):
            redis_folder = Path(folder, name)
            redis_folder.mkdir()
            server = RedisProcess(redis_folder, durable=durable)
            server.start()
            try:
                times = [
                    seconds(server.url, *words, into=output)
                    for words in (("import", str(file)), ("import", str(file)), ("export",))
                ]
            finally:
                server.kill()
            print(f"{name:<22}" + "".join(f"{spent:>12.1f}" for spent in times))


if __name__ == "__main__":
    main()

"""How long a million keys take to go into a Redis, to go in again, and to come out. Or users.

    python benchmarks/import_keys.py [keys|users] [number]

Starts two redis-servers of its own, one without persistence and one with an append-only file that
is synced each second, and ends them. A tenth as many users as keys, all of them unknown. "CPU" is
what the command used of it: the rest is Redis, and what else the machine does. Takes about five
minutes and a gigabyte of memory for a million keys.
"""

import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from redis_process import RedisProcess  # noqa: E402

NUMBERS = {"keys": 1_000_000, "users": 100_000}
KEYS_A_USER = 10
STEPS = ("import", "again", "export")


def write(kind: str, file: Path, count: int) -> None:
    with file.open("w") as lines:
        for number in range(count):
            print(json.dumps(key(number) if kind == "keys" else user(number)), file=lines)


def user(number: int) -> dict[str, object]:
    """Signed in by both providers."""
    email, google, apple = f"{number}@example.com", f"1067290{number:014}", f"001234.{number:032x}"
    events = [
        {"event": event, "provider": provider, "subject": subject, "email": email}
        for event, provider, subject in (("created", "google", google), ("linked", "apple", apple))
    ]
    return {
        "id": 1 + number,
        "email": email,
        "name": "Jane Doe",
        "google_id": google,
        "apple_id": apple,
        "plan": "standard",
        "plan_expires_at": "2027-01-01T00:00:00",
        "links": [{**event, "at": "2026-11-22T07:00:00"} for event in events],
    }


def key(number: int) -> dict[str, object]:
    return {
        "sha256": hashlib.sha256(b"key %d" % number).hexdigest(),
        "id": f"k_{number:020}",
        "user_id": 1 + number // KEYS_A_USER,
        "name": "laptop",
        "created_at": "2026-11-22T07:00:00",
    }


def seconds(url: str, kind: str, *words: str, into: Path) -> tuple[float, float]:
    """The whole command's, start-up included: on the clock, and of CPU."""
    began = time.monotonic()
    with into.open("w") as output:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "gateway", kind, *words],
            os.environ | {"GATEWAY_STORE__URL": url},
            file_actions=[(os.POSIX_SPAWN_DUP2, output.fileno(), 1)],
        )
        _, status, used = os.wait4(pid, 0)
    assert status == 0
    return time.monotonic() - began, used.ru_utime + used.ru_stime


def main() -> None:
    kind = next((word for word in sys.argv[1:] if word in NUMBERS), "keys")
    count = next((int(word) for word in sys.argv[1:] if word.isdecimal()), NUMBERS[kind])
    print(
        f"{f'{count:,} {kind}, seconds':<24}" + "".join(f"{step:>9} {'CPU':>7}" for step in STEPS)
    )
    with tempfile.TemporaryDirectory() as folder:
        file, output = Path(folder, "lines"), Path(folder, "output")
        write(kind, file, count)
        for name, durable in (("no persistence", False), ("append-only file", True)):
            redis_folder = Path(folder, name)
            redis_folder.mkdir()
            server = RedisProcess(redis_folder, durable=durable)
            server.options = ["--appendfsync", "everysec"]
            server.start()
            try:
                times = [
                    seconds(server.url, kind, *words, into=output)
                    for words in (("import", str(file)), ("import", str(file)), ("export",))
                ]
            finally:
                server.kill()
            print(f"{name:<24}" + "".join(f"{clock:>9.1f} {cpu:>7.1f}" for clock, cpu in times))


if __name__ == "__main__":
    main()

"""What trouble with Redis costs clients, and how soon all is as before.

    .venv/bin/python benchmarks/recovery.py [--seconds 2] [--clients 4]

One `gateway serve` for all of it, on a real Redis, with the default store timeout of 50 ms. Clients
ask all the time: public routes, a known key, unknown keys, an app token, a registered key. For each
fault, in turn: it begins, lasts for so many seconds, and ends. Printed are

- `as before`: seconds from the end until every kind of route answers as before it, by requests one
  after the other;
- `held`: the longest time that a request of the clients took, from before the fault's begin until
  then, and how many there were. The row `none` says what that is without any fault;
- `wrong`: answers 401, 403 or 404 to good credentials, which there may be none of.

The exit code is 1 if something took longer than 2 s to be as before, or was wrong. Everything runs
on 127.0.0.1 and is ended by its process id; it takes half a minute.
"""

import argparse
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/faults")]

from store_faults import STORE_FAULTS, StoreFault, StoreStage, store_stage  # noqa: E402

GOAL_SECONDS = 2.0
GOOD = ("public", "known", "token", "registered")
WRONG = (401, 403, 404)
NOTHING = StoreFault("none", lambda _: None, lambda _: None)


@dataclass
class Clients:
    """Requests one after the other from each client, until the end of the block."""

    stage: StoreStage
    number: int
    asked: int = 0
    wrong: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.stage.longest = 0.0
        self._threads = [threading.Thread(target=self._run) for _ in range(self.number)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            for kind in (*GOOD, "unknown"):
                status = self.stage.status(kind)
                self.asked += 1
                self.wrong += kind in GOOD and status in WRONG


def measure(stage: StoreStage, fault: StoreFault, seconds: float, clients: int) -> bool:
    with Clients(stage, clients) as asking:
        time.sleep(0.5)
        fault.begin(stage)
        time.sleep(seconds)
        fault.end(stage)
        ended = time.monotonic()
        while not stage.is_well():
            pass
        took = time.monotonic() - ended
        time.sleep(0.5)
    held = f"{stage.longest * 1000:.0f} ms"
    print(
        f"{fault.name:18} {took:8.2f} s {held:>10} {asking.asked:10} {asking.wrong:7}", flush=True
    )
    return took <= GOAL_SECONDS and not asking.wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="that each fault lasts")
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    unlimited = {"rate_limit": {"requests": 1_000_000}}
    with (
        tempfile.TemporaryDirectory() as folder,
        store_stage(Path(folder), settings=unlimited) as stage,
    ):
        print(f"{'fault':18} {'as before':>10} {'held':>10} {'requests':>10} {'wrong':>7}")
        fine = [
            measure(stage, fault, options.seconds, options.clients)
            for fault in (NOTHING, *STORE_FAULTS)
        ]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())

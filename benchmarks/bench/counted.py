"""A gateway in one process, to be run by valgrind (`cost.py`): FOLDER holds its two files.

It is put together as a worker is, without an arbiter, since valgrind's switches reach the process
that it started and no other. It prints its port, and ends when its standard input does.

Here everything takes some hundred times as long as it does, and longer on a busy machine: what goes
by the clock would count for much, and differently each time. So sleeps (of flushes, sweeps, beats)
are `SLOWER`, and what is good for a moment is good for longer. By number, reservations are used up
as ever.
"""

import asyncio
import json
import sys
from pathlib import Path

import uvloop
from harness import open_gateway

from bench.gateways import ENVIRON
from gateway.limits import courier, limiter
from gateway.store import changes

SLOWER = 200
sleep = asyncio.sleep


async def sleep_longer(seconds: float) -> None:
    await sleep(seconds * SLOWER)


async def serve(folder: Path) -> None:
    files = json.loads((folder / "files.json").read_text())
    async with open_gateway(folder, files["routes"], files["settings"], ENVIRON) as running:
        print(running.port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.sleep = sleep_longer  # type: ignore[assignment]
    courier.RESERVED_SECONDS *= 10 * SLOWER
    courier.FORGET_SECONDS *= 10 * SLOWER
    limiter.REFUSAL_TRUSTED_SECONDS *= SLOWER
    changes.CURRENT_SECONDS *= SLOWER
    uvloop.run(serve(Path(sys.argv[1])))

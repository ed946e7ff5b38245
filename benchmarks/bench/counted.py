"""A gateway in one process, to be run by valgrind (`cost.py`): FOLDER holds its two files.

It is put together as a worker is, without an arbiter, since valgrind's switches reach the process
that it started and no other. It prints its port, and ends when its standard input does. What goes
by the clock would count more the slower the machine is: so reservations of the limiter and refusals
that are remembered last longer than any measurement. By number they are used up as ever.
"""

import asyncio
import json
import sys
from pathlib import Path

import uvloop
from harness import open_gateway

from bench.gateways import ENVIRON
from gateway.limits import courier, limiter


async def serve(folder: Path) -> None:
    files = json.loads((folder / "files.json").read_text())
    async with open_gateway(folder, files["routes"], files["settings"], ENVIRON) as running:
        print(running.port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    courier.RESERVED_SECONDS, courier.FORGET_SECONDS = 600.0, 1200.0
    limiter.REFUSAL_TRUSTED_SECONDS = 600.0
    uvloop.run(serve(Path(sys.argv[1])))

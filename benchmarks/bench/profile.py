"""Where a worker's time goes, by Python function: a flame graph, drawn by py-spy from outside.

    make profile                                    public route, 10 s; writes build/profile.svg
    make profile ARGS="--of 'plan key' --native"    another kind of request; C functions too

Samples are of whoever holds the interpreter: what the event loop waits for is not in it. Open the
SVG in a browser: a click zooms, Ctrl-F searches.
"""

import argparse
import os
import subprocess
from pathlib import Path

from bench.case import PROXIES
from bench.cases import patterns
from bench.ground import open_ground
from bench.machine import LOAD_CORE, Failed, require
from bench.peers import program

OUTPUT = Path(__file__).parents[2] / "build" / "profile.svg"
SAMPLES_A_SECOND = 400


def main() -> None:
    parser = argparse.ArgumentParser(prog="make profile", description=__doc__.partition("\n")[0])
    parser.add_argument("--of", default="public", help="a side of the case `patterns`")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--native", action="store_true", help="C functions too")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    require("nginx", "wrk", "redis-server", "taskset", program("py-spy") or "py-spy")
    os.sched_setaffinity(0, {LOAD_CORE})
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with open_ground() as ground:
        sides = {side.name: side for side in patterns(ground)}
        if options.of not in sides:
            raise Failed(f"--of is one of: {', '.join(sides)}")
        side = sides[options.of]
        with PROXIES[side.proxy](ground) as proxy:
            side.load.warm_up(proxy, ground.folder)
            side.load.check(proxy)
            _, worker = proxy.family()
            command = [program("py-spy"), "record", "--pid", str(worker), "--gil"]
            command += ["--duration", str(options.seconds), "--rate", str(SAMPLES_A_SECOND)]
            command += ["--native"] if options.native else []
            command += ["--output", str(options.output)]
            recording = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            sample = side.load.sample(proxy, ground.folder, options.seconds + 2)
            said, _ = recording.communicate(timeout=60)
    if recording.returncode:
        raise Failed(said.decode())
    print(f"{options.of}: {sample.rate:,.0f} requests a second, {sample.cpu_us:.1f} µs of CPU each")
    print(f"{options.output} ({SAMPLES_A_SECOND} samples a second, for {options.seconds} s)")


if __name__ == "__main__":
    main()

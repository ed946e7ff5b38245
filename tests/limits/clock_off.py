"""The `gateway` command where clocks are off: `python tests/limits/clock_off.py SECONDS serve …`.

The clock that tells the time of day is that far ahead, and so is the one that never steps back.
"""

import sys
import time
from collections.abc import Callable


def ahead(clock: Callable[[], float], seconds: float) -> Callable[[], float]:
    return lambda: clock() + seconds


if __name__ == "__main__":
    off_seconds = float(sys.argv.pop(1))
    time.time = ahead(time.time, off_seconds)
    time.monotonic = ahead(time.monotonic, off_seconds)

    # Only now: its modules take the clocks as they find them.
    from gateway.cli import main

    main()

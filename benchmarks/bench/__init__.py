"""The gateway beside what anyone would put there instead, on one machine, in the same minutes.

Terms: a *proxy* is the gateway or one of its *peers*, run alone on one core while it is measured;
backend, load generator and Redis share the other. A *case* compares *sides*: a proxy under a load.
Its rounds are interleaved: each has one *sample* of every side, and a *ratio* is the median of the
rounds' ratios, since what disturbs a machine disturbs neighbours alike.
"""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[2] / "tests"
sys.path += [str(TESTS), str(TESTS / "listener")]  # what stands in for others there

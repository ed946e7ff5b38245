"""A case: what it compares, how its rounds run, and what comes of them.

Figures are `{side: {metric: [one value for each round]}}`, so that the rounds' ratios can be had.
"""

import contextlib
import shutil
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from functools import partial
from http.client import HTTPException

from bench.gateways import Proxy, gateway, many_routes
from bench.ground import Ground
from bench.load import Load, Sample
from bench.machine import Failed
from bench.peers import LARGE_BUFFERS, NEEDS, PEERS, nginx, program

Figures = dict[str, dict[str, list[float]]]
Opener = Callable[[Ground], AbstractContextManager[Proxy]]
METRICS = tuple(field.name for field in fields(Sample))

GATEWAY = "gateway"
BUFFERED = "nginx with large buffers"
PROXIES: dict[str, Opener] = PEERS | {
    BUFFERED: partial(nginx, name="buffered", more=LARGE_BUFFERS),
    GATEWAY: gateway,
    "gateway, shipped limit": partial(gateway, name="shipped", prefix="shipped", rate_limit={}),
    "gateway, TLS": partial(gateway, name="tls", tls=True),
    "gateway, 2 workers": partial(gateway, name="two", workers=2),
    "gateway, 10 routes": partial(gateway, name="few", routes=many_routes(10)),
    "gateway, 10,000 routes": partial(gateway, name="many", routes=many_routes(10_000)),
}


@dataclass(frozen=True, slots=True)
class Options:
    rounds: int
    seconds: float
    requests: int  # of the case that counts them


@dataclass(frozen=True, slots=True)
class Side:
    name: str
    proxy: str
    load: Load


@dataclass(frozen=True, slots=True)
class Comparison:
    """Sides under load, in turns."""

    name: str
    title: str
    sides: Callable[[Ground], list[Side]]
    metric: str = "rate"
    refers: Callable[[str], str] | None = None  # which side a side's ratio refers to; None: first

    def reference(self, figures: Figures, side: str) -> str:
        return next(iter(figures)) if self.refers is None else self.refers(side)

    def run(self, ground: Ground, options: Options, say: Callable[[str], None]) -> Figures:
        """`say` takes what is of interest for a moment. Raises Failed.

        What is not installed is left out, with a word.
        """
        with contextlib.ExitStack() as stack:
            running: dict[str, Proxy] = {}
            sides = []
            for side in self.sides(ground):
                if lacking := missing(side.proxy):
                    print(f"{side.name} is left out: {lacking} is not installed", flush=True)
                    continue
                if side.proxy not in running:
                    running[side.proxy] = stack.enter_context(PROXIES[side.proxy](ground))
                with naming(side):
                    side.load.warm_up(running[side.proxy], ground.folder)
                    side.load.check(running[side.proxy])
                sides.append(side)
            figures: Figures = {side.name: {metric: [] for metric in METRICS} for side in sides}
            for at in range(options.rounds):
                say(f"round {at + 1} of {options.rounds}")
                for side in sides[:: 1 if at % 2 else -1]:
                    with naming(side):
                        proxy = running[side.proxy]
                        sample = side.load.sample(proxy, ground.folder, options.seconds)
                    for metric, value in asdict(sample).items():
                        figures[side.name][metric].append(value)
        return figures


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is measured otherwise; `unit` tells how its figures are printed."""

    name: str
    title: str
    run: Callable[[Ground, Options, Callable[[str], None]], Figures]


Case = Comparison | Measurement


@contextlib.contextmanager
def naming(side: Side) -> Iterator[None]:
    """A failure within says whose it is."""
    try:
        yield
    except (Failed, OSError, HTTPException) as error:
        raise Failed(f"{side.name}: {error!r}") from error


def missing(proxy: str) -> str:
    """The program that a proxy lacks here."""
    needed = NEEDS.get(proxy, ("taskset",))[0]
    return "" if shutil.which(program(needed)) else needed


def ratio(figures: Figures, side: str, reference: str, metric: str) -> tuple[float, float, float]:
    """The median of the rounds' ratios, the least, the greatest. Raises KeyError."""
    pairs = zip(figures[side][metric], figures[reference][metric], strict=True)
    ratios = [value / other if other else 0.0 for value, other in pairs]
    return statistics.median(ratios), min(ratios), max(ratios)


def median(figures: Figures, side: str, metric: str) -> float:
    return statistics.median(figures[side][metric])

"""The targets: what is to be reached, as a table, and what a run has reached of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.case import GATEWAY, Figures, median, ratio

Results = Mapping[str, Figures]  # by case


@dataclass(frozen=True, slots=True)
class Target:
    """`figure` raises KeyError where what it needs was not measured."""

    what: str
    figure: Callable[[Results], float]
    bound: float
    at_most: bool = False
    unit: str = "×"
    digits: int = 2

    def verdict(self, results: Results) -> "Verdict":
        try:
            reached = self.figure(results)
        except KeyError:
            return Verdict(self, None)
        return Verdict(self, reached)

    def text(self, value: float) -> str:
        return f"{value:.{self.digits}f} {self.unit}"

    @property
    def wanted(self) -> str:
        return f"at {'most' if self.at_most else 'least'} {self.text(self.bound)}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reached` is None where nothing was measured."""

    target: Target
    reached: float | None

    @property
    def met(self) -> bool | None:
        if self.reached is None:
            return None
        bound = self.target.bound
        return self.reached <= bound if self.target.at_most else self.reached >= bound

    @property
    def word(self) -> str:
        return {True: "met", False: "NOT met", None: "not measured"}[self.met]


def of(case: str, side: str, reference: str, metric: str = "rate") -> Callable[[Results], float]:
    return lambda results: ratio(results[case], side, reference, metric)[0]


def value(case: str, side: str, metric: str) -> Callable[[Results], float]:
    return lambda results: median(results[case], side, metric)


PUBLIC = "public route, 1.5 KB, 32 connections: of"
TARGETS: tuple[Target, ...] = (
    Target(f"{PUBLIC} nginx", of("public", GATEWAY, "nginx"), 0.5),
    Target(f"{PUBLIC} Traefik", of("public", GATEWAY, "Traefik"), 2.5),
    Target(f"{PUBLIC} Caddy", of("public", GATEWAY, "Caddy"), 3.0),
    Target(f"{PUBLIC} the obvious aiohttp proxy", of("public", GATEWAY, "obvious aiohttp"), 5.0),
    Target(
        f"{PUBLIC} nginx with auth_request to Python",
        of("public", GATEWAY, "nginx + auth_request"),
        3.0,
    ),
    Target("plan key, of public", of("patterns", "plan key", "public"), 0.92),
    Target("app token, of public", of("patterns", "app token", "public"), 0.92),
    Target("body credentials, of public", of("patterns", "body credentials, 1 KB", "public"), 0.75),
    Target("refused 401, of public", of("patterns", "refused 401", "public"), 1.3),
    Target("refused 429, of public", of("patterns", "refused 429", "public"), 1.3),
    *(
        Target(
            f"answers of {size}, of nginx",
            of("sizes", f"{GATEWAY}, {size}", f"nginx, {size}", "megabytes"),
            bound,
        )
        for size, bound in (("15 KB", 0.6), ("150 KB", 0.9), ("100 MB", 0.9))
    ),
    Target("512 connections, of 32", of("connections", f"{GATEWAY}, 512", f"{GATEWAY}, 32"), 0.9),
    Target(
        "512 connections, p99, of Traefik's",
        of("connections", f"{GATEWAY}, 512", "Traefik, 512", "p99_ms"),
        1.0,
        at_most=True,
    ),
    Target(
        "one connection, median latency, of nginx's",
        of("connections", f"{GATEWAY}, 1", "nginx, 1", "p50_ms"),
        1.25,
        at_most=True,
    ),
    Target(
        "two workers, CPU of a request, of one worker's",
        of("workers", "2 workers", "1 worker", "cpu_us"),
        1.1,
        at_most=True,
    ),
    Target(
        "WebSocket messages for a second of CPU, of nginx",
        of("websocket", GATEWAY, "nginx", "per_cpu_second"),
        0.7,
    ),
    Target("10,000 routes, of 10", of("routes", "10,000 routes", "10 routes"), 0.95),
    Target("100,000 keys, of 1", of("keys", "100,000 keys", "1 key"), 0.95),
    Target("100,000 addresses, of 1", of("addresses", "100,000 addresses", "1 address"), 0.95),
    Target(
        "a worker's memory after the requests",
        value("memory", "worker", "MB"),
        180,
        at_most=True,
        unit="MB",
        digits=0,
    ),
    Target(
        "what a quarter more requests add",
        value("memory", "worker", "MB added by a quarter more"),
        2.0,
        at_most=True,
        unit="MB",
        digits=1,
    ),
    Target(
        "10,000 idle connections, memory of each",
        value("idle", "worker", "KB each"),
        15,
        at_most=True,
        unit="KB",
        digits=1,
    ),
    Target(
        "gateway serve, until ready",
        value("startup", "gateway serve", "seconds"),
        0.8,
        at_most=True,
        unit="s",
    ),
    Target(
        "gateway --help",
        value("startup", "gateway --help", "seconds"),
        0.25,
        at_most=True,
        unit="s",
    ),
)

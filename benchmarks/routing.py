"""What one `RouteTable.match` costs, with ten routes and with ten thousand.

    python benchmarks/routing.py

Prints nanoseconds per match for a literal path, a `{name}`, a `{name...}` and an escaped path, the
best of several rounds, and how much dearer the large table is. Takes a few seconds.
"""

import timeit

from gateway.routing import Match, RouteTable

SIZES = (10, 10_000)
ROUNDS = 12
MATCHES_PER_ROUND = 20_000
GET = frozenset({"GET"})


def table(size: int) -> RouteTable[int]:
    """`size` routes: six in ten literal, three with a `{name}`, one with `{name...}`."""
    entries = []
    for index in range(size):
        service = f"/service-{index // 10}"
        form = index % 10
        path = f"{service}/v1/thing-{form}"
        if form == 9:
            path = f"{service}/mirror/{{rest...}}"
        elif form >= 6:
            path = f"{service}/v1/thing-{form}/{{id}}"
        entries.append((Match(path, GET), index))
    return RouteTable(entries)


def nanoseconds(routes: RouteTable[int], path: str) -> float:
    """The best round's mean per match, the loop's own cost included."""
    seconds = min(
        timeit.repeat(
            lambda: routes.match("GET", "api.example.com", path),
            number=MATCHES_PER_ROUND,
            repeat=ROUNDS,
        )
    )
    return seconds / MATCHES_PER_ROUND * 1e9


def main() -> None:
    small, large = (table(size) for size in SIZES)
    print(f"{'ns per match':<16}{SIZES[0]:>10,}{SIZES[1]:>10,}{'ratio':>8}")
    for kind, path in (
        ("literal", "/service-{}/v1/thing-3"),
        ("{name}", "/service-{}/v1/thing-7/123456"),
        ("{name...}", "/service-{}/mirror/ticker/24hr"),
        ("escaped", "/service-{}/v1/thing-7/%E8%A1%8C"),
    ):
        first = nanoseconds(small, path.format(0))
        second = nanoseconds(large, path.format(SIZES[1] // 20))
        print(f"{kind:<16}{first:>10.0f}{second:>10.0f}{second / first:>8.2f}")


if __name__ == "__main__":
    main()

"""All cases, in the order in which they run. Whole, they take a quarter of an hour."""

from bench.case import BUFFERED, GATEWAY, Case, Comparison, Measurement, Side
from bench.gateways import app_token, body_of, issue_keys
from bench.ground import LARGE, Ground
from bench.growth import idle_connections, memory, startup
from bench.load import HttpLoad, addresses_file, values_file
from bench.servers import BODY_BYTES
from bench.sockets import SocketLoad
from gateway.sections import RateLimitSettings
from gateway.store.keys import new_key

MANY = 100_000
ALL_PEERS = ("nginx", "nginx + auth_request", "HAProxy", "Traefik", "Caddy", "obvious aiohttp")
TUNNELS = ("nginx", "HAProxy", "Traefik", "Caddy")
PUBLIC = HttpLoad()
SHIPPED_LIMIT = RateLimitSettings().requests


def public(_ground: Ground) -> list[Side]:
    return [Side(name, name, PUBLIC) for name in (*ALL_PEERS, GATEWAY)]


def patterns(ground: Ground) -> list[Side]:
    (key,) = issue_keys(ground, 1)
    json_body = (("Content-Type", "application/json"),)
    refused = {"size": None, "path": "/plan/klines", "status": 401}
    loads = {
        "public": PUBLIC,
        "plan key": HttpLoad("/plan/klines", fields=(("X-Primit-API-Key", key),)),
        "app token": HttpLoad("/app/me", fields=(("Authorization", f"Bearer {app_token()}"),)),
        "body credentials, 1 KB": HttpLoad(
            "/body/order", method="POST", fields=json_body, body=body_of(1024)
        ),
        "refused 401": HttpLoad(**refused, fields=(("X-Primit-API-Key", new_key()),)),
    }
    blocked = HttpLoad(size=None, status=429, warm_requests=SHIPPED_LIMIT + 1)
    return [
        *(Side(name, GATEWAY, load) for name, load in loads.items()),
        Side("refused 429", "gateway, shipped limit", blocked),
    ]


def sizes(_ground: Ground) -> list[Side]:
    return [
        Side(f"{name}, {size_name(size)}", name, of_size(size))
        for size in (200, BODY_BYTES, *LARGE)
        for name in ("nginx", *((BUFFERED,) if size in LARGE else ()), GATEWAY)
    ]


def beside_nginx(side: str) -> str:
    """Of a side called `proxy, what`."""
    return f"nginx,{side.partition(',')[2]}"


def of_size(size: int) -> HttpLoad:
    if size == LARGE[-1]:
        return HttpLoad(f"/public/{size}", size=size, connections=2, least_seconds=5)
    return HttpLoad(f"/public/{size}", size=size)


def size_name(size: int) -> str:
    for unit, scale in (("MB", 1_000_000), ("KB", 1000)):
        if size >= scale:
            return f"{size / scale:g} {unit}"
    return f"{size} B"


def connections(_ground: Ground) -> list[Side]:
    return [
        Side(f"{name}, {count}", name, HttpLoad(connections=count))
        for count in (1, 32, 512)
        for name in ("nginx", "Traefik", GATEWAY)
    ]


def closing(_ground: Ground) -> list[Side]:
    load = HttpLoad(fields=(("Connection", "close"),))
    return [Side(name, name, load) for name in (*TUNNELS, GATEWAY)]


def sockets(ground: Ground) -> list[Side]:
    return [Side(name, name, SocketLoad(ground.sockets)) for name in (*TUNNELS, GATEWAY)]


def tls(_ground: Ground) -> list[Side]:
    load = HttpLoad(tls=True)
    return [
        *(Side(name, name, load) for name in TUNNELS),
        Side(GATEWAY, "gateway, TLS", load),
    ]


def workers(_ground: Ground) -> list[Side]:
    return [Side("1 worker", GATEWAY, PUBLIC), Side("2 workers", "gateway, 2 workers", PUBLIC)]


def routes(_ground: Ground) -> list[Side]:
    return [Side(f"{n} routes", f"gateway, {n} routes", PUBLIC) for n in ("10", "10,000")]


def keys(ground: Ground) -> list[Side]:
    issued = issue_keys(ground, MANY)
    return [
        Side(f"{count:,} key{'s' * (count > 1)}", GATEWAY, with_keys(ground, issued[:count]))
        for count in (1, MANY)
    ]


def with_keys(ground: Ground, issued: list[str]) -> HttpLoad:
    file = values_file(ground.folder, f"keys-{len(issued)}", issued)
    turns = (("X-Primit-API-Key", file),)
    return HttpLoad("/plan/klines", turns=turns, warm_requests=len(issued))


def addresses(ground: Ground) -> list[Side]:
    return [
        Side(f"{count:,} address{'es' * (count > 1)}", GATEWAY, from_addresses(ground, count))
        for count in (1, MANY)
    ]


def from_addresses(ground: Ground, count: int) -> HttpLoad:
    turns = (("X-Forwarded-For", addresses_file(ground.folder, count)),)
    return HttpLoad(turns=turns, warm_requests=count)


CASES: tuple[Case, ...] = (
    Comparison("public", "public route, 1.5 KB, 32 connections", public),
    Comparison("patterns", "each pattern and refusal, 32 connections", patterns),
    Comparison("sizes", "answers by size (megabytes a second)", sizes, "megabytes", beside_nginx),
    Comparison(
        "connections", "1, 32 and 512 connections, 1.5 KB", connections, "rate", beside_nginx
    ),
    Comparison("closing", "a connection for each request", closing),
    Comparison(
        "websocket", "messages of 64 B to and fro, 32 WebSockets, by CPU", sockets, "per_cpu_second"
    ),
    Comparison("tls", "TLS in front, 1.5 KB, 32 connections", tls),
    Comparison("workers", "1 and 2 workers on the same core", workers, metric="cpu_us"),
    Comparison("routes", "10 and 10,000 routes", routes),
    Comparison("keys", "1 and 100,000 plan keys", keys),
    Comparison("addresses", "1 and 100,000 client addresses", addresses),
    Measurement("memory", "a worker's memory: 100,000 addresses, 100,000 keys", memory),
    Measurement("idle", "10,000 idle connections", idle_connections),
    Measurement("startup", "`gateway serve` until ready, `gateway --help`", startup),
)

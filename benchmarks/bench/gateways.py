"""The gateway as it is measured: all of its policies on, and what it finds in Redis.

The limiter on a real Redis, plan keys, app tokens, metrics, request ids, RateLimit headers, the
ledger, a JSON access log to a file. The limit itself is out of reach, except where refusals are
the case. Users and keys are written as the platform's billing writes them (ARCHITECTURE.md).
"""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import jwt

from bench.ground import Ground
from bench.machine import PROXY_CORE, Failed, family, free_port, process, wait_for
from gateway.store.keys import new_key

SECRET = "a-secret-of-32-bytes-for-benchmarks"
ENVIRON = {
    "GATEWAY_TOKEN_SECRET": SECRET,
    "GATEWAY_VAULT_KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
}
USER = 42  # of the app token, and of the first keys
KEYS_A_USER = 10
OUT_OF_REACH = 1_000_000_000
Routes = list[dict[str, Any]]
ROUTES: Routes = [
    {"name": "public", "path": "/public/{rest...}", "auth": "public"},
    {"name": "plan", "path": "/plan/{rest...}", "auth": "plan_key", "plan": "standard"},
    {"name": "app", "path": "/app/{rest...}", "auth": "app_token"},
    {"name": "body", "path": "/body/{rest...}", "methods": ["POST"], "auth": "body_credentials"},
]


@dataclass(frozen=True, slots=True)
class Proxy:
    """One that runs. Ports are on 127.0.0.1; 0: it has none."""

    port: int
    pids: tuple[int, ...]  # of what was started; the rest are their children
    tls_port: int = 0

    def family(self) -> list[int]:
        return [each for pid in self.pids for each in family(pid)]


def settings(ground: Ground, prefix: str = "gw") -> dict[str, Any]:
    """Gateways with one prefix share keys, counts and blocks."""
    return {
        "listen": {"host": "127.0.0.1"},
        "store": {"url": f"redis://127.0.0.1:{ground.redis}/0", "prefix": prefix, "timeout": 2},
        "client_ip": {"trusted_proxies": ["127.0.0.0/8"]},  # the load generator names addresses
        "rate_limit": {"requests": OUT_OF_REACH},
        "bounds": {"connections": 20_000, "connections_per_ip": 20_000},
        "sockets": {"max_per_ip": 10_000},
    }


def many_routes(count: int) -> Routes:
    """So many routes; the public one is the last of those that share its first segment's place."""
    others = count - len(ROUTES)
    return [
        {"name": f"r{n}", "path": f"/service{n}/v1/{{id}}/{{rest...}}", "auth": "public"}
        for n in range(others)
    ] + ROUTES


def route_file(ground: Ground, routes: Routes) -> dict[str, Any]:
    upstreams = {
        "backend": {"targets": [f"http://127.0.0.1:{ground.backend}"]},
        "sockets": {"targets": [f"http://127.0.0.1:{ground.socket_port}"]},
    }
    tunnel = {"name": "ws", "path": "/ws", "auth": "public", "websocket": True}
    return {
        "version": 1,
        "upstreams": upstreams,
        "routes": [
            *({**route, "upstream": "backend"} for route in routes),
            {**tunnel, "upstream": "sockets"},
        ],
    }


def files(ground: Ground, name: str, chosen: dict[str, Any], routes: Routes) -> list[str]:
    """The options that name both files, which are written."""
    options = []
    for kind, content in (("config", chosen), ("routes", route_file(ground, routes))):
        path = ground.folder / f"{name}-{kind}.yaml"
        path.write_text(json.dumps(content))  # which is YAML too
        options += [f"--{kind}", str(path)]
    return options


@contextlib.contextmanager
def gateway(
    ground: Ground,
    name: str = "gateway",
    *,
    routes: Routes = ROUTES,
    workers: int = 1,
    tls: bool = False,
    prefix: str = "gw",
    **sections: dict[str, Any],
) -> Iterator[Proxy]:
    """A gateway with these settings beside the usual ones, ready."""
    port, admin = free_port(), free_port()
    chosen = settings(ground, prefix) | sections
    chosen["listen"] |= {"port": port, "workers": workers}
    chosen["admin"] = {"port": admin}
    if tls:
        chosen["listen"]["tls"] = ground.certificate
    command = [sys.executable, "-m", "gateway", "serve", *files(ground, name, chosen, routes)]
    log, access_log = ground.folder / f"{name}.log", ground.folder / f"{name}-access.log"
    with process(PROXY_CORE, *command, env=ENVIRON, log=log, output=access_log) as pid:
        wait_for(f"http://127.0.0.1:{admin}/readyz", log)
        deadline = time.monotonic() + 5
        while len(family(pid)) <= workers:
            if time.monotonic() > deadline:
                raise Failed(f"not all workers came:\n{log.read_text()}")
            time.sleep(0.05)
        yield Proxy(0 if tls else port, (pid,), port if tls else 0)
    access_log.unlink(missing_ok=True)


def issue_keys(ground: Ground, count: int) -> list[str]:
    """So many keys of users with a plan."""
    keys = [new_key() for _ in range(count)]
    with ground.client() as client, client.pipeline(transaction=False) as pipe:
        for number, key in enumerate(keys):
            user = USER + number // KEYS_A_USER
            if number % KEYS_A_USER == 0:
                user_fields = {"id": user, "email": f"u{user}@example.com", "plan": "standard"}
                pipe.hset(f"gw:user:{user}", mapping=user_fields)
            digest = sha256(key.encode()).hexdigest()
            fields = {"id": f"k_{number}", "user_id": user}
            pipe.hset(f"gw:key:{digest}", mapping=fields)
            if number % 1000 == 999:
                pipe.execute()
        pipe.execute()
    return keys


def app_token() -> str:
    """One of `USER`, as sign-in would issue it."""
    now = int(time.time())
    claims = {
        "iss": "primit",
        "aud": "primit-app",
        "sub": str(USER),
        "iat": now,
        "nbf": now,
        "exp": now + 86_400,
        "jti": "benchmark",
        "scope": "user",
        "ver": 1,
    }
    return jwt.encode(claims, SECRET, algorithm="HS256", headers={"kid": "k1"})


def body_of(size: int) -> bytes:
    """A JSON body of so many bytes, with credentials as routes of `body_credentials` want them."""
    order = {"symbol": "BTCUSDT", "api_key": "k" * 64, "api_secret": "s" * 64, "note": ""}
    order["note"] = "n" * (size - len(json.dumps(order)))
    return json.dumps(order).encode()

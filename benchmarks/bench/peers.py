"""What stands beside the gateway, each as plain as it can be, on one core.

None of them logs. Idle connections to the backend are kept for as many as there are clients; nginx
writes no large answer to a disk, and has its usual buffers: where answers are large, one with
larger ones stands beside it. Each listens for plain HTTP and for TLS, and tunnels `/ws`.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from bench.gateways import Proxy
from bench.ground import Ground
from bench.machine import PROXY_CORE, free_port, process, wait_for
from bench.servers import nginx_server

OBVIOUS = Path(__file__).parents[1] / "obvious.py"

NGINX_HTTP = """
  proxy_http_version 1.1; proxy_max_temp_file_size 0;
  upstream backend {{
    server 127.0.0.1:{backend}; keepalive 512; keepalive_requests 1000000000;
  }}
"""
NGINX_SERVER = """
  listen 127.0.0.1:{tls} ssl backlog=4096;
  ssl_certificate {certificate}; ssl_certificate_key {key};
  location / {{ proxy_pass http://backend; proxy_set_header Connection ""; }}
  location /ws {{
    proxy_pass http://127.0.0.1:{sockets};
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
  }}
"""
LARGE_BUFFERS = """
  proxy_buffer_size 32k; proxy_buffers 16 32k; proxy_busy_buffers_size 128k;
"""
AUTH_HTTP = """
  upstream service {{
    server 127.0.0.1:{service}; keepalive 512; keepalive_requests 1000000000;
  }}
"""
AUTH_SERVER = """
  location / {{
    auth_request /judge; proxy_pass http://backend; proxy_set_header Connection "";
  }}
  location = /judge {{
    internal; proxy_pass http://service; proxy_pass_request_body off;
    proxy_set_header Content-Length ""; proxy_set_header Connection "";
    proxy_set_header X-Real-IP $remote_addr;
  }}
"""
HAPROXY = """
global
  maxconn 4096
  nbthread 1
  log stderr local0 emerg
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  http-reuse always
frontend front
  bind 127.0.0.1:{port}
  bind 127.0.0.1:{tls} ssl crt {folder}/bench.pem
  stick-table type ip size 200k expire 60s store http_req_rate(60s)
  http-request track-sc0 src
  http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt 1000000000 }}
  use_backend sockets if {{ path /ws }}
  default_backend back
backend back
  server one 127.0.0.1:{backend}
backend sockets
  server one 127.0.0.1:{sockets}
"""


@contextlib.contextmanager
def nginx(ground: Ground, name: str = "nginx", more: str = "") -> Iterator[Proxy]:
    """`more` are further directives for all of HTTP."""
    port, tls = free_port(), free_port()
    server = NGINX_SERVER.format(tls=tls, sockets=ground.socket_port, **ground.certificate)
    http = NGINX_HTTP.format(backend=ground.backend) + more
    with nginx_server(ground.folder, name, port, server, http, core=PROXY_CORE) as pid:
        yield ready(Proxy(port, (pid,), tls), ground.folder / f"{name}.log")


@contextlib.contextmanager
def nginx_with_service(ground: Ground) -> Iterator[Proxy]:
    port, service = free_port(), free_port()
    log = ground.folder / "service.log"
    http = NGINX_HTTP.format(backend=ground.backend) + AUTH_HTTP.format(service=service)
    server = AUTH_SERVER.format()
    command = [sys.executable, "-m", "bench.auth_service", str(service), str(ground.redis)]
    with (
        process(PROXY_CORE, *command, log=log) as python,
        nginx_server(ground.folder, "auth", port, server, http, core=PROXY_CORE) as pid,
    ):
        wait_for(f"http://127.0.0.1:{service}/judge", log, status=204)
        yield ready(Proxy(port, (pid, python)), ground.folder / "auth.log")


@contextlib.contextmanager
def haproxy(ground: Ground) -> Iterator[Proxy]:
    port, tls = free_port(), free_port()
    file, log = ground.folder / "haproxy.cfg", ground.folder / "haproxy.log"
    folder, backend, sockets = ground.folder, ground.backend, ground.socket_port
    file.write_text(
        HAPROXY.format(port=port, tls=tls, folder=folder, backend=backend, sockets=sockets)
    )
    with process(PROXY_CORE, "haproxy", "-db", "-f", str(file), log=log) as pid:
        yield ready(Proxy(port, (pid,), tls), log)


@contextlib.contextmanager
def traefik(ground: Ground) -> Iterator[Proxy]:
    port, tls = free_port(), free_port()
    fixed, dynamic = ground.folder / "traefik.yaml", ground.folder / "traefik-routes.yaml"
    log = ground.folder / "traefik.log"
    limit = {"average": 1_000_000_000, "burst": 1_000_000_000}
    services = {
        name: {"loadBalancer": {"servers": [{"url": url}], "serversTransport": "wide"}}
        for name, url in (
            ("backend", f"http://127.0.0.1:{ground.backend}"),
            ("sockets", f"http://127.0.0.1:{ground.socket_port}"),
        )
    }
    all_paths = {"rule": "PathPrefix(`/`)", "service": "backend", "middlewares": ["limit"]}
    routers = {
        "all": {**all_paths, "entryPoints": ["plain"]},
        "tls": {**all_paths, "entryPoints": ["secure"], "tls": {}},
        "ws": {
            "rule": "Path(`/ws`)",
            "service": "sockets",
            "entryPoints": ["plain"],
            "priority": 1000,
        },
    }
    files = {"certFile": ground.certificate["certificate"], "keyFile": ground.certificate["key"]}
    http = {
        "routers": routers,
        "services": services,
        "middlewares": {"limit": {"rateLimit": limit}},
        "serversTransports": {"wide": {"maxIdleConnsPerHost": 1024}},
    }
    tls_files = {"stores": {"default": {"defaultCertificate": files}}}
    dynamic.write_text(json.dumps({"http": http, "tls": tls_files}))
    entries = {"plain": port, "secure": tls}
    settings = {
        "entryPoints": {name: {"address": f"127.0.0.1:{at}"} for name, at in entries.items()},
        "providers": {"file": {"filename": str(dynamic)}},
        "log": {"level": "ERROR"},
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
    }
    fixed.write_text(json.dumps(settings))
    command = [program("traefik"), f"--configFile={fixed}"]
    with process(PROXY_CORE, *command, log=log) as pid:
        yield ready(Proxy(port, (pid,), tls), log)


@contextlib.contextmanager
def caddy(ground: Ground) -> Iterator[Proxy]:
    port, tls = free_port(), free_port()
    file, log = ground.folder / "caddy.json", ground.folder / "caddy.log"
    to_sockets, to_backend = (
        {
            "handler": "reverse_proxy",
            "upstreams": [{"dial": f"127.0.0.1:{to}"}],
            "transport": {"protocol": "http", "keep_alive": {"max_idle_conns_per_host": 1024}},
        }
        for to in (ground.socket_port, ground.backend)
    )
    routes = [
        {"match": [{"path": ["/ws"]}], "handle": [to_sockets], "terminal": True},
        {"handle": [to_backend]},
    ]
    server = {"routes": routes, "automatic_https": {"disable": True}}
    servers = {
        "plain": {**server, "listen": [f"127.0.0.1:{port}"]},
        "tls": {**server, "listen": [f"127.0.0.1:{tls}"], "tls_connection_policies": [{}]},
    }
    settings = {
        "admin": {"disabled": True, "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "PANIC"}}},
        "apps": {
            "http": {"servers": servers},
            "tls": {"certificates": {"load_files": [ground.certificate]}},
        },
    }
    file.write_text(json.dumps(settings))
    command = [program("caddy"), "run", "--config", str(file)]
    env = {"HOME": str(ground.folder)}
    with process(PROXY_CORE, *command, log=log, env=env) as pid:
        yield ready(Proxy(port, (pid,), tls), log)


@contextlib.contextmanager
def obvious(ground: Ground) -> Iterator[Proxy]:
    port, log = free_port(), ground.folder / "obvious.log"
    command = [sys.executable, str(OBVIOUS), str(port), str(ground.backend)]
    with process(PROXY_CORE, *command, log=log) as pid:
        yield ready(Proxy(port, (pid,)), log)


def ready(proxy: Proxy, log: Path) -> Proxy:
    wait_for(f"http://127.0.0.1:{proxy.port}/public/klines", log)
    return proxy


PEERS: dict[str, Callable[[Ground], AbstractContextManager[Proxy]]] = {
    "nginx": nginx,
    "nginx + auth_request": nginx_with_service,
    "HAProxy": haproxy,
    "Traefik": traefik,
    "Caddy": caddy,
    "obvious aiohttp": obvious,
}
NEEDS = {
    "nginx": ("nginx", "-v"),
    "nginx + auth_request": ("nginx", "-v"),
    "HAProxy": ("haproxy", "-v"),
    "Traefik": ("traefik", "version"),
    "Caddy": ("caddy", "version"),
}


def program(name: str) -> str:
    """Where it is; where the environment says, if it does. Empty: nowhere."""
    return os.environ.get(name.upper().replace("-", "_")) or shutil.which(name) or ""


def versions() -> dict[str, str]:
    """Of each peer that can be had here; "" where it says none."""
    said = {}
    for name in PEERS:
        words = NEEDS.get(name)
        if words is None:
            said[name] = ""
        elif shutil.which(program(words[0])):
            done = subprocess.run(
                [program(words[0]), *words[1:]], capture_output=True, text=True, check=True
            )
            text = (done.stdout or done.stderr).replace("nginx/", "").split()
            version = next(word for word in text if word.lstrip("v")[:1].isdigit())
            said[name] = version.lstrip("v").partition("-")[0]
    return said

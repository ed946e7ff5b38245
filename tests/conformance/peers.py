"""nginx, HAProxy and Caddy as plain reverse proxies, and the gateway, on ports of their own.

Their configurations are the shortest that carry the same paths, with the gateway's bounds where
they have such settings. Everything listens on 127.0.0.1 and is ended by its process id.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from backend import RawBackend
from harness import open_gateway, upstream
from stage import ROUTES, SETTINGS

NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 256; }}
http {{
  access_log off; client_header_buffer_size 8k; large_client_header_buffers 4 8k;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  map $http_upgrade $upgrading {{ default upgrade; "" ""; }}
  upstream backend {{ server 127.0.0.1:{backend} max_fails=0; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port}; merge_slashes off;
    proxy_http_version 1.1; proxy_request_buffering off; proxy_buffering off;
    proxy_next_upstream off; proxy_read_timeout 5s;
    location / {{ proxy_pass http://backend; proxy_set_header Connection ""; }}
    location /small {{
      proxy_pass http://backend; proxy_set_header Connection ""; client_max_body_size 16;
    }}
    location /ws {{
      proxy_pass http://backend;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $upgrading;
    }}
  }}
}}
"""
HAPROXY = """
global
  log stderr local0 emerg
defaults
  mode http
  timeout connect 2s
  timeout client 10s
  timeout server 5s
  option http-keep-alive
  retries 0
frontend front
  bind 127.0.0.1:{port}
  http-request deny deny_status 413 if {{ path /small }} {{ req.body_size gt 16 }}
  default_backend back
backend back
  server one 127.0.0.1:{backend}
"""


def caddyfile(port: int, backend: int) -> str:
    proxy = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"127.0.0.1:{backend}"}],
        "flush_interval": -1,
    }
    small = {
        "match": [{"path": ["/small"]}],
        "terminal": True,
        "handle": [{"handler": "request_body", "max_size": 16}, proxy],
    }
    server = {
        "listen": [f"127.0.0.1:{port}"],
        "routes": [small, {"handle": [proxy]}],
        "automatic_https": {"disable": True},
        "max_header_bytes": 32768,
    }
    return json.dumps(
        {
            "admin": {"disabled": True, "config": {"persist": False}},
            "logging": {"logs": {"default": {"level": "PANIC"}}},
            "apps": {"http": {"servers": {"front": server}}},
        }
    )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def caddy_path() -> str:
    return os.environ.get("CADDY") or shutil.which("caddy") or ""


def versions() -> dict[str, str]:
    """What each peer calls itself. Raises SystemExit for one that is not there."""
    said = {}
    for name, command in (
        ("nginx", ["nginx", "-v"]),
        ("haproxy", ["haproxy", "-v"]),
        ("caddy", [caddy_path(), "version"]),
    ):
        if not command[0] or shutil.which(command[0]) is None:
            raise SystemExit(f"{name} is not installed: run make conformance")
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        words = (done.stdout or done.stderr).replace("nginx/", "").split()
        said[name] = next(word for word in words if word.lstrip("v")[0].isdigit()).lstrip("v")
    return said


@contextlib.contextmanager
def process(command: list[str], port: int, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | {"HOME": str(log.parent)}
        )
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        else:
            raise SystemExit(f"{command[0]} does not listen:\n{log.read_text()}")
        yield
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(10)


@contextlib.asynccontextmanager
async def proxy(name: str, backend: RawBackend, folder: Path) -> AsyncIterator[int]:
    """The proxy `name` before `backend`; its port."""
    if name == "gateway":
        upstreams = upstream(backend.url, timeout={"connect": 2, "read": 5})
        routes = {"upstreams": upstreams, "routes": ROUTES}
        async with open_gateway(folder, routes, SETTINGS) as running:
            yield running.port
        return
    port, config = free_port(), folder / f"{name}.conf"
    texts = {
        "nginx": NGINX.format(folder=folder, port=port, backend=backend.port),
        "haproxy": HAPROXY.format(port=port, backend=backend.port),
        "caddy": caddyfile(port, backend.port),
    }
    config.write_text(texts[name])
    commands = {
        "nginx": ["nginx", "-p", str(folder), "-c", str(config)],
        "haproxy": ["haproxy", "-db", "-f", str(config)],
        "caddy": [caddy_path(), "run", "--config", str(config)],
    }
    entered = contextlib.ExitStack()
    try:
        await asyncio.to_thread(
            entered.enter_context, process(commands[name], port, folder / f"{name}.out")
        )
        yield port
    finally:
        entered.close()

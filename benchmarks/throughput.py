"""Forwarding throughput of a public route on one worker, beside nginx, in the same minutes.

    make bench          (or: .venv/bin/python benchmarks/throughput.py [--rounds 5] [--seconds 4])

One core carries the proxy under test, the other the load generator (wrk), the backend (nginx) and
Redis. The gateway has everything on: limiter on a real Redis, metrics, JSON access log to a file,
request ids, RateLimit headers. nginx is a plain proxy_pass with keep-alive and no log. Rounds are
interleaved; what counts is the ratio of the medians: single times say little on a shared machine.
Everything listens on 127.0.0.1, runs for seconds, and is ended by its process id.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

PROXY_CORE, LOAD_CORE = 0, 1
CONNECTIONS = 32
BODY_BYTES = 1500

NGINX = """
worker_processes 1; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; default_type application/json;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 64; }}
  server {{ listen 127.0.0.1:{port}; root {folder}/www; {location} }}
}}
"""
PROXY = """location / {
    proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
  }"""


def require_programs() -> None:
    for program in ("nginx", "wrk", "redis-server", "taskset"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not installed; `make bench` installs what is missing")
    if (os.cpu_count() or 1) < 2:
        raise SystemExit("this needs two cores: one for the proxy, one for the load")


@contextlib.contextmanager
def folder_with_answer() -> Iterator[Path]:
    """A folder that nginx may read, with `www/klines` in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "www").mkdir()
        (folder / "www" / "klines").write_bytes(b"x" * BODY_BYTES)
        yield folder


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def process(
    core: int, *command: str, env: dict[str, str] | None = None, log: Path
) -> Iterator[int]:
    """Runs it on that core; its process id."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | (env or {}),
        )
        try:
            yield child.pid
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(10)


@contextlib.contextmanager
def redis_server(folder: Path, port: int) -> Iterator[redis.Redis]:
    """A client of a Redis that answers."""
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with (
        process(LOAD_CORE, *command, log=folder / "redis.log"),
        redis.Redis(port=port, retry=Retry(ConstantBackoff(0.05), 100)) as client,
    ):
        client.ping()
        yield client


def nginx_server(
    folder: Path, name: str, port: int, location: str = "", *, backend: int = 0, core=LOAD_CORE
) -> contextlib.AbstractContextManager[int]:
    """`location` may pass on to `backend`, a port."""
    text = NGINX.format(
        folder=folder, name=name, port=port, backend=backend or port, location=location
    )
    (folder / f"{name}.conf").write_text(text)
    return process(core, "nginx", "-c", str(folder / f"{name}.conf"), log=folder / f"{name}.out")


def serving(
    folder: Path, name: str, config: str, backend: int
) -> contextlib.AbstractContextManager[int]:
    """A gateway with these settings, and one public route to the port `backend`."""
    (folder / "routes.yaml").write_text(
        f"""
version: 1
upstreams: {{backend: {{targets: ["http://127.0.0.1:{backend}"]}}}}
routes: [{{name: klines, path: "/{{rest...}}", auth: public, upstream: backend}}]
"""
    )
    (folder / f"{name}.yaml").write_text(config)
    serve = [sys.executable, "-m", "gateway", "serve", "--config", str(folder / f"{name}.yaml")]
    serve += ["--routes", str(folder / "routes.yaml")]
    return process(PROXY_CORE, *serve, log=folder / f"{name}.log")


def wait_for(url: str) -> None:
    for _ in range(100):
        try:
            with urllib.request.urlopen(url) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"no answer from {url}")


def load(url: str, seconds: int) -> float:
    """Requests per second; every answer must be a 200."""
    requests, failed, rate = wrk(url, seconds)
    if failed:
        raise SystemExit(f"{url} did not answer {failed} of {requests} requests")
    return rate


def wrk(url: str, seconds: int, *options: str) -> tuple[int, int, float]:
    """How many requests were answered, how many of them not well, how many in a second."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", *options, url]
    output = subprocess.run(
        ["taskset", "-c", str(LOAD_CORE), *command], check=True, capture_output=True, text=True
    ).stdout
    answered = re.search(r"(\d+) requests in ", output)
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if answered is None or rate is None or "Socket errors" in output:
        raise SystemExit(f"{url} did not answer every request:\n{output}")
    return int(answered[1]), int(failed[1]) if failed else 0, float(rate[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    options = parser.parse_args()
    require_programs()
    with folder_with_answer() as folder:
        measure(folder, options.rounds, options.seconds)


def measure(folder: Path, rounds: int, seconds: int) -> None:
    backend, nginx, redis_port, gateway, admin = (free_port() for _ in range(5))
    config = f"""
listen: {{host: 127.0.0.1, port: {gateway}}}
admin: {{port: {admin}}}
store: {{url: "redis://127.0.0.1:{redis_port}/0"}}
rate_limit: {{requests: 1000000000}}
"""
    with (
        redis_server(folder, redis_port),
        nginx_server(folder, "backend", backend),
        nginx_server(folder, "proxy", nginx, PROXY, backend=backend, core=PROXY_CORE),
        serving(folder, "gateway", config, backend),
    ):
        urls = {
            "nginx": f"http://127.0.0.1:{nginx}/klines",
            "gateway": f"http://127.0.0.1:{gateway}/klines",
        }
        for url in urls.values():
            wait_for(url)
            load(url, 1)
        rates: dict[str, list[float]] = {name: [] for name in urls}
        for _ in range(rounds):
            for name, url in urls.items():
                rates[name].append(load(url, seconds))
    report(rates)


def report(rates: dict[str, list[float]]) -> None:
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"public route, {BODY_BYTES} B, {CONNECTIONS} connections, one core for the proxy")
    for name, values in rates.items():
        spread = f"{min(values):,.0f} to {max(values):,.0f}"
        ratio = medians[name] / medians["nginx"]
        print(f"  {name:8} {medians[name]:>9,.0f} req/s   {spread:>20}   {ratio:.2f} x nginx")


if __name__ == "__main__":
    main()

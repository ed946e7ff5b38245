"""nginx and Redis, on the load generator's core if nobody says otherwise."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from bench.machine import LOAD_CORE, open_folder, process

BODY_BYTES = 1500  # of the usual answer

NGINX = """
worker_processes 1; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.log;
worker_rlimit_nofile 20000;
events {{ worker_connections 8192; }}
http {{
  access_log off; default_type application/json;
  keepalive_requests 1000000000; keepalive_timeout 1h;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  {http}
  server {{ listen 127.0.0.1:{port} backlog=4096; root {folder}/www; {server} }}
}}
"""


def nginx_server(
    folder: Path, name: str, port: int, server: str = "", http: str = "", *, core: int = LOAD_CORE
) -> contextlib.AbstractContextManager[int]:
    """`server` and `http` are further directives of these blocks; without any, files of `www`."""
    text = NGINX.format(folder=folder, name=name, port=port, server=server, http=http)
    (folder / f"{name}.conf").write_text(text)
    return process(core, "nginx", "-c", str(folder / f"{name}.conf"), log=folder / f"{name}.out")


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


@contextlib.contextmanager
def folder_with_answer() -> Iterator[Path]:
    """A folder for `nginx_server`, with `www/klines` in it."""
    with open_folder() as folder:
        (folder / "www").mkdir()
        (folder / "www" / "klines").write_bytes(b"x" * BODY_BYTES)
        yield folder

"""nginx: as the backend of everything, and as a server for other benchmarks."""

import contextlib
from pathlib import Path

from bench.machine import LOAD_CORE, process

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

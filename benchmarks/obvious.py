"""The obvious reverse proxy of aiohttp, as the baseline: an application, one route, a session.

    .venv/bin/python benchmarks/obvious.py PORT BACKEND_PORT

It checks, limits and logs nothing, and drops the headers that belong to one hop.
"""

import sys
from collections.abc import AsyncIterator

from aiohttp import ClientSession, TCPConnector, web

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "host", "content-length"}
SESSION = web.AppKey("session", ClientSession)
BACKEND = web.AppKey("backend", str)


async def forward(request: web.Request) -> web.StreamResponse:
    headers = {name: value for name, value in request.headers.items() if end_to_end(name)}
    body = await request.read() if request.body_exists else None
    target = request.app[BACKEND] + request.raw_path
    session = request.app[SESSION]
    async with session.request(request.method, target, headers=headers, data=body) as answer:
        fields = {name: value for name, value in answer.headers.items() if end_to_end(name)}
        return web.Response(status=answer.status, headers=fields, body=await answer.read())


def end_to_end(name: str) -> bool:
    return name.lower() not in HOP_BY_HOP


async def session_of(app: web.Application) -> AsyncIterator[None]:
    async with ClientSession(connector=TCPConnector(limit=0), auto_decompress=False) as session:
        app[SESSION] = session
        yield


def main() -> None:
    port, backend = sys.argv[1:]
    app = web.Application()
    app[BACKEND] = f"http://127.0.0.1:{backend}"
    app.cleanup_ctx.append(session_of)
    app.router.add_route("*", "/{path:.*}", forward)
    web.run_app(app, host="127.0.0.1", port=int(port), print=None)


if __name__ == "__main__":
    main()

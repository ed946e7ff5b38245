"""What people put behind nginx's `auth_request`: a small Python service that says yes or no.

    python -m bench.auth_service PORT

It counts each address in a dictionary of its own, and looks the key up in another, if one came: the
least that such a service can do. (A real one asks a database, and shares its counts.)
"""

import sys
from collections import Counter

from aiohttp import web

KEYS = frozenset({"a-key"})
LIMIT = 1_000_000_000
requests: Counter[str] = Counter()


async def judge(request: web.Request) -> web.Response:
    address = request.headers.get("X-Real-IP", "")
    requests[address] += 1
    if requests[address] > LIMIT:
        return web.Response(status=403)
    key = request.headers.get("X-Primit-API-Key")
    return web.Response(status=204 if key is None or key in KEYS else 401)


def main() -> None:
    app = web.Application()
    app.router.add_get("/judge", judge)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)


if __name__ == "__main__":
    main()

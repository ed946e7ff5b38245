"""What people put behind nginx's `auth_request`: a small Python service that says yes or no.

    python -m bench.auth_service PORT REDIS_PORT

It does what the gateway does for a public route, and the key's check where a key came, the obvious
way: one round trip to Redis for each request, in which the address is counted in its minute and the
key looked up. aiohttp on uvloop, hiredis; nothing is logged, nothing else checked.
"""

import sys
import time
from hashlib import sha256

import uvloop
from aiohttp import web
from redis.asyncio import Redis

LIMIT, WINDOW_SECONDS = 1_000_000_000, 60
REDIS = web.AppKey("redis", Redis)


async def judge(request: web.Request) -> web.Response:
    address = request.headers.get("X-Real-IP", "")
    key = request.headers.get("X-Primit-API-Key")
    window = f"auth:{address}:{int(time.time()) // WINDOW_SECONDS}"
    pipe = request.app[REDIS].pipeline(transaction=False)
    pipe.incr(window)
    pipe.expire(window, 2 * WINDOW_SECONDS)
    if key is not None:
        pipe.hgetall(f"gw:key:{sha256(key.encode()).hexdigest()}")
    count, _, *found = await pipe.execute()
    if count > LIMIT:
        return web.Response(status=403)
    return web.Response(status=204 if key is None or found[0] else 401)


def main() -> None:
    port, redis_port = map(int, sys.argv[1:])
    app = web.Application()
    app[REDIS] = Redis(port=redis_port)
    app.router.add_get("/judge", judge)
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=port, print=None, loop=loop)


if __name__ == "__main__":
    main()

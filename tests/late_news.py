"""A way to Redis on which news come late: answers pass at once, what a channel tells does not."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def late_news(port: int, seconds: float) -> Iterator[str]:
    """The URL of a way to the Redis on `port`; news are late by up to twice so much."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(lambda *ends: _join(port, seconds, *ends), "127.0.0.1", 0)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _join(
    port: int, seconds: float, client: asyncio.StreamReader, to_client: asyncio.StreamWriter
) -> None:
    redis, to_redis = await asyncio.open_connection("127.0.0.1", port)
    tells_news = asyncio.Event()

    async def ask() -> None:
        while data := await client.read(1 << 16):
            if b"TRACKING" in data:
                tells_news.set()
            to_redis.write(data)
        to_redis.close()

    async def answer() -> None:
        while data := await redis.read(1 << 16):
            if tells_news.is_set():
                await asyncio.sleep(seconds)
            to_client.write(data)
        to_client.close()

    with suppress(ConnectionError, asyncio.CancelledError):
        await asyncio.gather(ask(), answer())


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)

import asyncio
import time

import pytest

from gateway.store.patience import Patience


async def test_what_never_ends_is_ended() -> None:
    with pytest.raises(TimeoutError):
        async with Patience(0.02):
            await asyncio.Event().wait()


async def test_an_answer_that_lay_waiting_while_the_loop_was_busy_is_taken() -> None:
    reader, writer, _other = await _pair()
    writer.write(b"answer\n")
    async with Patience(0.02):
        asyncio.get_running_loop().call_soon(time.sleep, 0.06)  # our own work, three times as long
        await asyncio.sleep(0)
        assert await reader.readline() == b"answer\n"
    writer.close()


async def test_a_busy_loop_is_no_excuse_for_ever() -> None:
    async def keep_busy() -> None:
        while True:
            time.sleep(0.03)
            await asyncio.sleep(0)

    busy = asyncio.create_task(keep_busy())
    with pytest.raises(TimeoutError):
        async with Patience(0.02):
            await asyncio.Event().wait()
    busy.cancel()


async def _pair() -> tuple[asyncio.StreamReader, asyncio.StreamWriter, asyncio.StreamWriter]:
    """A connection: what is written to the second is read from the first. The third keeps it."""
    accepted = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(
        lambda *streams: accepted.set_result(streams), "127.0.0.1", 0
    )
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    server.close()
    reader, other = await accepted
    return reader, writer, other

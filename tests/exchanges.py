"""Hand-made requests for tests of what stands behind the listener, without a listener."""

import asyncio
from typing import Any

from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import HttpVersion11
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.exchange import Exchange


class NoConnection:
    """A client that has sent all and waits for nothing."""

    transport: Any = None
    peer = "127.0.0.1"
    secure = False
    draining = False
    flow: Any = None
    shown: Any = None

    def switch(self, protocol: Any) -> None:
        raise AssertionError("not here")


def exchange(
    method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> Exchange:
    """A request as the pipeline hands it to an endpoint, its body already arrived."""
    loop = asyncio.get_running_loop()
    payload = StreamReader(BaseProtocol(loop), 2**16, loop=loop)
    payload.feed_data(body)
    payload.feed_eof()
    fields = CIMultiDict(headers or {})
    message = RawRequestMessage(
        method=method,
        path=target,
        version=HttpVersion11,
        headers=CIMultiDictProxy(fields),
        raw_headers=tuple((name.encode(), value.encode()) for name, value in fields.items()),
        should_close=False,
        compression=None,
        upgrade=False,
        chunked=False,
        url=URL("/"),
    )
    return Exchange(message, payload, NoConnection(), 0.0)

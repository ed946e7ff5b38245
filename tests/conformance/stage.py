"""A case played: the recording backend says its part, a client sends its bytes.

`GATEWAY` is the route table that the cases count on; the peers' configurations in `peers.py` have
the same paths.
"""

import asyncio
from typing import Any

from backend import OK, RawBackend, Received
from case import HEAD, Case
from harness import route

AFTER = b"GET /after HTTP/1.1\r\n" + HEAD + b"Connection: close\r\n\r\n"
SETTINGS: dict[str, Any] = {"rate_limit": {"requests": 100_000}}
ROUTES = [
    route(),
    route("/get", name="get", methods=["GET"]),
    route("/key", "plan_key", name="key", plan="standard"),
    route("/small", name="small", max_body=16),
    route("/loose/{rest...}", name="loose", loose_path=True),
    route("/ws", name="ws", websocket=True),
]


def cast(backend: RawBackend, case: Case, *, bytewise: bool = False) -> list[Received]:
    """Let `backend` play its part in `case`, from the beginning.

    Returns a list of the requests that have come whole, AFTER not among them.
    """
    whole: list[Received] = []

    async def play(
        _b: RawBackend, received: Received, _r: Any, writer: asyncio.StreamWriter
    ) -> None:
        if b"/after " in received.line:
            writer.write(OK)
            return
        whole.append(received)
        if bytewise and len(case.answer) < 10_000:
            for at in range(len(case.answer)):
                if writer.transport.is_closing():
                    return
                writer.write(case.answer[at : at + 1])
                await asyncio.sleep(0)
        else:
            writer.write(case.answer)
            await writer.drain()
        if case.answer_ends:
            writer.close()

    backend.script = play
    backend.read_bodies = not case.early
    backend.requests.clear()
    return whole

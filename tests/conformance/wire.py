"""A client on a raw socket: sends a case's bytes, and takes apart what comes back, strictly."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9][0-9]) ([\t -~\x80-\xff]*)").fullmatch
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)").fullmatch
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;.*)?").fullmatch
DEADLINE_SECONDS = 10.0


class Malformed(Exception):
    """What came back is not HTTP/1.1 (RFC 9112)."""


@dataclass(slots=True)
class Answer:
    status: int
    fields: list[tuple[bytes, bytes]]
    head: bytes
    body: bytes = b""
    whole: bool = False

    def all(self, name: bytes) -> list[bytes]:
        return [value for field, value in self.fields if field.lower() == name.lower()]


def answers_in(data: bytes, methods: Sequence[bytes], *, ended: bool) -> list[Answer]:
    """The answers to requests of `methods` (GET behind them), the last one perhaps not whole.

    `ended`: nothing more will come. A head that has not come whole is no answer yet.
    """
    answers: list[Answer] = []
    finals = 0
    while b"\r\n\r\n" in data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        status = STATUS_LINE(first)
        fields = [FIELD(line) for line in lines]
        if status is None or not all(fields):
            raise Malformed(head)
        answer = Answer(
            int(status[1]), [(field[1], field[2]) for field in fields if field], head + b"\r\n"
        )
        answers.append(answer)
        if answer.status == 101:
            answer.body, answer.whole = data, ended
            return answers
        if answer.status < 200:
            answer.whole = True
            continue
        method = methods[finals] if finals < len(methods) else b"GET"
        finals += 1
        data = _take_body(answer, data, head_only=method == b"HEAD", ended=ended)
        if not answer.whole:
            return answers
    if data and ended:
        raise Malformed(data)
    return answers


def _take_body(answer: Answer, data: bytes, *, head_only: bool, ended: bool) -> bytes:
    """What follows the answer's body (RFC 9112 §6.3)."""
    lengths, codings = answer.all(b"Content-Length"), answer.all(b"Transfer-Encoding")
    if head_only or answer.status in (204, 304):
        answer.whole = True
        return data
    if codings:
        if codings != [b"chunked"] or lengths:
            raise Malformed(answer.head)
        return _take_chunks(answer, data)
    if lengths:
        if len(lengths) > 1:
            raise Malformed(answer.head)
        size = int(lengths[0])
        answer.body, data = data[:size], data[size:]
        answer.whole = len(answer.body) == size
        return data
    answer.body, answer.whole = data, ended
    return b""


def _take_chunks(answer: Answer, data: bytes) -> bytes:
    while b"\r\n" in data:
        line, _, rest = data.partition(b"\r\n")
        size = CHUNK_SIZE(line)
        if size is None:
            raise Malformed(line)
        length = int(size[1], 16)
        if length == 0:
            end = rest.find(b"\r\n") if rest.startswith(b"\r\n") else rest.find(b"\r\n\r\n")
            if end >= 0:
                answer.whole = True
                return rest[end + (2 if end == 0 else 4) :]
            return b""
        if len(rest) < length + 2:
            answer.body += rest[:length]
            return b""
        if rest[length : length + 2] != b"\r\n":
            raise Malformed(rest[length : length + 2])
        answer.body += rest[:length]
        data = rest[length + 2 :]
    return b""


@dataclass(slots=True)
class Outcome:
    answers: list[Answer]
    closed: bool  # by the other side

    @property
    def statuses(self) -> tuple[int, ...]:
        return tuple(answer.status for answer in self.answers)


async def converse(
    port: int,
    send: bytes,
    methods: Sequence[bytes],
    *,
    bytewise: bool = False,
    after_continue: bytes = b"",
    then: tuple[int, bytes] | None = None,
    lingers: bool = False,
    patience: tuple[float, float] | None = None,
) -> Outcome:
    """Send, and read until the other side closes.

    `then`: once so many answers have come whole, send this too. `lingers`: send no more, once an
    answer has come. `patience`: give up after so
    many seconds without an answer, and so many after the last answer; else DEADLINE_SECONDS for
    all, and TimeoutError.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sending = asyncio.create_task(_send(writer, send, bytewise=bytewise))
    data, closed = b"", False
    answers: list[Answer] = []
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not closed:
                done = bool(answers) and answers[-1].whole and answers[-1].status >= 200
                wait = None if patience is None else patience[1] if done else patience[0]
                try:
                    piece = await asyncio.wait_for(reader.read(1 << 16), wait)
                except TimeoutError:
                    if patience is None:
                        raise
                    break
                except ConnectionError:
                    piece = b""
                data, closed = data + piece, not piece
                answers = answers_in(data, methods, ended=closed)
                if after_continue and any(answer.status == 100 for answer in answers):
                    writer.write(after_continue)
                    after_continue = b""
                if then is not None and len(answers) >= then[0] and answers[-1].whole:
                    await sending
                    writer.write(then[1])
                    then = None
                if lingers and answers and answers[-1].status >= 200 and answers[-1].whole:
                    writer.write_eof()
                    lingers = False
        return Outcome(answers, closed)
    finally:
        sending.cancel()
        writer.transport.abort()


async def _send(writer: asyncio.StreamWriter, data: bytes, *, bytewise: bool) -> None:
    for piece in [data[at : at + 1] for at in range(len(data))] if bytewise else [data]:
        if writer.transport.is_closing():
            return
        writer.write(piece)
        await asyncio.sleep(0)

"""Answers that the gateway makes itself, written to the client in one piece."""

import socket
import struct
import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from aiohttp import HttpVersion10

from gateway.exchange import Answer, Exchange
from gateway.limits import ratelimit

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, for no second
# Digits of a body's length: what is longer than six say, and was not read, is not waited for.
LONGEST_LEFTOVER = 6


@lru_cache(maxsize=64)
def status_line(status: int) -> bytes:
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = ""
    return f"HTTP/1.1 {status} {reason}\r\n".encode()


@lru_cache(maxsize=2)
def _date_line(second: int) -> bytes:
    return f"Date: {formatdate(second, usegmt=True)}\r\n".encode()


def own_lines(exchange: Exchange) -> bytes:
    """What every answer to this request carries, whoever makes it."""
    limits = exchange.limits
    if not limits:
        text = f"X-Request-ID: {exchange.request_id}\r\n"
    else:
        if len(limits) == 1:
            policies, states = limits[0].policy.item, ratelimit(limits[0])
        else:
            policies = ", ".join([decision.policy.item for decision in limits])
            states = ", ".join([ratelimit(decision) for decision in limits])
        text = (
            f"X-Request-ID: {exchange.request_id}\r\n"
            f"RateLimit-Policy: {policies}\r\n"
            f"RateLimit: {states}\r\n"
        )
    return text.encode() + exchange.cors_lines


def connection_line(exchange: Exchange) -> bytes:
    """What HTTP/1.1 wants said when a connection ends, and HTTP/1.0 when it does not."""
    if exchange.close_after or exchange.connection.draining:
        exchange.close_after = True
        return b"Connection: close\r\n"
    if exchange.message.version == HttpVersion10:
        return b"Connection: keep-alive\r\n"
    return b""


def cut(exchange: Exchange) -> None:
    """End a connection amid an answer, so that its client can tell.

    HTTP/1.0 has answers that last until the connection ends: there, only a reset (RST, by a linger
    of no time) is not taken for a good end (RFC 9112 §8).
    """
    transport = exchange.connection.transport
    if transport is None:
        return
    if exchange.message.version == HttpVersion10:
        sock = transport.get_extra_info("socket")
        if sock is not None and not transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    transport.abort()


def write_answer(exchange: Exchange, answer: Answer) -> None:
    """Write `answer`, if its client is still there; HEAD gets the head of it (RFC 9110 §9.3.2)."""
    exchange.status = answer.status
    exchange.answered = True
    if exchange.wants_continue:
        # Whether its body still comes, only the client knows: what comes next may be either.
        exchange.close_after = True
    elif not exchange.payload.is_eof():
        declared = exchange.headers.get("Content-Length", "")
        exchange.close_after |= len(declared) > LONGEST_LEFTOVER
    transport = exchange.connection.transport
    if transport is None or transport.is_closing():
        return
    parts = [status_line(answer.status), _date_line(int(time.time()))]
    if answer.content_type is not None:
        parts.append(f"Content-Type: {answer.content_type}\r\n".encode())
    if answer.status != 204:
        parts.append(b"Content-Length: %d\r\n" % len(answer.body))
    parts.extend(f"{name}: {value}\r\n".encode() for name, value in answer.headers)
    parts += (own_lines(exchange), connection_line(exchange), b"\r\n")
    if exchange.method != "HEAD":
        parts.append(answer.body)
        exchange.sent_bytes = len(answer.body)
    transport.write(b"".join(parts))

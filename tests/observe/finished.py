"""Requests that are over, as log and metrics see them."""

from dataclasses import dataclass
from typing import Any

from aiohttp import HttpVersion11
from aiohttp.http_parser import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.exchange import Exchange, Identity


@dataclass(frozen=True, slots=True)
class Labels:
    name: str = "klines"
    pattern: str = "plan_key"


def finished(method: str = "GET", target: str = "/", **fields: Any) -> Exchange:
    """An exchange with a status of 200 and `fields` set."""
    message = RawRequestMessage(
        method,
        target,
        HttpVersion11,
        CIMultiDictProxy(CIMultiDict()),
        (),
        False,
        None,
        False,
        False,
        URL("/"),
    )
    exchange = Exchange(message, None, None, 0.0)
    exchange.status = 200
    exchange.client_ip = "192.0.2.7"
    exchange.request_id = "r-1"
    for name, value in fields.items():
        setattr(exchange, name, value)
    return exchange


def identity(**fields: Any) -> Identity:
    return Identity("plan_key", **fields)

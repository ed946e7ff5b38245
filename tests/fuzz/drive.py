"""The real client connection on a mock transport: bytes in, what it made of them out. No sockets.

What the gateway would carry is written as it would write it, by the route's own `Forwarder`, and
compared with the reference parser's reading of the same bytes.
"""

import asyncio
from typing import Any

from reference import Request, read_request

from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.limits import ClientAddresses
from gateway.listener import Listener
from gateway.pipeline import CLOSE, KEEP, check_head
from gateway.proxy.forward import Forwarder, _framing
from gateway.proxy.headers import request_drops
from gateway.proxy.pool import parse_target
from gateway.routing import Match, RouteTable
from gateway.settings import BoundsSettings

DROPS = request_drops(pass_credentials=False, takes_authorization=False, sets=())
OURS = (b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Request-ID")


class Finding(AssertionError):
    """A rule that was broken; the message says which, and how."""


def claim(holds: object, *what: object) -> None:
    if not holds:
        raise Finding(*what)

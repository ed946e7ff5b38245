"""Whether a request's head is well formed, beyond what aiohttp's parser asks of it."""

import re
from functools import lru_cache

from aiohttp import HttpVersion10, HttpVersion11

from gateway.errors import BadRequest
from gateway.exchange import Exchange

# RFC 3986 §3.2.2: a name, an IPv4 address, or an IPv6 one in brackets; then a port.
# An escape in a name stands for no control character.
HOST = re.compile(
    r"(?:(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[2-9A-Fa-f][0-9A-Fa-f])++|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?"
).fullmatch
LONGEST_HOST = 261  # characters: a name of 255 (RFC 1035 §2.3.4), and a port
LONGEST_LENGTH = 19  # digits; Python does not read thousands, and llhttp allows leading zeros


def check_head(exchange: Exchange) -> None:
    """Refuse what aiohttp's parser lets through and two servers could read differently.

    RFC 9112 §2.3 (versions), §3.2 (one valid Host, no fragment), §6.1 (transfer codings).
    """
    message = exchange.message
    version = message.version
    if version is not HttpVersion11 and version not in (HttpVersion10, HttpVersion11):
        raise BadRequest("Unsupported HTTP version", reason="bad_version")
    if "#" in message.path:
        raise BadRequest("Invalid path", reason="bad_path")
    headers = message.headers
    hosts = headers.getall("Host", ())
    if len(hosts) > 1 or (not hosts and version == HttpVersion11):
        raise BadRequest("One Host header is required", reason="bad_host")
    sent, host = hosts[0] if hosts else "", exchange.host  # or that of the target, if it names one
    if (hosts and not _valid_host(sent)) or (host != sent and not _valid_host(host)):
        raise BadRequest("Invalid Host header", reason="bad_host")
    if len(headers.get("Content-Length", "")) > LONGEST_LENGTH:
        raise BadRequest("Invalid Content-Length", reason="bad_framing")
    if message.chunked or "Transfer-Encoding" in headers:
        codings = headers.getall("Transfer-Encoding", ())
        if [coding.lower() for coding in codings] != ["chunked"] or version == HttpVersion10:
            raise BadRequest("Invalid Transfer-Encoding", reason="bad_transfer_encoding")
        if "Content-Length" in headers:
            raise BadRequest("Both Content-Length and Transfer-Encoding", reason="bad_framing")
    if message.method == "CONNECT":  # no tunnels to anywhere (RFC 9110 §9.3.6)
        raise BadRequest("Unsupported method", reason="bad_method")
    if "Expect" in headers:  # any other than this is dropped, as the field is (RFC 9110 §10.1.1)
        asked = ",".join(headers.getall("Expect")).lower().split(",")
        wants = "100-continue" in map(str.strip, asked)
        exchange.wants_continue = wants and version == HttpVersion11


def _valid_host(host: str) -> bool:
    return len(host) <= LONGEST_HOST and _well_formed_host(host)


@lru_cache(maxsize=4096)
def _well_formed_host(host: str) -> bool:
    return HOST(host) is not None

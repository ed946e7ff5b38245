"""Whose request it is: the client's address, and the bucket that the address is limited by.

`X-Forwarded-For` is believed only from trusted proxies, and read from right to left: each element
was added by the one to its right, so the first address that is no trusted proxy is the client's.
An element that is no address ends the reading; the last good address counts, which is then a
trusted proxy's. Elements may carry a port and brackets (`1.2.3.4:5678`, `[2001:db8::1]:80`).

Addresses are in their canonical text (RFC 5952), IPv4-mapped ones as IPv4, without zone. What is
no address at all (a peer on a Unix socket) stays as it is and is never trusted.
"""

import ipaddress
import re
from functools import lru_cache

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.sections import ClientIpSettings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Headers = CIMultiDict[str] | CIMultiDictProxy[str]

LONGEST_ELEMENT = 80  # characters: an IPv6 address with brackets, zone and port
REMEMBERED = 65_536  # addresses
BRACKETED = re.compile(r"\[([^\[\]]*)\](?::[0-9]{1,5})?").fullmatch
V4_WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}").fullmatch


class ClientAddresses:
    """The rules for client addresses, and a memory of those seen lately."""

    def __init__(self, settings: ClientIpSettings) -> None:
        self._prefix = settings.ipv6_prefix
        self._trusted = settings.trusted_proxies
        self.trusts = lru_cache(REMEMBERED)(self._is_trusted)
        self.bucket = lru_cache(REMEMBERED)(self._bucket_of)

    def resolve(self, peer: str, headers: Headers) -> str:
        """The client's address, from the connection's peer and the request's headers."""
        client = canonical(peer)
        if client is None:
            return peer
        if not self._trusted or not self.trusts(client):
            return client
        forwarded = headers.getall("X-Forwarded-For", ())
        rest = ",".join(forwarded)
        while rest:
            rest, _, element = rest.rpartition(",")
            element = element.strip(" \t")
            if not element:  # empty elements are ignored (RFC 9110 §5.6.1.2)
                continue
            if len(element) > LONGEST_ELEMENT:
                break
            address = canonical(_bare(element))
            if address is None:
                break
            client = address
            if not self.trusts(client):
                break
        return client

    def _is_trusted(self, address: str) -> bool:
        """Is this the address of a trusted proxy?"""
        parsed = parse(address)
        return parsed is not None and any(parsed in network for network in self._trusted)

    def _bucket_of(self, address: str) -> str:
        """What an address is limited by: IPv4 itself, IPv6 its network."""
        if ":" not in address:
            return address
        parsed = parse(address)
        if parsed is None:
            return address
        if parsed.version == 4:
            return str(parsed)
        return str(ipaddress.IPv6Network((int(parsed), self._prefix), strict=False))


def parse(text: str) -> Address | None:
    """An address without its zone, an IPv4-mapped one as IPv4; None for anything else."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.scope_id is not None:
            return ipaddress.IPv6Address(int(address))
    return address


@lru_cache(REMEMBERED)
def canonical(text: str) -> str | None:
    """The canonical text of an address, or None."""
    address = parse(text)
    return None if address is None else str(address)


def _bare(element: str) -> str:
    """An element of X-Forwarded-For without brackets and port."""
    match = BRACKETED(element)
    if match is not None:
        return match[1] if ":" in match[1] else ""
    match = V4_WITH_PORT(element)
    return element if match is None else match[1]

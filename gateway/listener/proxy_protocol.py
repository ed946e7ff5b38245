"""The PROXY header that a balancer puts before everything else on a connection, versions 1 and 2.

By the specification of HAProxy's authors ("The PROXY protocol"); section numbers are its own.
Rules: a header is read to the byte, so that what follows can be anything, TLS too; what is not
exactly a header is refused, never guessed at; of what it says only the client's address is taken.
Checked: its framing, its addresses and ports, the framing of its extensions (TLVs).

Not about TCP clients are UNKNOWN, LOCAL (the balancer speaks for itself: a health check), and the
families UNSPEC and UNIX: there the peer stays who it is. Datagrams can't come by a stream.
"""

import ipaddress
import re

MAX_V1_BYTES = 107  # §2.1
MAX_V2_BYTES = 4096  # with TLVs, of which certificates of clients are the longest
MIN_V1_BYTES = len(b"PROXY UNKNOWN\r\n")
SIGNATURE_V1 = b"PROXY "
SIGNATURE_V2 = b"\r\n\r\n\0\r\nQUIT\n"
FIXED_V2_BYTES = 16

LOCAL, PROXY = 0x20, 0x21  # version 2 and a command (§2.2)
FAMILIES = {0x1: 4, 0x2: 16, 0x3: 108}  # IPv4, IPv6, Unix: bytes of one address
UNSPECIFIED, STREAM = 0x00, 0x1
UNIX = 0x3
PORTS_BYTES = 4

V1 = re.compile(rb"PROXY (TCP[46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) ([0-9]+) ([0-9]+)\r\n")
V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")


class Malformed(ValueError):
    """What came is no PROXY header."""


def missing(header: bytes) -> int:
    """How many bytes more surely belong to the header that begins so; 0: it is whole.

    Raises Malformed when it can't become a header any more.
    """
    have = len(header)
    if SIGNATURE_V2.startswith(header[: len(SIGNATURE_V2)]):
        if have < FIXED_V2_BYTES:
            # The shorter of both, as long as it may be either.
            return (FIXED_V2_BYTES if have else MIN_V1_BYTES) - have
        whole = FIXED_V2_BYTES + int.from_bytes(header[14:16])
        if whole > MAX_V2_BYTES:
            raise Malformed
        return whole - have
    if not SIGNATURE_V1.startswith(header[: len(SIGNATURE_V1)]):
        raise Malformed
    if header.endswith(b"\r\n"):
        return 0
    more = max(1 if header.endswith(b"\r") else 2, MIN_V1_BYTES - have)
    if have + more > MAX_V1_BYTES or b"\n" in header:
        raise Malformed
    return more


def client_address(header: bytes) -> str | None:
    """The address of the client that a whole header names; None: the peer is who it is.

    Raises Malformed.
    """
    if header.startswith(SIGNATURE_V2):
        return _client_of_v2(header)
    if V1_UNKNOWN.fullmatch(header):
        return None
    match = V1.fullmatch(header)
    if match is None:
        raise Malformed
    protocol, client, server, *ports = [part.decode() for part in match.groups()]
    if any(int(port) > 65535 or (port[0] == "0" and port != "0") for port in ports):
        raise Malformed
    kind = ipaddress.IPv4Address if protocol == "TCP4" else ipaddress.IPv6Address
    try:
        kind(server)
        return str(kind(client))
    except ValueError:
        raise Malformed from None


def _client_of_v2(header: bytes) -> str | None:
    command, family, transport = header[12], header[13] >> 4, header[13] & 0xF
    if command == LOCAL:
        return None
    if command != PROXY:
        raise Malformed
    body = header[FIXED_V2_BYTES:]
    if header[13] == UNSPECIFIED:
        return None
    if family not in FAMILIES or transport != STREAM:
        raise Malformed
    size = FAMILIES[family]
    addresses_bytes = 2 * size + (0 if family == UNIX else PORTS_BYTES)
    if len(body) < addresses_bytes:
        raise Malformed
    _check_extensions(body[addresses_bytes:])
    return None if family == UNIX else str(ipaddress.ip_address(body[:size]))


def _check_extensions(rest: bytes) -> None:
    """Each is a type, a length of two bytes, and as many bytes (§2.2)."""
    while rest:
        if len(rest) < 3:
            raise Malformed
        length = int.from_bytes(rest[1:3])
        if len(rest) < 3 + length:
            raise Malformed
        rest = rest[3 + length :]

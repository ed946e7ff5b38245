"""PROXY headers, byte by byte as they come: what they say, and what is none."""

import socket

import pytest

from gateway.listener.proxy_protocol import (
    MAX_V2_BYTES,
    SIGNATURE_V2,
    Malformed,
    client_address,
    missing,
)


def v2(version_command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE_V2 + bytes((version_command, family)) + len(body).to_bytes(2) + body


def inet(client: str, server: str = "192.0.2.9", tail: bytes = b"") -> bytes:
    kind = socket.AF_INET6 if ":" in client else socket.AF_INET
    server = "2001:db8::9" if ":" in client else server
    ports = (40000).to_bytes(2) + (443).to_bytes(2)
    return socket.inet_pton(kind, client) + socket.inet_pton(kind, server) + ports + tail


TLV = b"\x01\x00\x02h2" + b"\x04\x00\x00"  # ALPN, and an empty NOOP

GOOD: dict[str, tuple[bytes, str | None]] = {
    "TCP4": (b"PROXY TCP4 203.0.113.7 192.0.2.9 40000 443\r\n", "203.0.113.7"),
    "TCP4, port 0": (b"PROXY TCP4 203.0.113.7 192.0.2.9 0 65535\r\n", "203.0.113.7"),
    "TCP6": (b"PROXY TCP6 2001:DB8:0::7 2001:db8::9 40000 443\r\n", "2001:db8::7"),
    "longest": (
        b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ),
    "UNKNOWN": (b"PROXY UNKNOWN\r\n", None),
    "UNKNOWN with more": (b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", None),
    "v2 IPv4": (v2(0x21, 0x11, inet("203.0.113.7")), "203.0.113.7"),
    "v2 IPv6": (v2(0x21, 0x21, inet("2001:db8::7")), "2001:db8::7"),
    "v2 with TLVs": (v2(0x21, 0x11, inet("203.0.113.7", tail=TLV)), "203.0.113.7"),
    "v2 of the greatest length": (
        v2(
            0x21,
            0x11,
            inet("203.0.113.7", tail=b"\x04" + (4065).to_bytes(2) + bytes(4065)),
        ),
        "203.0.113.7",
    ),
    "v2 LOCAL": (v2(0x20, 0x00, b""), None),
    "v2 LOCAL with addresses": (v2(0x20, 0x11, inet("203.0.113.7")), None),
    "v2 LOCAL with anything": (v2(0x20, 0xFF, b"anything"), None),
    "v2 UNSPEC": (v2(0x21, 0x00, b"anything"), None),
    "v2 UNIX": (v2(0x21, 0x31, bytes(216)), None),
}

BAD: dict[str, bytes] = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "lower case": b"proxy TCP4 203.0.113.7 192.0.2.9 40000 443\r\n",
    "two spaces": b"PROXY  TCP4 203.0.113.7 192.0.2.9 40000 443\r\n",
    "no such protocol": b"PROXY UDP4 203.0.113.7 192.0.2.9 40000 443\r\n",
    "an IPv6 address in TCP4": b"PROXY TCP4 2001:db8::7 192.0.2.9 40000 443\r\n",
    "an IPv4 address in TCP6": b"PROXY TCP6 203.0.113.7 2001:db8::9 40000 443\r\n",
    "an address with zeros ahead": b"PROXY TCP4 203.0.113.07 192.0.2.9 40000 443\r\n",
    "an address of three": b"PROXY TCP4 203.0.113 192.0.2.9 40000 443\r\n",
    "a name": b"PROXY TCP4 localhost 192.0.2.9 40000 443\r\n",
    "a zone": b"PROXY TCP6 fe80::1%eth0 2001:db8::9 40000 443\r\n",
    "a bad server address": b"PROXY TCP4 203.0.113.7 192.0.2 40000 443\r\n",
    "a port too great": b"PROXY TCP4 203.0.113.7 192.0.2.9 65536 443\r\n",
    "a port with zeros ahead": b"PROXY TCP4 203.0.113.7 192.0.2.9 080 443\r\n",
    "a port below zero": b"PROXY TCP4 203.0.113.7 192.0.2.9 -1 443\r\n",
    "no ports": b"PROXY TCP4 203.0.113.7 192.0.2.9\r\n",
    "a word too many": b"PROXY TCP4 203.0.113.7 192.0.2.9 40000 443 1\r\n",
    "bare LF": b"PROXY TCP4 203.0.113.7 192.0.2.9 40000 443\n\r\n",
    "CR amid": b"PROXY TCP4 203.0.113.7\r192.0.2.9 40000 443\r\n",
    "NUL": b"PROXY TCP4 203.0.113.7\0192.0.2.9 40000 443\r\n",
    "108 bytes": b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n",
    "no end": b"PROXY UNKNOWN " + b"f" * 1000,
    "version 1 in version 2": v2(0x11, 0x11, inet("203.0.113.7")),
    "version 3": v2(0x31, 0x11, inet("203.0.113.7")),
    "command 2": v2(0x22, 0x11, inet("203.0.113.7")),
    "family 4": v2(0x21, 0x41, inet("203.0.113.7")),
    "a datagram": v2(0x21, 0x12, inet("203.0.113.7")),
    "a family without transport": v2(0x21, 0x10, inet("203.0.113.7")),
    "addresses too short": v2(0x21, 0x11, inet("203.0.113.7")[:-1]),
    "IPv6 of IPv4's length": v2(0x21, 0x21, inet("203.0.113.7")),
    "a UNIX address too short": v2(0x21, 0x31, bytes(215)),
    "a TLV cut in its length": v2(0x21, 0x11, inet("203.0.113.7", tail=b"\x01\x00")),
    "a TLV longer than the rest": v2(0x21, 0x11, inet("203.0.113.7", tail=b"\x01\x00\x03h2")),
    "too long": v2(0x21, 0x11, bytes(MAX_V2_BYTES)),
    "almost the signature": SIGNATURE_V2[:-1] + b"!" + v2(0x21, 0x11, b"")[12:],
}


def read(stream: bytes, *, bytewise: bool) -> tuple[bytes, bytes]:
    """The header at the beginning of `stream`, taken as the entrance does, and what follows it."""
    header, rest = b"", stream
    while more := missing(header):
        take = 1 if bytewise else more
        if not rest:
            raise EOFError
        header, rest = header + rest[:take], rest[take:]
    return header, rest


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize(("header", "client"), GOOD.values(), ids=GOOD.keys())
def test_a_header_is_read_to_its_last_byte_and_not_beyond(header, client, bytewise):
    after = b"\r\n\r\nPROXY \x16\x03"
    assert read(header + after, bytewise=bytewise) == (header, after)
    assert client_address(header) == client


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("stream", BAD.values(), ids=BAD.keys())
def test_what_is_no_header_is_never_taken_for_one(stream, bytewise):
    with pytest.raises(Malformed):
        client_address(read(stream + b"\r\n" * 60, bytewise=bytewise)[0])


@pytest.mark.parametrize("header", [header for header, _ in GOOD.values()], ids=GOOD.keys())
def test_a_header_cut_anywhere_is_waited_for(header):
    for end in range(len(header)):
        assert 0 < missing(header[:end]) <= len(header) - end

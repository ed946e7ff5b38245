"""A second opinion: what RFC 9112 and 9110 say a request is, in the strictest reading.

Shares no code with the gateway and its parsers. It reads one request from the beginning of some
bytes, or says that there is none; what it can't be sure of is none.
"""

import re
from dataclasses import dataclass, field

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# llhttp splits a request line at runs of spaces, which RFC 9112 §3 allows, and skips empty lines
# before it (§2.2). That it takes bare CRs and LFs there, and RTSP for HTTP, stands in
# tests/conformance/defects.py.
REQUEST_LINE = re.compile(rb"[\r\n]*(%b) +([!-~]+) +(?:HTTP|RTSP|ICE)/1\.([01])" % TOKEN).fullmatch
FIELD = re.compile(rb"(%b):[ \t]*([\t -~\x80-\xff]*)" % TOKEN).fullmatch
SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t -~\x80-\xff]*)?").fullmatch
DIGITS = re.compile(rb"[0-9]{1,19}").fullmatch


@dataclass(slots=True)
class Request:
    method: bytes
    target: bytes
    minor: int
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    whole: bool = False  # the body has come to its end
    valid: bool = True  # its body, as far as it has come
    end: int = 0  # where the next one begins, without chunks

    def all(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.fields if known.lower() == name]


def read_request(data: bytes) -> Request | None:
    """The request that `data` begins with; None for a head that is none, or not whole."""
    start = len(data) - len(data.lstrip(b"\r\n"))
    end = data.find(b"\r\n\r\n", start)
    if end < 0:
        return None
    first, *lines = data[start:end].split(b"\r\n")
    begun = REQUEST_LINE(first)
    fields = [FIELD(line) for line in lines]
    if begun is None or not all(fields):
        return None
    pairs = [(found[1], found[2].rstrip(b" \t")) for found in fields if found]
    request = Request(begun[1], begun[2], int(begun[3]), pairs)
    hosts = request.all(b"host")
    if len(hosts) > 1 or (not hosts and request.minor == 1):
        return None
    lengths, codings = request.all(b"content-length"), request.all(b"transfer-encoding")
    rest = data[end + 4 :]
    if codings:
        if lengths or request.minor == 0 or [coding.lower() for coding in codings] != [b"chunked"]:
            return None
        _read_chunks(request, rest)
    elif lengths:
        if len(lengths) > 1 or not DIGITS(lengths[0]):
            return None
        size = int(lengths[0])
        request.body, request.whole = rest[:size], len(rest) >= size
        request.end = end + 4 + size
    else:
        request.whole = True
        request.end = end + 4
    return request


def _read_chunks(request: Request, data: bytes) -> None:
    while b"\r\n" in data:
        line, _, data = data.partition(b"\r\n")
        size = SIZE(line)
        if size is None:
            request.valid = False
            return
        length = int(size[1], 16)
        if length == 0:
            _read_trailers(request, data)
            return
        request.body += data[:length]
        behind = data[length : length + 2]
        if behind != b"\r\n"[: len(behind)]:
            request.valid = False
        if behind != b"\r\n":
            return
        data = data[length + 2 :]


def _read_trailers(request: Request, data: bytes) -> None:
    while b"\r\n" in data:
        line, _, data = data.partition(b"\r\n")
        if not line:
            request.whole = True
            return
        if FIELD(line) is None:
            request.valid = False
            return

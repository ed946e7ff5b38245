"""Bodies that two readers could read differently, and credentials outside of the body.

The backend reads the body once more, by another parser. What that could find in it and the gateway
does not, or the other way round, is refused: RFC 8259 §4, §8.1 and §10.
"""

import gzip
import json

from attack import Forge, Head, Row, request

ORDERS = "/orders"
PAIR = b'"api_key": "k", "api_secret": "s"'

BODIES: dict[str, bytes] = {
    "empty": b"",
    "a blank": b" ",
    "null": b"null",
    "a list": b"[{%b}]" % PAIR,
    "a text": json.dumps(f"{{{PAIR.decode()}}}").encode(),
    "a number": b"1",
    "behind a mark": b"\xef\xbb\xbf{%b}" % PAIR,
    "in UTF-16": f"{{{PAIR.decode()}}}".encode("utf-16"),
    "in UTF-16 without a mark": f"{{{PAIR.decode()}}}".encode("utf-16-le"),
    "in UTF-32": f"{{{PAIR.decode()}}}".encode("utf-32"),
    "not UTF-8": b'{%b, "x": "\xff"}' % PAIR,
    "an overlong letter": b'{%b, "x": "\xc0\xae"}' % PAIR,
    "a surrogate in UTF-8": b'{%b, "x": "\xed\xa0\x80"}' % PAIR,
    "more behind it": b"{%b}{}" % PAIR,
    "a NUL behind it": b"{%b}\0" % PAIR,
    "two lines": b'{%b}\n{"api_key": "other", "api_secret": "s"}' % PAIR,
    "cut": b"{%b" % PAIR,
    "a comma too many": b"{%b,}" % PAIR,
    "a comment": b"{%b /* */}" % PAIR,
    "single quotes": b"{'api_key': 'k', 'api_secret': 's'}",
    "names without quotes": b'{api_key: "k", api_secret: "s"}',
    "NaN": b'{%b, "n": NaN}' % PAIR,
    "Infinity": b'{%b, "n": -Infinity}' % PAIR,
    "a number beyond all": b'{%b, "n": 1e999}' % PAIR,
    "a number of hex": b'{%b, "n": 0x10}' % PAIR,
    "a number with a zero in front": b'{%b, "n": 010}' % PAIR,
    "a control character": b'{%b, "x": "\n"}' % PAIR,
    "api_key twice": b'{"api_key": "other", %b}' % PAIR,
    "api_key twice, once escaped": b'{"\\u0061pi_key": "other", %b}' % PAIR,
    "api_secret twice, the same": b'{%b, "api_secret": "s"}' % PAIR,
    "a name twice further in": b'{%b, "order": {"qty": 1, "qty": 1000}}' % PAIR,
    "brackets without end": b"[" * 3000,
    "brackets without end, inside": b'{%b, "x": %b%b}' % (PAIR, b"[" * 500, b"]" * 500),
    "a number for a key": b'{"api_key": 1, "api_secret": "s"}',
    "a list for a key": b'{"api_key": ["k"], "api_secret": "s"}',
    "an object for a secret": b'{"api_key": "k", "api_secret": {"$ne": ""}}',
    "null for a secret": b'{"api_key": "k", "api_secret": null}',
    "true for a secret": b'{"api_key": "k", "api_secret": true}',
    "an empty secret": b'{"api_key": "k", "api_secret": ""}',
    "a surrogate for a secret": b'{"api_key": "k", "api_secret": "\\ud800"}',
    "names in upper case": b'{"API_KEY": "k", "API_SECRET": "s"}',
    "names with a dash": b'{"api-key": "k", "api-secret": "s"}',
    "names with a blank": b'{"api_key ": "k", " api_secret": "s"}',
    "names that look alike": '{"api_k\u0435y": "k", "api_secret": "s"}'.encode(),
    "further in": b'{"credentials": {%b}}' % PAIR,
    "a form": b"api_key=k&api_secret=s",
    "XML": b"<order><api_key>k</api_key><api_secret>s</api_secret></order>",
    "YAML": b"api_key: k\napi_secret: s\n",
    "gzip": gzip.compress(b"{%b}" % PAIR),
    "parts of a form": b'--x\r\nContent-Disposition: form-data; name="api_key"\r\n\r\nk\r\n--x--',
}


def post(
    name: str, body: bytes, status: int = 422, head: Head | None = None, target: str = ORDERS
) -> Row:
    def make(_forge: Forge) -> bytes:
        lines = [*(head or []), *([] if body else [("Content-Length", "0")])]
        return request(lines, method="POST", target=target, body=body)

    return Row(f"body: {name}", make, status, None)


GOOD = b"{%b}" % PAIR

ROWS: tuple[Row, ...] = (
    post("good", GOOD, 200),
    post("good, of another type by its head", GOOD, 200, [("Content-Type", "text/plain")]),
    post("good, and more in it", b'{"n": 1.50, %b, "x": "\\u0000"}' % PAIR, 200),
    *(post(name, body) for name, body in BODIES.items()),
    post("gzip, and its head says so", BODIES["gzip"], 422, [("Content-Encoding", "gzip")]),
    post("as long as one may be", GOOD + b" " * (4096 - len(GOOD)), 200),
    post("one too long", GOOD + b" " * (4097 - len(GOOD)), 413),
    post("far too long", GOOD + b" " * 1_000_000, 413),
    # Elsewhere than in the body.
    post("in the query", b"{}", target="/orders?api_key=k&api_secret=s"),
    post("in the head", b"{}", head=[("api_key", "k"), ("api_secret", "s")]),
    post("in the head of Binance", b"{}", head=[("X-MBX-APIKEY", "k")]),
    post("in a cookie", b"{}", head=[("Cookie", "api_key=k; api_secret=s")]),
    post("half in the query", b'{"api_key": "k"}', target="/orders?api_secret=s"),
    post("a key without a secret", b'{"api_key": "k"}'),
    post("a secret without a key", b'{"api_secret": "s"}'),
)

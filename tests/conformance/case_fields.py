"""Field lines: their syntax, their bounds, and which of them cross the gateway."""

from case import HEAD, Case, carried, refused, request

CREDENTIAL = b"X-Primit-API-Key: pk_6\r\n"
OURS = {b"x-forwarded-for": b"127.0.0.1", b"x-forwarded-proto": b"http"}


def field(line: bytes) -> bytes:
    return request(line + b"\r\n")


SYNTAX = [
    carried("field without a blank", "9112 §5", field(b"A:b"), has=(b"A: b",)),
    carried(
        "field with blanks around its value", "9112 §5.1", field(b"A: \t b \t"), has=(b"A: b",)
    ),
    carried("field without a value", "9110 §5.5", field(b"A:"), has=(b"A: ",)),
    carried("field of blanks", "9110 §5.5", field(b"A: \t "), has=(b"A: ",)),
    carried("field with a colon in it", "9110 §5.5", field(b"A: b:c: d"), has=(b"A: b:c: d",)),
    carried("field that begins with a colon", "9110 §5.5", field(b"A::b"), has=(b"A: :b",)),
    carried("tab within a value", "9110 §5.5", field(b"A: b\tc"), has=(b"A: b\tc",)),
    carried(
        "name of odd characters",
        "9110 §5.6.2",
        field(b"!#$%&'*+-.^`|~9z: b"),
        has=(b"!#$%&'*+-.^`|~9z: b",),
    ),
    carried("name with an underscore", "9110 §5.6.2", field(b"A_b: c"), has=(b"A_b: c",)),
    carried("name of digits", "9110 §5.6.2", field(b"123: b"), has=(b"123: b",)),
    carried(
        "case of a name is kept", "9110 §5.1", field(b"x-ODD-case: b"), has=(b"x-ODD-case: b",)
    ),
    carried("value in UTF-8", "9110 §5.5", field("A: ü€".encode()), has=("A: ü€".encode(),)),
    carried("value in Latin-1", "9110 §5.5", field(b"A: \xfc\xff"), has=(b"A: \xfc\xff",)),
    carried("quoted string", "9110 §5.6.4", field(b'A: "b, \\"c"'), has=(b'A: "b, \\"c"',)),
    carried(
        "a field three times, in order",
        "9110 §5.3",
        field(b"A: 1\r\nB: x\r\na: 2\r\nA: 3"),
        has=(b"A: 1", b"a: 2", b"A: 3"),
    ),
    carried(
        "two Cookies",
        "6265 §5.4",
        field(b"Cookie: a=1\r\nCookie: b=2"),
        has=(b"Cookie: a=1", b"Cookie: b=2"),
    ),
    carried("name of 200 bytes", "9110 §5.4", field(b"a" * 200 + b": b")),
    carried("value of 7,000 bytes", "9110 §5.4", field(b"A: " + b"b" * 7000)),
    refused("folded line, space", "9112 §5.2", field(b"A: b\r\n c")),
    refused("folded line, tab", "9112 §5.2", field(b"A: b\r\n\tc")),
    refused("folded line, empty first", "9112 §5.2", field(b"A:\r\n b")),
    refused("folded first field", "9112 §2.2", request(host=b" A: b\r\n" + HEAD)),
    refused("line of blanks", "9112 §5.2", field(b"A: b\r\n  ")),
    refused("space before the colon", "9112 §5.1", field(b"A : b")),
    refused("tab before the colon", "9112 §5.1", field(b"A\t: b")),
    refused("space before the name", "9112 §5.2", field(b" A: b")),
    refused("space within the name", "9110 §5.6.2", field(b"A B: c")),
    refused("no colon", "9112 §5", field(b"A")),
    refused("no name", "9110 §5.1", field(b": b")),
    refused("no name, but a blank", "9112 §5.1", field(b" : b")),
    refused("name with a slash", "9110 §5.6.2", field(b"A/b: c")),
    refused("name with a parenthesis", "9110 §5.6.2", field(b"A(b): c")),
    refused("name with a comma", "9110 §5.6.2", field(b"A,b: c")),
    refused("name with an at", "9110 §5.6.2", field(b"A@b: c")),
    refused("name with brackets", "9110 §5.6.2", field(b"A[0]: c")),
    refused("name with braces", "9110 §5.6.2", field(b"{A}: c")),
    refused("name with a quote", "9110 §5.6.2", field(b'"A": c')),
    refused("name with a backslash", "9110 §5.6.2", field(b"A\\: c")),
    refused("name with an equals sign", "9110 §5.6.2", field(b"A=b: c")),
    refused("name beyond ASCII", "9110 §5.6.2", field("X-Uſer-Id: 1".encode())),
    refused("name with a Kelvin sign", "9110 §5.6.2", field("\u212aeep-Alive: 1".encode())),
    refused("name in Latin-1", "9110 §5.6.2", field(b"A\xff: 1")),
    refused("name with NUL", "9110 §5.6.2", field(b"A\0: b")),
    refused("name with a control character", "9110 §5.6.2", field(b"A\x01: b")),
    refused("name with DEL", "9110 §5.6.2", field(b"A\x7f: b")),
    refused("NUL in a value", "9110 §5.5", field(b"A: b\0c")),
    refused("bare CR in a value", "9112 §2.2", field(b"A: b\rX-Plan: c")),
    refused("bare CR at a value's end", "9112 §2.2", field(b"A: b\r")),
    refused("bare LF in a value", "9112 §2.2", field(b"A: b\nX-Plan: c")),
    refused("bare LF behind all fields", "9112 §2.2", b"GET /x HTTP/1.1\r\n" + HEAD + b"\n"),
    refused("LF LF ends the head", "9112 §2.2", b"GET /x HTTP/1.1\nHost: a\n\n"),
    refused("LF CR", "9112 §2.2", field(b"A: b\n\rC: d")),
    refused("escape in a value", "9110 §5.5", field(b"A: b\x1bc")),
    refused("bell in a value", "9110 §5.5", field(b"A: b\x07c")),
    refused("vertical tab in a value", "9110 §5.5", field(b"A: b\x0bc")),
    refused("form feed in a value", "9110 §5.5", field(b"A: b\x0cc")),
    refused("DEL in a value", "9110 §5.5", field(b"A: b\x7fc")),
    refused("CR CR LF ends the head", "9112 §2.2", b"GET /x HTTP/1.1\r\n" + HEAD + b"\r\r\n"),
]

BOUNDS = [
    carried("100 fields", "6585 §5", request(b"".join(b"A%d: b\r\n" % n for n in range(99)))),
    refused("101 fields", "6585 §5", request(b"".join(b"A%d: b\r\n" % n for n in range(100))), 431),
    refused("1,000 fields", "6585 §5", request(b"A: b\r\n" * 1000), 431),
    refused("field of 40,000 bytes", "6585 §5", field(b"A: " + b"b" * 40_000), 431),
    refused("name of 40,000 bytes", "6585 §5", field(b"a" * 40_000 + b": b"), 431),
    refused(
        "fields of 40,000 bytes in all",
        "6585 §5",
        request(b"".join(b"A%d: %b\r\n" % (n, b"b" * 1000) for n in range(40))),
        431,
    ),
    refused(
        "head that does not end",
        "6585 §5",
        b"GET /x HTTP/1.1\r\n"
        + HEAD
        + b"".join(b"A%d: %b\r\n" % (n, b"b" * 9000) for n in range(5)),
        431,
        follow=b"",
    ),
    refused(
        "value that does not end",
        "6585 §5",
        b"GET /x HTTP/1.1\r\n" + HEAD + b"A: " + b"b" * 50_000,
        431,
        follow=b"",
    ),
    refused(
        "request line that does not end", "9110 §15.5.15", b"GET /" + b"a" * 50_000, 414, follow=b""
    ),
]

DROPPED = [
    carried(f"{name} stops here", rfc, field(line), lacks=(line.split(b":")[0],))
    for name, rfc, line in (
        ("Keep-Alive", "9110 §7.6.1", b"Keep-Alive: timeout=5"),
        ("Proxy-Connection", "9110 §7.6.1", b"Proxy-Connection: keep-alive"),
        ("Proxy-Authorization", "9110 §11.7.2", b"Proxy-Authorization: Basic eA=="),
        ("Proxy-Authenticate", "9110 §11.7.1", b"Proxy-Authenticate: Basic"),
        ("TE", "9110 §10.1.4", b"TE: trailers"),
        ("Trailer", "9110 §6.6.2", b"Trailer: X-User-Id"),
        ("X-User-Id", "design §4", b"X-User-Id: 1"),
        ("x_user_id", "design §4", b"x_user_id: 1"),
        ("X-USER_ID", "design §4", b"X-USER_ID: 1"),
        ("X-User-Email", "design §4", b"X-User-Email: a@b"),
        ("X-Plan", "design §4", b"X-Plan: professional"),
        ("X_Plan", "design §4", b"X_Plan: professional"),
        ("X-Auth_Pattern", "design §4", b"X-Auth_Pattern: app_token"),
        ("X-Backend-Key", "design §4", b"X-Backend-Key: k"),
        ("X_Backend_Key", "design §4", b"X_Backend_Key: k"),
        ("X-Real-IP", "design §4", b"X-Real-IP: 6.6.6.6"),
        ("Forwarded", "7239 §8.1", b"Forwarded: for=6.6.6.6"),
        ("X-Forwarded-Port", "design §4", b"X-Forwarded-Port: 6"),
        ("X_Forwarded_For", "design §4", b"X_Forwarded_For: 6.6.6.6"),
        ("X-Primit-API-Key", "design §4", b"X-Primit-API-Key: pk_6"),
        ("Transfer_Encoding", "design §4", b"Transfer_Encoding: chunked"),
        ("Content_Length", "design §4", b"Content_Length: 6"),
    )
]

CROSSING = [
    *DROPPED,
    carried(
        "X-Forwarded-For is written anew",
        "7239 §8.1",
        field(b"X-Forwarded-For: 6.6.6.6"),
        has=(b"X-Forwarded-For: 127.0.0.1",),
    ),
    carried(
        "X-Forwarded-Proto is written anew",
        "7239 §8.1",
        field(b"X-Forwarded-Proto: https"),
        has=(b"X-Forwarded-Proto: http",),
    ),
    carried(
        "X-Forwarded-Host is written anew",
        "7239 §8.1",
        field(b"X-Forwarded-Host: evil"),
        has=(b"X-Forwarded-Host: api.example",),
    ),
    carried(
        "X-Request-ID is kept",
        "design §4",
        field(b"X-Request-ID: abc-1"),
        has=(b"X-Request-ID: abc-1",),
        got=(b"\r\nX-Request-ID: abc-1\r\n",),
    ),
    carried(
        "X-Request-ID that is odd is replaced",
        "design §4",
        field(b"X-Request-ID: a b"),
        got_not=(b"a b",),
    ),
    carried(
        "X-Request-ID twice is replaced",
        "design §4",
        field(b"X-Request-ID: one-1\r\nX-Request-ID: two-2"),
        got_not=(b"one-1", b"two-2"),
    ),
    carried(
        "Authorization passes on a public route",
        "9110 §11.6.2",
        field(b"Authorization: Basic eA=="),
        has=(b"Authorization: Basic eA==",),
    ),
    carried(
        "Via, Max-Forwards and Date pass",
        "9110 §7.6",
        field(b"Via: 1.1 a\r\nDate: x"),
        has=(b"Via: 1.1 a", b"Date: x"),
    ),
    carried("Range passes", "9110 §14.2", field(b"Range: bytes=0-1"), has=(b"Range: bytes=0-1",)),
    carried(
        "Accept-Encoding passes",
        "9110 §12.5.3",
        field(b"Accept-Encoding: gzip"),
        has=(b"Accept-Encoding: gzip",),
    ),
    carried(
        "conditional fields pass",
        "9110 §13.1",
        field(b'If-None-Match: "a", W/"b"'),
        has=(b'If-None-Match: "a", W/"b"',),
    ),
    carried(
        "Connection names a field",
        "9110 §7.6.1",
        field(b"Connection: X-One\r\nX-One: 1\r\nX-Two: 2"),
        has=(b"X-Two: 2",),
        lacks=(b"X-One", b"Connection"),
    ),
    carried(
        "Connection names two fields",
        "9110 §7.6.1",
        field(b"Connection: X-One, x-two\r\nX-One: 1\r\nX-Two: 2"),
        lacks=(b"X-One", b"X-Two"),
    ),
    carried(
        "two Connections name fields",
        "9110 §7.6.1",
        field(b"Connection: X-One\r\nConnection: X-Two\r\nX-One: 1\r\nX-Two: 2"),
        lacks=(b"X-One", b"X-Two"),
    ),
    carried("Connection can't name Host", "9110 §7.6.1", field(b"Connection: Host"), has=()),
    carried(
        "Connection can't name what the gateway says",
        "9110 §7.6.1",
        field(b"Connection: X-Forwarded-For, X-Request-ID"),
        has=(b"X-Forwarded-For: 127.0.0.1", b"X-Auth-Pattern: public"),
    ),
    carried(
        "Connection names nothing", "9110 §7.6.1", field(b"Connection: , ,"), lacks=(b"Connection",)
    ),
    carried(
        "Connection: close is not passed on",
        "9110 §7.6.1",
        field(b"Connection: close"),
        lacks=(b"Connection",),
        closes=True,
        got=(b"\r\nConnection: close\r\n",),
    ),
    Case(
        "a key on a route that takes keys stays here",
        "contract, pattern 1b",
        request(CREDENTIAL, target=b"/key"),
        (401,),
        got=(b"\r\nWWW-Authenticate: ApiKey ",),
        got_not=(b"pk_6",),
    ),
]

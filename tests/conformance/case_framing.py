"""Where a request's body ends: lengths, transfer codings, chunks, trailers."""

from case import CHUNKED, SMUGGLED, Case, carried, chunks, post, refused, request

HIDDEN = b"0\r\n\r\n"
BODY = b"5\r\nhello\r\n0\r\n"


def length(value: bytes, body: bytes = b"") -> bytes:
    return post(b"Content-Length: " + value + b"\r\n", body)


def coding(value: bytes) -> bytes:
    return post(b"Transfer-Encoding: " + value + b"\r\n", HIDDEN)


LENGTHS = [
    carried(
        "length", "9112 §6.2", length(b"5", b"hello"), seen=b"hello", has=(b"Content-Length: 5",)
    ),
    carried("length 0", "9112 §6.2", length(b"0"), has=(b"Content-Length: 0",)),
    carried("no length", "9112 §6.3", post()),
    carried(
        "length with leading zeros",
        "9110 §8.6",
        length(b"0005", b"hello"),
        seen=b"hello",
        has=(b"Content-Length: 5",),
    ),
    carried("length with blanks around it", "9110 §5.5", length(b" 5\t ", b"hello"), seen=b"hello"),
    carried(
        "GET with a body", "9110 §9.3.1", request(b"Content-Length: 5\r\n", b"hello"), seen=b"hello"
    ),
    carried(
        "DELETE with a body",
        "9110 §9.3.5",
        request(b"Content-Length: 5\r\n", b"hello", method=b"DELETE"),
        seen=b"hello",
    ),
    carried(
        "HEAD with a body",
        "9110 §9.3.2",
        request(b"Content-Length: 5\r\n", b"hello", method=b"HEAD"),
        seen=b"hello",
    ),
    carried(
        "a body that looks like a request",
        "9112 §6.3",
        length(b"%d" % len(SMUGGLED), SMUGGLED),
        seen=SMUGGLED,
    ),
    carried(
        "a body of all bytes",
        "9112 §6.2",
        length(b"256", bytes(range(256))),
        seen=bytes(range(256)),
    ),
    carried(
        "gzip is not touched",
        "9110 §8.4",
        post(b"Content-Encoding: gzip\r\nContent-Length: 5\r\n", b"hello"),
        seen=b"hello",
        has=(b"Content-Encoding: gzip",),
    ),
    carried("a body of 3,000 bytes", "9112 §6.2", length(b"3000", b"a" * 3000), seen=b"a" * 3000),
    refused("two lengths", "9112 §6.3", post(b"Content-Length: 0\r\nContent-Length: 61\r\n")),
    refused(
        "two equal lengths", "9110 §8.6", post(b"Content-Length: 1\r\nContent-Length: 1\r\n", b"1")
    ),
    refused("list of lengths", "9112 §6.3", length(b"0, 61")),
    refused("list of equal lengths", "9110 §8.6", length(b"1, 1", b"1")),
    refused("length with a comma behind it", "9110 §8.6", length(b"1,", b"1")),
    refused("length with plus", "9110 §8.6", length(b"+1", b"1")),
    refused("length below zero", "9110 §8.6", length(b"-1")),
    refused("length in hex", "9110 §8.6", length(b"0x1", b"1")),
    refused("length with a fraction", "9110 §8.6", length(b"1.0", b"1")),
    refused("length with an exponent", "9110 §8.6", length(b"1e1", b"1")),
    refused("length with a letter", "9110 §8.6", length(b"1a", b"1")),
    refused("length with an underscore", "9110 §8.6", length(b"1_0", b"1")),
    refused("length with a space in it", "9110 §8.6", length(b"1 0", b"1")),
    refused("length in quotes", "9110 §8.6", length(b'"1"', b"1")),
    refused("length in Arabic digits", "9110 §8.6", length("١".encode(), b"1")),
    refused("length without digits", "9110 §8.6", length(b"")),
    refused("length past 64 bits", "9110 §8.6", length(b"18446744073709551616")),
    refused(
        "length past 64 bits that wraps to 1", "9110 §8.6", length(b"18446744073709551617", b"1")
    ),
    refused("length of 20 zeros and a digit", "9110 §8.6", length(b"0" * 20 + b"1", b"1")),
    refused("length of 5,000 digits", "9110 §8.6", length(b"0" * 5000 + b"5", b"hello")),
    refused("length with a vertical tab", "9110 §5.5", length(b"\x0b1", b"1")),
    refused("length with NUL", "9110 §5.5", length(b"1\0", b"1")),
    refused("space before length's colon", "9112 §5.1", post(b"Content-Length : 1\r\n", b"1")),
    refused("length folded", "9112 §5.2", post(b"Content-Length:\r\n 1\r\n", b"1")),
    refused("length and chunked", "9112 §6.3", post(b"Content-Length: 5\r\n" + CHUNKED, HIDDEN)),
    refused("chunked and length", "9112 §6.3", post(CHUNKED + b"Content-Length: 5\r\n", HIDDEN)),
    refused("chunked and length 0", "9112 §6.3", post(CHUNKED + b"Content-Length: 0\r\n", HIDDEN)),
    refused(
        "identity and length",
        "9112 §6.1",
        post(b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n", b"hello"),
    ),
]

CODINGS = [
    carried(
        "chunked",
        "9112 §7.1",
        chunks(BODY + b"\r\n"),
        seen=b"hello",
        closes=True,
        has=(b"Transfer-Encoding: chunked",),
        lacks=(b"Content-Length",),
    ),
    carried(
        "chunked in capitals",
        "9112 §7",
        post(b"Transfer-Encoding: CHUNKED\r\n", BODY + b"\r\n"),
        seen=b"hello",
        closes=True,
        has=(b"Transfer-Encoding: chunked",),
    ),
    carried(
        "name of the coding in capitals",
        "9110 §5.1",
        post(b"TRANSFER-ENCODING: chunked\r\n", BODY + b"\r\n"),
        seen=b"hello",
        closes=True,
    ),
    carried(
        "chunked behind blanks",
        "9110 §5.5",
        post(b"Transfer-Encoding: \t chunked\r\n", BODY + b"\r\n"),
        seen=b"hello",
        closes=True,
    ),
    carried(
        "GET, chunked", "9112 §6.1", request(CHUNKED, BODY + b"\r\n"), seen=b"hello", closes=True
    ),
    carried(
        "chunked before a blank",
        "9110 §5.5",
        post(b"Transfer-Encoding: chunked \r\n", BODY + b"\r\n"),
        seen=b"hello",
        closes=True,
    ),
    refused("chunked before a tab", "9112 §6.1", coding(b"chunked\t")),
    refused("gzip, chunked", "9112 §6.1", coding(b"gzip, chunked")),
    refused("gzip alone", "9112 §6.3", coding(b"gzip")),
    refused("deflate", "9112 §6.3", coding(b"deflate")),
    refused("chunked, gzip", "9112 §6.3", coding(b"chunked, gzip")),
    refused("chunked, identity", "9112 §6.3", coding(b"chunked, identity")),
    refused("identity, chunked", "9112 §7.2", coding(b"identity, chunked")),
    refused("identity", "9112 §7", coding(b"identity")),
    refused("coding unknown", "9112 §6.1", coding(b"xchunked")),
    refused("coding chunkedx", "9112 §6.1", coding(b"chunkedx")),
    refused("coding empty", "9112 §6.1", coding(b"")),
    refused("coding is a comma", "9112 §6.1", coding(b",")),
    refused("comma before chunked", "9110 §5.6.1", coding(b", chunked")),
    refused("comma behind chunked", "9110 §5.6.1", coding(b"chunked,")),
    refused("chunked twice in a line", "9112 §7.1", coding(b"chunked, chunked")),
    refused("chunked twice", "9112 §7.1", post(CHUNKED + CHUNKED, HIDDEN)),
    refused("two codings", "9112 §6.3", post(CHUNKED + b"Transfer-Encoding: identity\r\n", HIDDEN)),
    refused(
        "two codings, chunked last",
        "9112 §6.1",
        post(b"Transfer-Encoding: identity\r\n" + CHUNKED, HIDDEN),
    ),
    refused("chunked with a parameter", "9112 §7", coding(b"chunked;q=1")),
    refused("chunked in quotes", "9112 §7", coding(b'"chunked"')),
    refused("chunked in single quotes", "9112 §7", coding(b"'chunked'")),
    refused("chunked with a space in it", "9112 §7", coding(b"chun ked")),
    refused("chunked behind a vertical tab", "9110 §5.5", coding(b"\x0bchunked")),
    refused("chunked before a form feed", "9110 §5.5", coding(b"chunked\x0c")),
    refused("chunked with NUL", "9110 §5.5", coding(b"chunked\0")),
    refused("chunked with a Kelvin sign", "9110 §5.6.2", coding("chun\u212aed".encode())),
    refused("chunked behind a no-break space", "9110 §5.6.3", coding(b"\xa0chunked")),
    refused("chunked, folded", "9112 §5.2", post(b"Transfer-Encoding:\r\n chunked\r\n", HIDDEN)),
    refused(
        "chunked, space before the colon",
        "9112 §5.1",
        post(b"Transfer-Encoding : chunked\r\n", HIDDEN),
    ),
    refused(
        "chunked, tab before the colon",
        "9112 §5.1",
        post(b"Transfer-Encoding\t: chunked\r\n", HIDDEN),
    ),
    refused(
        "chunked, NUL in the name", "9110 §5.6.2", post(b"Transfer-Encoding\0: chunked\r\n", HIDDEN)
    ),
    refused(
        "chunked behind a bare CR",
        "9112 §2.2",
        post(b"A: b\rTransfer-Encoding: chunked\r\n", HIDDEN),
    ),
    refused(
        "chunked behind a bare LF",
        "9112 §2.2",
        post(b"A: b\nTransfer-Encoding: chunked\r\n", HIDDEN),
    ),
    refused(
        "chunked in HTTP/1.0",
        "9112 §6.1",
        request(CHUNKED, HIDDEN, method=b"POST", version=b"HTTP/1.0"),
    ),
    refused(
        "chunked in HTTP/1.0, kept alive",
        "9112 §6.1",
        request(
            CHUNKED + b"Connection: keep-alive\r\n", HIDDEN, method=b"POST", version=b"HTTP/1.0"
        ),
    ),
]


def good(name: str, rfc: str, body: bytes, seen: bytes = b"hello") -> Case:
    return carried(name, rfc, chunks(body), seen=seen, closes=True)


def bad(name: str, rfc: str, body: bytes, status: int = 400, *, late: tuple[int, ...] = ()) -> Case:
    """Bad chunks: the head may have gone to the backend already, no body that ends ever does."""
    return refused(name, rfc, chunks(body), status, late=late)


CHUNKS = [
    good("no chunk", "9112 §7.1", b"0\r\n\r\n", b""),
    good("two chunks", "9112 §7.1", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    good("size in lower hex", "9112 §7.1", b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    good("size in upper hex", "9112 §7.1", b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    good("size with leading zeros", "9112 §7.1", b"0005\r\nhello\r\n000\r\n\r\n"),
    good(
        "chunk that holds line breaks",
        "9112 §7.1",
        b"7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n",
        b"0\r\n\r\n\r\n",
    ),
    good(
        "chunk that looks like a request",
        "9112 §7.1",
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED),
        SMUGGLED,
    ),
    good(
        "chunk of 3,000 bytes",
        "9112 §7.1",
        b"bb8\r\n%b\r\n0\r\n\r\n" % (b"a" * 3000),
        b"a" * 3000,
    ),
    good("extension", "9112 §7.1.1", b"5;a\r\nhello\r\n0\r\n\r\n"),
    good("extension with a value", "9112 §7.1.1", b"5;a=b\r\nhello\r\n0;c=d\r\n\r\n"),
    good("extension in quotes", "9112 §7.1.1", b'5;a="b c"\r\nhello\r\n0\r\n\r\n'),
    good("extension of 200 bytes", "9112 §7.1.1", b"5;" + b"a" * 200 + b"\r\nhello\r\n0\r\n\r\n"),
    bad("size that is no number", "9112 §7.1", b"zz\r\nhello\r\n0\r\n\r\n"),
    bad("no size", "9112 §7.1", b"\r\nhello\r\n0\r\n\r\n"),
    bad("no size, but an extension", "9112 §7.1", b";a\r\nhello\r\n0\r\n\r\n"),
    bad("size with plus", "9112 §7.1", b"+5\r\nhello\r\n0\r\n\r\n"),
    bad("size below zero", "9112 §7.1", b"-5\r\nhello\r\n0\r\n\r\n"),
    bad("size with 0x", "9112 §7.1", b"0x5\r\nhello\r\n0\r\n\r\n"),
    bad("size with an underscore", "9112 §7.1", b"0_5\r\nhello\r\n0\r\n\r\n"),
    bad("size with a fraction", "9112 §7.1", b"5.0\r\nhello\r\n0\r\n\r\n"),
    bad("size past 64 bits", "9112 §7.1", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    bad("size of 64 zeros past any bound", "9112 §7.1", b"F" * 64 + b"\r\nhello\r\n0\r\n\r\n"),
    bad("space before the size", "9112 §7.1", b" 5\r\nhello\r\n0\r\n\r\n"),
    bad("space behind the size", "9112 §7.1.1", b"5 \r\nhello\r\n0\r\n\r\n"),
    bad("tab behind the size", "9112 §7.1.1", b"5\t\r\nhello\r\n0\r\n\r\n"),
    bad("NUL behind the size", "9112 §7.1", b"5\0\r\nhello\r\n0\r\n\r\n"),
    bad("comma behind the size", "9112 §7.1", b"5,\r\nhello\r\n0\r\n\r\n"),
    bad("bare LF behind the size", "9112 §7.1", b"5\nhello\r\n0\r\n\r\n"),
    bad("bare CR behind the size", "9112 §7.1", b"5\rhello\r\n0\r\n\r\n"),
    bad("bare LF behind the data", "9112 §7.1", b"5\r\nhello\n0\r\n\r\n"),
    bad("nothing behind the data", "9112 §7.1", b"5\r\nhello0\r\n\r\n"),
    bad("data longer than its size", "9112 §7.1", b"5\r\nhello!\r\n0\r\n\r\n"),
    bad("data shorter than its size", "9112 §7.1", b"6\r\nhello\r\n0\r\n\r\n"),
    bad("bare LF in an extension", "9112 §7.1.1", b"5;a\nhello\r\n0\r\n\r\n"),
    bad("bare CR in an extension", "9112 §7.1.1", b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    bad("NUL in an extension", "9112 §7.1.1", b"5;a\0\r\nhello\r\n0\r\n\r\n"),
    bad(
        "extension of 20,000 bytes",
        "9112 §7.1.1",
        b"5;" + b"a" * 20_000 + b"\r\nhello\r\n0\r\n\r\n",
    ),
    bad(
        "extension of the last chunk, of 20,000 bytes",
        "9112 §7.1.1",
        b"5\r\nhello\r\n0;" + b"a" * 20_000 + b"\r\n\r\n",
    ),
    bad(
        "extensions of 40,000 bytes in all",
        "9112 §7.1.1",
        (b"1;" + b"a" * 400 + b"\r\nx\r\n") * 100 + b"0\r\n\r\n",
    ),
    bad("bad second chunk", "9112 §7.1", b"5\r\nhello\r\nzz\r\n"),
    bad("bare LF behind the last chunk", "9112 §7.1", b"5\r\nhello\r\n0\n\r\n"),
    bad("bare LF ends the body", "9112 §7.1", b"5\r\nhello\r\n0\r\n\n"),
]


def trailer(name: str, rfc: str, lines: bytes) -> Case:
    """A trailer goes nowhere, not even into the request behind it: the connection ends."""
    return carried(
        name,
        rfc,
        chunks(BODY + lines + b"\r\n") + SMUGGLED,
        seen=b"hello",
        closes=True,
        lacks=(lines.split(b":")[0],),
    )


TRAILERS = [
    trailer("trailer", "9110 §6.5.1", b"X-Checksum: abc\r\n"),
    trailer("two trailers", "9110 §6.5.1", b"X-Checksum: abc\r\nX-Other: def\r\n"),
    trailer("trailer Authorization", "9110 §6.5.1", b"Authorization: Bearer abc\r\n"),
    trailer("trailer X-User-Id", "9110 §6.5.1", b"X-User-Id: 1\r\n"),
    trailer("trailer X-Plan", "9110 §6.5.1", b"X-Plan: professional\r\n"),
    trailer("trailer X-Primit-API-Key", "9110 §6.5.1", b"X-Primit-API-Key: pk_6\r\n"),
    trailer("trailer Cookie", "9110 §6.5.1", b"Cookie: a=b\r\n"),
    trailer("trailer Expect", "9110 §6.5.1", b"Expect: 100-continue\r\n"),
    trailer("trailer Connection", "9110 §6.5.1", b"Connection: keep-alive\r\n"),
    carried(
        "trailer Host",
        "9110 §6.5.1",
        chunks(BODY + b"Host: evil\r\n\r\n") + SMUGGLED,
        seen=b"hello",
        closes=True,
        has=(b"X-Forwarded-Host: api.example",),
    ),
    carried(
        "trailer X-Forwarded-For",
        "9110 §6.5.1",
        chunks(BODY + b"X-Forwarded-For: 6.6.6.6\r\n\r\n") + SMUGGLED,
        seen=b"hello",
        closes=True,
        has=(b"X-Forwarded-For: 127.0.0.1",),
    ),
    carried(
        "trailer announced by Trailer",
        "9110 §6.6.2",
        chunks(BODY + b"X-Checksum: abc\r\n\r\n", b"Trailer: X-Checksum\r\n") + SMUGGLED,
        seen=b"hello",
        closes=True,
        lacks=(b"X-Checksum", b"Trailer"),
    ),
    bad("trailer Content-Length", "9110 §6.5.1", BODY + b"Content-Length: 5\r\n\r\n"),
    bad("trailer Transfer-Encoding", "9110 §6.5.1", BODY + b"Transfer-Encoding: chunked\r\n\r\n"),
    bad("trailer folded", "9112 §5.2", BODY + b"A: b\r\n c\r\n\r\n"),
    bad("trailer with a space before the colon", "9112 §5.1", BODY + b"A : b\r\n\r\n"),
    bad("trailer without a colon", "9112 §5", BODY + b"A\r\n\r\n"),
    bad("trailer without a name", "9112 §5", BODY + b": a\r\n\r\n"),
    bad("trailer with NUL", "9110 §5.5", BODY + b"A: b\0\r\n\r\n"),
    bad("trailer with a bare LF", "9112 §2.2", BODY + b"A: b\nC: d\r\n\r\n"),
    bad("trailer with a bare CR", "9112 §2.2", BODY + b"A: b\rC: d\r\n\r\n"),
    bad("a request in place of trailers", "9112 §7.1", BODY),
    bad(
        "trailer of 40,000 bytes",
        "6585 §5",
        BODY + b"A: " + b"b" * 40_000 + b"\r\n\r\n",
    ),
    bad("1,000 trailers", "6585 §5", BODY + b"A: b\r\n" * 1000 + b"\r\n"),
    bad(
        "trailers of 100,000 bytes in all",
        "6585 §5",
        BODY + b"".join(b"A%d: %b\r\n" % (n, b"b" * 2000) for n in range(50)) + b"\r\n",
    ),
]

BODY_BOUNDS = [
    carried(
        "body as long as the route takes",
        "9110 §15.5.14",
        post(b"Content-Length: 16\r\n", b"a" * 16, b"/small"),
        seen=b"a" * 16,
    ),
    refused(
        "length past what the route takes",
        "9110 §15.5.14",
        post(b"Content-Length: 17\r\n", b"a" * 17, b"/small"),
        413,
    ),
    refused(
        "chunks past what the route takes",
        "9110 §15.5.14",
        chunks(b"11\r\n" + b"a" * 17 + b"\r\n0\r\n\r\n", target=b"/small"),
        413,
    ),
    refused(
        "length of 2^62",
        "9110 §15.5.14",
        post(b"Content-Length: 4611686018427387904\r\n", b"", b"/small"),
        413,
        follow=b"",
        lingers=True,
    ),
]

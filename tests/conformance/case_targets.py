"""Request lines: methods, targets, versions; and the field that belongs to them, Host."""

from case import CHUNKED, HEAD, Case, Saw, carried, refused, request


def line(text: bytes) -> bytes:
    return text + b"\r\n" + HEAD + b"\r\n"


def host(value: bytes) -> bytes:
    return request(host=b"Host: " + value + b"\r\n")


LAST = request(b"Connection: close\r\n")

METHODS = [
    carried(
        f"method {name.decode()}", "9110 §9.3", request(method=name), line=name + b" /x HTTP/1.1"
    )
    for name in (b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE")
] + [
    carried("method HEAD", "9110 §9.3.2", request(method=b"HEAD"), body=b""),
    carried("method PROPFIND", "9110 §16.1", request(method=b"PROPFIND")),
    carried("method REPORT", "9110 §16.1", request(method=b"REPORT")),
    carried("method M-SEARCH", "9110 §16.1", request(method=b"M-SEARCH")),
    carried("method QUERY, without a body", "9110 §16.1", request(method=b"QUERY")),
    refused("method that nobody knows", "9110 §9.1", request(method=b"FROB")),
    refused("method in lower case", "9110 §9.1", request(method=b"get")),
    refused("method in mixed case", "9110 §9.1", request(method=b"Get")),
    refused("method GETT", "9110 §9.1", request(method=b"GETT")),
    refused("method with a slash", "9110 §5.6.2", request(method=b"GE/T")),
    refused("method with a parenthesis", "9110 §5.6.2", request(method=b"G(T")),
    refused("method with a colon", "9110 §5.6.2", request(method=b"GET:")),
    refused("method beyond ASCII", "9110 §5.6.2", request(method=b"G\xc3\x8bT")),
    refused("method with NUL", "9110 §5.6.2", request(method=b"GE\0T")),
    refused("method with a tab behind it", "9112 §3", line(b"GET\t/x HTTP/1.1")),
    refused("no method", "9112 §3", line(b" /x HTTP/1.1")),
    refused("method of 10,000 bytes", "9112 §3", request(method=b"A" * 10_000)),
    refused("CONNECT, authority form", "9110 §9.3.6", request(method=b"CONNECT", target=b"a:80")),
    refused("CONNECT, origin form", "9112 §3.2.3", request(method=b"CONNECT")),
    refused(
        "CONNECT, absolute form", "9112 §3.2.3", request(method=b"CONNECT", target=b"http://a/x")
    ),
    refused("GET, authority form", "9112 §3.2.3", request(target=b"api.example:80")),
    refused("PRI * HTTP/2.0", "9113 §3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
]

LINES = [
    carried("an empty line before the request", "9112 §2.2", b"\r\n" + request()),
    carried("two empty lines before it", "9112 §2.2", b"\r\n\r\n" + request()),
    refused("bare LF before the request", "9112 §2.2", b"\n" + LAST, follow=b""),
    refused("bare CR before the request", "9112 §2.2", b"\r" + LAST, follow=b""),
    refused("space before the request", "9112 §2.2", b" " + request()),
    carried(
        "two spaces before the target",
        "9112 §3",
        line(b"GET  /x HTTP/1.1"),
        line=b"GET /x HTTP/1.1",
    ),
    carried(
        "two spaces before the version",
        "9112 §3",
        line(b"GET /x  HTTP/1.1"),
        line=b"GET /x HTTP/1.1",
    ),
    refused("tab before the version", "9112 §3", line(b"GET /x\tHTTP/1.1")),
    refused("vertical tab before the version", "9112 §3", line(b"GET /x\x0bHTTP/1.1")),
    refused("space behind the version", "9112 §3", line(b"GET /x HTTP/1.1 ")),
    refused("bare LF behind the version", "9112 §2.2", b"GET /x HTTP/1.1\n" + HEAD + b"\r\n"),
    refused("bare CR behind the version", "9112 §2.2", b"GET /x HTTP/1.1\r" + HEAD + b"\r\n"),
    refused("CR CR LF behind the version", "9112 §2.2", b"GET /x HTTP/1.1\r\r\n" + HEAD + b"\r\n"),
    refused("no target", "9112 §3", line(b"GET HTTP/1.1")),
    refused("empty target", "9112 §3", line(b"GET  HTTP/1.1")),
    refused("no version (0.9)", "9112 §2.3", b"GET /x\r\n\r\n"),
    refused("no version, with fields", "9112 §2.3", line(b"GET /x")),
    refused("version 0.9", "9112 §2.3", request(version=b"HTTP/0.9")),
    refused("version 1.2", "9112 §2.3", request(version=b"HTTP/1.2")),
    refused("version 2.0", "9112 §2.3", request(version=b"HTTP/2.0")),
    refused("version 2", "9112 §2.3", request(version=b"HTTP/2")),
    refused("version 3.0", "9112 §2.3", request(version=b"HTTP/3.0")),
    refused("version 1", "9112 §2.3", request(version=b"HTTP/1")),
    refused("version 1.", "9112 §2.3", request(version=b"HTTP/1.")),
    refused("version .1", "9112 §2.3", request(version=b"HTTP/.1")),
    refused("version 1.10", "9112 §2.3", request(version=b"HTTP/1.10")),
    refused("version 01.1", "9112 §2.3", request(version=b"HTTP/01.1")),
    refused("version 1,1", "9112 §2.3", request(version=b"HTTP/1,1")),
    refused("version 1.1x", "9112 §2.3", request(version=b"HTTP/1.1x")),
    refused("version in lower case", "9112 §2.3", request(version=b"http/1.1")),
    refused("version of another protocol", "9112 §2.3", request(version=b"ICE/1.0")),
    refused("version RTSP", "9112 §2.3", request(version=b"RTSP/1.0")),
    refused("version RTSP/1.1", "9112 §2.3", request(version=b"RTSP/1.1")),
    refused("TLS on a plain port", "9112 §3", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    refused("line of 9,000 bytes", "9110 §15.5.15", request(target=b"/" + b"a" * 9000), 414),
    refused("query of 9,000 bytes", "9110 §15.5.15", request(target=b"/x?" + b"a" * 9000), 414),
    carried("line of 8,000 bytes", "9112 §3", request(target=b"/" + b"a" * 8000)),
]

TARGETS = [
    carried("origin form", "9112 §3.2.1", request(target=b"/x/y.z")),
    carried("origin form with a query", "9112 §3.2.1", request(target=b"/x?a=b&c=d")),
    carried("query that is empty", "9112 §3.2.1", request(target=b"/x?")),
    carried("query with a second ?", "3986 §3.4", request(target=b"/x?a?b=/c")),
    carried("query with dots and slashes", "3986 §3.4", request(target=b"/x?a=/../b//c;d")),
    carried("escapes pass as they came", "3986 §2.1", request(target=b"/%e2%82%ac/%7Ex/%41")),
    carried("an escape in the query", "3986 §2.1", request(target=b"/x?a=%0d%0aX:%20y")),
    carried("sub-delims", "3986 §2.2", request(target=b"/a!$&'()*+,=:@b")),
    carried("a segment with three dots", "3986 §3.3", request(target=b"/.../x")),
    carried("slash at the end", "3986 §3.3", request(target=b"/x/")),
    carried("loose path: double slash", "3986 §3.3", request(target=b"/loose//x")),
    carried("loose path: encoded slash", "3986 §2.2", request(target=b"/loose/a%2Fb")),
    carried("loose path: a parameter", "3986 §3.3", request(target=b"/loose/a;b=c")),
    refused("dot segments", "3986 §5.2.4", request(target=b"/x/../y")),
    refused("dot segment at the end", "3986 §5.2.4", request(target=b"/x/..")),
    refused("single dot segment", "3986 §5.2.4", request(target=b"/x/./y")),
    refused("dot segments, encoded", "3986 §6.2.2.2", request(target=b"/x/%2e%2E/y")),
    refused("double slash", "3986 §3.3", request(target=b"//x")),
    refused("encoded slash", "3986 §2.2", request(target=b"/x%2fy")),
    refused("backslash", "3986 §3.3", request(target=b"/x\\y")),
    refused("encoded backslash", "3986 §3.3", request(target=b"/x%5cy")),
    refused("encoded NUL", "3986 §7.3", request(target=b"/x%00y")),
    refused("bad escape", "3986 §2.1", request(target=b"/x%zzy")),
    refused("escape cut off", "3986 §2.1", request(target=b"/x%4")),
    refused("parameter", "3986 §3.3", request(target=b"/x;y")),
    refused("fragment", "9112 §3.2", request(target=b"/x#y")),
    refused("fragment behind a query", "9112 §3.2", request(target=b"/x?y#z")),
    refused("target beyond ASCII", "3986 §2", request(target="/é".encode())),
    refused("query beyond ASCII", "3986 §2", request(target="/x?é".encode())),
    refused("control character in the target", "9112 §3.2", request(target=b"/x\x01")),
    refused("DEL in the target", "9112 §3.2", request(target=b"/x\x7f")),
    refused("control character in the query", "9112 §3.2", request(target=b"/x?\x01")),
    refused("NUL in the target", "9112 §3.2", request(target=b"/x\0y")),
    refused("target without a slash", "9112 §3.2.1", request(target=b"x")),
    refused("target that is a query", "9112 §3.2.1", request(target=b"?x")),
    carried(
        "absolute form",
        "9112 §3.2.2",
        request(target=b"http://other.example/x?y"),
        line=b"GET /x?y HTTP/1.1",
        has=(b"X-Forwarded-Host: other.example",),
    ),
    Case(
        "absolute form without a path",
        "9112 §3.2.2",
        request(target=b"http://other.example?y"),
        (200,),
        body=b'{"status": "ok"}',
    ),
    carried(
        "absolute form, scheme in capitals",
        "3986 §3.1",
        request(target=b"HTTP://other.example/x"),
        line=b"GET /x HTTP/1.1",
    ),
    carried(
        "absolute form with a port",
        "9112 §3.2.2",
        request(target=b"http://other.example:8080/x"),
        line=b"GET /x HTTP/1.1",
        has=(b"X-Forwarded-Host: other.example:8080",),
    ),
    carried(
        "absolute form in HTTP/1.0",
        "9112 §3.2.2",
        request(target=b"http://other.example/x", version=b"HTTP/1.0", host=b""),
        line=b"GET /x HTTP/1.1",
        closes=True,
    ),
    refused("absolute form without a host", "9110 §4.2.1", request(target=b"http:///x")),
    refused("absolute form with userinfo", "9110 §4.2.4", request(target=b"http://a@b/x")),
    refused("absolute form without Host", "9112 §3.2", request(target=b"http://a/x", host=b"")),
    refused(
        "absolute form with two Hosts", "9112 §3.2", request(target=b"http://a/x", host=HEAD + HEAD)
    ),
    refused(
        "absolute form with a bad Host",
        "9112 §3.2",
        request(target=b"http://a/x", host=b"Host: a/b\r\n"),
    ),
    refused("absolute form, ambiguous path", "3986 §5.2.4", request(target=b"http://a/%2e%2e/x")),
    refused("absolute form of ftp", "9110 §4.2", request(target=b"ftp://a/x")),
    refused("absolute form of file", "9110 §4.2", request(target=b"file:///etc/passwd")),
    refused("absolute form, bad port", "3986 §3.2.3", request(target=b"http://a:b/x")),
    Case(
        "OPTIONS *",
        "9110 §9.3.7",
        request(method=b"OPTIONS", target=b"*"),
        (200,),
        body=b"",
        got=(b"\r\nAllow: ", b"\r\nContent-Length: 0\r\n", b"\r\nRateLimit: "),
    ),
    Case(
        "OPTIONS * that looks like a preflight",
        "9110 §9.3.7",
        request(
            b"Origin: http://a\r\nAccess-Control-Request-Method: GET\r\n",
            method=b"OPTIONS",
            target=b"*",
        ),
        (200,),
        body=b"",
    ),
    Case(
        "OPTIONS * in HTTP/1.0",
        "9110 §9.3.7",
        request(method=b"OPTIONS", target=b"*", version=b"HTTP/1.0"),
        (200,),
        closes=True,
    ),
    Case(
        "OPTIONS * with a body",
        "9110 §9.3.7",
        request(b"Content-Length: 5\r\n", b"hello", method=b"OPTIONS", target=b"*"),
        (200,),
    ),
    refused(
        "OPTIONS * without Host", "9112 §3.2", request(method=b"OPTIONS", target=b"*", host=b"")
    ),
    refused("OPTIONS *x", "9112 §3.2.4", request(method=b"OPTIONS", target=b"*x")),
    refused("OPTIONS *?x", "9112 §3.2.4", request(method=b"OPTIONS", target=b"*?x")),
    refused("GET *", "9112 §3.2.4", request(target=b"*")),
    refused("POST *", "9112 §3.2.4", request(method=b"POST", target=b"*")),
    refused("HEAD *", "9112 §3.2.4", request(method=b"HEAD", target=b"*"), methods=(b"GET",)),
    Case(
        "a method that the route does not take",
        "9110 §15.5.6",
        request(method=b"POST", target=b"/get"),
        (405,),
        got=(b"\r\nAllow: GET, HEAD\r\n",),
    ),
    Case(
        "HEAD where GET is",
        "9110 §9.3.2",
        request(method=b"HEAD", target=b"/get"),
        (200,),
        (Saw(b"HEAD /get HTTP/1.1"),),
        body=b"",
    ),
    Case(
        "HEAD of what the gateway answers",
        "9110 §9.3.2",
        request(method=b"HEAD", target=b"/health"),
        (200,),
        body=b"",
    ),
    Case(
        "HEAD of a refusal",
        "9110 §9.3.2",
        request(method=b"HEAD", target=b"/key"),
        (401,),
        body=b"",
    ),
]

HOSTS = [
    carried(
        "Host with a port",
        "9110 §7.2",
        host(b"api.example:8080"),
        has=(b"X-Forwarded-Host: api.example:8080",),
    ),
    carried("Host with an empty port", "3986 §3.2.3", host(b"api.example:")),
    carried("Host is an IPv4 address", "3986 §3.2.2", host(b"127.0.0.1:80")),
    carried("Host is an IPv6 address", "3986 §3.2.2", host(b"[::1]:80")),
    carried("Host with an underscore", "3986 §3.2.2", host(b"a_b.example")),
    carried("Host in capitals", "3986 §3.2.2", host(b"API.EXAMPLE")),
    carried(
        "Host with blanks around it", "9110 §5.5", request(host=b"Host: \t api.example \t\r\n")
    ),
    carried("Host without a blank", "9110 §5.5", request(host=b"Host:api.example\r\n")),
    carried(
        "Host in lower case, last", "9110 §5.1", request(host=b"A: b\r\nhost: api.example\r\n")
    ),
    carried(
        "no Host in HTTP/1.0", "9112 §3.2", request(version=b"HTTP/1.0", host=b""), closes=True
    ),
    refused("no Host", "9112 §3.2", request(host=b"")),
    refused(
        "no Host, chunked", "9112 §3.2", request(CHUNKED, b"0\r\n\r\n", host=b"", method=b"PUT")
    ),
    refused("two Hosts", "9112 §3.2", request(host=HEAD + b"Host: other.example\r\n")),
    refused("two equal Hosts", "9112 §3.2", request(host=HEAD + HEAD)),
    refused("two Hosts in HTTP/1.0", "9112 §3.2", request(host=HEAD + HEAD, version=b"HTTP/1.0")),
    refused("two Hosts, one in capitals", "9112 §3.2", request(host=HEAD + b"HOST: b\r\n")),
    refused("list of hosts", "9112 §3.2", host(b"a, b")),
    refused("empty Host", "9110 §4.2.1", host(b"")),
    refused("Host that is a blank", "9110 §4.2.1", host(b" ")),
    refused("Host with a path", "9112 §3.2", host(b"a/b")),
    refused("Host with a query", "9112 §3.2", host(b"a?b")),
    refused("Host with a fragment", "9112 §3.2", host(b"a#b")),
    refused("Host with userinfo", "9110 §4.2.4", host(b"a@b")),
    refused("Host with a space", "9112 §3.2", host(b"a b")),
    refused("Host with a tab", "9112 §3.2", host(b"a\tb")),
    refused("Host with a backslash", "9112 §3.2", host(b"a\\b")),
    refused("Host with a bad port", "3986 §3.2.3", host(b"a:b")),
    refused("Host with a signed port", "3986 §3.2.3", host(b"a:-1")),
    refused("Host with a port of 6 digits", "3986 §3.2.3", host(b"a:123456")),
    refused("Host with two ports", "3986 §3.2.3", host(b"a:80:81")),
    refused("Host with a scheme", "9112 §3.2", host(b"http://a")),
    refused("Host with an open bracket", "3986 §3.2.2", host(b"[::1")),
    refused("Host with text in brackets", "3986 §3.2.2", host(b"[g]")),
    refused("Host with text behind brackets", "3986 §3.2.2", host(b"[::1]a")),
    refused("Host beyond ASCII", "3986 §3.2.2", host("é.example".encode())),
    refused("Host with NUL", "9110 §5.5", host(b"a\0b")),
    refused("Host with a quote", "3986 §3.2.2", host(b'a"b')),
    refused("Host with angle brackets", "3986 §3.2.2", host(b"<a>")),
    refused("Host of 5,000 bytes", "3986 §3.2.2", host(b"a" * 5000)),
    refused("Host with a bad escape", "3986 §2.1", host(b"a%zz")),
    refused("Host with an encoded line break", "3986 §3.2.2", host(b"a%0d%0ab")),
    carried("Host with an escape", "3986 §3.2.2", host(b"a%c3%a9b")),
    refused("Host folded over lines", "9112 §5.2", host(b"a\r\n b")),
]

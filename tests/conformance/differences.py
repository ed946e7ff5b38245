"""Why the gateway and a peer differ, row by row: with the RFC's section, or the gateway's rule."""

REASONS: dict[str, str] = {
    # What a peer refuses and the gateway carries.
    "nginx refuses TRACE always. RFC 9110 §9.3.8 asks for no refusal; here a route's methods "
    "decide": """
        method TRACE""",
    "RFC 9112 §2.2: an empty line before a request-line SHOULD be ignored; Caddy refuses": """
        an empty line before the request; two empty lines before it;
        an empty line between requests""",
    "RFC 9112 §3: a recipient MAY split a request-line at runs of spaces; it is written anew "
    "with one": """
        two spaces before the target; two spaces before the version""",
    "RFC 9112 §3.2.2: a server MUST accept the absolute form, and Host gives way to it; "
    "HAProxy refuses where the two differ": """
        absolute form; absolute form, scheme in capitals; absolute form with a port""",
    "RFC 9110 §5.5: blanks around a value are no part of it, tabs neither; nginx keeps the tab": """
        Host with blanks around it; length with blanks around it; chunked behind blanks""",
    "RFC 9110 §10.1.1: an expectation that is not known MAY be answered with 417; it is "
    "dropped here, and the request is as good without it": """
        Expect of something else; Expect twice, one of something else""",
    "RFC 9110 §10.1.1: a proxy may say 100 itself, as the gateway does once the request is "
    "admitted; HAProxy leaves it to the backend, and the recording one says none": """
        Expect: leave is given; Expect in capitals; Expect with chunks""",
    "RFC 8297 §2 and RFC 9110 §15.2: a proxy MUST forward a 1xx that it did not ask for; "
    "nginx 1.22 drops it, and here waits for another answer": """
        103 before HEAD's answer""",
    "RFC 9112 §9.3: an answer may come before the request's body has; it is passed on at once": """
        an answer before the body""",
    # What is valid, or may be taken, and the gateway refuses.
    "RFC 9110 §9.1: a method that a server does not know may be refused. llhttp knows the "
    "registered ones; names are case-sensitive": """
        method that nobody knows; method in lower case; method in mixed case; method GETT;
        method of 10,000 bytes""",
    "RFC 9110 §9.3.6: no tunnels to anywhere; Caddy hands CONNECT to the backend": """
        CONNECT, authority form; CONNECT, origin form; CONNECT, absolute form""",
    "RFC 9112 §3.2.3: the authority form is for CONNECT alone": """
        GET, authority form""",
    "RFC 9110 §15.5.15: the bound is 8 KiB (`bounds.request_line`)": """
        line of 9,000 bytes; query of 9,000 bytes""",
    "RFC 6585 §5: the bounds are 100 fields and 32 KiB (`bounds.header_fields`, "
    "`bounds.headers`)": """
        101 fields; 1,000 fields; fields of 40,000 bytes in all""",
    "RFC 9110 §15.5.14: the route's own bound (413 from all); the peers pass on what came "
    "before it": """
        length past what the route takes; chunks past what the route takes""",
    "RFC 3986 §3.3 and §6: two servers read such a path in two ways, and a route's pattern "
    "with it; `loose_path: true` carries it": """
        dot segments; dot segment at the end; single dot segment; dot segments, encoded;
        double slash; encoded slash; backslash; encoded backslash; encoded NUL; bad escape;
        escape cut off; parameter; absolute form, ambiguous path""",
    "RFC 9110 §8.6: a repeated length MAY be refused, equal or not": """
        two equal lengths; list of equal lengths""",
    "RFC 9110 §8.6 sets no bound to leading zeros; 19 digits are as many as any length needs "
    "(2^63)": """
        length of 20 zeros and a digit; length of 5,000 digits""",
    "RFC 9112 §6.1 and §11.2: anything but one plain `chunked` can be read in two ways, and "
    "is refused": """
        chunked before a tab; comma behind chunked""",
    "RFC 6455 §4.1: a handshake has no body; its bytes would be a request to a backend that "
    "declines": """
        WebSocket with a length; WebSocket with chunks""",
    # What is not valid, and the gateway refuses.
    "RFC 9112 §3: a request-line has single spaces, and none at its end": """
        method with a tab behind it; tab before the version; space behind the version""",
    "RFC 9112 §2.2: a bare LF MAY be taken for a line's end; two parsers then disagree, so it"
    " is refused; a bare CR MUST NOT be taken": """
        bare LF behind the version; bare CR at a value's end; bare LF in a value;
        bare LF behind all fields; LF LF ends the head; chunked behind a bare LF;
        bare LF behind the size; bare LF behind the data; bare LF in an extension;
        bare LF behind the last chunk; bare LF ends the body; trailer with a bare LF;
        trailer with a bare CR; bare LF before the request; bare CR before the request""",
    "RFC 9112 §2.3: only HTTP/1.0 and HTTP/1.1 are spoken here, spelled as they are": """
        no version (0.9); no version, with fields; version 0.9; version 1.2; version 2.0;
        version 3.0; version 1.10""",
    "RFC 9112 §3.2: a target has no fragment; RFC 3986 §2: and no byte beyond ASCII": """
        fragment; fragment behind a query; target beyond ASCII; query beyond ASCII""",
    "RFC 9110 §4.2: an http target has a host, and a recipient refuses userinfo (§4.2.4)": """
        absolute form without a host; absolute form with userinfo; absolute form of ftp;
        absolute form of file""",
    "RFC 9112 §3.2: a request without one valid Host MUST get a 400": """
        absolute form without Host; OPTIONS * without Host; no Host; no Host, chunked;
        two equal Hosts; two Hosts in HTTP/1.0; list of hosts; empty Host; Host that is a blank;
        Host with a path; Host with a query; Host with a fragment; Host with userinfo;
        Host with a space; Host with a tab; Host with a backslash; Host with a scheme;
        Host beyond ASCII; Host with NUL; Host with a quote; Host with angle brackets;
        Host folded over lines""",
    "RFC 3986 §3.2.2 and §3.2.3: no such host, port or escape": """
        Host with a bad port; Host with a signed port; Host with a port of 6 digits;
        Host with two ports; Host with an open bracket; Host with text in brackets;
        Host with text behind brackets; Host of 5,000 bytes; Host with a bad escape;
        Host with an encoded line break""",
    "RFC 9112 §3.2.4: the asterisk is for OPTIONS alone, and stands alone": """
        OPTIONS *x; OPTIONS *?x; GET *; POST *; HEAD *""",
    "RFC 9112 §5.2: a folded line MUST be refused, or its fold replaced; it is refused": """
        folded line, space; folded line, tab; folded line, empty first; line of blanks;
        space before the name; length folded; chunked, folded; trailer folded""",
    "RFC 9112 §5 and RFC 9110 §5.6.2: a line is a token, a colon, a value; nginx drops the "
    "line and carries the rest": """
        no colon; no name, but a blank; name with a slash; name with a parenthesis;
        name with a comma; name with an at; name with brackets; name with braces;
        name with a quote; name with a backslash; name with an equals sign; name beyond ASCII;
        name with a Kelvin sign; name in Latin-1""",
    "RFC 9110 §5.5: CR, LF and NUL MUST be refused or replaced, other control characters are "
    "not valid": """
        NUL in a value; escape in a value; bell in a value; vertical tab in a value;
        form feed in a value; DEL in a value""",
    "RFC 9112 §6.3: length beside a coding ought to be handled as an error; the others drop "
    "the length": """
        length and chunked; chunked and length; chunked and length 0""",
    "RFC 9112 §6.1: chunked in HTTP/1.0 MUST be treated as faulty framing": """
        chunked in HTTP/1.0; chunked in HTTP/1.0, kept alive""",
    "RFC 9112 §7.1: a chunk is its size, CR LF, so many bytes, CR LF": """
        space behind the size; tab behind the size; nothing behind the data;
        data shorter than its size; bad second chunk""",
    "RFC 9112 §7.1.1: extensions are tokens, and SHOULD be bounded in all": """
        NUL in an extension; extension of 20,000 bytes;
        extension of the last chunk, of 20,000 bytes; extensions of 40,000 bytes in all""",
    "RFC 9110 §6.5.1: fields of the framing MUST NOT be trailers": """
        trailer Content-Length; trailer Transfer-Encoding""",
    "RFC 9112 §7.1.2 and §5: trailers are field lines, and bounded as such": """
        trailer with a space before the colon; trailer without a colon; trailer without a name;
        trailer with NUL; a request in place of trailers; trailer of 40,000 bytes; 1,000 trailers;
        trailers of 100,000 bytes in all""",
    # What the gateway answers itself.
    "RFC 9110 §9.3.7: `OPTIONS *` asks for the server as a whole, so the gateway answers it, "
    "as Caddy does": """
        OPTIONS *; OPTIONS * that looks like a preflight; OPTIONS * in HTTP/1.0;
        OPTIONS * with a body; OPTIONS * amid requests""",
    "RFC 9110 §15.5: the gateway's route table answers; the peers carry every path and method": """
        absolute form without a path; a method that the route does not take;
        HEAD of what the gateway answers; HEAD of a refusal;
        a key on a route that takes keys stays here; a refusal that keeps the connection;
        404 keeps the connection; a refusal amid requests; own answers amid requests;
        a body left by a refusal is not the next request; a body left by the gateway's own answer;
        Expect: no leave where nothing is""",
    # Answers.
    "RFC 9112 §8: an answer whose chunks break is incomplete; before anything has left, it is"
    " a 502": """
        bad chunk behind a good one; bare LF behind a chunk, answered""",
    "RFC 9112 §6.3: an answer whose length is in doubt MUST be a 502 (a gateway's duty)": """
        answer: length and chunked; answer: chunked and length; answer: two lengths;
        answer: list of lengths; answer: length with plus; answer: length in hex;
        answer: length below zero; answer: length past 64 bits; answer: gzip, chunked;
        answer: gzip; answer: identity; answer: chunked twice""",
    "RFC 9112 §5.1, §5.2 and RFC 9110 §5.5: a proxy MUST take such a line out, or refuse the "
    "answer": """
        answer: folded line; answer: space before the colon; answer: no colon;
        answer: name with a space; answer: name beyond ASCII; answer: NUL in a value;
        answer: control character in a value""",
    "RFC 9112 §2.2: a bare LF could be a line to one parser, and none to another": """
        answer: bare LF; answer: bare LF behind the status""",
    "RFC 9112 §4: a status line is a version, three digits of 100 or more, and printable text": """
        answer: control character in the reason; answer: status 000; answer: status 099;
        answer: status of two digits; answer: status of four digits; answer: status of letters;
        answer: version 2.0; answer: another protocol; answer: nothing but a body""",
    "RFC 9110 §7.8: a 101 only answers an Upgrade; §8.6: and no 1xx has a length": """
        answer: 101 unasked; answer: 1xx with a body""",
    "RFC 9110 §5.4: a recipient sets its bounds; a backend's head has at most 256 KiB": """
        answer: head of 300,000 bytes""",
}
BY_CASE = {
    name.strip(): reason
    for reason, names in REASONS.items()
    for name in " ".join(names.split()).split(";")
}


def why(name: str) -> str:
    return BY_CASE.get(name, "")

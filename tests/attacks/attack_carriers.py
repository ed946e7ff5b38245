"""Good tokens, in places that don't count, more than once, behind other schemes, or too long.

RFC 6750 §2 and §3.1: the one way in is one `Authorization: Bearer`. Anything else is as if nothing
had been sent, so it gets the challenge without an `error`.
"""

from collections.abc import Callable

from attack import BARE, INVALID, REPEATED, Forge, Head, Made, Row, fields, raw, request, token

A = "Authorization"
MAX_TOKEN_LENGTH = 4096

# What stands before the token, where it is not "Bearer ".
SCHEMES: dict[str, Made] = {
    "nothing": "",
    "Basic": "Basic ",
    "Token": "Token ",
    "JWT": "JWT ",
    "Digest": "Digest ",
    "ApiKey": "ApiKey ",
    "DPoP": "DPoP ",
    "AWS4-HMAC-SHA256": "AWS4-HMAC-SHA256 ",
    "Bearer without a blank": "Bearer",
    "Bearer and a tab": "Bearer\t",
    "Bearer and a colon": "Bearer: ",
    "Bearer and an equals sign": "Bearer=",
    "Bearer in quotes": '"Bearer" ',
    "Bearer with a letter too many": "Bearers ",
    "Bearer with a letter too few": "Beare ",
    "Bearer with a Cyrillic letter": "B\u0435arer ",
    "Bearer in full width": "\uff22earer ",
    "Bearer and a blank of no width": "Bearer\u200b ",
    "Bearer and a blank that does not break": "Bearer\u00a0",
    "a comma, then Bearer": ", Bearer ",
    "Basic, then Bearer": "Basic eDp5, Bearer ",
}


def behind(scheme: Made) -> Callable[[Forge], Head]:
    return lambda forge: [(A, raw(scheme) + raw(forge.sign()))]


def twice(*names: str) -> Callable[[Forge], Head]:
    return lambda forge: [(name, f"Bearer {forge.sign()}") for name in names]


def elsewhere(name: str, before: str = "") -> Callable[[Forge], Head]:
    return lambda forge: [(name, before + forge.sign())]


def sized(length: int) -> Callable[[Forge], str]:
    """A good token of just this length, by a long jti and a word in the header."""

    def make(forge: Forge) -> str:
        for word in ("", "x", "xx", "xxx"):
            header = forge.header(x=word)
            size = (length - len(forge.sign(header, forge.claims(jti="")))) * 3 // 4
            for fill in (size - 1, size, size + 1):
                made = forge.sign(header, forge.claims(jti="x" * fill))
                if len(made) == length:
                    return made
        raise AssertionError(length)

    return make


def asking(target: str) -> Callable[[Forge], bytes]:
    return lambda forge: request([], target=target.format(token=forge.sign()))


def posting(kind: str, body: str) -> Callable[[Forge], bytes]:
    return lambda forge: request(
        [("Content-Type", kind)], method="POST", body=body.format(token=forge.sign()).encode()
    )


def line(made: Callable[[Forge], Made]) -> Callable[[Forge], bytes]:
    """A request whose head ends with this very line."""
    return lambda forge: request([])[:-2] + raw(made(forge)) + b"\r\n\r\n"


ROWS: tuple[Row, ...] = (
    # Schemes.
    *(fields(f"scheme: {name}", behind(scheme)) for name, scheme in SCHEMES.items()),
    fields("scheme: none at all", lambda _forge: []),
    fields("scheme: an empty field", lambda _forge: [(A, "")]),
    fields("scheme: Bearer alone", lambda _forge: [(A, "Bearer")]),
    fields("scheme: Bearer and blanks", lambda _forge: [(A, "Bearer   ")]),
    fields(
        "scheme: Bearer and two tokens",
        lambda f: [(A, f"Bearer {f.sign()} {f.sign()}")],
        401,
        INVALID,
    ),
    fields(
        "scheme: Bearer and a tab behind a blank",
        lambda f: [(A, f"Bearer \t{f.sign()}")],
        401,
        INVALID,
    ),
    fields("scheme: bearer, in lower case", behind("bearer "), 200, None),
    fields("scheme: BEARER, in upper case", behind("BEARER "), 200, None),
    fields("scheme: bEaReR, in mixed case", behind("bEaReR "), 200, None),
    fields("scheme: Bearer and two blanks", behind("Bearer  "), 200, None),
    Row("scheme: no blank behind the colon", line(lambda f: f"{A}:Bearer {f.sign()}"), 200, None),
    Row(
        "scheme: blanks behind the token", line(lambda f: f"{A}: Bearer {f.sign()} \t "), 200, None
    ),
    # More than one.
    fields("twice: the same token", twice(A, A), 401, REPEATED),
    fields("twice: in two cases of letters", twice(A, A.lower()), 401, REPEATED),
    fields("twice: in lower case", twice(A.lower(), A.lower()), 401, REPEATED),
    fields("twice: in mixed case", twice(A, "aUTHORIZATION"), 401, REPEATED),
    fields(
        "twice: a bad one first",
        lambda f: [(A, "Bearer x"), (A, f"Bearer {f.sign()}")],
        401,
        REPEATED,
    ),
    fields(
        "twice: a bad one last",
        lambda f: [(A, f"Bearer {f.sign()}"), (A, "Bearer x")],
        401,
        REPEATED,
    ),
    fields(
        "twice: another scheme first",
        lambda f: [(A, "Basic eDp5"), (A, f"Bearer {f.sign()}")],
        401,
        REPEATED,
    ),
    fields(
        "twice: an empty one first", lambda f: [(A, ""), (A, f"Bearer {f.sign()}")], 401, REPEATED
    ),
    fields(
        "twice: far apart",
        lambda f: [(A, f"Bearer {f.sign()}"), *[("X", "1")] * 60, (A, f"Bearer {f.sign()}")],
        401,
        REPEATED,
    ),
    fields("twice: fifty times", twice(*[A] * 50), 401, REPEATED),
    fields(
        "listed: two, with a comma",
        lambda f: [(A, f"Bearer {f.sign()}, Bearer {f.sign()}")],
        401,
        INVALID,
    ),
    fields(
        "listed: two tokens, with a comma",
        lambda f: [(A, f"Bearer {f.sign()},{f.sign()}")],
        401,
        INVALID,
    ),
    fields("listed: as a parameter", lambda f: [(A, f'Bearer token="{f.sign()}"')], 401, INVALID),
    # Elsewhere.
    *(
        fields(f"elsewhere: {name}", elsewhere(name, "Bearer "))
        for name in (
            "Proxy-Authorization",
            "X-Authorization",
            "Authorization-",
            "Authorisation",
            "Authorization_",
            "_Authorization",
            "HTTP_AUTHORIZATION",
            "X-Forwarded-Authorization",
            "X-Original-Authorization",
            "WWW-Authenticate",
        )
    ),
    *(
        fields(f"elsewhere: {name}", elsewhere(name))
        for name in (
            "X-Access-Token",
            "X-Auth-Token",
            "X-Primit-API-Key",
            "Access-Token",
        )
    ),
    fields("elsewhere: Cookie", elsewhere("Cookie", "access_token=")),
    fields(
        "elsewhere: a subprotocol of no WebSocket",
        lambda f: [("Sec-WebSocket-Protocol", f"primit, primit.{f.sign()}")],
    ),
    fields(
        "elsewhere: a forged identity",
        lambda _f: [("X-User-Id", "42"), ("X-User-Email", "u42@example.com")],
    ),
    fields("elsewhere: a trailer's name", lambda _f: [("Trailer", A), ("TE", "trailers")]),
    *(
        Row(f"elsewhere: query {name}", asking(target), 401, BARE)
        for name, target in {
            "access_token": "/users/me?access_token={token}",
            "token": "/users/me?token={token}",
            "Authorization": "/users/me?Authorization=Bearer%20{token}",
            "alone": "/users/me?{token}",
        }.items()
    ),
    *(
        Row(f"elsewhere: body, {name}", posting(kind, body), 401, BARE)
        for name, kind, body in (
            ("form", "application/x-www-form-urlencoded", "access_token={token}"),
            ("JSON", "application/json", '{{"access_token": "{token}"}}'),
            ("a head of its own", "message/http", "Authorization: Bearer {token}\r\n\r\n"),
        )
    ),
    # Lines that are none.
    *(
        Row(f"line: {name}", line(made), 400, None)
        for name, made in {
            "a blank before the colon": lambda f: f"{A} : Bearer {f.sign()}",
            "a blank before the name": lambda f: f" {A}: Bearer {f.sign()}",
            "no colon": lambda f: f"{A} Bearer {f.sign()}",
            "folded": lambda f: f"{A}: Bearer\r\n {f.sign()}",
            "folded by a tab": lambda f: f"{A}:\r\n\tBearer {f.sign()}",
            "a bare CR": lambda f: f"X: 1\r{A}: Bearer {f.sign()}",
            "a bare LF": lambda f: f"X: 1\n{A}: Bearer {f.sign()}",
            "a NUL in the name": lambda f: f"{A}\0: Bearer {f.sign()}",
            "a NUL in the token": lambda f: f"{A}: Bearer {f.sign()[:20]}\0{f.sign()[20:]}",
            "a NUL behind the token": lambda f: f"{A}: Bearer {f.sign()}\0",
            "a name beyond ASCII": lambda f: f"Author\u0131zation: Bearer {f.sign()}",
            "a delete character": lambda f: f"{A}\x7f: Bearer {f.sign()}",
        }.items()
    ),
    # Sizes.
    token("size: as long as one may be", sized(MAX_TOKEN_LENGTH), 200, None),
    token("size: one too long", sized(MAX_TOKEN_LENGTH + 1)),
    token("size: twice as long", sized(2 * MAX_TOKEN_LENGTH)),
    token("size: 7 KiB of nothing", lambda _f: "A" * 7168),
    token("size: 7 KiB of dots", lambda _f: "." * 7168),
    token("size: 7 KiB of a header", lambda _f: "eyJhbGciOiJIUzI1NiIs" * 350 + ".e30.AA"),
    token("size: 16 KiB", lambda _f: "A" * 16_384),
    token("size: beyond the head's bound", lambda _f: "A" * 40_000, 431, None),
    fields(
        "size: beyond it in many fields",
        lambda _f: [(f"X-{n}", "A" * 7000) for n in range(5)],
        431,
        None,
    ),
    token("size: one letter", lambda _f: "A"),
)

"""Claims that are left out, of another type, of another value, too early or too late.

RFC 7519 §4.1, RFC 8725 §3.8 and §3.12. All of them are signed with our own secret: this is what a
second service that shares the secret by mistake could issue, or an older version of ours.
"""

import json
from collections.abc import Callable
from typing import Any

from attack import BARE, OTHER, USER, Forge, Row, control, token

REQUIRED = ("iss", "aud", "sub", "iat", "nbf", "exp", "jti", "scope", "ver")

# Wrong as they are, whatever the time is.
VALUES: dict[str, dict[str, Any]] = {
    "iss": {
        "another": "google",
        "with a slash": "primit/",
        "as a URL": "https://primit",
        "in upper case": "PRIMIT",
        "with a blank": "primit ",
        "with a NUL": "primit\0",
        "longer": "primit-staging",
        "a part of it": "prim",
        "empty": "",
        "a list of ours": ["primit"],
        "a number": 1,
        "true": True,
    },
    "aud": {
        "another": "other-app",
        "our issuer": "primit",
        "longer": "primit-app-admin",
        "a part of it": "primit-ap",
        "in upper case": "PRIMIT-APP",
        "with a slash": "primit-app/",
        "two in a text": "primit-app other-app",
        "empty": "",
        "a list of ours": ["primit-app"],
        "a list of ours and another": ["other-app", "primit-app"],
        "a list of others": ["other-app"],
        "an empty list": [],
        "an object": {"primit-app": 1},
        "a pattern": "*",
        "true": True,
    },
    "sub": {
        "zero": "0",
        "zeros": "00",
        "negative": "-42",
        "with a plus": "+42",
        "with a zero in front": "042",
        "with a blank": "42 ",
        "behind a blank": " 42",
        "with a line end": "42\n",
        "with an underscore": "4_2",
        "with a dot": "42.0",
        "as hex": "0x2a",
        "as exponent": "42e0",
        "in Arabic digits": "\u0664\u0662",
        "in full width": "\uff14\uff12",
        "as superscript": "\u2074\u00b2",
        "a name": "jane",
        "an email": "u42@example.com",
        "empty": "",
        "huge": "9" * 400,
        "beyond 2^53": "9007199254740993",
        "beyond 2^63": "9223372036854775808",
        "a name of Redis's": "42:x",
        "a pattern": "4*",
        "a path": "../42",
        "an integer": USER,
        "a float": 42.0,
        "a list": ["42"],
        "an object": {"id": "42"},
        "true": True,
    },
    "jti": {"a number": 1, "a list": ["x"], "an object": {}, "true": True},
    "scope": {"a list": ["user"], "a number": 1, "an object": {"user": True}, "true": True},
    "ver": {
        "zero": 0,
        "two": 2,
        "negative": -1,
        "a text": "1",
        "a float": 1.0,
        "a bit more": 1.5,
        "a list": [1],
        "true": True,
        "huge": 1 << 64,
    },
    "gen": {
        "null": None,
        "negative": -1,
        "a text": "0",
        "a float": 0.0,
        "true": True,
        "a list": [0],
    },
    "sid": {"a number": 1, "a list": ["x"], "an object": {}, "true": True},
}
# Wrong as times; `...` in a name says which claim.
TIMES: dict[str, Any] = {
    "a text": "9999999999",
    "an ISO time": "2099-01-01T00:00:00Z",
    "true": True,
    "a list": [9999999999],
    "an object": {"seconds": 9999999999},
    "an empty text": "",
    "of 400 digits": 10**400,
}
# What JSON does not have, spelled as some parsers take it.
NOT_NUMBERS = {"NaN": "NaN", "Infinity": "Infinity", "1e999": "1e999", "hex": "0x7fffffff"}


def saying(**claims: Any) -> Callable[[Forge], str]:
    return lambda forge: forge.saying(**claims)


def since(**seconds: float) -> Callable[[Forge], str]:
    """Times so many seconds from now."""
    return lambda forge: forge.saying(**{name: forge.now + far for name, far in seconds.items()})


def spelled(claim: str, text: str) -> Callable[[Forge], str]:
    """`claim` with a value that `json` would not write."""

    def make(forge: Forge) -> str:
        return forge.sign(
            claims=json.dumps(forge.claims(**{claim: "@"})).replace('"@"', text).encode()
        )

    return make


def needs(scope: str, has: Any, name: str) -> Row:
    challenge = f'{BARE}, error="insufficient_scope", scope="{scope}"'
    return token(f"scope: {name}", saying(scope=has), 403, challenge, "/trades")


ROWS: tuple[Row, ...] = (
    *(token(f"{claim}: left out", saying(**{claim: ...})) for claim in REQUIRED),
    *(token(f"{claim}: null", saying(**{claim: None})) for claim in REQUIRED),
    *(
        token(f"{claim}: under its name in upper case", saying(**{claim: ..., claim.upper(): 1}))
        for claim in ("iss", "sub", "exp")
    ),
    *(
        token(f"{claim}: {name}", saying(**{claim: value}))
        for claim, values in VALUES.items()
        for name, value in values.items()
    ),
    *(
        token(f"{claim}: {name}", saying(**{claim: value}))
        for claim in ("exp", "nbf", "iat")
        for name, value in TIMES.items()
    ),
    *(
        token(f"{claim}: {name}", spelled(claim, text))
        for claim in ("exp", "nbf", "iat")
        for name, text in NOT_NUMBERS.items()
    ),
    # Too late, and too early.
    token("exp: this very second", since(exp=0)),
    token("exp: a second ago", since(exp=-1)),
    token("exp: within what other issuers' leeway would be", since(exp=-29)),
    token("exp: a year ago", since(exp=-31_536_000)),
    token("exp: zero", saying(exp=0)),
    token("exp: negative", saying(exp=-1)),
    token("exp: negative zero", saying(exp=-0.0)),
    token("exp: a bit above zero", saying(exp=5e-324)),
    token("nbf: in two minutes", since(nbf=120)),
    token("nbf: in milliseconds", lambda forge: forge.saying(nbf=forge.now * 1000)),
    token("nbf: next year", since(nbf=31_536_000)),
    token("iat: in two minutes", since(iat=120)),
    token("iat: in milliseconds", lambda forge: forge.saying(iat=forge.now * 1000)),
    token("exp before all else", since(exp=-100, iat=-50, nbf=-50)),
    control("exp: in some seconds", since(exp=20)),
    control("exp: a float", since(exp=20.5)),
    control("nbf: within the skew of our clocks", since(nbf=15)),
    control("iat: within the skew of our clocks", since(iat=15)),
    control("nbf: long ago", saying(nbf=1)),
    # Scopes. A route that asks for none takes any.
    needs("trade", "user", "another"),
    needs("trade", "", "none"),
    needs("trade", "trader", "longer"),
    needs("trade", "trad", "a part of it"),
    needs("trade", "TRADE", "in upper case"),
    needs("trade", "user,trade", "with a comma"),
    needs("trade", "trade:read", "narrower"),
    needs("trade", "*", "a pattern"),
    token("scope: among others", saying(scope="user trade"), 200, None, "/trades"),
    control("scope: a route that asks for none", saying(scope="")),
    control("more claims than are known", saying(admin=True, user_id=OTHER, email="x@y.example")),
    control("a claim that would be an identity", saying(**{"X-User-Id": str(OTHER)})),
)

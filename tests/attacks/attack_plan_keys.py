"""Plan keys that are none, in places that don't count, or that open something else.

The one way in is one `X-Primit-API-Key`, whose value is the key to the letter: keys are looked up
by their digest, so there is no spelling but one.
"""

from collections.abc import Callable
from hashlib import sha256

from attack import KEY, USER, Forge, Head, Made, Row, fields, raw, request

HEADER = "X-Primit-API-Key"
KLINES = "/klines"

SPELLINGS: dict[str, Callable[[str], Made]] = {
    "in upper case": lambda key: key.upper(),
    "in lower case": lambda key: key.lower(),
    "its prefix in upper case": lambda key: "PK_" + key[3:],
    "without its prefix": lambda key: key[3:],
    "its prefix twice": lambda key: "pk_" + key,
    "another prefix": lambda key: "sk_" + key[3:],
    "a letter short": lambda key: key[:-1],
    "a letter more": lambda key: key + "0",
    "one letter off": lambda key: key[:10] + ("x" if key[10] != "x" else "y") + key[11:],
    "one letter of its checksum off": lambda key: key[:-1] + ("x" if key[-1] != "x" else "y"),
    "two letters swapped": lambda key: (
        key[:3] + key[4] + key[3] + key[5:] if key[3] != key[4] else key[:3] + "-" + key[4:]
    ),
    "a blank inside": lambda key: key[:20] + " " + key[20:],
    "a tab inside": lambda key: key[:20] + "\t" + key[20:],
    "a blank of no width inside": lambda key: key[:20] + "\u200b" + key[20:],
    "a mark before it": lambda key: "\ufeff" + key,
    "in quotes": lambda key: f'"{key}"',
    "encoded": lambda key: key.replace("_", "%5F"),
    "in full width": lambda key: "\uff50" + key[1:],
    "a byte that is no UTF-8": lambda key: key.encode() + b"\xff",
    "as a bearer": lambda key: f"Bearer {key}",
    "as ApiKey": lambda key: f"ApiKey {key}",
    "with a comma": lambda key: key + ",",
    "twice, with a comma": lambda key: f"{key}, {key}",
    "its digest": lambda key: sha256(key.encode()).hexdigest(),
    "its name in Redis": lambda key: "gw:key:" + sha256(key.encode()).hexdigest(),
    "its id": lambda _key: "k_good",
    "the prefix alone": lambda _key: "pk_",
    "empty": lambda _key: "",
    "a pattern": lambda _key: "pk_*",
    "zeros": lambda _key: "pk_" + "0" * 36,
    "a path": lambda _key: "../../gw:user:42",
    "SQL": lambda _key: "' OR '1'='1",
    "4 KiB": lambda _key: "pk_" + "a" * 4096,
}


def key(name: str = "good") -> Callable[[Forge], Head]:
    return lambda forge: [(HEADER, forge.keys[name])]


def spelled(change: Callable[[str], Made]) -> Callable[[Forge], Head]:
    return lambda forge: [(HEADER, raw(change(forge.keys["good"])))]


def under(*names: str) -> Callable[[Forge], Head]:
    return lambda forge: [(name, forge.keys["good"]) for name in names]


def refused(name: str, make: Callable[[Forge], Head], status: int = 401) -> Row:
    return fields(f"key: {name}", make, status, KEY if status == 401 else None, KLINES)


def asking(target: str) -> Callable[[Forge], bytes]:
    return lambda forge: request([], target=target.format(key=forge.keys["good"]))


ROWS: tuple[Row, ...] = (
    fields("key: good", key(), 200, None, KLINES),
    fields("key: good, its header in lower case", under(HEADER.lower()), 200, None, KLINES),
    fields(
        "key: good, beside a bad token",
        lambda f: [(HEADER, f.keys["good"]), ("Authorization", "Bearer x")],
        200,
        None,
        KLINES,
    ),
    refused("none", lambda _forge: []),
    *(refused(name, spelled(change)) for name, change in SPELLINGS.items()),
    refused("revoked", key("revoked")),
    refused("expired", key("expired")),
    refused("of a user without a plan", key("without a plan"), 403),
    refused("an app token in its place", lambda forge: [(HEADER, forge.sign())]),
    refused("the admin's token in its place", lambda forge: [(HEADER, forge.admin_token)]),
    refused("twice", under(HEADER, HEADER)),
    refused("twice, in two cases of letters", under(HEADER, HEADER.lower())),
    refused("twice, an empty one first", lambda f: [(HEADER, ""), (HEADER, f.keys["good"])]),
    refused("twice, a bad one last", lambda f: [(HEADER, f.keys["good"]), (HEADER, "pk_x")]),
    *(
        refused(f"under {name}", under(name))
        for name in (
            *("X_Primit_API_Key", "X-Primit_API-Key", "HTTP_X_PRIMIT_API_KEY", "X-Primit-APIKey"),
            *("X-API-Key", "Api-Key", "Authorization", "Proxy-Authorization", "X-Primit-API-Key-"),
        )
    ),
    refused("in a cookie", lambda f: [("Cookie", f"{HEADER}={f.keys['good']}")]),
    refused("as a bearer token", lambda f: [("Authorization", f"Bearer {f.keys['good']}")]),
    refused("as a password", lambda f: [("Authorization", f"Basic {f.keys['good']}")]),
    refused(
        "as a subprotocol of no WebSocket",
        lambda f: [("Sec-WebSocket-Protocol", f"primit, primit.{f.keys['good']}")],
    ),
    refused("a forged identity", lambda _f: [("X-User-Id", str(USER)), ("X-Plan", "standard")]),
    *(
        Row(f"key: in the query, {name}", asking(target), 401, KEY)
        for name, target in {
            "by its header's name": "/klines?X-Primit-API-Key={key}",
            "as api_key": "/klines?api_key={key}",
            "alone": "/klines?{key}",
        }.items()
    ),
    Row(
        "key: in the body",
        lambda f: request([], target=KLINES, body=f.keys["good"].encode()),
        401,
        KEY,
    ),
)

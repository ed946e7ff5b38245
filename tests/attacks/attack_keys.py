"""Tokens that bring the key to verify them with, or say where it is.

RFC 8725 §3.9 and §3.10: the key comes from our settings; nothing in a token is followed, whether
or not its signature is right. The attacker's own server would have a key for every one of them.
"""

import json
from collections.abc import Callable
from typing import Any

import jwt
from attack import Forge, Row, control, segment, token
from stand_ins import certificate, rsa_key

KEY_IDS: dict[str, Any] = {
    "another's": "google-1",
    "unknown": "k3",
    "in upper case": "K1",
    "behind a blank": " k1",
    "with a blank": "k1 ",
    "with a NUL": "k1\0",
    "with a NUL and more": "k1\0.pem",
    "in full width": "\uff4b1",
    "with a combining mark": "k1\u0301",
    "a path to nothing": "/dev/null",
    "a path up": "../../../../dev/null",
    "a path to itself": "./k1",
    "a path through ours": "k1/../k1",
    "a path, encoded": "..%2f..%2fdev%2fnull",
    "a path of Windows": "..\\..\\windows\\win.ini",
    "a URL": "file:///dev/null",
    "SQL": "k1' OR '1'='1",
    "SQL that brings a key": "x' UNION SELECT 'secret",
    "a shell": "k1; sleep 10",
    "a command": "|/usr/bin/id",
    "a template": "${GATEWAY_TOKEN_SECRET}",
    "a format": "{0.__class__}",
    "a name of Python's": "__class__",
    "a name of Redis's": "gw:user:42",
    "a pattern": "*",
    "two, with a comma": "k1,k2",
    "LDAP": "*)(kid=*",
    "a line end and a header": "k1\r\nX-User-Id: 1",
    "empty": "",
    "a list": ["k1"],
    "an object": {"k1": "k1"},
    "a number": 1,
    "true": True,
    "null": None,
    "left out": ...,
    "huge": "k" * 2500,
}


def with_header(key: str | bytes | None = None, **more: Any) -> Callable[[Forge], str]:
    return lambda forge: forge.sign(forge.header(**more), key=key)


def theirs(**more: Any) -> Callable[[Forge], str]:
    """Signed by RS256 with the attacker's key, which the header brings along."""
    return lambda forge: jwt.encode(
        forge.claims(), rsa_key("attacker"), "RS256", headers={"kid": "k1"} | more
    )


def leading(name: str, path: str) -> Callable[[Forge], str]:
    """A header that leads to the attacker's own server."""
    return lambda forge: forge.sign(forge.header(**{name: forge.url + path}))


def own_jwk() -> dict[str, Any]:
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key("attacker").public_key(), as_dict=True)
    return dict(jwk) | {"kid": "k1"}


def own_chain() -> list[str]:
    return ["".join(certificate(rsa_key("attacker")).splitlines()[1:-1])]


def unencoded(forge: Forge) -> str:
    """RFC 7797: the signature is over the payload as it is, which goes encoded all the same."""
    header = segment(forge.header(b64=False, crit=["b64"]))
    claims = json.dumps(forge.claims())
    return f"{header}.{segment(claims.encode())}.{segment(forge.mac(f'{header}.{claims}'))}"


SYMMETRIC = {"kty": "oct", "kid": "k1", "k": segment(b"the attacker's own secret, 32 by")}

ROWS: tuple[Row, ...] = (
    # A key in the header.
    token(
        "jwk: a secret, signed with it",
        with_header(b"the attacker's own secret, 32 by", jwk=SYMMETRIC),
    ),
    token("jwk: a secret, signed with ours", with_header(jwk=SYMMETRIC)),
    token("jwk: a public key, signed with it", theirs(jwk=own_jwk())),
    token("jwk: null, signed with ours", with_header(jwk=None)),
    token("jwk: empty, signed with ours", with_header(jwk={})),
    token("x5c: a certificate, signed with it", theirs(x5c=own_chain())),
    token("x5c: a certificate, signed with ours", with_header(x5c=own_chain())),
    token("x5c: empty, signed with ours", with_header(x5c=[])),
    # An address in the header.
    token("jku: the attacker's, signed with ours", leading("jku", "/jwks.json")),
    token(
        "jku: the attacker's, signed with theirs",
        lambda forge: theirs(jku=forge.url + "/jwks.json")(forge),
    ),
    token(
        "jku: Google's, by way of the attacker",
        leading("jku", "/?https://www.googleapis.com/oauth2/v3/certs"),
    ),
    token("jku: Google's own", with_header(jku="https://www.googleapis.com/oauth2/v3/certs")),
    token("jku: a file", with_header(jku="file:///etc/passwd")),
    token("jku: the admin listener", with_header(jku="http://127.0.0.1:9901/metrics")),
    token(
        "jku: what the cloud tells of itself",
        with_header(jku="http://169.254.169.254/latest/meta-data/"),
    ),
    token("jku: null", with_header(jku=None)),
    token("x5u: the attacker's, signed with ours", leading("x5u", "/chain.pem")),
    token(
        "x5u: the attacker's, signed with theirs",
        lambda forge: theirs(x5u=forge.url + "/chain.pem")(forge),
    ),
    # Extensions, and what belongs to encrypted tokens.
    token("crit: a claim", with_header(crit=["exp"])),
    token("crit: empty", with_header(crit=[])),
    token("crit: null", with_header(crit=None)),
    token(
        "crit: unknown",
        with_header(
            crit=["http://attacker.example/trust"], **{"http://attacker.example/trust": True}
        ),
    ),
    token("b64: false, and crit says so", with_header(crit=["b64"], b64=False)),
    token("b64: false, over the plain claims", unencoded),
    token("zip: a deflated payload", with_header(zip="DEF")),
    token("typ: an access token of OAuth", with_header(typ="at+jwt")),
    token("typ: a logout token", with_header(typ="logout+jwt")),
    token("typ: an encrypted token", with_header(typ="JWE")),
    token("typ: null", with_header(typ=None)),
    token("typ: a list", with_header(typ=["JWT"])),
    token("cty: a token within", with_header(cty="JWT")),
    control("typ: in lower case", with_header(typ="jwt")),
    control("typ: left out", with_header(typ=...)),
    # A key id that is more than a name.
    *(
        token(f"kid: {name}, signed with ours", with_header(kid=kid))
        for name, kid in KEY_IDS.items()
    ),
    token(
        "kid: a path to nothing, and an empty secret", with_header(b"", kid="../../../../dev/null")
    ),
    token(
        "kid: a path to a known file", with_header(b"1\n", kid="/proc/sys/kernel/dmesg_restrict")
    ),
    token(
        "kid: SQL that brings a key, signed with it",
        with_header(b"secret", kid="x' UNION SELECT 'secret"),
    ),
    token("kid: null, and the word None", with_header(b"None", kid=None)),
)

"""Unsigned tokens in every spelling, and tokens signed by another algorithm than ours.

RFC 8725 §2.1, §3.1 and §3.2: the algorithm is HS256 because the settings say so, not the token.
"""

from collections.abc import Callable
from typing import Any

import jwt
from attack import Forge, Row, control, segment, token
from stand_ins import ec_key, rsa_key

NONES = {
    "none": "none",
    "None": "None",
    "NONE": "NONE",
    "nOnE": "nOnE",
    "none with a blank": "none ",
    "none behind a blank": " none",
    "none with a NUL": "none\0",
    "none with a line end": "none\n",
    "none with a Cyrillic o": "n\u043ene",
    "none in full width": "\uff4e\uff4f\uff4e\uff45",
    "none with a soft hyphen": "no\u00adne",
}
OTHERS: dict[str, Any] = {
    "an empty text": "",
    "null": None,
    "false": False,
    "zero": 0,
    "a list of ours": ["HS256"],
    "a list of none and ours": ["none", "HS256"],
    "an object": {"HS256": 1},
    "left out": ...,
    "ours in lower case": "hs256",
    "ours in mixed case": "Hs256",
    "ours with a blank": "HS256 ",
    "ours behind a tab": "\tHS256",
    "ours with a NUL": "HS256\0",
    "ours with a Cyrillic letter": "H\u0405256",
    "ours in full width": "\uff28\uff33\uff12\uff15\uff16",
    "by its name elsewhere": "HMAC-SHA256",
    "by the URI of XML": "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256",
    "HS1": "HS1",
    "RS256": "RS256",
    "RS1": "RS1",
    "PS256": "PS256",
    "ES256": "ES256",
    "ES256K": "ES256K",
    "EdDSA": "EdDSA",
    "dir, as encrypted tokens have it": "dir",
    "A256KW": "A256KW",
    "PBES2": "PBES2-HS256+A128KW",
}


def unsigned(alg: str) -> Callable[[Forge], str]:
    return lambda forge: f"{segment(forge.header(alg=alg))}.{segment(forge.claims())}."


def unsigned_but_long_enough(alg: str) -> Callable[[Forge], str]:
    return lambda forge: f"{segment(forge.header(alg=alg))}.{segment(forge.claims())}.AA"


def named(alg: Any) -> Callable[[Forge], str]:
    return lambda forge: forge.sign(forge.header(alg=alg))


def public(form: str, **header: Any) -> Callable[[Forge], str]:
    """Signed with what everybody has: somebody's public key, taken for the secret."""
    return lambda forge: forge.sign(forge.header(**header), key=forge.public[form])


def by_key(algorithm: str, key: Any, kid: str = "k1") -> Callable[[Forge], str]:
    return lambda forge: jwt.encode(forge.claims(), key(), algorithm, headers={"kid": kid})


ROWS: tuple[Row, ...] = (
    control("the token that the others start from", lambda forge: forge.sign()),
    control(
        "a good token, as PyJWT writes it",
        lambda forge: jwt.encode(forge.claims(), forge.secret, "HS256", {"kid": "k1"}),
    ),
    *(token(f"unsigned: alg {name}", unsigned(alg)) for name, alg in NONES.items()),
    *(
        token(f"unsigned, not empty: alg {name}", unsigned_but_long_enough(alg))
        for name, alg in list(NONES.items())[:4]
    ),
    *(token(f"well signed: alg {name}", named(alg)) for name, alg in NONES.items()),
    *(token(f"well signed: alg {name}", named(alg)) for name, alg in OTHERS.items()),
    # Another algorithm, and the right signature for it.
    token(
        "HS384 with our secret",
        lambda forge: forge.sign(forge.header(alg="HS384"), digest="sha384"),
    ),
    token(
        "HS512 with our secret",
        lambda forge: forge.sign(forge.header(alg="HS512"), digest="sha512"),
    ),
    token("HS256 that is HS512", lambda forge: forge.sign(digest="sha512")),
    token("RS256 with a key of its own", by_key("RS256", lambda: rsa_key("attacker"))),
    token("PS256 with a key of its own", by_key("PS256", lambda: rsa_key("attacker"))),
    token("ES256 with a key of its own", by_key("ES256", lambda: ec_key("attacker"))),
    token("RS256 with Google's key id", by_key("RS256", lambda: rsa_key("attacker"), "google-1")),
    token("ES256 with Apple's key id", by_key("ES256", lambda: ec_key("attacker"), "apple-ec")),
    token(
        "ES256 of zeros",  # CVE-2022-21449
        lambda forge: (
            f"{segment(forge.header(alg='ES256'))}.{segment(forge.claims())}.{segment(bytes(64))}"
        ),
    ),
    # A public key as the secret: RFC 8725 §2.1.
    *(
        token(f"a public key as the secret: {form}", public(form))
        for form in (
            "PEM",
            "PEM without its last line end",
            "PEM with CRLF",
            "PKCS #1",
            "DER",
            "certificate",
            "JWK",
            "modulus",
            "PEM of P-256",
        )
    ),
    token("a public key as the secret, by its own id", public("PEM", kid="google-1")),
    token("a public key as the secret, and RS256 said", public("PEM", alg="RS256")),
    # Guessed, leaked or half-known secrets.
    *(
        token(f"secret: {name}", make)
        for name, make in {
            "empty": lambda forge: forge.sign(key=b""),
            "the word secret": lambda forge: forge.sign(key="secret"),
            "the key id": lambda forge: forge.sign(key="k1"),
            "the issuer": lambda forge: forge.sign(key="primit"),
            "the setting's own text": lambda forge: forge.sign(key="${GATEWAY_TOKEN_SECRET}"),
            "null": lambda forge: forge.sign(key="None"),
            "ours but for its last byte": lambda forge: forge.sign(key=forge.secret[:-1]),
            "ours with a line end": lambda forge: forge.sign(key=forge.secret + "\n"),
            "ours in upper case": lambda forge: forge.sign(key=forge.secret.upper()),
            "ours in base64": lambda forge: forge.sign(key=segment(forge.secret.encode())),
            "the second one, as k1": lambda forge: forge.sign(key=forge.second),
            "ours, as k2": lambda forge: forge.sign(forge.header(kid="k2")),
            "the vault's key": lambda forge: forge.sign(key=forge.vault_key),
            "the admin's token": lambda forge: forge.sign(key=forge.admin_token),
        }.items()
    ),
    control(
        "the second secret, as k2",
        lambda forge: forge.sign(forge.header(kid="k2"), key=forge.second),
    ),
)

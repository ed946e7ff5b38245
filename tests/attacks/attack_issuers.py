"""Signatures that are not the token's own, and good tokens that are not for us, or no longer.

A token of Google or Apple signs in; it is no app token, whoever's key it was signed with.
"""

import base64
from collections.abc import Callable
from hashlib import sha256

from attack import (
    DISABLED,
    NOBODY,
    OTHER,
    REVOKED,
    REVOKED_ID,
    REVOKED_SESSION,
    UNREADABLE,
    Forge,
    Row,
    control,
    segment,
    token,
)

LEGACY_SECRET = "the platform's secret of yesterday"


def signature(change: Callable[[str, Forge], str]) -> Callable[[Forge], str]:
    """The good token with another signature."""

    def make(forge: Forge) -> str:
        shown, _, own = forge.sign().rpartition(".")
        return f"{shown}.{change(own, forge)}"

    return make


def decoded(own: str) -> bytes:
    return base64.urlsafe_b64decode(own + "=")


def swapped(part: int, **claims: object) -> Callable[[Forge], str]:
    """A good token with one part of another good one."""

    def make(forge: Forge) -> str:
        parts = forge.parts()
        parts[part] = forge.saying(**claims).split(".")[part]
        return ".".join(parts)

    return make


def legacy(forge: Forge) -> str:
    """What the platform issued before there was a gateway: no kid, fewer claims, another secret."""
    claims = {"sub": "42", "email": "u42@example.com", "exp": forge.now + 3600}
    return forge.sign({"alg": "HS256", "typ": "JWT"}, claims, LEGACY_SECRET)


ROWS: tuple[Row, ...] = (
    *(
        token(f"signature: {name}", signature(change))
        for name, change in {
            "zeros": lambda _own, _f: segment(bytes(32)),
            "ones": lambda _own, _f: segment(b"\xff" * 32),
            "one zero": lambda _own, _f: segment(bytes(1)),
            "its first half": lambda own, _f: own[:22],
            "its first byte": lambda own, _f: own[:2],
            "without its last byte": lambda own, _f: own[:-2],
            "with a byte more": lambda own, _f: own + "AA",
            "twice": lambda own, _f: own + own,
            "backwards": lambda own, _f: segment(decoded(own)[::-1]),
            "one bit off": lambda own, _f: segment(bytes([decoded(own)[0] ^ 1]) + decoded(own)[1:]),
            "the last bit off": lambda own, _f: segment(
                decoded(own)[:-1] + bytes([decoded(own)[-1] ^ 1])
            ),
            "in hex": lambda own, _f: segment(decoded(own).hex().encode()),
            "of the claims alone": lambda _own, f: segment(f.mac(f.parts()[1])),
            "of the header alone": lambda _own, f: segment(f.mac(f.parts()[0])),
            "without the dot": lambda _own, f: segment(f.mac("".join(f.parts()[:2]))),
            "of nothing": lambda _own, f: segment(f.mac("")),
            "a plain SHA-256": lambda _own, f: segment(
                sha256(".".join(f.parts()[:2]).encode()).digest()
            ),
            "the secret's id": lambda _own, _f: "k1",
        }.items()
    ),
    token("swapped: the claims of another user", swapped(1, sub=str(OTHER))),
    token("swapped: the signature of another user's", swapped(2, sub=str(OTHER))),
    token("swapped: the claims of a longer-lived one", swapped(1, exp=9_999_999_999)),
    token("swapped: the claims of more scope", swapped(1, scope="user trade admin")),
    token(
        "swapped: the header of the second secret",
        lambda f: ".".join([segment(f.header(kid="k2")), *f.parts()[1:]]),
    ),
    token("swapped: claims and header", lambda f: "{1}.{0}.{2}".format(*f.parts())),
    # Good tokens of others.
    token("issuer: Google", lambda f: f.others["Google"]),
    token("issuer: Apple, by RSA", lambda f: f.others["Apple, RSA"]),
    token("issuer: Apple, by P-256", lambda f: f.others["Apple, EC"]),
    token("issuer: Google, saying that it is us", lambda f: f.others["Google for us"]),
    token("issuer: ourselves, before", legacy),
    token(
        "issuer: ourselves, before, by today's secret",
        lambda f: f.sign({"alg": "HS256", "typ": "JWT"}, {"sub": "42", "exp": f.now + 3600}),
    ),
    token("issuer: a plan key", lambda f: f.keys["good"]),
    token("issuer: the admin's token", lambda f: f.admin_token),
    token("issuer: the signing secret itself", lambda f: f.secret),
    # No longer good.
    token(
        "retired: a secret that is gone, under its id",
        lambda f: f.sign(f.header(kid="k0"), key=f.retired),
    ),
    token("retired: a secret that is gone, under today's id", lambda f: f.sign(key=f.retired)),
    token(
        "revoked: all tokens of the user",
        lambda f: f.saying(sub=str(REVOKED), iat=f.revoked_at - 60),
    ),
    token(
        "revoked: a moment before", lambda f: f.saying(sub=str(REVOKED), iat=f.revoked_at - 1e-3)
    ),
    control(
        "revoked: issued in that moment", lambda f: f.saying(sub=str(REVOKED), iat=f.revoked_at)
    ),
    token(
        "revoked: issued in the first second of all", lambda f: f.saying(sub=str(REVOKED), iat=0)
    ),
    token("revoked: issued before that", lambda f: f.saying(sub=str(REVOKED), iat=-1e300)),
    token("revoked: when, nobody can read", lambda f: f.saying(sub=str(UNREADABLE))),
    token("revoked: one by its id", lambda f: f.saying(jti=REVOKED_ID)),
    token("revoked: its session", lambda f: f.saying(sid=REVOKED_SESSION)),
    token("revoked: its session, by its id", lambda f: f.saying(jti=REVOKED_SESSION)),
    token("revoked: its user is switched off", lambda f: f.saying(sub=str(DISABLED))),
    control("of a session that goes on", lambda f: f.saying(sid="a-session", gen=0)),
    token("unknown: a user who is none", lambda f: f.saying(sub=str(NOBODY))),
    control("another user's own", lambda f: f.saying(sub=str(OTHER))),
)

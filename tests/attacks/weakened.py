"""The `gateway` command without one of its checks of credentials: `python weakened.py CHECK serve`.

Each weakness is a mistake that real verifiers have had. `DOORS` names the rows of the table that it
must let through: a table that stays green beside it would prove nothing.
"""

import base64
import dataclasses
import json
import re
import sys
from collections.abc import Callable
from typing import Any

import jwt

from gateway.auth import app_token, body_credentials, plan_key
from gateway.cli import main
from gateway.exchange import Exchange
from gateway.identity import jose, tokens
from gateway.identity.users import User, Users

genuine_decode, genuine_known = jwt.decode, tokens.AppTokens.known
genuine_bearer, genuine_read = app_token._bearer, jose.read


def put(owner: Any, name: str, value: Any) -> None:
    assert hasattr(owner, name), f"{owner} has no {name} any more: weaken what is there now"
    setattr(owner, name, value)


def decode_with(**options: Any) -> None:
    """Let PyJWT go by other options than ours."""

    def decode(token: str, key: Any, **given: Any) -> Any:
        given["options"] = given["options"] | options
        return genuine_decode(token, key, **given)

    put(jwt, "decode", decode)


def signature() -> None:
    decode_with(verify_signature=False, verify_aud=True, verify_iss=True, require=tokens._REQUIRED)


def algorithm() -> None:
    def decode(token: str, key: Any, **given: Any) -> Any:
        said = jwt.get_unverified_header(token)["alg"]
        if said.strip().lower() == "none":
            return genuine_decode(token, options={"verify_signature": False})
        return genuine_decode(token, key, **given | {"algorithms": [said]})

    put(jwt, "decode", decode)


def embedded_key() -> None:
    put(jose, "_REFUSED_PARAMETERS", frozenset())

    def decode(token: str, key: Any, **given: Any) -> Any:
        jwk = jwt.get_unverified_header(token).get("jwk") or {}
        own = base64.urlsafe_b64decode(jwk["k"] + "==") if "k" in jwk else key
        return genuine_decode(token, own, **given)

    put(jwt, "decode", decode)


def header() -> None:
    put(jose, "_REFUSED_PARAMETERS", frozenset())


def key_id() -> None:
    def read(token: str, **given: Any) -> jose.UnverifiedToken:
        return dataclasses.replace(genuine_read(token, **given), key_id="k1")

    put(jose, "read", read)


def spelling() -> None:
    def known(self: tokens.AppTokens, token: str, now: float) -> tokens.Known:
        return genuine_known(self, re.sub(r"[\s=\"<>]", "", token), now)

    put(tokens.AppTokens, "known", known)


def names() -> None:
    def parse(body: bytes) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(body)
        return value

    put(jose, "parse_object", parse)


def issuer() -> None:
    decode_with(verify_iss=False)


def audience() -> None:
    decode_with(strict_aud=False)


def subject() -> None:
    put(tokens, "_USER_ID", re.compile(r".*", re.DOTALL))


def numbers() -> None:
    put(jose, "seconds", lambda claims, name: float(claims.get(name) or "inf"))


def clock() -> None:
    put(tokens, "CLOCK_SKEW_SECONDS", 10**15)


def expiry() -> None:
    genuine = jose.seconds
    put(jose, "seconds", lambda claims, name: genuine(claims, name) + 10**10 * (name == "exp"))


def version() -> None:
    class Whatever(int):
        __hash__ = int.__hash__

        def __eq__(self, other: object) -> bool:
            return True

        def __ne__(self, other: object) -> bool:
            return False

    put(tokens, "VERSION", Whatever(1))


def length() -> None:
    put(tokens, "MAX_TOKEN_LENGTH", 1 << 20)


def user() -> None:
    async def get(_self: Users, user_id: int) -> User:
        return User(id=user_id)

    put(Users, "get", get)


def scope() -> None:
    genuine = app_token.AppToken.__init__

    def without(self: app_token.AppToken, *arguments: Any, **more: Any) -> None:
        genuine(self, *arguments, **more)
        self._scope = frozenset()

    put(app_token.AppToken, "__init__", without)


def put_bearer(bearer: Callable[[Exchange], str]) -> None:
    def known(self: app_token.AppToken, exchange: Exchange, now: float) -> tokens.Known:
        return self._tokens.known(bearer(exchange), now)

    put(app_token.AppToken, "_known", known)


def first_of_several() -> None:
    def bearer(exchange: Exchange) -> str:
        return next(
            (
                word
                for value in exchange.headers.getall("Authorization", ())
                for word in re.split("[ ,]+", value)
                if word.count(".") == 2
            ),
            None,
        ) or genuine_bearer(exchange.headers.getall("Authorization", ()))

    put_bearer(bearer)


def any_place() -> None:
    def bearer(exchange: Exchange) -> str:
        said = " ".join((exchange.target, *exchange.headers.values()))
        found = re.search(r"[\w-]{20,}\.[\w-]{20,}\.[\w-]{20,}", said, re.ASCII)
        if found:
            return found[0]
        return genuine_bearer(exchange.headers.getall("Authorization", ()))

    put_bearer(bearer)


def trimmed_keys() -> None:
    genuine = plan_key.digest
    put(plan_key, "well_formed", bool)
    put(plan_key, "digest", lambda key: genuine(re.split("[, ]", key.strip('" '))[0]))


def lenient_bodies() -> None:
    put(body_credentials, "parse_object", json.loads)


# By weakness: some of the rows that it lets through.
DOORS: dict[Callable[[], None], tuple[str, ...]] = {
    signature: (
        "signature: zeros",
        "signature: backwards",
        "swapped: the claims of another user",
        "secret: the word secret",
        "a public key as the secret: PEM",
        "retired: a secret that is gone, under today's id",
    ),
    algorithm: (
        "unsigned, not empty: alg none",
        "unsigned, not empty: alg nOnE",
        "HS384 with our secret",
        "HS512 with our secret",
    ),
    embedded_key: ("jwk: a secret, signed with it",),
    header: (
        "jwk: a secret, signed with ours",
        "jku: the attacker's, signed with ours",
        "x5u: the attacker's, signed with ours",
        "x5c: empty, signed with ours",
        "zip: a deflated payload",
        "cty: a token within",
    ),
    key_id: (
        "kid: SQL, signed with ours",
        "kid: a path to nothing, signed with ours",
        "kid: huge, signed with ours",
        "kid: unknown, signed with ours",
    ),
    spelling: ("spelled: padded", "spelled: a blank inside", "spelled: in quotes"),
    names: (
        "header: alg twice",
        "header: kid twice",
        "claims: sub twice",
        "claims: sub twice, once escaped",
        "claims: NaN",
    ),
    issuer: ("iss: another", "iss: with a slash", "iss: in upper case"),
    audience: ("aud: a list of ours", "aud: a list of ours and another"),
    subject: (
        "sub: with a zero in front",
        "sub: with a plus",
        "sub: with a line end",
        "sub: with an underscore",
        "sub: in Arabic digits",
        "sub: in full width",
    ),
    numbers: ("exp: a text",),
    clock: ("nbf: in two minutes", "iat: in two minutes", "nbf: next year"),
    expiry: (
        "exp: this very second",
        "exp: a second ago",
        "exp: a year ago",
        "exp: zero",
        "exp: negative",
    ),
    version: ("ver: zero", "ver: two", "ver: huge"),
    length: ("size: one too long",),
    user: (
        "revoked: all tokens of the user",
        "revoked: a moment before",
        "revoked: when, nobody can read",
        "unknown: a user who is none",
    ),
    scope: ("scope: another", "scope: longer", "scope: none"),
    first_of_several: (
        "twice: the same token",
        "twice: a bad one first",
        "listed: two, with a comma",
        "scheme: Basic",
        "scheme: nothing",
    ),
    any_place: (
        "elsewhere: Cookie",
        "elsewhere: X-Access-Token",
        "elsewhere: query access_token",
        "elsewhere: HTTP_AUTHORIZATION",
        "scheme: Token",
    ),
    trimmed_keys: ("key: in quotes", "key: with a comma", "key: twice, with a comma"),
    lenient_bodies: (
        "body: api_key twice",
        "body: api_key twice, once escaped",
        "body: a name twice further in",
        "body: in UTF-16",
        "body: NaN",
    ),
}


if __name__ == "__main__":
    wanted = sys.argv.pop(1)
    for weakness in DOORS:
        if weakness.__name__ == wanted:
            weakness()
    main()

"""Identity tokens that must not be taken, as tables that hold for Google and Apple alike.

`WRONG_CLAIMS` are signed as they should be and say something wrong; what `forgeries` makes is not
signed as it should be, or can be read in more than one way. All times are seen from NOW.
"""

import base64
import hmac
import json
from collections.abc import Mapping
from typing import Any

import jwt
from stand_ins import public_pem, rsa_key

NOW = 1_800_000_000
ABSENT = object()


def segment(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(algorithm: str, key: Any, header: Any, payload: Any) -> str:
    """A token with a good signature over whatever header and payload."""
    signing_input = f"{segment(header)}.{segment(payload)}"
    signature = jwt.get_algorithm_by_name(algorithm).sign(signing_input.encode(), key)
    return f"{signing_input}.{segment(signature)}"


def hs256(header: Any, payload: Any, secret: bytes) -> str:
    signing_input = f"{segment(header)}.{segment(payload)}"
    return f"{signing_input}.{segment(hmac.digest(secret, signing_input.encode(), 'sha256'))}"


def changed(good: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`good` with some claims changed, or taken out where they are ABSENT."""
    return {name: value for name, value in {**good, **change}.items() if value is not ABSENT}


def named(claim: str, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{claim} {how}": {claim: value} for how, value in values.items()}


def wrong_claims(issuer: str, audience: str) -> dict[str, dict[str, Any]]:
    """Changes of good claims that make them wrong, by name. `another-app` is an audience too."""
    no_word = {"absent": ABSENT, "null": None, "true": True, "an object": {"a": 1}, "7": 7}
    no_time = {"absent": ABSENT, "null": None, "true": True, "an object": {"a": 1}, "a list": [NOW]}
    no_time |= {"text": "9999999999", "empty text": "", "beyond counting": 10**400, "vast": 1e300}
    no_time |= {"negative": -1, "in milliseconds": (NOW + 60) * 1000}
    return {
        **named("iss", no_word | {"in a list": [issuer], "with a slash": issuer + "/"}),
        **named("iss", {"in capitals": issuer.upper(), "of a namesake": issuer + ".evil.example"}),
        **named("iss", {"with a line end": issuer + "\n", "empty": ""}),
        **named("aud", no_word | {"of others": "not-ours", "empty": "", "an empty list": []}),
        **named("aud", {"in capitals": audience.upper(), "two in one": f"{audience} another-app"}),
        **named("aud", {"cut by a NUL": audience + "\0", "a list in a list": [[audience]]}),
        **named("aud", {"ours and theirs": [audience, "not-ours"], "ours and 7": [audience, 7]}),
        "aud several, and no azp": {"aud": [audience, "another-app"], "azp": ABSENT},
        "aud several, and azp theirs": {"aud": [audience, "another-app"], "azp": "not-ours"},
        "aud ours and theirs, azp ours": {"aud": [audience, "not-ours"], "azp": audience},
        **named("azp", {"of others": "not-ours", "null": None, "empty": "", "7": 7}),
        **named("azp", {"in a list": [audience], "an object": {}, "true": True}),
        **named("exp", no_time),
        **named("iat", no_time | {"past the leeway": NOW + 61, "just past it": NOW + 60.5}),
        **named("nbf", {"past the leeway": NOW + 61, "null": None, "text": "soon", "true": True}),
        **named("sub", no_word | {"empty": "", "a list": ["1"], "of 256 characters": "1" * 256}),
        **named("sub", {"with a blank": "1 2", "with a line end": "1\n", "with a NUL": "1\0"}),
        **named("sub", {"beyond ASCII": "\u00e9", "in wide digits": "\uff11\uff12"}),
        **named("sub", {"turned around": "\u202e21", "half a character": "\ud800"}),
        **named("email", {"of nobody": "nobody", "a list": ["user@example.com"], "7": 7}),
        **named("email", {"twice": "a@b@example.com", "too long": "a" * 243 + "@example.com"}),
        **named("email", {"two lines": "user@example.com\r\nx", "an object": {"a": "a@b.c"}}),
        **named("email", {"of a namesake": "\u212aate@example.com", "half": "\ud800@b.c"}),
    }


def other_kids(kid: str) -> list[Any]:
    wrong_kinds = ["", None, 7, [kid], {"a": kid}]
    return [
        *wrong_kinds,
        "unknown",
        kid + "\0",
        kid.upper(),
        "../../dev/null",
        "' OR 1=1",
        "k" * 5000,
    ]


def forgeries(kid: str, good: dict[str, Any]) -> dict[str, str]:
    """`kid` names the RSA key that is published."""
    header = {"alg": "RS256", "kid": kid, "typ": "JWT"}

    def rs256(header: Any, payload: Any = good) -> str:
        return signed("RS256", rsa_key(), header, payload)

    token = rs256(header)
    head, payload, signature = token.split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    json_payload = json.dumps(good).encode()
    return {
        "not a token": "nonsense",
        "two segments": f"{head}.{payload}",
        "four segments": token + ".x",
        "five segments": f"{head}..{payload}.{signature}.{signature}",
        "in JSON": json.dumps({"protected": head, "payload": payload, "signature": signature}),
        "another key's signature": signed("RS256", rsa_key("foreign"), header, good),
        "a changed payload": f"{head}.{segment(good | {'sub': '1'})}.{signature}",
        "a changed header": f"{segment(header | {'a': 1})}.{payload}.{signature}",
        "the payload as header": f"{payload}.{payload}.{signature}",
        "no signature": f"{head}.{payload}.",
        "half a signature": f"{head}.{payload}.{segment(raw[:128])}",
        "a signature and more": f"{head}.{payload}.{segment(raw + b'x')}",
        "a signature of zeros": f"{head}.{payload}.{segment(bytes(256))}",
        "a signature of one": f"{head}.{payload}.{segment(bytes(255) + b'1')}",
        **{
            f"alg {algorithm!r}": f"{segment(header | {'alg': algorithm})}.{payload}.{signature}"
            for algorithm in ("none", "None", "nOnE", "", "rs256", "RS256 ", "RS256\0", None, 7)
        },
        "alg none, unsigned": f"{segment(header | {'alg': 'none'})}.{payload}.",
        "alg none, signed": rs256(header | {"alg": "none"}),
        "alg missing": rs256({"kid": kid}),
        "RS512": signed("RS512", rsa_key(), header | {"alg": "RS512"}, good),
        "PS256": signed("PS256", rsa_key(), header | {"alg": "PS256"}, good),
        "RS512 said to be RS256": signed("RS512", rsa_key(), header, good),
        "HS256 with the public key as the secret": hs256(
            header | {"alg": "HS256"}, good, public_pem(rsa_key())
        ),
        "HS256 said to be RS256": hs256(header, good, public_pem(rsa_key())),
        "HS256 with nothing as the secret": hs256(header | {"alg": "HS256"}, good, b""),
        "no kid": rs256({"alg": "RS256"}),
        **{f"kid {value!r}"[:40]: rs256(header | {"kid": value}) for value in other_kids(kid)},
        "jku": rs256(header | {"jku": "http://127.0.0.1:1/keys"}),
        "jwk": rs256(header | {"jwk": {"kty": "RSA"}}),
        "x5u": rs256(header | {"x5u": "http://127.0.0.1:1/certificate"}),
        "x5c": rs256(header | {"x5c": []}),
        "crit": rs256(header | {"crit": ["exp"]}),
        "b64": rs256(header | {"b64": False}),
        "zip": rs256(header | {"zip": "DEF"}),
        **{
            f"typ {value!r}": rs256(header | {"typ": value})
            for value in ("at+jwt", "secevent+jwt", "", 7, ["JWT"])
        },
        "a header with a repeated name": rs256(
            b'{"alg": "none", "alg": "RS256", "kid": "%s"}' % kid.encode()
        ),
        "a header with two kids": rs256(
            b'{"alg": "RS256", "kid": "other", "kid": "%s"}' % kid.encode()
        ),
        "a header that is an array": rs256([header]),
        "a header that is a bomb": rs256(b'{"a":' * 3000),
        "a payload with a repeated name": rs256(header, json_payload[:-1] + b', "sub": "1"}'),
        "a payload with a name repeated in escapes": rs256(
            header, json_payload[:-1] + b', "s\\u0075b": "1"}'
        ),
        "a payload that is an array": rs256(header, [good]),
        "a payload that is text": rs256(header, "text"),
        "a payload that is null": rs256(header, None),
        "a payload that is a bomb of brackets": rs256(header, b"[" * 5000),
        "a payload with a bomb in a claim": rs256(
            header, json_payload[:-1] + b', "a": ' + b"[" * 2000 + b"]" * 2000 + b"}"
        ),
        "a payload with a number of 5000 digits": rs256(
            header, json_payload[:-1] + b', "a": ' + b"1" * 5000 + b"}"
        ),
        "a payload with more behind it": rs256(header, json_payload + b"{}"),
        "a payload with a mark in front": rs256(header, b"\xef\xbb\xbf" + json_payload),
        "a payload in UTF-16": rs256(header, json.dumps(good).encode("utf-16")),
        "a payload that is not UTF-8": rs256(header, json_payload[:-1] + b', "a": "\xff"}'),
        "a payload with NaN": rs256(header, good | {"exp": float("nan")}),
        "a payload with Infinity": rs256(header, good | {"exp": float("inf")}),
        "too long": rs256(header, good | {"more": "x" * 16384}),
        "a line end": token + "\n",
        "a blank in front": " " + token,
        "a blank inside": token.replace(".", ". ", 1),
        "a surrogate": token + "\udcff",
        "letters beyond ASCII": token + "\u00e9",
        "padding": token + "=",
        "base64 of the other alphabet": f"{head}.{payload}.{signature[:-2]}+/",
        "a segment of five letters": f"{head}.{payload}.abcde",
    }

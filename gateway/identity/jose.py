"""Reading a signed token before its signature is judged (JWS compact form, RFC 7515 §7.1).

Strict, and the same for our own tokens, Google's and Apple's: the libraries that verify are lenient
about alphabet, repeated names and nesting, and must only ever see what passed here. Nothing read
here is true until the signature has been verified; it only chooses the key to verify with.

A header that names a key by itself (jku, jwk, x5u, x5c) or demands an extension (crit) is refused:
the key comes from our settings or from the provider's own address, never from the token.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any

from gateway.errors import Invalid
from gateway.jsonbody import parse_object

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_REFUSED_PARAMETERS = frozenset({"b64", "crit", "cty", "jku", "jwk", "x5c", "x5u", "zip"})


class MalformedTokenError(ValueError):
    """Not a token that we would even try to verify."""


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """What a token says of itself; `signed` is what its `signature` has to be of."""

    algorithm: str
    key_id: str  # "" where none was asked for, and there is none
    type: str  # `typ` as a short media type in lower case; without one, "jwt"
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


def read(token: str, *, max_length: int, needs_key_id: bool = True) -> UnverifiedToken:
    """Take `token` apart. Raises MalformedTokenError for anything out of the ordinary."""
    if len(token) > max_length:
        raise MalformedTokenError("too long")
    parts = _COMPACT.fullmatch(token)
    if parts is None:
        raise MalformedTokenError("not in compact form")
    header = _object(parts[1])
    if not _REFUSED_PARAMETERS.isdisjoint(header):
        raise MalformedTokenError("a header parameter that is not taken")
    algorithm, key_id = header.get("alg"), header.get("kid")
    if key_id is None and "kid" not in header and not needs_key_id:
        key_id = ""
    elif not isinstance(key_id, str) or not key_id:
        raise MalformedTokenError("no key id")
    if not isinstance(algorithm, str):
        raise MalformedTokenError("no algorithm")
    signature, signed = _decoded(parts[3]), token[: parts.end(2)].encode()
    return UnverifiedToken(algorithm, key_id, _type(header), _object(parts[2]), signed, signature)


def _type(header: dict[str, Any]) -> str:
    """RFC 7515 §4.1.9. A token of another kind, signed with the same key, is not one of ours."""
    kind = header.get("typ", "jwt")
    if not isinstance(kind, str):
        raise MalformedTokenError("typ is not text")
    return kind.lower().removeprefix("application/")


def _object(segment: str) -> dict[str, Any]:
    try:
        return parse_object(_decoded(segment))
    except Invalid:
        raise MalformedTokenError("a segment is not a JSON object") from None


def _decoded(segment: str) -> bytes:
    """What it stands for, if it is the one text that does (RFC 4648 §3.5): else one token would
    have several forms, each with a digest of its own.
    """
    try:
        decoded = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except binascii.Error:
        raise MalformedTokenError("a segment is not base64url") from None
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != segment.encode():
        raise MalformedTokenError("a segment has bits that nothing reads")
    return decoded


def seconds(claims: dict[str, Any], name: str) -> float:
    """A NumericDate claim (RFC 7519 §2). Raises MalformedTokenError if absent or not a number."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MalformedTokenError(f"{name} is not a number")
    try:
        return float(value)
    except OverflowError:
        raise MalformedTokenError(f"{name} is out of range") from None

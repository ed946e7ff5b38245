"""What the attack tables are made of: a row, and the forge that makes tokens for it.

A row says how its request is made, and the one answer it must get: status and, to the letter,
`WWW-Authenticate`. Requests are made when they are sent, from a token that is good in every other
respect; where a row changes what stands inside, the signature is made anew with the gateway's own
secret, so that nothing but what the row is about can be the reason for the refusal.
"""

import base64
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

BARE = 'Bearer realm="primit"'
INVALID = f'{BARE}, error="invalid_token"'
REPEATED = f'{BARE}, error="invalid_request"'
KEY = 'ApiKey realm="primit"'

USER, REVOKED, UNREADABLE, OTHER, DISABLED, NOBODY = 42, 43, 44, 45, 46, 999
"""Users: a good one; one who ended all tokens; whose record says so illegibly; another; one who is
switched off; none.
"""

REVOKED_ID, REVOKED_SESSION = "a-token-that-was-ended", "a-session-that-was-ended"
"""Of USER."""

Made = str | bytes
Head = list[tuple[Made, Made]]


@dataclass(kw_only=True)
class Forge:
    """Whoever makes the requests, and all that they could have got hold of."""

    secret: str  # the one that signs
    second: str  # one that verifies, its id is k2
    retired: str  # one that did, as k0
    vault_key: str
    admin_token: str
    revoked_at: float  # when REVOKED ended all tokens
    keys: dict[str, str] = field(default_factory=dict)  # plan keys, by what they are
    others: dict[str, str] = field(
        default_factory=dict
    )  # tokens of other issuers, all of them good
    public: dict[str, bytes] = field(default_factory=dict)  # public keys, in the forms they have
    url: str = ""  # of a server of the attacker's own, which has a key for everybody
    token_id: str = "a-row-of-the-attack-table"
    clock: Callable[[], float] = time.time

    @property
    def now(self) -> int:
        return int(self.clock())

    def header(self, **changed: Any) -> dict[str, Any]:
        """Of a good token, with some of it changed; Ellipsis takes one out."""
        return _without_gaps({"alg": "HS256", "typ": "JWT", "kid": "k1"} | changed)

    def claims(self, **changed: Any) -> dict[str, Any]:
        good = {
            "iss": "primit",
            "aud": "primit-app",
            "sub": str(USER),
            "iat": self.now - 10,
            "nbf": self.now - 10,
            "exp": self.now + 3600,
            "jti": self.token_id,
            "scope": "user",
            "ver": 1,
        }
        return _without_gaps(good | changed)

    def sign(
        self,
        header: Any = None,
        claims: Any = None,
        key: str | bytes | None = None,
        digest: str = "sha256",
    ) -> str:
        """A token with a right HMAC over whatever is given: objects, or the very bytes."""
        shown = ".".join(
            segment(good if given is None else given)
            for given, good in ((header, self.header()), (claims, self.claims()))
        )
        return f"{shown}.{segment(self.mac(shown, key, digest))}"

    def mac(self, shown: str, key: str | bytes | None = None, digest: str = "sha256") -> bytes:
        key = self.secret if key is None else key
        return hmac.digest(key.encode() if isinstance(key, str) else key, shown.encode(), digest)

    def saying(self, **claims: Any) -> str:
        """A token that is good but for these claims."""
        return self.sign(claims=self.claims(**claims))

    def parts(self) -> list[str]:
        """Header, claims and signature of a good token."""
        return self.sign().split(".")


@dataclass(frozen=True, slots=True)
class Row:
    """`make` gives the whole request. A row that answers 200 is a control: the table can fail."""

    name: str
    make: Callable[[Forge], bytes]
    status: int = 401
    challenge: str | None = INVALID

    @property
    def passes(self) -> bool:
        return self.status == 200


def request(
    head: Head, *, method: str = "GET", target: str = "/users/me", body: bytes = b""
) -> bytes:
    lines: Head = [("Host", "api.example"), ("Connection", "close"), *head]
    if body:
        lines.append(("Content-Length", str(len(body))))
    fields = b"".join(b"%b: %b\r\n" % (raw(name), raw(value)) for name, value in lines)
    return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method.encode(), target.encode(), fields, body)


def token(
    name: str,
    make: Callable[[Forge], Made],
    status: int = 401,
    challenge: str | None = INVALID,
    target: str = "/users/me",
) -> Row:
    """A row that sends what `make` gives as a bearer token."""
    return Row(
        name,
        lambda forge: request([("Authorization", b"Bearer " + raw(make(forge)))], target=target),
        status,
        challenge,
    )


def control(name: str, make: Callable[[Forge], Made]) -> Row:
    return token(name, make, 200, None)


def fields(
    name: str,
    make: Callable[[Forge], Head],
    status: int = 401,
    challenge: str | None = BARE,
    target: str = "/users/me",
) -> Row:
    """A row that sends these head lines."""
    return Row(name, lambda forge: request(make(forge), target=target), status, challenge)


def segment(value: Any) -> str:
    """base64url without padding, of bytes as they are or of anything else as JSON."""
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def raw(value: Made) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _without_gaps(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not ...}

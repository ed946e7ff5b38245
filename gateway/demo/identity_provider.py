"""A stand-in for Google, Apple and Binance, with real keys that live as long as the process.

Google's keys are served as Google serves them, key id to X.509 certificate in PEM with a
`max-age`; Apple's as a JWKS. Each has two keys, the second one signs. `POST /token` exists for
the demo alone: it gives a signed ID token for any email, as the provider's app SDK would.

    curl -X POST "http://127.0.0.1:9003/token?provider=google&email=jane@example.com"
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import jwt
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.x509.oid import NameOID
from jwt.algorithms import RSAAlgorithm
from pydantic import BaseModel, Field

from gateway.demo.backend import json_response, new_application, query_of
from gateway.demo.binance import Binance, BinanceKey

PORT = 9003
GOOGLE_AUDIENCE = "demo-client.apps.googleusercontent.com"
APPLE_AUDIENCE = "com.primit.demo"
GOOGLE_ISSUER = "https://accounts.google.com"
APPLE_ISSUER = "https://appleid.apple.com"
KEYS_MAX_AGE_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An RSA key with its id."""

    kid: str
    private: RSAPrivateKey

    @classmethod
    def new(cls) -> "SigningKey":
        private = generate_private_key(public_exponent=65537, key_size=2048)
        spki = private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return cls(hashlib.sha256(spki).hexdigest()[:40], private)

    def certificate(self, now: datetime) -> str:
        """A self-signed certificate in PEM."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "demo identity provider")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .sign(self.private, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    def jwk(self) -> dict[str, Any]:
        """The public half, as RFC 7517 writes it."""
        numbers = json.loads(RSAAlgorithm.to_jwk(self.private.public_key()))
        return {
            "kty": "RSA",
            "kid": self.kid,
            "use": "sig",
            "alg": "RS256",
            "n": numbers["n"],
            "e": numbers["e"],
        }

    def sign(self, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, self.private, algorithm="RS256", headers={"kid": self.kid})


class TokenQuery(BaseModel):
    """What a token shall say; the defaults make a good one."""

    provider: Literal["google", "apple"]
    email: Annotated[str, Field(pattern=r"^[^@\s]{1,64}@[^@\s]{1,190}$")]
    name: str | None = Field(None, max_length=100)
    email_verified: bool = True
    expires_in: int = Field(3600, ge=-86_400, le=86_400)
    audience: str | None = Field(None, max_length=200)


def google_subject(email: str) -> str:
    """Twenty-one digits, always the same for an email."""
    return "1" + str(int(hashlib.sha256(email.encode()).hexdigest(), 16))[:20]


def apple_subject(email: str) -> str:
    digest = hashlib.sha256(email.encode()).hexdigest()
    return f"001234.{digest[:32]}.1234"


class IdentityProvider:
    """All the stand-ins on one port. `binance_key` is the one pair that Binance knows here."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self.google_keys = (SigningKey.new(), SigningKey.new())
        self.apple_keys = (SigningKey.new(), SigningKey.new())
        self.binance_key = BinanceKey.new()

    def token(self, query: TokenQuery) -> str:
        issued = int(self._now())
        claims: dict[str, Any] = {"iat": issued, "exp": issued + query.expires_in}
        if query.provider == "google":
            claims |= {
                "iss": GOOGLE_ISSUER,
                "aud": query.audience or GOOGLE_AUDIENCE,
                "azp": GOOGLE_AUDIENCE,
                "sub": google_subject(query.email),
                "email": query.email,
                "email_verified": query.email_verified,
                "name": query.name or query.email.partition("@")[0].title(),
            }
            return self.google_keys[-1].sign(claims)
        claims |= {
            "iss": APPLE_ISSUER,
            "aud": query.audience or APPLE_AUDIENCE,
            "sub": apple_subject(query.email),
            "email": query.email,
            # Apple writes this one as text.
            "email_verified": "true" if query.email_verified else "false",
            "auth_time": issued,
        }
        return self.apple_keys[-1].sign(claims)

    async def _token(self, request: web.Request) -> web.Response:
        query = query_of(request, TokenQuery)
        field = "id_token" if query.provider == "google" else "identity_token"
        return json_response({field: self.token(query)}, headers={"Cache-Control": "no-store"})

    async def _google_certificates(self, _request: web.Request) -> web.Response:
        now = datetime.fromtimestamp(self._now(), UTC)
        certificates = {key.kid: key.certificate(now) for key in self.google_keys}
        return json_response(certificates, headers=self._keys_headers())

    async def _apple_keys(self, _request: web.Request) -> web.Response:
        keys = [key.jwk() for key in self.apple_keys]
        return json_response({"keys": keys}, headers=self._keys_headers())

    def _keys_headers(self) -> dict[str, str]:
        return {"Cache-Control": f"public, max-age={KEYS_MAX_AGE_SECONDS}, must-revalidate"}

    def application(self) -> web.Application:
        async def health(_request: web.Request) -> web.Response:
            return json_response({"status": "healthy"})

        keys = {self.binance_key.api_key: self.binance_key}
        binance = Binance(keys, lambda: int(self._now() * 1000))
        application = new_application()
        application.add_routes(
            [
                web.get("/health", health),
                web.post("/token", self._token),
                web.get("/oauth2/v1/certs", self._google_certificates),
                web.get("/auth/keys", self._apple_keys),
                *binance.routes(),
            ]
        )
        return application

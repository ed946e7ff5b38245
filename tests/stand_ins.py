"""Google and Apple on 127.0.0.1, with real keys, real signatures and real HTTP.

Rules: `fault` is what to do wrong from now on; `asked` counts requests; a stand-in that is slow
answers when `release()` is called, never by itself. Tokens are good unless an argument says
otherwise. Whoever asks for public keys must send nothing of anybody's along.

    async with GoogleStandIn() as google:
        GoogleVerifier(session, google.settings())
"""

import asyncio
import gzip
import json
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from typing import Any, Self

import jwt
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from gateway.sections import AppleSettings, GoogleSettings


class Fault(Enum):
    """What a stand-in does instead of its work."""

    DOWN = "closes the connection without an answer"
    FAILING = "answers 503"
    BROKEN = "answers 500"
    SLOW = "does not answer until released"
    DRIPPING = "sends a byte now and then"
    CUT = "breaks off amid its answer"
    WRONG_CONTENT = "answers 200 with something else"
    ANOTHER_OBJECT = "answers 200 with a JSON object that tells of an error"
    HUGE = "goes on and on"
    BOMB = "answers with what is huge once it is unpacked"
    REDIRECTING = "says that the answer is elsewhere"
    HALF_WRONG = "spoils every other key that it publishes"


class StandIn:
    """An HTTP server whose faults can be switched on."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.asked = 0
        self._released = asyncio.Event()
        application = web.Application(middlewares=[self._misbehave])
        self._routes(application.router)
        self._server = TestServer(application, host="127.0.0.1")

    async def __aenter__(self) -> Self:
        await self._server.start_server(access_log=None)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()
        await self._server.close()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    def release(self) -> None:
        """Let slow answers go."""
        self._released.set()

    def _routes(self, router: web.UrlDispatcher) -> None:
        raise NotImplementedError

    @web.middleware
    async def _misbehave(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked += 1
        match self.fault:
            case Fault.DOWN:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            case Fault.FAILING:
                return web.Response(status=503, text="try later")
            case Fault.BROKEN:
                return web.Response(status=500, text="oops")
            case Fault.SLOW:
                await self._released.wait()
            case Fault.DRIPPING:
                return await self._drip(request, b" ", 0.02)
            case Fault.HUGE:
                return await self._drip(request, b" " * 2**16, 0)
            case Fault.CUT:
                return await self._cut(request, await handler(request))
            case Fault.WRONG_CONTENT:
                return web.Response(text="<html>Sign in to the hotel's network</html>")
            case Fault.ANOTHER_OBJECT:
                return web.json_response({"error": {"code": 404, "message": "Not found"}})
            case Fault.BOMB:
                body = gzip.compress(b" " * 2**24 + (await handler(request)).body)
                return web.Response(body=body, headers={"Content-Encoding": "gzip"})
            case Fault.REDIRECTING if request.query_string != "here":
                return web.Response(status=302, headers={"Location": f"{request.path}?here"})
        response: web.StreamResponse = await handler(request)
        return response

    async def _drip(self, request: web.Request, piece: bytes, pause: float) -> web.StreamResponse:
        """The answer that never ends: `piece` again and again, until the client has had enough."""
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            while not self._released.is_set():
                await response.write(piece)
                await asyncio.sleep(pause)
        return response

    async def _cut(self, request: web.Request, whole: web.Response) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(whole.body))})
        await response.prepare(request)
        await response.write(whole.body[: len(whole.body) // 2])
        request.transport.abort()
        return response


@cache
def rsa_key(name: str = "first", bits: int = 2048) -> rsa.RSAPrivateKey:
    """The RSA key of that name; made once, because making one is slow."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def ec_key(name: str = "first") -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@cache
def certificate(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    """A self-signed certificate for `key`, in PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stand-in")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


class KeyPublisher(StandIn):
    """Publishes public keys. `cache_control` goes with them; `body`, if set, instead of them.

    `now` is the time of its tokens, in Unix seconds.
    """

    path = "/keys"

    def __init__(self) -> None:
        super().__init__()
        self.now: Callable[[], float] = time.time
        self.keys: dict[str, rsa.RSAPrivateKey] = {}
        self.ec_keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.cache_control: str | None = "public, max-age=3600, must-revalidate"
        self.age: str | None = None
        self.body: bytes | None = None

    @property
    def url(self) -> str:
        return self.base_url + self.path

    def _routes(self, router: web.UrlDispatcher) -> None:
        router.add_get(self.path, self._published)

    def _document(self, *, spoiled: bool) -> dict[str, Any]:
        """What it publishes. `spoiled`: its first key, and every other one, is none."""
        raise NotImplementedError

    async def _published(self, request: web.Request) -> web.Response:
        if request.can_read_body or {"Authorization", "Cookie"} & set(request.headers):
            return web.Response(status=400)
        headers = {}
        if self.cache_control is not None:
            headers["Cache-Control"] = self.cache_control
        if self.age is not None:
            headers["Age"] = self.age
        document = self._document(spoiled=self.fault is Fault.HALF_WRONG)
        body = json.dumps(document).encode() if self.body is None else self.body
        return web.Response(body=body, headers=headers, content_type="application/json")


class GoogleStandIn(KeyPublisher):
    """Google's certificates, and ID tokens that verify with them. `keys` is what it publishes."""

    path = "/oauth2/v1/certs"
    audience = "app.apps.googleusercontent.com"

    def __init__(self) -> None:
        super().__init__()
        self.keys = {"google-1": rsa_key()}

    def settings(self, **more: Any) -> GoogleSettings:
        return GoogleSettings(
            **{"certificates_url": self.url, "audiences": ("another-app", self.audience)} | more
        )

    def _document(self, *, spoiled: bool) -> dict[str, Any]:
        published = {kid: certificate(key) for kid, key in self.keys.items()}
        return published | dict.fromkeys(list(published)[::2] if spoiled else (), "spoiled")

    def claims(self, **changed: Any) -> dict[str, Any]:
        """The claims of a good token, with some changed; None takes one out."""
        now = int(self.now())
        claims = {
            "iss": "https://accounts.google.com",
            "aud": self.audience,
            "azp": self.audience,
            "sub": "1067290000000000000",
            "email": "user@example.com",
            "email_verified": True,
            "name": "Jane Doe",
            "iat": now,
            "exp": now + 3600,
        } | changed
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, kid: str = "google-1", **changed: Any) -> str:
        key = self.keys.get(kid, rsa_key())
        return jwt.encode(self.claims(**changed), key, algorithm="RS256", headers={"kid": kid})


class AppleStandIn(KeyPublisher):
    """Apple's key set, with an RSA key and one on P-256, and identity tokens of either."""

    path = "/auth/keys"
    audience = "com.primit.app"

    def __init__(self) -> None:
        super().__init__()
        self.keys = {"apple-rsa": rsa_key()}
        self.ec_keys = {"apple-ec": ec_key()}
        self.other_members: list[Any] = []

    def settings(self, **more: Any) -> AppleSettings:
        return AppleSettings(
            **{"keys_url": self.url, "audiences": ("another-app", self.audience)} | more
        )

    def _document(self, *, spoiled: bool) -> dict[str, Any]:
        members = [
            RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
            | {"kid": kid, "use": "sig", "alg": "RS256"}
            for kid, key in self.keys.items()
        ] + [
            ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
            | {"kid": kid, "use": "sig", "alg": "ES256"}
            for kid, key in self.ec_keys.items()
        ]
        for member in members:
            member.pop("key_ops", None)
        for member in members[::2] if spoiled else ():
            member |= {name: "spoiled" for name in ("n", "x") if name in member}
        return {"keys": members + self.other_members}

    def claims(self, **changed: Any) -> dict[str, Any]:
        """The claims of a good token, with some changed; None takes one out."""
        now = int(self.now())
        claims = {
            "iss": "https://appleid.apple.com",
            "aud": self.audience,
            "sub": "001234.0123456789abcdef0123456789abcdef.1234",
            "email": "user@example.com",
            "email_verified": "true",
            "iat": now,
            "exp": now + 3600,
        } | changed
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, kid: str = "apple-rsa", **changed: Any) -> str:
        claims = self.claims(**changed)
        if kid in self.ec_keys:
            return jwt.encode(claims, self.ec_keys[kid], algorithm="ES256", headers={"kid": kid})
        key = self.keys.get(kid, rsa_key())
        return jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid})

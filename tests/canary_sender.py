"""How the canary test sends its requests: each carries canaries in every place that can hold one.

`statuses` and `answers` collect what came back. Each request has a name, and a client address of
its own, told as by a trusted proxy, so that none is limited but those that are meant to be.
"""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jwt
from canaries import Canaries
from canary_requests import WITH_BODY, WITH_TOKEN
from gateway_process import GatewayProcess

ANSWER_SECONDS = 10
UNDER_WAY_SECONDS = 0.05  # after that a request is under way; if it isn't, that is a case as well
AT_ONCE = 16

Fields = Iterable[tuple[str, str]]


def own_addresses() -> Iterator[str]:
    return (f"10.0.{number >> 8}.{number & 255}" for number in itertools.count(1))


@dataclass(kw_only=True)
class Sender:
    """Sends to `gateway` with the credentials below; `load` are the fields that all carry."""

    canaries: Canaries
    gateway: GatewayProcess
    keys: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    binance_keys: dict[str, tuple[str, str]] = field(default_factory=dict)
    email: str = ""
    load: list[tuple[str, str]] = field(default_factory=list)
    query: str = ""
    statuses: dict[str, tuple[int, int]] = field(default_factory=dict)  # expected, got
    answers: list[bytes] = field(default_factory=list)
    lineless: set[str] = field(default_factory=set)  # requests that no log can tell of
    addresses: Iterator[str] = field(default_factory=own_addresses)
    at_once: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def token(self, name: str, secret: str | None = None, **claims: Any) -> str:
        """An app token with a canary in its claims."""
        now = int(time.time())
        told = {"iss": "primit", "aud": "primit-app", "iat": now, "nbf": now, "exp": now + 3600}
        told |= {"jti": self.canaries.plant(f"claim of token, {name}"), "scope": "user", "ver": 1}
        secret = secret or self.canaries.texts["token secret"]
        made = jwt.encode(told | claims, secret, "HS256", headers={"kid": "k1"})
        self.canaries.watch(f"signature of token, {name}", made.split(".")[2])
        return made

    def request(
        self,
        method: str,
        path: str,
        fields: Fields = (),
        body: bytes | None = None,
        *,
        address: str | None = None,
    ) -> bytes:
        """A request with canaries wherever `fields` leave room."""
        own = list(fields)
        names = {name.lower() for name, _ in own}
        lines = [
            ("Host", "api.example"),
            ("Connection", "close"),
            ("X-Forwarded-For", address or next(self.addresses)),
            *self.load,
        ]
        lines = [(name, value) for name, value in lines if name.lower() not in names] + own
        if body is not None and "transfer-encoding" not in names:
            lines.append(("Content-Length", str(len(body))))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines)
        return f"{method} {path}{self.query} HTTP/1.1\r\n{head}\r\n".encode() + (body or b"")

    async def send(
        self,
        name: str,
        expected: int,
        request: bytes,
        *,
        later: bytes = b"",
        port: int = 0,
        keep: bool = True,
    ) -> bytes:
        """The answer's body, from a connection of its own; `keep` the answer for the search.

        `later` is sent when the request is under way.
        """
        async with self.at_once, asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port or self.gateway.port)
            try:
                writer.write(request)
                if later:
                    await asyncio.sleep(UNDER_WAY_SECONDS)
                    writer.write(later)
                answer = b""
                with contextlib.suppress(ConnectionError):
                    while piece := await reader.read(65_536):
                        answer += piece
            finally:
                writer.transport.abort()
        assert name not in self.statuses, name
        self.statuses[name] = (expected, int((answer.split(b" ", 2) + [b"0"] * 2)[1]))
        if keep:
            self.answers.append(answer)
        return answer.partition(b"\r\n\r\n")[2]

    async def send_and_leave(self, request: bytes) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        writer.write(request)
        await asyncio.sleep(UNDER_WAY_SECONDS)
        writer.transport.abort()

    def good(self, pattern: str) -> tuple[dict[str, str], bytes | None]:
        """The credentials that open a route of the pattern: in the head, in the body."""
        fields: dict[str, str] = {}
        if pattern == "plan":
            fields["X-Primit-API-Key"] = self.keys["good"]
        if pattern in WITH_TOKEN:
            token = self.tokens["scoped" if pattern == "scoped" else "good"]
            fields["Authorization"] = f"Bearer {token}"
        if pattern == "own-credentials":
            api_key, api_secret = self.binance_keys["sent"]
            body = {"api_key": api_key, "api_secret": api_secret}
            return fields, json.dumps(body).encode()
        return fields, self.named(self.email) if pattern in WITH_BODY else None

    def named(self, email: str) -> bytes:
        return json.dumps({"email": email}).encode()

    async def shot(
        self,
        name: str,
        expected: int,
        pattern: str,
        fields: dict[str, str] | None = None,
        body: bytes | None = None,
        *,
        kind: str = "good",
        address: str | None = None,
        keep: bool = True,
    ) -> None:
        """A good request of the pattern but for what is given."""
        own, own_body = self.good(pattern)
        lines = (own | (fields or {})).items()
        body = own_body if body is None else body
        request = self.request("POST", f"/{pattern}/{kind}/x", lines, body, address=address)
        await self.send(f"{pattern}: {name}", expected, request, keep=keep)

    async def post(
        self, name: str, expected: int, path: str, body: bytes, fields: Fields = ()
    ) -> bytes:
        request = self.request("POST", path, fields, body)
        return await self.send(f"{path}: {name}", expected, request)

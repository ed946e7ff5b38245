"""Where the attacks happen: a gateway process on a Redis, a backend, and the attacker's own server.

Users are written as billing writes them, by plain HSET, under a prefix of the arena's own. `fight`
sends one row and says what came of it; that the backend was not reached is part of it.
"""

import contextlib
import json
import re
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
from attack import (
    DISABLED,
    OTHER,
    REVOKED,
    REVOKED_ID,
    REVOKED_SESSION,
    UNREADABLE,
    USER,
    Forge,
    Row,
    segment,
)
from backend import RawBackend, backend_in_thread
from cryptography.hazmat.primitives import serialization
from gateway_process import MODULE, TOKEN_SECRET, VAULT_KEY, GatewayProcess
from harness import route
from redis_process import RedisProcess
from stand_ins import AppleStandIn, GoogleStandIn, certificate, ec_key, public_pem, rsa_key

from gateway.store.keys import new_key

SECOND_SECRET = "another-secret-of-more-than-32-bytes"
ADMIN_TOKEN = "the-admins-own-token-of-32-bytes-and-more"
ANSWER_SECONDS = 10
CLOSE = b"Connection: close\r\n"

ROUTES = [
    route("/users/me", "app_token", name="me"),
    route("/trades", "app_token", name="trades", scope=["trade"]),
    route("/klines", "plan_key", name="klines", plan="standard"),
    route("/orders", "body_credentials", name="orders", methods=["POST"], max_body=4096),
]


@dataclass
class Arena:
    gateway: GatewayProcess
    backend: RawBackend
    attacker: RawBackend  # a server that a token may lead to, and never must
    forge: Forge


@dataclass(frozen=True)
class Outcome:
    """What a row was answered. `challenges` are all WWW-Authenticate fields, in order."""

    status: int
    challenges: tuple[str, ...]
    body: bytes
    reached: int  # requests that the backend got

    def is_as(self, row: Row) -> bool:
        """Is it what the row must get, and nothing else?"""
        challenges = () if row.challenge is None else (row.challenge,)
        return (self.status, self.challenges) == (row.status, challenges) and self.reached == int(
            row.passes
        )


@contextmanager
def arena(
    folder: Path,
    server: RedisProcess,
    program: Sequence[str] = MODULE,
    app_tokens: dict[str, Any] | None = None,
) -> Iterator[Arena]:
    """`program` is what runs the gateway, behind `python`; `app_tokens` are further settings."""
    prefix = f"gw-{secrets.token_hex(4)}"
    with (
        backend_in_thread() as backend,
        backend_in_thread() as attacker,
        GatewayProcess(
            folder / "gateway",
            config={
                "store": {"timeout": 2, "prefix": prefix},
                "rate_limit": {"requests": 100_000},
                "app_tokens": {
                    "secrets": [
                        {"id": "k1", "secret": TOKEN_SECRET},
                        {"id": "k2", "secret": SECOND_SECRET},
                    ],
                    **(app_tokens or {}),
                },
            },
            routes={
                "version": 1,
                "upstreams": {"backend": {"targets": [backend.url]}},
                "routes": ROUTES,
            },
            environ={
                "GATEWAY_STORE__URL": server.url,
                "GATEWAY_ADMIN__TOKEN": ADMIN_TOKEN,
            },
            program=program,
        ) as gateway,
    ):
        forge = arranged(server, prefix, attacker.url)
        gateway.start()
        yield Arena(gateway, backend, attacker, forge)


def arranged(server: RedisProcess, prefix: str, attacker_url: str) -> Forge:
    """Users, keys and what an attacker could have got hold of."""
    forge = Forge(
        secret=TOKEN_SECRET,
        second=SECOND_SECRET,
        retired="a-secret-of-last-year-of-32-bytes-and-more",
        vault_key=VAULT_KEY,
        admin_token=ADMIN_TOKEN,
        revoked_at=round(time.time(), 3),
        url=attacker_url,
        others=others(),
        public=public_keys(),
    )
    plan = {"plan": "standard", "plan_expires_at": "2999-01-01T00:00:00"}
    users: dict[int, dict[str, str]] = {
        USER: plan | {"revoked_tokens": f"{REVOKED_ID}: {REVOKED_SESSION}:"},
        REVOKED: {"tokens_valid_after": repr(forge.revoked_at)},
        UNREADABLE: {"tokens_valid_after": "yesterday"},
        OTHER: {},
        DISABLED: {"disabled_at": "2026-01-01T00:00:00"},
    }
    owners = {"good": USER, "revoked": USER, "expired": USER, "without a plan": OTHER}
    more = {
        "revoked": {"revoked_at": "2026-01-01T00:00:00"},
        "expired": {"expires_at": "2020-01-01T00:00:00"},
    }
    with server.client() as client:
        for user, fields in users.items():
            client.hset(
                f"{prefix}:user:{user}", mapping={"id": user, "email": f"u{user}@example.com"}
            )
            if fields:
                client.hset(f"{prefix}:user:{user}", mapping=fields)
        for name, owner in owners.items():
            key = forge.keys[name] = new_key()
            digest = sha256(key.encode()).hexdigest()
            fields = {"id": f"k_{name}", "user_id": str(owner), "name": name}
            client.hset(f"{prefix}:key:{digest}", mapping=fields | more.get(name, {}))
            client.set(f"{prefix}:keyid:k_{name}", digest)
    return forge


def others() -> dict[str, str]:
    """Tokens that are good where they are meant for."""
    google, apple = GoogleStandIn(), AppleStandIn()
    return {
        "Google": google.token(),
        "Google for us": google.token(iss="primit", aud="primit-app", sub=str(USER)),
        "Apple, RSA": apple.token("apple-rsa"),
        "Apple, EC": apple.token("apple-ec"),
    }


def public_keys() -> dict[str, bytes]:
    pem, key = public_pem(rsa_key()), rsa_key().public_key()
    numbers = key.public_numbers()
    return {
        "PEM": pem,
        "PEM without its last line end": pem.rstrip(b"\n"),
        "PEM with CRLF": pem.replace(b"\n", b"\r\n"),
        "PKCS #1": key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1),
        "DER": key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        "certificate": certificate(rsa_key()).encode(),
        "JWK": json.dumps(jwt.algorithms.RSAAlgorithm.to_jwk(key, as_dict=True)).encode(),
        "modulus": segment(numbers.n.to_bytes(256, "big")).encode(),
        "PEM of P-256": public_pem(ec_key()),
    }


def fight(arena: Arena, row: Row, *, kept: bool = False) -> Outcome:
    """Send it; `kept`: as a client that will ask on, so that it is served as most requests are."""
    before = len(arena.backend.requests)
    request = row.make(arena.forge)
    head, _, body = talk(arena.gateway.port, request.replace(CLOSE, b"", 1) if kept else request)
    first, *lines = head.split(b"\r\n")
    pairs = [line.partition(b": ") for line in lines]
    challenges = [value for name, _, value in pairs if name.lower() == b"www-authenticate"]
    return Outcome(
        status=int((first.split(b" ") + [b"0"] * 2)[1]),
        challenges=tuple(value.decode("latin-1") for value in challenges),
        body=body,
        reached=len(arena.backend.requests) - before,
    )


def talk(port: int, request: bytes) -> tuple[bytes, bytes, bytes]:
    """Head, its end, and body of one answer, or of what came of it until the gateway closed."""
    with socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS) as connection:
        answer = b""
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
            while not whole(answer) and (piece := connection.recv(65_536)):
                answer += piece
    return answer.partition(b"\r\n\r\n")


def whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"\r\nContent-Length: (\d+)", head, re.IGNORECASE)
    return bool(end) and length is not None and len(body) >= int(length[1])

"""No secret ever: not in a log, a metric, an answer, Redis, or the arguments of a process.

One gateway runs, with everything in it that is secret being a canary (`canaries.py`), at the log's
level `debug`. It is sent every kind of request that every pattern admits and refuses, that fails on
the way, and that makes the gateway itself fail; then all that it has written is searched. The
errors that it can't be brought to by request are made by `SABOTAGE`, which raises them with every
secret of the request in their words.
"""

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
import pytest
from backend import OK, RawBackend, Received
from canaries import Canaries, dump
from gateway_process import MODULE, GatewayProcess, arguments_of, until
from harness import route
from redis_process import RedisProcess, free_port
from stand_ins import AppleStandIn, BinanceStandIn, Fault, GoogleStandIn

from gateway.store.keys import new_key

# Runs the `gateway` command with parts that fail when a request's X-Crash says how.
SABOTAGE = """
import asyncio
from gateway.auth.app_token import AppToken
from gateway.auth.body_credentials import BodyCredentials
from gateway.auth.plan_key import PlanKey
from gateway.auth.public import Public
from gateway.auth.registered_key import RegisteredKey
from gateway.cli import main
from gateway.proxy.forward import Forwarder, Relay
from gateway.vault.vault import Vault

async def everything(exchange):
    body = await exchange.read_body(1 << 20)
    words = [exchange.target, *exchange.headers.values(), body.decode(errors="replace")]
    return " ".join(words), dict(exchange.message.raw_headers)

async def fail(how, exchange):
    words, fields = await everything(exchange)
    if how == "words":
        raise RuntimeError(words)
    if how == "fields":
        raise RuntimeError(fields, body := exchange.body, exchange.message)
    if how == "lookup":
        return fields[words]
    if how == "number":
        return int(words)
    if how == "chained":
        try:
            raise ValueError(words)
        except ValueError as error:
            raise KeyError(words) from error
    if how == "within":
        try:
            raise ValueError(words)
        except ValueError:
            raise OSError(5, words, words)
    if how == "noted":
        error = RuntimeError("noted")
        error.add_note(words)
        raise error
    if how == "group":
        raise ExceptionGroup(words, [ValueError(words)])
    if how == "syntax":
        compile("(" + words, words, "exec")
    if how == "task":
        asyncio.get_running_loop().create_task(fail("words", exchange), name=words)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    if how == "callback":
        def broken(given):
            raise RuntimeError(given)
        asyncio.get_running_loop().call_soon(broken, words)
    return None

def sabotage(owner, name, prefix=""):
    genuine = getattr(owner, name)
    async def method(self, exchange, *rest, **more):
        how = exchange.headers.get("X-Crash", "")
        if how and how.startswith(prefix):
            await fail(how.removeprefix(prefix), exchange)
        outcome = await genuine(self, exchange, *rest, **more)
        if how == "answered" and prefix:
            await fail("words", exchange)
        return outcome
    setattr(owner, name, method)

for pattern in (AppToken, BodyCredentials, PlanKey, Public, RegisteredKey):
    sabotage(pattern, "authenticate")
sabotage(Forwarder, "respond", "forwarding-")

genuine_head = Relay.head
def head(self, upstream):
    if self._exchange.headers.get("X-Crash") == "answering":
        raise RuntimeError(self._exchange.headers, upstream)
    genuine_head(self, upstream)
Relay.head = head

genuine_add = Vault.add
async def add(self, email, api_key, api_secret):
    if email.startswith("crash"):
        raise RuntimeError(api_key, api_secret)
    return await genuine_add(self, email, api_key, api_secret)
Vault.add = add

main()
"""
CRASHES = (
    *("words", "fields", "lookup", "number", "chained", "within", "noted", "group", "syntax"),
    *("forwarding-words", "answering"),
)
ASIDE = ("task", "callback")  # the request goes well, something beside it doesn't

ANSWER_SECONDS = 3
LIMIT = 100
TRUSTED = "127.0.0.1/32"
PATTERNS: dict[str, dict[str, Any]] = {
    "public": {"auth": "public"},
    "plan": {"auth": "plan_key", "plan": "standard"},
    "own-credentials": {"auth": "body_credentials", "max_body": 4096},
    "registered": {"auth": "registered_key", "max_body": 4096},
    "injected": {"auth": "registered_key", "inject": True, "max_body": 4096},
    "owned": {"auth": "registered_key", "owner": "app_token", "max_body": 4096},
    "token": {"auth": "app_token"},
    "scoped": {"auth": "app_token", "scope": ["trade"]},
}
WITH_BODY = {"own-credentials", "registered", "injected", "owned"}
WITH_TOKEN = {"owned", "token", "scoped"}
# What becomes of a good request, by the upstream it goes to.
UPSTREAMS = {
    "good": 200,
    "refusing": 502,
    "resetting": 502,
    "garbled": 502,
    "breaking": 200,  # and then the connection is cut
    "silent": 504,
    "down": 503,
}


@dataclass
class Aftermath:
    """What is left when it is over."""

    canaries: Canaries
    places: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, tuple[int, int]] = field(default_factory=dict)  # expected, got
    lines: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    hashes: dict[str, dict[str, str]] = field(default_factory=dict)
    backend: RawBackend | None = None


class Ride:
    """Sends the requests; `said` collects every answer, head and body."""

    def __init__(self, canaries: Canaries) -> None:
        self.canaries = canaries
        self.statuses: dict[str, tuple[int, int]] = {}
        self.said: list[bytes] = []
        self.port = 0
        self.load: list[tuple[str, str]] = []
        self.query = ""
        self._addresses = (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in itertools.count(1))
        self._at_once = asyncio.Semaphore(16)

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | list[tuple[str, str]] = (),  # type: ignore[assignment]
        body: bytes | None = None,
        *,
        address: str | None = None,
    ) -> bytes:
        """A request that carries canaries wherever `headers` leaves room."""
        own = list(headers.items() if isinstance(headers, Mapping) else headers)
        names = {name.lower() for name, _ in own}
        fields = [
            ("Host", "api.example"),
            ("Connection", "close"),
            ("X-Forwarded-For", address or next(self._addresses)),
            *(pair for pair in self.load if pair[0].lower() not in names),
            *own,
        ]
        if body is not None and "transfer-encoding" not in names:
            fields.append(("Content-Length", str(len(body))))
        target = path + ("" if "?" in path else self.query)
        head = "".join(f"{name}: {value}\r\n" for name, value in fields if value)
        return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + (body or b"")

    async def send(self, name: str, expected: int, request: bytes, *, leave: bool = False) -> bytes:
        """Everything that comes back on a connection of its own; 0 stands for nothing at all."""
        async with self._at_once:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(request)
                if leave:
                    await asyncio.sleep(0.1)  # until it is under way; sooner is fine too
                    return b""
                answer = await _all(reader)
            finally:
                writer.transport.abort()
        self.said.append(answer)
        got = int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0
        assert name not in self.statuses, name
        self.statuses[name] = (expected, got)
        return answer.partition(b"\r\n\r\n")[2]


async def _all(reader: asyncio.StreamReader) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(ANSWER_SECONDS):
            while piece := await reader.read(65_536):
                received += piece
    return received


async def misbehave(
    backend: RawBackend, received: Received, _reader: Any, writer: asyncio.StreamWriter
) -> None:
    """One backend that fails as the path says."""
    kind = received.line.split(b"/")[2] if received.line.count(b"/") > 2 else b""
    if kind == b"resetting":
        writer.transport.abort()
    elif kind == b"garbled":
        writer.write(b"SPDY/9 what?\r\n\r\n")
    elif kind == b"breaking":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()
    elif kind in (b"silent", b"hanging"):
        await asyncio.Event().wait()
    elif received.all(b"Upgrade"):
        switch = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n" % switch)
        await writer.drain()
        writer.close()
    elif b"/health-of-nobody" in received.line:
        writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    else:
        writer.write(OK)


def route_table(backend: RawBackend) -> dict[str, Any]:
    targets = {"targets": [backend.url], "headers": {"X-Backend-Key": "${BACKEND_KEY}"}}
    upstreams: dict[str, Any] = dict.fromkeys(
        ("good", "resetting", "garbled", "breaking", "hanging"), targets
    )
    upstreams["refusing"] = {"targets": [f"http://127.0.0.1:{free_port()}"]}
    upstreams["silent"] = targets | {"timeout": {"read": 0.2}}
    upstreams["down"] = targets | {"health": {"path": "/health-of-nobody", "interval": 0.1}}
    routes = [
        route(
            f"/{pattern}/{kind}/{{rest...}}",
            **{"name": f"{pattern}-{kind}", "methods": ["POST"], **fields},
        )
        | {"upstream": kind}
        for pattern, fields in PATTERNS.items()
        for kind in upstreams
    ]
    stream = route("/ws", name="stream", methods=["GET"], websocket=True) | {"upstream": "good"}
    return {"version": 1, "upstreams": upstreams, "routes": [*routes, stream]}


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    folder = tmp_path_factory.mktemp("canary")
    (folder / "redis").mkdir()
    server = RedisProcess(folder / "redis", durable=True)
    canaries = Canaries()
    password = canaries.plant("password of Redis")
    server.options = ["--slowlog-log-slower-than", "0", "--slowlog-max-len", "1000000"]
    server.options += ["--user", "gateway", "on", f">{password}", "~*", "&*", "+@all"]
    server.start()
    try:
        yield asyncio.run(scenario(folder, server, canaries, password))
    finally:
        server.kill()


async def scenario(
    folder: Path, server: RedisProcess, canaries: Canaries, password: str
) -> Aftermath:
    """All of it. It takes some seconds."""
    async with AsyncExitStack() as stack:
        google = await stack.enter_async_context(GoogleStandIn())
        apple = await stack.enter_async_context(AppleStandIn())
        binance = await stack.enter_async_context(BinanceStandIn())
        backend = await RawBackend(script=misbehave).start()
        stack.push_async_callback(backend.stop)
        apple.fault = Fault.DOWN
        secrets = {
            "GATEWAY_TOKEN_SECRET": canaries.watch("token secret", "ts-" + canaries.plant("a") * 2),
            "BACKEND_KEY": canaries.plant("backend key"),
            "GATEWAY_ADMIN__TOKEN": canaries.plant("admin token"),
            "GATEWAY_STORE__URL": f"redis://gateway:{password}@127.0.0.1:{server.port}/0",
        }
        config = {
            "store": {"timeout": 2},
            "client_ip": {"trusted_proxies": [TRUSTED]},
            "rate_limit": {"requests": LIMIT},
            "google": {"audiences": [google.audience], "certificates_url": google.url},
            "apple": {"audiences": [apple.audience], "keys_url": apple.url},
            "vault": {"binance_url": binance.base_url},
            "logging": {"level": "debug"},
            "shutdown": {"deadline": 5},
        }
        gateway = GatewayProcess(
            folder / "gateway",
            config=config,
            routes=route_table(backend),
            environ=secrets,
            program=("-c", SABOTAGE),
        )
        stack.enter_context(gateway)
        await asyncio.to_thread(gateway.start)
        return await Scenario(canaries, server, gateway, google, apple, binance, backend).play()


@dataclass
class Scenario:
    canaries: Canaries
    server: RedisProcess
    gateway: GatewayProcess
    google: GoogleStandIn
    apple: AppleStandIn
    binance: BinanceStandIn
    backend: RawBackend

    async def play(self) -> Aftermath:
        self.ride = Ride(self.canaries)
        self.ride.port = self.gateway.port
        self.metrics = b""
        self.readyz = b""
        self.redis = b""
        self.arguments = b""
        await asyncio.to_thread(self.arrange)
        await self.until_down()
        for step in (
            self.upstreams,
            self.crashes,
            self.refusals,
            self.broken_bodies,
            self.malformed_heads,
            self.odd_paths,
            self.own_endpoints,
            self.clients_that_leave,
            self.limits,
        ):
            t0 = time.time()
            await step()
            print(
                step.__name__,
                time.time() - t0,
                "connections",
                await asyncio.to_thread(self.gateway.metric, "gateway_connections"),
                await asyncio.to_thread(
                    self.gateway.metric, "gateway_upstream_connections", state="active"
                ),
                [(n, p) for n, p in self.ride.statuses.items() if p[0] != p[1]][:50],
            )
            self.ride.statuses.clear()
        await asyncio.to_thread(self.look)
        await self.without_redis()
        await self.with_redis_again()
        return await asyncio.to_thread(self.collect)

    # What is there before the first request.

    def arrange(self) -> None:
        plant, gateway = self.canaries.plant, self.gateway
        self.commands: list[str] = []

        def run(*words: str, given: str | None = None) -> Any:
            done = gateway.command(*words, "--output", "json", given=given)
            assert done.returncode == 0, done
            if words[:2] != ("keys", "issue"):
                self.commands += [done.stdout, done.stderr]
            return json.loads(done.stdout)

        self.keys = {
            name: run("keys", "issue", "--user", str(user), "--name", "laptop")["key"]
            for name, user in (("good", 42), ("without plan", 43), ("revoked", 42), ("spare", 42))
        }
        for name, key in self.keys.items():
            self.canaries.watch(f"plan key, {name}", key)
        revoked = next(
            key["id"]
            for key in run("keys", "list")
            if sha256(self.keys["revoked"].encode()).hexdigest() == self.digest_of(key["id"])
        )
        run("keys", "revoke", revoked)
        run("plans", "set", "--user", "42", "--plan", "standard")
        # 42 has an email, under which a Binance key is registered.
        self.email = self.address("registered")
        with self.server.client() as client:
            client.hset("gw:user:42", "email", self.email)
        self.binance_keys = {
            name: (plant(f"Binance key, {name}"), plant(f"Binance secret, {name}"))
            for name in ("registered", "refused", "moved", "sent")
        }
        self.binance.keys = dict(self.binance_keys[name] for name in ("registered", "moved"))
        self.emails = {"registered": self.email}
        for name in ("refused", "moved"):
            self.emails[name] = self.address(name)
        for name, email in self.emails.items():
            self.add_to_vault(email, *self.binance_keys[name])
        self.emails["unknown"] = self.address("unknown")
        self.mistakes()

        good = self.token("good", sub="42")
        self.tokens = {"good": good, "scoped": self.token("scoped", sub="42", scope="trade")}
        self.ride.query = (
            f"?apiKey={plant('query value')}&{plant('query name')}=1&signature="
            + plant("query signature")
        )
        basic = self.canaries.plant("basic password")
        self.ride.load = [
            ("X-Primit-API-Key", self.keys["spare"]),
            ("Authorization", f"Custom {plant('authorization of another scheme')}"),
            ("Proxy-Authorization", f"Basic {basic}"),
            ("Cookie", f"session={plant('cookie')}"),
            ("X-Backend-Key", plant("backend key of a client")),
            ("X-MBX-APIKEY", plant("header of Binance")),
            ("X-Forwarded-Host", plant("forwarded host")),
            ("Forwarded", f"for={plant('forwarded')}"),
            ("X-User-Id", plant("forged identity")),
            ("Referer", f"https://pages.example/?token={plant('referer')}"),
            ("User-Agent", plant("user agent")),
            ("traceparent", plant("traceparent")),
        ]

    def digest_of(self, key_id: str) -> str:
        with self.server.client() as client:
            return str(client.get(f"gw:keyid:{key_id}"))

    def address(self, name: str) -> str:
        """An email: in Redis by contract, and in the answers that repeat it; in no log."""
        local = self.canaries.plant(f"email, {name}", spare=("Redis", "answers", "commands"))
        return f"{local}@example.com"

    def token(self, name: str, secret: str | None = None, **claims: Any) -> str:
        """An app token; of a forged one the claims and the signature are canaries."""
        now = int(time.time())
        told = {"iss": "primit", "aud": "primit-app", "iat": now, "nbf": now, "exp": now + 3600}
        told |= {"jti": self.canaries.plant(f"claim of token, {name}"), "scope": "user", "ver": 1}
        key = secret or self.canaries.texts["token secret"]
        made = jwt.encode(told | claims, key, "HS256", headers={"kid": "k1"})
        self.canaries.watch(f"signature of token, {name}", made.split(".")[2])
        return made

    def add_to_vault(self, email: str, api_key: str, api_secret: str) -> None:
        """Run `gateway vault add`, and look at its arguments while it waits for its input."""
        gateway = self.gateway
        with subprocess.Popen(
            [sys.executable, *MODULE, "vault", "add", email, *gateway._files()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=gateway.environ,
            text=True,
        ) as process:
            given = json.dumps({"api_key": api_key, "api_secret": api_secret})
            self.arguments += arguments_of(process.pid).replace(email, "").encode()
            said, _ = process.communicate(given, timeout=20)
        assert process.returncode == 0, said
        self.commands.append(said)

    def mistakes(self) -> None:
        """Secrets where commands and files don't expect them."""
        gateway, plant = self.gateway, self.canaries.plant
        pair = json.dumps(
            {"api_key": plant("key, misplaced"), "secret": plant("secret, misplaced")}
        )
        for words, given in (
            (("keys", "revoke", self.keys["spare"]), None),
            (("keys", "show", self.keys["spare"]), None),
            (("ips", "unblock", plant("not an address")), None),
            (("plans", "set", "--user", "42", "--plan", plant("not a plan")), None),
            (("vault", "add", "x@example.com"), pair),
            (("vault", "add", "x@example.com"), plant("not JSON")),
            (
                ("vault", "add", plant("not an email")),
                json.dumps({"api_key": "a", "api_secret": "b"}),
            ),
        ):
            done = gateway.command(*words, given=given)
            assert done.returncode in (1, 2), done
            self.commands += [done.stdout, done.stderr]
        broken = {
            "GATEWAY_TOKEN_SECRET": "short" + plant("token secret, too short")[:20],
            "GATEWAY_VAULT_KEY": plant("vault key, malformed"),
            "GATEWAY_STORE__URL": f"redis://:{plant('password, malformed URL')}@[::1/0",
            "GATEWAY_ADMIN__TOKEN": f"[{plant('admin token, malformed')}",
        }
        for name, value in broken.items():
            done = subprocess.run(
                [sys.executable, *MODULE, "check", *gateway._files()],
                env=gateway.environ | {name: value},
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
            assert done.returncode == 1, (name, done)
            self.commands += [done.stdout, done.stderr]

    # Requests.

    def good(self, pattern: str) -> tuple[dict[str, str], bytes | None]:
        """The credentials that open a route of the pattern."""
        headers: dict[str, str] = {}
        body: bytes | None = None
        if pattern == "plan":
            headers["X-Primit-API-Key"] = self.keys["good"]
        if pattern in WITH_TOKEN:
            name = "scoped" if pattern == "scoped" else "good"
            headers["Authorization"] = f"Bearer {self.tokens[name]}"
        if pattern == "own-credentials":
            api_key, api_secret = self.binance_keys["sent"]
            body = json.dumps({"api_key": api_key, "api_secret": api_secret, "n": 1}).encode()
        elif pattern in WITH_BODY:
            body = json.dumps({"email": self.email}).encode()
        return headers, body

    def shot(
        self,
        name: str,
        expected: int,
        pattern: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        kind: str = "good",
        address: str | None = None,
    ) -> Any:
        """A good request of the pattern, but for what is given."""
        own, own_body = self.good(pattern)
        request = self.ride.request(
            "POST",
            f"/{pattern}/{kind}/x",
            own | dict(headers or {}),
            own_body if body is None else body,
            address=address,
        )
        return self.ride.send(f"{pattern}: {name}", expected, request)

    async def until_down(self) -> None:
        """Wait for the health check of the upstream that is never well."""
        while b"target" not in (log := self.gateway.stderr().encode()) or b"is down" not in log:
            await asyncio.sleep(0.05)

    async def upstreams(self) -> None:
        await asyncio.gather(
            *(
                self.shot(f"upstream {kind}", expected, pattern, kind=kind)
                for pattern in PATTERNS
                for kind, expected in UPSTREAMS.items()
            )
        )
        key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", **key}
        head = self.ride.request("GET", "/ws", upgrade).replace(b"Connection: close\r\n", b"")
        await self.ride.send("a WebSocket", 101, head + self.canaries.plant("frame").encode())

    async def crashes(self) -> None:
        for how in CRASHES:
            expected = 502 if how == "answering" else 500
            for pattern in PATTERNS:
                await self.shot(f"crash {how}", expected, pattern, {"X-Crash": how})
        for how in ASIDE:
            for pattern in PATTERNS:
                await self.shot(f"crash {how}", 200, pattern, {"X-Crash": how})
        for pattern in PATTERNS:
            await self.shot("crash answered", 200, pattern, {"X-Crash": "answered"})
            # A name of the client's choice, which is a secret by mistake.
            named = {"X-Crash": "words", "X-Request-ID": self.keys["revoked"]}
            own, body = self.good(pattern)
            request = self.ride.request("POST", f"/{pattern}/good/x", own | named, body)
            said = list(self.ride.said)
            await self.ride.send(f"{pattern}: named by a key", 500, request)
            self.ride.said = said  # the answer names the request as the contract says

    async def refusals(self) -> None:
        plant = self.canaries.plant
        for pattern in PATTERNS:
            await self.ride.send(
                f"{pattern}: other method", 405, self.ride.request("GET", f"/{pattern}/good/x")
            )
        bad_keys = {
            "no key": "",
            "unknown": new_key(),
            "wrong checksum": new_key()[:-6] + "000000",
            "revoked": self.keys["revoked"],
            "of another form": plant("key of another form"),
            "imported": "pk_" + plant("imported key"),
            "odd": f"pk_\xff{plant('odd key')}",
            "overlong": "pk_" + plant("overlong key") * 20,
        }
        for name, key in bad_keys.items():
            if name in ("unknown", "wrong checksum"):
                self.canaries.watch(f"key, {name}", key)
            await self.shot(f"key {name}", 401, "plan", {"X-Primit-API-Key": key})
        without = {"X-Primit-API-Key": self.keys["without plan"]}
        await self.shot("no plan", 403, "plan", without)
        two = [("X-Primit-API-Key", self.keys["good"])] * 2
        await self.ride.send("plan: two keys", 401, self.ride.request("POST", "/plan/good/x", two))

        now = int(time.time())
        bad_tokens = {
            "expired": self.token("expired", sub="42", exp=now - 60),
            "forged": self.token("forged", "x" * 40, sub="42"),
            "of nobody": self.token("of nobody", sub="999"),
            "of an odd subject": self.token("of an odd subject", sub=plant("odd subject")),
            "of another audience": self.token("of another audience", sub="42", aud="other"),
            "of no type": self.token("of no type", sub="42", scope=["a"]),
            "no token": plant("not a token"),
            "odd": f"\xff{plant('odd token')}",
            "overlong": plant("overlong token") * 400,
            "cut": self.tokens["good"][:-10],
        }
        basic = f"Basic {plant('basic instead of bearer')}"
        for pattern in sorted(WITH_TOKEN):
            for name, token in bad_tokens.items():
                sent = {"Authorization": f"Bearer {token}"}
                await self.shot(f"token {name}", 401, pattern, sent)
            await self.shot("another scheme", 401, pattern, {"Authorization": basic})
            _, body = self.good(pattern)
            two = [("Authorization", f"Bearer {self.tokens['good']}")] * 2
            request = self.ride.request("POST", f"/{pattern}/good/x", two, body)
            await self.ride.send(f"{pattern}: two tokens", 401, request)
        unscoped = {"Authorization": f"Bearer {self.tokens['good']}"}
        await self.shot("scope missing", 403, "scoped", unscoped)

        for name, body, expected in self.bad_bodies():
            for pattern in sorted(WITH_BODY):
                await self.shot(f"body {name}", expected, pattern, body=body)
        for name, expected in (("unknown", 403), ("refused", 200)):
            body = json.dumps({"email": self.emails[name]}).encode()
            for pattern in ("registered", "injected"):
                await self.shot(f"email {name}", expected, pattern, body=body)
            await self.shot(f"email {name}", 403, "owned", body=body)
        api_key, api_secret = self.binance_keys["sent"]
        both = {"email": self.email, "api_key": api_key, "api_secret": api_secret}
        await self.shot("own beside", 422, "injected", body=json.dumps(both).encode())

    def bad_bodies(self) -> Iterator[tuple[str, bytes, int]]:
        """Bodies that no pattern takes, with secrets in them."""
        plant = self.canaries.plant
        secret = plant("body secret")
        pair = f'"api_key": "{secret}", "api_secret": "{secret}", "email": "{secret}"'
        yield "of no object", f'["{secret}"]'.encode(), 422
        yield "not JSON", f"{{{pair}, {secret}: 1}}".encode(), 422
        yield "cut", f"{{{pair}".encode(), 422
        yield "with a name twice", f"{{{pair}, {pair}}}".encode(), 422
        yield (
            "of wrong types",
            (
                f'{{"api_key": ["{secret}"], "api_secret": {{"{secret}": 1}}, "email": ["{secret}"]}}'
            ).encode(),
            422,
        )
        yield "of other names", f'{{"{secret}": "{secret}"}}'.encode(), 422
        yield "not UTF-8", f"{{{pair}}}".encode() + b"\xff", 422
        yield "a constant", f'{{{pair}, "n": NaN}}'.encode(), 422
        yield (
            "a surrogate",
            (
                f'{{"api_key": "{secret}\\ud800", "api_secret": "{secret}", "email": "{secret}\\ud800"}}'
            ).encode(),
            422,
        )
        yield "a nesting bomb", f'{{{pair}, "n": '.encode() + b"[" * 3500, 422
        yield "too long", f"{{{pair}}}".encode() + b" " * 5000, 413

    async def broken_bodies(self) -> None:
        plant = self.canaries.plant
        chunked = {"Transfer-Encoding": "chunked"}
        secret = plant("chunk").encode()
        for name, body, expected in (
            ("bad size", b"%b\r\nx\r\n0\r\n\r\n" % secret, 400),
            ("bad end", b"5\r\n%b\r\n0\r\n\r\n" % secret, 400),
            ("bad extension", b"5;%b=\x00\r\nhello\r\n0\r\n\r\n" % secret, 400),
            ("bad trailer", b"2\r\n{}\r\n0\r\n%b\r\n\r\n" % secret, 400),
            ("gzip", b"18\r\n%b\r\n0\r\n\r\n" % secret, 0),
        ):
            for pattern in PATTERNS:
                coding = {"Content-Encoding": "gzip"} if name == "gzip" else {}
                wanted = expected or (422 if pattern in WITH_BODY else 200)
                await self.shot(f"chunk, {name}", wanted, pattern, chunked | coding, body)
        length = {"Content-Length": "9000"}
        for pattern in PATTERNS:
            own, _ = self.good(pattern)
            request = self.ride.request("POST", f"/{pattern}/good/x", own | length)
            await self.ride.send(f"{pattern}: body never sent", 0, request + secret, leave=True)

    async def malformed_heads(self) -> None:
        plant, load = (
            self.canaries.plant,
            b"".join(f"{name}: {value}\r\n".encode() for name, value in self.ride.load),
        )
        x = plant("malformed").encode()
        line, end = b"GET /public/good/x?%b HTTP/1.1\r\nHost: a\r\n" % x, b"\r\n"
        requests = {
            "nothing but a secret": (x + b"\r\n\r\n", 400),
            "unknown method": (b"%b /x HTTP/1.1\r\nHost: a\r\n%b\r\n" % (x.upper(), load), 400),
            "HTTP/0.9": (b"GET /%b\r\n\r\n" % x, 400),
            "another version": (b"GET /%b HTTP/3.%b\r\n\r\n" % (x, x), 400),
            "version 2": (b"GET /%b HTTP/2.0\r\nHost: a\r\n%b\r\n" % (x, load), 400),
            "preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + x, 400),
            "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + x, 400),
            "no colon": (line + load + x + end * 2, 400),
            "a blank in a name": (line + load + b"X %b: 1\r\n" % x + end, 400),
            "odd bytes in a name": (line + load + b"X\xff%b: 1\r\n" % x + end, 400),
            "a NUL in a value": (line + load + b"X: %b\0\r\n" % x + end, 400),
            "folded": (line + load + b"X: 1\r\n %b\r\n" % x + end, 400),
            "bare LF": (line + load + b"X: %b\n\n" % x, 400),
            "two lengths": (
                line + load + b"Content-Length: 1\r\nContent-Length: 2\r\n" + end + x,
                400,
            ),
            "no length": (line + load + b"Content-Length: %b\r\n" % x + end, 400),
            "length and chunks": (
                line + load + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n" + end + x,
                400,
            ),
            "unknown coding": (line + load + b"Transfer-Encoding: %b\r\n" % x + end, 400),
            "odd host": (b"GET / HTTP/1.1\r\nHost: %b@%b\r\n" % (x, x) + load + end, 400),
            "two hosts": (line + b"Host: %b\r\n" % x + load + end, 400),
            "no host": (b"GET /%b HTTP/1.1\r\n" % x + load + end, 400),
            "CONNECT": (b"CONNECT %b:443 HTTP/1.1\r\nHost: a\r\n" % x + load + end, 400),
            "a whole URL": (b"GET http://u:%b@a/ HTTP/1.1\r\nHost: a\r\n" % x + load + end, 400),
            "a long line": (b"GET /%b HTTP/1.1\r\n\r\n" % (x * 500), 414),
            "a long value": (line + b"X: %b\r\n" % (x * 2000) + load + end, 431),
            "many headers": (line + load + b"X: %b\r\n" % x * 200 + end, 431),
        }
        for name, (request, expected) in requests.items():
            await self.ride.send(f"malformed: {name}", expected, request)
        # The next request on a connection that has served one already.
        first = self.ride.request("POST", "/public/good/x").replace(b"Connection: close\r\n", b"")
        await self.ride.send("malformed: the second", 200, first + x + b"\r\n\r\n")

    async def odd_paths(self) -> None:
        """Paths with what must not stand in one, in forms by which it can be told."""
        key, plant = self.keys["spare"], self.canaries.plant
        long = self.canaries.watch("long path segment", plant("b") + plant("c"))
        paths = {
            "a key": f"/{key}",
            "a key, encoded": f"/{key.replace('_', '%5F')}",
            "a token": f"/{self.tokens['good']}",
            "a long secret": f"/{long}/x",
            "an email": f"/{self.email}",
            "an email, encoded": f"/{self.email.replace('@', '%40')}",
            "an email, encoded twice": f"/{self.email.replace('@', '%2540')}",
            "a pair": f"/x&api_secret={plant('pair in a path')}",
            "a query, encoded": f"/x%3F{plant('encoded query')}",
            "a fragment": f"/x#{plant('fragment')}",
            "a password": f"/http:%2F%2Fu:{plant('password in a path')}@host",
        }
        for name, path in paths.items():
            expected = 400 if "%2F" in path else 404
            await self.ride.send(f"path: {name}", expected, self.ride.request("GET", path))
            request = self.ride.request("GET", f"/..{path}")
            await self.ride.send(f"path: {name}, not matched", 400, request)
        garbage = {"X-Forwarded-For": plant("no address")}
        request = self.ride.request("POST", "/public/good/x", garbage)
        request = request.replace(b"X-Forwarded-For: 10.", b"X-Ignored: 10.", 1)
        await self.ride.send("an address that is none", 200, request)

    async def own_endpoints(self) -> None:
        verify, status = "/api-key/verify", "/api-key/status/"

        async def post(name: str, expected: int, path: str, value: Any, **headers: str) -> bytes:
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            request = self.ride.request("POST", path, headers, body)
            return await self.ride.send(f"{path}: {name}", expected, request)

        for name, email in self.emails.items():
            await post(name, 200, verify, {"email": email})
            await self.ride.send(f"status: {name}", 200, self.ride.request("GET", status + email))
        for fault in Fault:
            if fault is not Fault.SLOW:
                self.binance.fault = fault
                await post(fault.name, 502, verify, {"email": self.email})
        self.binance.fault = None
        for code in (-1021, -2015):
            key, secret = self.binance_keys["registered"]
            self.binance.answer = (400, {"code": code, "msg": f"{key} {secret}"})
            await post(f"code {code}", 502 if code == -1021 else 200, verify, {"email": self.email})
        self.binance.answer = None
        for how in CRASHES:
            if "-" not in how and how != "answering":
                await post(f"crash {how}", 500, verify, {"email": self.email}, **{"X-Crash": how})

        google, now = "/auth/mobile/google", int(time.time())
        tokens = {
            "good": (200, self.google.token(**self.google_claims("good"))),
            "expired": (401, self.google.token(**self.google_claims("old"), exp=now - 4000)),
            "for others": (401, self.google.token(**self.google_claims("others"), aud="others")),
            "unverified": (
                401,
                self.google.token(**self.google_claims("unverified"), email_verified=False),
            ),
            "of an unknown key": (401, self.google.token("none", **self.google_claims("key"))),
            "no token": (401, self.canaries.plant("no ID token")),
        }
        for name, (expected, token) in tokens.items():
            if "." in token:
                self.canaries.watch(f"signature of Google's, {name}", token.split(".")[2])
            answer = await post(name, expected, google, {"id_token": token})
            if name == "good":
                issued = json.loads(answer)["access_token"].split(".")
                self.canaries.watch("app token, issued", issued[2], spare=("answers",))
        await post("a list", 422, google, {"id_token": [self.canaries.plant("ID token, listed")]})
        for how in CRASHES[:4]:
            await post(
                f"crash {how}", 500, google, {"id_token": tokens["good"][1]}, **{"X-Crash": how}
            )
        self.identity_token = self.apple.token(nonce=self.canaries.plant("Apple's nonce"))
        self.canaries.watch("signature of Apple's", self.identity_token.split(".")[2])
        await post("down", 503, "/auth/mobile/apple", {"identity_token": self.identity_token})
        await self.admin()

    def google_claims(self, name: str) -> dict[str, str]:
        local = self.canaries.plant(f"email at Google, {name}", spare=("Redis", "answers"))
        nonce = self.canaries.plant(f"Google's nonce, {name}")
        return {"nonce": nonce, "email": f"{local}@example.com", "sub": f"1{abs(hash(name))}"}

    async def admin(self) -> None:
        """The admin API, with and without its token; crashes and malformed heads too."""
        plant, ride = self.canaries.plant, self.ride
        data_port, ride.port = ride.port, self.gateway.admin_port
        right = {"Authorization": f"Bearer {self.canaries.texts['admin token']}"}
        json_type = {"Content-Type": "application/json", "Host": ""}

        async def ask(name: str, expected: int, operation: str, body: Any, **more: str) -> None:
            text = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers = right | json_type | more
            request = ride.request("POST", f"/api/{operation}", headers, text)
            request = request.replace(b"Host: api.example", b"Host: 127.0.0.1", 1)
            await ride.send(f"admin: {name}", expected, request)

        pair = {"api_key": plant("key at admin"), "api_secret": plant("secret at admin")}
        wrong = {"Authorization": f"Bearer {plant('wrong admin token')}"}
        await ask("wrong token", 401, "keys.list", {}, **wrong)
        await ask("unknown operation", 404, plant("operation"), {})
        await ask("not JSON", 422, "vault.add", f"{{{plant('not JSON at admin')}".encode())
        await ask("unknown argument", 422, "vault.add", pair | {plant("argument"): 1})
        await ask("wrong type", 422, "vault.add", {"email": "a@b", "api_key": [plant("listed")]})
        await ask("a key as id", 422, "keys.show", {"id": self.keys["spare"]})
        await ask("added", 200, "vault.add", {"email": "a@example.com", **pair})
        await ask("crash", 500, "vault.add", {"email": "crash@example.com", **pair})
        x = plant("malformed at admin").encode()
        for name, request in {
            "no request": x + b"\r\n\r\n",
            "no colon": b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n%b\r\n\r\n" % x,
            "odd name": b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nX %b: 1\r\n\r\n" % x,
            "bad chunk": b"POST /api/keys.list HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: "
            b"chunked\r\nAuthorization: %b\r\n\r\n%b\r\n" % (right["Authorization"].encode(), x),
            "long": b"GET /%b HTTP/1.1\r\n\r\n" % (x * 1000),
        }.items():
            await ride.send(f"admin: malformed, {name}", 400, request)
        ride.port = data_port

    async def clients_that_leave(self) -> None:
        await asyncio.gather(
            *(
                self.ride.send(
                    f"{pattern}: left",
                    0,
                    self.ride.request("POST", f"/{pattern}/hanging/x", *self.good(pattern)),
                    leave=True,
                )
                for pattern in PATTERNS
            )
        )

    async def limits(self) -> None:
        for at, pattern in enumerate(PATTERNS):
            for count in range(LIMIT + 2):
                expected = 200 if count < LIMIT else 429
                await self.shot(f"no. {count}", expected, pattern, address=f"203.0.113.{at}")

    # Redis goes, and comes back.

    async def without_redis(self) -> None:
        self.server.stop()

        def noticed() -> bool:
            return self.gateway.readyz()[1]["store"]["available"] is False

        await asyncio.to_thread(until, noticed, "Redis is gone")
        fresh = self.canaries.watch("key, unseen", new_key())
        await self.shot("unseen key", 503, "plan", {"X-Primit-API-Key": fresh})
        unseen = {"Authorization": f"Bearer {self.token('unseen', sub='77')}"}
        for pattern in sorted(WITH_TOKEN):
            await self.shot("unseen user", 503, pattern, unseen)
        for pattern, expected in {
            "public": 200,
            "plan": 200,
            "own-credentials": 200,
            "token": 200,
            "registered": 503,
            "injected": 503,
            "owned": 503,
        }.items():
            await self.shot("Redis gone", expected, pattern)
            await self.shot("Redis gone, crash", 500, pattern, {"X-Crash": "words"})
        body = json.dumps({"email": self.email}).encode()
        request = self.ride.request("POST", "/api-key/verify", body=body)
        await self.ride.send("verify: Redis gone", 503, request)
        sign_in = json.dumps({"id_token": self.google.token()}).encode()
        request = self.ride.request("POST", "/auth/mobile/google", body=sign_in)
        await self.ride.send("sign-in: Redis gone", 503, request)
        for count in range(LIMIT + 2):
            expected = 200 if count < LIMIT else 429
            await self.shot(f"Redis gone, no. {count}", expected, "plan", address="203.0.113.99")
        done = await asyncio.to_thread(self.gateway.command, "keys", "list")
        assert done.returncode == 1
        self.commands += [done.stdout, done.stderr]
        await asyncio.to_thread(self.look)

    async def with_redis_again(self) -> None:
        self.server.start()

        def noticed() -> bool:
            return self.gateway.readyz()[1]["store"]["available"] is True

        await asyncio.to_thread(until, noticed, "Redis is back")
        self.apple.fault = None
        body = json.dumps({"identity_token": self.identity_token}).encode()
        for attempt in itertools.count():
            request = self.ride.request("POST", "/auth/mobile/apple", body=body)
            answer = await self.ride.send(f"Apple back, {attempt}", 0, request)
            _, got = self.ride.statuses[f"Apple back, {attempt}"]
            self.ride.statuses[f"Apple back, {attempt}"] = (got, got)
            if got == 200:
                issued = json.loads(answer)["access_token"].split(".")[2]
                self.canaries.watch("app token, issued for Apple", issued, spare=("answers",))
                break
            assert got == 503
            await asyncio.sleep(0.5)
        for pattern in PATTERNS:
            await self.shot("Redis back", 200, pattern)
        # What was registered under one email is moved to another by someone with Redis at hand.
        with self.server.client() as client:
            moved = client.hgetall(f"gw:vault:{self.emails['moved']}")
            client.hset(f"gw:vault:{self.email}", mapping=moved)
        for pattern in ("registered", "injected", "owned"):
            await self.shot("moved", 503, pattern)

    # What is left.

    def look(self) -> None:
        """Metrics, probes and Redis as they are now."""
        self.metrics += self.gateway.admin("/metrics")[1].encode()
        self.readyz += self.gateway.admin("/readyz")[1].encode()
        self.readyz += self.gateway.admin("/healthz")[1].encode()
        if self.gateway.readyz()[1]["store"]["available"]:
            self.redis += dump(self.server.url)

    def collect(self) -> Aftermath:
        self.look()
        gateway = self.gateway
        print(
            "END connections",
            [(n, p) for n, p in self.ride.statuses.items() if p[0] != p[1]],
            [l for l in gateway.admin("/metrics")[1].splitlines() if "connections" in l],
        )
        for pid in (gateway.pid, *gateway.workers().values()):
            self.arguments += arguments_of(pid).encode()
        gateway.terminate()
        assert gateway.wait() == 0
        files = [path for path in self.server._folder.rglob("*") if path.is_file()]
        with self.server.client() as client:
            hashes = {name: client.hgetall(name) for name in client.scan_iter("gw:vault:*")}
        return Aftermath(
            canaries=self.canaries,
            places={
                "access log": gateway.stdout().encode(),
                "process log": gateway.stderr().encode(),
                "metrics": self.metrics,
                "probes": self.readyz,
                "answers": b"\n".join(self.ride.said),
                "Redis": self.redis + b"".join(path.read_bytes() for path in files),
                "arguments": self.arguments,
                "commands": "\n".join(self.commands).encode(),
            },
            statuses=self.ride.statuses,
            lines=gateway.access_log(),
            keys=list(self.keys.values()),
            hashes=hashes,
            backend=self.backend,
        )


PLACES = (
    *("access log", "process log", "metrics", "probes"),
    *("answers", "Redis", "arguments", "commands"),
)


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_is_written_anywhere(aftermath: Aftermath, place: str):
    assert aftermath.places[place], "there is nothing to search"
    assert aftermath.canaries.found_in(place, aftermath.places[place]) == []


def test_every_request_ended_as_it_had_to(aftermath: Aftermath):
    wrong = {name: pair for name, pair in aftermath.statuses.items() if pair[0] != pair[1]}
    assert wrong == {}


def test_debug(aftermath):
    for place, content in aftermath.places.items():
        Path(f"/tmp/canary-{place.replace(' ', '-')}").write_bytes(content)

"""The life of a gateway full of canaries, from its first command to its end.

Everything in it that is secret is a canary; every request carries some in each place that can hold
one. Steps run in the order of `Scenario.play`; `Aftermath` is what is left to be searched.
"""

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend import RawBackend
from binance_stand_in import BinanceStandIn
from canaries import Canaries, dump
from canary_requests import (
    PATTERNS,
    UPSTREAMS,
    WITH_BODY,
    WITH_TOKEN,
    bad_bodies,
    broken_chunks,
    malformed_for_admin,
    malformed_heads,
    misbehave,
    route_table,
)
from canary_sender import Sender
from canary_steps import (
    attack,
    commands,
    crash_in_every_layer,
    die_amid_a_request,
)
from gateway_process import MODULE, VAULT_KEY, GatewayProcess, arguments_of, until
from redis_process import RedisProcess
from sabotage import ASIDE, CRASHES, FORWARDING
from stand_ins import AppleStandIn, Fault, GoogleStandIn

from gateway.store.keys import new_key

SABOTAGED = (str(Path(__file__).with_name("sabotage.py")),)
LIMIT = 100  # requests in any minute; every request but those that exceed it has its own address
VERIFY, STATUS, USAGE = "/api-key/verify", "/api-key/status/", "/api-key/usage"
REGISTER = "/api-key/register"
GOOGLE, APPLE = "/auth/mobile/google", "/auth/mobile/apple"
REFRESH, LOGOUT = "/auth/refresh", "/auth/logout"


@dataclass
class Aftermath:
    """What is left when it is over."""

    canaries: Canaries
    places: dict[str, bytes]
    statuses: dict[str, tuple[int, int]]  # by request: expected, got
    log: list[dict[str, Any]]
    keys: dict[str, str]
    emails: dict[str, str]
    vault: dict[str, dict[str, str]]
    received: list[bytes]  # by the backend
    lineless: set[str]


@dataclass(kw_only=True)
class Scenario(Sender):
    """One gateway and all that stands around it; what was seen of it so far."""

    server: RedisProcess
    google: GoogleStandIn
    apple: AppleStandIn
    binance: BinanceStandIn
    backend: RawBackend
    secrets_file: Path
    metrics: bytes = b""
    probes: bytes = b""
    redis: bytes = b""
    arguments: bytes = b""
    files: bytes = b""
    said: list[str] = field(default_factory=list)  # by commands
    issued: dict[str, str] = field(default_factory=dict)  # by sign-in or refresh, the last time

    async def play(self) -> Aftermath:
        await asyncio.to_thread(self.arrange)
        mistakes = asyncio.create_task(self.mistakes())
        await asyncio.to_thread(until, lambda: "is down" in self.gateway.stderr(), "it is found")
        for step in (
            self.apple_down,
            self.upstreams,
            self.crashes,
            self.refused_keys,
            self.refused_tokens,
            self.refused_bodies,
            self.broken_bodies,
            self.malformed,
            self.odd_paths,
            self.registered_keys,
            self.sign_ins,
            self.sessions,
            self.admin,
            self.clients_that_leave,
        ):
            await step()
        for further in (crash_in_every_layer, attack, commands):
            await further(self)
        await self.limits()  # last: so all that is seen before Redis goes is still known
        await mistakes
        await asyncio.to_thread(self.look)
        await self.without_redis()
        await self.with_redis_again()
        await die_amid_a_request(self)
        return await asyncio.to_thread(self.collect)

    # What is there before the first request.

    def arrange(self) -> None:
        plant = self.canaries.plant
        users = {"good": 42, "without plan": 43, "revoked": 42, "rotated": 42, "spare": 42}
        for name, user in users.items():
            issued = self.gateway.result("keys", "issue", "--user", str(user), "--name", name)
            self.keys[name] = self.canaries.watch(f"plan key, {name}", issued["key"])
            if name == "revoked":
                self.said.append(str(self.gateway.result("keys", "revoke", issued["id"])))
            if name == "rotated":
                words = ("keys", "rotate", issued["id"], "--overlap", "7d", "--when-silent", "1d")
                self.keys["new"] = self.canaries.watch(
                    "plan key, new", self.gateway.result(*words)["key"]
                )
                self.said.append(str(self.gateway.result("keys", "usage", issued["id"])))
        words = ("--user", "42", "--plan", "standard")
        self.said.append(str(self.gateway.result("plans", "set", *words)))
        self.binance_keys = {
            name: (plant(f"Binance key, {name}"), plant(f"Binance secret, {name}"))
            for name in ("registered", "refused", "moved", "sent")
        }
        self.binance.keys = dict(self.binance_keys[name] for name in ("registered", "moved"))
        self.emails = {
            # By contract an email is in Redis, in the answers that repeat it, and in arguments.
            name: plant(f"email, {name}", spare=("Redis", "answers", "commands", "arguments"))
            + "@example.com"
            for name in ("registered", "refused", "moved", "unknown")
        }
        for name in ("registered", "refused", "moved"):
            self.add_to_vault(self.emails[name], *self.binance_keys[name])
        self.email = self.emails["registered"]
        with self.server.client() as client:
            client.hset("gw:user:42", "email", self.email)
        self.tokens = {
            "good": self.token("good", sub="42"),
            "scoped": self.token("scoped", sub="42", scope="trade"),
        }
        self.query = (
            f"?apiKey={plant('query value')}&{plant('query name')}=1"
            f"&signature={plant('query signature')}"
        )
        self.load = [
            ("X-Primit-API-Key", self.keys["spare"]),
            ("Authorization", f"Custom {plant('authorization of another scheme')}"),
            ("Proxy-Authorization", f"Basic {plant('proxy authorization')}"),
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

    def add_to_vault(self, email: str, api_key: str, api_secret: str) -> None:
        """Run `gateway vault add`, and look at its arguments while it waits for its input."""
        with subprocess.Popen(
            [sys.executable, *MODULE, "vault", "add", email, *self.gateway.files],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.gateway.environ,
            text=True,
        ) as process:
            self.arguments += arguments_of(process.pid).encode()
            given = json.dumps({"api_key": api_key, "api_secret": api_secret})
            said, _ = process.communicate(given, timeout=20)
        assert process.returncode == 0, said
        self.said.append(said)

    async def mistakes(self) -> None:
        """Secrets where commands and settings don't expect them."""
        plant = self.canaries.plant
        other = json.dumps({"api_key": plant("key beside"), "secret": plant("secret, misnamed")})
        pair = json.dumps({"api_key": plant("key for nobody"), "api_secret": plant("for nobody")})
        commands: list[tuple[tuple[str, ...], str | None, dict[str, str]]] = [
            (("keys", "revoke", self.keys["spare"]), None, {}),
            (("ips", "unblock", plant("not an address")), None, {}),
            (("plans", "set", "--user", "42", "--plan", plant("not a plan")), None, {}),
            (("vault", "add", "x@example.com"), other, {}),
            (("vault", "add", "x@example.com"), plant("not JSON"), {}),
            (("vault", "add", plant("not an email")), pair, {}),
        ]
        commands += [
            (("check",), None, {name: value})
            for name, value in {
                "GATEWAY_TOKEN_SECRET": plant("token secret, too short"),
                "GATEWAY_VAULT_KEY": plant("vault key, malformed"),
                "GATEWAY_APP_TOKENS__SECRETS_FILE": str(self.bad_token_file()),
                "GATEWAY_STORE__URL": f"redis://:{plant('password in a bad URL')}@[::1/0",
                "GATEWAY_ADMIN__TOKEN": f"[{plant('admin token, malformed')}",
            }.items()
        ]
        for words, given, environ in commands:
            done = await asyncio.to_thread(
                self.gateway.command, *words, given=given, environ=environ
            )
            assert done.returncode in (1, 2), done
            assert done.stderr, done
            self.said += [done.stdout, done.stderr]

    def bad_token_file(self) -> Path:
        """Secrets in every place where none can be."""
        plant = self.canaries.plant
        path = self.secrets_file.with_name("bad.json")
        path.touch(0o600)
        entry = {"id": "a", "secret": plant("filed secret, too short"), plant("no field"): 1}
        path.write_text(json.dumps({"secrets": [entry, plant("no entry")], plant("no list"): []}))
        return path

    # The steps.

    async def upstreams(self) -> None:
        shots = (
            self.shot(f"upstream {kind}", expected, pattern, kind=kind)
            for pattern in PATTERNS
            for kind, expected in UPSTREAMS.items()
        )
        await asyncio.gather(*shots)
        fields = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        fields["Sec-WebSocket-Key"] = self.canaries.plant("WebSocket's key")
        await self.send("a WebSocket", 101, self.request("GET", "/ws", fields.items()))

    async def crashes(self) -> None:
        for pattern in PATTERNS:
            for how in CRASHES:
                await self.shot(f"crash {how}", 500, pattern, {"X-Crash": how})
            await self.shot("crash there", 500, pattern, {"X-Crash": FORWARDING + "words"})
            await self.shot("crash answering", 502, pattern, {"X-Crash": "answering"})
            await self.shot("crash answered", 200, pattern, {"X-Crash": "answered"})
            for how in ASIDE:
                await self.shot(f"crash {how}", 200, pattern, {"X-Crash": how})
            # A request whose name is a secret by mistake; its answer repeats it by contract.
            name = {"X-Request-ID": self.keys["revoked"]}
            await self.shot("named", 500, pattern, name | {"X-Crash": "words"}, keep=False)

    async def refused_keys(self) -> None:
        plant, watch = self.canaries.plant, self.canaries.watch
        fresh, wrong = new_key(), new_key()[:-6] + "000000"
        for name, key in {
            "empty": "",
            "unknown": watch("unknown key", fresh),
            "with a wrong checksum": watch("key with a wrong checksum", wrong),
            "revoked": self.keys["revoked"],
            "of another form": plant("key of another form"),
            "imported": "pk_" + plant("imported key"),
            "odd": f"pk_\xff{plant('odd key')}",
            "overlong": "pk_" + plant("overlong key") * 20,
        }.items():
            await self.shot(f"key {name}", 401, "plan", {"X-Primit-API-Key": key})
        without = {"X-Primit-API-Key": self.keys["without plan"]}
        await self.shot("no plan", 403, "plan", without)
        two = [("X-Primit-API-Key", self.keys["good"])] * 2
        await self.send("plan: two keys", 401, self.request("POST", "/plan/good/x", two))
        for pattern in PATTERNS:
            request = self.request("GET", f"/{pattern}/good/x")
            await self.send(f"{pattern}: other method", 405, request)

    async def refused_tokens(self) -> None:
        plant = self.canaries.plant
        authorizations = {
            f"token {name}": f"Bearer {token}"
            for name, token in {
                "expired": self.token("expired", sub="42", exp=int(time.time()) - 60),
                "forged": self.token("forged", "x" * 40, sub="42"),
                "of nobody": self.token("of nobody", sub="999"),
                "of an odd subject": self.token("odd subject", sub=plant("odd subject")),
                "for others": self.token("for others", sub="42", aud="others"),
                "of a wrong type": self.token("wrong type", sub="42", scope=["a"]),
                "that is none": plant("not a token"),
                "odd": f"\xff{plant('odd token')}",
                "overlong": plant("overlong token") * 400,
                "cut": self.tokens["good"][:-10],
            }.items()
        }
        authorizations["another scheme"] = f"Basic {plant('basic instead of bearer')}"
        for pattern in sorted(WITH_TOKEN):
            for name, value in authorizations.items():
                await self.shot(name, 401, pattern, {"Authorization": value})
            _, body = self.good(pattern)
            two = [("Authorization", f"Bearer {self.tokens['good']}")] * 2
            request = self.request("POST", f"/{pattern}/good/x", two, body)
            await self.send(f"{pattern}: two tokens", 401, request)
        unscoped = {"Authorization": f"Bearer {self.tokens['good']}"}
        await self.shot("scope missing", 403, "scoped", unscoped)

    async def refused_bodies(self) -> None:
        for name, body, expected in bad_bodies(self.canaries.plant("body")):
            for pattern in sorted(WITH_BODY):
                await self.shot(f"body: {name}", expected, pattern, body=body)
        for email, expected in (("unknown", 403), ("refused", 200)):
            body = self.named(self.emails[email])
            for pattern in ("registered", "injected"):
                await self.shot(f"email {email}", expected, pattern, body=body)
            await self.shot(f"email {email}", 403, "owned", body=body)
        api_key, api_secret = self.binance_keys["sent"]
        both = {"email": self.email, "api_key": api_key, "api_secret": api_secret}
        await self.shot("own beside", 422, "injected", body=json.dumps(both).encode())

    async def broken_bodies(self) -> None:
        x = self.canaries.plant("chunk").encode()
        chunked = {"Transfer-Encoding": "chunked"}
        sends: list[Awaitable[object]] = []
        for pattern in PATTERNS:
            credentials, _ = self.good(pattern)
            for name, chunks in broken_chunks(x).items():
                head = self.request("POST", f"/{pattern}/good/x", (credentials | chunked).items())
                called = f"{pattern}: chunks, bad {name}"
                sends.append(self.send(f"{called}, at once", 400, head + chunks))
                sends.append(self.send(called, 400, head, later=chunks))
            fields = chunked | {"Content-Encoding": "gzip"}
            expected = 422 if pattern in WITH_BODY else 200
            body = b"18\r\n%b\r\n0\r\n\r\n" % x
            sends.append(self.shot("chunks, not gzip", expected, pattern, fields, body))
        await asyncio.gather(*sends)

    async def malformed(self) -> None:
        load = "".join(f"{name}: {value}\r\n" for name, value in self.load).encode()
        heads = malformed_heads(self.canaries.plant("malformed head").encode(), load)
        for name, (request, expected) in heads.items():
            await self.send(f"malformed: {name}", expected, request)

    async def odd_paths(self) -> None:
        """Paths that hold what must not stand in one, where it can be told by its form."""
        plant, key = self.canaries.plant, self.keys["spare"]
        for name, path in {
            "a key": f"/{key}",
            "a key, encoded": f"/{key.replace('_', '%5F')}",
            "a token": f"/{self.tokens['good']}",
            "a long secret": f"/{plant('long path segment', size=24)}/x",
            "an email": f"/{self.email}",
            "an email, encoded": f"/{self.email.replace('@', '%40')}",
            "an email, encoded twice": f"/{self.email.replace('@', '%2540')}",
            "a pair": f"/x&api_secret={plant('pair in a path')}",
            "a query, encoded": f"/x%3F{plant('encoded query')}",
            "a fragment": f"/x#{plant('fragment')}",
            "a password": f"/http:%2F%2Fu:{plant('password in a path')}@host",
        }.items():
            expected = 400 if "%2F" in path or "#" in path else 404
            await self.send(f"path: {name}", expected, self.request("GET", path))
            await self.send(f"path: {name}, dotted", 400, self.request("GET", f"/..{path}"))
        nowhere = [("X-Forwarded-For", self.canaries.plant("no address"))]
        request = self.request("POST", "/public/good/x", nowhere)
        await self.send("an address that is none", 200, request)

    async def registered_keys(self) -> None:
        """The gateway's own endpoints of pattern 3, and what Binance makes of a key."""
        for name, email in self.emails.items():
            await self.post(name, 200, VERIFY, self.named(email))
            await self.send(f"status: {name}", 200, self.request("GET", STATUS + email))
        for name, key in self.keys.items():
            status = 401 if name == "revoked" else 200
            request = self.request("GET", USAGE, [("X-Primit-API-Key", key)])
            await self.send(f"usage: {name}", status, request)
        body = self.named(self.email)
        for fault in (Fault.DOWN, Fault.FAILING, Fault.WRONG_CONTENT):
            self.binance.fault = fault
            await self.post(fault.name, 502, VERIFY, body)
        self.binance.fault = None
        key, secret = self.binance_keys["registered"]
        for code, expected in ((-1021, 502), (-2015, 200)):
            self.binance.answer = (400, {"code": code, "msg": f"{key} {secret}"})
            await self.post(f"code {code}", expected, VERIFY, body)
        self.binance.answer = None
        for how in CRASHES:
            await self.post(f"crash {how}", 500, VERIFY, body, [("X-Crash", how)])
        await self.registrations()
        await asyncio.to_thread(self.vault_commands)

    async def registrations(self) -> None:
        """By their owner: what Binance takes and refuses, what is no key, and every fault."""
        plant = self.canaries.plant
        key, secret = self.binance_keys["registered"]
        sent: dict[str, tuple[int, dict[str, Any]]] = {
            "refused": (200, {"api_key": plant("key at register"), "api_secret": secret}),
            "with a wrong secret": (200, {"api_key": key, "api_secret": plant("wrong secret")}),
            "of another type": (422, {"api_key": key, "api_secret": [plant("secret, listed")]}),
            "beyond ASCII": (422, {"api_key": f"{plant('key, odd')}\xe9", "api_secret": secret}),
            "of somebody else": (403, {"email": self.emails["moved"]}),
            "good": (200, {}),
        }
        token = [("Authorization", f"Bearer {self.tokens['good']}")]
        whole = {"email": self.email, "api_key": key, "api_secret": secret}
        for name, (expected, changed) in sent.items():
            body = json.dumps(whole | changed).encode()
            await self.post(name, expected, REGISTER, body, token)
        body = json.dumps(whole).encode()
        await self.post("without a token", 401, REGISTER, body)
        for fault in (Fault.DOWN, Fault.FAILING, Fault.WRONG_CONTENT):
            self.binance.fault = fault
            await self.post(fault.name, 502, REGISTER, body, token)
        self.binance.fault = None
        self.binance.answer = (400, {"code": -2015, "msg": f"{key} {secret}"})
        await self.post("refused with an echo", 200, REGISTER, body, token)
        self.binance.answer = None
        for how in CRASHES:
            await self.post(f"crash {how}", 500, REGISTER, body, [*token, ("X-Crash", how)])
        taken_away = self.request("DELETE", REGISTER, token)
        await self.send("a key is taken away", 200, taken_away)
        await self.post("good again", 200, REGISTER, body, token)

    def vault_commands(self) -> None:
        """What commands say of keys that come in, are verified, and are sealed anew."""
        plant = self.canaries.plant
        lines = [
            {"email": "i@example.com", "api_key": plant("import"), "api_secret": plant("imported")},
            {"email": plant("no email"), "api_key": plant("bad line"), "api_secret": plant("its")},
        ]
        given = "\n".join([*map(json.dumps, lines), plant("no line"), ""])
        email = self.email
        for words, code in (
            (("vault", "import", "-"), 1),
            (("vault", "verify", email), 0),
            (("vault", "verify", "i@example.com"), 1),
            (("vault", "disable", "i@example.com"), 0),
            (("vault", "enable", "i@example.com"), 0),
            (("vault", "rotate"), 0),
            (("vault", "list"), 0),
            (("vault", "list", "--output", "json"), 0),
        ):
            done = self.gateway.command(*words, given=given if "import" in words else None)
            assert done.returncode == code, done
            self.said += [done.stdout, done.stderr]

    async def apple_down(self) -> None:
        self.apple.fault = Fault.DOWN
        token = self.apple.token(nonce=self.canaries.plant("Apple's nonce"))
        self.canaries.watch("signature of Apple's", token.split(".")[2])
        self.identity_token = json.dumps({"identity_token": token}).encode()
        await self.post("down", 503, APPLE, self.identity_token)

    async def apple_back(self) -> None:
        """Sign in by Apple as soon as the gateway asks it again."""
        self.apple.fault = None
        for attempt in itertools.count():
            name = f"{APPLE}: {attempt}"
            answer = await self.post(str(attempt), 200, APPLE, self.identity_token)
            _, got = self.statuses[name]
            if got != 503:
                break
            del self.statuses[name]
            await asyncio.sleep(0.2)
        issued = self.watch_issued("Apple", answer)
        bearer = [("Authorization", f"Bearer {issued['access_token']}")]
        await self.post("good", 200, LOGOUT, b"", bearer)

    def watch_issued(self, whom: str, answer: bytes) -> dict[str, str]:
        """The tokens that a sign-in or a refresh gave; the answer holds them by contract."""
        issued: dict[str, str] = json.loads(answer)
        signature = issued["access_token"].split(".")[2]
        self.canaries.watch(f"token for {whom}", signature, spare=("answers",))
        secret = issued["refresh_token"].split("_", 2)[2]
        self.canaries.watch(f"refresh token for {whom}", secret, spare=("answers",))
        return issued

    async def sign_ins(self) -> None:
        now = int(time.time())
        changes: dict[str, tuple[int, dict[str, Any]]] = {
            "good": (200, {}),
            "expired": (401, {"exp": now - 4000}),
            "for others": (401, {"aud": "others"}),
            "unverified": (401, {"email_verified": False}),
            "of an unknown key": (401, {"kid": "unknown"}),
        }
        tokens: dict[str, tuple[int, Any]] = {}
        for number, (name, (expected, changed)) in enumerate(changes.items()):
            local = self.canaries.plant(f"email at Google, {name}", spare=("Redis", "answers"))
            nonce = self.canaries.plant(f"Google's nonce, {name}")
            claims = {"email": f"{local}@example.com", "nonce": nonce, "sub": f"10{number}"}
            token = self.google.token(**claims | changed)
            self.canaries.watch(f"signature of Google's, {name}", token.split(".")[2])
            tokens[name] = (expected, token)
        tokens["that is none"] = (401, self.canaries.plant("no ID token"))
        tokens["in a list"] = (422, [self.canaries.plant("ID token in a list")])
        for name, (expected, token) in tokens.items():
            answer = await self.post(
                name, expected, GOOGLE, json.dumps({"id_token": token}).encode()
            )
            if name == "good":
                self.issued = self.watch_issued("Google", answer)
        for name, expected, nonce in (
            ("another nonce", 401, self.canaries.plant("nonce in a body")),
            ("nonces", 422, [self.canaries.plant("nonce in a list")]),
        ):
            sent = {"id_token": tokens["good"][1], "nonce": nonce}
            await self.post(name, expected, GOOGLE, json.dumps(sent).encode())
        body = json.dumps({"id_token": tokens["good"][1]}).encode()
        for how in CRASHES:
            await self.post(f"crash {how}", 500, GOOGLE, body, [("X-Crash", how)])

    async def sessions(self) -> None:
        """Refresh tokens, good and used, where they belong and where not; and the end of both."""

        async def refresh(name: str, expected: int, token: object, *fields: Any) -> bytes:
            body = json.dumps({"refresh_token": token}).encode()
            return await self.post(name, expected, REFRESH, body, fields)

        used = self.issued["refresh_token"]
        for how in CRASHES:
            await refresh(f"crash {how}", 500, used, ("X-Crash", how))
        self.issued = self.watch_issued("a refresh", await refresh("good", 200, used))
        good = self.issued["refresh_token"]
        await refresh("cut", 401, good[:-1])
        await refresh("of another form", 401, self.canaries.plant("no refresh token"))
        await refresh("in a list", 422, [good])
        await refresh("overlong", 422, good * 9)
        for place in (f"/{good}", f"/x/{good}/y"):
            await self.send(f"path: {place[:9]}", 404, self.request("GET", place))
        bearer = [("Authorization", f"Bearer {good}")]
        await self.post("refresh token", 401, LOGOUT, b"", bearer)
        for words, given in ((("--user", "1", "--jti", good), None), ((), f"{good} {good}")):
            done = await asyncio.to_thread(
                self.gateway.command, "tokens", "revoke", *words, given=given
            )
            assert done.returncode in (1, 2), done
            self.said += [done.stdout, done.stderr]
        await refresh("used", 401, used)
        await refresh("ended", 401, good)
        bearer = [("Authorization", f"Bearer {self.issued['access_token']}")]
        await self.post("revoked", 401, LOGOUT, b"", bearer)

    async def admin(self) -> None:
        """The admin API, its crashes, and what is no request at all."""
        plant = self.canaries.plant
        authorization = f"Bearer {self.canaries.texts['admin token']}"
        pair = {"api_key": plant("key at admin"), "api_secret": plant("secret at admin")}
        listed = {"email": "a@example.com", "api_key": [plant("key in a list")]}
        asks: list[tuple[str, int, str, Any]] = [
            ("unknown operation", 404, plant("operation"), {}),
            ("not JSON", 422, "vault.add", f"{{{plant('not JSON at admin')}"),
            ("unknown argument", 422, "vault.add", pair | {plant("argument"): 1}),
            ("wrong type", 422, "vault.add", listed),
            ("a key as id", 422, "keys.show", {"id": self.keys["spare"]}),
            ("added", 200, "vault.add", {"email": "a@example.com"} | pair),
            ("crash", 500, "vault.add", {"email": "crash@example.com"} | pair),
            ("wrong token", 401, "keys.list", {}),
        ]
        port = self.gateway.admin_port
        for name, expected, operation, value in asks:
            body = (value if isinstance(value, str) else json.dumps(value)).encode()
            sent = authorization if expected != 401 else f"Bearer {plant('wrong admin token')}"
            fields = {
                "Authorization": sent,
                "Content-Type": "application/json",
                "Host": "127.0.0.1",
            }
            request = self.request("POST", f"/api/{operation}", fields.items(), body)
            await self.send(f"admin: {name}", expected, request, port=port)
        x = plant("malformed at admin").encode()
        for name, request in malformed_for_admin(x, authorization.encode()).items():
            await self.send(f"admin: malformed, {name}", 400, request, port=port)

    async def clients_that_leave(self) -> None:
        for pattern in PATTERNS:
            fields, body = self.good(pattern)
            under_way = self.request("POST", f"/{pattern}/hanging/x", fields.items(), body)
            length = fields | {"Content-Length": "2000"}
            unfinished = self.request("POST", f"/{pattern}/good/x", length.items()) + (body or b"")
            await asyncio.gather(*map(self.send_and_leave, (under_way, unfinished)))

    async def limits(self) -> None:
        for number, pattern in enumerate(PATTERNS):
            for count in range(LIMIT + 2):
                expected = 200 if count < LIMIT else 429
                await self.shot(f"no. {count}", expected, pattern, address=f"203.0.113.{number}")

    async def without_redis(self) -> None:
        self.server.stop()
        await asyncio.to_thread(until, lambda: not self.store_available(), "Redis is gone")
        unseen = {"X-Primit-API-Key": self.canaries.watch("unseen key", new_key())}
        await self.shot("unseen key", 503, "plan", unseen)
        unseen = {"Authorization": f"Bearer {self.token('unseen', sub='77')}"}
        for pattern in sorted(WITH_TOKEN):
            await self.shot("unseen user", 503, pattern, unseen)
        for pattern in PATTERNS:
            expected = 503 if pattern in WITH_BODY - {"own-credentials"} else 200
            await self.shot("Redis gone", expected, pattern)
            await self.shot("Redis gone, crash", 500, pattern, {"X-Crash": "words"})
        await self.post("Redis gone", 503, VERIFY, self.named(self.email))
        sign_in = json.dumps({"id_token": self.google.token()}).encode()
        await self.post("Redis gone", 503, GOOGLE, sign_in)
        body = json.dumps({"refresh_token": self.issued["refresh_token"]}).encode()
        await self.post("Redis gone", 503, REFRESH, body)
        bearer = [("Authorization", f"Bearer {self.tokens['good']}")]
        await self.post("Redis gone", 503, LOGOUT, b"", bearer)
        for count in range(LIMIT + 2):
            expected = 200 if count < LIMIT else 429
            await self.shot(f"Redis gone, no. {count}", expected, "plan", address="203.0.113.99")
        done = await asyncio.to_thread(self.gateway.command, "keys", "list")
        assert done.returncode == 1
        self.said += [done.stdout, done.stderr]
        await asyncio.to_thread(self.look)

    async def with_redis_again(self) -> None:
        self.server.start()
        await asyncio.to_thread(until, self.store_available, "Redis is back")
        await self.apple_back()
        for pattern in PATTERNS:
            await self.shot("Redis back", 200, pattern)
        # What is registered under one email is put under another by someone with Redis at hand.
        with self.server.client() as client:
            moved = client.hgetall(f"gw:vault:{self.emails['moved']}")
            client.hset(f"gw:vault:{self.email}", mapping=moved)
        for pattern in ("registered", "injected", "owned"):
            await self.shot("moved", 503, pattern)

    # What is left.

    def store_available(self) -> bool:
        return bool(self.gateway.readyz()[1]["store"]["available"])

    def look(self) -> None:
        """Metrics, probes and Redis as they are now."""
        self.metrics += self.gateway.admin("/metrics")[1].encode()
        for probe in ("/readyz", "/healthz"):
            self.probes += self.gateway.admin(probe)[1].encode()
        if self.store_available():
            self.redis += dump(self.server.url)

    def collect(self) -> Aftermath:
        self.look()
        gateway = self.gateway
        for pid in (gateway.pid, *gateway.workers().values()):
            self.arguments += arguments_of(pid).encode()
        with self.server.client() as client:
            vault = {name: client.hgetall(name) for name in client.scan_iter("gw:vault:*")}
        for path in gateway.folder.rglob("*"):  # what it keeps while it runs
            self.files += path.read_bytes() if path.is_file() else b""
        gateway.terminate()
        assert gateway.wait() == 0
        files, left = (
            b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
            for folder in (self.server._folder, gateway.folder)
        )
        return Aftermath(
            canaries=self.canaries,
            places={
                "metrics": self.metrics,
                "probes": self.probes,
                "access log": gateway.stdout().encode(),
                "process log": gateway.stderr().encode(),
                "answers": b"\n".join(self.answers),
                "Redis": self.redis + files,
                "arguments": self.arguments,
                "files": self.files + left,
                "commands": "\n".join(self.said).encode(),
            },
            statuses=self.statuses,
            log=gateway.access_log(),
            keys=self.keys,
            emails=self.emails,
            vault=vault,
            lineless=self.lineless,
            received=[each.head + each.body for each in self.backend.requests],
        )


async def play(folder: Path, server: RedisProcess, canaries: Canaries, password: str) -> Aftermath:
    """All of it; `server` runs, and knows the user `gateway` with this password."""
    async with AsyncExitStack() as stack:
        google = await stack.enter_async_context(GoogleStandIn())
        apple = await stack.enter_async_context(AppleStandIn())
        binance = await stack.enter_async_context(BinanceStandIn())
        backend = await RawBackend(script=misbehave).start()
        stack.push_async_callback(backend.stop)
        secrets_file = folder / "secrets.json"
        filed = {"id": "f0", "secret": canaries.plant("token secret in a file", size=24)}
        secrets_file.write_text(json.dumps({"secrets": [filed]}))
        secrets_file.chmod(0o600)
        gateway = GatewayProcess(
            folder / "gateway",
            config={
                "store": {"timeout": 2},
                "app_tokens": {
                    "secrets": [
                        {"id": "k1", "secret": "${GATEWAY_TOKEN_SECRET}"},
                        {"id": "k2", "secret": "${SECOND_TOKEN_SECRET}"},
                    ],
                    "secrets_file": str(secrets_file),
                    "refresh": {},
                    "legacy": {"secret": "${LEGACY_SECRET}", "until": "2999-01-01"},
                },
                "client_ip": {"trusted_proxies": ["127.0.0.1/32"]},
                "rate_limit": {"requests": LIMIT},
                "google": {"audiences": [google.audience], "certificates_url": google.url},
                "sign_in": {"requests": 1000},  # Apple's is tried again and again
                "apple": {"audiences": [apple.audience], "keys_url": apple.url},
                "vault": {"binance_url": binance.base_url, "verify_every": 0},
                "logging": {"level": "debug"},
                "shutdown": {"deadline": 1},
            },
            routes=route_table(backend),
            environ={
                "GATEWAY_TOKEN_SECRET": canaries.plant("token secret", size=24),
                "SECOND_TOKEN_SECRET": canaries.plant("second token secret", size=24),
                "GATEWAY_VAULT_KEY": canaries.watch("vault key", VAULT_KEY),
                # What a library or an operator could switch on: both are told of all they see.
                "PYTHONASYNCIODEBUG": "1",
                "PYTHONFAULTHANDLER": "1",
                "GATEWAY_STORE__URL": f"redis://gateway:{password}@127.0.0.1:{server.port}/0",
                "GATEWAY_ADMIN__TOKEN": canaries.plant("admin token"),
                "BACKEND_KEY": canaries.plant("backend key"),
                "LEGACY_SECRET": canaries.plant("legacy secret", size=24),
            },
            program=SABOTAGED,
        )
        stack.enter_context(gateway)
        await asyncio.to_thread(gateway.start)
        return await Scenario(
            canaries=canaries,
            gateway=gateway,
            server=server,
            google=google,
            apple=apple,
            binance=binance,
            backend=backend,
            secrets_file=secrets_file,
        ).play()

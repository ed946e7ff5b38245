"""Further steps in the life of the canary test's gateway.

Crashes in every layer, attacks, commands that have secrets, a worker that dies. Each
takes the `Scenario` that `canary_scenario.py` plays.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from arena import public_keys
from attack import DISABLED, OTHER, REVOKED, REVOKED_ID, REVOKED_SESSION, UNREADABLE, Forge
from attack_table import PLAN_KEYS, TOKENS
from canary_requests import PATTERNS, WITH_BODY, WITH_TOKEN
from gateway_process import VAULT_KEY, until
from sabotage import CRASHES, STEPS

if TYPE_CHECKING:
    from canary_scenario import Scenario

SABOTAGED = (str(Path(__file__).with_name("sabotage.py")),)
GOOGLE, REFRESH, LOGOUT = "/auth/mobile/google", "/auth/refresh", "/auth/logout"
VERIFY, REGISTER = "/api-key/verify", "/api-key/register"
EVERYBODY = frozenset(PATTERNS)
REGISTERED = WITH_BODY - {"own-credentials"}
# Whose requests end where a step fails; those of others never come to it, or have their answer.
MET_BY: dict[str, frozenset[str]] = {
    **dict.fromkeys(("Gateway.limit", "Gateway.match", "Gateway.authenticate"), EVERYBODY),
    "pipeline.check_head": EVERYBODY,
    "AppTokens.known": WITH_TOKEN,
    "Users.get": frozenset({"plan"}),  # who shows a token is known by then
    "Keys.find": frozenset({"plan"}),
    "Vault.credentials": REGISTERED,
    "MasterKeys.open": REGISTERED,
}
UNANSWERED = ("Gateway.identify", "pipeline.write_answer", "pipeline.refuse")
LINELESS = ("Gateway.identify", "Gateway.observe", "AccessLog.write", "RouteMetrics.observe")


async def crash_in_every_layer(scenario: "Scenario") -> None:
    for called in STEPS:
        crash = {"X-Crash": called}
        for pattern in PATTERNS:
            expected = 500 if pattern in MET_BY.get(called, ()) else 200
            expected = 0 if called == "Gateway.identify" else expected
            await scenario.shot(f"step {called}", expected, pattern, crash)
            if called in LINELESS:
                scenario.lineless.add(f"{pattern}: step {called}")
    refused = {"X-Primit-API-Key": scenario.canaries.plant("key that is refused amid a crash")}
    await scenario.shot("refused", 0, "plan", refused | {"X-Crash": "pipeline.refuse"})
    scenario.lineless.add("plan: refused")
    sign_in = json.dumps({"id_token": scenario.google.token()}).encode()
    for called in ("GoogleVerifier.verify", "Users.sign_in", "Sessions.begin", "AppTokens.issue"):
        await scenario.post(f"step {called}", 500, GOOGLE, sign_in, [("X-Crash", called)])
    unwritten = [("X-Crash", "pipeline.write_answer")]
    await scenario.post("unwritten", 0, GOOGLE, sign_in, unwritten)
    scenario.lineless.add(f"{GOOGLE}: unwritten")
    issued = scenario.watch_issued(
        "a crash", await scenario.post("before a crash", 200, GOOGLE, sign_in)
    )
    bearer = ("Authorization", f"Bearer {issued['access_token']}")
    refresh = json.dumps({"refresh_token": issued["refresh_token"]}).encode()
    for called in (*CRASHES, "Revocation.revoke"):
        await scenario.post(f"step {called}", 500, LOGOUT, b"", [bearer, ("X-Crash", called)])
    for called in ("Sessions.renew", "AppTokens.issue"):
        await scenario.post(f"step {called}", 500, REFRESH, refresh, [("X-Crash", called)])
    api_key, api_secret = scenario.binance_keys["registered"]
    pair = {"email": scenario.email, "api_key": api_key, "api_secret": api_secret}
    token = ("Authorization", f"Bearer {scenario.tokens['good']}")
    for called in ("Vault.register", "MasterKeys.seal"):
        body, crash = json.dumps(pair).encode(), ("X-Crash", called)
        await scenario.post(f"step {called}", 500, REGISTER, body, [token, crash])
    withdrawal = scenario.request("DELETE", REGISTER, [token, ("X-Crash", "Vault.withdraw")])
    await scenario.send("step Vault.withdraw", 500, withdrawal)
    for called in ("Vault.verify", "MasterKeys.open"):
        body = scenario.named(scenario.email)
        await scenario.post(f"step {called}", 500, VERIFY, body, [("X-Crash", called)])


def forge_of(scenario: "Scenario") -> Forge:
    """Who knows all of this gateway's secrets, and puts a canary into each token."""
    texts, plant = scenario.canaries.texts, scenario.canaries.plant
    users: dict[int, dict[str, str]] = {
        42: {"revoked_tokens": f"{REVOKED_ID}: {REVOKED_SESSION}:"},
        REVOKED: {"tokens_valid_after": str(int(time.time()))},
        UNREADABLE: {"tokens_valid_after": "yesterday"},
        OTHER: {"name": "Other"},
        DISABLED: {"disabled_at": "2026-01-01T00:00:00"},
    }
    with scenario.server.client() as client:
        for user, fields in users.items():
            client.hset(f"gw:user:{user}", mapping={"id": user} | fields)
    keys = {name: scenario.keys[name] for name in ("good", "revoked", "without plan")}
    return Forge(
        secret=texts["token secret"],
        second=texts["second token secret"],
        retired=plant("token secret that retired", size=24),
        vault_key=VAULT_KEY,
        admin_token=texts["admin token"],
        revoked_at=int(time.time()),
        keys=keys | {"without a plan": keys["without plan"], "expired": keys["revoked"]},
        others={
            "Google": scenario.google.token(),
            "Google for us": scenario.google.token(iss="primit", aud="primit-app", sub="42"),
            "Apple, RSA": scenario.apple.token("apple-rsa"),
            "Apple, EC": scenario.apple.token("apple-ec"),
        },
        public=public_keys(),
        url=scenario.backend.url,
        token_id=plant("id of the tokens of attacks"),
    )


async def attack(scenario: "Scenario") -> None:
    """Each row of the attack tables; that its answer is right to the letter is told elsewhere."""
    forge = await asyncio.to_thread(forge_of, scenario)
    host = b"Host: api.example\r\n"

    async def send(name: str, status: int, request: bytes) -> None:
        sender = b"X-Forwarded-For: %b\r\n" % next(scenario.addresses).encode()
        await scenario.send(name, status, request.replace(host, host + sender, 1))

    rows = (*TOKENS, *PLAN_KEYS)
    sends = (send(f"attack: {row.name}", row.status, row.make(forge)) for row in rows)
    await asyncio.gather(*sends)


async def commands(scenario: "Scenario") -> None:
    """Commands that are given secrets, or keep some; and one that crashes with them in hand."""
    plant, gateway = scenario.canaries.plant, scenario.gateway
    lines = (
        {"key": scenario.keys["spare"]},
        {"sha256": scenario.keys["spare"], "id": "k_x", "user_id": 42},
        {"sha256": "0" * 64, "id": plant("key as an id in a file"), "secret": plant("of a line")},
        plant("line that is none"),
    )
    admin = {"GATEWAY_ADMIN__PORT": str(gateway.admin_port)}
    imported = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
    session = scenario.token("to be revoked", sub="42", jti="a-token-to-be-revoked")
    for words, given, codes in (
        (("keys", "import", "-"), imported, {1}),
        (("tokens", "revoke"), session, {0}),
        (("tokens", "revoke"), plant("token for revoke"), {1, 2}),
        (("tokens", "revoke"), f"rt_42_{plant('refresh token for revoke', size=32)}_", {0}),
        (("tokens", "rotate"), None, {0}),
        (("tokens", "show"), None, {0}),
        (("users", "show", "42"), None, {0}),
        (("check",), None, {0}),
        (("store", "check"), None, {0, 1}),
    ):
        done = await asyncio.to_thread(gateway.command, *words, given=given, environ=admin)
        assert done.returncode in codes, done
        scenario.said += [done.stdout, done.stderr]
    for secret in json.loads(scenario.secrets_file.read_text())["secrets"]:
        scenario.canaries.watch(f"token secret in the file, {secret['id']}", secret["secret"])
    pair = json.dumps({"api_key": plant("key of a crash"), "api_secret": plant("of a crash")})
    crashed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, *SABOTAGED, "vault", "add", "crash@example.com", *gateway.files],
        input=pair,
        capture_output=True,
        text=True,
        env=gateway.environ,
        check=False,
    )
    assert crashed.returncode == 1, crashed
    assert "sabotage.py" in crashed.stderr
    scenario.said += [crashed.stdout, crashed.stderr]


async def die_amid_a_request(scenario: "Scenario") -> None:
    """A worker is hit by a fault of the machine's; Python tells where each thread was."""
    last = scenario.request("POST", "/public/good/x", [("X-Request-ID", "the-last")], b"")
    await scenario.send("last", 200, last)
    gateway = scenario.gateway
    told = lambda: any(line["request_id"] == "the-last" for line in gateway.access_log())  # noqa: E731
    await asyncio.to_thread(until, told, "all is told")
    (worker,) = gateway.workers().values()
    fields, body = scenario.good("own-credentials")
    under_way = scenario.request("POST", "/own-credentials/hanging/x", fields.items(), body)
    received = scenario.backend.requests
    begun = len(received)
    sending = asyncio.create_task(scenario.send("a worker dies", 0, under_way))
    hanging = lambda: any(b"/hanging/" in each.line for each in received[begun:])  # noqa: E731
    await asyncio.to_thread(until, hanging, "it is under way")
    os.kill(worker, signal.SIGSEGV)
    await sending
    scenario.lineless.add("a worker dies")
    await asyncio.to_thread(until, lambda: gateway.workers() != {0: worker}, "another is there")
    assert "Fatal Python error: Segmentation fault" in gateway.stderr()

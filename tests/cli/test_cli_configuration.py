"""`check`, `routes`, `explain` and `serve`, as far as they read files and send nothing."""

import base64
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway import server
from gateway.build import build_gateway
from gateway.cli import app
from gateway.cli.explanation import explained
from gateway.cli.output import Failure
from gateway.errors import GatewayError
from gateway.observe.access_log import AccessLog
from gateway.observe.metrics import UNMATCHED, Metrics
from gateway.parts import open_parts
from gateway.routefile import load_routes
from gateway.settings import load_settings

ROOT = Path(__file__).parents[2]
ROUTES = """\
version: 1
upstreams:
  market-data: {targets: ["http://127.0.0.1:9001", "http://127.0.0.1:9003"]}
  strategy: {targets: ["http://127.0.0.1:9002"]}
routes:
  - {name: mirror, path: "/fapi/v1/{rest...}", methods: [GET], auth: public, upstream: market-data}
  - {name: klines, path: /stock/v1/klines, methods: [GET], auth: plan_key, plan: standard,
     upstream: market-data, rate_limit: {requests: 5, window: 10}}
  - {name: strategy, path: "/strategies/{id}", methods: [GET, PUT], auth: public,
     upstream: strategy}
  - {name: patch-strategy, path: "/strategies/{id}", methods: [PATCH], auth: public,
     upstream: strategy, enforce: false}
  - {name: files, path: "/files/{path...}", auth: public, upstream: strategy, loose_path: true}
  - {name: stripped, path: "/api/v2/{rest...}", auth: public, upstream: strategy,
     strip_prefix: /api}
  - {name: orders, path: /orders/auth, methods: [POST], auth: body_credentials, upstream: strategy}
  - {name: my-orders, path: /orders/mine, methods: [POST], auth: registered_key,
     owner: app_token, upstream: strategy}
  - {name: partner, path: "/{rest...}", host: partner.example.com, auth: app_token,
     scope: [read, write], vip: true, upstream: strategy}
"""
SECRETS = {
    "GATEWAY_TOKEN_SECRET": "t" * 32,
    "GATEWAY_VAULT_KEY": base64.b64encode(bytes(32)).decode(),
}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with a route table, and an environment with the secrets it needs."""
    monkeypatch.chdir(tmp_path)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "routes.yaml").write_text(ROUTES)
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, words)


def test_check_of_good_files_ends_well_with_a_summary(files):
    result = run("check")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "ok: no problem; routes: 9, upstreams: 2, warnings: 0\n"


def test_check_tells_warnings_and_still_ends_well(files):
    (files / "routes.yaml").write_text(ROUTES.replace("owner: app_token, ", ""))
    result = run("check")
    assert result.exit_code == 0
    warning, summary = result.stdout.splitlines()
    assert warning.startswith("warning: routes.yaml:")
    assert summary.endswith("warnings: 1")
    as_json = json.loads(run("check", "--output", "json").stdout)
    assert as_json == {"routes": 9, "upstreams": 2, "warnings": [warning.removeprefix("warning: ")]}


@pytest.mark.parametrize("command", ["check", "serve"])
def test_every_problem_of_both_files_is_told_with_its_place(files, command):
    (files / "gateway.yaml").write_text("listen: {prt: 1}\n")
    (files / "routes.yaml").write_text(ROUTES.replace("plan: standard", "plan: standrd"))
    result = run(command, "--config", "gateway.yaml")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "gateway.yaml:1:10: unknown field 'prt'" in result.stderr
    as_json = json.loads(run(command, "--config", "gateway.yaml", "--output", "json").stderr)
    assert as_json["complaints"] == result.stderr.splitlines()


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_certificate_that_can_not_be_used_is_a_problem_with_its_place(files, command):
    (files / "gateway.yaml").write_text(
        "listen: {tls: {certificates: [{certificate: no.crt, key: no.key}]}}\n"
    )
    result = run(command, "--config", "gateway.yaml")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "gateway.yaml:1:31: cannot use certificate no.crt with key no.key: " in result.stderr


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_secret_that_is_needed_and_unset_is_a_problem(files, command, monkeypatch):
    monkeypatch.delenv("GATEWAY_TOKEN_SECRET")
    result = run(command)
    assert result.exit_code == 1
    assert "GATEWAY_TOKEN_SECRET" in result.stderr


@pytest.mark.parametrize("command", ["check", "serve", "routes"])
def test_a_file_that_is_not_there_is_a_problem(files, command):
    for words in (("--config", "none.yaml"), ("--routes", "none.yaml")):
        result = run(command, *words)
        assert result.exit_code == 1
        assert result.stderr.startswith("none.yaml:1:1: ")


def test_the_shipped_files_pass(monkeypatch):
    monkeypatch.chdir(ROOT)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    assert run("check").exit_code == 0


def test_serve_hands_over_what_it_has_read_and_ends_as_the_server_does(files, monkeypatch):
    handed = []
    monkeypatch.setattr(server, "serve", lambda *given: handed.append(given) or 3)
    (files / "gateway.yaml").write_text("listen: {port: 8081}\n")
    assert run("serve", "--config", "gateway.yaml").exit_code == 3
    ((settings, route_file, settings_path, routes_path),) = handed
    assert (settings.listen.port, len(route_file.routes)) == (8081, 9)
    assert (settings_path, routes_path) == (Path("gateway.yaml"), Path("routes.yaml"))


def test_routes_are_shown_in_the_files_order_without_any_secret(files, monkeypatch):
    for name in SECRETS:
        monkeypatch.delenv(name)
    result = run("routes")
    assert result.exit_code == 0
    head, mirror, klines, *_ = result.stdout.splitlines()
    names = "NAME METHODS HOST PATH AUTH PLAN SCOPE VIP UPSTREAM LIMITS"
    assert head.split() == names.split()
    assert mirror.split()[:6] == ["mirror", "GET", "-", "/fapi/v1/{rest...}", "public", "-"]
    assert mirror.split()[6:9] == ["-", "no", "market-data"]
    assert klines.split()[-10:-5] == ["standard", "-", "no", "market-data", "5"]
    assert klines.endswith(" 5 in 10 s per ip")
    assert result.stdout.splitlines()[9].split()[6:9] == ["read", "write", "yes"]
    as_json = json.loads(run("routes", "--output", "json").stdout)
    assert [route["vip"] for route in as_json["routes"]] == [False] * 8 + [True]
    assert [route["name"] for route in as_json["routes"]][:2] == ["mirror", "klines"]
    assert as_json["upstreams"]["strategy"] == ["http://127.0.0.1:9002"]


def explain(*words):
    result = run("explain", *words, "--output", "json")
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


IP_LIMIT = {
    "name": "ip",
    "per": "ip",
    "requests": 1000,
    "window": 60,
    "block": 3600,
    "weighs": "1",
}
OWN_LIMIT = IP_LIMIT | {"name": "route-klines-ip-10", "requests": 5, "window": 10, "block": 0}


def test_explain_says_route_demands_way_and_limits(files):
    assert explain("GET", "/stock/v1/klines?symbol=A%2FB#x") == {
        "route": "klines",
        "path": "/stock/v1/klines",
        "auth": "plan_key",
        "plan": "standard",
        "demands": "X-Primit-API-Key whose user has an active plan, standard or higher",
        "upstream": "market-data",
        "targets": ["http://127.0.0.1:9001", "http://127.0.0.1:9003"],
        "target": "/stock/v1/klines?symbol=A%2FB",
        "limits": [IP_LIMIT, OWN_LIMIT],
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["GET", "/"], {"route": "status", "upstream": None, "limits": []}),
        (["GET", "/health"], {"route": "health", "limits": []}),
        (["GET", "http://gw.example.com"], {"route": "status"}),
        (["GET", "HTTPS://gw.example.com:8443?x=1"], {"route": "status"}),
        (["HEAD", "https://gw.example.com/fapi/v1/time"], {"route": "mirror"}),
        (["GET", "/strategies/7"], {"route": "strategy", "demands": "nothing"}),
        (["PATCH", "/strategies/7"], {"demands": "nothing; not enforced, only reported"}),
        (["GET", "/files/a//../b"], {"route": "files", "target": "/files/a//../b"}),
        (["GET", "/api/v2/x?y"], {"route": "stripped", "target": "/v2/x?y"}),
        (["GET", "/%61pi/v2/x"], {"route": "stripped", "target": "/v2/x"}),
        (["POST", "/orders/auth"], {"demands": "api_key and api_secret in the JSON body"}),
        (["POST", "/api-key/verify"], {"route": "api-key-verify", "upstream": None}),
        (["GET", "https://partner.example.com/a"], {"route": "partner"}),
        (["GET", "https://u@partner.example.com:8443/a"], {"route": "partner"}),
        (["GET", "/a", "--host", "Partner.Example.com:80"], {"route": "partner"}),
    ],
)
def test_explain_finds_the_route_of(files, words, expected):
    said = explain(*words)
    assert {name: said[name] for name in expected} == expected


def test_explain_names_owner_scope_and_vip(files):
    assert explain("POST", "/orders/mine")["demands"] == (
        "email in the JSON body, with an active registered key, "
        "and an app token of the user whose email it is"
    )
    said = explain("GET", "https://partner.example.com/a")
    assert said["demands"] == (
        "Authorization: Bearer with an app token, with scope read write, of a user who is a VIP now"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["GET", "/nope"], "404 Not Found: no route matches /nope"),
        (["POST", "/stock/v1/klines"], "405 Method Not Allowed: /stock/v1/klines takes GET, HEAD"),
        (["GET", "/stock//v1"], "400 Ambiguous path: /stock//v1 can be read in more than one way"),
        (["GET", "/stock/v1/klinés"], "400 Invalid path"),
        (
            ["POST", "/auth/mobile/google"],
            "404 Not Found: /auth/mobile/google is there once google.audiences is set",
        ),
        (["GET", "/auth/mobile/google"], "405 Method Not Allowed"),
        (
            ["POST", "/auth/refresh"],
            "404 Not Found: /auth/refresh is there once app_tokens.refresh is set",
        ),
    ],
)
def test_explain_says_why_a_request_would_be_refused(files, words, said):
    result = run("explain", *words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {said}")


@pytest.mark.parametrize("words", [["get", "/"], ["GET", "x"], ["GET", "ftp://a/"], ["G T", "/"]])
def test_explain_of_what_is_no_request_is_wrong_usage(files, words):
    result = run("explain", *words)
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.parametrize("everything_on", [False, True])
async def test_explain_decides_as_the_gateway_does(files, everything_on):
    """Each request through both, with everything switched on and with nothing."""
    switched_on = {"GATEWAY_GOOGLE__AUDIENCES": "[app]", "GATEWAY_APPLE__AUDIENCES": "[app]"}
    switched_on["GATEWAY_APP_TOKENS__REFRESH"] = "{}"
    settings = load_settings(None, {**SECRETS, **switched_on} if everything_on else {})
    route_file = load_routes(files / "routes.yaml", settings, {})
    parts = await open_parts(settings, Metrics())
    table = (await build_gateway(parts, route_file, AccessLog(settings.logging))).table
    landed = set()
    for path in (
        *("/", "/health", "/healthz", "/fapi/v1/klines", "/fapi/v1/", "/fapi//v1", "/strategies/7"),
        *("/strategies/", "/files/a/../b", "/files/%zz", "/api/v2/x", "/orders/auth", "/%2e%2e/a"),
        *(
            "/auth/refresh",
            "/auth/logout",
            "/auth/mobile/google",
            "/auth/mobile/apple",
            "/api-key/verify",
            "/api-key/status/a@b.c",
        ),
    ):
        for method in ("GET", "HEAD", "POST", "PATCH", "OPTIONS"):
            for host in ("", "gw.example.com", "partner.example.com:8443"):
                try:
                    route = table.match(method, host, path)
                    expected = "404" if route.name == UNMATCHED else route.name
                except GatewayError as error:
                    expected = str(error.status)
                try:
                    said = explained(settings, route_file, method, host, path)["route"]
                except Failure as failure:
                    said = str(failure)[:3]
                assert (method, host, path, said) == (method, host, path, expected)
                landed.add(said)
    await parts.close()
    assert {"404", "405", "400", "health", "mirror"} <= landed
    assert ({"sign-in-google", "token-refresh", "sign-out"} <= landed) is everything_on

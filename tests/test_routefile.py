"""routes.yaml: what is read, and how each mistake is told."""

import re
import textwrap
from pathlib import Path

import pytest

from gateway.errors import ConfigurationError
from gateway.routefile import (
    OWN_ENDPOINTS,
    describe,
    load_configuration,
    load_routes,
    missing_secrets,
    own_endpoints,
)
from gateway.routing import RouteTable
from gateway.settings import Settings, load_settings

SHIPPED = Path(__file__).parent.parent / "routes.yaml"
HEAD = 'version: 1\nupstreams: {up: {targets: ["http://h:1"]}}\nroutes:\n'


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Reads a text as routes.yaml."""
    monkeypatch.chdir(tmp_path)

    def load(text, environ=None, settings=None):
        Path("routes.yaml").write_text(textwrap.dedent(text), encoding="utf-8")
        return load_routes(Path("routes.yaml"), settings or Settings(), environ or {})

    return load


@pytest.fixture
def complaints(load):
    """What is said of a text as routes.yaml."""

    def complaints(text, environ=None, settings=None):
        with pytest.raises(ConfigurationError) as raised:
            load(text, environ, settings)
        return [line.removeprefix("routes.yaml:") for line in raised.value.complaints]

    return complaints


def route(name="a", path="/a", auth="public", **fields):
    """A line of the routes; it begins in column 3, its braces in column 5."""
    fields = {"name": name, "path": f'"{path}"', "auth": auth, "upstream": "up", **fields}
    return "  - {" + ", ".join(f"{k}: {v}" for k, v in fields.items() if v is not None) + "}\n"


# The table of the platform contract, row by row.
PUBLIC_PATHS = [
    "/ticker/24hr/active",
    "/funding/rates",
    "/funding/rates/BTCUSDT",
    "/funding/rates/BTCUSDT/history",
    "/openInterestHist",
    "/topLongShortPositionRatio",
    "/topLongShortAccountRatio",
    "/long-short/position-ratio/BTCUSDT",
    "/long-short/account-ratio/BTCUSDT",
    "/launchfutures",
    "/delist",
    "/spot/capital-flow",
    "/fapi/v1/klines",
    "/fapi/v1/ticker/24hr",
    "/fapi/v1/insuranceBalance",
]
BODY_PATHS = [
    "/orders/auth",
    "/orders/cancel/auth",
    "/positions/close/auth",
    "/leverage/auth",
    "/margin-type/auth",
]
CONTRACT = [
    *(("GET", path, "market-data", "public", None) for path in PUBLIC_PATHS),
    *(
        ("GET", f"/{kind}/v1/klines", "market-data", "plan_key", "standard")
        for kind in ("stock", "index", "commodity")
    ),
    *(
        (method, path, "strategy", "public", None)
        for path, methods in {
            "/strategies": ["GET", "POST"],
            "/strategies/7": ["GET", "PUT", "DELETE"],
        }.items()
        for method in methods
    ),
    *(("POST", path, "strategy", "body_credentials", None) for path in BODY_PATHS),
    ("POST", "/orders/registered", "strategy", "registered_key", None),
    ("GET", "/users/me", "strategy", "app_token", None),
    ("GET", "/ws", "market-data", "public", None),
]


@pytest.mark.parametrize(("method", "path", "upstream", "auth", "plan"), CONTRACT)
def test_the_shipped_table_is_the_contract_s(method, path, upstream, auth, plan):
    shipped = load_routes(SHIPPED, Settings(), {})
    found = RouteTable([(route.claims, route) for route in shipped.routes]).match(method, "", path)
    assert (found.upstream, found.auth, found.plan) == (upstream, auth, plan)
    assert found.websocket == (path == "/ws")
    assert found.enforce


def test_the_shipped_table_needs_nothing_but_the_two_secrets():
    shipped = load_routes(SHIPPED, Settings(), {})
    assert shipped.upstreams["market-data"].targets == ("http://127.0.0.1:9001",)
    assert shipped.upstreams["strategy"].targets == ("http://127.0.0.1:9002",)
    missing = missing_secrets(load_settings(None, {}), shipped)
    assert [re.search(r"GATEWAY_\w+", line)[0] for line in missing] == [
        "GATEWAY_TOKEN_SECRET",
        "GATEWAY_VAULT_KEY",
    ]
    assert [warning.partition(": ")[2] for warning in shipped.warnings] == [
        (
            "route 'my-orders': anyone who knows an email can use its key; "
            "`owner: app_token` asks for proof"
        )
    ]


def test_a_route_has_the_defaults_that_the_design_gives(load):
    [spec] = load(HEAD + route()).routes
    assert spec.model_dump() == {
        "name": "a",
        "path": "/a",
        "methods": None,
        "auth": "public",
        "upstream": "up",
        "plan": None,
        "host": None,
        "rate_limit": None,
        "weight": None,
        "when_store_is_down": None,
        "timeout": None,
        "retry": None,
        "max_body": None,
        "websocket": False,
        "subprotocol_credential": False,
        "upgrade": (),
        "strip_prefix": None,
        "pass_credentials": False,
        "inject": False,
        "owner": None,
        "scope": (),
        "vip": False,
        "enforce": True,
        "loose_path": False,
        "cors": None,
        "tests": (),
        "networks": {"deny": (), "deny_files": (), "allow": (), "allow_files": ()},
    }


def test_an_upstream_is_read_whole(load):
    text = """\
        version: 1
        upstreams:
          up:
            targets: ["http://10.0.0.1:9001/", "https://[::1]"]
            timeout: {read: 5}
            health: {path: /health}
            host: preserve
            headers: {X-Backend-Key: "${KEY}", X-Env: prod}
        routes: []
        """
    up = load(text, {"KEY": "k"}).upstreams["up"]
    assert up.name == "up"
    assert up.targets == ("http://10.0.0.1:9001", "https://[::1]")
    assert (up.timeout.connect, up.timeout.read) == (2, 5)
    assert (up.health.path, up.health.interval) == ("/health", 5)
    assert up.host == "preserve"
    assert {name: value.get_secret_value() for name, value in up.headers.items()} == {
        "X-Backend-Key": "k",
        "X-Env": "prod",
    }
    assert "prod" not in repr(up)


@pytest.mark.parametrize(
    ("auth", "given", "size"),
    [
        ("public", None, None),
        ("public", "1048576", 1048576),
        ("public", "1MiB", 1048576),
        ("public", "2 KB", 2000),
        ("public", "0", 0),
        ("body_credentials", None, 1048576),
        ("body_credentials", "null", 1048576),
        ("registered_key", None, 1048576),
        ("registered_key", "64KiB", 65536),
    ],
)
def test_bodies_that_are_read_have_a_bound(load, auth, given, size):
    assert load(HEAD + route(auth=auth, max_body=given)).routes[0].max_body == size


@pytest.mark.parametrize(
    ("given", "cors"),
    [
        (None, None),
        ("null", None),
        ("false", False),
        ('{origins: ["*"], max_age: 5}', {"origins": ("*",), "max_age": 5}),
    ],
)
def test_cors_is_the_global_one_or_none_or_its_own(load, given, cors):
    spec = load(HEAD + route(cors=given)).routes[0]
    if isinstance(cors, dict):
        assert spec.cors.model_dump(include=set(cors)) == cors
    else:
        assert spec.cors is cors


@pytest.mark.parametrize(
    ("given", "timeout"),
    [
        (None, None),
        ("null", None),
        ("{}", {"connect": 1, "read": 90}),
        ("{read: 5}", {"connect": 1, "read": 5}),
        ("{connect: 3}", {"connect": 3, "read": 90}),
    ],
)
def test_a_route_takes_what_its_timeout_leaves_out_from_the_upstream(load, given, timeout):
    head = HEAD.replace('"]', '"], timeout: {connect: 1, read: 90}')
    spec = load(head + route(timeout=given)).routes[0]
    assert (spec.timeout and spec.timeout.model_dump()) == timeout


def test_a_weight_that_no_plan_s_user_could_pay_is_told(load, complaints):
    settings = Settings(plan_limits={"free": {"daily": 5}, "standard": {"requests": 9}})
    assert complaints(HEAD + route(auth="app_token", weight=7), settings=settings) == [
        "4:66: route 'a': weight can be 7, and plan_limits.free has only 5"
    ]
    assert load(HEAD + route(weight=7), settings=settings).routes[0].weight == 7


def test_the_table_is_told_as_data(load):
    line = route(methods="[GET]", host="A.example", path="/{x}", rate_limit="{requests: 9}")
    listed = describe(load(HEAD + line))
    assert listed == [
        {
            "name": "a",
            "methods": ["GET"],
            "host": "a.example",
            "path": "/{x}",
            "auth": "public",
            "plan": None,
            "scope": [],
            "vip": False,
            "upstream": "up",
            "limits": ["9 in 60 s per ip"],
        }
    ]


def test_places_of_routes_are_kept(load):
    places = load(HEAD + route() + route("b", "/b")).places
    assert {name: str(place) for name, place in places.items()} == {
        "a": "routes.yaml:4:5",
        "b": "routes.yaml:5:5",
    }


def test_own_endpoints_stand_under_each_host_that_a_route_names(load):
    routes = load(
        HEAD
        + route()
        + route("b", "/{r...}", host="b.example")
        + route("c", "/c", host="b.example")
    ).routes
    own = own_endpoints(routes)
    assert len(own) == 2 * len(OWN_ENDPOINTS)
    table = RouteTable([(r.claims, r.name) for r in routes] + [(match, "own") for match in own])
    assert table.match("GET", "b.example", "/health") == "own"
    assert table.match("GET", "b.example", "/x") == "b"


LIST = "must be a list, as in [one, two]"
FIELDS = "must be fields with values, as in {name: value}"
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        (
            {"upstream": None, "upsteam": "up"},
            [
                "4:5: route 'a': upstream is missing",
                "4:41: unknown field 'upsteam' in route 'a'; did you mean 'upstream'?",
            ],
        ),
        ({"name": None}, "4:5: route 1: name is missing"),
        (
            {"name": "a b"},
            (
                "4:12: route 'a b': name must be 1 to 64 letters, digits, '.', '_' or '-', "
                "as in my-orders"
            ),
        ),
        (
            {"name": 7},
            (
                "4:12: route 1: name must be text; if it looks like a number or a word of "
                "YAML, put it in quotes"
            ),
        ),
        (
            {"name": "health"},
            (
                "4:12: route 'health': name is what metrics and logs call something of the "
                "gateway's own; rename it"
            ),
        ),
        (
            {"auth": "plan-key"},
            (
                "4:33: route 'a': auth must be one of public, plan_key, body_credentials, "
                "registered_key, app_token; did you mean 'plan_key'?"
            ),
        ),
        (
            {"upstream": "upp"},
            "4:51: route 'a': upstream is 'upp', which isn't defined; did you mean 'up'?",
        ),
        (
            {"upstream": "x"},
            "4:51: route 'a': upstream is 'x', which isn't defined; known: up",
        ),
        (
            {"auth": "plan_key"},
            (
                "4:5: route 'a': plan is missing; "
                "a plan_key route names the least plan that opens it"
            ),
        ),
        (
            {"auth": "plan_key", "plan": "standart"},
            (
                "4:63: route 'a': plan is 'standart', which isn't in the settings' plans; "
                "did you mean 'standard'?"
            ),
        ),
        (
            {"plan": "standard"},
            "4:61: route 'a': plan is for auth: plan_key alone, not public; leave it out",
        ),
        (
            {"inject": "true"},
            "4:63: route 'a': inject is for auth: registered_key alone, not public; leave it out",
        ),
        (
            {"owner": "app_token"},
            "4:62: route 'a': owner is for auth: registered_key alone, not public; leave it out",
        ),
        (
            {"auth": "registered_key", "owner": "public"},
            "4:70: route 'a': owner must be app_token",
        ),
        (
            {"scope": "[x]"},
            "4:62: route 'a': scope needs an app token: auth: app_token, or owner: app_token",
        ),
        (
            {"vip": "true"},
            "4:60: route 'a': vip needs an app token: auth: app_token, or owner: app_token",
        ),
        (
            {"auth": "app_token", "scope": "['user trade']"},
            (
                "4:66: route 'a': scope[0] must be one word of visible ASCII characters, "
                "without quotes"
            ),
        ),
        (
            {"auth": "app_token", "scope": "['a\"b']"},
            (
                "4:66: route 'a': scope[0] must be one word of visible ASCII characters, "
                "without quotes"
            ),
        ),
        (
            {"auth": "body_credentials", "websocket": "true"},
            (
                "4:76: route 'a': websocket can't go with body_credentials: "
                "an upgrade has no body to read"
            ),
        ),
        (
            {"websocket": "true", "methods": "[POST]"},
            "4:66: route 'a': websocket needs GET among the methods: an upgrade is a GET",
        ),
        (
            {"auth": "registered_key", "upgrade": "[foo]"},
            (
                "4:72: route 'a': upgrade can't go with registered_key: "
                "an upgrade has no body to read"
            ),
        ),
        (
            {"upgrade": "[foo]", "methods": "[POST]"},
            "4:64: route 'a': upgrade needs GET among the methods: an upgrade is a GET",
        ),
        (
            {"upgrade": "[H2C]"},
            (
                "4:65: route 'a': upgrade[0] can't be tunneled: "
                "it would carry requests past every check"
            ),
        ),
        (
            {"upgrade": "[HTTP/2.0]"},
            (
                "4:65: route 'a': upgrade[0] can't be tunneled: "
                "it would carry requests past every check"
            ),
        ),
        (
            {"upgrade": "[websocket]"},
            "4:65: route 'a': upgrade[0] has a field of its own; say `websocket: true`",
        ),
        (
            {"upgrade": "[a b]"},
            "4:65: route 'a': upgrade[0] must be a protocol's name, as in foo or foo/2",
        ),
        (
            {"subprotocol_credential": "true"},
            "4:79: route 'a': subprotocol_credential needs `websocket: true`",
        ),
        (
            {"websocket": "true", "subprotocol_credential": "true"},
            ("4:96: route 'a': subprotocol_credential can't go with public: it has no credential"),
        ),
        ({"methods": "GET"}, f"4:64: route 'a': methods {LIST}"),
        (
            {"methods": "[get]"},
            f"4:65: route 'a': methods[0] must be one of {METHODS}; did you mean 'GET'?",
        ),
        ({"methods": "[GET, GET]"}, "4:64: route 'a': methods has GET twice; leave one out"),
        (
            {"methods": "[]"},
            "4:64: route 'a': methods must not be empty; leave the field out for all methods",
        ),
        ({"path": "a"}, "4:21: route 'a': path must begin with '/'"),
        (
            {"path": "/{a...}/b"},
            "4:21: route 'a': path must end after '{a...}', which takes all that follows",
        ),
        (
            {"path": "/a{b}"},
            (
                "4:21: route 'a': path has 'a{b}'; "
                "write {name} for one whole segment, {name...} for the rest"
            ),
        ),
        (
            {"path": "/a//b"},
            "4:21: route 'a': path has an empty segment ('//'), which no request may have",
        ),
        (
            {"path": "/health"},
            "4:21: route 'a': path is the gateway's own ('/health'); choose another",
        ),
        (
            {"path": "/", "methods": "[POST]", "host": "h"},
            "4:21: route 'a': path is the gateway's own ('/'); choose another",
        ),
        (
            {"path": "/api-key/status/{x}"},
            (
                "4:21: route 'a': path is the gateway's own ('/api-key/status/{email}'); "
                "choose another"
            ),
        ),
        (
            {"path": "/api-key/status/me"},
            (
                "4:21: route 'a': path is the gateway's own ('/api-key/status/{email}'); "
                "choose another"
            ),
        ),
        (
            {"strip_prefix": "/b"},
            "4:69: route 'a': strip_prefix must be literal segments that '/a' begins with",
        ),
        (
            {"path": "/api/{x}", "strip_prefix": '"/api/{x}"'},
            "4:75: route 'a': strip_prefix must be literal segments that '/api/{x}' begins with",
        ),
        (
            {"max_body": "1 mebi"},
            "4:65: route 'a': max_body must be a number of bytes, as in 1048576 or 1MiB",
        ),
        ({"max_body": "-1"}, "4:65: route 'a': max_body must be at least 0; it is -1"),
        ({"rate_limit": "{window: 5}"}, "4:67: route 'a': rate_limit.requests is missing"),
        ({"rate_limit": "[{window: 5}]"}, "4:68: route 'a': rate_limit[0].requests is missing"),
        (
            {"rate_limit": "{requests: 5, window: 90000}"},
            "4:89: route 'a': rate_limit.window must be seconds, from 1 to 86400, or day or month",
        ),
        (
            {"rate_limit": "[{requests: 5}, {per: user, requests: 5}]"},
            "4:89: route 'a': rate_limit[1].per is user, and public tells of none; use ip or route",
        ),
        (
            {"auth": "app_token", "rate_limit": "{per: key, requests: 5}"},
            "4:76: route 'a': rate_limit.per is key, and app_token has none; use ip, user or route",
        ),
        (
            {"rate_limit": "[{requests: 5, window: 9}, {requests: 6, window: 9}]"},
            (
                "4:116: route 'a': rate_limit[1].window is that of another limit per ip; "
                "leave one of the two out"
            ),
        ),
        (
            {"rate_limit": "{requests: 5}", "weight": "6"},
            "4:78: route 'a': rate_limit.requests must be at least 6: one request can weigh that",
        ),
        (
            {"rate_limit": "{concurrent: 5, window: 9}"},
            (
                "4:91: route 'a': rate_limit.window says nothing of what is concurrent; "
                "make it another limit"
            ),
        ),
        (
            {"rate_limit": "{concurrent: 0}"},
            "4:80: route 'a': rate_limit.concurrent must be at least 1; it is 0",
        ),
        ({"weight": "0"}, "4:63: route 'a': weight must be at least 1; it is 0"),
        ({"weight": "{parameter: limit}"}, "4:63: route 'a': weight.steps is missing"),
        (
            {"weight": "{parameter: n, steps: [{to: 5, weight: 1}, {to: 5, weight: 2}]}"},
            "4:85: route 'a': weight.steps must ascend in `to`",
        ),
        ({"timeout": "{read: 0}"}, "4:71: route 'a': timeout.read must be more than 0; it is 0"),
        (
            {"timeout": "{raed: 1}"},
            "4:65: unknown field 'raed' in route 'a': timeout; did you mean 'read'?",
        ),
        (
            {"cors": "true"},
            "4:61: route 'a': cors must be false, or fields with values, as in {name: value}",
        ),
        (
            {"cors": "{origns: []}"},
            [
                "4:61: route 'a': cors.origins is missing",
                "4:62: unknown field 'origns' in route 'a': cors; did you mean 'origins'?",
            ],
        ),
        (
            {"host": "h:80"},
            "4:61: route 'a': host must be a host name without port, as in api.example.com",
        ),
        (
            {"tests": "[/a]"},
            "4:63: route 'a': tests[0] must be a method and a path, as in GET /strategies/7",
        ),
        (
            {"tests": "[GET /b]"},
            "4:63: route 'a': 'GET /b' lands on 404: Not Found; change the example, or the paths",
        ),
        (
            {"methods": "[GET]", "tests": "[GET /a, POST /a]"},
            (
                "4:87: route 'a': 'POST /a' lands on 405: Method Not Allowed; "
                "change the example, or the paths"
            ),
        ),
        (
            {"path": "/{r...}", "tests": "[GET /x//y]"},
            (
                "4:68: route 'a': 'GET /x//y' lands on 400: the path is ambiguous, "
                "and the route isn't loose_path; change the example, or the paths"
            ),
        ),
        (
            {"path": "/{r...}", "tests": "[GET /health]"},
            (
                "4:68: route 'a': 'GET /health' lands on the gateway's own endpoint; "
                "change the example, or the paths"
            ),
        ),
        (
            {"when_store_is_down": "alow"},
            (
                "4:75: route 'a': when_store_is_down must be one of local, allow, deny; "
                "did you mean 'allow'?"
            ),
        ),
        (
            {"upstream": '"${UP}"'},
            "4:51: route 'a': upstream reads UP, which is not set in the environment; set it",
        ),
    ],
)
def test_a_mistake_in_a_route_is_told_with_its_place(complaints, fields, complaint):
    expected = [complaint] if isinstance(complaint, str) else complaint
    assert complaints(HEAD + route(**fields)) == expected


@pytest.mark.parametrize(
    ("fields", "examples"),
    [
        ({}, ["GET /a", "DELETE /a?x=//"]),
        ({"path": "/{r...}", "loose_path": "true"}, ["GET /x//y", "GET /../x"]),
        ({"host": "A.example"}, ["GET /a"]),
        ({"methods": "[GET]"}, ["HEAD /a"]),
    ],
)
def test_examples_that_land_on_their_route_are_fine(load, fields, examples):
    quoted = "[" + ", ".join(f'"{example}"' for example in examples) + "]"
    assert load(HEAD + route(**fields, tests=quoted)).routes[0].tests == tuple(examples)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ({"methods": "[GET, PUT]"}, {"methods": "[PUT, GET]"}, "GET, HEAD, PUT /a"),
        ({"methods": "[GET]"}, {"methods": "[HEAD]"}, "HEAD /a"),
        ({}, {}, "any method /a"),
        ({}, {"methods": "[POST]"}, "POST /a"),
        ({"path": "/{x}"}, {"path": "/{y}"}, "any method /{y}"),
        ({"path": "/x/{x...}"}, {"path": "/x/{y...}"}, "any method /x/{y...}"),
        ({"host": "h"}, {"host": "H"}, "any method /a"),
    ],
)
def test_two_routes_that_claim_the_same_requests_are_named_both(complaints, one, other, shared):
    text = HEAD + route("first", **one) + "\n" + route("second", **other)
    assert complaints(text) == [
        (
            f"6:26: route 'second' claims the same requests as route 'first' in line 4 ({shared}); "
            "give one of the two another path, host or methods"
        )
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"methods": "[GET]"}, {"methods": "[POST]"}),
        ({}, {"host": "h"}),
        ({"path": "/{x}"}, {"path": "/{y...}"}),
        ({"path": "/a"}, {"path": "/a/"}),
    ],
)
def test_routes_that_only_look_alike_are_fine(load, one, other):
    assert len(load(HEAD + route("first", **one) + route("second", **other)).routes) == 2


def test_a_name_given_twice_is_told_once(complaints):
    assert complaints(HEAD + route() + route(path="/b")) == [
        "5:12: route 'a': name was given in line 4 already; rename one of the two"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["1:1: version is missing", "1:1: upstreams is missing", "1:1: routes is missing"]),
        ("version: 2\nupstreams: {}\nroutes: []", ["1:10: version must be 1"]),
        ("version: '1'\nupstreams: {}\nroutes: []", ["1:10: version must be 1"]),
        (
            "version: 1\nupstream: {}\nupstreams: {}\nroutes: []",
            ["2:1: unknown field 'upstream'; did you mean 'upstreams'?"],
        ),
        ("version: 1\nupstreams: []\nroutes: []", [f"2:12: upstreams {FIELDS}"]),
        ("version: 1\nupstreams: {}\nroutes: {}", [f"3:9: routes {LIST}"]),
        ("version: 1\nupstreams: {}\nroutes: [x]", [f"3:10: route 1 {FIELDS}"]),
        ("version: 1\nupstreams: {u: 1}\nroutes: []", [f"2:16: upstream 'u' {FIELDS}"]),
        (
            "version: 1\nupstreams: {u: {}}\nroutes: []",
            ["2:16: upstream 'u': targets is missing"],
        ),
        (
            "version: 1\nupstreams: {'u v': {targets: [http://h]}}\nroutes: []",
            [
                (
                    "2:13: upstreams.u v must be 1 to 64 letters, digits, '.', '_' or '-', "
                    "as in my-orders"
                )
            ],
        ),
        (
            "version: 1\nroutes: []\nupstreams:\n  u: {targets: [http://h]}\n  u: {targets: []}",
            ["5:3: 'u' was given already in line 4; leave one of the two out"],
        ),
        (
            "version: 1\nroutes: [",
            [
                (
                    "3:1: not valid YAML: did not find expected node content; "
                    "look for a quote, bracket or space too few"
                )
            ],
        ),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_place(complaints, text, expected):
    assert sorted(complaints(text)) == sorted(expected)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ("targets: []", "2:26: upstream 'u': targets must not be empty"),
        (
            "targets: ['h:1']",
            (
                "2:27: upstream 'u': targets[0] must be http:// or https:// with host and port, "
                "or unix:// with a path, as in http://10.0.0.5:9001"
            ),
        ),
        (
            "targets: ['http://h/x']",
            (
                "2:27: upstream 'u': targets[0] must end after host and port; "
                "a path comes from the request"
            ),
        ),
        (
            "targets: ['http://canary:pw@h']",
            (
                "2:27: upstream 'u': targets[0] must not hold a user or password; "
                "send them in the upstream's headers"
            ),
        ),
        (
            "targets: ['http://h'], timeout: {conect: 1}",
            "2:50: unknown field 'conect' in upstream 'u': timeout; did you mean 'connect'?",
        ),
        (
            "targets: ['http://h'], host: keep",
            "2:46: upstream 'u': host must be one of target, preserve",
        ),
        (
            "targets: ['http://h'], health: {interval: 1}",
            "2:48: upstream 'u': health.path is missing",
        ),
        (
            "targets: ['http://h'], headers: {X-K: '${K}'}",
            "2:55: upstream 'u': headers.X-K reads K, which is not set in the environment; set it",
        ),
        (
            "targets: ['http://h'], headers: {X-K: \"canary\\nx\"}",
            (
                "2:55: upstream 'u': headers.X-K must be one line of ASCII text, "
                "without spaces around it"
            ),
        ),
        (
            "targets: ['http://h'], headers: {X K: a}",
            "2:50: upstream 'u': headers.X K must be a header's name, as in X-Backend-Key",
        ),
        (
            "targets: ['http://h'], headers: {Connection: close}",
            (
                "2:50: upstream 'u': headers.Connection belongs to the connection; "
                "leave it out, the gateway takes care of it"
            ),
        ),
        (
            "targets: ['http://h'], headers: {x-user-id: '1'}",
            (
                "2:50: upstream 'u': headers.x-user-id is what the gateway says of each request; "
                "choose another name"
            ),
        ),
        (
            "targets: ['http://h'], headers: {X-K: a, x-k: b}",
            "2:58: upstream 'u': headers.x-k is 'X-K' once more; leave one of the two out",
        ),
    ],
)
def test_a_mistake_in_an_upstream_is_told_with_its_place(complaints, fields, complaint):
    told = complaints(f"version: 1\nupstreams: {{u: {{{fields}}}}}\nroutes: []")
    assert told == [complaint]
    assert "canary" not in told[0]


def test_all_mistakes_are_told_in_one_go(complaints):
    told = complaints(
        """\
        version: 1
        upstreams:
          one: {targets: [x]}
        routes:
          - {name: a, path: /a, auth: pubic, upstream: one}
          - {name: b, path: /a, auth: plan_key, upstream: oen}
          - {name: b, path: b, auth: plan_key, plan: gold, upstream: one, extra: 1}
          - {path: /a, auth: public, inject: true, upstream: none}
        """
    )
    assert [line.split(": ")[0] for line in told] == [
        "3:19",  # target
        "5:31",  # auth
        "6:5",  # plan is missing
        "6:21",  # claims what a claims
        "6:51",  # unknown upstream
        "7:12",  # name again
        "7:21",  # path
        "7:46",  # plan
        "7:67",  # unknown field
        "8:5",  # name is missing
        "8:12",  # claims what a claims
        "8:38",  # inject
        "8:54",  # unknown upstream
    ]


def test_warnings_are_apart_from_complaints(load):
    text = """\
        version: 1
        upstreams: {up: {targets: ["http://h"]}, spare: {targets: ["http://h"]}}
        routes:
          - {name: a, path: /a, auth: registered_key, upstream: up}
          - {name: b, path: /b, auth: registered_key, owner: app_token, upstream: up}
        """
    assert load(text).warnings == (
        "routes.yaml:2:42: upstream 'spare' is used by no route",
        (
            "routes.yaml:4:31: route 'a': anyone who knows an email can use its key; "
            "`owner: app_token` asks for proof"
        ),
    )


REGISTERED = {"auth": "registered_key"}


@pytest.mark.parametrize(
    ("settings_text", "fields", "environ", "expected"),
    [
        ("", {}, {}, []),
        ("", {"auth": "app_token"}, {"GATEWAY_TOKEN_SECRET": "x" * 32}, []),
        (
            "",
            {"auth": "app_token"},
            {},
            [
                (
                    "gateway.yaml:1:1: app_tokens.secrets[0].secret reads GATEWAY_TOKEN_SECRET, "
                    "which is not set in the environment; route 'a' needs it"
                )
            ],
        ),
        (
            "app_tokens: {secrets: []}\nvault: {encryption_keys: []}",
            {**REGISTERED, "owner": "app_token"},
            {},
            [
                "gateway.yaml:1:23: app_tokens.secrets is empty; route 'a' needs one",
                "gateway.yaml:2:26: vault.encryption_keys is empty; route 'a' needs one",
            ],
        ),
        (
            "google: {audiences: [x]}\napp_tokens: {secrets: [{id: a}]}",
            {},
            {},
            [
                (
                    "gateway.yaml:2:24: app_tokens.secrets[0].secret is missing; "
                    "sign-in by google needs it"
                )
            ],
        ),
        (
            "apple: {audiences: [x]}\napp_tokens: {secrets: [{id: a, secret: '${NEW}'}]}",
            {},
            {},
            [
                (
                    "gateway.yaml:2:40: app_tokens.secrets[0].secret reads NEW, "
                    "which is not set in the environment; sign-in by apple needs it"
                )
            ],
        ),
        (
            "app_tokens: {legacy: {secret: '${OLD}', until: 2027-01-01}}",
            {},
            {},
            [
                (
                    "gateway.yaml:1:31: app_tokens.legacy.secret reads OLD, which is not set in "
                    "the environment; set it, or leave app_tokens.legacy out"
                )
            ],
        ),
        (
            "app_tokens: {legacy: {until: 2027-01-01}}",
            {},
            {},
            [
                (
                    "gateway.yaml:1:22: app_tokens.legacy.secret is missing; set it, or leave "
                    "app_tokens.legacy out"
                )
            ],
        ),
        (
            "vault: {encryption_keys: [{id: a, secret: '${NEW}'}]}",
            REGISTERED,
            {},
            [
                (
                    "gateway.yaml:1:43: vault.encryption_keys[0].secret reads NEW, "
                    "which is not set in the environment; route 'a' needs it"
                )
            ],
        ),
    ],
)
def test_a_secret_is_missing_only_when_something_needs_it(
    load, settings_text, fields, environ, expected
):
    Path("gateway.yaml").write_text(settings_text, encoding="utf-8")
    settings = load_settings(Path("gateway.yaml"), environ)
    assert missing_secrets(settings, load(HEAD + route(**fields))) == expected


def test_both_files_are_told_of_in_one_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("gateway.yaml").write_text("listen: {prot: 1}", encoding="utf-8")
    Path("routes.yaml").write_text(HEAD + route(path="a"), encoding="utf-8")
    with pytest.raises(ConfigurationError) as raised:
        load_configuration(Path("gateway.yaml"), Path("routes.yaml"), {})
    assert [line.split(": ")[0] for line in raised.value.complaints] == [
        "gateway.yaml:1:10",
        "routes.yaml:4:21",
    ]


def test_missing_secrets_are_complaints_of_the_whole(tmp_path):
    routes = tmp_path / "routes.yaml"
    routes.write_text(HEAD + route(auth="app_token"), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="GATEWAY_TOKEN_SECRET"):
        load_configuration(None, routes, {})
    settings, route_file = load_configuration(None, routes, {"GATEWAY_TOKEN_SECRET": "x" * 32})
    assert settings.app_tokens.secrets[0].secret is not None
    assert [route.name for route in route_file.routes] == ["a"]

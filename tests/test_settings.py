"""gateway.yaml and the environment: what is read, and how each mistake is told."""

import base64
import ipaddress
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.errors import ConfigurationError
from gateway.settings import Settings, load_settings
from gateway.yamlfile import Document

SHIPPED = Path(__file__).parent.parent / "config" / "gateway.yaml"
VAULT_KEY = base64.b64encode(bytes(32)).decode()


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Reads a text as gateway.yaml."""
    monkeypatch.chdir(tmp_path)

    def load(text, environ=None):
        Path("gateway.yaml").write_text(text, encoding="utf-8")
        return load_settings(Path("gateway.yaml"), environ or {})

    return load


@pytest.fixture
def complaints(load):
    """What is said of a text as gateway.yaml."""

    def complaints(text, environ=None):
        with pytest.raises(ConfigurationError) as raised:
            load(text, environ)
        return list(raised.value.complaints)

    return complaints


def test_no_file_at_all_gives_the_defaults():
    settings = load_settings(None, {})
    assert settings.listen.port == 8080
    assert settings.store.url == "memory://"
    assert settings.rate_limit.requests == 1000
    assert settings.plans == ("free", "standard", "professional")
    assert settings.app_tokens.secrets[0].id == "k1"
    assert settings.app_tokens.secrets[0].secret is None


def test_the_shipped_file_shows_every_field_with_its_default():
    assert load_settings(SHIPPED, {}).model_dump() == Settings().model_dump()
    shown = Document.read(SHIPPED, {}).value
    for section, field in Settings.model_fields.items():
        inner = getattr(field.annotation, "model_fields", {})
        assert section in shown
        if inner:
            assert list(shown[section]) == list(inner), section


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "listen:\n", "{}", "bounds: null\n"])
def test_a_file_or_section_without_anything_in_it_means_the_defaults(load, text):
    assert load(text).model_dump() == Settings().model_dump()


def test_default_secrets_are_read_from_the_environment():
    environ = {"GATEWAY_TOKEN_SECRET": "s" * 32, "GATEWAY_VAULT_KEY": VAULT_KEY}
    settings = load_settings(None, environ)
    assert settings.app_tokens.secrets[0].secret.get_secret_value() == "s" * 32
    assert settings.vault.encryption_keys[0].secret.get_secret_value() == VAULT_KEY


def test_variables_are_read_inside_any_text(load):
    settings = load(
        'store: {url: "redis://:${PASSWORD}@${HOST}:6379/0"}', {"PASSWORD": "a:b #c", "HOST": "r"}
    )
    assert settings.store.url == "redis://:a:b #c@r:6379/0"


def test_a_value_from_the_environment_is_not_read_again(load):
    settings = load('app_tokens: {issuer: "${A}"}', {"A": "${B}", "B": "no"})
    assert settings.app_tokens.issuer == "${B}"


def test_an_empty_variable_is_an_unset_one(load):
    assert load("{}", {"GATEWAY_TOKEN_SECRET": ""}).app_tokens.secrets[0].secret is None


def test_words_of_older_yaml_are_plain_text(load):
    settings = load("app_tokens: {issuer: yes, audience: 2027-01-01}")
    assert (settings.app_tokens.issuer, settings.app_tokens.audience) == ("yes", "2027-01-01")


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Settings().listen.port = 1


def test_networks_are_parsed(load):
    settings = load('client_ip: {trusted_proxies: [10.0.0.0/8, 192.0.2.1, "2001:db8::/32"]}')
    assert settings.client_ip.trusted_proxies == (
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_network("192.0.2.1/32"),
        ipaddress.ip_network("2001:db8::/32"),
    )


@pytest.mark.parametrize(
    ("environ", "read", "value"),
    [
        ({"GATEWAY_LISTEN__PORT": "9000"}, lambda s: s.listen.port, 9000),
        ({"GATEWAY_RATE_LIMIT__EXEMPT": "[/a]"}, lambda s: s.rate_limit.exempt, ("/a",)),
        ({"GATEWAY_ADMIN__TOKEN": "null"}, lambda s: s.admin.token, None),
        ({"GATEWAY_CORS__ORIGINS": "['*']"}, lambda s: s.cors.origins, ("*",)),
        ({"GATEWAY_APP_TOKENS__ISSUER": "${X}", "X": "y"}, lambda s: s.app_tokens.issuer, "y"),
        (
            {"GATEWAY_LISTEN__TLS__CERTIFICATE": "a", "GATEWAY_LISTEN__TLS__KEY": "b"},
            lambda s: (s.listen.tls.certificate, s.listen.tls.key),
            ("a", "b"),
        ),
        ({"GATEWAY_TOKEN_SECRET": "x", "GATEWAYX__Y": "z"}, lambda s: s.listen.port, 1234),
    ],
)
def test_the_environment_goes_before_the_file(load, environ, read, value):
    text = "listen: {port: 1234}\nadmin: {token: abc}\n"
    if "GATEWAY_TOKEN_SECRET" in environ:
        text += "app_tokens: {secrets: []}\n"
    assert read(load(text, environ)) == value


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        (
            {"GATEWAY_LISTN__PORT": "1"},
            "GATEWAY_LISTN__PORT: unknown field 'listn'; did you mean 'listen'?",
        ),
        (
            {"GATEWAY_LISTEN__PROT": "1"},
            "GATEWAY_LISTEN__PROT: unknown field 'prot' in listen; did you mean 'port'?",
        ),
        (
            {"GATEWAY_LISTEN__PORT": "many"},
            "GATEWAY_LISTEN__PORT: listen.port must be a whole number",
        ),
        ({"GATEWAY_PLANS__FREE": "1"}, "GATEWAY_PLANS__FREE: plans has no fields of its own"),
        (
            {"GATEWAY_LISTEN__PORT": "[1"},
            (
                "GATEWAY_LISTEN__PORT: not valid YAML: did not find expected ',' or ']'; "
                "look for a quote, bracket or space too few"
            ),
        ),
        (
            {"GATEWAY_STORE__URL": "redis://${NOWHERE}"},
            (
                "GATEWAY_STORE__URL: store.url reads NOWHERE, which is not set in the environment; "
                "set it"
            ),
        ),
    ],
)
def test_a_wrong_variable_is_named(complaints, environ, complaint):
    assert complaints("plans: [free]\n", environ) == [complaint]


def test_nothing_is_left_of_a_value_that_the_environment_replaces(load, complaints):
    text = "app_tokens: {secrets: [{id: a, secret: '${NOPE}'}]}\nlogging: {level: '${LEVEL}'}"
    environ = {
        "GATEWAY_APP_TOKENS__SECRETS": "[{id: b, secret: " + "x" * 32 + "}]",
        "LEVEL": "info",
    }
    settings = load(text, environ)
    assert settings.unset(("app_tokens", "secrets", 0, "secret")) is None
    assert settings.place(("app_tokens", "secrets", 0, "secret")) == "GATEWAY_APP_TOKENS__SECRETS"
    assert complaints(text, {**environ, "GATEWAY_LOGGING__LEVEL": "infos"}) == [
        (
            "GATEWAY_LOGGING__LEVEL: logging.level must be one of debug, info, warning, error; "
            "did you mean 'info'?"
        )
    ]


LIST = "must be a list, as in [one, two]"
FIELDS = "must be fields with values, as in {name: value}"
TEXT = "must be text; if it looks like a number or a word of YAML, put it in quotes"
YAML = "not valid YAML: {}; look for a quote, bracket or space too few"
STORE = "store.url isn't a complete address of this kind; write it as in "
VAULT = "must be base64 of exactly 32 bytes; `openssl rand -base64 32` makes one"
ADDRESS = "must be an address, as in https://example.com/path"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("listn: {}", "1:1: unknown field 'listn'; did you mean 'listen'?"),
        ("\nlisten: {prot: 1}", "2:10: unknown field 'prot' in listen; did you mean 'port'?"),
        ("shutdown: {x: 1}", "1:12: unknown field 'x' in shutdown; known: grace, deadline"),
        (
            "app_tokens: {secrets: [{id: a, sekret: x}]}",
            "1:32: unknown field 'sekret' in app_tokens.secrets[0]; did you mean 'secret'?",
        ),
        (
            "listen: {port: 1}\nstore: {}\nlisten: {}",
            "3:1: 'listen' was given already in line 1; leave one of the two out",
        ),
        ("a: [1, 2", "2:1: " + YAML.format("did not find expected ',' or ']'")),
        ("\tlisten: 1", "1:1: " + YAML.format("found character that cannot start any token")),
        ("listen: *x", "1:9: " + YAML.format("found an alias")),
        (
            "a: 1\n---\nb: 1",
            "2:1: " + YAML.format("but found another document"),
        ),
        ("plans: ['\x01']", "1:1: not valid YAML: it holds a character that can't be"),
        ("plans: " + "[" * 100_000, "1:71: " + YAML.format("nested more than 64 levels deep")),
        (
            "listen: &a {}\nadmin: *a",
            "1:9: anchors and aliases (& and *) aren't read; write it out again",
        ),
        ("plans: [!x free]", "1:9: tags (!) aren't read; put the text in quotes"),
        ("1: {}", "1:1: a field's name must be text; put it in quotes"),
        ("- listen", f"1:1: the file {FIELDS}"),
        ("listen: 8080", f"1:9: listen {FIELDS}"),
        ("listen: {port: '8080'}", "1:16: listen.port must be a whole number"),
        ("listen: {port: true}", "1:16: listen.port must be a whole number"),
        ("listen: {port: 70000}", "1:16: listen.port must be at most 65535; it is 70000"),
        ("listen: {host: 12}", f"1:16: listen.host {TEXT}"),
        (
            "listen: {host: ''}",
            "1:16: listen.host must be text without spaces around it or control characters",
        ),
        ("listen: {tls: {key: a}}", "1:15: listen.tls.certificate is missing"),
        ("listen: {tls: {certificate: a}}", "1:15: listen.tls.key is missing"),
        (
            "listen: {tls: {key: a, certificates: [{certificate: a, key: b}]}}",
            "1:15: listen.tls.certificate is missing",
        ),
        (
            "listen: {tls: {certificates: [{certificate: a}]}}",
            "1:31: listen.tls.certificates[0].key is missing",
        ),
        (
            "listen: {proxy_protocol: {trusted: []}}",
            "1:36: listen.proxy_protocol.trusted must not be empty",
        ),
        ("rate_limit: {requests: 0}", "1:24: rate_limit.requests must be at least 1; it is 0"),
        ("rate_limit: {enabled: yes}", "1:23: rate_limit.enabled must be true or false"),
        ("rate_limit: {exempt: /}", f"1:22: rate_limit.exempt {LIST}"),
        (
            "rate_limit: {when_store_is_down: alow}",
            (
                "1:34: rate_limit.when_store_is_down must be one of local, allow, deny; "
                "did you mean 'allow'?"
            ),
        ),
        ("tracing: {sample: 1.5}", "1:19: tracing.sample must be at most 1; it is 1.5"),
        ("tracing: {sample: .inf}", "1:19: tracing.sample must be a finite number"),
        ("plans: []", "1:8: plans must not be empty"),
        (
            "plan_limits: {standrd: {daily: 5}}",
            ("1:15: plan_limits names 'standrd', which isn't in plans; did you mean 'standard'?"),
        ),
        (
            "plan_limits: {free: {daily: 0}}",
            "1:29: plan_limits.free.daily must be at least 1; it is 0",
        ),
        ("plans: [a, b, a]", "1:15: plans has 'a' twice; rename one"),
        (
            "client_ip: {trusted_proxies: [10.0.0.1/8]}",
            (
                "1:31: client_ip.trusted_proxies[0] names one address inside a network; "
                "did you mean '10.0.0.0/8'?"
            ),
        ),
        (
            "client_ip: {trusted_proxies: [here]}",
            "1:31: client_ip.trusted_proxies[0] must be an address or a network, as in 10.0.0.0/8",
        ),
        (
            "app_tokens: {secrets: [{id: a, secret: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx}]}",
            (
                "1:40: app_tokens.secrets[0].secret must have at least 32 bytes; "
                "`openssl rand -base64 48` makes one"
            ),
        ),
        (
            f"app_tokens: {{secrets: [{{id: a}}, {{id: a, secret: {'x' * 32}}}]}}",
            "1:38: app_tokens.secrets has 'a' twice; rename one",
        ),
        (
            "app_tokens: {refresh: {idle: 600}}",
            (
                "1:23: app_tokens.refresh ends after 600 s, before the access token does "
                "(app_tokens.lifetime is 604800): shorten that, to minutes"
            ),
        ),
        (
            "app_tokens: {refresh: {grace: 61}}",
            "1:31: app_tokens.refresh.grace must be at most 60; it is 61",
        ),
        (
            "vault: {encryption_keys: [{id: a, secret: QUJD}]}",
            f"1:43: vault.encryption_keys[0].secret {VAULT}",
        ),
        (
            f"vault: {{encryption_keys: [{{id: a, secret: '*{VAULT_KEY}'}}]}}",
            f"1:43: vault.encryption_keys[0].secret {VAULT}",
        ),
        (
            "vault: {account: spot}",
            (
                "1:18: vault.account is spot, and vault.binance_url is futures' host; "
                "set that to https://api.binance.com"
            ),
        ),
        ("google: {certificates_url: ftp://x}", f"1:28: google.certificates_url {ADDRESS}"),
        ("apple: {keys_url: 'https://x:0/'}", f"1:19: apple.keys_url {ADDRESS}"),
        (
            "admin: {token: 'a b'}",
            "1:16: admin.token must be one or more visible ASCII characters, without spaces",
        ),
        ("cors: {headers: []}", "1:7: cors.origins is missing"),
        (
            "cors: {origins: [https://a.example/x]}",
            (
                '1:18: cors.origins[0] must be "*" or scheme and host alone, '
                "as in https://app.example.com"
            ),
        ),
        (
            "store: {url: 'rediss//x'}",
            (
                "1:14: store.url must begin with memory://, redis://, rediss://, unix://, "
                "redis+sentinel://, rediss+sentinel://, redis+cluster://, rediss+cluster://"
            ),
        ),
        (
            "store: {url: 'reddis://x'}",
            (
                "1:14: store.url must begin with memory://, redis://, rediss://, unix://, "
                "redis+sentinel://, rediss+sentinel://, redis+cluster://, rediss+cluster://; "
                "did you mean 'redis'?"
            ),
        ),
        ("store: {url: 'memory://x'}", f"1:14: {STORE}memory://"),
        ("store: {url: 'redis://'}", f"1:14: {STORE}redis://host:6379/0"),
        ("store: {url: 'redis://h/x'}", f"1:14: {STORE}redis://host:6379/0"),
        ("store: {url: 'rediss://h:99999'}", f"1:14: {STORE}rediss://host:6379/0"),
        ("store: {url: 'redis://a,b/0'}", f"1:14: {STORE}redis://host:6379/0"),
        ("store: {url: 'unix://x'}", f"1:14: {STORE}unix:///run/redis/redis.sock"),
        (
            "store: {url: 'redis+sentinel://h:1'}",
            f"1:14: {STORE}redis+sentinel://host:26379,host:26379/master/0",
        ),
        (
            "store: {url: 'redis+cluster://h:1,i:1/1'}",
            f"1:14: {STORE}redis+cluster://host:6379,host:6379",
        ),
        (
            "store: {url: 'redis://:1/canary@h'}",
            "1:14: store.url has a '/' in its user or password; write it as %2F",
        ),
        (
            "listen: {workers: 2}",
            (
                "1:19: listen.workers is 2, but memory:// is seen by one process alone; "
                "set it to 1, or store.url to a Redis"
            ),
        ),
        (
            "listen: {port: 9901}",
            "1:1: admin.port is that of listen (9901); choose another",
        ),
        (
            "logging: {level: '${X'}",
            "1:18: after '${' a variable's name and '}' must follow, as in ${NAME}",
        ),
        (
            "app_tokens: {issuer: '${A}${B}'}",
            "1:22: app_tokens.issuer reads A and B, which are not set in the environment; set it",
        ),
        (
            "client_ip: {trusted_proxies: ['${A}']}",
            (
                "1:31: client_ip.trusted_proxies[0] reads A, which is not set in the environment; "
                "set it"
            ),
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(complaints, text, complaint):
    assert complaints(text) == [f"gateway.yaml:{complaint}"]


@pytest.mark.parametrize(
    "url",
    [
        "memory://",
        "redis://h",
        "redis://user:p@ss:w@h:6379/3",
        "rediss://[::1]:6379/0",
        "unix:///run/redis.sock",
        "unix:///run/redis.sock?db=2",
        "redis+sentinel://a:1,b:2/main/0",
        "redis+sentinel://:pw@a/main",
        "rediss+sentinel://a/main?ssl_ca_certs=/ca.pem",
        "redis+cluster://user:pw@a:1,[::1]:2",
        "rediss+cluster://a/0",
    ],
)
def test_every_kind_of_store_is_taken(load, url):
    assert load(f"store: {{url: '{url}'}}").store.url == url


def test_all_mistakes_are_told_in_the_order_of_the_file(complaints):
    told = complaints(
        "listen: {prot: 1, workers: 0}\n"
        "plans: [free, free, Gold]\n"
        "plans: []\n"
        "cors: {origins: []}\n"
        "app_tokens: {secrets: [{id: a}, {id: a, secret: short}, {secret: null}]}\n",
        {"GATEWAY_STORE__URL": "nowhere"},
    )
    assert [line.split(" ")[0] for line in told] == [
        "GATEWAY_STORE__URL:",
        "gateway.yaml:1:10:",
        "gateway.yaml:1:28:",
        "gateway.yaml:2:15:",
        "gateway.yaml:2:21:",
        "gateway.yaml:3:1:",
        "gateway.yaml:4:17:",
        "gateway.yaml:5:38:",
        "gateway.yaml:5:49:",
        "gateway.yaml:5:57:",
    ]


def test_lines_count_as_numbers(complaints):
    told = complaints("\n" * 8 + "a: 1\nb: 1\n")
    assert [line.split(":")[1] for line in told] == ["9", "10"]


def test_a_file_that_cannot_be_read_is_a_complaint(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nope.yaml:1:1: can't read this file: no such"):
        load_settings(tmp_path / "nope.yaml", {})
    with pytest.raises(ConfigurationError, match="can't read this file: is a directory"):
        load_settings(tmp_path, {})
    (tmp_path / "latin.yaml").write_bytes(b"# \xe9\n")
    with pytest.raises(ConfigurationError, match=r"latin.yaml:1:1: this file isn't UTF-8"):
        load_settings(tmp_path / "latin.yaml", {})


CANARY = "canary-5e0c"


@pytest.mark.parametrize(
    "text",
    [
        "app_tokens: {secrets: [{id: a, secret: '${S}'}]}",
        "vault: {encryption_keys: [{id: a, secret: '${S}'}]}",
        "admin: {token: '${S} x'}",
        "store: {url: '${S}'}",
        "store: {url: 'redis://:${S}@h/x'}",
        "logging: {level: '${S}'}",
        "plans: ['${S}', '${S}']",
        "listen: {port: '${S}'}",
        "client_ip: {trusted_proxies: ['${S}']}",
        f"app_tokens: {{secrets: [{{id: a, secret: {CANARY}}}]}}",
        f"app_tokens: {{secrets: [{CANARY}]}}",
        f"store: {{url: '{CANARY}://x'}}",
        f"admin: {{token: *{CANARY}}}",
        f"admin: {{token: !{CANARY} x}}",
        f"admin: {{token: {CANARY}: x}}",
        f"admin: {{token: '{CANARY}",
    ],
)
def test_no_complaint_shows_a_secret(complaints, text):
    assert CANARY not in "\n".join(complaints(text, {"S": CANARY})).lower()


def test_no_settings_object_shows_a_secret():
    environ = {
        "GATEWAY_TOKEN_SECRET": CANARY * 4,
        "GATEWAY_ADMIN__TOKEN": CANARY,
        "GATEWAY_STORE__URL": f"redis://:{CANARY}@h",
    }
    settings = load_settings(None, environ)
    assert settings.admin.token.get_secret_value() == CANARY
    assert CANARY not in repr(settings) + str(settings) + repr(settings.store)


def test_a_section_that_is_no_mapping_is_overridden_by_its_name_alone(tmp_path):
    assert load_settings(None, {"GATEWAY_PLANS": "[basic, pro]"}).plans == ("basic", "pro")
    with pytest.raises(ConfigurationError) as refusal:
        load_settings(None, {"GATEWAY_PLANS": "[Basic!]"})
    assert "GATEWAY_PLANS" in str(refusal.value)

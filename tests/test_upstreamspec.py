"""Upstreams in routes.yaml: what is read, and how each mistake is told."""

import textwrap
from pathlib import Path

import pytest
from authority import Authority

from gateway.errors import ConfigurationError
from gateway.routefile import load_routes
from gateway.upstreamspec import WeightedTarget


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Reads fields of an upstream `u`; they begin in column 17 of line 2."""
    monkeypatch.chdir(tmp_path)

    def load(fields, route=""):
        text = f"version: 1\nupstreams: {{u: {{{fields}}}}}\nroutes: [{route}]"
        Path("routes.yaml").write_text(textwrap.dedent(text), encoding="utf-8")
        return load_routes(Path("routes.yaml"), None, {})

    return load


@pytest.fixture
def complaints(load):
    def complaints(fields, route=""):
        with pytest.raises(ConfigurationError) as raised:
            load(fields, route)
        return [line.removeprefix("routes.yaml:") for line in raised.value.complaints]

    return complaints


@pytest.fixture
def files(tmp_path):
    """Certificates and keys, good and bad, in the directory that paths count from."""
    authority = Authority(tmp_path, "ca")
    authority.issue("gateway")
    authority.issue("other")
    authority.issue("sealed", password=b"pass")
    (tmp_path / "none.txt").write_text("not a certificate")
    return authority


def test_an_upstream_has_defaults_that_do_no_harm(load):
    up = load("targets: [http://h]").upstreams["u"]
    assert up.model_dump(exclude={"name", "targets", "timeout", "host", "headers"}) == {
        "health": None,
        "ejection": {
            "failures": 5,
            "seconds": 10,
            "longest": 300,
            "share": 0.5,
            "statuses": (),
        },
        "slow_start": 10,
        "max_connections": 10000,
        "max_requests": 4096,
        "max_queue": 1024,
        "queue_timeout": 5,
        "retry": {"attempts": 3, "budget": 0.2},
        "resolve_every": 30,
        "tls": {
            "ca": None,
            "server_name": None,
            "certificate": None,
            "key": None,
            "verify": True,
        },
    }


def test_targets_are_urls_or_urls_with_a_weight(load):
    targets = "['http://h:1/', {url: 'unix:///run/a.sock', weight: 2.5}, {url: 'https://[::1]'}]"
    up = load(f"targets: {targets}").upstreams["u"]
    assert up.weighted_targets == (
        WeightedTarget(url="http://h:1", weight=1),
        WeightedTarget(url="unix:///run/a.sock", weight=2.5),
        WeightedTarget(url="https://[::1]", weight=1),
    )


def test_a_whole_upstream_is_read(load, files):
    up = load(
        "targets: ['https://h'], max_requests: 5, max_queue: 0, queue_timeout: 0.5, "
        "retry: {attempts: 2, budget: 0}, ejection: {share: 0, statuses: [503]}, slow_start: 0, "
        "health: {path: /h, timeout: 1, healthy_after: 3, unhealthy_after: 1}, "
        "tls: {ca: ca.pem, server_name: S.internal, certificate: gateway.pem, key: gateway.key}"
    ).upstreams["u"]
    assert (up.retry.attempts, up.retry.budget, up.max_queue) == (2, 0, 0)
    assert (up.ejection.share, up.ejection.statuses) == (0, (503,))
    assert (up.health.timeout, up.health.healthy_after, up.health.unhealthy_after) == (1, 3, 1)
    assert (up.tls.ca, up.tls.server_name, up.tls.key) == ("ca.pem", "s.internal", "gateway.key")
    assert up.tls.context().get_ca_certs()


def test_a_route_may_have_attempts_of_its_own(load):
    route = "{name: a, path: /a, auth: public, upstream: u, retry: {attempts: 1}}"
    assert load("targets: [http://h]", route).routes[0].retry.attempts == 1


def test_equal_files_make_equal_upstreams(load):
    fields = "targets: ['https://h', {url: 'http://i', weight: 2}], headers: {X-K: a}"
    assert load(fields).upstreams["u"] == load(fields).upstreams["u"]
    assert load(fields).upstreams["u"] != load(f"{fields}, max_queue: 1").upstreams["u"]


SOCKET = "must name a socket by its whole path, as in unix:///run/app.sock"


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ("targets: ['unix://run/a.sock']", f"2:27: upstream 'u': targets[0] {SOCKET}"),
        ("targets: ['unix:/run/a.sock']", f"2:27: upstream 'u': targets[0] {SOCKET}"),
        ("targets: ['unix:///run/']", f"2:27: upstream 'u': targets[0] {SOCKET}"),
        ("targets: ['unix:///a b']", f"2:27: upstream 'u': targets[0] {SOCKET}"),
        (
            f"targets: ['unix:///{'x' * 107}']",
            "2:27: upstream 'u': targets[0] has a path of more than 107 characters",
        ),
        (
            "targets: [{url: 'h:1'}]",
            (
                "2:33: upstream 'u': targets[0].url must be http:// or https:// with host and "
                "port, or unix:// with a path, as in http://10.0.0.5:9001"
            ),
        ),
        ("targets: [{weight: 2}]", "2:27: upstream 'u': targets[0].url is missing"),
        (
            "targets: [{url: 'http://h', weight: 0}]",
            "2:53: upstream 'u': targets[0].weight must be more than 0; it is 0",
        ),
        (
            "targets: [{url: 'http://h', wieght: 1}]",
            "2:45: unknown field 'wieght' in upstream 'u': targets[0]; did you mean 'weight'?",
        ),
        (
            "targets: ['http://h', 'http://h/']",
            (
                "2:39: upstream 'u': targets[1] is targets[0] once more; leave one of the two "
                "out, or give one of them a weight"
            ),
        ),
        (
            "targets: ['http://h'], max_requests: 0",
            "2:54: upstream 'u': max_requests must be at least 1; it is 0",
        ),
        (
            "targets: ['http://h'], retry: {budget: 2}",
            "2:56: upstream 'u': retry.budget must be at most 1; it is 2",
        ),
        (
            "targets: ['http://h'], ejection: {share: 1}",
            "2:58: upstream 'u': ejection.share must be less than 1; it is 1",
        ),
        (
            "targets: ['http://h'], ejection: {statuses: [500]}",
            "2:62: upstream 'u': ejection.statuses[0] must be one of 502, 503, 504",
        ),
        (
            "targets: ['http://h'], balance: random",
            (
                "2:40: unknown field 'balance' in upstream 'u'; known: targets, timeout, health, "
                "ejection, slow_start, max_connections, max_requests, max_queue, queue_timeout, "
                "retry, resolve_every, tls, host, headers"
            ),
        ),
        (
            "targets: ['http://h'], tls: {verify: true}",
            "2:45: upstream 'u': tls is for https:// targets, and there is none; leave it out",
        ),
        (
            "targets: ['https://h'], tls: {ca: gone.pem}",
            "2:51: upstream 'u': tls.ca can't be read: no such file or directory",
        ),
        (
            "targets: ['https://h'], tls: {ca: none.txt}",
            "2:51: upstream 'u': tls.ca doesn't hold certificates in PEM form",
        ),
        (
            "targets: ['https://h'], tls: {ca: ca.pem, verify: false}",
            "2:51: upstream 'u': tls.ca has no use while verify is false; leave one of the two out",
        ),
        (
            "targets: ['https://h'], tls: {certificate: gateway.pem}",
            "2:60: upstream 'u': tls.certificate needs key beside it",
        ),
        (
            "targets: ['https://h'], tls: {key: gateway.key}",
            "2:52: upstream 'u': tls.key needs certificate beside it",
        ),
        (
            "targets: ['https://h'], tls: {certificate: gateway.pem, key: gone.key}",
            "2:78: upstream 'u': tls.key can't be read: no such file or directory",
        ),
        (
            "targets: ['https://h'], tls: {certificate: gateway.pem, key: other.key}",
            (
                "2:60: upstream 'u': tls.certificate doesn't hold a certificate in PEM form "
                "with the key beside it"
            ),
        ),
        (
            "targets: ['https://h'], tls: {certificate: sealed.pem, key: sealed.key}",
            (
                "2:60: upstream 'u': tls.certificate doesn't hold a certificate in PEM form "
                "with the key beside it"
            ),
        ),
    ],
)
def test_a_mistake_in_an_upstream_is_told_with_its_place(complaints, files, fields, complaint):
    assert complaints(fields) == [complaint]


def test_a_routes_retry_needs_attempts_and_has_no_budget(complaints):
    route = "{name: a, path: /a, auth: public, upstream: u, retry: {budget: 0.1}}"
    assert complaints("targets: [http://h]", route) == [
        "3:64: route 'a': retry.attempts is missing",
        "3:65: unknown field 'budget' in route 'a': retry; known: attempts",
    ]


def test_a_backend_that_is_believed_unseen_is_warned_of(load):
    route = "{name: a, path: /a, auth: public, upstream: u}"
    loaded = load("targets: ['https://h'], tls: {verify: false}", route)
    assert loaded.warnings == (
        "routes.yaml:2:55: upstream 'u': tls.verify is false: whoever answers is believed",
    )

"""Who is in a set of networks, what a file of them may hold, and whom a gateway lets in by them."""

import ipaddress
import os
import signal
from pathlib import Path

import pytest
from backend import backend_in_thread
from gateway_process import until
from harness import Running, open_gateway, route, upstream
from hypothesis import given
from hypothesis import strategies as st
from redis_process import eventually
from reloads import Files, running, statuses

from gateway.errors import ConfigurationError
from gateway.networks import BadNetworks, NetworkSet, network, read_networks
from gateway.settings import load_settings
from gateway.store.keys import digest

V4 = st.builds(
    lambda first, length: ipaddress.IPv4Network((first, length), strict=False),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)
V6 = st.builds(
    lambda first, length: ipaddress.IPv6Network((first, length), strict=False),
    st.integers(0, 2**128 - 1),
    st.integers(0, 128),
)


@given(st.lists(V4 | V6, max_size=12), st.data())
def test_an_address_is_in_a_set_when_it_is_in_one_of_its_networks(networks, data):
    edges = [
        address + step
        for one in networks
        for address in (one.network_address, one.broadcast_address)
        for step in (-1, 0, 1)
        if 0 <= int(address) + step < 2**one.max_prefixlen
    ]
    address = data.draw(st.ip_addresses() | (st.sampled_from(edges) if edges else st.nothing()))
    expected = any(address in one for one in networks if one.version == address.version)
    assert (str(address) in NetworkSet.of(networks)) is expected


@pytest.mark.parametrize("address", ["", "unix:", "203.0.113", "fe80::1%eth0"])
def test_what_is_no_address_is_in_no_set(address):
    assert address not in NetworkSet.of([network("0.0.0.0/0"), network("::/0")])


def test_a_file_has_a_network_on_each_line(tmp_path):
    file = tmp_path / "networks"
    file.write_text(
        "\ufeff# ours\n10.0.0.0/8\n\n  192.0.2.7   # one\n2001:db8::/32\n::ffff:198.51.100.0/120\n"
    )
    assert list(map(str, read_networks(file))) == [
        "10.0.0.0/8",
        "192.0.2.7/32",
        "2001:db8::/32",
        "198.51.100.0/24",
    ]


@pytest.mark.parametrize(
    ("line", "column", "complaint"),
    [
        ("10.0.0.0/33", 1, "this line must be an address or a network, as in 10.0.0.0/8"),
        ("  10.0.0.256", 3, "this line must be an address or a network, as in 10.0.0.0/8"),
        ("10.0.0.0 10.0.0.1", 1, "this line must be an address or a network, as in 10.0.0.0/8"),
        ("10.0.0.0/", 1, "this line must be an address or a network, as in 10.0.0.0/8"),
        ("10.0.0.0/٨", 1, "this line must be an address or a network, as in 10.0.0.0/8"),
        ("\xe9", 1, "this line must be an address or a network, as in 10.0.0.0/8"),
        (
            "10.0.0.1/8",
            1,
            "this line names one address inside a network; did you mean '10.0.0.0/8'?",
        ),
    ],
)
def test_a_bad_line_is_told_with_its_place(tmp_path, line, column, complaint):
    file = tmp_path / "networks"
    file.write_text(f"# first\n{line}\n")
    settings = tmp_path / "gateway.yaml"
    settings.write_text(f"networks: {{allow_files: ['{file}']}}")
    with pytest.raises(ConfigurationError) as wrong:
        load_settings(settings, {})
    assert wrong.value.complaints == (f"{file}:2:{column}: {complaint}",)


def test_of_a_file_that_is_none_the_first_lines_are_told(tmp_path):
    file = tmp_path / "networks"
    file.write_text("x\n" * 100_000)
    with pytest.raises(BadNetworks) as bad:
        read_networks(file)
    assert [place.line for place, _ in bad.value.problems] == list(range(1, 22))
    assert bad.value.problems[-1][1] == "and what follows is not read"


def test_a_file_that_is_not_there_is_told_where_it_is_named(tmp_path):
    settings = tmp_path / "gateway.yaml"
    settings.write_text(f"networks:\n  deny_files: ['{tmp_path}/none']")
    with pytest.raises(ConfigurationError) as wrong:
        load_settings(settings, {})
    assert wrong.value.complaints == (
        f"{settings}:2:16: networks.deny_files[0] can't be read: no such file or directory",
    )


async def status(gateway: Running, path: str, client: str) -> int:
    answer = await gateway.talk(
        f"GET {path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\r\n".encode()
    )
    return int(answer.split()[1])


@pytest.fixture
def backend():
    with backend_in_thread() as started:
        yield started


@pytest.mark.parametrize(
    ("lists", "routes", "answers"),
    [
        pytest.param(
            {"deny": ["203.0.113.0/24"]},
            {},
            {"203.0.113.9": (403, 403), "198.51.100.1": (200, 200)},
            id="deny",
        ),
        pytest.param(
            {"allow": ["203.0.113.0/24", "2001:db8::/32"], "deny": ["203.0.113.9"]},
            {},
            {
                "203.0.113.9": (403, 403),
                "203.0.113.8": (200, 200),
                "198.51.100.1": (403, 403),
                "2001:db8::1": (200, 200),
                "::1": (403, 403),
            },
            id="allow, and deny goes first",
        ),
        pytest.param(
            {"deny": ["198.51.100.0/24"]},
            {"allow": ["203.0.113.0/24", "198.51.100.0/24"]},
            {"203.0.113.9": (200, 200), "198.51.100.1": (403, 403), "192.0.2.1": (200, 403)},
            id="a route's own, of those whom the settings let in",
        ),
        pytest.param(
            {},
            {"deny": ["::ffff:203.0.113.0/120"]},
            {"203.0.113.9": (200, 403), "198.51.100.1": (200, 200)},
            id="IPv4-mapped",
        ),
        pytest.param({"allow_files": ["EMPTY"]}, {}, {"192.0.2.1": (403, 403)}, id="nobody"),
    ],
)
async def test_only_who_may_come_is_let_in(tmp_path, backend, lists, routes, answers):
    (tmp_path / "empty").write_text("# nobody\n")
    lists = {name: [str(tmp_path / "empty") if one == "EMPTY" else one for one in given]
             for name, given in lists.items()}  # fmt: skip
    table = {
        "upstreams": upstream(backend.url),
        "routes": [route("/own", name="own", networks=routes), route("/other", name="other")],
    }
    settings = {"networks": lists, "client_ip": {"trusted_proxies": ["127.0.0.0/8"]}}
    async with open_gateway(tmp_path, table, settings) as gateway:
        found = {
            client: (await status(gateway, "/other", client), await status(gateway, "/own", client))
            for client in answers
        }
        await eventually(lambda: len(gateway.log()) == 2 * len(answers))
        reasons = {line["reason"] for line in gateway.log() if line["status"] == 403}
    assert found == answers
    assert reasons == {"network_denied"}


async def test_who_is_denied_costs_no_count_and_reaches_nothing(tmp_path, backend):
    table = {"upstreams": upstream(backend.url), "routes": [route()]}
    settings = {
        "networks": {"deny": ["127.0.0.0/8"]},
        "rate_limit": {"requests": 1},
        "cors": {"origins": ["*"]},
    }
    async with open_gateway(tmp_path, table, settings) as gateway:
        for path in ("/", "/health", "/none", "/..", "/a", "/a"):
            assert await status(gateway, path, "192.0.2.1") == 403
        preflight = await gateway.talk(
            b"OPTIONS /a HTTP/1.1\r\nHost: a\r\nOrigin: https://a\r\n"
            b"Access-Control-Request-Method: GET\r\n\r\n"
        )
        assert preflight.startswith(b"HTTP/1.1 403 ")
        assert gateway.parts.limiter.counts.admitted == 0
    assert backend.requests == []


def test_a_changed_file_is_in_use_after_a_reload(tmp_path, redis_url):
    with backend_in_thread() as backend:
        files = Files(tmp_path, backend, redis_url)
        listed = tmp_path / "denied"
        listed.write_text("203.0.113.0/24\n")
        files.settings["networks"] = {"deny_files": [str(listed)]}
        files.settings["reload"]["watch"] = True
        with running(files) as gateway:
            assert statuses(gateway, "/always") == {200}
            replace(listed, "127.0.0.0/8\n")
            until(lambda: statuses(gateway, "/always") == {403}, "the file is watched")
            replace(listed, "127.0.0.0/33\n")
            until(lambda: f"{listed}:1:1: this line must be" in gateway.stderr(), "it is refused")
            assert statuses(gateway, "/always") == {403}
            replace(listed, "")
            os.kill(gateway.pid, signal.SIGHUP)
            until(lambda: statuses(gateway, "/always") == {200}, "nobody is denied")


def replace(path: Path, text: str) -> None:
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


@pytest.mark.parametrize(
    ("allow", "status_from_there"),
    [
        (None, 200),
        ("192.0.2.0/24", 200),
        ("203.0.113.0/24, 192.0.2.1", 200),
        ("2001:db8::/32", 403),
        ("203.0.113.0/24", 403),
        ("192.0.2.0/24, nonsense", 403),
        ("", 403),
    ],
)
async def test_a_key_is_good_from_its_own_networks_alone(
    tmp_path, backend, redis_url, allow, status_from_there
):
    table = {
        "upstreams": upstream(backend.url),
        "routes": [route("/a", "plan_key", plan="free", name="a")],
    }
    settings = {"store": {"url": redis_url}, "client_ip": {"trusted_proxies": ["127.0.0.0/8"]}}
    async with open_gateway(tmp_path, table, settings) as gateway:
        parts = gateway.parts
        record, key = await parts.keys.issue(42)
        await parts.plans.set(42, "free", None)
        if allow is not None:  # as billing may write it
            name = f"gw:key:{digest(key)}"
            await parts.store.client.hset(name, "allow", allow)
        answer = await gateway.talk(
            b"GET /a HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n"
            b"X-Primit-API-Key: " + key.encode() + b"\r\n\r\n"
        )
        assert int(answer.split()[1]) == status_from_there
        if status_from_there == 403:
            await eventually(lambda: len(gateway.log()) == 1)
            assert gateway.log()[0]["reason"] == "address_not_allowed"
        assert record.allow is None

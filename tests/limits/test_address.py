"""Whose address counts, by table."""

import pytest
from multidict import CIMultiDict

from gateway.limits import ClientAddresses
from gateway.sections import ClientIpSettings

PROXIES = ("10.0.0.0/8", "192.0.2.1", "2001:db8:ffff::/48", "::ffff:198.51.100.0/120")
PROXY, PROXY6 = "10.0.0.1", "2001:db8:ffff::1"
CLIENT, CLIENT6 = "203.0.113.7", "2001:db8::7"


def addresses(*proxies, prefix=64):
    return ClientAddresses(ClientIpSettings(trusted_proxies=proxies, ipv6_prefix=prefix))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        pytest.param(CLIENT, [], CLIENT, id="no proxy"),
        pytest.param(CLIENT, ["1.1.1.1"], CLIENT, id="a client that pretends"),
        pytest.param(PROXY, [], PROXY, id="a proxy's own request"),
        pytest.param(PROXY, [CLIENT], CLIENT, id="one proxy"),
        pytest.param("192.0.2.1", [CLIENT], CLIENT, id="a proxy named by address"),
        pytest.param("192.0.2.2", [CLIENT], "192.0.2.2", id="its neighbour is none"),
        pytest.param(PROXY, [f"1.1.1.1, {CLIENT}"], CLIENT, id="a spoofed element before"),
        pytest.param(PROXY, [f"{CLIENT}, 10.9.9.9"], CLIENT, id="two proxies"),
        pytest.param(PROXY, [f"1.1.1.1,{CLIENT},192.0.2.1,10.9.9.9"], CLIENT, id="three proxies"),
        pytest.param(PROXY, ["1.1.1.1", CLIENT], CLIENT, id="two headers, in order"),
        pytest.param(PROXY, [CLIENT, "10.9.9.9"], CLIENT, id="two headers, two proxies"),
        pytest.param(PROXY, ["10.7.7.7, 10.9.9.9"], "10.7.7.7", id="nothing but proxies"),
        pytest.param(PROXY, ["unknown"], PROXY, id="malformed alone"),
        pytest.param(PROXY, [f"{CLIENT}, unknown"], PROXY, id="malformed last"),
        pytest.param(PROXY, [f"{CLIENT}, x, 10.9.9.9"], "10.9.9.9", id="malformed in between"),
        pytest.param(PROXY, [f"x, {CLIENT}"], CLIENT, id="malformed before the client"),
        pytest.param(PROXY, [f"{CLIENT}, "], CLIENT, id="an empty element"),
        pytest.param(PROXY, [" , ,"], PROXY, id="empty elements alone"),
        pytest.param(PROXY, [f"\t{CLIENT} "], CLIENT, id="blanks around"),
        pytest.param(PROXY, [f"{CLIENT}:5678"], CLIENT, id="a port"),
        pytest.param(PROXY, [f"{CLIENT}:56789x"], PROXY, id="a bad port"),
        pytest.param(PROXY, [f"{CLIENT}:"], PROXY, id="no port after the colon"),
        pytest.param(PROXY, [CLIENT6], CLIENT6, id="IPv6"),
        pytest.param(PROXY, [f"[{CLIENT6}]"], CLIENT6, id="IPv6 in brackets"),
        pytest.param(PROXY, [f"[{CLIENT6}]:80"], CLIENT6, id="IPv6 in brackets with a port"),
        pytest.param(PROXY, [f"[{CLIENT6}"], PROXY, id="an open bracket"),
        pytest.param(PROXY, [f"[{CLIENT}]"], PROXY, id="IPv4 in brackets"),
        pytest.param(PROXY, ["2001:DB8:0:0:0::7"], CLIENT6, id="IPv6 in another form"),
        pytest.param(PROXY, ["[::1]:80"], "::1", id="the loopback"),
        pytest.param(PROXY, [f"::ffff:{CLIENT}"], CLIENT, id="IPv4-mapped"),
        pytest.param(PROXY, ["fe80::1%eth0"], "fe80::1", id="a zone"),
        pytest.param(PROXY, ["203.0.113.07"], PROXY, id="a leading zero"),
        pytest.param(PROXY, ["203.0.113"], PROXY, id="three numbers"),
        pytest.param(PROXY, ["٢٠٣.٠.١١٣.٧"], PROXY, id="digits beyond ASCII"),
        pytest.param(PROXY, ["1" * 5000], PROXY, id="very long"),
        pytest.param(PROXY, [", ".join(["10.1.1.1"] * 500)], "10.1.1.1", id="very many"),
        pytest.param(PROXY6, [CLIENT], CLIENT, id="an IPv6 proxy"),
        pytest.param("2001:db8:fffe::1", [CLIENT], "2001:db8:fffe::1", id="no IPv6 proxy"),
        pytest.param("::ffff:10.0.0.1", [CLIENT], CLIENT, id="an IPv4-mapped peer"),
        pytest.param("198.51.100.9", [CLIENT], CLIENT, id="a proxy named IPv4-mapped"),
        pytest.param("fe80::1%eth0", [CLIENT], "fe80::1", id="a peer with a zone"),
        pytest.param("", [CLIENT], "", id="a Unix socket"),
    ],
)
def test_the_client_is_the_first_from_the_right_that_is_no_proxy(peer, forwarded, client):
    headers = CIMultiDict([("x-forwarded-for", value) for value in forwarded])
    assert addresses(*PROXIES).resolve(peer, headers) == client


def test_without_trusted_proxies_the_header_is_not_even_read():
    assert addresses().resolve("::ffff:203.0.113.7", None) == CLIENT


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [(PROXY, True), (PROXY6, True), ("::ffff:10.0.0.1", True), (CLIENT, False), ("", False)],
)
def test_it_says_whom_it_trusts(peer, trusted):
    assert addresses(*PROXIES).trusts(peer) is trusted
    assert addresses().trusts(peer) is False


@pytest.mark.parametrize(
    ("address", "prefix", "bucket"),
    [
        (CLIENT, 64, CLIENT),
        ("::ffff:203.0.113.7", 64, CLIENT),
        ("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", 64, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3::", 56, "2001:db8:1::/56"),
        ("2001:db8::7", 128, "2001:db8::7/128"),
        ("::1", 64, "::/64"),
        ("", 64, ""),
    ],
)
def test_an_ipv6_client_is_limited_by_its_network(address, prefix, bucket):
    assert addresses(prefix=prefix).bucket(address) == bucket

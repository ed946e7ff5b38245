from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.proxy.headers import (
    HOP_BY_HOP,
    answer_lines,
    connection_names,
    forwarded_lines,
    head_lines,
    kind_of,
    request_drops,
    request_lines,
)

DROPS = request_drops(pass_credentials=False, takes_authorization=False, sets=())


def lines(*pairs: tuple[bytes, bytes], drops: frozenset[bytes] = DROPS, trusted: bool = False):
    return b"".join(request_lines(pairs, drops, trusted=trusted))


def fields(raw: Iterable[tuple[bytes, bytes]]) -> list[tuple[int, bytes, bytes]]:
    """As they come from a backend's connection."""
    return [(kind_of(name), name, value) for name, value in raw]


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Connection",
        b"Proxy-Authorization",
        b"TE",
        b"Trailer",
        b"Transfer-Encoding",
        b"Upgrade",
        b"Content-Length",
        b"Content_Length",
        b"Expect",
        b"Host",
        b"X-User-Id",
        b"x-user-id",
        b"X_User_Id",
        b"x-uSER_id",
        b"X-User-Email",
        b"X_USER_EMAIL",
        b"X-Plan",
        b"X-Auth-Pattern",
        b"X_Auth-Pattern",
        b"X-Backend-Key",
        b"x_backend_key",
        b"X-Forwarded-For",
        b"X-Forwarded-Anything",
        b"X_Forwarded_Proto",
        b"X-Real-IP",
        b"x_real_ip",
        b"Forwarded",
        b"X-Request-ID",
        b"X-Primit-API-Key",
        b"X_Primit_API_Key",
    ],
)
def test_a_field_that_is_the_gateways_to_say_never_passes_from_a_client(name: bytes) -> None:
    assert lines((name, b"forged")) == b""


def test_everything_else_passes_in_order_repeated_and_byte_for_byte() -> None:
    raw = (
        (b"Accept", b"*/*"),
        (b"X-Thing", b"1"),
        (b"cookie", b"a=b; c=\xff\xfe"),
        (b"X-Thing", b"2"),
        (b"X-User-Identity", b"not ours"),
        (b"Authorization", b"Basic Zm9v"),
        (b"traceparent", b"00-aa-bb-01"),
    )
    assert lines(*raw) == b"".join(b"%b: %b\r\n" % pair for pair in raw)


def test_a_trusted_proxys_forwarding_fields_pass_but_its_identity_fields_do_not() -> None:
    got = lines(
        (b"X-Forwarded-For", b"1.2.3.4"),
        (b"X-Forwarded-Port", b"443"),
        (b"X-Real-IP", b"1.2.3.4"),
        (b"Forwarded", b"for=1.2.3.4"),
        (b"X-User-Id", b"1"),
        trusted=True,
    )
    assert got == b"X-Forwarded-Port: 443\r\nX-Real-IP: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n"


@pytest.mark.parametrize(
    ("pass_credentials", "takes_authorization", "left"),
    [
        (False, False, [b"Authorization"]),
        (False, True, []),
        (True, False, [b"X-Primit-API-Key", b"Authorization"]),
        (True, True, [b"X-Primit-API-Key", b"Authorization"]),
    ],
)
def test_credentials_stop_here_unless_the_route_passes_them(
    *, pass_credentials: bool, takes_authorization: bool, left: list[bytes]
) -> None:
    drops = request_drops(
        pass_credentials=pass_credentials, takes_authorization=takes_authorization, sets=()
    )
    got = request_lines(
        ((b"X-Primit-API-Key", b"k"), (b"Authorization", b"t")), drops, trusted=False
    )
    assert [line.split(b":")[0] for line in got] == left


def test_a_field_that_the_upstream_sets_is_removed_from_the_client() -> None:
    drops = request_drops(pass_credentials=False, takes_authorization=False, sets=["X-Tenant"])
    assert lines((b"x_tenant", b"forged"), drops=drops) == b""


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["close"], set()),
        (["keep-alive, X-Secret"], {b"x-secret"}),
        (["a", "B , c,,"], {b"a", b"b", b"c"}),
        (["\udcff"], {b"?"}),
    ],
)
def test_connection_names_the_fields_that_end_at_this_hop(values: list[str], names: set) -> None:
    assert connection_names(values) == names


@pytest.mark.parametrize(
    ("trusted", "expected"),
    [
        (None, ("9.9.9.9", "http", "api.example")),
        ({}, ("9.9.9.9", "http", "api.example")),
        (
            {
                "X-Forwarded-For": "9.9.9.9, 10.0.0.2",
                "X-Forwarded-Proto": "https",
                "X-Forwarded-Host": "www.example",
            },
            ("9.9.9.9, 10.0.0.2, 10.0.0.1", "https", "www.example"),
        ),
    ],
)
def test_forwarded_fields_continue_a_trusted_chain_and_ignore_any_other(trusted, expected) -> None:
    fields = None if trusted is None else CIMultiDictProxy(CIMultiDict(trusted))
    got = forwarded_lines(
        client="9.9.9.9", peer="10.0.0.1", scheme="http", host="api.example", trusted=fields
    )
    names = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host")
    assert got == "".join(
        f"{name}: {value}\r\n" for name, value in zip(names, expected, strict=True)
    )


@given(st.text(max_size=30))
def test_a_value_can_never_make_a_second_line(value: str) -> None:
    try:
        got = head_lines({"X-User-Email": value})
    except ValueError:  # surrogates among them
        return
    assert got.endswith(b"\r\n")
    assert not {b"\r", b"\n", b"\0"} & {got[i : i + 1] for i in range(len(got) - 2)}


def test_an_answers_hop_by_hop_and_own_fields_are_dropped_and_the_rest_passes() -> None:
    raw = [(name.title(), b"x") for name in HOP_BY_HOP]
    raw += [(b"X-Request-ID", b"theirs"), (b"RateLimit", b"theirs"), (b"X-Named", b"x")]
    raw += [(b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"), (b"Content-Encoding", b"gzip")]
    got = answer_lines(fields(raw), frozenset({b"x-named"}), own_cors=False, chunked=False)
    assert got == [
        b"Set-Cookie: a=1\r\n",
        b"Set-Cookie: b=2\r\n",
        b"Content-Encoding: gzip\r\n",
    ]


def test_a_backends_cors_fields_are_dropped_where_the_gateway_speaks_cors() -> None:
    raw = [(b"Access-Control-Allow-Origin", b"*"), (b"Content-Length", b"5")]
    assert answer_lines(fields(raw), frozenset(), own_cors=True, chunked=True) == []
    assert len(answer_lines(fields(raw), frozenset(), own_cors=False, chunked=False)) == 2

"""The route table: which route wins, what is refused, and that it agrees with a naive search."""

import re
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BadRequest, GatewayError, MethodNotAllowed, NotFound
from gateway.routing import Match, RouteTable, segments

GET = frozenset({"GET"})
POST = frozenset({"POST"})


def table(*paths, **options):
    """A table whose routes are named by their paths."""
    return RouteTable([(Match(path, None, **options), path) for path in paths])


@pytest.mark.parametrize(
    ("paths", "path", "winner"),
    [
        (["/a", "/{x}", "/{r...}"], "/a", "/a"),
        (["/a", "/{x}", "/{r...}"], "/b", "/{x}"),
        (["/a", "/{x}", "/{r...}"], "/a/b", "/{r...}"),
        (["/{r...}", "/{x}", "/a"], "/a", "/a"),
        (["/a/{r...}", "/{x}/b"], "/a/b", "/a/{r...}"),
        (["/a/{x}/c", "/a/b/d", "/{r...}"], "/a/b/c", "/a/{x}/c"),
        (["/a/b/{x}/d", "/a/{x}/c/e", "/a/{r...}"], "/a/b/c/e", "/a/{x}/c/e"),
        (["/a/b/{x}/d", "/a/{x}/c/e", "/a/{r...}"], "/a/b/c/f", "/a/{r...}"),
        (["/a/b/c", "/{x}/{y}/d"], "/a/b/d", "/{x}/{y}/d"),
        (["/a", "/a/"], "/a/", "/a/"),
        (["/"], "/", "/"),
        (["/{x}/"], "/b/", "/{x}/"),
        (["/{r...}"], "/a/", "/{r...}"),
        (["/{r...}"], "/a/b/c", "/{r...}"),
        (["/stock/v1/klines"], "/stock/v1/%6Blines", "/stock/v1/klines"),
        (["/行情"], "/%E8%A1%8C%E6%83%85", "/行情"),
        (["/{x}"], "/%ff", "/{x}"),
        (["/{x}"], "/%2561", "/{x}"),
        (["/a", "/{x}"], "/%2561", "/{x}"),
        (["/{x}"], "/a@b.example", "/{x}"),
        (["/{x}"], "/.well-known", "/{x}"),
        (["/{x}"], "/...", "/{x}"),
        (["/{x}"], "/a..b", "/{x}"),
        (["/{x}"], "/a%20b", "/{x}"),
        (["/{x}"], '/"<>^`{|}', "/{x}"),
        (["/{x}"], "/%7Bx%7D", "/{x}"),
    ],
)
def test_the_most_specific_path_wins(paths, path, winner):
    assert table(*paths).match("GET", "", path) == winner
    assert table(*reversed(paths)).match("GET", "", path) == winner


@pytest.mark.parametrize(
    ("paths", "path"),
    [
        (["/a"], "/b"),
        (["/a"], "/a/"),
        (["/a/"], "/a"),
        (["/a"], "/"),
        (["/a"], "/A"),
        (["/a/{x}"], "/a/"),
        (["/a/{x}"], "/a"),
        (["/a/{x}"], "/a/b/"),
        (["/a/{x}"], "/a/b/c"),
        (["/a/{r...}"], "/a/"),
        (["/a/{r...}"], "/a"),
        (["/{r...}"], "/"),
        (["/a"], "/%2561"),
        (["/b/{x}/c"], "/b/c"),
    ],
)
def test_a_path_that_no_route_matches_is_not_found(paths, path):
    with pytest.raises(NotFound):
        table(*paths).match("GET", "", path)
    with pytest.raises(NotFound):
        table(*paths).match_path("", path)


AMBIGUOUS = [
    "/a//b",
    "//a/b",
    "/a/b//",
    "//",
    "/a/b;c",
    "/a;/b",
    "/a/./b",
    "/a/../b",
    "/a/..",
    "/a/.",
    "/..",
    "/a/%2e%2E/b",
    "/a/%2e",
    "/a/.%2e/b",
    "/a/x%2Fb",
    "/a/x%2fb",
    "/a/x%5Cb",
    "/a/x%5cb",
    "/a/x\\b",
    "/a/x%00",
    "/a/%",
    "/a/%4",
    "/a/%zz",
    "/a/%u0041",
    "/a/b#c",
]


@pytest.mark.parametrize("path", AMBIGUOUS)
def test_an_ambiguous_path_is_refused_whatever_the_routes(path):
    for known in (table("/{r...}", "/a/{r...}", "/"), table("/other"), table("/a/b")):
        for ask in (lambda: known.match("GET", "h", path), lambda: known.match_path("h", path)):  # noqa: B023  # called at once
            with pytest.raises(BadRequest) as raised:
                ask()
            assert raised.value.reason == "ambiguous_path"


@pytest.mark.parametrize("path", [path for path in AMBIGUOUS if path.startswith("/a/")])
def test_a_loose_route_takes_ambiguous_paths(path):
    loose = RouteTable(
        [(Match("/a/{r...}", GET, loose_path=True), "loose"), (Match("/{r...}", None), "strict")]
    )
    assert loose.match("GET", "", path) == "loose"
    assert loose.match_path("", path) == ("loose",)
    with pytest.raises(MethodNotAllowed):
        loose.match("POST", "", path)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/a/strict//"), ("GET", "/b//"), ("POST", "/c//"), ("GET", "/..")],
)
def test_a_loose_route_does_not_open_others_to_ambiguous_paths(method, path):
    known = RouteTable(
        [
            (Match("/a/{r...}", None, loose_path=True), "loose"),
            (Match("/a/strict/{r...}", None), "strict"),
            (Match("/b/{r...}", None), "strict"),
            (Match("/c/{r...}", GET, loose_path=True), "loose"),
            (Match("/c/{r...}", POST), "strict"),
        ]
    )
    with pytest.raises(BadRequest):
        known.match(method, "", path)


def test_all_routes_of_a_pattern_are_told_for_an_ambiguous_path_only_if_all_are_loose():
    mixed = RouteTable(
        [
            (Match("/a/{r...}", GET, loose_path=True), "loose"),
            (Match("/a/{r...}", POST), "strict"),
        ]
    )
    assert mixed.match_path("", "/a/b") == ("loose", "strict")
    assert mixed.match("GET", "", "/a//b") == "loose"
    with pytest.raises(BadRequest):
        mixed.match_path("", "/a//b")


def test_a_host_with_a_strict_route_is_not_left_for_a_loose_route_of_any_host():
    known = RouteTable(
        [
            (Match("/{r...}", None, host="a.example"), "strict"),
            (Match("/{r...}", None, loose_path=True), "loose"),
        ]
    )
    assert known.match("GET", "b.example", "/x//y") == "loose"
    with pytest.raises(BadRequest):
        known.match("GET", "a.example", "/x//y")


def test_an_encoded_slash_stays_inside_its_segment():
    known = RouteTable(
        [
            (Match("/files/{name}", None, loose_path=True), "one"),
            (Match("/files/a/b", None), "two"),
        ]
    )
    assert known.match("GET", "", "/files/a%2Fb") == "one"
    assert known.match("GET", "", "/files/a/b") == "two"


@pytest.mark.parametrize(
    "path", ["", "*", "a", "http://h/a", "/\x00", "/a b", "/a\tb", "/a\x7f", "/é", "/\udce9", "?a"]
)
def test_what_is_no_path_is_refused_even_by_loose_routes(path):
    with pytest.raises(BadRequest) as raised:
        table("/{r...}", "/", loose_path=True).match("GET", "", path)
    assert raised.value.reason == "bad_path"


def test_the_path_decides_before_the_method():
    known = RouteTable(
        [
            (Match("/a", frozenset({"PUT", "GET"})), "read"),
            (Match("/a", POST), "write"),
            (Match("/{r...}", None), "rest"),
        ]
    )
    assert known.match("GET", "", "/a") == "read"
    assert known.match("POST", "", "/a") == "write"
    with pytest.raises(MethodNotAllowed) as raised:
        known.match("DELETE", "", "/a")
    assert raised.value.headers == (("Allow", "GET, HEAD, POST, PUT"),)
    assert known.match_path("", "/a") == ("read", "write")


def test_get_includes_head_and_head_alone_does_not_include_get():
    known = RouteTable([(Match("/a", GET), "a"), (Match("/b", frozenset({"HEAD"})), "b")])
    assert known.match("HEAD", "", "/a") == "a"
    assert known.match("HEAD", "", "/b") == "b"
    with pytest.raises(MethodNotAllowed):
        known.match("GET", "", "/b")


def test_methods_are_compared_as_they_are():
    with pytest.raises(MethodNotAllowed):
        RouteTable([(Match("/a", GET), "a")]).match("get", "", "/a")


@pytest.mark.parametrize(
    ("host", "winner"),
    [
        ("api.example.com", "own"),
        ("API.Example.com", "own"),
        ("api.example.com:8080", "own"),
        ("api.example.com.", "own"),
        ("api.example.com.:80", "own"),
        ("www.example.com", "any"),
        ("api.example.com.evil.example", "any"),
        ("[::1]:8080", "any"),
        ("", "any"),
    ],
)
def test_a_route_that_names_the_host_goes_first(host, winner):
    known = RouteTable(
        [(Match("/a", None), "any"), (Match("/{r...}", None, host="Api.example.com"), "own")]
    )
    assert known.match("GET", host, "/a") == winner


def test_a_host_without_a_route_for_the_path_leaves_it_to_the_others():
    known = RouteTable([(Match("/a", None), "any"), (Match("/b", None, host="h"), "own")])
    assert known.match("GET", "h", "/a") == "any"
    with pytest.raises(NotFound):
        known.match("GET", "other", "/b")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Match("/a", GET), Match("/a", GET)),
        (Match("/a", GET), Match("/a", None)),
        (Match("/a", GET), Match("/a", frozenset({"HEAD"}))),
        (Match("/a/{x}", GET), Match("/a/{y}", GET)),
        (Match("/{x...}", None), Match("/{y...}", None)),
        (Match("/a", GET, host="H"), Match("/a", GET, host="h")),
    ],
)
def test_two_routes_may_not_claim_the_same_requests(one, other):
    with pytest.raises(ValueError, match="claim the same requests"):
        RouteTable([(one, 1), (other, 2)])


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("a", "must begin with '/'"),
        ("", "must begin with '/'"),
        ("/a//b", "empty segment"),
        ("/{a...}/b", "must end after"),
        ("/{a...}/", "must end after"),
        ("/{a}/{a}", "twice"),
        ("/x{a}", "one whole segment"),
        ("/{}", "one whole segment"),
        ("/{a..}", "one whole segment"),
        ("/{a b}", "one whole segment"),
        ("/*", None),
        ("/a/../b", "segment '..'"),
        ("/a%20b", "decoded"),
        ("/a?b", "decoded"),
        ("/a;b", "decoded"),
    ],
)
def test_a_path_of_a_route_must_have_the_form(path, complaint):
    if complaint is None:
        assert segments(path) == ("*",)
        return
    with pytest.raises(ValueError, match=re.escape(complaint)):
        segments(path)


# Against a naive search, over small alphabets so that routes meet each other.

LITERALS = ["a", "b", "ab"]
METHODS = ["GET", "POST", "HEAD"]

route_paths = st.builds(
    lambda parts, last: "/" + "/".join([*parts, last]),
    st.lists(st.sampled_from([*LITERALS, "{}"]), max_size=4),
    st.sampled_from([*LITERALS, "{}", "{...}", ""]),
).map(lambda path: "/".join(_named(part, index) for index, part in enumerate(path.split("/"))))
matches = st.builds(
    Match,
    route_paths,
    st.none() | st.frozensets(st.sampled_from(METHODS), min_size=1),
    st.none() | st.sampled_from(["one.example", "two.example"]),
)
request_paths = st.lists(st.sampled_from([*LITERALS, "c"]), min_size=1, max_size=6).flatmap(
    lambda parts: st.sampled_from(["/" + "/".join(parts), "/" + "/".join(parts) + "/", "/"])
)


def _named(part, index):
    return part.replace("{", "{p" + str(index)) if part.startswith("{") else part


def _regex(path):
    parts = []
    for part in path.split("/"):
        if part.startswith("{"):
            parts.append(".+" if part.endswith("...}") else "[^/]+")
        else:
            parts.append(re.escape(part))
    return "/".join(parts)


def _specificity(path):
    return [
        2 if part.endswith("...}") else 1 if part.startswith("{") else 0 for part in path.split("/")
    ]


def _served(match):
    if match.methods is None:
        return set(METHODS)
    return set(match.methods) | ({"HEAD"} if "GET" in match.methods else set())


def search(entries, method, host, path):
    """The route, or the status of the refusal; each rule as the design has it, and no other."""
    for wanted in (host, None):
        fitting = [
            (match, route)
            for match, route in entries
            if match.host == wanted and re.fullmatch(_regex(match.path), path)
        ]
        if fitting:
            best = min(_specificity(match.path) for match, _ in fitting)
            fitting = [(m, route) for m, route in fitting if _specificity(m.path) == best]
            for match, route in fitting:
                if method in _served(match):
                    return route
            allowed = set().union(*(_served(match) for match, _ in fitting))
            return 405, ", ".join(sorted(allowed))
    return 404, None


def look(known, method, host, path):
    try:
        return known.match(method, host, path)
    except GatewayError as error:
        return error.status, dict(error.headers).get("Allow")


@settings(max_examples=400, deadline=None)
@given(st.lists(matches, max_size=12), st.data())
def test_it_finds_what_a_search_through_all_routes_finds(wanted, data):
    entries = []
    for index, match in enumerate(wanted):
        shape = (match.host, re.sub(r"\{p\d+", "{", match.path))
        if not any(
            shape == (other.host, re.sub(r"\{p\d+", "{", other.path))
            and _served(match) & _served(other)
            for other, _ in entries
        ):
            entries.append((match, index))
    known = RouteTable(entries)
    for _ in range(8):
        method = data.draw(st.sampled_from(METHODS))
        host = data.draw(st.sampled_from(["one.example", "two.example", "three.example"]))
        path = data.draw(request_paths)
        expected = search(entries, method, host, path)
        assert look(known, method, host, path) == expected
        encoded = "/".join(
            "".join(f"%{ord(c):02x}" for c in part) if data.draw(st.booleans()) else part
            for part in path.split("/")
        )
        assert look(known, method, host, encoded) == expected


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(max_codepoint=0x17F), max_size=20))
def test_any_text_as_a_path_is_a_route_or_a_refusal(text):
    known = table("/{r...}", "/")
    for path in (text, f"/{text}", f"/{quote(text, safe='/')}"):
        with suppress(BadRequest, NotFound):
            known.match("GET", "h", path)


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("a.%2fFeE5cC0/;\\~"), max_size=12))
def test_a_path_that_is_taken_means_the_same_decoded_and_normalized(text):
    """What passes has no dot segment, empty segment or second slash, however it is read."""
    try:
        table("/{r...}").match("GET", "", f"/{text}")
    except (BadRequest, NotFound):
        return
    parts = [re.sub(r"%([0-9a-fA-F]{2})", lambda m: chr(int(m[1], 16)), p) for p in text.split("/")]
    assert not {".", ".."} & set(parts)
    assert "" not in parts[:-1]
    assert not any(set(part) & set("/\\\0;") for part in parts)
